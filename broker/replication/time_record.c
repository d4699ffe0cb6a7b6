/* SPDX-License-Identifier: Apache-2.0 */
/*     OFFSET SIZE  MEANING (little-endian; 64 bytes)
 *     0      8     magic "MRTIME01"
 *     8      36    boot id of the machine, as the kernel writes it
 *     44     8     term
 *     52     8     offset in milliseconds, signed
 *     60     4     CRC-32C of bytes 0..59
 *
 * Written in place: what a process has handed to the kernel is whole, and whatever a power failure
 * leaves has the boot id of the past. */
#include "broker/replication/time_record.h"

#include "broker/log/disk.h"
#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RECORD_NAME "clock"

static const char magic[8] = {'M', 'R', 'T', 'I', 'M', 'E', '0', '1'};

void time_record_encode(const struct time_record *record, uint8_t out[TIME_RECORD_BYTES])
{
    memcpy(out, magic, sizeof magic);
    memcpy(out + 8, record->boot_id, BOOT_ID_BYTES);
    bytes_put_u64(out + 44, record->term);
    bytes_put_u64(out + 52, (uint64_t)record->offset_ms);
    bytes_put_u32(out + 60, crc32c(0, slice_make(out, 60)));
}

bool time_record_decode(struct slice in, struct time_record *out)
{
    if (in.length != TIME_RECORD_BYTES || memcmp(in.data, magic, sizeof magic) != 0 ||
        bytes_get_u32(in.data + 60) != crc32c(0, slice_make(in.data, 60)))
        return false;
    memcpy(out->boot_id, in.data + 8, BOOT_ID_BYTES);
    out->term = bytes_get_u64(in.data + 44);
    out->offset_ms = (int64_t)bytes_get_u64(in.data + 52);
    return true;
}

static int open_dir(const char *dir)
{
    return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

bool time_record_load(const char *dir, struct time_record *out)
{
    char boot_id[BOOT_ID_BYTES];
    struct buffer file = {0};
    int dir_fd = open_dir(dir);
    bool good = dir_fd >= 0 && clock_boot_id(boot_id) &&
                disk_read_file(dir_fd, RECORD_NAME, &file) == 0 &&
                time_record_decode(buffer_slice(&file), out) &&
                memcmp(out->boot_id, boot_id, BOOT_ID_BYTES) == 0;
    buffer_free(&file);
    if (dir_fd >= 0)
        close(dir_fd);
    return good;
}

static int save(int dir_fd, const struct time_record *record)
{
    uint8_t bytes[TIME_RECORD_BYTES];
    time_record_encode(record, bytes);
    int fd = openat(dir_fd, RECORD_NAME, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int error = disk_write_bytes(&log_disk_real, fd, slice_make(bytes, sizeof bytes), 0);
    close(fd);
    return error;
}

void time_record_save(const char *dir, const struct time_record *record)
{
    int dir_fd = open_dir(dir);
    int error = dir_fd < 0 ? errno : save(dir_fd, record);
    if (dir_fd >= 0)
        close(dir_fd);
    if (error != 0)
        trace_warn("shard", "clock-not-saved", "dir=\"%s\" error=\"%s\"", dir, strerror(error));
}
