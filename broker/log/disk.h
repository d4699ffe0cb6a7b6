/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls by which the log makes things durable, behind a table so that a test can make
 * the nth of them fail; and small helpers over files. Functions that return int give 0 or an errno.
 * thread: any. */
#ifndef BROKER_LOG_DISK_H
#define BROKER_LOG_DISK_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#include <sys/types.h>
#include <sys/uio.h>

struct log_disk {
    void *data;
    ssize_t (*write)(void *data, int fd, const struct iovec *parts, int count, off_t offset);
    int (*sync)(void *data, int fd, bool whole); /* whole: fsync, else fdatasync; -1 and errno */
    int (*rename)(void *data, int from_fd, const char *from, int to_fd, const char *to);
};

/* log_disk_real: the kernel's. */
extern const struct log_disk log_disk_real;

/* disk_write: all of `parts` at `offset`; changes `parts`. */
MUST_CHECK int disk_write(const struct log_disk *disk, int fd, struct iovec *parts, int count,
                          uint64_t offset);
MUST_CHECK int disk_write_bytes(const struct log_disk *disk, int fd, struct slice bytes,
                                uint64_t offset);
MUST_CHECK int disk_sync(const struct log_disk *disk, int fd);
MUST_CHECK int disk_sync_whole(const struct log_disk *disk, int fd);

/* disk_rename: `from` in one folder to `to` in another, or the same. */
MUST_CHECK int disk_rename(const struct log_disk *disk, int from_fd, const char *from, int to_fd,
                           const char *to);

/* disk_sync_name: the file or folder `name` in a folder; 0 also when it is not there.
 * disk_sync_parent: the folder that holds `path`. */
MUST_CHECK int disk_sync_name(const struct log_disk *disk, int dir_fd, const char *name);
MUST_CHECK int disk_sync_parent(const struct log_disk *disk, const char *path);

/* disk_read: up to `length` bytes from `offset`; *got is less at the end of the file. nowait:
 * EAGAIN if the bytes are not in memory. */
MUST_CHECK int disk_read(int fd, uint8_t *out, size_t length, uint64_t offset, bool nowait,
                         size_t *got);

/* disk_read_file: append the whole file `name` of `dir_fd`. */
MUST_CHECK int disk_read_file(int dir_fd, const char *name, struct buffer *out);

/* disk_make_dir: open DIR/name, made and made durable if it is missing; *out is its fd. */
MUST_CHECK int disk_make_dir(const struct log_disk *disk, int parent_fd, const char *name,
                             int *out);

/* disk_names: append the names in a directory to `out`, each with its NUL, sorted. */
MUST_CHECK int disk_names(int dir_fd, struct buffer *out, size_t *count);

/* refusal: format a sentence for the operator into this thread's storage; valid until the next. */
const char *refusal(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
