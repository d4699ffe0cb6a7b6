/* SPDX-License-Identifier: Apache-2.0 */
/* What leaves for another shard. A message that is redriven or moved to a queue of another shard
 * leaves its queue at once, for the outbox of that shard: no consumer can get it, and the queue
 * does not count it. A courier (broker/shards) gives it to the other shard (ARRIVE), which says
 * whether it took it, and tells us: DEPARTED, it is theirs; REFUSED, it goes back to its queue.
 *
 *     in its queue -- redrive, move --> in the outbox -- ARRIVE --> taken    -- DEPARTED --> gone
 *          ^                                              |
 *          +------------------ REFUSED ------------------ +-----> refused
 *
 *   X1  a message is in one place where it can be received, or in an outbox
 *   X2  it arrives once: its number is taken or refused by the other shard for good (arrive.c)
 *   X3  between two FIFO queues the messages of a group keep their order: the outbox is a list, and
 *       what is refused takes those that left the queue behind it back with it
 *   X4  what is refused comes back and is given out: marked, so that it does not leave again before
 *       (struct message, `stays`)
 *
 * Numbers grow and are never used twice, also not by a shard that was restored from a backup and
 * goes on from an older state: they follow core time. What follows a refusal in the outbox cannot
 * have been taken before that refusal is settled here, so it may be taken back or renumbered then.
 *
 * A message that comes back has the seq, the age and the counts that it had. If its queue is gone,
 * or was purged meanwhile, it is gone with the others. Retention stands still in an outbox. */
#include "broker/core/limits.h"
#include "broker/core/state.h"

#include <stdlib.h>

bool outbox_is_away(const struct core *core, uint32_t shard)
{
    return shard != core->shard && shard <= core->queue_shards;
}

/* ---- leaving ---- */

void outbox_add(struct core *core, uint32_t shard, const struct parcel *parcel)
{
    struct passage *passage = &core->passages[shard];
    struct parcel *added = calloc(1, sizeof *added);
    ASSERT(added != NULL);
    ASSERT(passage->parcels == NULL || passage->parcels->prev->number < parcel->number);
    *added = *parcel;
    added->destination_name = slice_own(parcel->destination_name);
    added->group = slice_own(parcel->group);
    DL_APPEND(passage->parcels, added);
    passage->count++;
    passage->number_last = parcel->number;
}

static uint64_t next_number(const struct core *core, const struct passage *passage)
{
    uint64_t by_time = core->now_ms << TRANSFER_SHIFT;
    return passage->number_last >= by_time ? passage->number_last + 1 : by_time;
}

/* `parcel` says where to. The message's body and the reference to its origin go with it. */
static void depart(struct core *core, struct queue *queue, uint32_t index, uint32_t shard,
                   struct parcel parcel)
{
    struct message *message = message_at(&core->messages, index);
    parcel.number = next_number(core, &core->passages[shard]);
    parcel.queue_id = queue->view.queue_id;
    parcel.fifo = queue->view.settings.fifo;
    parcel.seq = message->seq;
    parcel.sent_ms = message->sent_ms;
    parcel.body = message_body(message);
    parcel.receive_count = message->receive_count;
    parcel.first_receive_after_ms = message->first_receive_after_ms;
    parcel.group = group_id(group_of(core, message));
    parcel.origin = message->origin;
    outbox_add(core, shard, &parcel);
    message->origin = 0;
    queue_withdraw(core, queue, index);
    queue_unstore(core, queue, index);
    if (core->events.departs != NULL)
        core->events.departs(core->events.data, shard);
}

bool outbox_has_room(const struct core *core, uint32_t shard)
{
    return core->passages[shard].count < OUTBOX_REDRIVE_MAX;
}

void outbox_redrive(struct core *core, struct queue *queue, uint32_t index, uint32_t shard)
{
    depart(core, queue, index, shard,
           (struct parcel){.destination_name = queue->view.settings.dead_letter});
}

bool outbox_move(struct core *core, struct queue *queue, uint32_t index, uint64_t destination_id,
                 const uint8_t handle[UUID_BYTES])
{
    uint32_t shard = shard_of_queue_id(destination_id);
    struct parcel parcel = {.destination_id = destination_id};
    if (core->passages[shard].count >= OUTBOX_MOVE_MAX)
        return false;
    memcpy(parcel.move, handle, UUID_BYTES);
    depart(core, queue, index, shard, parcel);
    return true;
}

/* ---- taken, or refused ---- */

/* What is left of it is for the caller to free. */
static void take_out(struct passage *passage, struct parcel *parcel)
{
    DL_DELETE(passage->parcels, parcel);
    passage->count--;
}

static void parcel_free(struct parcel *parcel)
{
    slice_disown(&parcel->destination_name);
    slice_disown(&parcel->group);
    free(parcel);
}

static void tell_move(struct core *core, const struct parcel *parcel, bool arrived)
{
    struct queue *queue = queue_find(core, parcel->queue_id);
    if (queue != NULL && parcel->destination_id != 0)
        move_settled(core, queue, parcel->move, arrived);
}

static void forget(struct core *core, struct parcel *parcel)
{
    body_release(core, parcel->body);
    origin_unref(core, parcel->origin);
    parcel_free(parcel);
}

void message_departed(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_departed *departed = &command->departed;
    struct passage *passage = &core->passages[departed->destination_shard];
    (void)result;
    while (passage->parcels != NULL && passage->parcels->number <= departed->number) {
        struct parcel *parcel = passage->parcels;
        take_out(passage, parcel);
        tell_move(core, parcel, true);
        forget(core, parcel);
    }
}

