/* SPDX-License-Identifier: Apache-2.0 */
/*     OFFSET SIZE  MEANING (little-endian; 32 bytes)
 *     0      8     magic "MRPROM01"
 *     8      8     term of the last entry
 *     16     8     its index
 *     24     4     zero
 *     28     4     CRC-32C of bytes 0..27 */
#include "broker/replication/promise.h"

#include "broker/log/disk.h"
#include "broker/log/meta.h"
#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = {'M', 'R', 'P', 'R', 'O', 'M', '0', '1'};

void promise_encode(const struct shard_end *end, uint8_t out[PROMISE_BYTES])
{
    memset(out, 0, PROMISE_BYTES);
    memcpy(out, magic, sizeof magic);
    bytes_put_u64(out + 8, end->term);
    bytes_put_u64(out + 16, end->index);
    bytes_put_u32(out + 28, crc32c(0, slice_make(out, 28)));
}

bool promise_decode(struct slice in, struct shard_end *out)
{
    if (in.length != PROMISE_BYTES || memcmp(in.data, magic, sizeof magic) != 0 ||
        bytes_get_u32(in.data + 28) != crc32c(0, slice_make(in.data, 28)))
        return false;
    *out = (struct shard_end){.term = bytes_get_u64(in.data + 8),
                              .index = bytes_get_u64(in.data + 16)};
    return true;
}

bool promise_allows(const struct shard_end *promised, const struct shard_end *end)
{
    return end->term > promised->term ||
           (end->term == promised->term && end->index >= promised->index);
}

static int open_dir(const char *dir)
{
    return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static enum status load_at(int dir_fd, struct shard_end *out)
{
    struct buffer bytes = {0};
    *out = (struct shard_end){0};
    int error = disk_read_file(dir_fd, PROMISE_NAME, &bytes);
    enum status status = error == ENOENT ? STATUS_NOT_FOUND : status_from_errno(error);
    if (error == 0 && !promise_decode(buffer_slice(&bytes), out))
        status = STATUS_CORRUPT;
    buffer_free(&bytes);
    return status;
}

enum status promise_load(const char *dir, struct shard_end *out)
{
    *out = (struct shard_end){0};
    int fd = open_dir(dir);
    if (fd < 0)
        return errno == ENOENT ? STATUS_NOT_FOUND : status_from_errno(errno);
    enum status status = load_at(fd, out);
    close(fd);
    return status;
}

static int store_at(int dir_fd, const struct shard_end *end)
{
    uint8_t bytes[PROMISE_BYTES];
    promise_encode(end, bytes);
    int fd = openat(dir_fd, PROMISE_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int error = disk_write_bytes(&log_disk_real, fd, slice_make(bytes, sizeof bytes), 0);
    if (error == 0)
        error = disk_sync_whole(&log_disk_real, fd);
    close(fd);
    return error;
}

/* Of an attempt before. */
static void clear(int dir_fd)
{
    static const char *const names[] = {PROMISE_NAME, "meta-1", "meta-2"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlinkat(dir_fd, names[i], 0);
}

static int carry(int from_fd, int to_fd, const struct shard_end *end)
{
    struct log_meta meta;
    struct shard_end before;
    enum status status = load_at(from_fd, &before);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND)
        return EIO;
    if (meta_load(from_fd, &meta) != STATUS_OK)
        return EIO;
    clear(to_fd);
    meta.sequence = 0;
    int error = meta_store(&log_disk_real, to_fd, &meta);
    if (error == 0)
        error = store_at(to_fd, promise_allows(&before, end) ? end : &before);
    return error == 0 ? disk_sync_whole(&log_disk_real, to_fd) : error;
}

int promise_keep(const char *from, const char *to, const struct shard_end *end)
{
    if (mkdir(to, 0700) != 0 && errno != EEXIST)
        return errno;
    int from_fd = open_dir(from);
    int to_fd = from_fd >= 0 ? open_dir(to) : -1;
    int error = to_fd >= 0 ? carry(from_fd, to_fd, end) : errno;
    if (from_fd >= 0)
        close(from_fd);
    if (to_fd >= 0)
        close(to_fd);
    return error == 0 ? disk_sync_parent(&log_disk_real, to) : error;
}
