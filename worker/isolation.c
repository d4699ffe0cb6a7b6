/* SPDX-License-Identifier: Apache-2.0 */
/* The isolation ladder: what each machine allows, tried for real instead of guessed from versions.
 *
 * - namespaces (root with CAP_SYS_ADMIN): own file tree, processes, IPC and host name; killing the
 *   namespace's init kills all of it, whatever it forked
 * - own uids (CAP_SETUID, CAP_SETGID): environments cannot signal, trace or read each other;
 *   RLIMIT_NPROC counts each alone
 * - cgroups (a writable hierarchy): hard memory and process limits, exact memory metering
 * - seccomp (any kernel): no reach for the rarely used parts of the kernel
 *
 * Own uids without namespaces, as in an ordinary container, find code by its path on the host: the
 * folders above it must let strangers pass. That is checked at start, because every cold start
 * would fail otherwise; running functions as root instead is out of the question.
 *
 * Always, even as a plain user: no_new_privs, no capabilities, resource limits, only descriptors
 * 0-2, and a supervisor that outlives nothing. As a plain user all functions share the worker's own
 * user, so that is for code one trusts; it is said at start and in Hello. The network is the host's
 * on every rung, because functions reach the endpoint on loopback. */
#include "worker/isolation.h"

#include "proto/base/trace.h"
#include "worker/seccomp_filter.h"

#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* in_child: does `attempt` succeed in a process of its own? */
static bool in_child(bool (*attempt)(uid_t uid, const char *path), uid_t uid, const char *path,
                     unsigned long clone_flags)
{
    /* Not fork: the namespaces must be new for the child itself, as they are for an environment. */
    long pid = syscall(SYS_clone, clone_flags | SIGCHLD, 0, 0, 0, 0);
    if (pid < 0)
        return false;
    if (pid == 0)
        _exit(attempt(uid, path) ? 0 : 1);
    int wstatus = 0;
    return waitpid((pid_t)pid, &wstatus, 0) == (pid_t)pid && WIFEXITED(wstatus) &&
           WEXITSTATUS(wstatus) == 0;
}

static bool can_mount(uid_t uid, const char *path)
{
    (void)uid;
    (void)path;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k") == 0 &&
           mkdir("/tmp/usr", 0755) == 0 && mkdir("/tmp/proc", 0755) == 0 &&
           mount("/usr", "/tmp/usr", NULL, MS_BIND, NULL) == 0 &&
           mount(NULL, "/tmp/usr", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV,
                 NULL) == 0 &&
           mount("proc", "/tmp/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0;
}

static bool can_change_uid(uid_t uid, const char *path)
{
    (void)path;
    return setgroups(0, NULL) == 0 && setresgid(uid, uid, uid) == 0 &&
           setresuid(uid, uid, uid) == 0;
}

/* The change of identity ends every right of root. */
static bool can_pass_to(uid_t uid, const char *path)
{
    return can_change_uid(uid, path) && access(path, F_OK) == 0;
}

/* Two workers on one machine must not share ids, and a process id is taken only once at a time.
 * A container with few ids mapped gets a range within the first 65536. */
static bool find_uids(struct isolation *isolation)
{
    uid_t pid = (uid_t)getpid();
    uid_t bases[] = {1000000 + pid * (2 * ENVIRONMENTS_MAX),
                     20000 + pid % 80 * (2 * ENVIRONMENTS_MAX)};
    for (unsigned i = 0; i < 2; i++)
        if (in_child(can_change_uid, bases[i] + ENVIRONMENTS_MAX - 1, NULL, 0)) {
            isolation->uid_base = bases[i];
            return true;
        }
    return false;
}

void isolation_describe(struct isolation *isolation)
{
    static const char *const kinds[] = {"none", "v1", "v2"};
    snprintf(isolation->text, sizeof isolation->text,
             "namespaces=%s uids=%s cgroups=%s seccomp=%s network=host",
             isolation->namespaces ? "yes" : "no", isolation->own_uids ? "own" : "shared",
             kinds[isolation->cgroups.kind], isolation->filter.len > 0 ? "yes" : "no");
}

void isolation_probe(struct isolation *out)
{
    *out = (struct isolation){0};
    unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
    out->own_uids = geteuid() == 0 && find_uids(out);
    /* Without an own uid a namespace's init and its function could kill each other's parent. */
    out->namespaces = out->own_uids && in_child(can_mount, 0, NULL, flags);
    cgroups_open(&out->cgroups);
    if (seccomp_filter_build(&out->filter) != STATUS_OK)
        trace_warn("isolation", "no_seccomp", "effect=\"every system call is allowed\"");
    isolation_describe(out);
    trace_info("isolation", "chosen", "%s", out->text);
    if (!out->own_uids)
        trace_warn("isolation", "shared_user",
                   "effect=\"functions run as the worker's own user: run trusted code only\"");
}

bool isolation_reaches(const struct isolation *isolation, const char *dir)
{
    return isolation->namespaces || !isolation->own_uids ||
           in_child(can_pass_to, isolation->uid_base, dir, 0);
}

void isolation_deinit(struct isolation *isolation)
{
    cgroups_close(&isolation->cgroups);
    seccomp_filter_free(&isolation->filter);
}
