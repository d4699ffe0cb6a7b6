/* SPDX-License-Identifier: Apache-2.0 */
/* A new cluster of one node from a backup.
 *
 *     DIR/shard-0.new   the files, copied and compared with the manifest's checksums; a term; the
 *                       entry that makes this node the only member
 *     DIR/node.json     of the old cluster, with data of its own
 *     DIR/shard-0       the folder renamed: that is the step
 *
 * What was made is removed when something goes wrong before that. */
#include "broker/identity.h"
#include "broker/log/log.h"
#include "broker/log/meta.h"
#include "broker/recovery/manifest.h"
#include "broker/recovery/recovery.h"
#include "broker/replication/alone.h"
#include "proto/base/assert.h"
#include "proto/base/crc32c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define NEW_NAME    "shard-0.new"
#define SHARD_NAME  "shard-0"
#define PIECE_BYTES (1u << 20)
#define LOCK_NAME   "LOCK"

struct restoring {
    const struct recovery_options *options;
    struct arena *arena;
    struct manifest manifest;
    struct node_lock lock;
    bool made_dir;
    uint8_t *piece; /* PIECE_BYTES */
    int from_fd;
    int to_fd; /* of the new shard's folder */
};

static int fail_errno(const char *dir, const char *name, int code)
{
    return recovery_fail(code, "%s/%s: %s", dir, name, strerror(errno));
}

/* ---- reading the backup ---- */

static int open_backup(struct restoring *r)
{
    const char *error;
    struct buffer text = {0};
    r->from_fd = open(r->options->from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->from_fd < 0)
        return recovery_fail(EX_NOINPUT, "%s: %s", r->options->from, strerror(errno));
    int code = disk_read_file(r->from_fd, MANIFEST_NAME, &text);
    if (code == ENOENT)
        return recovery_fail(EX_DATAERR,
                             "%s is no backup, or one that was not finished: it has no %s",
                             r->options->from, MANIFEST_NAME);
    if (code != 0)
        return recovery_fail(EX_NOINPUT, "%s/%s: %s", r->options->from, MANIFEST_NAME,
                             strerror(code));
    enum status status = manifest_decode(buffer_slice(&text), r->arena, &r->manifest, &error);
    buffer_free(&text);
    if (status == STATUS_OK)
        return EX_OK;
    return recovery_fail(EX_DATAERR, "%s/%s: %s", r->options->from, MANIFEST_NAME, error);
}

/* ---- the folder ---- */

static bool only_a_lock(const char *path)
{
    DIR *dir = opendir(path);
    bool empty = dir != NULL;
    for (struct dirent *at; empty && (at = readdir(dir)) != NULL;)
        empty = strcmp(at->d_name, ".") == 0 || strcmp(at->d_name, "..") == 0 ||
                strcmp(at->d_name, LOCK_NAME) == 0;
    if (dir != NULL)
        closedir(dir);
    return empty;
}

static int open_folder(struct restoring *r)
{
    const char *dir = r->options->data_dir;
    const char *error;
    r->made_dir = mkdir(dir, 0700) == 0;
    if (!r->made_dir && errno != EEXIST)
        return recovery_fail(EX_CANTCREAT, "%s: %s", dir, strerror(errno));
    if (!only_a_lock(dir))
        return recovery_fail(EX_CANTCREAT,
                             "%s is not empty: a backup is restored into a new directory", dir);
    if (node_lock_take(&r->lock, dir, 0, &error) != STATUS_OK)
        return recovery_fail(EX_CANTCREAT, "%s", error);
    const char *path = arena_printf(r->arena, "%s/" NEW_NAME, dir);
    if (mkdir(path, 0700) != 0)
        return fail_errno(dir, NEW_NAME, EX_CANTCREAT);
    r->to_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->to_fd < 0 || mkdirat(r->to_fd, "segments", 0700) != 0 ||
        mkdirat(r->to_fd, "snapshots", 0700) != 0)
        return fail_errno(dir, NEW_NAME, EX_CANTCREAT);
    return EX_OK;
}

static void remove_files(int parent_fd, const char *name)
{
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *at; dir != NULL && (at = readdir(dir)) != NULL;)
        unlinkat(fd, at->d_name, 0);
    if (dir != NULL)
        closedir(dir);
    unlinkat(parent_fd, name, AT_REMOVEDIR);
}

static void undo(struct restoring *r)
{
    const char *dir = r->options->data_dir;
    remove_files(r->to_fd, "segments");
    remove_files(r->to_fd, "snapshots");
    remove_files(AT_FDCWD, arena_printf(r->arena, "%s/" NEW_NAME, dir));
    unlink(arena_printf(r->arena, "%s/node.json", dir));
    unlink(arena_printf(r->arena, "%s/" LOCK_NAME, dir));
    if (r->made_dir)
        rmdir(dir);
}

/* ---- copying ---- */

