/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching what commands will look up while those before them are applied. Tables of many messages
 * are in no cache, and waiting for them was half of what a message to a FIFO queue cost. A look-up
 * is a chain - hashes, group, the group's last message - of which each link says where the next one
 * is. So each command is looked at several times before its turn, once for each command that is
 * applied meanwhile, and goes one link further each time.
 *
 * Nothing here changes the state, or has to be right: commands in between may make the queue or
 * take the group away. What it keeps are indexes, never pointers, and they are looked at again each
 * time. Only the hashes are used when the command is applied, and they are a function of the
 * command's bytes, the key and a setting, which stand with them (send_hashes).
 *
 * The tables only say where they will look: gcc takes a function that does nothing but prefetch for
 * one that does nothing, and drops it. */
#include "broker/core/foresee.h"

#include "broker/core/record.h"
#include "broker/core/state.h"

#define LINE_BYTES    64u
#define PLACE_LINES   3u /* of a table of hashes, behind a home: 24 places */
#define COMMAND_LINES 3u /* of a SEND: up to the ids in its record */

void foresight_begin(struct foresight *foresight)
{
    foresight->first = 0;
    foresight->count = 0;
    foresight->queue_id = 0;
    foresight->found_queue_id = 0;
    foresight->found_slot = 0;
}

static inline __attribute__((always_inline)) void fetch_message(const struct core *core,
                                                                uint32_t index)
{
    if (index >= core->messages.slab_count << SLAB_SHIFT)
        return; /* none, or a mark of the lanes */
    const struct message *message = message_at(&core->messages, index);
    __builtin_prefetch(message, 1);
    __builtin_prefetch((const uint8_t *)(message + 1) - 1, 1);
}

static inline __attribute__((always_inline)) void fetch_group(const struct group *group)
{
    __builtin_prefetch(group, 1);
    __builtin_prefetch(group->id, 1);
}

static const struct queue *queue_at(const struct core *core, uint32_t slot)
{
    return slot < core->queue_slots ? core->queues[slot] : NULL;
}

static const struct group *group_at(const struct core *core, uint32_t index)
{
    return index < core->group_count ? core->groups[index] : NULL;
}

/* ---- the queue: its place in the table; the queue itself ---- */

static inline __attribute__((always_inline)) void fetch_queue(const struct core *core,
                                                              uint32_t slot)
{
    const uint8_t *queue = (const uint8_t *)queue_at(core, slot);
    for (uint32_t at = 0; queue != NULL && at < sizeof(struct queue); at += LINE_BYTES)
        __builtin_prefetch(queue + at, 1);
}

/* Mostly it is that of the command before. */
static void queue_begin(struct foresight *foresight, const struct core *core, struct foreseen *f)
{
    if (foresight->found_queue_id != f->queue_id) {
        foresight->found_queue_id = f->queue_id;
        if (!queue_slot(core, f->queue_id, &foresight->found_slot))
            foresight->found_slot = UINT32_MAX;
        fetch_queue(core, foresight->found_slot);
    }
    f->queue_slot = foresight->found_slot;
}

/* The queue, unless it is another one that is in its slot now. */
static const struct queue *queue_of(const struct core *core, const struct foreseen *f)
{
    const struct queue *queue = queue_at(core, f->queue_slot);
    return queue != NULL && queue->view.queue_id == f->queue_id ? queue : NULL;
}

/* ---- SEND to a standard queue: the message before it, and its own place in the map. Where the
 * command before is of the same queue, messages_map has seen to both. ---- */

static void store_begin(const struct core *core, const struct queue *queue)
{
    fetch_message(core, queue->age.last);
    __builtin_prefetch(messages_part(&core->messages, queue->slot, queue->seq_last + 1), 1);
}

static void store_fetch(const struct core *core, const struct queue *queue)
{
    __builtin_prefetch(messages_place(&core->messages, queue->slot, queue->seq_last + 1), 1);
}

