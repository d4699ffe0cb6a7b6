/* SPDX-License-Identifier: Apache-2.0 */
/* A new cluster of one node from a backup.
 *
 *     DIR/shard-K.new   the files, copied and compared with the manifest's checksums; a term; an
 *                       entry that gives the cluster a new id, and one that makes this node the
 *                       only member
 *     DIR/node.json     of that cluster, with data of its own
 *     DIR/shard-K       the folders renamed, shard-0, without which nothing starts, last: that is
 *                       the step
 *
 * The old cluster may go on, or come back: with another id the two never talk.
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

#define PIECE_BYTES (1u << 20)
#define LOCK_NAME   "LOCK"

struct restoring {
    const struct recovery_options *options;
    struct arena *arena;
    struct manifest manifest;
    struct node_lock lock;
    bool made_dir;
    bool begun; /* there is something to undo */
    uint8_t cluster_id[UUID_BYTES];
    uint8_t *piece; /* PIECE_BYTES */
    int from_fd;
    const struct manifest_shard *shard; /* at work on */
    int to_fd;                          /* of its new folder */
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

static const char *new_folder(const struct restoring *r, const struct manifest_shard *shard)
{
    return arena_printf(r->arena, "%s/shard-%u.new", r->options->data_dir, shard->id);
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
    r->begun = true;
    return EX_OK;
}

static int open_shard_folder(struct restoring *r)
{
    const char *path = new_folder(r, r->shard);
    if (mkdir(path, 0700) != 0)
        return recovery_fail(EX_CANTCREAT, "%s: %s", path, strerror(errno));
    r->to_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->to_fd < 0 || mkdirat(r->to_fd, "segments", 0700) != 0 ||
        mkdirat(r->to_fd, "snapshots", 0700) != 0)
        return recovery_fail(EX_CANTCREAT, "%s: %s", path, strerror(errno));
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

static void remove_shard(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    remove_files(fd, "segments");
    remove_files(fd, "snapshots");
    close(fd);
    remove_files(AT_FDCWD, path);
}

static void undo(struct restoring *r)
{
    const char *dir = r->options->data_dir;
    for (size_t i = 0; i < r->manifest.shard_count; i++) {
        remove_shard(new_folder(r, &r->manifest.shards[i]));
        remove_shard(arena_printf(r->arena, "%s/shard-%zu", dir, i));
    }
    unlink(arena_printf(r->arena, "%s/node.json", dir));
    unlink(arena_printf(r->arena, "%s/" LOCK_NAME, dir));
    if (r->made_dir)
        rmdir(dir);
}

/* ---- copying ---- */

static int copy_bytes(struct restoring *r, const struct manifest_file *file, const char *name,
                      int from, int to)
{
    uint8_t *piece = r->piece;
    uint64_t at = 0;
    uint32_t crc = 0;
    size_t got = 0;
    do {
        int code = disk_read(from, piece, PIECE_BYTES, at, false, &got);
        if (code != 0)
            return recovery_fail(EX_IOERR, "%s/%s: %s", r->options->from, name, strerror(code));
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
                             r->options->from, name);
    return disk_sync_whole(&log_disk_real, to) == 0
               ? EX_OK
               : fail_errno(r->options->data_dir, file->name, EX_IOERR);
}