static int copy_bytes(struct restoring *r, const struct manifest_file *file, int from, int to)
{
    uint8_t *piece = r->piece;
    uint64_t at = 0;
    uint32_t crc = 0;
    size_t got = 0;
    do {
        int code = disk_read(from, piece, PIECE_BYTES, at, false, &got);
        if (code != 0)
            return recovery_fail(EX_IOERR, "%s/%s: %s", r->options->from, file->name,
                                 strerror(code));
        code = disk_write_bytes(&log_disk_real, to, slice_make(piece, got), at);
        if (code != 0)
            return recovery_fail(EX_IOERR, "%s/%s: %s", r->options->data_dir, file->name,
                                 strerror(code));
        crc = crc32c(crc, slice_make(piece, got));
        at += got;
    } while (got == PIECE_BYTES);
    if (at != file->bytes || crc != file->crc)
        return recovery_fail(EX_DATAERR,
                             "%s/%s is damaged: it does not match the manifest. Nothing was "
                             "restored; use another copy of the backup",
                             r->options->from, file->name);
    return disk_sync_whole(&log_disk_real, to) == 0
               ? EX_OK
               : fail_errno(r->options->data_dir, file->name, EX_IOERR);
}

static int copy_file(struct restoring *r, const struct manifest_file *file)
{
    int from = openat(r->from_fd, file->name, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return fail_errno(r->options->from, file->name, EX_DATAERR);
    int to = openat(r->to_fd, file->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int code = to >= 0 ? copy_bytes(r, file, from, to)
                       : fail_errno(r->options->data_dir, file->name, EX_CANTCREAT);
    close(from);
    if (to >= 0)
        close(to);
    return code;
}

static int copy_files(struct restoring *r)
{
    int code = EX_OK;
    for (size_t i = 0; i < r->manifest.file_count && code == EX_OK; i++)
        code = copy_file(r, &r->manifest.files[i]);
    return code;
}

/* ---- making it a node of its own ---- */

static int make_node(struct restoring *r)
{
    const struct recovery_options *options = r->options;
    const char *error = NULL;
    struct alone_report report;
    const char *dir = arena_printf(r->arena, "%s/" NEW_NAME, options->data_dir);
    struct log_meta meta = {.node_id = options->node_id, .term = r->manifest.term};
    if (meta_store(&log_disk_real, r->to_fd, &meta) != 0)
        return recovery_fail(EX_IOERR, "%s/meta-1 could not be written", dir);
    enum status status = alone_look(dir, options->node_id, &report, &error);
    if (status == STATUS_OK && report.last_index != r->manifest.index) {
        error = arena_printf(r->arena,
                             "the files end with entry %" PRIu64 ", not with %" PRIu64
                             " as the manifest says",
                             report.last_index, r->manifest.index);
        status = STATUS_CORRUPT;
    }
    if (status == STATUS_OK)
        status = alone_make(dir, options->node_id, options->peer, &error);
    if (status == STATUS_OK)
        return EX_OK;
    return recovery_fail(EX_DATAERR, "%s: %s", options->from,
                         error != NULL ? error : status_text(status));
}

static int publish(struct restoring *r)
{
    const char *dir = r->options->data_dir;
    const char *from = arena_printf(r->arena, "%s/" NEW_NAME, dir);
    const char *to = arena_printf(r->arena, "%s/" SHARD_NAME, dir);
    struct identity identity = {.node_id = r->options->node_id};
    uuid_random(identity.data_id);
    memcpy(identity.cluster_id, r->manifest.cluster_id, UUID_BYTES);
    if (identity_store(dir, &identity) != STATUS_OK)
        return recovery_fail(EX_IOERR, "%s/node.json could not be written", dir);
    int code = disk_sync_whole(&log_disk_real, r->to_fd);
    if (code == 0)
        code = disk_rename(&log_disk_real, AT_FDCWD, from, AT_FDCWD, to);
    if (code == 0)
        code = disk_sync_parent(&log_disk_real, to);
    return code == 0 ? EX_OK : recovery_fail(EX_IOERR, "%s: %s", to, strerror(code));
}

static int make_all(struct restoring *r)
{
    int code = copy_files(r);
    if (code == EX_OK)
        code = make_node(r);
    return code == EX_OK ? publish(r) : code;
}

int restore(const struct recovery_options *options, struct arena *arena)
{
    struct restoring r = {
        .options = options, .arena = arena, .lock = {-1}, .from_fd = -1, .to_fd = -1};
    if (options->node_id == 0 || options->peer == NULL)
        return recovery_fail(EX_USAGE, "--from needs --node-id and --peer");
    r.piece = arena_alloc(arena, PIECE_BYTES);
    int code = open_backup(&r);
    if (code == EX_OK)
        code = open_folder(&r);
    if (code == EX_OK)
        code = make_all(&r);
    if (code != EX_OK && r.to_fd >= 0)
        undo(&r);
    else if (code != EX_OK && r.made_dir)
        rmdir(options->data_dir);
    node_lock_drop(&r.lock);
    if (r.from_fd >= 0)
        close(r.from_fd);
    if (r.to_fd >= 0)
        close(r.to_fd);
    if (code == EX_OK)
        printf("%s holds a cluster of node %" PRIu64 " alone, with everything up to entry %" PRIu64
               " of the backup.\nStart it: millrace-broker --node-id %" PRIu64
               " --data-dir %s --peer %s ...\n",
               options->data_dir, options->node_id, r.manifest.index, options->node_id,
               options->data_dir, options->peer);
    return code;
}
