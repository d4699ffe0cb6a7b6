/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories for the log. Only what must be testable to fail goes through the table:
 * writes, syncs and renames. A short write is continued; EINTR is retried; every other error is
 * returned and is for the caller to treat as final (the kernel may drop dirty pages after a failed
 * fsync, so trying again would report success for data that is gone). */
#include "broker/log/disk.h"

#include "proto/base/assert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (UINT64_C(8) << 30)

static ssize_t real_write(void *data, int fd, const struct iovec *parts, int count, off_t offset)
{
    (void)data;
    return pwritev(fd, parts, count, offset);
}

static int real_sync(void *data, int fd, bool whole)
{
    (void)data;
    return whole ? fsync(fd) : fdatasync(fd);
}

static int real_rename(void *data, int from_fd, const char *from, int to_fd, const char *to)
{
    (void)data;
    return renameat(from_fd, from, to_fd, to);
}

const struct log_disk log_disk_real = {NULL, real_write, real_sync, real_rename};

static int advance(struct iovec **parts, int *count, size_t written)
{
    while (*count > 0 && written >= (*parts)->iov_len) {
        written -= (*parts)->iov_len;
        (*parts)++;
        (*count)--;
    }
    if (*count > 0) {
        (*parts)->iov_base = (uint8_t *)(*parts)->iov_base + written;
        (*parts)->iov_len -= written;
    }
    return *count;
}

int disk_write(const struct log_disk *disk, int fd, struct iovec *parts, int count, uint64_t offset)
{
    while (count > 0) {
        ssize_t written = disk->write(disk->data, fd, parts, count, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? errno : EIO;
        offset += (uint64_t)written;
        if (advance(&parts, &count, (size_t)written) == 0)
            break;
    }
    return 0;
}

int disk_write_bytes(const struct log_disk *disk, int fd, struct slice bytes, uint64_t offset)
{
    struct iovec part = {(void *)(uintptr_t)bytes.data, bytes.length};
    return bytes.length == 0 ? 0 : disk_write(disk, fd, &part, 1, offset);
}

int disk_sync(const struct log_disk *disk, int fd)
{
    return disk->sync(disk->data, fd, false) == 0 ? 0 : errno;
}

int disk_sync_whole(const struct log_disk *disk, int fd)
{
    return disk->sync(disk->data, fd, true) == 0 ? 0 : errno;
}

int disk_rename(const struct log_disk *disk, int from_fd, const char *from, int to_fd,
                const char *to)
{
    return disk->rename(disk->data, from_fd, from, to_fd, to) == 0 ? 0 : errno;
}

int disk_sync_name(const struct log_disk *disk, int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : errno;
    int error = disk_sync_whole(disk, fd);
    close(fd);
    return error;
}

int disk_sync_parent(const struct log_disk *disk, const char *path)
{
    char parent[PATH_MAX];
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    if (length >= sizeof parent)
        return ENAMETOOLONG;
    memcpy(parent, length > 0 ? path : ".", length > 0 ? length : 1);
    parent[length > 0 ? length : 1] = '\0';
    return disk_sync_name(disk, AT_FDCWD, parent);
}

int disk_read(int fd, uint8_t *out, size_t length, uint64_t offset, bool nowait, size_t *got)
{
    *got = 0;
    while (*got < length) {
        struct iovec part = {out + *got, length - *got};
        ssize_t n = preadv2(fd, &part, 1, (off_t)(offset + *got), nowait ? RWF_NOWAIT : 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return 0;
}

int disk_read_file(int dir_fd, const char *name, struct buffer *out)
{
    struct stat info;
    size_t got = 0;
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = fstat(fd, &info) == 0 ? 0 : errno;
    if (error == 0 && (uint64_t)info.st_size > FILE_BYTES_MAX)
        error = EFBIG;
    if (error == 0) {
        size_t length = (size_t)info.st_size;
        error = disk_read(fd, buffer_reserve(out, length), length, 0, false, &got);
    }
    buffer_added(out, got);
    close(fd);
    return error;
}

int disk_make_dir(const struct log_disk *disk, int parent_fd, const char *name, int *out)
{
    bool made = mkdirat(parent_fd, name, 0700) == 0;
    if (!made && errno != EEXIST)
        return errno;
    *out = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out < 0)
        return errno;
    return made ? disk_sync_whole(disk, parent_fd) : 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void join_sorted(struct buffer *names, size_t count)
{
    if (count == 0)
        return;
    char **list = calloc(count, sizeof *list);
    struct buffer sorted = {0};
    ASSERT(list != NULL);
    const char *at = (const char *)names->data;
    for (size_t i = 0; i < count; i++, at += strlen(at) + 1)
        list[i] = (char *)(uintptr_t)at;
    qsort(list, count, sizeof *list, by_name);
    for (size_t i = 0; i < count; i++)
        buffer_add(&sorted, list[i], strlen(list[i]) + 1);
    free(list);
    buffer_free(names);
    *names = sorted;
}

int disk_names(int dir_fd, struct buffer *out, size_t *count)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return error;
    }
    *count = 0;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        buffer_add(out, entry->d_name, strlen(entry->d_name) + 1);
        (*count)++;
    }
    int error = errno;
    closedir(dir);
    join_sorted(out, *count);
    return error;
}

const char *refusal(const char *format, ...)
{
    static _Thread_local char sentence[640];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return sentence;
}