static int copy_file(struct restoring *r, const struct manifest_file *file)
{
    const char *name = arena_printf(r->arena, "%s%s", r->shard->folder, file->name);
    int from = openat(r->from_fd, name, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return fail_errno(r->options->from, name, EX_DATAERR);
    int to = openat(r->to_fd, file->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int code = to >= 0 ? copy_bytes(r, file, name, from, to)
                       : fail_errno(r->options->data_dir, file->name, EX_CANTCREAT);
    close(from);
    if (to >= 0)
        close(to);
    return code;
}

static int copy_files(struct restoring *r)
{
    int code = EX_OK;
    for (size_t i = 0; i < r->shard->file_count && code == EX_OK; i++)
        code = copy_file(r, &r->shard->files[i]);
    return code;
}

/* ---- making it a node of its own ---- */

static int make_node(struct restoring *r)
{
    const struct recovery_options *options = r->options;
    const char *error = NULL;
    struct alone_report report;
    const char *dir = new_folder(r, r->shard);
    struct log_meta meta = {
        .node_id = options->node_id, .shard_id = (uint16_t)r->shard->id, .term = r->shard->term};
    struct alone_place place = {.dir = dir,
                                .shard_id = (uint16_t)r->shard->id,
                                .node_id = options->node_id,
                                .cluster_id = r->cluster_id};
    if (meta_store(&log_disk_real, r->to_fd, &meta) != 0)
        return recovery_fail(EX_IOERR, "%s/meta-1 could not be written", dir);
    enum status status = alone_look(&place, &report, &error);
    if (status == STATUS_OK && report.last_index != r->shard->index) {
        error = arena_printf(r->arena,
                             "the files end with entry %" PRIu64 ", not with %" PRIu64
                             " as the manifest says",
                             report.last_index, r->shard->index);
        status = STATUS_CORRUPT;
    }
    if (status == STATUS_OK)
        status = alone_make(&place, options->peer, &error);
    if (status == STATUS_OK)
        return EX_OK;
    return recovery_fail(EX_DATAERR, "%s: %s", options->from,
                         error != NULL ? error : status_text(status));
}

/* Complete, under its name of passage. */
static int make_shard(struct restoring *r, const struct manifest_shard *shard)
{
    r->shard = shard;
    int code = open_shard_folder(r);
    if (code == EX_OK)
        code = copy_files(r);
    if (code == EX_OK)
        code = make_node(r);
    if (code == EX_OK && disk_sync_whole(&log_disk_real, r->to_fd) != 0)
        code = fail_errno(r->options->data_dir, shard->folder, EX_IOERR);
    if (r->to_fd >= 0)
        close(r->to_fd);
    r->to_fd = -1;
    return code;
}

static int publish_shard(struct restoring *r, const struct manifest_shard *shard)
{
    const char *to = arena_printf(r->arena, "%s/shard-%u", r->options->data_dir, shard->id);
    int code = disk_rename(&log_disk_real, AT_FDCWD, new_folder(r, shard), AT_FDCWD, to);
    if (code == 0)
        code = disk_sync_parent(&log_disk_real, to);
    return code == 0 ? EX_OK : recovery_fail(EX_IOERR, "%s: %s", to, strerror(code));
}

static int publish(struct restoring *r)
{
    const char *dir = r->options->data_dir;
    struct identity identity = {.node_id = r->options->node_id,
                                .shards_begun = r->manifest.shard_count > 1 ? UINT64_MAX : 0};
    int code = EX_OK;
    uuid_random(identity.data_id);
    memcpy(identity.cluster_id, r->cluster_id, UUID_BYTES);
    memcpy(identity.restored_from, r->manifest.cluster_id, UUID_BYTES);
    if (identity_store(dir, &identity) != STATUS_OK)
        return recovery_fail(EX_IOERR, "%s/node.json could not be written", dir);
    for (size_t i = r->manifest.shard_count; i > 0 && code == EX_OK; i--)
        code = publish_shard(r, &r->manifest.shards[i - 1]);
    return code;
}

static int make_all(struct restoring *r)
{
    int code = EX_OK;
    uuid_random(r->cluster_id);
    for (size_t i = 0; i < r->manifest.shard_count && code == EX_OK; i++)
        code = make_shard(r, &r->manifest.shards[i]);
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
    if (code != EX_OK && r.begun)
        undo(&r);
    else if (code != EX_OK && r.made_dir)
        rmdir(options->data_dir);
    node_lock_drop(&r.lock);
    if (r.from_fd >= 0)
        close(r.from_fd);
    if (code == EX_OK)
        printf("%s holds a cluster of node %" PRIu64 " alone, with all that is in the backup (%zu "
               "shards).\nStart it: millrace-broker --node-id %" PRIu64
               " --data-dir %s --peer %s ...\n",
               options->data_dir, options->node_id, r.manifest.shard_count, options->node_id,
               options->data_dir, options->peer);
    return code;
}