/* Can it go back? A seq that is there twice is in a damaged snapshot only. */
static bool has_place(const struct core *core, const struct queue *queue,
                      const struct parcel *parcel)
{
    return queue != NULL && parcel->seq > queue->purged_seq &&
           queue->view.settings.fifo == parcel->fifo &&
           messages_find(&core->messages, queue->slot, parcel->seq) == MESSAGE_NONE;
}

/* Back into its queue; `near` as of queue_put_back. Returns its index, MESSAGE_NONE if its queue is
 * no more. */
static uint32_t give_back(struct core *core, struct parcel *parcel, uint32_t near)
{
    struct queue *queue = queue_find(core, parcel->queue_id);
    tell_move(core, parcel, false);
    if (!has_place(core, queue, parcel)) {
        forget(core, parcel);
        return MESSAGE_NONE;
    }
    uint32_t index = messages_take(&core->messages);
    struct message *message = message_at(&core->messages, index);
    message_place(message, queue->slot, parcel->seq, parcel->sent_ms, parcel->body);
    message->receive_count = parcel->receive_count;
    message->first_receive_after_ms = parcel->first_receive_after_ms;
    message->origin = parcel->origin & ORIGIN_INDEX_MAX;
    message->stays = 1;
    queue_put_back(core, queue, index, parcel->group, near);
    parcel_free(parcel);
    return index;
}

static void set_recalled(struct core *core, const struct parcel *parcels, uint64_t last, bool value)
{
    for (const struct parcel *at = parcels; at != NULL && at->number <= last; at = at->next) {
        struct queue *queue = at->fifo ? queue_find(core, at->queue_id) : NULL;
        if (queue != NULL)
            queue->recalled = value;
    }
}

/* Those that come back, the others stay in the passage with new numbers, in order: a number that
 * was taken back must not be between numbers that are still to come. */
static struct parcel *pick(struct core *core, struct passage *passage, uint64_t last)
{
    struct parcel *all = passage->parcels;
    struct parcel *picked = NULL;
    struct parcel *parcel;
    struct parcel *next;
    passage->parcels = NULL;
    DL_FOREACH_SAFE(all, parcel, next)
    {
        const struct queue *queue = parcel->fifo ? queue_find(core, parcel->queue_id) : NULL;
        DL_DELETE(all, parcel);
        if (parcel->number <= last || (queue != NULL && queue->recalled)) {
            DL_APPEND(picked, parcel);
            passage->count--;
        } else {
            parcel->number = next_number(core, passage);
            passage->number_last = parcel->number;
            DL_APPEND(passage->parcels, parcel);
        }
    }
    return picked;
}

/* The latest first, so that each finds its place in its group at once. */
static void give_back_all(struct core *core, struct parcel *picked)
{
    uint64_t queue_id = 0;
    uint32_t near = MESSAGE_NONE;
    while (picked != NULL) {
        struct parcel *parcel = picked->prev;
        DL_DELETE(picked, parcel);
        if (parcel->queue_id != queue_id)
            near = MESSAGE_NONE;
        queue_id = parcel->queue_id;
        uint32_t index = give_back(core, parcel, near);
        near = index != MESSAGE_NONE ? index : near;
    }
}

void message_refused(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_refused *refused = &command->refused;
    struct passage *passage = &core->passages[refused->destination_shard];
    const struct parcel *head = passage->parcels;
    if (head == NULL || head->number < refused->first || head->number > refused->last) {
        result->code = CORE_CONFLICT;
        return;
    }
    set_recalled(core, head, refused->last, true);
    struct parcel *picked = pick(core, passage, refused->last);
    set_recalled(core, picked, UINT64_MAX, false);
    give_back_all(core, picked);
}

void outboxes_free(struct core *core)
{
    for (size_t i = 0; i < ARRAY_COUNT(core->passages); i++) {
        struct passage *passage = &core->passages[i];
        while (passage->parcels != NULL) {
            struct parcel *parcel = passage->parcels;
            take_out(passage, parcel);
            parcel_free(parcel);
        }
    }
}

/* ---- reading ---- */

static uint32_t received_so_far(const struct core *core, const struct parcel *parcel)
{
    uint64_t received = origin_at(core, parcel->origin).received + parcel->receive_count;
    return received < RECEIVED_BEFORE_MAX ? (uint32_t)received : RECEIVED_BEFORE_MAX;
}

bool core_outbox_next(const struct core *core, uint32_t shard, const struct parcel **position,
                      struct outbox_view *out)
{
    if (shard > QUEUE_SHARDS_MAX)
        return false;
    const struct parcel *head = core->passages[shard].parcels;
    const struct parcel *parcel = *position == NULL ? head : (*position)->next;
    if (parcel == NULL)
        return false;
    bool redriven = parcel->destination_id == 0;
    *out = (struct outbox_view){
        .queue_id = parcel->queue_id, .seq = parcel->seq, .body = parcel->body};
    out->arrive = (struct command_arrive){
        .source_shard = core->shard,
        .number = parcel->number,
        .after = parcel == head ? parcel->number - 1 : parcel->prev->number,
        .settled = head->number - 1,
        .fifo = parcel->fifo,
        .destination_queue_id = parcel->destination_id,
        .destination_name = parcel->destination_name,
        .source_queue_id = redriven ? parcel->queue_id : 0,
        .received_before = redriven ? received_so_far(core, parcel) : 0,
        .sent_ms = redriven && !parcel->fifo ? parcel->sent_ms : 0,
    };
    *position = parcel;
    return true;
}

uint64_t core_outbox_count(const struct core *core, uint32_t shard)
{
    return shard <= QUEUE_SHARDS_MAX ? core->passages[shard].count : 0;
}
