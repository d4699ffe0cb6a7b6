/* SPDX-License-Identifier: Apache-2.0 */
/*     OFFSET SIZE  MEANING (little-endian; file `owed`, 32 bytes)
 *     0      8     magic "MROWED01"
 *     8      8     index
 *     16     12    zero
 *     28     4     CRC-32C of bytes 0..27 */
#include "broker/log/owed.h"

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define OWED_NAME     "owed"
#define OWED_NEW_NAME "owed-new"

static const char magic[8] = {'M', 'R', 'O', 'W', 'E', 'D', '0', '1'};

void owed_encode(uint64_t index, uint8_t out[OWED_BYTES])
{
    memset(out, 0, OWED_BYTES);
    memcpy(out, magic, sizeof magic);
    bytes_put_u64(out + 8, index);
    bytes_put_u32(out + 28, crc32c(0, slice_make(out, 28)));
}

bool owed_decode(struct slice in, uint64_t *index)
{
    if (in.length != OWED_BYTES || memcmp(in.data, magic, sizeof magic) != 0 ||
        bytes_get_u32(in.data + 28) != crc32c(0, slice_make(in.data, 28)))
        return false;
    *index = bytes_get_u64(in.data + 8);
    return true;
}

uint64_t owed_load(int dir_fd)
{
    struct buffer file = {0};
    uint64_t index = 0;
    if (disk_read_file(dir_fd, OWED_NAME, &file) != 0 || !owed_decode(buffer_slice(&file), &index))
        index = 0;
    buffer_free(&file);
    return index;
}

int owed_store(const struct log_disk *disk, int dir_fd, uint64_t index)
{
    uint8_t bytes[OWED_BYTES];
    owed_encode(index, bytes);
    int fd = openat(dir_fd, OWED_NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int error = disk_write_bytes(disk, fd, slice_make(bytes, sizeof bytes), 0);
    if (error == 0)
        error = disk_sync(disk, fd);
    close(fd);
    return error != 0 ? error : disk_rename(disk, dir_fd, OWED_NEW_NAME, dir_fd, OWED_NAME);
}
