/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls and clocks that a node uses, by the linker's --wrap (CMakeLists.txt has the
 * list): while code of a node runs they are those of its simulated machine. Outside of nodes only
 * the reporting of this program itself needs any, and that goes through the C library. */
#include "tests/sim/cluster/world.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define WRAPPED(type, name, ...) type __wrap_##name(__VA_ARGS__);
WRAPPED(int, open, const char *path, int flags, ...)
WRAPPED(int, openat, int folder_fd, const char *path, int flags, ...)
WRAPPED(int, close, int fd)
WRAPPED(ssize_t, read, int fd, void *out, size_t length)
WRAPPED(ssize_t, pread, int fd, void *out, size_t length, off_t offset)
WRAPPED(ssize_t, preadv2, int fd, const struct iovec *parts, int count, off_t offset, int flags)
WRAPPED(ssize_t, write, int fd, const void *bytes, size_t length)
WRAPPED(ssize_t, pwritev, int fd, const struct iovec *parts, int count, off_t offset)
WRAPPED(int, fsync, int fd)
WRAPPED(int, fdatasync, int fd)
WRAPPED(int, ftruncate, int fd, off_t bytes)
WRAPPED(int, posix_fallocate, int fd, off_t offset, off_t bytes)
WRAPPED(int, renameat, int from_fd, const char *from, int to_fd, const char *to)
WRAPPED(int, unlinkat, int folder_fd, const char *name, int flags)
WRAPPED(int, mkdir, const char *path, mode_t mode)
WRAPPED(int, mkdirat, int folder_fd, const char *path, mode_t mode)
WRAPPED(int, fstat, int fd, struct stat *out)
WRAPPED(int, fstatvfs, int fd, struct statvfs *out)
WRAPPED(DIR *, fdopendir, int fd)
WRAPPED(struct dirent *, readdir, DIR *folder)
WRAPPED(int, closedir, DIR *folder)
WRAPPED(int, pipe2, int fds[2], int flags)
WRAPPED(pid_t, fork, void)
WRAPPED(uint64_t, clock_now_ms, void)
WRAPPED(uint64_t, clock_monotonic_ns, void)
WRAPPED(uint64_t, clock_steady_ms, void)
WRAPPED(void, clock_random, void *out, size_t length)
WRAPPED(bool, clock_boot_id, char out[BOOT_ID_BYTES])
__attribute__((noreturn)) void __wrap__exit(int code);
__attribute__((noreturn)) void __wrap_assert_failed(const char *file, int line, const char *text);
__attribute__((format(printf, 4, 5))) void __wrap_trace_event(enum trace_level level,
                                                              const char *area, const char *event,
                                                              const char *format, ...);

static struct vdisk *disk(void)
{
    ASSERT(current != NULL);
    return current->disk;
}

static int result(ssize_t value)
{
    if (value >= 0)
        return (int)value;
    errno = (int)-value;
    return -1;
}

/* ---- files ---- */

int __wrap_open(const char *path, int flags, ...)
{
    return result(vdisk_open(disk(), -1, path, flags));
}

int __wrap_openat(int folder_fd, const char *path, int flags, ...)
{
    return result(vdisk_open(disk(), folder_fd, path, flags));
}

int __wrap_close(int fd)
{
    return result(vdisk_close(disk(), fd));
}

/* Only what has a descriptor of the kernel would use these: a node here has none. */
ssize_t __wrap_read(int fd, void *out, size_t length)
{
    (void)fd;
    (void)out;
    (void)length;
    return result(-EBADF);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t length)
{
    (void)fd;
    (void)bytes;
    (void)length;
    return result(-EBADF);
}

ssize_t __wrap_pread(int fd, void *out, size_t length, off_t offset)
{
    struct iovec part = {out, length};
    return result(vdisk_read(disk(), fd, &part, 1, offset));
}

ssize_t __wrap_preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    if ((flags & RWF_NOWAIT) != 0 && chance_in(&current->chance, 3))
        return result(-EAGAIN); /* not in the page cache */
    return result(vdisk_read(disk(), fd, parts, count, offset));
}

ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return result(vdisk_write(disk(), fd, parts, count, offset));
}

int __wrap_fsync(int fd)
{
    return result(vdisk_sync(disk(), fd));
}

int __wrap_fdatasync(int fd)
{
    return result(vdisk_sync(disk(), fd));
}

