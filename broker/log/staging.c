/* SPDX-License-Identifier: Apache-2.0 */
/* The staging folder. Everything in it has the name under which it will belong to the log:
 *
 *     DIR/incoming-N/INDEX.snap   the snapshot, byte by byte as it came
 *     DIR/incoming-N/FIRST.seg    bodies of entries behind keep_index: sealed, sparse (sparse.c)
 *     DIR/incoming-N/NEXT.seg     empty: the segment in which the log goes on (NEXT = INDEX + 1)
 *     DIR/incoming-N/plan         which entries stay; written last (plan.c, install.c)
 *
 * Entries of which all is there are packed like any other (packer.h).
 *
 * A piece is verified as a whole before any of it is taken (I1), so a bad one can be asked for
 * again. Data are synced in small steps, since the syncs of other logs wait for the same disk. */
#include "broker/log/staging.h"

#include "broker/log/piece.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYNC_BYTES (1u << 20)

void staging_init(struct staging *s, struct log *log, const struct log_offer *offer,
                  uint64_t number)
{
    *s = (struct staging){.log = log, .offer = *offer, .dir_fd = -1, .snapshot_fd = -1, .fd = -1};
    snprintf(s->name, sizeof s->name, INCOMING_PREFIX "%" PRIu64, number);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void staging_free(struct staging *s)
{
    for (size_t i = 0; i < s->segment_count; i++)
        segment_free(s->segments[i]);
    free(s->segments);
    close_fd(&s->fd);
    close_fd(&s->snapshot_fd);
    close_fd(&s->dir_fd);
    buffer_free(&s->out);
    buffer_free(&s->footer);
    buffer_free(&s->frame_head);
    buffer_free(&s->frame_map);
    buffer_free(&s->frame_blocks);
    buffer_free(&s->packed);
    packer_free(&s->packer);
}

static int create(struct staging *s, const char *name, int *fd)
{
    *fd = openat(s->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return *fd >= 0 ? 0 : errno;
}

/* spread: see SYNC_BYTES. */
static int spread(struct staging *s, int fd, size_t more)
{
    s->unsynced += more;
    if (s->unsynced < SYNC_BYTES)
        return 0;
    s->unsynced = 0;
    return disk_sync(s->log->disk, fd);
}

/* ---- the snapshot ---- */

static int begin(struct staging *s)
{
    char name[SNAPSHOT_NAME_BYTES];
    if (s->dir_fd < 0) {
        int error = disk_make_dir(s->log->disk, s->log->dir_fd, s->name, &s->dir_fd);
        if (error != 0)
            return error;
    }
    snapshot_name(s->offer.index, name);
    return create(s, name, &s->snapshot_fd);
}

int staging_snapshot(struct staging *s, struct slice bytes)
{
    int error = s->snapshot_fd < 0 ? begin(s) : 0;
    if (error == 0)
        error = disk_write_bytes(s->log->disk, s->snapshot_fd, bytes, s->snapshot_bytes);
    if (error != 0)
        return error;
    s->snapshot_bytes += bytes.length;
    return spread(s, s->snapshot_fd, bytes.length);
}

enum status staging_restore(struct staging *s, struct log_snapshot *out)
{
    char name[SNAPSHOT_NAME_BYTES];
    struct buffer file = {0};
    int error = disk_sync_whole(s->log->disk, s->snapshot_fd);
    *out = (struct log_snapshot){0};
    snapshot_name(s->offer.index, name);
    if (error == 0)
        error = disk_read_file(s->dir_fd, name, &file);
    enum status status =
        error != 0 ? status_from_errno(error) : snapshot_decode(buffer_slice(&file), out);
    buffer_free(&file);
    if (status == STATUS_OK && (out->index != s->offer.index || out->term != s->offer.term)) {
        log_snapshot_free(out);
        status = STATUS_CORRUPT;
    }
    s->unsynced = 0;
    return status;
}

/* ---- segments ---- */

static int flush(struct staging *s)
{
    size_t length = s->out.length;
    int error = disk_write_bytes(s->log->disk, s->fd, buffer_slice(&s->out), s->written);
    s->written += length;
    s->body_bytes += length;
    buffer_clear(&s->out);
    return error != 0 ? error : spread(s, s->fd, length);
}

static int open_segment(struct staging *s, uint64_t first_index)
{
    static const uint8_t no_head[SEGMENT_HEAD_BYTES] = {0}; /* until it is sealed */
    char name[NAME_BYTES];
    s->head = (struct segment_head){.first_index = first_index};
    clock_random(&s->head.id, sizeof s->head.id);
    s->count = 0;
    s->written = 0;
    buffer_clear(&s->footer);
    buffer_clear(&s->out);
    buffer_add(&s->out, no_head, sizeof no_head);
    segment_name(first_index, name);
    return create(s, name, &s->fd);
}

static void keep_segment(struct staging *s, struct segment *segment)
{
    s->segments = reallocarray(s->segments, s->segment_count + 1, sizeof(struct segment *));
    ASSERT(s->segments != NULL);
    s->segments[s->segment_count++] = segment;
}

/* remember: the segment as recovery would find it. */
static void remember(struct staging *s, uint32_t end)
{
    struct segment *segment = segment_new(s->head.id, s->head.first_index, end);
    segment->head = s->head;
    bool good = rewrite_take_footer(segment, buffer_slice(&s->footer), s->count, end);
    ASSERT(good);
    segment->file_bytes = end + s->footer.length;
    segment->sealed = true;
    keep_segment(s, segment);
}

static int seal(struct staging *s)
{
    uint8_t head[SEGMENT_HEAD_BYTES];
    uint32_t end = (uint32_t)(s->written + s->out.length);
    sparse_footer_finish(&s->footer, &s->head, s->count, end);
    buffer_add_slice(&s->out, buffer_slice(&s->footer));
    int error = flush(s);
    segment_head_encode(&s->head, head);
    if (error == 0)
        error = disk_write_bytes(s->log->disk, s->fd, slice_make(head, sizeof head), 0);
    if (error == 0)
        error = disk_sync_whole(s->log->disk, s->fd);
    close_fd(&s->fd);
    if (error == 0)
        remember(s, end);
    return error;
}

/* pack: false: the payload stays as it is, because parts of it are missing, or it does not pay. */
static bool pack(struct staging *s, uint16_t units[UNITS_MAX])
{
    struct slice payload = buffer_slice(&s->frame_blocks);
    buffer_clear(&s->packed);
    if (payload.length < s->frame.length || s->log->options.unpacked ||
        !packer_wants(&s->packer, s->frame.length))
        return false;
    uint8_t *out = buffer_reserve(&s->packed, payload.length);
    buffer_added(&s->packed, packer_pack(&s->packer, payload, units, out));
    return s->packed.length > 0;
}

/* put_head: a frame of which nothing is missing is an ordinary one. */
static void put_head(struct staging *s, bool packed, const uint16_t *units)
{
    uint32_t blocks = frame_block_count(s->frame.length);
    struct frame as = {.length = s->frame.length,
                       .packed = packed,
                       .sparse = s->frame_blocks.length < s->frame.length};
    uint32_t head_bytes = frame_head_size(&as);
    uint8_t *out = buffer_reserve(&s->out, head_bytes);
    if (as.sparse) {
        sparse_head_encode(s->frame_head.data, &as, s->head.id, s->frame_map.data, out);
    } else {
        memset(out, 0, head_bytes);
        memcpy(out, s->frame_head.data, FRAME_HEAD_BYTES + 4 * (size_t)blocks);
        bytes_put_u16(out + 34, packed ? FRAME_FLAG_PACKED : 0);
        for (uint32_t i = 0; packed && i < unit_count(as.length); i++)
            bytes_put_u16(out + FRAME_HEAD_BYTES + 4 * (size_t)blocks + 2 * (size_t)i, units[i]);
        frame_seal_head(out, head_bytes, s->head.id);
    }
    buffer_added(&s->out, head_bytes);
}

static bool is_full(const struct staging *s)
{
    return s->written + s->out.length >= s->log->options.segment_bytes ||
           s->frame.index - s->head.first_index > UINT32_MAX;
}

/* put_frame: the gathered entry goes into the segment. */
static int put_frame(struct staging *s)
{
    int error = 0;
    uint16_t units[UNITS_MAX];
    if (s->fd >= 0 && is_full(s))
        error = seal(s);
    if (error == 0 && s->fd < 0)
        error = open_segment(s, s->frame.index);
    if (error != 0)
        return error;
    struct kept_frame row = {(uint32_t)(s->frame.index - s->head.first_index),
                             (uint32_t)(s->written + s->out.length), s->frame.length,
                             s->frame_map.data};
    bool packed = pack(s, units);
    put_head(s, packed, units);
    buffer_add_slice(&s->out, buffer_slice(packed ? &s->packed : &s->frame_blocks));
    piece_pad(&s->out);
    sparse_footer_add(&s->footer, &row);
    s->head.last_index = s->frame.index;
    s->count++;
    s->entries++;
    return s->out.length >= SYNC_BYTES ? flush(s) : 0;
}

/* ---- pieces ---- */

static bool is_same_entry(const struct staging *s, const struct piece_frame *piece)
{
    const struct frame *a = &s->frame;
    const struct frame *b = &piece->frame;
    return a->term == b->term && a->type == b->type && a->length == b->length &&
           memcmp(s->frame_head.data + FRAME_HEAD_BYTES, piece->head + FRAME_HEAD_BYTES,
                  4 * (size_t)frame_block_count(b->length)) == 0;
}

/* goes_on: `piece` has more of the entry at hand: blocks that are there already, or behind them. */
static bool goes_on(const struct staging *s, const struct piece_frame *piece)
{
    if (!is_same_entry(s, piece))
        return false;
    for (uint32_t i = piece->first; i < s->frame_next; i++) {
        if (sparse_bit(piece->map, i) && !sparse_bit(s->frame_map.data, i))
            return false;
    }
    return true;
}

static bool is_good(const struct staging *s, struct slice piece)
{
    uint64_t last = s->frame.index > 0 ? s->frame.index : s->offer.keep_index + 1;
    bool may_go_on = true; /* only the first can */
    struct piece_frame next;
    while (piece.length > 0) {
        if (!piece_next(&piece, &next) || next.frame.index < last ||
            next.frame.index > s->offer.index)
            return false;
        if (next.frame.index == s->frame.index && !(may_go_on && goes_on(s, &next)))
            return false;
        last = next.frame.index + 1;
        may_go_on = false;
    }
    return true;
}

static void begin_entry(struct staging *s, const struct piece_frame *piece)
{
    uint32_t blocks = frame_block_count(piece->frame.length);
    s->frame = piece->frame;
    s->frame_next = 0;
    buffer_clear(&s->frame_head);
    buffer_add(&s->frame_head, piece->head, FRAME_HEAD_BYTES + 4 * (size_t)blocks);
    buffer_clear(&s->frame_map);
    memset(buffer_reserve(&s->frame_map, sparse_map_bytes(blocks) + 1), 0,
           sparse_map_bytes(blocks) + 1);
    buffer_added(&s->frame_map, sparse_map_bytes(blocks) + 1);
    buffer_clear(&s->frame_blocks);
}

static void gather(struct staging *s, const struct piece_frame *piece)
{
    uint32_t blocks = frame_block_count(piece->frame.length);
    struct slice rest = piece->blocks;
    for (uint32_t i = piece->first; i < blocks && i <= piece->last; i++) {
        if (!sparse_bit(piece->map, i))
            continue;
        uint32_t left = piece->frame.length - i * FRAME_BLOCK_BYTES;
        uint32_t length = left < FRAME_BLOCK_BYTES ? left : FRAME_BLOCK_BYTES;
        if (i >= s->frame_next) {
            buffer_add(&s->frame_blocks, rest.data, length);
            s->frame_map.data[i / 8] |= (uint8_t)(1u << i % 8);
            s->frame_next = i + 1;
        }
        rest = slice_sub(rest, length);
    }
}

enum status staging_bodies(struct staging *s, struct slice piece)
{
    struct piece_frame next;
    if (!is_good(s, piece)) /* I1 */
        return STATUS_CORRUPT;
    while (piece.length > 0) {
        bool good = piece_next(&piece, &next);
        ASSERT(good);
        int error = 0;
        if (next.frame.index != s->frame.index) {
            error = s->frame.index > 0 ? put_frame(s) : 0;
            begin_entry(s, &next);
        }
        if (error != 0)
            return status_from_errno(error);
        gather(s, &next);
    }
    return STATUS_OK;
}

/* ---- the end ---- */

/* open_next: where the log goes on; its file has its full size, as that of any open segment. */
static int open_next(struct staging *s)
{
    uint8_t head[SEGMENT_HEAD_BYTES];
    char name[NAME_BYTES];
    uint64_t id;
    clock_random(&id, sizeof id);
    struct segment *segment = segment_new(id, s->offer.index + 1, s->log->options.segment_bytes);
    keep_segment(s, segment);
    segment_name(segment->head.first_index, name);
    int error = create(s, name, &segment->fd);
    if (error == 0)
        error = posix_fallocate(segment->fd, 0, (off_t)segment->size);
    segment_head_encode(&segment->head, head);
    if (error == 0)
        error = disk_write_bytes(s->log->disk, segment->fd, slice_make(head, sizeof head), 0);
    return error != 0 ? error : disk_sync_whole(s->log->disk, segment->fd);
}

static int write_plan(struct staging *s)
{
    uint8_t plan[PLAN_BYTES];
    struct install_plan what = {s->offer.keep_index, s->offer.index};
    int fd;
    plan_encode(&what, plan);
    int error = create(s, PLAN_NAME, &fd);
    if (error != 0)
        return error;
    error = disk_write_bytes(s->log->disk, fd, slice_make(plan, sizeof plan), 0);
    if (error == 0)
        error = disk_sync_whole(s->log->disk, fd);
    close(fd);
    return error;
}

int staging_end(struct staging *s)
{
    int error = s->frame.index > 0 ? put_frame(s) : 0;
    if (error == 0 && s->fd >= 0)
        error = seal(s);
    if (error == 0)
        error = open_next(s);
    if (error == 0)
        error = write_plan(s);
    return error != 0 ? error : disk_sync_whole(s->log->disk, s->dir_fd);
}

void folder_remove(int dir_fd, const char *name)
{
    struct buffer names = {0};
    size_t count = 0;
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (disk_names(fd, &names, &count) == 0) {
        const char *at = (const char *)names.data;
        for (size_t i = 0; i < count; i++, at += strlen(at) + 1)
            unlinkat(fd, at, 0);
    }
    buffer_free(&names);
    close(fd);
    unlinkat(dir_fd, name, AT_REMOVEDIR);
}

void staging_remove(struct staging *s)
{
    folder_remove(s->log->dir_fd, s->name);
}