/* ---- SEND to a FIFO queue: hashes; the group's number; the group; its last message ---- */

static void send_hash(const struct core *core, const struct queue *queue, struct foreseen *f)
{
    struct record_ids ids;
    if (!record_read_ids(f->command.send.record, &ids) || ids.group_id.length == 0)
        return;
    f->hashes.key = core_hash_key(core);
    f->hashes.dedup_per_group = queue->view.settings.dedup_per_group;
    f->hashes.dedup = dedup_hash(f->hashes.key, f->hashes.dedup_per_group, &ids);
    f->hashes.group = group_hash(f->hashes.key, ids.group_id);
    f->command.hashes = &f->hashes;
    const uint8_t *place = hashes_place(&queue->dedups.places, f->hashes.dedup);
    for (uint32_t i = 0; i < PLACE_LINES; i++)
        __builtin_prefetch(place + i * LINE_BYTES, 1);
    __builtin_prefetch(hashes_place(&queue->groups.by_id, f->hashes.group));
}

static void send_fetch(const struct core *core, struct foreseen *f, uint32_t step)
{
    const struct queue *queue = queue_of(core, f);
    const struct group *group = step > 1 ? group_at(core, f->index) : NULL;
    if (step == 1 && queue != NULL && !queue->view.settings.fifo) {
        if (f->apart)
            store_fetch(core, queue);
    } else if (step == 1 && queue != NULL) {
        struct hashes_walk walk = hashes_begin(&queue->groups.by_id, f->hashes.group);
        if (hashes_next(&walk, &f->index) && f->index < core->group_count)
            __builtin_prefetch(&core->groups[f->index]);
        else
            f->index = 0; /* no group */
    } else if (step == 2 && group != NULL) {
        fetch_group(group);
    } else if (step == 3 && group != NULL) {
        fetch_message(core, group->lane.last);
    }
}

/* ---- DELETE, CHANGE_VISIBILITY: the message's number; the message; its neighbours and group ----
 */

static void lease_begin(const struct core *core, const struct queue *queue, uint64_t seq)
{
    __builtin_prefetch(messages_place(&core->messages, queue->slot, seq), 1);
}

static void lease_fetch(const struct core *core, struct foreseen *f, uint64_t seq, uint32_t step)
{
    if (step == 1) {
        const uint32_t *place = messages_place(&core->messages, f->queue_slot, seq);
        f->index = place != NULL ? *place : MESSAGE_NONE;
        fetch_message(core, f->index);
        return;
    }
    if (f->index >= core->messages.slab_count << SLAB_SHIFT)
        return;
    const struct message *message = message_at(&core->messages, f->index);
    const struct group *group = group_at(core, message->group);
    if (step == 2) {
        fetch_message(core, message->age.previous);
        fetch_message(core, message->age.next);
        if (message->deadline_at < core->deadlines.count)
            __builtin_prefetch(&core->deadlines.entries[message->deadline_at], 1);
        if (group != NULL)
            fetch_group(group);
    } else if (step == 3 && group != NULL) {
        fetch_message(core, message->ready.previous);
        fetch_message(core, message->ready.next);
    }
}

/* ---- RECEIVE from a FIFO queue: the group that comes next; its first message ---- */

static void receive_fetch(const struct core *core, const struct foreseen *f, uint32_t step)
{
    const struct queue *queue = queue_at(core, f->queue_slot);
    const struct group *group = queue != NULL ? group_offered(core, queue) : NULL;
    if (group == NULL)
        return;
    if (step == 2)
        fetch_group(group);
    else if (step == 3)
        fetch_message(core, group->lane.first);
}

/* ---- commands ---- */

/* Of a command that fetching helps; else 0, which no queue has. */
static uint64_t queue_id_of(const struct command *command)
{
    switch (command->type) {
    case COMMAND_SEND:
        return command->send.queue_id;
    case COMMAND_RECEIVE:
        return command->receive.queue_id;
    case COMMAND_DELETE:
        return command->delete.queue_id;
    case COMMAND_CHANGE_VISIBILITY:
        return command->change_visibility.queue_id;
    default:
        return 0;
    }
}

