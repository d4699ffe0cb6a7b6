/* SPDX-License-Identifier: Apache-2.0 */
/* Which snapshots there are. Two are kept: should the newest turn out to be damaged, the one before
 * it serves as well, as long as the log reaches back to it (the owner calls log_prefix_done with no
 * more than log_snapshot_older for that reason). With neither, the node refuses to start: a state
 * that is rebuilt from half a log would be wrong without anyone noticing. */
#include "broker/log/internal.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

static void remember(struct log *log, uint64_t index)
{
    if (log->snapshot_count == SNAPSHOTS_READ_MAX) {
        memmove(log->snapshots, log->snapshots + 1,
                (SNAPSHOTS_READ_MAX - 1) * sizeof log->snapshots[0]);
        log->snapshot_count--;
    }
    log->snapshots[log->snapshot_count++] = index;
}

enum status snapshots_list(struct log *log, const char **error)
{
    struct buffer names = {0};
    size_t count = 0;
    int code = disk_names(log->snapshots_fd, &names, &count);
    const char *name = (const char *)names.data;
    for (size_t i = 0; i < count && code == 0; i++, name += strlen(name) + 1) {
        if (snapshot_name_parse(name) > 0)
            remember(log, snapshot_name_parse(name));
        else if (strcmp(name, "new.tmp") == 0)
            unlinkat(log->snapshots_fd, name, 0);
    }
    buffer_free(&names);
    if (code == 0)
        return STATUS_OK;
    *error = refusal("%s/snapshots: %s", log->dir, strerror(code));
    return status_from_errno(code);
}

uint64_t log_snapshot_index(const struct log *log)
{
    return log->snapshot_count > 0 ? log->snapshots[log->snapshot_count - 1] : 0;
}

uint64_t log_snapshot_older(const struct log *log)
{
    return log->snapshot_count > 1 ? log->snapshots[log->snapshot_count - 2] : 0;
}

/* ---- writing ---- */

static void run_put(uv_work_t *work)
{
    struct log_snapshot_put *put = CONTAINER_OF(work, struct log_snapshot_put, work);
    put->error = snapshot_write(put->log->disk, put->log->snapshots_fd, &put->snapshot, put->parts,
                                put->part_count);
}

static void drop_old(struct log *log)
{
    while (log->snapshot_count > SNAPSHOTS_KEPT) {
        char name[SNAPSHOT_NAME_BYTES];
        snapshot_name(log->snapshots[0], name);
        unlinkat(log->snapshots_fd, name, 0);
        log->snapshot_count--;
        memmove(log->snapshots, log->snapshots + 1, log->snapshot_count * sizeof log->snapshots[0]);
    }
}

static void after_put(uv_work_t *work, int status)
{
    struct log_snapshot_put *put = CONTAINER_OF(work, struct log_snapshot_put, work);
    struct log *log = put->log;
    (void)status; /* never cancelled */
    log->putting = false;
    if (put->error == 0) {
        if (log_snapshot_index(log) != put->snapshot.index)
            remember(log, put->snapshot.index);
        drop_old(log);
    }
    put->done(put, put->error == 0 ? STATUS_OK : status_from_errno(put->error));
    log_maybe_closed(log);
}

void log_snapshot_put(struct log *log, struct log_snapshot_put *put)
{
    ASSERT(!log->putting);
    ASSERT(put->snapshot.index >= log_snapshot_index(log));
    put->log = log;
    log->putting = true;
    int error = uv_queue_work(log->options.loop, &put->work, run_put, after_put);
    ASSERT(error == 0);
}

/* ---- reading ---- */

static enum status load_one(struct log *log, uint64_t index, struct log_snapshot *out)
{
    char name[SNAPSHOT_NAME_BYTES];
    struct buffer file = {0};
    snapshot_name(index, name);
    int code = disk_read_file(log->snapshots_fd, name, &file);
    enum status status =
        code != 0 ? status_from_errno(code) : snapshot_decode(buffer_slice(&file), out);
    buffer_free(&file);
    if (status == STATUS_OK && out->index != index) {
        log_snapshot_free(out);
        status = STATUS_CORRUPT;
    }
    if (status != STATUS_OK)
        trace_error("log", "bad-snapshot", "file=\"%s/snapshots/%s\" error=\"%s\"", log->dir, name,
                    status_text(status));
    return status;
}

/* reaches: does the log go on right behind `index`? */
static bool reaches(const struct log *log, uint64_t index)
{
    return log_first_index(log) <= index + 1 && log_last_index(log) >= index;
}

/* forget_after: a damaged snapshot must not count as one of the two that are kept. */
static void forget_after(struct log *log, size_t count)
{
    while (log->snapshot_count > count) {
        char name[SNAPSHOT_NAME_BYTES];
        char bad[SNAPSHOT_NAME_BYTES + 8];
        snapshot_name(log->snapshots[--log->snapshot_count], name);
        snprintf(bad, sizeof bad, "%s.bad", name);
        renameat(log->snapshots_fd, name, log->snapshots_fd, bad);
    }
}

enum status log_snapshot_load(struct log *log, struct log_snapshot *out, const char **error)
{
    *out = (struct log_snapshot){0};
    for (size_t i = log->snapshot_count; i > 0; i--) {
        uint64_t index = log->snapshots[i - 1];
        if (!reaches(log, index))
            break;
        if (load_one(log, index, out) == STATUS_OK) {
            forget_after(log, i);
            return STATUS_OK;
        }
    }
    bool whole = log_first_index(log) == 1 && log_last_index(log) > 0;
    if (whole || (log->snapshot_count == 0 && log_last_index(log) == 0)) {
        forget_after(log, 0);
        return STATUS_OK;
    }
    *error = refusal("%s: the entries on disk are %" PRIu64 " to %" PRIu64
                     ", and no good snapshot leads up to them (the newest is of entry %" PRIu64
                     "). Segments or snapshots are missing or damaged: restore them from a copy, "
                     "or replace this node",
                     log->dir, log_first_index(log), log_last_index(log), log_snapshot_index(log));
    return STATUS_CORRUPT;
}
