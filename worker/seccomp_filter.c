/* SPDX-License-Identifier: Apache-2.0 */
/* The seccomp filter, built once and loaded by each environment just before exec.
 *
 * It is a deny-list, because the code that runs is anybody's: an allow-list would have to follow
 * every runtime's every release, and a function that dies of a new libc is a worse failure than one
 * that may call something harmless. What is denied is what widens the kernel's surface or reaches
 * out of the sandbox, along the lines of the container engines' default profiles:
 *
 * - clone with any CLONE_NEW* flag is refused; clone3 answers ENOSYS, since its flags live in
 * memory that a filter cannot read, and every libc falls back to clone.
 * - socket is for UNIX, INET, INET6 and NETLINK only. AF_VSOCK in particular is not kept apart by
 *   any namespace and would reach a hypervisor; packet and raw sockets need rights that are gone.
 * - foreign ABIs (x32, i386) are killed by libseccomp's default for a bad architecture.
 *
 * Denied calls answer EPERM instead of killing, so that a library that only probes goes on. */
#include "worker/seccomp_filter.h"

#include "proto/base/assert.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* By name, so that a call unknown to this libseccomp is skipped, not a build error. */
static const char *const denied[] = {
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "syslog",
    "umount",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
};

static bool deny_simple(scmp_filter_ctx filter)
{
    for (size_t i = 0; i < ARRAY_COUNT(denied); i++) {
        int call = seccomp_syscall_resolve_name(denied[i]);
        if (call == __NR_SCMP_ERROR)
            continue;
        /* A call that does not exist on this architecture cannot be made either. */
        int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0);
        if (rc < 0 && rc != -EDOM && rc != -EINVAL)
            return false;
    }
    return true;
}

static bool deny_namespaces(scmp_filter_ctx filter)
{
    static const uint64_t flags[] = {CLONE_NEWNS,  CLONE_NEWUTS, CLONE_NEWIPC,   CLONE_NEWUSER,
                                     CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP};
    for (size_t i = 0; i < ARRAY_COUNT(flags); i++)
        if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, flags[i], flags[i])) < 0)
            return false;
    int clone3 = seccomp_syscall_resolve_name("clone3");
    return clone3 == __NR_SCMP_ERROR ||
           seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), clone3, 0) >= 0;
}

static bool deny_sockets(scmp_filter_ctx filter)
{
    for (uint64_t family = 0; family < AF_NETLINK; family++) {
        if (family == AF_UNIX || family == AF_INET || family == AF_INET6)
            continue;
        if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, family, 0)) < 0)
            return false;
    }
    /* Typing into somebody's terminal is the classic way out of a container. */
    return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                            SCMP_A0(SCMP_CMP_GT, (uint64_t)AF_NETLINK, 0)) >= 0 &&
           seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                            SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, (uint64_t)TIOCSTI)) >= 0;
}

/* libseccomp gives the program through a file only. */
static enum status export_program(scmp_filter_ctx filter, struct sock_fprog *out)
{
    enum status status = STATUS_UNSUPPORTED;
    int fd = memfd_create("seccomp", MFD_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return status;
    if (seccomp_export_bpf(filter, fd) == 0 && fstat(fd, &st) == 0 && st.st_size > 0) {
        size_t bytes = (size_t)st.st_size;
        struct sock_filter *program = malloc(bytes);
        ASSERT(program != NULL);
        if (pread(fd, program, bytes, 0) == (ssize_t)bytes) {
            out->filter = program;
            out->len = (unsigned short)(bytes / sizeof *program);
            status = STATUS_OK;
        } else {
            free(program);
        }
    }
    close(fd);
    return status;
}

enum status seccomp_filter_build(struct sock_fprog *out)
{
    *out = (struct sock_fprog){0};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL)
        return STATUS_UNSUPPORTED;
    enum status status = STATUS_UNSUPPORTED;
    if (deny_simple(filter) && deny_namespaces(filter) && deny_sockets(filter))
        status = export_program(filter, out);
    seccomp_release(filter);
    return status;
}

void seccomp_filter_free(struct sock_fprog *filter)
{
    free(filter->filter);
    *filter = (struct sock_fprog){0};
}
