/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/set.h"

#include "proto/base/assert.h"

#include <stdlib.h>

/* ---- what is in it ---- */

void shard_set_add(struct shard_set *set, uint32_t shard)
{
    ASSERT(shard <= QUEUE_SHARDS_MAX);
    if (shard == 0)
        set->catalog = true;
    else
        set->queues |= UINT64_C(1) << (shard - 1);
}

void shard_set_add_name(struct shard_set *set, const struct shards *shards, struct slice name)
{
    shard_set_add(set, shards_id_of_name(shards, name));
}

void shard_set_add_queues(struct shard_set *set, const struct shards *shards)
{
    uint32_t total = shards_total(shards);
    if (total == 1)
        shard_set_add(set, 0);
    for (uint32_t shard = 1; shard < total; shard++)
        shard_set_add(set, shard);
}

bool shard_set_within(const struct shard_set *set, const struct shard_set *other)
{
    return (other->catalog || !set->catalog) && (set->queues & ~other->queues) == 0;
}

bool shard_set_has(const struct shard_set *set, uint32_t shard)
{
    return shard == 0 ? set->catalog : (set->queues >> (shard - 1) & 1) != 0;
}

bool shard_set_empty(const struct shard_set *set)
{
    return !set->catalog && set->queues == 0;
}

/* Move `*shard`, from 0, to the next one in the set, itself if it is; false at the end. */
static bool next(const struct shard_set *set, uint32_t *shard)
{
    if (*shard == 0 && set->catalog)
        return true;
    uint32_t bit = *shard > 0 ? *shard - 1 : 0;
    uint64_t rest = bit < 64 ? set->queues >> bit : 0;
    if (rest == 0)
        return false;
    *shard = 1 + bit + (uint32_t)__builtin_ctzll(rest);
    return true;
}

/* ---- how they are ---- */

struct shard_set shard_set_here(const struct shard_set *set, const struct shards *shards)
{
    struct shard_set here = {0};
    for (uint32_t id = 0; next(set, &id); id++) {
        if (shards_at(shards, id) != NULL)
            shard_set_add(&here, id);
    }
    return here;
}

struct shard_set shard_set_elsewhere(const struct shard_set *set, const struct shards *shards)
{
    struct shard_set here = shard_set_here(set, shards);
    return (struct shard_set){.catalog = set->catalog && !here.catalog,
                              .queues = set->queues & ~here.queues};
}

bool shard_set_ready(const struct shard_set *set, const struct shards *shards)
{
    bool ready = true;
    for (uint32_t id = 0; ready && next(set, &id); id++) {
        const struct shard *shard = shards_at(shards, id);
        ready = shard != NULL && shard_ready(shard);
    }
    return ready;
}

bool shard_set_led(const struct shard_set *set, const struct shards *shards)
{
    bool led = true;
    for (uint32_t id = 0; led && next(set, &id); id++) {
        const struct shard *shard = shards_at(shards, id);
        led = shard != NULL && shard_leads(shard);
    }
    return led;
}

/* ---- seeing what others have written ---- */

struct syncing {
    shard_set_sync_cb done;
    void *data;
    enum status status;
    uint32_t left;
    struct shard_sync parts[];
};

static void on_synced(struct shard_sync *part, enum status status)
{
    struct syncing *syncing = part->data;
    if (status != STATUS_OK)
        syncing->status = status;
    if (--syncing->left > 0)
        return;
    syncing->done(syncing->data, syncing->status);
    free(syncing);
}

/* Those to be asked. *status: NOT_LEADER when one is not open. */
static uint32_t to_ask(const struct shard_set *set, const struct shards *shards,
                       struct shard *list[1 + QUEUE_SHARDS_MAX], enum status *status)
{
    uint32_t count = 0;
    *status = STATUS_OK;
    for (uint32_t id = 0; next(set, &id); id++) {
        struct shard *shard = shards_at(shards, id);
        if (shard == NULL)
            *status = STATUS_NOT_LEADER;
        else if (!shard_leads(shard))
            list[count++] = shard;
    }
    return count;
}

bool shard_set_sync(const struct shard_set *set, const struct shards *shards, uint64_t since_ms,
                    shard_set_sync_cb done, void *data)
{
    struct shard *list[1 + QUEUE_SHARDS_MAX];
    enum status status;
    uint32_t count = to_ask(set, shards, list, &status);
    if (count == 0)
        return false;
    struct syncing *syncing = calloc(1, sizeof *syncing + count * sizeof syncing->parts[0]);
    ASSERT(syncing != NULL);
    *syncing = (struct syncing){.done = done, .data = data, .status = status, .left = count};
    for (uint32_t i = 0; i < count; i++) {
        syncing->parts[i] =
            (struct shard_sync){.done = on_synced, .data = syncing, .since_ms = since_ms};
        shard_sync(list[i], &syncing->parts[i]);
    }
    return true;
}
