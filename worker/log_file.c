/* SPDX-License-Identifier: Apache-2.0 */
/* Log files that a slow disk cannot turn into a slow worker: bytes gather in memory, and one pool
 * task a file writes what has gathered. What gathers is bounded; beyond that it is dropped, because
 * output must never hold up the function that made it or the loop.
 *
 * Rotation happens in the same task, so that no two writes of one file ever race: when the file has
 * LOG_FILE_BYTES_MAX it is renamed to .1, over the older one. A write error is traced once a file.
 */
#include "worker/log_file.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct log_file {
    struct log_files *files;
    struct log_file *next;
    char *path;
    unsigned references;
    struct buffer pending; /* the loop's */
    struct buffer writing; /* the pool's, while `busy` */
    bool busy;
    bool dropped;
    bool failed;
    enum status result;
    uv_work_t work;
};

struct log_files {
    uv_loop_t *loop;
    char *dir;
    struct log_file *first;
    void (*closed)(void *data);
    void *data;
};

struct log_files *log_files_open(uv_loop_t *loop, const char *dir)
{
    struct log_files *files = calloc(1, sizeof *files);
    ASSERT(files != NULL);
    files->loop = loop;
    files->dir = strdup(dir);
    ASSERT(files->dir != NULL);
    return files;
}

static void close_if_done(struct log_files *files)
{
    if (files->closed == NULL || files->first != NULL)
        return;
    void (*closed)(void *data) = files->closed;
    void *data = files->data;
    free(files->dir);
    free(files);
    closed(data);
}

static void free_if_done(struct log_file *file)
{
    if (file->references > 0 || file->busy)
        return;
    struct log_files *files = file->files;
    struct log_file **at = &files->first;
    while (*at != file)
        at = &(*at)->next;
    *at = file->next;
    buffer_free(&file->pending);
    buffer_free(&file->writing);
    free(file->path);
    free(file);
    close_if_done(files);
}

/* thread: pool */
static void write_pending(uv_work_t *work)
{
    struct log_file *file = work->data;
    struct slice rest = buffer_slice(&file->writing);
    struct stat st;
    file->result = STATUS_OK;
    if (stat(file->path, &st) == 0 && st.st_size >= (off_t)LOG_FILE_BYTES_MAX) {
        char *old = NULL;
        if (asprintf(&old, "%s.1", file->path) > 0)
            (void)!rename(file->path, old);
        free(old);
    }
    int fd = open(file->path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
    while (fd >= 0 && rest.length > 0) {
        ssize_t length = write(fd, rest.data, rest.length);
        if (length <= 0)
            break;
        rest = slice_sub(rest, (size_t)length);
    }
    if (fd < 0 || rest.length > 0)
        file->result = status_from_errno(errno);
    if (fd >= 0)
        close(fd);
}

static void start_writing(struct log_file *file);

static void on_written(uv_work_t *work, int status)
{
    struct log_file *file = work->data;
    (void)status;
    file->busy = false;
    buffer_clear(&file->writing);
    if (file->result != STATUS_OK && !file->failed)
        trace_warn("output", "log_file_failed", "path=\"%s\" error=\"%s\"", file->path,
                   status_text(file->result));
    file->failed = file->result != STATUS_OK;
    start_writing(file);
    free_if_done(file);
}

static void start_writing(struct log_file *file)
{
    if (file->busy || file->pending.length == 0)
        return;
    struct buffer swap = file->writing;
    file->writing = file->pending;
    file->pending = swap;
    file->dropped = false;
    file->busy = true;
    file->work.data = file;
    int error = uv_queue_work(file->files->loop, &file->work, write_pending, on_written);
    ASSERT(error == 0);
}

struct log_file *log_file_get(struct log_files *files, const char *function)
{
    char *path = NULL;
    int length = asprintf(&path, "%s/%s.log", files->dir, function);
    ASSERT(length > 0);
    for (struct log_file *file = files->first; file != NULL; file = file->next)
        if (strcmp(file->path, path) == 0) {
            free(path);
            file->references++;
            return file;
        }
    struct log_file *file = calloc(1, sizeof *file);
    ASSERT(file != NULL);
    *file = (struct log_file){.files = files, .next = files->first, .path = path, .references = 1};
    files->first = file;
    return file;
}

void log_file_release(struct log_file *file)
{
    ASSERT(file->references > 0);
    file->references--;
    free_if_done(file);
}

void log_file_add(struct log_file *file, struct slice bytes)
{
    if (file->pending.length + bytes.length > LOG_PENDING_BYTES_MAX) {
        if (!file->dropped)
            buffer_add_text(&file->pending, "\n[output dropped: the disk does not keep up]\n");
        file->dropped = true;
        return;
    }
    buffer_add_slice(&file->pending, bytes);
    start_writing(file);
}

void log_files_close(struct log_files *files, void (*closed)(void *data), void *data)
{
    files->closed = closed;
    files->data = data;
    close_if_done(files);
}
