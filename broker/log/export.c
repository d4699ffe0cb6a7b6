/* SPDX-License-Identifier: Apache-2.0 */
/* What a node that lags gets from this one: a stored snapshot, byte by byte, and blocks of entries.
 *
 * A snapshot file that is open can be read to its end even when its name is gone, so newer ones
 * need not wait for a transfer. Blocks are read from where the bodies stand, each verified before
 * it is sent; on the way they carry the same checksums (piece.c), and they are not packed. What was
 * released here in the meantime and is gone is left out: the node that lags will apply the entry
 * that released it.
 *
 * The refs come from another node: nothing about them is believed. */
#include "broker/log/internal.h"
#include "broker/log/piece.h"
#include "broker/log/transfer.h"
#include "broker/log/unit.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENTS_MAX 32u /* that one request keeps open */
#define HEAD_GOOD    512u

/* ---- a snapshot ---- */

struct log_export {
    struct log *log;
    struct log_export_about about;
    int fd;
    uint32_t reads; /* under way */
    bool closed;
};

static enum status open_snapshot(struct log *log, uint64_t index, struct log_export *export)
{
    char name[SNAPSHOT_NAME_BYTES];
    uint8_t head[SNAPSHOT_HEAD_BYTES];
    struct stat info;
    size_t got;
    struct log_snapshot about;
    snapshot_name(index, name);
    export->fd = openat(log->snapshots_fd, name, O_RDONLY | O_CLOEXEC);
    if (export->fd < 0)
        return errno == EMFILE || errno == ENFILE ? STATUS_BUSY : status_from_errno(errno);
    if (fstat(export->fd, &info) != 0 ||
        disk_read(export->fd, head, sizeof head, 0, false, &got) != 0)
        return STATUS_IO_ERROR;
    if (!snapshot_peek(slice_make(head, got), &about) || about.index != index)
        return STATUS_CORRUPT;
    export->about = (struct log_export_about){index, about.term, (uint64_t)info.st_size};
    return STATUS_OK;
}

static void export_free(struct log_export *export)
{
    struct log *log = export->log;
    if (export->fd >= 0)
        close(export->fd);
    free(export);
    log->exports--;
    log_maybe_closed(log);
}

enum status log_export_open(struct log *log, uint64_t index, struct log_export **out)
{
    index = index > 0 ? index : log_snapshot_index(log);
    if (index == 0)
        return STATUS_NOT_FOUND;
    struct log_export *export = calloc(1, sizeof *export);
    ASSERT(export != NULL);
    export->log = log;
    log->exports++;
    enum status status = open_snapshot(log, index, export);
    if (status == STATUS_OK)
        *out = export;
    else
        export_free(export);
    return status;
}

void log_export_about(const struct log_export *export, struct log_export_about *out)
{
    *out = export->about;
}

void log_export_close(struct log_export *export)
{
    ASSERT(!export->closed);
    export->closed = true;
    if (export->reads == 0)
        export_free(export);
}

static void run_read(uv_work_t *work)
{
    struct log_export_read *read = CONTAINER_OF(work, struct log_export_read, work);
    size_t got;
    buffer_clear(&read->out);
    read->error = disk_read(read->export->fd, buffer_reserve(&read->out, read->length),
                            read->length, read->offset, false, &got);
    buffer_added(&read->out, got);
}

static void after_read(uv_work_t *work, int status)
{
    struct log_export_read *read = CONTAINER_OF(work, struct log_export_read, work);
    struct log_export *export = read->export;
    (void)status; /* never cancelled */
    read->done(read, read->error == 0 ? STATUS_OK : STATUS_IO_ERROR);
    export->reads--;
    if (export->closed && export->reads == 0)
        export_free(export);
}

void log_export_read(struct log_export *export, struct log_export_read *read)
{
    ASSERT(!export->closed);
    uint64_t left = read->offset < export->about.bytes ? export->about.bytes - read->offset : 0;
    if (read->length > left)
        read->length = (size_t)left;
    read->export = export;
    export->reads++;
    int error = uv_queue_work(export->log->options.loop, &read->work, run_read, after_read);
    ASSERT(error == 0);
}

/* ---- bodies: on the loop ---- */

/* The refs [first, end) are of one entry. */
struct export_step {
    struct read_step read;
    size_t first;
    size_t end;
};

static bool in_order(const struct body_ref *refs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool follows = i == 0 || refs[i].index > refs[i - 1].index ||
                       (refs[i].index == refs[i - 1].index && refs[i].offset >= refs[i - 1].offset);
        if (refs[i].index == 0 || !follows)
            return false;
    }
    return count <= LOG_EXPORT_REFS_MAX;
}

