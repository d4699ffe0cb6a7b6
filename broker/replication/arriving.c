/* SPDX-License-Identifier: Apache-2.0 */
/* What an entry that is being built gives to the receives that wait: messages that are sent, or
 * made visible again, and groups of a FIFO queue that have nothing in flight any more when their
 * last message is deleted. So a consumer that deletes and waits for more is given more by the
 * commit of its deletes.
 *
 * Deletes of one receive come together, and in its order, so it is enough to count those of one
 * group at a time; where groups alternate, the waiting receive is served after the commit instead
 * of in it. A delete that turns out not to be one, or comes twice, at worst costs a receive that
 * finds nothing and waits on. */
#include "broker/replication/internal.h"

uint64_t arriving_queue(const struct command *command)
{
    if (command->type == COMMAND_SEND)
        return command->send.queue_id;
    if (command->type == COMMAND_DELETE)
        return command->delete.queue_id;
    if (command->type == COMMAND_CHANGE_VISIBILITY && command->change_visibility.visibility_s == 0)
        return command->change_visibility.queue_id;
    return 0;
}

static void add_send(const struct core *core, const struct command_send *send, struct arriving *a)
{
    struct queue_view view;
    struct core_group group;
    uint32_t delay_s = send->delay_s;
    if (delay_s == CORE_DEFAULT && core_queue_by_id(core, send->queue_id, &view))
        delay_s = view.settings.delay_s;
    if (delay_s > 0)
        return;
    bool joins = core_group_of_send(core, send, &group);
    a->messages += !joins || group.in_flight == 0;
    a->groups += !joins; /* else it is offered already, or held up */
}

/* One message less of its group is in flight; `stays`: it will be visible. */
static void add_settled(const struct core *core, uint64_t queue_id, struct core_lease lease,
                        bool stays, struct arriving *a)
{
    struct core_group group;
    if (!core_group_of_lease(core, queue_id, lease, &group)) {
        a->messages += stays; /* of a standard queue */
        return;
    }
    if (group.number != a->group) {
        a->group = group.number;
        a->settled = a->staying = 0;
    }
    a->settled++;
    a->staying += stays;
    uint64_t left = (uint64_t)group.messages - group.in_flight + a->staying;
    if (a->settled == group.in_flight && left > 0) {
        a->messages += left;
        a->groups++;
    }
}

void arriving_add(const struct core *core, const struct command *command, struct arriving *a)
{
    uint64_t queue_id = arriving_queue(command);
    a->noted = true;
    if (command->type == COMMAND_SEND)
        add_send(core, &command->send, a);
    else if (command->type == COMMAND_DELETE)
        add_settled(core, queue_id, command->delete.lease, false, a);
    else
        add_settled(core, queue_id, command->change_visibility.lease, true, a);
}
