/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of the last purges and deletions. It is bounded: when more than COOLDOWNS_MAX happen in a
 * minute the oldest is forgotten, which allows what AWS would refuse and breaks nothing. */
#include "broker/api/sqs/cooldown.h"

#include "broker/api/sqs/queue_name.h"
#include "proto/base/assert.h"

#include <stdlib.h>

#define COOLDOWNS_MAX 1024

struct cooldown {
    uint64_t until_ms;
    uint8_t kind; /* 0: free */
    uint8_t name_bytes;
    char name[QUEUE_KEY_BYTES_MAX];
};

struct cooldowns {
    struct cooldown rows[COOLDOWNS_MAX];
    size_t next;
};

struct cooldowns *cooldowns_new(void)
{
    struct cooldowns *cooldowns = calloc(1, sizeof *cooldowns);
    ASSERT(cooldowns != NULL);
    return cooldowns;
}

void cooldowns_free(struct cooldowns *cooldowns)
{
    free(cooldowns);
}

void cooldowns_begin(struct cooldowns *cooldowns, enum cooldown_kind kind, struct slice name,
                     uint64_t now_ms)
{
    ASSERT(name.length > 0 && name.length <= QUEUE_KEY_BYTES_MAX);
    struct cooldown *row = &cooldowns->rows[cooldowns->next++ % COOLDOWNS_MAX];
    row->kind = (uint8_t)kind;
    row->until_ms = now_ms + COOLDOWN_MS;
    row->name_bytes = (uint8_t)name.length;
    memcpy(row->name, name.data, name.length);
}

bool cooldowns_active(const struct cooldowns *cooldowns, enum cooldown_kind kind, struct slice name,
                      uint64_t now_ms)
{
    for (size_t i = 0; i < COOLDOWNS_MAX; i++) {
        const struct cooldown *row = &cooldowns->rows[i];
        if (row->kind == kind && row->until_ms > now_ms &&
            slice_equal(name, slice_make(row->name, row->name_bytes)))
            return true;
    }
    return false;
}
