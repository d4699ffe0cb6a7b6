/* SPDX-License-Identifier: Apache-2.0 */
/* One process per data folder. flock, not a file with a process id in it: the kernel drops the lock
 * with the process, so a crash never leaves a lock behind. A restart may overlap the end of the
 * process before it (service managers do that), hence the short wait. The pid in the file is only
 * for the sentence that a second process prints. */
#include "broker/log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TRY_EVERY_MS 50u

static int try_for(int fd, uint32_t wait_ms)
{
    const struct timespec pause = {0, TRY_EVERY_MS * 1000000l};
    for (uint32_t waited = 0;; waited += TRY_EVERY_MS) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return errno;
        if (waited >= wait_ms)
            return EWOULDBLOCK;
        nanosleep(&pause, NULL);
    }
}

static enum status explain(int error, int fd, const char *path, const char **sentence)
{
    char pid[32] = "";
    if (error != EWOULDBLOCK) {
        *sentence = refusal("%s: %s", path, strerror(error));
        return status_from_errno(error);
    }
    ssize_t got = pread(fd, pid, sizeof pid - 1, 0);
    pid[got > 0 ? strcspn(pid, "\n") : 0] = '\0';
    *sentence =
        refusal("%s is held by another process%s%s: stop it first, or give this one another "
                "data directory",
                path, pid[0] != '\0' ? ", pid " : "", pid);
    return STATUS_LOCKED;
}

enum status node_lock_take(struct node_lock *lock, const char *dir, uint32_t wait_ms,
                           const char **error)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/LOCK", dir) >= (int)sizeof path) {
        *error = refusal("the data directory's path is too long");
        return STATUS_INVALID;
    }
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return explain(errno, -1, dir, error);
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock->fd < 0)
        return explain(errno, -1, path, error);
    int failed = try_for(lock->fd, wait_ms);
    if (failed != 0) {
        enum status status = explain(failed, lock->fd, path, error);
        close(lock->fd);
        lock->fd = -1;
        return status;
    }
    if (ftruncate(lock->fd, 0) == 0)
        dprintf(lock->fd, "%d\n", (int)getpid());
    return STATUS_OK;
}

void node_lock_drop(struct node_lock *lock)
{
    if (lock->fd >= 0)
        close(lock->fd);
    lock->fd = -1;
}
