/* SPDX-License-Identifier: Apache-2.0 */
/* One snapshot is one file, written beside the others under a temporary name and renamed when it is
 * on disk, so that a name that ends in .snap is always a whole file (or a damaged one, never a
 * torn one).
 *
 *     OFFSET SIZE  MEANING (little-endian)
 *     0      8     magic "MRSNAP01"
 *     8      8     index and, at 16, term (8) of the last entry that it stands for
 *     24     8     index of the configuration
 *     32     4     length of the configuration, at most 64 KiB
 *     36     4     count of blocks
 *     40     8     length of the data, uncompressed
 *     48     4     zero
 *     52     4     CRC-32C of the configuration
 *     56     4     zero
 *     60     4     CRC-32C of bytes 0..59
 *     64     ...   configuration, then the blocks, then nothing
 * A block: u32 uncompressed length (1..256 KiB), u32 stored length, u32 CRC-32C of these eight
 * bytes and the stored bytes, then the stored bytes: LZ4, or as they are where the two lengths are
 * equal. */
#include "broker/log/snapshot_file.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HEAD_BYTES       SNAPSHOT_HEAD_BYTES
#define BLOCK_HEAD_BYTES 12u
#define CONFIG_BYTES_MAX (64u << 10)
#define TEMPORARY_NAME   "new.tmp"
#define SYNC_BYTES       (UINT64_C(1) << 20)
#define ACCELERATION     8 /* of LZ4: dedup ids take half the time of 1, and 1 % more bytes */

static const char magic[8] = {'M', 'R', 'S', 'N', 'A', 'P', '0', '1'};

void log_snapshot_free(struct log_snapshot *snapshot)
{
    buffer_free(&snapshot->config);
    buffer_free(&snapshot->data);
    *snapshot = (struct log_snapshot){0};
}

void snapshot_name(uint64_t index, char out[SNAPSHOT_NAME_BYTES])
{
    snprintf(out, SNAPSHOT_NAME_BYTES, "%020" PRIu64 ".snap", index);
}

uint64_t snapshot_name_parse(const char *name)
{
    char expected[SNAPSHOT_NAME_BYTES];
    uint64_t index = strtoull(name, NULL, 10);
    snapshot_name(index, expected);
    return strcmp(name, expected) == 0 ? index : 0;
}

/* ---- writing ---- */