/* plan: the entries that may fit, since each takes at least what its bodies do. */
static void plan(struct log *log, struct log_export_bodies *b)
{
    uint64_t bytes = 0;
    size_t segments = 0;
    const struct segment *previous = NULL;
    for (size_t i = 0; i < b->count && bytes <= b->limit && segments < SEGMENTS_MAX;) {
        struct export_step *step = &b->steps[b->step_count++];
        step->first = i;
        for (; i < b->count && b->refs[i].index == b->refs[step->first].index; i++)
            bytes += b->refs[i].length;
        step->end = i;
        read_step_begin(log, b->refs[step->first].index, &step->read);
        if (step->read.segment != NULL && step->read.segment != previous)
            segments++;
        previous = step->read.segment;
    }
}

static void after_bodies(uv_work_t *work, int status)
{
    struct log_export_bodies *b = CONTAINER_OF(work, struct log_export_bodies, work);
    struct log *log = b->log;
    (void)status; /* never cancelled */
    for (size_t i = 0; i < b->step_count; i++)
        read_step_end(log, &b->steps[i].read);
    free(b->steps);
    if (b->damaged > 0)
        trace_error("log", "body-damaged", "dir=\"%s\" bodies=%zu effect=\"cannot be sent\"",
                    log->dir, b->damaged);
    log->reads--;
    b->done(b, b->status);
    log_maybe_closed(log);
}

/* ---- bodies: in the pool ---- */

/* One entry at hand. */
struct taking {
    struct log_export_bodies *b;
    const struct export_step *step;
    struct frame frame;
    struct buffer head;
    struct buffer map;    /* of what is in `blocks` */
    struct buffer blocks; /* taken so far */
    struct buffer stored; /* of a packed frame: the unit unpacked last, as it is in the file, */
    struct buffer unit;   /* and unpacked; empty: none */
    uint32_t unit_number;
    uint32_t begin; /* blocks before it were sent by an earlier request */
    uint32_t next;  /* blocks before it were looked at */
    bool full;      /* it does not fit as a whole */
};

static enum status read_into(int fd, struct buffer *out, size_t length, uint64_t offset)
{
    size_t got;
    buffer_clear(out);
    int error = disk_read(fd, buffer_reserve(out, length), length, offset, false, &got);
    buffer_added(out, got);
    return error == 0 ? STATUS_OK : STATUS_IO_ERROR;
}

/* load_head: CORRUPT when it is damaged. */
static enum status load_head(struct taking *t)
{
    const struct read_step *from = &t->step->read;
    enum status status = read_into(from->fd, &t->head, HEAD_GOOD, from->frame_at);
    uint32_t bytes = t->head.length < FRAME_HEAD_BYTES ? FRAME_HEAD_BYTES
                                                       : frame_peek_bytes(buffer_slice(&t->head));
    if (status == STATUS_OK && bytes > t->head.length)
        status = read_into(from->fd, &t->head, bytes, from->frame_at);
    if (status != STATUS_OK)
        return status;
    if (!frame_head_decode(buffer_slice(&t->head), from->segment_id, &t->frame) ||
        t->frame.index != t->b->refs[t->step->first].index)
        return STATUS_CORRUPT;
    uint32_t map_bytes = sparse_map_bytes(frame_block_count(t->frame.length)) + 1;
    buffer_clear(&t->map);
    buffer_clear(&t->blocks);
    buffer_clear(&t->unit);
    memset(buffer_reserve(&t->map, map_bytes), 0, map_bytes);
    buffer_added(&t->map, map_bytes);
    t->next = t->begin = t->step->first == 0 ? t->b->from / FRAME_BLOCK_BYTES : 0;
    return STATUS_OK;
}

static bool is_full(const struct taking *t)
{
    size_t more = sparse_head_bytes(t->frame.length) + t->blocks.length + FRAME_BLOCK_BYTES;
    bool progress = t->b->covered > 0 || t->blocks.length > 0;
    return progress && t->b->out.length + more > t->b->limit;
}

/* unpack: the unit in which a block is to t->unit. */
static enum status unpack(struct taking *t, uint32_t block)
{
    uint32_t unit = block / UNIT_BLOCKS;
    if (t->unit.length > 0 && t->unit_number == unit)
        return STATUS_OK;
    uint32_t stored = unit_stored(t->head.data, &t->frame, unit);
    uint32_t length = unit_bytes(t->frame.length, unit);
    uint64_t at = (uint64_t)t->step->read.frame_at + unit_at(t->head.data, &t->frame, unit);
    enum status status = read_into(t->step->read.fd, &t->stored, stored, at);
    buffer_clear(&t->unit);
    if (status != STATUS_OK)
        return status;
    if (t->stored.length < stored ||
        !unit_unpack(&t->frame, unit, buffer_slice(&t->stored), buffer_reserve(&t->unit, length)))
        return STATUS_CORRUPT;
    buffer_added(&t->unit, length);
    t->unit_number = unit;
    return STATUS_OK;
}

