/* SPDX-License-Identifier: Apache-2.0 */
/* What to make of the segment files at start.
 *
 * A sealed segment is believed by its footer, without reading its bodies. Only the last one may be
 * unsealed: it is read whole and scanned. A torn end is cut off, and the rest of the file made
 * blank again, so that no frame of this segment id is left behind the end. Everything else that
 * does not add up is refused by name: a node that goes on with a log that has lost acknowledged
 * entries would break the promise to its clients, and in a cluster also Raft's.
 *
 * A rewritten segment is sealed as well; what its rewrite left behind when it was cut short goes.
 *
 * Gaps between segments are no damage in themselves: older segments go when no body in them is
 * held. Whether the unbroken run at the end reaches back far enough is for log_snapshot_load to
 * say. */
#include "broker/log/internal.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct found {
    int fd;
    uint64_t bytes;
    char name[NAME_BYTES];
    struct segment_head head;
};

static enum status damaged(const struct log *log, const char *name, uint64_t offset,
                           const char *what, const char **error)
{
    *error = refusal("%s/segments/%s is damaged at byte %" PRIu64 ": %s. Restore the file from "
                     "a copy, or replace this node",
                     log->dir, name, offset, what);
    return STATUS_CORRUPT;
}

static enum status failed(const struct log *log, const char *name, int code, const char **error)
{
    *error = refusal("%s/segments/%s: %s", log->dir, name, strerror(code));
    return status_from_errno(code);
}

static enum status open_found(const struct log *log, const char *name, struct found *out,
                              const char **error)
{
    uint8_t head[SEGMENT_HEAD_BYTES];
    struct stat info;
    size_t got;
    snprintf(out->name, sizeof out->name, "%s", name);
    out->fd = openat(log->segments_fd, name, O_RDWR | O_CLOEXEC);
    if (out->fd < 0)
        return failed(log, name, errno, error);
    int code = fstat(out->fd, &info) == 0 ? 0 : errno;
    if (code == 0)
        code = disk_read(out->fd, head, sizeof head, 0, false, &got);
    if (code != 0)
        return failed(log, name, code, error);
    out->bytes = (uint64_t)info.st_size;
    if (out->bytes > UINT32_MAX || !segment_head_decode(slice_make(head, got), &out->head))
        return damaged(log, name, 0, "the header does not match its checksum", error);
    if (out->head.first_index != segment_name_parse(name))
        return damaged(log, name, 16, "the header belongs to another segment", error);
    return STATUS_OK;
}

/* take_footer: the frames of a sealed segment; `footer` is the file behind them. */
static bool take_footer(struct segment *segment, struct slice footer,
                        const struct segment_trailer *trailer)
{
    if (segment->head.last_index > 0)
        return rewrite_take_footer(segment, footer, trailer->count, trailer->end);
    struct frame_place *places = calloc(trailer->count, sizeof *places);
    ASSERT(places != NULL);
    bool good = segment_footer_decode(footer, &segment->head, trailer, places);
    if (good)
        segment_take_places(segment, places, trailer->count, trailer->end);
    free(places);
    return good;
}

/* load_footer: false if the file is not sealed, or its footer does not hold. */
static bool load_footer(const struct found *file, struct segment *segment)
{
    uint8_t bytes[SEGMENT_TRAILER_BYTES];
    struct segment_trailer trailer;
    struct buffer footer = {0};
    size_t got;
    bool sparse = file->head.last_index > 0;
    if (file->bytes < SEGMENT_HEAD_BYTES + SEGMENT_TRAILER_BYTES ||
        disk_read(file->fd, bytes, sizeof bytes, file->bytes - sizeof bytes, false, &got) != 0 ||
        !(sparse ? sparse_trailer_decode : segment_trailer_decode)(slice_make(bytes, got),
                                                                   file->bytes, &trailer))
        return false;
    size_t length = (size_t)(file->bytes - trailer.end);
    bool good = disk_read(file->fd, buffer_reserve(&footer, length), length, trailer.end, false,
                          &got) == 0 &&
                take_footer(segment, slice_make(footer.data, got), &trailer);
    buffer_free(&footer);
    segment->file_bytes = file->bytes;
    segment->sealed = good;
    return good;
}

static int make_blank(struct log *log, const struct found *file, struct segment *segment)
{
    uint32_t size = log->options.segment_bytes;
    size = size > segment->end ? size : segment->end;
    if (ftruncate(file->fd, segment->end) != 0)
        return errno;
    int code = posix_fallocate(file->fd, 0, size);
    segment->size = size;
    segment->file_bytes = size;
    return code != 0 ? code : disk_sync_whole(log->disk, file->fd);
}

