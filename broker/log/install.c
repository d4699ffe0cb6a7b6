/* SPDX-License-Identifier: Apache-2.0 */
/* Taking over what another node sent, in one durable step.
 *
 *     staged    DIR/incoming-N with all files and `plan`, synced          the log is what it was
 *     decided   DIR/incoming-N renamed to DIR/install, DIR synced         <- the step
 *     cut       entries behind keep_index dropped; `plan` renamed to `moving`
 *     moved     segments, snapshot each renamed to their folders, older snapshots removed
 *     done      `moving` and DIR/install removed
 *
 * What is decided is carried out, by the writer or at the next start: every step may be done again.
 * `moving` says that the cut is over, for it would take what was moved already.
 *
 * I1  keep_index is not below any stored snapshot, so what a rewrite has thinned out is never cut.
 * I2  Older snapshots go: the entries that followed them are gone, so no start could use them. They
 * could not be chosen even if they stayed, since the unbroken run of entries begins behind them. */
#include "broker/log/plan.h"
#include "broker/log/staging.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

int install_decide(struct log *log, const char *name, bool *decided)
{
    int error = disk_rename(log->disk, log->dir_fd, name, log->dir_fd, INSTALL_NAME);
    *decided = error == 0;
    return error != 0 ? error : disk_sync_whole(log->disk, log->dir_fd);
}

/* ---- moving ---- */

static bool is_snapshot(const char *name)
{
    return snapshot_name_parse(name) > 0;
}

static bool is_segment(const char *name)
{
    return segment_name_parse(name) > 0;
}

/* move_all: the files in `fd` that `is` knows to the folder `to`. */
static int move_all(struct log *log, int fd, bool (*is)(const char *name), int to)
{
    struct buffer names = {0};
    size_t count = 0;
    int error = disk_names(fd, &names, &count);
    const char *name = (const char *)names.data;
    for (size_t i = 0; i < count && error == 0; i++, name += strlen(name) + 1) {
        if (is(name))
            error = disk_rename(log->disk, fd, name, to, name);
    }
    buffer_free(&names);
    return error != 0 ? error : disk_sync_whole(log->disk, to);
}

/* drop_older: all snapshots but that of `index`. */
static int drop_older(struct log *log, uint64_t index)
{
    struct buffer names = {0};
    size_t count = 0;
    int error = disk_names(log->snapshots_fd, &names, &count);
    const char *name = (const char *)names.data;
    for (size_t i = 0; i < count && error == 0; i++, name += strlen(name) + 1) {
        if (is_snapshot(name) && snapshot_name_parse(name) != index)
            error = unlinkat(log->snapshots_fd, name, 0) == 0 ? 0 : errno;
    }
    buffer_free(&names);
    return error != 0 ? error : disk_sync_whole(log->disk, log->snapshots_fd);
}

static int load_plan(int fd, const char *name, struct install_plan *out)
{
    struct buffer file = {0};
    int error = disk_read_file(fd, name, &file);
    if (error == 0 && !plan_decode(buffer_slice(&file), out))
        error = EBADMSG;
    buffer_free(&file);
    return error;
}

/* note_cut: from now on the cut is not done again. */
static int note_cut(struct log *log, int fd)
{
    int error = disk_rename(log->disk, fd, PLAN_NAME, fd, PLAN_CUT_NAME);
    if (error == ENOENT)
        return 0; /* noted before */
    return error != 0 ? error : disk_sync_whole(log->disk, fd);
}

static int move(struct log *log, int fd)
{
    struct install_plan plan;
    int error = note_cut(log, fd);
    if (error == 0)
        error = load_plan(fd, PLAN_CUT_NAME, &plan);
    if (error == ENOENT)
        return 0; /* all is done but removing the folder */
    if (error == 0)
        error = move_all(log, fd, is_segment, log->segments_fd);
    if (error == 0)
        error = move_all(log, fd, is_snapshot, log->snapshots_fd);
    if (error == 0)
        error = drop_older(log, plan.index);
    if (error == 0)
        error = disk_sync_whole(log->disk, fd);
    if (error == 0 && unlinkat(fd, PLAN_CUT_NAME, 0) != 0)
        error = errno;
    return error;
}

int install_move(struct log *log)
{
    int fd = openat(log->dir_fd, INSTALL_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = move(log, fd);
    close(fd);
    if (error == 0 && unlinkat(log->dir_fd, INSTALL_NAME, AT_REMOVEDIR) != 0)
        error = errno;
    return error != 0 ? error : disk_sync_whole(log->disk, log->dir_fd);
}

/* ---- at start ---- */

static enum status refuse(const struct log *log, int code, const char **error)
{
    if (code == EBADMSG) {
        *error = refusal("%s/" INSTALL_NAME ": the plan for taking over a snapshot is damaged. "
                         "Restore it from a copy, or replace this node",
                         log->dir);
        return STATUS_CORRUPT;
    }
    *error = refusal("%s/" INSTALL_NAME ": taking over a snapshot: %s", log->dir, strerror(code));
    return status_from_errno(code);
}

static int remove_leftovers(struct log *log)
{
    struct buffer names = {0};
    size_t count = 0;
    int error = disk_names(log->dir_fd, &names, &count);
    const char *name = (const char *)names.data;
    for (size_t i = 0; i < count && error == 0; i++, name += strlen(name) + 1) {
        if (strncmp(name, INCOMING_PREFIX, strlen(INCOMING_PREFIX)) == 0)
            folder_remove(log->dir_fd, name);
    }
    buffer_free(&names);
    return error;
}

/* forget_segments: so that they can be found anew. */
static void forget_segments(struct log *log)
{
    for (size_t i = 0; i < log->segment_count; i++)
        segment_free(log->segments[i]);
    log->segment_count = 0;
    log->spare_count = 0;
    log->open_files = 0;
    log->next_index = 1;
    log->durable_index = 0;
}

static void close_files(struct log *log)
{
    for (size_t i = 0; i < log->segment_count; i++) {
        if (log->segments[i]->fd >= 0)
            close(log->segments[i]->fd);
        log->segments[i]->fd = -1;
    }
}

/* cut_again: as log_incoming_commit had it done when it was interrupted. */
static enum status cut_again(struct log *log, const struct install_plan *plan, const char **error)
{
    enum status status = recover_segments(log, error);
    /* Others will stand behind it, and nobody looks at its end again. (Found by the simulation: a
     * footer that a killed process had not synced, and a power failure after the installation.) */
    int code = status == STATUS_OK ? log_sync_last(log) : 0;
    if (code != 0)
        return refuse(log, code, error);
    if (status == STATUS_OK) {
        close_files(log);
        log_cut(log, plan->keep_index + 1);
        status = writer_run_now(log);
        if (status != STATUS_OK)
            *error = refusal("%s: dropping entries for a snapshot failed", log->dir);
    }
    forget_segments(log);
    return status;
}

enum status install_recover(struct log *log, const char **error)
{
    struct install_plan plan;
    enum status status = STATUS_OK;
    int code = remove_leftovers(log);
    if (code != 0)
        return refuse(log, code, error);
    int fd = openat(log->dir_fd, INSTALL_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? STATUS_OK : refuse(log, errno, error);
    code = load_plan(fd, PLAN_NAME, &plan);
    close(fd);
    trace_info("log", "install-goes-on", "dir=\"%s\"", log->dir);
    if (code == 0)
        status = cut_again(log, &plan, error);
    else if (code != ENOENT)
        return refuse(log, code, error);
    if (status != STATUS_OK)
        return status;
    code = install_move(log);
    return code == 0 ? STATUS_OK : refuse(log, code, error);
}
