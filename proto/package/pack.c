/* SPDX-License-Identifier: Apache-2.0 */
/* Packing a folder. The same files give the same bytes, on every machine: entries are sorted by
 * path, times are fixed, owners are nobody, modes are one of two. That lets the broker see that
 * code did not change.
 *
 * This runs for the person who owns the files, so the care here is for mistakes, not for attackers:
 * links that lead outside (a package must not depend on the machine it was made on, nor carry its
 * secrets away), links that lead in circles (they end at DEPTH_MAX), sockets and devices. */
#include "proto/base/arena.h"
#include "proto/base/assert.h"
#include "proto/package/walk.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX  64
#define READ_BYTES 65536

struct file {
    const char *path;  /* below the folder */
    const char *place; /* where to read it */
    uint64_t bytes;
    bool executable;
};

struct pack {
    struct arena arena;
    char root[PATH_MAX]; /* resolved */
    struct file *files;
    size_t file_count;
    size_t file_capacity;
    uint64_t bytes;
    struct buffer *zip;
    size_t zip_start; /* what the caller's buffer held before */
    bool zip_full;
    const char **why;
};

static enum status refuse(struct pack *p, enum status status, const char *why)
{
    *p->why = why;
    return status;
}

static enum status file_add(struct pack *p, const char *path, const char *place,
                            const struct stat *info)
{
    p->bytes += (uint64_t)info->st_size;
    if (p->bytes > PACKAGE_UNPACKED_BYTES_MAX)
        return refuse(p, STATUS_TOO_LARGE, "the files are larger than 250 MiB");
    if (p->file_count == PACKAGE_FILES_MAX)
        return refuse(p, STATUS_TOO_LARGE, "there are more than 100000 files");
    if (p->file_count == p->file_capacity) {
        p->file_capacity = p->file_capacity == 0 ? 64 : p->file_capacity * 2;
        p->files = realloc(p->files, p->file_capacity * sizeof *p->files);
        ASSERT(p->files != NULL);
    }
    p->files[p->file_count++] = (struct file){.path = path,
                                              .place = place,
                                              .bytes = (uint64_t)info->st_size,
                                              .executable = (info->st_mode & 0111) != 0};
    return STATUS_OK;
}

/* Where a link leads, if that is below the root. */
static enum status link_resolve(struct pack *p, const char **place)
{
    char resolved[PATH_MAX];
    if (realpath(*place, resolved) == NULL)
        return refuse(p, STATUS_INVALID, "a symbolic link leads nowhere");
    size_t length = strlen(p->root);
    bool inside = strncmp(resolved, p->root, length) == 0 &&
                  (resolved[length] == '/' || resolved[length] == 0 || length == 1);
    if (!inside)
        return refuse(p, STATUS_INVALID, "a symbolic link leads out of the folder");
    *place = arena_text(&p->arena, slice_of(resolved));
    return STATUS_OK;
}

static enum status collect(struct pack *p, const char *path, const char *place, unsigned depth);

/* One name in a folder. `path` is what it will be called in the zip. */
static enum status collect_one(struct pack *p, const char *path, const char *place, unsigned depth)
{
    struct stat info;
    if (lstat(place, &info) != 0)
        return refuse(p, status_from_errno(errno), "a file cannot be read");
    if (S_ISLNK(info.st_mode)) {
        enum status status = link_resolve(p, &place);
        if (status != STATUS_OK)
            return status;
        if (stat(place, &info) != 0)
            return refuse(p, status_from_errno(errno), "a file cannot be read");
    }
    if (S_ISREG(info.st_mode))
        return file_add(p, path, place, &info);
    if (!S_ISDIR(info.st_mode))
        return refuse(p, STATUS_INVALID, "there is something that is neither a file nor a folder");
    if (depth == DEPTH_MAX)
        return refuse(p, STATUS_INVALID, "the folders are nested too deeply");
    return collect(p, path, place, depth + 1);
}

