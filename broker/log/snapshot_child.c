/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a shard as of one entry, written while the shard goes on: fork() gives a child a
 * copy of the whole memory, page by page as the parent changes it. The parent pays for the copy of
 * the page tables (some milliseconds for a gigabyte) and for the pages that it writes to meanwhile.
 *
 * The parent has other threads, and the child has only this one: what they hold locked stays locked
 * for ever. So the child calls nothing but the system, the compressor and `make`; memory is taken
 * before the fork where it can be (glibc's malloc would work, those of the sanitizers may not).
 *
 * What the child has of its parent, and what becomes of it:
 *   - Sockets, the lock of the data directory, the loop: closed first. An open copy would keep
 *     connections half alive, and the directory locked after the parent's end.
 *   - Signal handlers, which would write to the loop's pipe: back to the default.
 *   - Its life: it is killed when its parent's thread ends, however that happens.
 *   - Priority and the eye of the memory killer: it works at low priority, and goes first when
 *     memory runs out, since it can be done again.
 * It opens no file by name: the temporary file is opened before the fork. A child that outlives its
 * parent for a moment thus writes to a file that the next process has removed, not to its own. And
 * it renames nothing: only the parent, told that all is on disk, gives the file its name. */
#include "broker/log/snapshot_child.h"

#include "proto/base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define NICE       5
#define FILE_FD    3 /* where the child keeps its two descriptors, besides stderr */
#define REPORT_FD  4
#define FIRST_FREE 5

/* ---- in the child ---- */

static void keep_two_files(int file, int report)
{
    file = fcntl(file, F_DUPFD, FIRST_FREE);
    report = fcntl(report, F_DUPFD, FIRST_FREE);
    if (file < 0 || report < 0 || dup2(file, FILE_FD) < 0 || dup2(report, REPORT_FD) < 0)
        _exit(EXIT_FAILURE);
    closefrom(FIRST_FREE);
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
}

static void default_signals(void)
{
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* those that cannot be set are what they were */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void step_back(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t ignored = write(fd, "1000", 4); /* no harm if it is not allowed */
        (void)ignored;
        close(fd);
    }
    setpriority(PRIO_PROCESS, 0, NICE);
}

static void be_a_child(pid_t parent, int file, int report)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(EXIT_FAILURE);
    keep_two_files(file, report);
    default_signals();
    step_back();
}

__attribute__((noreturn)) static void work(struct snapshot_sink *sink, snapshot_make_fn make,
                                           void *data)
{
    struct snapshot_report report = {0};
    sink->fd = FILE_FD;
    make(data, sink);
    report.error = snapshot_end(sink);
    report.raw_bytes = sink->raw_bytes;
    report.file_bytes = sink->at;
    bool told = write(REPORT_FD, &report, sizeof report) == (ssize_t)sizeof report;
    _exit(told ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* ---- in the parent ---- */

/* fork_quietly: no signal reaches the child before its handlers are the default ones. */
static pid_t fork_quietly(void)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    int error = errno;
    if (pid != 0)
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return pid;
}

static int start(struct snapshot_child *child, struct snapshot_sink *sink, const int pipe_fds[2],
                 snapshot_make_fn make, void *data)
{
    pid_t parent = getpid();
    child->pid = fork_quietly();
    if (child->pid < 0)
        return errno;
    if (child->pid == 0) {
        be_a_child(parent, sink->fd, pipe_fds[1]);
        work(sink, make, data);
    }
    child->fd = pipe_fds[0];
    return 0;
}

int snapshot_child_start(struct snapshot_child *child, const struct log_disk *disk, int dir_fd,
                         const struct log_snapshot *what, snapshot_make_fn make, void *data)
{
    struct snapshot_sink sink;
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return errno;
    int file = snapshot_create(dir_fd);
    int error = file >= 0 ? 0 : errno;
    if (error == 0) {
        snapshot_begin(&sink, disk, file, what);
        error = start(child, &sink, pipe_fds, make, data);
        buffer_free(&sink.scratch);
        close(file);
        if (error != 0)
            snapshot_discard(dir_fd);
    }
    close(pipe_fds[1]);
    if (error != 0)
        close(pipe_fds[0]);
    return error;
}