int snapshot_create(int dir_fd)
{
    return openat(dir_fd, TEMPORARY_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

void snapshot_begin(struct snapshot_sink *sink, const struct log_disk *disk, int fd,
                    const struct log_snapshot *what)
{
    ASSERT(what->index > 0);
    ASSERT(what->config.length <= CONFIG_BYTES_MAX);
    *sink = (struct snapshot_sink){
        .disk = disk, .fd = fd, .what = what, .at = HEAD_BYTES + what->config.length};
    buffer_reserve(&sink->scratch,
                   BLOCK_HEAD_BYTES + (size_t)LZ4_compressBound(SNAPSHOT_BLOCK_BYTES));
}

/* encode_block: into the scratch buffer. */
static struct slice encode_block(struct snapshot_sink *sink, struct slice raw)
{
    int room = LZ4_compressBound((int)raw.length);
    uint8_t *out = buffer_reserve(&sink->scratch, BLOCK_HEAD_BYTES + (size_t)room);
    int stored = LZ4_compress_fast((const char *)raw.data, (char *)out + BLOCK_HEAD_BYTES,
                                   (int)raw.length, room, ACCELERATION);
    if (stored <= 0 || (size_t)stored >= raw.length) {
        memcpy(out + BLOCK_HEAD_BYTES, raw.data, raw.length);
        stored = (int)raw.length;
    }
    bytes_put_u32(out, (uint32_t)raw.length);
    bytes_put_u32(out + 4, (uint32_t)stored);
    uint32_t crc = crc32c(0, slice_make(out, 8));
    bytes_put_u32(out + 8, crc32c(crc, slice_make(out + BLOCK_HEAD_BYTES, (size_t)stored)));
    return slice_make(out, BLOCK_HEAD_BYTES + (size_t)stored);
}

/* spread: a little to the disk every now and then, for a long sync at the end would hold up those
 * of the log. */
static void spread(struct snapshot_sink *sink)
{
    if (sink->error != 0 || sink->at - sink->synced < SYNC_BYTES)
        return;
    sink->synced = sink->at;
    sink->error = disk_sync(sink->disk, sink->fd);
}

void snapshot_add(struct snapshot_sink *sink, struct slice data)
{
    while (data.length > 0 && sink->error == 0) {
        size_t length = data.length < SNAPSHOT_BLOCK_BYTES ? data.length : SNAPSHOT_BLOCK_BYTES;
        struct slice block = encode_block(sink, slice_make(data.data, length));
        sink->error = disk_write_bytes(sink->disk, sink->fd, block, sink->at);
        sink->at += block.length;
        sink->raw_bytes += length;
        sink->blocks++;
        data = slice_sub(data, length);
        spread(sink);
    }
}

static int write_head(const struct snapshot_sink *sink)
{
    const struct log_snapshot *what = sink->what;
    uint8_t head[HEAD_BYTES] = {0};
    memcpy(head, magic, sizeof magic);
    bytes_put_u64(head + 8, what->index);
    bytes_put_u64(head + 16, what->term);
    bytes_put_u64(head + 24, what->config_index);
    bytes_put_u32(head + 32, (uint32_t)what->config.length);
    bytes_put_u32(head + 36, sink->blocks);
    bytes_put_u64(head + 40, sink->raw_bytes);
    bytes_put_u32(head + 52, crc32c(0, buffer_slice(&what->config)));
    bytes_put_u32(head + 60, crc32c(0, slice_make(head, 60)));
    int error = disk_write_bytes(sink->disk, sink->fd, buffer_slice(&what->config), HEAD_BYTES);
    return error != 0 ? error
                      : disk_write_bytes(sink->disk, sink->fd, slice_make(head, sizeof head), 0);
}

int snapshot_end(struct snapshot_sink *sink)
{
    if (sink->error == 0)
        sink->error = write_head(sink);
    if (sink->error == 0)
        sink->error = disk_sync_whole(sink->disk, sink->fd);
    buffer_free(&sink->scratch);
    return sink->error;
}

int snapshot_publish(const struct log_disk *disk, int dir_fd, uint64_t index)
{
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_name(index, name);
    int error = disk_rename(disk, dir_fd, TEMPORARY_NAME, dir_fd, name);
    return error != 0 ? error : disk_sync_whole(disk, dir_fd);
}

void snapshot_discard(int dir_fd)
{
    unlinkat(dir_fd, TEMPORARY_NAME, 0);
}

/* ---- reading ---- */

static bool read_block(struct cursor *in, struct buffer *out, uint64_t raw_left)
{
    struct slice head = cursor_take(in, BLOCK_HEAD_BYTES);
    if (in->bad)
        return false;
    uint32_t raw = bytes_get_u32(head.data);
    uint32_t stored = bytes_get_u32(head.data + 4);
    struct slice bytes = cursor_take(in, stored);
    if (in->bad || raw == 0 || raw > SNAPSHOT_BLOCK_BYTES || raw > raw_left || stored > raw)
        return false;
    uint32_t crc = crc32c(0, slice_make(head.data, 8));
    if (crc32c(crc, bytes) != bytes_get_u32(head.data + 8))
        return false;
    uint8_t *to = buffer_reserve(out, raw);
    if (stored == raw)
        memcpy(to, bytes.data, raw);
    else if (LZ4_decompress_safe((const char *)bytes.data, (char *)to, (int)stored, (int)raw) !=
             (int)raw)
        return false;
    buffer_added(out, raw);
    return true;
}

static bool read_blocks(struct cursor *in, uint32_t count, uint64_t raw_bytes, struct buffer *out)
{
    if (count > cursor_left(in) / BLOCK_HEAD_BYTES ||
        raw_bytes > (uint64_t)count * SNAPSHOT_BLOCK_BYTES)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!read_block(in, out, raw_bytes - out->length))
            return false;
    }
    return out->length == raw_bytes && cursor_left(in) == 0;
}

bool snapshot_peek(struct slice head, struct log_snapshot *out)
{
    *out = (struct log_snapshot){0};
    if (head.length < HEAD_BYTES || memcmp(head.data, magic, sizeof magic) != 0 ||
        bytes_get_u32(head.data + 60) != crc32c(0, slice_make(head.data, 60)))
        return false;
    out->index = bytes_get_u64(head.data + 8);
    out->term = bytes_get_u64(head.data + 16);
    out->config_index = bytes_get_u64(head.data + 24);
    return out->index > 0;
}

enum status snapshot_decode(struct slice file, struct log_snapshot *out)
{
    struct cursor in = cursor_of(file);
    struct slice head = cursor_take(&in, HEAD_BYTES);
    if (!snapshot_peek(head, out))
        return STATUS_CORRUPT;
    struct slice config = cursor_take(&in, bytes_get_u32(head.data + 32));
    if (in.bad || config.length > CONFIG_BYTES_MAX ||
        crc32c(0, config) != bytes_get_u32(head.data + 52) ||
        !read_blocks(&in, bytes_get_u32(head.data + 36), bytes_get_u64(head.data + 40),
                     &out->data)) {
        log_snapshot_free(out);
        return STATUS_CORRUPT;
    }
    buffer_add_slice(&out->config, config);
    return STATUS_OK;
}
