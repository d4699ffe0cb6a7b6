/* SPDX-License-Identifier: Apache-2.0 */
/* Starting and reaping one child.
 *
 *            child_start                 child_reap
 *   stopped -------------> running ------------------> stopped (restart_ns tells until when)
 *
 * I1. A child dies with its parent. PR_SET_PDEATHSIG asks the kernel for that; the parent may have
 *     died between fork and prctl, so the child looks once more before it runs anything.
 * I2. A child has a process group of its own: Ctrl-C on a terminal reaches only the parent, which
 *     stops its children in order.
 * I3. Signals that the parent waits for are blocked in it; the child begins with none blocked. */
#include "client/cli/child.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NS_PER_MS       1000000ull
#define BACKOFF_MS      200
#define BACKOFF_MAX_MS  5000
#define STEADY_MS       10000 /* a run this long was no failure to start */
#define EXIT_NO_PROGRAM 127
#define SIGNAL_BASE     128
#define OUTCOME_BYTES   64

/* In the new process: only async-signal-safe calls, and no return. */
__attribute__((noreturn)) static void become(const struct child *child, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) /* I1 */
        _exit(EXIT_NO_PROGRAM);
    setpgid(0, 0); /* I2 */
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL); /* I3 */
    int null = open("/dev/null", O_RDONLY);
    if (null > STDIN_FILENO) {
        dup2(null, STDIN_FILENO);
        close(null);
    }
    if (child->keep_fd >= 0)
        fcntl(child->keep_fd, F_SETFD, 0);
    execv(child->argv[0], (char *const *)(uintptr_t)child->argv);
    static const char text[] = "millrace: cannot run its own program\n";
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    (void)written;
    _exit(EXIT_NO_PROGRAM);
}

enum status child_start(struct child *child)
{
    ASSERT(child->pid == 0);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(child, parent);
    if (pid < 0)
        return status_from_errno(errno);
    child->pid = pid;
    child->started_ns = clock_monotonic_ns();
    return STATUS_OK;
}

static uint64_t backoff_ns(unsigned failures)
{
    uint64_t ms = BACKOFF_MS;
    for (unsigned i = 1; i < failures && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    return (ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS) * NS_PER_MS;
}

bool child_reap(struct child *child)
{
    int how;
    if (child->pid == 0 || waitpid(child->pid, &how, WNOHANG) != child->pid)
        return false;
    uint64_t now_ns = clock_monotonic_ns();
    bool steady = now_ns - child->started_ns >= STEADY_MS * NS_PER_MS;
    child->pid = 0;
    child->exit_status = WIFSIGNALED(how) ? SIGNAL_BASE + WTERMSIG(how) : WEXITSTATUS(how);
    child->failures = steady ? 1 : child->failures + 1;
    child->restart_ns = now_ns + backoff_ns(child->failures);
    return true;
}

void child_signal(const struct child *child, int number)
{
    if (child->pid != 0)
        kill(child->pid, number);
}

void child_outcome(const struct child *child, char *text)
{
    if (child->exit_status > SIGNAL_BASE)
        snprintf(text, OUTCOME_BYTES, "was killed by signal %d", child->exit_status - SIGNAL_BASE);
    else
        snprintf(text, OUTCOME_BYTES, "exited with status %d", child->exit_status);
}
