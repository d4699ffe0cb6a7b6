/* SPDX-License-Identifier: Apache-2.0 */
/* Moves of a queue's messages to another queue. */
#include "broker/core/state.h"

void move_start(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_move_start *start = &command->move_start;
    bool found = queue_find(core, start->source_queue_id) != NULL;
    result->code = found ? CORE_INVALID : CORE_NO_QUEUE;
}

void move_cancel(struct core *core, const struct command *command, struct core_result *result)
{
    (void)core, (void)command;
    result->code = CORE_NO_MOVE;
}

bool core_move_next(const struct core *core, uint64_t queue_id, size_t *position,
                    struct move_view *out)
{
    (void)core, (void)queue_id, (void)position, (void)out;
    return false;
}