static enum status collect(struct pack *p, const char *path, const char *place, unsigned depth)
{
    DIR *folder = opendir(place);
    if (folder == NULL)
        return refuse(p, status_from_errno(errno), "a folder cannot be read");
    enum status status = STATUS_OK;
    const struct dirent *entry;
    while (status == STATUS_OK && (entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        const char *separator = path[0] != 0 ? "/" : "";
        status = collect_one(p, arena_printf(&p->arena, "%s%s%s", path, separator, entry->d_name),
                             arena_printf(&p->arena, "%s/%s", place, entry->d_name), depth);
    }
    closedir(folder);
    return status;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

/* Writing. */

static enum status copy_bytes(struct pack *p, struct archive *archive, int fd, uint64_t bytes)
{
    char block[READ_BYTES];
    while (bytes > 0) {
        ssize_t got = read(fd, block, bytes < sizeof block ? (size_t)bytes : sizeof block);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return refuse(p, STATUS_IO_ERROR, "a file changed, or cannot be read");
        if (archive_write_data(archive, block, (size_t)got) != got)
            return refuse(p, STATUS_IO_ERROR, "the zip cannot be written");
        bytes -= (uint64_t)got;
    }
    return STATUS_OK;
}

static enum status write_file(struct pack *p, struct archive *archive, const struct file *file)
{
    int fd = open(file->place, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return refuse(p, status_from_errno(errno), "a file cannot be read");
    struct archive_entry *entry = archive_entry_new();
    ASSERT(entry != NULL);
    archive_entry_set_pathname(entry, file->path);
    archive_entry_set_size(entry, (int64_t)file->bytes);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, file->executable ? 0755 : 0644);
    archive_entry_set_mtime(entry, 0, 0); /* stored as 1980-01-01, the beginning of time for zips */
    enum status status = archive_write_header(archive, entry) == ARCHIVE_OK
                             ? copy_bytes(p, archive, fd, file->bytes)
                             : refuse(p, STATUS_INVALID, "a file's name cannot be stored in a zip");
    archive_entry_free(entry);
    close(fd);
    return status;
}

static la_ssize_t add_to_buffer(struct archive *archive, void *data, const void *bytes,
                                size_t length)
{
    (void)archive;
    struct pack *p = data;
    p->zip_full = p->zip->length - p->zip_start + length > PACKAGE_ZIPPED_BYTES_MAX;
    if (p->zip_full)
        return -1;
    buffer_add(p->zip, bytes, length);
    return (la_ssize_t)length;
}

static enum status write_all(struct pack *p)
{
    struct archive *archive = archive_write_new();
    ASSERT(archive != NULL);
    enum status status = STATUS_OK;
    if (archive_write_set_format_zip(archive) != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(archive, 0) != ARCHIVE_OK ||
        archive_write_open(archive, p, NULL, add_to_buffer, NULL) != ARCHIVE_OK)
        status = refuse(p, STATUS_IO_ERROR, "the zip cannot be written");
    for (size_t i = 0; status == STATUS_OK && i < p->file_count; i++)
        status = write_file(p, archive, &p->files[i]);
    bool closed = archive_write_close(archive) == ARCHIVE_OK;
    if (status == STATUS_OK && !closed)
        status = refuse(p, STATUS_IO_ERROR, "the zip cannot be written");
    archive_write_free(archive);
    return p->zip_full ? refuse(p, STATUS_TOO_LARGE, "the zip would be larger than 50 MiB")
                       : status;
}

enum status package_pack(const char *dir, struct buffer *zip, const char **why)
{
    struct utf8_scope scope = utf8_begin();
    struct pack p = {.why = why, .zip = zip, .zip_start = zip->length};
    *why = NULL;
    enum status status;
    if (realpath(dir, p.root) == NULL)
        status = refuse(&p, status_from_errno(errno), "the folder cannot be read");
    else
        status = collect(&p, "", p.root, 0);
    if (status == STATUS_OK && p.file_count == 0)
        status = refuse(&p, STATUS_INVALID, "the folder contains no files");
    if (status == STATUS_OK) {
        qsort(p.files, p.file_count, sizeof *p.files, by_path);
        status = write_all(&p);
    }
    if (status != STATUS_OK)
        zip->length = p.zip_start;
    free(p.files);
    arena_free(&p.arena);
    utf8_end(&scope);
    return status;
}