/* Step 0. */
static void begin(struct foresight *foresight, const struct core *core, struct foreseen *f)
{
    f->queue_id = queue_id_of(&f->command);
    f->queue_slot = UINT32_MAX;
    f->index = 0;
    if (f->queue_id == 0)
        return;
    f->apart = f->queue_id != foresight->queue_id;
    foresight->queue_id = f->queue_id;
    if (f->apart)
        __builtin_prefetch(queue_place(core, f->queue_id));
}

/* What is known with the queue. */
static void look(const struct core *core, struct foreseen *f)
{
    const struct command *command = &f->command;
    const struct queue *queue = queue_of(core, f);
    if (queue == NULL)
        return;
    if (command->type == COMMAND_SEND && queue->view.settings.fifo)
        send_hash(core, queue, f);
    else if (command->type == COMMAND_SEND && f->apart)
        store_begin(core, queue);
    else if (command->type == COMMAND_DELETE)
        lease_begin(core, queue, command->delete.lease.seq);
    else if (command->type == COMMAND_CHANGE_VISIBILITY)
        lease_begin(core, queue, command->change_visibility.lease.seq);
}

/* follow: the links behind the queue. */
static void follow(const struct core *core, struct foreseen *f, uint32_t step)
{
    if (f->command.type == COMMAND_SEND)
        send_fetch(core, f, step);
    else if (f->command.type == COMMAND_DELETE)
        lease_fetch(core, f, f->command.delete.lease.seq, step);
    else if (f->command.type == COMMAND_CHANGE_VISIBILITY)
        lease_fetch(core, f, f->command.change_visibility.lease.seq, step);
    else
        receive_fetch(core, f, step);
}

static void fetch(struct foresight *foresight, const struct core *core, struct foreseen *f,
                  uint32_t step)
{
    if (f->queue_id == 0)
        return;
    if (step == 1)
        queue_begin(foresight, core, f);
    else if (step == 2)
        look(core, f);
    else
        follow(core, f, step - 2);
}

static struct foreseen *at(struct foresight *foresight, uint32_t i)
{
    return &foresight->ring[(foresight->first + i) % FORESIGHT_ROOM];
}

/* The one behind those that are foreseen. What follows it is needed next time. */
static bool decode_one(struct foresight *foresight, struct cursor in)
{
    struct foreseen *f = at(foresight, foresight->count);
    f->at = in.at;
    if (command_decode(&in, &f->command) != STATUS_OK)
        return false;
    f->behind = in;
    for (uint32_t i = 0; i < COMMAND_LINES; i++)
        __builtin_prefetch(in.at + i * LINE_BYTES);
    foresight->count++;
    return true;
}

/* Each of those that are foreseen goes a step further, and one more joins them. */
static void look_ahead(struct foresight *foresight, const struct core *core, struct cursor behind)
{
    for (uint32_t i = 0; i < foresight->count; i++)
        fetch(foresight, core, at(foresight, i), FORESIGHT_DEPTH - 1 - i);
    while (foresight->count < FORESIGHT_DEPTH) {
        if (foresight->count > 0)
            behind = at(foresight, foresight->count - 1)->behind;
        if (cursor_left(&behind) == 0 || !decode_one(foresight, behind))
            return;
        begin(foresight, core, at(foresight, foresight->count - 1));
    }
}

const struct command *foresight_next(struct foresight *foresight, const struct core *core,
                                     struct cursor *in)
{
    if (foresight->count == 0 || at(foresight, 0)->at != in->at) {
        foresight->count = 0;
        if (!decode_one(foresight, *in))
            return NULL;
    }
    const struct foreseen *now = at(foresight, 0);
    *in = now->behind;
    foresight->first++;
    foresight->count--;
    look_ahead(foresight, core, *in);
    return &now->command;
}
