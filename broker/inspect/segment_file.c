/* SPDX-License-Identifier: Apache-2.0 */
/* One segment file, read whole. The rules are those of recovery (broker/log/recover.c), but nothing
 * is changed and everything that is wrong is named, not only the first. */
#include "broker/inspect/internal.h"
#include "broker/log/disk.h"
#include "broker/log/unit.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t segment_file_name(const char *name)
{
    char expected[64];
    uint64_t first_index = strtoull(name, NULL, 10);
    snprintf(expected, sizeof expected, "%020" PRIu64 ".seg", first_index);
    return strcmp(name, expected) == 0 ? first_index : 0;
}

static bool take_sparse(struct segment_file *file, struct slice footer)
{
    struct kept_frame *frames = calloc(file->count, sizeof *frames);
    file->numbers = calloc(file->count, sizeof *file->numbers);
    ASSERT(frames != NULL);
    ASSERT(file->numbers != NULL);
    bool good = sparse_footer_decode(footer, &file->head, file->count, file->end, frames);
    for (uint32_t i = 0; good && i < file->count; i++) {
        file->places[i] =
            (struct frame_place){frames[i].offset, frame_block_count(frames[i].length)};
        file->numbers[i] = frames[i].number;
    }
    free(frames);
    return good;
}

static bool take_footer(struct segment_file *file)
{
    struct slice all = buffer_slice(&file->bytes);
    struct segment_trailer trailer;
    bool sparse = file->head.last_index > 0;
    if (all.length < SEGMENT_HEAD_BYTES + SEGMENT_TRAILER_BYTES)
        return false;
    struct slice end = slice_sub(all, all.length - SEGMENT_TRAILER_BYTES);
    if (!(sparse ? sparse_trailer_decode : segment_trailer_decode)(end, all.length, &trailer))
        return false;
    file->count = trailer.count;
    file->end = trailer.end;
    file->places = calloc(file->count, sizeof *file->places);
    ASSERT(file->places != NULL);
    struct slice footer = slice_sub(all, file->end);
    file->sealed = sparse ? take_sparse(file, footer)
                          : segment_footer_decode(footer, &file->head, &trailer, file->places);
    return file->sealed;
}

static bool scan(struct segment_file *file, struct problems *problems)
{
    struct buffer places = {0};
    enum status status =
        segment_scan(buffer_slice(&file->bytes), &file->head, &places, &file->end, &file->torn);
    free(file->places);
    file->places = (struct frame_place *)(void *)places.data;
    file->count = (uint32_t)(places.length / sizeof *file->places);
    if (status != STATUS_OK)
        problem(problems, file->name, file->end,
                "entry %" PRIu64 " was on disk once, and later ones still are, but it is damaged",
                file->head.first_index + file->count);
    return true;
}

bool segment_file_read(int dir_fd, const char *folder, const char *name, bool last,
                       struct segment_file *out, struct problems *problems)
{
    *out = (struct segment_file){0};
    snprintf(out->name, sizeof out->name, "%s/%s", folder, name);
    int error = disk_read_file(dir_fd, name, &out->bytes);
    if (error != 0) {
        problem(problems, out->name, 0, "cannot be read: %s", strerror(error));
        return false;
    }
    if (!segment_head_decode(buffer_slice(&out->bytes), &out->head)) {
        problem(problems, out->name, 0, "the header does not match its checksum");
        return false;
    }
    if (out->head.first_index != segment_file_name(name)) {
        problem(problems, out->name, 16, "the header belongs to another segment");
        return false;
    }
    if (take_footer(out))
        return true;
    if (last && out->head.last_index == 0)
        return scan(out, problems);
    problem(problems, out->name, out->bytes.length, "its footer is missing or broken");
    return false;
}

void segment_file_free(struct segment_file *file)
{
    buffer_free(&file->bytes);
    buffer_free(&file->payload);
    free(file->places);
    free(file->numbers);
    *file = (struct segment_file){0};
}

uint64_t segment_file_index(const struct segment_file *file, uint32_t slot)
{
    return file->head.first_index + (file->numbers != NULL ? file->numbers[slot] : slot);
}

uint64_t segment_file_last(const struct segment_file *file)
{
    return file->head.last_index > 0 ? file->head.last_index
                                     : file->head.first_index + file->count - 1;
}

bool segment_file_frame(struct segment_file *file, uint32_t slot, struct frame *frame,
                        struct slice *payload, struct problems *problems)
{
    uint32_t offset = file->places[slot].offset;
    struct slice at = slice_sub(buffer_slice(&file->bytes), offset);
    uint64_t index = segment_file_index(file, slot);
    *payload = (struct slice){0};
    if (!frame_head_decode(at, file->head.id, frame) || frame->index != index) {
        problem(problems, file->name, offset,
                "the header of entry %" PRIu64 " does not match its checksum", index);
        return false;
    }
    if (frame_block_count(frame->length) != file->places[slot].blocks) {
        problem(problems, file->name, offset,
                "entry %" PRIu64 " has another length than the footer says", index);
        return false;
    }
    if (frame_payload(at, frame, &file->payload, payload))
        return true;
    problem(problems, file->name, offset, "entry %" PRIu64 " does not match its checksum", index);
    return false;
}
