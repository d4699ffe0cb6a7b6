/* SPDX-License-Identifier: Apache-2.0 */
/* From a fresh process to a running function.
 *
 *   worker --order--> launcher --clone--> supervisor --fork--> runtime --exec--> interpreter
 *
 * The supervisor is the init of the environment's process namespace: it reaps orphans, and when it
 * dies the kernel kills the whole namespace. It ends when the runtime ends, and dies with its
 * parent (PR_SET_PDEATHSIG), so that a killed worker leaves nothing behind.
 *
 * Without namespaces it is a child subreaper instead: whatever the function forks or orphans stays
 * among its descendants. It then ends the rest by hand: with an own uid, kill(-1) as that uid
 * cannot miss one; with a shared uid, descendants are stopped and killed round by round, which is
 * the best that a plain user can do.
 *
 * The runtime gives up everything on its way to exec, in an order that matters: groups and limits
 * need rights, the identity ends the rights, the filter comes last because it forbids some of the
 * calls before it. */
#include "worker/sandbox.h"

#include "proto/base/assert.h"
#include "worker/sandbox_root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES_MAX   1024u /* Lambda's quota for file descriptors */
#define KILL_ROUNDS 1000

struct supervisor {
    const struct sandbox_spec *spec;
    const struct sock_fprog *filter;
    uint32_t id;
    int output_fd, report_fd;
    int group_fds[2];
    pid_t self, runtime;
};

const char *sandbox_step_name(uint32_t step)
{
    static const char *const names[] = {"spec",   "mount",    "fork",   "group",
                                        "limits", "identity", "filter", "exec"};
    return step < ARRAY_COUNT(names) ? names[step] : "unknown";
}

static void report(const struct supervisor *s, uint32_t kind, int value, uint32_t step,
                   uint64_t extra)
{
    struct sandbox_report packet = {
        .kind = kind, .id = s->id, .value = value, .step = step, .extra = extra};
    /* If the worker is gone there is nobody to tell, and this process is about to end as well. */
    (void)!send(s->report_fd, &packet, sizeof packet, MSG_NOSIGNAL);
}

static _Noreturn void fail(const struct supervisor *s, uint32_t step, int error)
{
    report(s, SANDBOX_FAILED, error, step, 0);
    _exit(127);
}

/* ---- the runtime's side ---- */

static void set_limit(int resource, rlim_t value)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) == 0 && limit.rlim_max < value)
        value = limit.rlim_max;
    limit = (struct rlimit){value, value};
    /* Only ever lowered, which needs no right; a failure leaves the stricter old one. */
    (void)!setrlimit((__rlimit_resource_t)resource, &limit);
}

static void set_limits(const struct sandbox_spec *spec)
{
    set_limit(RLIMIT_CORE, 0);
    set_limit(RLIMIT_NOFILE, FILES_MAX);
    set_limit(RLIMIT_NPROC, spec->processes_max);
    set_limit(RLIMIT_MEMLOCK, 64u << 10);
    set_limit(RLIMIT_MSGQUEUE, 0);
    set_limit(RLIMIT_FSIZE, (rlim_t)spec->tmp_mb << 20);
}

static bool drop_identity(const struct sandbox_spec *spec)
{
    if (spec->own_uid) {
        for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
            (void)!prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* EINVAL past the kernel's last */
        if (setgroups(0, NULL) != 0 || setresgid(spec->uid, spec->uid, spec->uid) != 0 ||
            setresuid(spec->uid, spec->uid, spec->uid) != 0)
            return false;
    }
    cap_t none = cap_init();
    bool dropped = none != NULL && cap_set_proc(none) == 0;
    cap_free(none);
    return dropped && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int signal = 1; signal < NSIG; signal++)
        (void)!sigaction(signal, &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool load_filter(const struct sock_fprog *filter)
{
    return filter->len == 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, filter) == 0;
}

