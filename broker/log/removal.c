/* SPDX-License-Identifier: Apache-2.0 */
/* Letting go of the segments that nobody needs, without anybody noticing.
 *
 * A snapshot may bring the end of dozens of them at once, and freeing their blocks takes the file
 * system long. So they go one at a time, and the writer, which has to do it in its place among the
 * writes (I5 there), only changes a name: the blocks are freed piece by piece (shrink.c).
 *
 * Best of all is a file that does not go. As a spare it becomes the next segment, whose writes find
 * blocks that were written before: syncs take half the time, and some disks overwrite twice as
 * fast. So there are as many spares as one snapshot brings of a busy shard; one that writes little
 * between two snapshots has few, for it uses them as fast.
 *
 * I1  The folder is synced behind the new name, or none, before the bytes change: the old name is
 *     gone for good (writer.c, I3; shrink.c, I1). A power failure before that brings it back with
 *     all that was in it, nobody needs the segment, and it is removed again. */
#include "broker/log/internal.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The one that is on its way out: log->removal. */
struct removal {
    uv_work_t work;
    struct log *log;
    struct segment *segment; /* until its name has changed, and its file is to be closed */
    char spare[NAME_BYTES];  /* what its name is to be, or is; "": none */
    int fd;
    int error;
};

/* ---- its last step ---- */

static void run_end(uv_work_t *work)
{
    struct removal *r = CONTAINER_OF(work, struct removal, work);
    r->error = disk_sync_whole(r->log->disk, r->log->segments_fd);
    if (r->spare[0] == '\0' || r->fd < 0)
        return;
    close(r->fd); /* frees nothing */
    r->fd = -1;
}

static void gone(struct log *log)
{
    free(log->removal);
    log->removal = NULL;
    removal_consider(log);
}

static void after_end(uv_work_t *work, int status)
{
    struct removal *r = CONTAINER_OF(work, struct removal, work);
    struct log *log = r->log;
    (void)status; /* never cancelled */
    if (r->error != 0 && !log->failed)
        log_fatal(log, refusal("syncing %s/segments failed: %s", log->dir, strerror(r->error)));
    else if (r->error == 0 && r->spare[0] != '\0')
        memcpy(log->spares[log->spare_count++], r->spare, NAME_BYTES);
    if (r->fd >= 0) {
        shrink_begin(log, r->fd, r->error == 0, gone);
        return;
    }
    gone(log);
    log_maybe_closed(log);
}

static void begin_end(struct removal *r, int fd)
{
    r->segment = NULL;
    r->fd = fd;
    int error = uv_queue_work(r->log->options.loop, &r->work, run_end, after_end);
    ASSERT(error == 0);
}

/* let_go: of a removed or replaced segment, when the reads that it waited for are over. */
static void let_go(struct log *log, struct segment *segment)
{
    int fd = segment->fd;
    if (segment->users > 0)
        return;
    if (fd >= 0 && segment->sealed)
        log->open_files--;
    segment->fd = -1;
    if (log->removal != NULL && log->removal->segment == segment)
        begin_end(log->removal, fd);
    else if (fd >= 0)
        shrink_begin(log, fd, segment->nameless, NULL);
    segment_free(segment);
}

void removal_goes_on(struct log *log, struct op *op)
{
    ASSERT(log->removal != NULL && log->removal->segment == op->segment);
    if (op->unlinked || log->failed)
        log->removal->spare[0] = '\0';
}

/* ---- its first ---- */

static bool may_go(const struct log *log, const struct segment *segment)
{
    return log->reclaim && segment->holds == 0 && segment->users == 0 && segment->sealed &&
           segment != segments_last(log) && segment_last(segment) <= log->done_index;
}

static void begin(struct log *log, struct segment *segment)
{
    struct op op = {.type = OP_REMOVE, .segment = segment, .file = -1, .at_leisure = true};
    bool ordinary =
        segment->numbers == NULL && segment->file_bytes <= UINT64_C(2) * log->options.segment_bytes;
    log->removal = calloc(1, sizeof *log->removal);
    ASSERT(log->removal != NULL);
    log->removal->log = log;
    log->removal->segment = segment;
    if (log->spare_count < SPARE_FILES_MAX && ordinary)
        snprintf(op.spare, sizeof op.spare, "spare-%" PRIu64, ++log->spare_number);
    memcpy(log->removal->spare, op.spare, NAME_BYTES);
    segments_remove(log, segment);
    writer_add(log, op);
    writer_kick(log);
}

void segment_consider(struct log *log, struct segment *segment)
{
    if (segment->retired)
        let_go(log, segment);
    else if (log->removal == NULL && may_go(log, segment))
        begin(log, segment);
}

void removal_consider(struct log *log)
{
    for (size_t i = 0; i < log->segment_count && log->removal == NULL; i++)
        segment_consider(log, log->segments[i]);
}
