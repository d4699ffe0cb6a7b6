/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking below one folder, and nowhere else.
 *
 * walk.c hands over clean paths only, but this file does not lean on that: every part of a path is
 * opened from the folder before it, by openat() with O_NOFOLLOW, so that neither a name nor a link
 * that something else put there can lead outside. Files are made with O_EXCL: nothing that exists
 * is written to. Modes are set explicitly, because the umask is the process's business. */
#include "proto/package/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_MODE     0755
#define FILE_MODE       0644
#define EXECUTABLE_MODE 0755

struct unpack {
    int root;
    int file; /* being written, or -1 */
};

static enum status refuse_errno(const char **why, const char *what)
{
    enum status status = status_from_errno(errno);
    bool not_empty = errno == EEXIST || errno == ELOOP || errno == ENOTDIR;
    *why = not_empty ? "the folder was not empty" : what;
    return not_empty ? STATUS_EXISTS : status;
}

/* Open the folder `part` in `parent`, making it if it is not there; -1 and errno. */
static int folder_open(int parent, const char *part)
{
    bool made = mkdirat(parent, part, FOLDER_MODE) == 0;
    if (!made && errno != EEXIST)
        return -1;
    int fd = openat(parent, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && made && fchmod(fd, FOLDER_MODE) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* Open the folder that `path` is in, or for `whole` the folder `path` itself; *last is what is left
 * of the path. The caller closes the result; -1 and errno. */
static int descend(const struct unpack *u, const char *path, bool whole, const char **last)
{
    int at = openat(u->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (at >= 0) {
        size_t length = strcspn(path, "/");
        if (path[length] == 0 && !whole)
            break;
        char part[NAME_MAX + 1];
        if (length == 0 || length > NAME_MAX) {
            close(at);
            errno = EINVAL;
            return -1;
        }
        memcpy(part, path, length);
        part[length] = 0;
        int next = folder_open(at, part);
        int error = errno;
        close(at);
        errno = error;
        at = next;
        path += length;
        if (*path == 0)
            break;
        path++;
    }
    *last = path;
    return at;
}

static enum status on_folder(void *data, const char *path, const char **why)
{
    const char *last;
    int fd = descend(data, path, true, &last);
    if (fd < 0)
        return refuse_errno(why, "a folder cannot be made");
    close(fd);
    return STATUS_OK;
}

static enum status on_file_begin(void *data, const char *path, bool executable, const char **why)
{
    struct unpack *u = data;
    const char *last;
    int folder = descend(u, path, false, &last);
    if (folder < 0)
        return refuse_errno(why, "a folder cannot be made");
    mode_t mode = executable ? EXECUTABLE_MODE : FILE_MODE;
    u->file = openat(folder, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    enum status status = STATUS_OK;
    if (u->file < 0 || fchmod(u->file, mode) != 0)
        status = refuse_errno(why, "a file cannot be made");
    close(folder);
    return status;
}

static enum status on_file_data(void *data, struct slice bytes, const char **why)
{
    struct unpack *u = data;
    while (bytes.length > 0) {
        ssize_t put = write(u->file, bytes.data, bytes.length);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return refuse_errno(why, "a file cannot be written");
        bytes = slice_sub(bytes, (size_t)put);
    }
    return STATUS_OK;
}

static enum status on_file_end(void *data, const char **why)
{
    struct unpack *u = data;
    int rc = close(u->file);
    u->file = -1;
    return rc == 0 ? STATUS_OK : refuse_errno(why, "a file cannot be written");
}

static const struct walk_sink sink = {.folder = on_folder,
                                      .file_begin = on_file_begin,
                                      .file_data = on_file_data,
                                      .file_end = on_file_end};

enum status package_unpack(struct slice zip, const char *dir, const char **why)
{
    *why = NULL;
    struct unpack u = {.file = -1};
    u.root = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (u.root < 0) {
        *why = "the folder cannot be opened";
        return status_from_errno(errno);
    }
    struct package_facts facts;
    enum status status = zip_walk(zip, &sink, &u, &facts, why);
    if (u.file >= 0)
        close(u.file);
    close(u.root);
    return status;
}
