/* SPDX-License-Identifier: Apache-2.0 */
/* Where redriven messages came from, and how often they had been received by then. This would cost
 * every message twelve bytes; so a message has two, which name a row here, and a row lives as long
 * as a message names it. Most queues that messages are redriven from have one row, since messages
 * go when they have been received as often as their queue allows; past 65,535 rows a message
 * forgets its source and its count, on every replica alike. */
#include "broker/core/state.h"

#include <stdlib.h>

static struct origin *row_find(const struct core *core, const struct origin_key *key)
{
    struct origin *origin;
    HASH_FIND(hh, core->origins, key, sizeof *key, origin);
    return origin;
}

/* The index of a new row, or 0. */
static uint32_t row_take(struct core *core)
{
    if (core->origin_rows == NULL) {
        core->origin_rows = calloc(ORIGIN_INDEX_MAX + 1, sizeof core->origin_rows[0]);
        ASSERT(core->origin_rows != NULL);
    }
    for (uint32_t i = 1; i <= core->origin_last; i++) {
        if (core->origin_rows[i] == NULL)
            return i;
    }
    return core->origin_last < ORIGIN_INDEX_MAX ? ++core->origin_last : 0;
}

uint32_t origin_ref(struct core *core, struct origin_key key)
{
    if (key.queue_id == 0)
        return 0;
    if (key.received > RECEIVED_BEFORE_MAX)
        key.received = RECEIVED_BEFORE_MAX;
    struct origin *origin = row_find(core, &key);
    if (origin == NULL) {
        uint32_t index = row_take(core);
        if (index == 0) {
            grave_run(core, UINT64_MAX); /* or replicas would differ in which rows are free */
            index = row_take(core);
        }
        if (index == 0)
            return 0;
        origin = calloc(1, sizeof *origin);
        ASSERT(origin != NULL);
        origin->key = key;
        origin->index = index;
        core->origin_rows[index] = origin;
        HASH_ADD(hh, core->origins, key, sizeof origin->key, origin);
    }
    origin->references++;
    return origin->index;
}

void origin_unref(struct core *core, uint32_t index)
{
    if (index == 0)
        return;
    struct origin *origin = core->origin_rows[index];
    ASSERT(origin->references > 0);
    if (--origin->references > 0)
        return;
    HASH_DELETE(hh, core->origins, origin);
    core->origin_rows[index] = NULL;
    free(origin);
}

struct origin_key origin_at(const struct core *core, uint32_t index)
{
    return index != 0 ? core->origin_rows[index]->key : (struct origin_key){0};
}

struct origin_key origin_of(const struct core *core, const struct message *message)
{
    return origin_at(core, message->origin);
}

void origins_free(struct core *core)
{
    HASH_CLEAR(hh, core->origins);
    for (uint32_t i = 1; i <= core->origin_last; i++)
        free(core->origin_rows[i]);
    free(core->origin_rows);
}
