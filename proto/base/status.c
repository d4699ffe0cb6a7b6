/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/status.h"

#include "proto/base/assert.h"

#include <errno.h>
#include <stddef.h>

static const struct {
    const char *name;
    const char *text;
} rows[] = {
#define STATUS(name, text) [STATUS_##name] = {#name, text},
#include "proto/base/status.def"
#undef STATUS
};

const char *status_text(enum status status)
{
    ASSERT((size_t)status < ARRAY_COUNT(rows));
    return rows[status].text;
}

const char *status_name(enum status status)
{
    ASSERT((size_t)status < ARRAY_COUNT(rows));
    return rows[status].name;
}

enum status status_from_errno(int error)
{
    switch (error < 0 ? -error : error) {
    case 0:
        return STATUS_OK;
    case ENOMEM:
        return STATUS_NO_MEMORY;
    case ENOENT:
        return STATUS_NOT_FOUND;
    case EEXIST:
        return STATUS_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return STATUS_DISK_FULL;
    case EACCES:
    case EPERM:
    case EROFS:
        return STATUS_PERMISSION;
    case ETIMEDOUT:
        return STATUS_TIMEOUT;
    case ECANCELED:
        return STATUS_CANCELLED;
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
    case ENOTCONN:
        return STATUS_CLOSED;
    case EINVAL:
        return STATUS_INVALID;
    case EAGAIN:
    case EBUSY:
        return STATUS_BUSY;
    default:
        return STATUS_IO_ERROR;
    }
}