int __wrap_ftruncate(int fd, off_t bytes)
{
    return result(vdisk_truncate(disk(), fd, bytes));
}

int __wrap_posix_fallocate(int fd, off_t offset, off_t bytes)
{
    return -vdisk_allocate(disk(), fd, offset, bytes);
}

int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return result(vdisk_rename(disk(), from_fd, from, to_fd, to));
}

int __wrap_unlinkat(int folder_fd, const char *name, int flags)
{
    return result(vdisk_unlink(disk(), folder_fd, name, flags == AT_REMOVEDIR));
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    (void)mode;
    return result(vdisk_make_folder(disk(), -1, path));
}

int __wrap_mkdirat(int folder_fd, const char *path, mode_t mode)
{
    (void)mode;
    return result(vdisk_make_folder(disk(), folder_fd, path));
}

int __wrap_fstat(int fd, struct stat *out)
{
    bool folder = false;
    ssize_t size = vdisk_size(disk(), fd, &folder);
    memset(out, 0, sizeof *out);
    out->st_size = size;
    out->st_mode = folder ? S_IFDIR : S_IFREG;
    return result(size < 0 ? size : 0);
}

int __wrap_fstatvfs(int fd, struct statvfs *out)
{
    uint64_t free_bytes;
    (void)fd;
    memset(out, 0, sizeof *out);
    int error = vdisk_space(disk(), &free_bytes);
    out->f_frsize = 1;
    out->f_bavail = free_bytes;
    return result(error);
}

struct listing {
    int fd;
    size_t next;
    struct dirent entry;
};

DIR *__wrap_fdopendir(int fd)
{
    struct listing *listing = calloc(1, sizeof *listing);
    ASSERT(listing != NULL);
    listing->fd = fd;
    return (DIR *)listing;
}

struct dirent *__wrap_readdir(DIR *folder)
{
    struct listing *listing = (struct listing *)folder;
    const char *name = vdisk_name(disk(), listing->fd, listing->next++);
    if (name == NULL)
        return NULL;
    snprintf(listing->entry.d_name, sizeof listing->entry.d_name, "%s", name);
    return &listing->entry;
}

int __wrap_closedir(DIR *folder)
{
    struct listing *listing = (struct listing *)folder;
    int rv = result(vdisk_close(disk(), listing->fd));
    free(listing);
    return rv;
}

/* ---- processes ---- */

int __wrap_pipe2(int fds[2], int flags)
{
    (void)fds;
    (void)flags;
    return result(-EMFILE);
}

/* Snapshots are made in place, then. */
pid_t __wrap_fork(void)
{
    return result(-EAGAIN);
}

void __wrap__exit(int code)
{
    sim_say("the node stops itself, code %d", code);
    sim_end_node(VDISK_END_KILL);
}

void __wrap_assert_failed(const char *file, int line, const char *text)
{
    sim_fail("node %u: assertion failed at %s:%d: %s", current != NULL ? current->number : 0, file,
             line, text);
}

/* ---- clocks ---- */

uint64_t __wrap_clock_now_ms(void)
{
    ASSERT(current != NULL);
    return node_wall_ms(current);
}

uint64_t __wrap_clock_monotonic_ns(void)
{
    ASSERT(current != NULL);
    return node_monotonic_ns(current);
}

uint64_t __wrap_clock_steady_ms(void)
{
    return __wrap_clock_monotonic_ns() / MS;
}

bool __wrap_clock_boot_id(char out[BOOT_ID_BYTES])
{
    ASSERT(current != NULL);
    memset(out, '-', BOOT_ID_BYTES);
    out[0] = (char)('0' + current->number);
    for (int i = 1; i <= 8; i++)
        out[i] = (char)('0' + (current->boot >> (4 * (8 - i)) & 15));
    return true;
}

void __wrap_clock_random(void *out, size_t length)
{
    uint8_t *at = out;
    struct chance *chance = current != NULL ? &current->chance : &world.chance;
    for (size_t i = 0; i < length; i++)
        at[i] = (uint8_t)chance_next(chance);
}

void __wrap_trace_event(enum trace_level level, const char *area, const char *event,
                        const char *format, ...)
{
    char text[1024];
    va_list args;
    if (!world.options.verbose || level == TRACE_DEBUG)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sim_say("%s %s %s", area, event, text);
}