static _Noreturn void become_runtime(const struct supervisor *s)
{
    const struct sandbox_spec *spec = s->spec;
    setsid();
    for (unsigned i = 0; i < 2; i++)
        if (s->group_fds[i] >= 0 && write(s->group_fds[i], "0", 1) != 1)
            fail(s, SANDBOX_STEP_GROUP, errno);
    set_limits(spec);
    if (!drop_identity(spec))
        fail(s, SANDBOX_STEP_IDENTITY, errno);
    /* Cleared by the change of identity, so it is set after it; the parent may be gone by now. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != s->self)
        _exit(127);
    if (chdir(spec->namespaces ? SANDBOX_TASK : spec->task_dir) != 0)
        fail(s, SANDBOX_STEP_EXEC, errno);
    umask(022);
    reset_signals();
    if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) != 0)
        for (int fd = 3; fd < 4096; fd++)
            (void)!fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (!load_filter(s->filter))
        fail(s, SANDBOX_STEP_FILTER, errno);
    execve(spec->argv[0], (char *const *)spec->argv, (char *const *)spec->envp);
    fail(s, SANDBOX_STEP_EXEC, errno);
}

/* ---- the supervisor's side ---- */

/* kill_as_owner: kill(-1) reaches everything that the uid may signal, which is only its own. */
static void kill_as_owner(uint32_t uid)
{
    pid_t killer = fork();
    if (killer == 0) {
        if (setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0)
            kill(-1, SIGKILL);
        _exit(0);
    }
    if (killer > 0)
        waitpid(killer, NULL, 0);
}

static pid_t parent_of(const char *pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = '\0';
    int parent = 0;
    char *end = strrchr(text, ')'); /* the name before it may contain anything */
    return end != NULL && sscanf(end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

/* kill_descendants: one round. Each is stopped before its children are looked for, so that it
 * cannot fork them away meanwhile; orphans come to this process and are found in the next round. */
static void kill_descendants(pid_t of, unsigned depth)
{
    DIR *proc = depth < 64 ? opendir("/proc") : NULL;
    if (proc == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 0 || parent_of(entry->d_name) != of)
            continue;
        kill(pid, SIGSTOP);
        kill_descendants(pid, depth + 1);
        kill(pid, SIGKILL);
    }
    closedir(proc);
}

/* end_all: nothing that the function started survives this. */
static void end_all(const struct sandbox_spec *spec)
{
    for (int round = 0; round < KILL_ROUNDS; round++) {
        if (spec->own_uid)
            kill_as_owner(spec->uid);
        else
            kill_descendants(getpid(), 0);
        pid_t pid;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (pid < 0 && errno == ECHILD)
            return;
        usleep(1000);
    }
}

static void wait_for_runtime(const struct supervisor *s, const sigset_t *signals)
{
    for (;;) {
        struct rusage usage;
        int wstatus;
        pid_t pid = wait4(-1, &wstatus, WNOHANG, &usage);
        if (pid == s->runtime) {
            report(s, SANDBOX_EXITED, wstatus, 0, (uint64_t)usage.ru_maxrss << 10);
            return;
        }
        if (pid > 0)
            continue;
        if (sigwaitinfo(signals, NULL) == SIGTERM)
            return;
    }
}

static void open_groups(struct supervisor *s)
{
    for (unsigned i = 0; i < 2; i++) {
        char path[600];
        s->group_fds[i] = -1;
        if (s->spec->group_dirs[i][0] == '\0')
            continue;
        snprintf(path, sizeof path, "%s/cgroup.procs", s->spec->group_dirs[i]);
        s->group_fds[i] = open(path, O_WRONLY | O_CLOEXEC);
        if (s->group_fds[i] < 0)
            fail(s, SANDBOX_STEP_GROUP, errno);
    }
}

static void redirect(int output_fd)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null_fd, 0);
    dup2(output_fd, 1);
    dup2(output_fd, 2);
}

_Noreturn void sandbox_supervise(const struct sandbox_spec *spec, const struct sock_fprog *filter,
                                 uint32_t id, int output_fd, int report_fd)
{
    struct supervisor s = {.spec = spec,
                           .filter = filter,
                           .id = id,
                           .output_fd = output_fd,
                           .report_fd = report_fd,
                           .self = getpid()};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_SETMASK, &signals, NULL);
    /* A namespace's init may be killed outright. Without one the tree must be ended by hand first.
     */
    prctl(PR_SET_PDEATHSIG, spec->namespaces ? SIGKILL : SIGTERM);
    /* The parent may have died before that: then the worker's end of the socket is closed too. */
    struct pollfd peer = {.fd = report_fd};
    if (poll(&peer, 1, 0) > 0 && (peer.revents & POLLHUP) != 0)
        _exit(0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    open_groups(&s);
    int error = spec->namespaces ? sandbox_root_enter(spec) : 0;
    if (error != 0)
        fail(&s, SANDBOX_STEP_MOUNT, error);
    if (spec->namespaces)
        (void)!sethostname("millrace", 8);
    redirect(output_fd);
    s.runtime = fork();
    if (s.runtime == 0)
        become_runtime(&s);
    if (s.runtime < 0)
        fail(&s, SANDBOX_STEP_FORK, errno);
    report(&s, SANDBOX_STARTED, s.runtime, 0, 0);
    /* Keep no end of the output pipe, or its reader would wait for this process as well. */
    dup2(0, 1);
    dup2(0, 2);
    close(output_fd);
    wait_for_runtime(&s, &signals);
    if (!spec->namespaces)
        end_all(spec);
    _exit(0);
}