/* fetch_block: its bytes, not yet verified, to `to`. */
static enum status fetch_block(struct taking *t, uint32_t block, uint8_t *to, size_t length)
{
    if (t->frame.packed) {
        enum status status = unpack(t, block);
        if (status == STATUS_OK)
            memcpy(to, t->unit.data + (size_t)(block % UNIT_BLOCKS) * FRAME_BLOCK_BYTES, length);
        return status;
    }
    uint64_t at = (uint64_t)t->step->read.frame_at + frame_block_at(t->head.data, &t->frame, block);
    size_t got;
    if (disk_read(t->step->read.fd, to, length, at, false, &got) != 0)
        return STATUS_IO_ERROR;
    return got < length ? STATUS_CORRUPT : STATUS_OK;
}

/* take_block: STATUS_CORRUPT: its checksum does not match. */
static enum status take_block(struct taking *t, uint32_t block)
{
    uint32_t left = t->frame.length - block * FRAME_BLOCK_BYTES;
    size_t length = left < FRAME_BLOCK_BYTES ? left : FRAME_BLOCK_BYTES;
    uint8_t *to = buffer_reserve(&t->blocks, length);
    enum status status = fetch_block(t, block, to, length);
    if (status != STATUS_OK)
        return status;
    if (!frame_blocks_match(t->head.data, t->frame.length, block, slice_make(to, length)))
        return STATUS_CORRUPT;
    buffer_added(&t->blocks, length);
    t->map.data[block / 8] |= (uint8_t)(1u << block % 8);
    return STATUS_OK;
}

/* take_ref: the blocks of refs[covered] that were not looked at yet. */
static enum status take_ref(struct taking *t)
{
    struct log_export_bodies *b = t->b;
    struct body_ref ref = b->refs[b->covered];
    uint64_t stop = (uint64_t)ref.offset + ref.length;
    bool gone = stop > t->frame.length;
    bool damaged = false;
    uint64_t end = gone ? 0 : (stop + FRAME_BLOCK_BYTES - 1) / FRAME_BLOCK_BYTES;
    for (uint32_t i = ref.offset / FRAME_BLOCK_BYTES; ref.length > 0 && i < end; i++) {
        bool there = frame_block_there(t->head.data, &t->frame, i);
        gone |= !there;
        if (i >= t->next && there && is_full(t)) {
            b->next_from = i * FRAME_BLOCK_BYTES;
            t->full = true;
            return STATUS_OK;
        }
        if (i >= t->next && there && take_block(t, i) == STATUS_IO_ERROR)
            return STATUS_IO_ERROR;
        t->next = t->next > i ? t->next : i + 1;
        damaged |= there && i >= t->begin && !sparse_bit(t->map.data, i);
    }
    b->covered++;
    b->damaged += damaged ? 1 : 0;
    b->gone += gone && !damaged ? 1 : 0;
    return STATUS_OK;
}

static void emit(struct taking *t)
{
    struct buffer *out = &t->b->out;
    if (t->next == t->begin && t->full)
        return; /* nothing was looked at */
    piece_add_head(out, t->head.data, &t->frame, t->map.data);
    buffer_add_slice(out, buffer_slice(&t->blocks));
    piece_pad(out);
}

static enum status take_entry(struct taking *t)
{
    struct log_export_bodies *b = t->b;
    size_t count = t->step->end - t->step->first;
    enum status status =
        t->step->read.segment == NULL ? STATUS_NOT_FOUND : read_step_status(&t->step->read);
    if (status == STATUS_OK)
        status = load_head(t);
    if (status == STATUS_NOT_FOUND || status == STATUS_CORRUPT) {
        *(status == STATUS_CORRUPT ? &b->damaged : &b->gone) += count;
        b->covered = t->step->end;
        return STATUS_OK;
    }
    while (status == STATUS_OK && b->covered < t->step->end && !t->full)
        status = take_ref(t);
    if (status == STATUS_OK)
        emit(t);
    return status;
}

static void run_bodies(uv_work_t *work)
{
    struct log_export_bodies *b = CONTAINER_OF(work, struct log_export_bodies, work);
    struct taking t = {.b = b};
    for (size_t i = 0; i < b->step_count && b->status == STATUS_OK && !t.full; i++) {
        t.step = &b->steps[i];
        b->status = take_entry(&t);
    }
    buffer_free(&t.head);
    buffer_free(&t.map);
    buffer_free(&t.blocks);
    buffer_free(&t.stored);
    buffer_free(&t.unit);
}

void log_export_bodies(struct log *log, struct log_export_bodies *b)
{
    b->log = log;
    b->status = in_order(b->refs, b->count) ? STATUS_OK : STATUS_INVALID;
    b->covered = b->gone = b->damaged = b->step_count = 0;
    b->next_from = 0;
    buffer_clear(&b->out);
    b->steps = calloc(b->count + 1, sizeof *b->steps);
    ASSERT(b->steps != NULL);
    if (b->status == STATUS_OK)
        plan(log, b);
    log->reads++;
    int error = uv_queue_work(log->options.loop, &b->work, run_bodies, after_bodies);
    ASSERT(error == 0);
}
