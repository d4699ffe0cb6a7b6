/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of a test that may end the process, or that need a file system of their own: they run in a
 * child, whose exit code and stderr the test looks at. No cmocka in the child: CHECK. */
#ifndef TESTS_UNIT_LOG_CHILD_H
#define TESTS_UNIT_LOG_CHILD_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_FAILED 99

/* CHECK: in a child, in place of an assertion of cmocka. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            _exit(CHILD_FAILED);                                                                   \
        }                                                                                          \
    } while (0)

struct child_end {
    int code; /* -1: by a signal */
    char text[4096];
};

static inline pid_t child_fork(void (*run)(void *data), void *data, int *err_fd)
{
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    pid_t pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        run(data);
        fflush(NULL);
        _exit(0);
    }
    close(ends[1]);
    *err_fd = ends[0];
    return pid;
}

static inline struct child_end child_wait(pid_t pid, int err_fd)
{
    struct child_end end = {0};
    size_t length = 0;
    ssize_t got;
    int status;
    char dropped[256];
    while ((got = read(err_fd, end.text + length, sizeof end.text - 1 - length)) > 0)
        length += (size_t)got;
    while (read(err_fd, dropped, sizeof dropped) > 0)
        continue;
    close(err_fd);
    if (waitpid(pid, &status, 0) != pid)
        abort();
    end.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return end;
}

static inline struct child_end child_run(void (*run)(void *data), void *data)
{
    int err_fd;
    pid_t pid = child_fork(run, data, &err_fd);
    return child_wait(pid, err_fd);
}

/* child_mount: in a child: a tmpfs of this size over `dir`, seen by nobody else; gone with the
 * child. False if this user may not. */
static inline bool child_mount(const char *dir, const char *size)
{
    char options[64];
    snprintf(options, sizeof options, "size=%s,mode=0700", size);
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", dir, "tmpfs", 0, options) == 0;
}

/* child_fill: a file that takes all the space that is left but `spare` bytes. */
static inline void child_fill(const char *path, size_t spare)
{
    static char zeros[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    off_t length = 0;
    CHECK(fd >= 0);
    for (ssize_t got; (got = write(fd, zeros, sizeof zeros)) > 0;)
        length += got;
    CHECK(errno == ENOSPC);
    CHECK(ftruncate(fd, length > (off_t)spare ? length - (off_t)spare : 0) == 0);
    close(fd);
}

static inline void child_mount_probe(void *data)
{
    _exit(child_mount(data, "1m") ? 0 : CHILD_FAILED);
}

/* child_may_mount: whether this user may mount at all; to be asked before a test that must. */
static inline bool child_may_mount(char *dir)
{
    return child_run(child_mount_probe, dir).code == 0;
}

#endif
