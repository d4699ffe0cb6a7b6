/* SPDX-License-Identifier: Apache-2.0 */
/* Term and vote must be on disk before this node answers anyone (Raft, figure 2, "persistent
 * state"). Two files are written in turn, so that a write that tears leaves the one before it
 * whole. The one with the higher sequence number and a matching checksum counts.
 *
 *     OFFSET SIZE  MEANING (little-endian; files meta-1 and meta-2, 64 bytes each)
 *     0      8     magic "MRMETA01"
 *     8      4     format version of the whole folder, 1 or 2
 *     12     4     zero
 *     16     8     node id
 *     24     8     shard id
 *     32     8     term
 *     40     8     vote: the node voted for in this term, 0 = none
 *     48     8     sequence number of this write
 *     56     4     zero
 *     60     4     CRC-32C of bytes 0..59 */
#include "broker/log/meta.h"

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const char magic[8] = {'M', 'R', 'M', 'E', 'T', 'A', '0', '1'};
static const char *const names[2] = {"meta-1", "meta-2"};

void meta_encode(const struct log_meta *meta, uint8_t out[META_BYTES])
{
    memset(out, 0, META_BYTES);
    memcpy(out, magic, sizeof magic);
    bytes_put_u32(out + 8, META_FORMAT);
    bytes_put_u64(out + 16, meta->node_id);
    bytes_put_u64(out + 24, meta->shard_id);
    bytes_put_u64(out + 32, meta->term);
    bytes_put_u64(out + 40, meta->vote);
    bytes_put_u64(out + 48, meta->sequence);
    bytes_put_u32(out + 60, crc32c(0, slice_make(out, 60)));
}

static bool is_whole(struct slice in)
{
    return in.length == META_BYTES && memcmp(in.data, magic, sizeof magic) == 0 &&
           bytes_get_u32(in.data + 60) == crc32c(0, slice_make(in.data, 60));
}

bool meta_decode(struct slice in, struct log_meta *out)
{
    if (!is_whole(in))
        return false;
    uint32_t format = bytes_get_u32(in.data + 8);
    if (format == 0 || format > META_FORMAT)
        return false;
    *out = (struct log_meta){.node_id = bytes_get_u64(in.data + 16),
                             .shard_id = bytes_get_u64(in.data + 24),
                             .term = bytes_get_u64(in.data + 32),
                             .vote = bytes_get_u64(in.data + 40),
                             .sequence = bytes_get_u64(in.data + 48),
                             .format = format};
    return out->sequence > 0;
}

static enum status load_one(int dir_fd, const char *name, struct log_meta *newest, bool *exists)
{
    struct buffer file = {0};
    struct log_meta found;
    enum status status = STATUS_OK;
    int error = disk_read_file(dir_fd, name, &file);
    *exists = error != ENOENT;
    if (error != 0 && error != ENOENT)
        status = status_from_errno(error);
    else if (meta_decode(buffer_slice(&file), &found)) {
        if (found.sequence > newest->sequence)
            *newest = found;
    } else if (is_whole(buffer_slice(&file)))
        status = STATUS_UNSUPPORTED;
    buffer_free(&file);
    return status;
}

enum status meta_load(int dir_fd, struct log_meta *out)
{
    bool any = false;
    *out = (struct log_meta){0};
    for (int i = 0; i < 2; i++) {
        bool exists;
        enum status status = load_one(dir_fd, names[i], out, &exists);
        if (status != STATUS_OK)
            return status;
        any |= exists;
    }
    return any && out->sequence == 0 ? STATUS_CORRUPT : STATUS_OK;
}

int meta_store(const struct log_disk *disk, int dir_fd, struct log_meta *meta)
{
    uint8_t bytes[META_BYTES];
    struct log_meta next = *meta;
    next.sequence++;
    next.format = META_FORMAT;
    meta_encode(&next, bytes);
    int fd = openat(dir_fd, names[next.sequence % 2], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int error = disk_write_bytes(disk, fd, slice_make(bytes, sizeof bytes), 0);
    if (error == 0)
        error = disk_sync(disk, fd);
    if (error == 0 && next.sequence <= 2) /* the file may be new */
        error = disk_sync_whole(disk, dir_fd);
    close(fd);
    if (error == 0)
        *meta = next;
    return error;
}

bool meta_is_first(int dir_fd)
{
    int fd = openat(dir_fd, names[0], O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    close(fd);
    return false;
}

int meta_sync(const struct log_disk *disk, int dir_fd)
{
    int error = disk_sync_name(disk, dir_fd, names[0]);
    return error != 0 ? error : disk_sync_name(disk, dir_fd, names[1]);
}
