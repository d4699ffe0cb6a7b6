/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a snapshot: refused, or restored into a core that keeps every invariant, has a
 * snapshot of the same state, and goes on working as time passes. */
#include "broker/core/core.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