static enum status scan_last(struct log *log, const struct found *file, struct segment *segment,
                             const char **error)
{
    struct buffer bytes = {0};
    struct buffer places = {0};
    bool torn;
    size_t got;
    size_t length = (size_t)file->bytes;
    int code = disk_read(file->fd, buffer_reserve(&bytes, length), length, 0, false, &got);
    enum status status = STATUS_OK;
    if (code != 0)
        status = failed(log, file->name, code, error);
    else if (segment_scan(slice_make(bytes.data, got), &file->head, &places, &segment->end,
                          &torn) != STATUS_OK)
        status = damaged(log, file->name, segment->end,
                         "the entry there was on disk once, and later ones still are", error);
    buffer_free(&bytes);
    if (status == STATUS_OK)
        segment_take_places(segment, (const struct frame_place *)(const void *)places.data,
                            (uint32_t)(places.length / sizeof(struct frame_place)), segment->end);
    buffer_free(&places);
    if (status != STATUS_OK)
        return status;
    segment->size = (uint32_t)file->bytes;
    segment->file_bytes = file->bytes;
    /* Also after a clean stop: a recycled file has bytes of its earlier use behind the end. */
    if (torn)
        trace_info("log", "end-cleared", "file=\"%s/segments/%s\" at=%u", log->dir, file->name,
                   segment->end);
    code = torn || segment->size < log->options.segment_bytes ? make_blank(log, file, segment) : 0;
    return code != 0 ? failed(log, file->name, code, error) : STATUS_OK;
}

static enum status load_one(struct log *log, const struct found *file, bool last,
                            struct segment *segment, const char **error)
{
    if (log->segment_count > 0 && segment->head.first_index < log->next_index)
        return damaged(log, file->name, 16, "it overlaps the segment before it", error);
    if (load_footer(file, segment))
        return STATUS_OK;
    if (!last || segment->head.last_index > 0)
        return damaged(log, file->name, file->bytes, "its footer is missing or broken", error);
    return scan_last(log, file, segment, error);
}

static enum status recover_one(struct log *log, const char *name, bool last, const char **error)
{
    struct found file;
    enum status status = open_found(log, name, &file, error);
    if (status != STATUS_OK) {
        if (file.fd >= 0)
            close(file.fd);
        return status;
    }
    struct segment *segment = segment_new(file.head.id, file.head.first_index, 0);
    segment->head.last_index = file.head.last_index;
    status = load_one(log, &file, last, segment, error);
    if (status != STATUS_OK) {
        close(file.fd);
        segment_free(segment);
        return status;
    }
    segments_add(log, segment);
    log->next_index = segment_last(segment) + 1;
    if (segment->sealed)
        close(file.fd);
    else
        segment->fd = file.fd;
    return STATUS_OK;
}

/* sort_out: spares are kept up to the limit; leftovers of a crash go. */
static void sort_out(struct log *log, const char *name)
{
    bool spare = strncmp(name, "spare-", 6) == 0 && strlen(name) < NAME_BYTES;
    if (spare && log->spare_count < SPARE_FILES_MAX) {
        uint64_t number = strtoull(name + 6, NULL, 10);
        if (number > log->spare_number)
            log->spare_number = number;
        snprintf(log->spares[log->spare_count++], NAME_BYTES, "%s", name);
    } else if (spare || strcmp(name, "new.tmp") == 0 || strcmp(name, REWRITE_NAME) == 0) {
        unlinkat(log->segments_fd, name, 0);
    } else {
        trace_warn("log", "unknown-file", "file=\"%s/segments/%s\"", log->dir, name);
    }
}

enum status recover_segments(struct log *log, const char **error)
{
    struct buffer names = {0};
    size_t count;
    enum status status = STATUS_OK;
    int code = disk_names(log->segments_fd, &names, &count);
    if (code != 0) {
        buffer_free(&names);
        return failed(log, "", code, error);
    }
    const char *pending = NULL; /* the segment before the name at hand: known not to be last then */
    const char *name = (const char *)names.data;
    for (size_t i = 0; i < count && status == STATUS_OK; i++, name += strlen(name) + 1) {
        if (segment_name_parse(name) == 0) {
            sort_out(log, name);
            continue;
        }
        if (pending != NULL)
            status = recover_one(log, pending, false, error);
        pending = name;
    }
    if (status == STATUS_OK && pending != NULL)
        status = recover_one(log, pending, true, error);
    buffer_free(&names);
    log->durable_index = log->next_index - 1;
    return status;
}
