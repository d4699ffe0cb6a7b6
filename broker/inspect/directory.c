/* SPDX-License-Identifier: Apache-2.0 */
/* A data directory: the lock and the folders of its shards. The lock is taken as a reader while we
 * look, so that no broker starts meanwhile; it is not made if it is missing, since nothing here
 * writes. */
#include "broker/inspect/internal.h"
#include "broker/log/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

static enum status refuse(const char *dir, int code, const char **error)
{
    *error = refusal("%s: %s", dir, strerror(code));
    return status_from_errno(code);
}

/* take_lock: *fd is -1 when there is no lock to take. */
static enum status take_lock(const struct inspect_options *options, int dir_fd, int *fd,
                             const char **error)
{
    char pid[32] = "";
    *fd = openat(dir_fd, "LOCK", O_RDONLY | O_CLOEXEC);
    if (*fd < 0 && errno == ENOENT)
        return STATUS_OK;
    if (*fd < 0 && !options->force)
        return refuse(options->dir, errno, error);
    if (*fd < 0 || flock(*fd, LOCK_SH | LOCK_NB) == 0 || options->force)
        return STATUS_OK;
    ssize_t got = pread(*fd, pid, sizeof pid - 1, 0);
    pid[got > 0 ? strcspn(pid, "\n") : 0] = '\0';
    *error =
        refusal("%s is held by a process%s%s. Stop it, or look at a copy; with --force what is "
                "read may be in the middle of a change",
                options->dir, pid[0] != '\0' ? ", pid " : "", pid);
    close(*fd);
    *fd = -1;
    return STATUS_LOCKED;
}

static bool is_shard(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool yes = fd >= 0 && faccessat(fd, "segments", F_OK, 0) == 0;
    if (fd >= 0)
        close(fd);
    return yes;
}

static void add_shard(const struct inspect_options *options, int dir_fd, const char *name,
                      json_t *report)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    json_t *problems = json_object_get(report, "problems");
    if (fd < 0)
        return;
    const char *title = strcmp(name, ".") == 0 ? "" : name;
    json_array_append_new(json_object_get(report, "shards"),
                          inspect_shard(fd, title, options, problems));
    close(fd);
}

static enum status look(const struct inspect_options *options, int dir_fd, json_t *report,
                        const char **error)
{
    struct buffer names = {0};
    size_t count;
    int code = disk_names(dir_fd, &names, &count);
    const char *name = (const char *)names.data;
    if (is_shard(dir_fd, ".")) {
        add_shard(options, dir_fd, ".", report);
    } else {
        for (size_t i = 0; code == 0 && i < count; i++, name += strlen(name) + 1) {
            if (is_shard(dir_fd, name))
                add_shard(options, dir_fd, name, report);
        }
    }
    buffer_free(&names);
    if (code != 0)
        return refuse(options->dir, code, error);
    if (json_array_size(json_object_get(report, "shards")) > 0)
        return STATUS_OK;
    *error =
        refusal("%s is no data directory: there is no folder with segments in it", options->dir);
    return STATUS_NOT_FOUND;
}

enum status inspect_directory(const struct inspect_options *options, json_t **report,
                              const char **error)
{
    int lock_fd;
    int dir_fd = open(options->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return refuse(options->dir, errno, error);
    enum status status = take_lock(options, dir_fd, &lock_fd, error);
    if (status == STATUS_OK) {
        *report = json_pack("{s:i, s:s, s:b, s:[], s:[]}", "format_version", 1, "directory",
                            options->dir, "verified", options->verify, "shards", "problems");
        status = look(options, dir_fd, *report, error);
        json_object_set_new(*report, "good", json_boolean(inspect_good(*report)));
        if (status != STATUS_OK)
            json_decref(*report);
        if (lock_fd >= 0)
            close(lock_fd);
    }
    close(dir_fd);
    return status;
}

bool inspect_good(const json_t *report)
{
    return json_array_size(json_object_get(report, "problems")) == 0;
}

/* number: digits only; 0 for anything else. */
static uint64_t number(const char *text, const char **end)
{
    char *stop;
    if (*text < '0' || *text > '9')
        return 0;
    errno = 0;
    uint64_t value = strtoull(text, &stop, 10);
    *end = stop;
    return errno == 0 ? value : 0;
}

bool inspect_range(const char *text, struct inspect_options *out)
{
    const char *end = text;
    out->from = out->to = number(text, &end);
    if (strncmp(end, "..", 2) == 0)
        out->to = number(end + 2, &end);
    return *end == '\0' && out->from > 0 && out->to >= out->from &&
           out->to - out->from < INSPECT_ENTRIES_MAX;
}
