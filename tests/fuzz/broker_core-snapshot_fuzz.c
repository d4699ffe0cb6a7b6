/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a snapshot: refused, or restored into a core that keeps every invariant, has a
 * snapshot of the same state, and goes on working as time passes. */
#include "broker/core/core.h"
#include "broker/core/place.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of each outbox the first message is refused, and the second has arrived. */
static void settle_outboxes(struct core *core, uint64_t *index)
{
    struct core_result result;
    for (uint32_t shard = 0; shard <= QUEUE_SHARDS_MAX; shard++) {
        const struct parcel *position = NULL;
        struct outbox_view view;
        if (!core_outbox_next(core, shard, &position, &view))
            continue;
        struct command refused = {.type = COMMAND_REFUSED,
                                  .refused = {shard, view.arrive.number, view.arrive.number}};
        core_begin(core, ++*index, core_now_ms(core));
        core_apply(core, &refused, (struct slice){0}, &result);
        core_check(core);
        position = NULL;
        if (!core_outbox_next(core, shard, &position, &view))
            continue;
        struct command departed = {.type = COMMAND_DEPARTED,
                                   .departed = {shard, view.arrive.number}};
        core_apply(core, &departed, (struct slice){0}, &result);
        core_check(core);
    }
}

/* Receive from every queue, and let all deadlines run. */
static void go_on(struct core *core)
{
    uint64_t index = core_applied_index(core);
    struct queue_view view = {0};
    struct core_result result;
    for (int i = 0; i < 4 && core_queue_next(core, view.name, &view); i++) {
        struct command receive = {.type = COMMAND_RECEIVE,
                                  .receive = {view.queue_id, 10, CORE_DEFAULT, 0, {0}}};
        core_begin(core, ++index, core_now_ms(core));
        core_apply(core, &receive, (struct slice){0}, &result);
        core_check(core);
        core_queue_by_id(core, receive.receive.queue_id, &view);
    }
    settle_outboxes(core, &index);
    uint64_t next_ms = core_next_deadline_ms(core);
    core_begin(core, ++index, next_ms == UINT64_MAX ? core_now_ms(core) : next_ms);
    core_check(core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct core *core = core_new(NULL);
    if (core_restore(core, slice_make(data, size)) == STATUS_OK) {
        struct core *copy = core_new(NULL);
        struct buffer bytes = {0};
        core_check(core);
        core_snapshot(core, &bytes);
        ASSERT(core_restore(copy, buffer_slice(&bytes)) == STATUS_OK);
        ASSERT(core_digest(copy) == core_digest(core));
        buffer_free(&bytes);
        core_free(copy);
        go_on(core);
    }
    core_free(core);
    return 0;
}
