/* SPDX-License-Identifier: Apache-2.0 */
/* Where redriven messages came from. A queue id would cost every message eight bytes; so a message
 * has two, which name a row here, and a row lives as long as a message names it. There are as many
 * rows as queues that messages were redriven from; past 65,535 of them a message forgets its
 * source, on every replica alike. */
#include "broker/core/state.h"

#include <stdlib.h>

static struct origin *row_find(const struct core *core, uint64_t queue_id)
{
    struct origin *origin;
    HASH_FIND(hh, core->origins_by_id, &queue_id, sizeof queue_id, origin);
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

uint32_t origin_ref(struct core *core, uint64_t queue_id)
{
    if (queue_id == 0)
        return 0;
    struct origin *origin = row_find(core, queue_id);
    if (origin == NULL) {
        uint32_t index = row_take(core);
        if (index == 0)
            return 0;
        origin = calloc(1, sizeof *origin);
        ASSERT(origin != NULL);
        origin->queue_id = queue_id;
        origin->index = index;
        core->origin_rows[index] = origin;
        HASH_ADD(hh, core->origins_by_id, queue_id, sizeof origin->queue_id, origin);
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
    HASH_DELETE(hh, core->origins_by_id, origin);
    core->origin_rows[index] = NULL;
    free(origin);
}

uint64_t origin_queue_id(const struct core *core, const struct message *message)
{
    return message->origin != 0 ? core->origin_rows[message->origin]->queue_id : 0;
}

void origins_free(struct core *core)
{
    HASH_CLEAR(hh, core->origins_by_id);
    for (uint32_t i = 1; i <= core->origin_last; i++)
        free(core->origin_rows[i]);
    free(core->origin_rows);
}
