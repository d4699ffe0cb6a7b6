/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/outbox/ghost.h"

#include "broker/core/record.h"
#include "proto/base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

#define TEXT 64

/* One body in one shard: a message that is, or was, in that shard. */
struct copy {
    struct copy_key {
        uint64_t index;
        uint32_t offset;
        uint32_t shard;
    } key;
    struct fate *fate;
    bool held;
    bool held_before;  /* while its shard restarts */
    bool outside;      /* in the outbox */
    bool spent;        /* in the outbox, and taken by the other side */
    bool orphan;       /* in the outbox, and its queue was deleted or purged since */
    uint64_t seen;     /* the look at the outbox that saw it */
    uint64_t queue_id; /* in the outbox: that it left, its place there, and where it goes */
    uint64_t seq;
    char target[TEXT];
    struct copy *next; /* of the same message */
    UT_hash_handle hh;
};

struct fate {
    uint64_t number;
    bool gone;
    char group[TEXT];
    char refused_by[TEXT]; /* since it arrived last; empty = none */
    bool refused_by_two;
    struct copy *copies;
    UT_hash_handle hh;
};

/* What arrived last from one queue in another, of one group. */
struct order {
    char key[3 * TEXT];
    uint64_t seq;
    UT_hash_handle hh;
};

struct named {
    uint64_t queue_id;
    char name[TEXT];
    UT_hash_handle hh;
};

struct ghost {
    struct side {
        struct ghost *ghost;
        uint32_t shard;
        struct buffer *payloads; /* by index less one */
        size_t payload_count;
        struct copy **outside; /* as of the last look */
        size_t outside_count;
    } sides[SHARDS + 1];
    struct copy *copies;
    struct fate *fates;
    struct order *orders;
    struct named *names;
    uint64_t looks;
    uint64_t alive;
    uint64_t hops;
    struct copy *touched[100000]; /* by this command */
    size_t touched_count;
    uint64_t leaving;   /* how many messages this command may take away with a queue */
    uint64_t deleted;   /* number of the message that it may delete; 0 = none */
    struct copy *taken; /* that it made */
};

struct ghost *ghost_new(void)
{
    struct ghost *ghost = calloc(1, sizeof *ghost);
    ASSERT(ghost != NULL);
    for (uint32_t i = 0; i <= SHARDS; i++)
        ghost->sides[i] = (struct side){.ghost = ghost, .shard = i};
    return ghost;
}

#define FREE_ALL(type, table)                                                                      \
    do {                                                                                           \
        struct type *at;                                                                           \
        struct type *next_one;                                                                     \
        HASH_ITER(hh, table, at, next_one)                                                         \
        {                                                                                          \
            HASH_DEL(table, at);                                                                   \
            free(at);                                                                              \
        }                                                                                          \
    } while (0)

void ghost_free(struct ghost *ghost)
{
    FREE_ALL(copy, ghost->copies);
    FREE_ALL(fate, ghost->fates);
    FREE_ALL(order, ghost->orders);
    FREE_ALL(named, ghost->names);
    for (uint32_t i = 0; i <= SHARDS; i++) {
        struct side *side = &ghost->sides[i];
        for (size_t j = 0; j < side->payload_count; j++)
            buffer_free(&side->payloads[j]);
        free(side->payloads);
        free(side->outside);
    }
    free(ghost);
}

uint64_t ghost_alive(const struct ghost *ghost)
{
    return ghost->alive;
}

uint64_t ghost_hops(const struct ghost *ghost)
{
    return ghost->hops;
}

/* ---- bytes ---- */

void ghost_entry(struct ghost *ghost, uint32_t shard, struct slice payload)
{
    struct side *side = &ghost->sides[shard];
    if ((side->payload_count & (side->payload_count - 1)) == 0) {
        size_t capacity = side->payload_count == 0 ? 1 : side->payload_count * 2;
        side->payloads = realloc(side->payloads, capacity * sizeof side->payloads[0]);
        ASSERT(side->payloads != NULL);
    }
    side->payloads[side->payload_count] = (struct buffer){0};
    buffer_add_slice(&side->payloads[side->payload_count++], payload);
}

struct slice ghost_payload(const struct ghost *ghost, uint32_t shard, uint64_t index)
{
    ASSERT(index <= ghost->sides[shard].payload_count);
    return buffer_slice(&ghost->sides[shard].payloads[index - 1]);
}

struct slice ghost_body(const struct ghost *ghost, uint32_t shard, struct body_ref ref)
{
    struct slice payload = ghost_payload(ghost, shard, ref.index);
    ASSERT(ref.offset + ref.length <= payload.length);
    return slice_make(payload.data + ref.offset, ref.length);
}

/* ---- what there is ---- */

static struct copy *copy_find(const struct ghost *ghost, uint32_t shard, struct body_ref ref)
{
    struct copy_key key = {ref.index, ref.offset, shard};
    struct copy *copy;
    HASH_FIND(hh, ghost->copies, &key, sizeof key, copy);
    return copy;
}

static struct fate *fate_of(struct ghost *ghost, struct slice record)
{
    struct record read;
    struct fate *fate;
    ASSERT(record_decode(record, &read) == STATUS_OK);
    uint64_t number = bytes_get_u64(read.message_id);
    HASH_FIND(hh, ghost->fates, &number, sizeof number, fate);
    if (fate != NULL)
        return fate;
    fate = calloc(1, sizeof *fate);
    ASSERT(fate != NULL);
    fate->number = number;
    snprintf(fate->group, TEXT, "%.*s", SLICE_ARGS(read.group_id));
    HASH_ADD(hh, ghost->fates, number, sizeof fate->number, fate);
    ghost->alive++;
    return fate;
}

static void touch(struct ghost *ghost, struct copy *copy)
{
    ASSERT(ghost->touched_count < ARRAY_COUNT(ghost->touched));
    ghost->touched[ghost->touched_count++] = copy;
}

static void on_hold(void *data, struct body_ref ref)
{
    struct side *side = data;
    struct ghost *ghost = side->ghost;
    struct copy *copy = copy_find(ghost, side->shard, ref);
    if (copy == NULL) {
        copy = calloc(1, sizeof *copy);
        ASSERT(copy != NULL);
        copy->key = (struct copy_key){ref.index, ref.offset, side->shard};
        copy->fate = fate_of(ghost, ghost_body(ghost, side->shard, ref));
        LL_PREPEND(copy->fate->copies, copy);
        HASH_ADD(hh, ghost->copies, key, sizeof copy->key, copy);
        ghost->taken = copy;
    }
    copy->held = true;
    touch(ghost, copy);
}

static void on_release(void *data, struct body_ref ref)
{
    struct side *side = data;
    struct copy *copy = copy_find(side->ghost, side->shard, ref);
    if (copy == NULL || !copy->held)
        sim_fail("X1: a body is released that is not held");
    copy->held = false;
    touch(side->ghost, copy);
}

struct core_events ghost_events(struct ghost *ghost, uint32_t shard)
{
    return (struct core_events){
        .data = &ghost->sides[shard], .body_hold = on_hold, .body_release = on_release};
}

void ghost_restart(struct ghost *ghost, uint32_t shard)
{
    for (struct copy *copy = ghost->copies; copy != NULL; copy = copy->hh.next) {
        if (copy->key.shard != shard)
            continue;
        copy->held_before = copy->held;
        copy->held = false;
    }
}

void ghost_restarted(struct ghost *ghost, uint32_t shard)
{
    for (struct copy *copy = ghost->copies; copy != NULL; copy = copy->hh.next) {
        if (copy->key.shard == shard && copy->held != copy->held_before)
            sim_fail("X1: message %llu is not the same in the snapshot",
                     (unsigned long long)copy->fate->number);
    }
    ghost->touched_count = 0;
}

static const char *name_of(const struct ghost *ghost, uint64_t queue_id)
{
    struct named *named;
    HASH_FIND(hh, ghost->names, &queue_id, sizeof queue_id, named);
    return named != NULL ? named->name : "?";
}

/* ---- before a command ---- */

static uint64_t queue_size(const struct core *core, uint64_t queue_id)
{
    struct queue_view view;
    if (!core_queue_by_id(core, queue_id, &view))
        return 0;
    return view.visible + view.delayed + view.in_flight;
}

/* The queue's messages go, those outside too if they come back. */
static void before_removal(struct ghost *ghost, uint32_t shard, const struct core *core,
                           uint64_t queue_id)
{
    const struct side *side = &ghost->sides[shard];
    ghost->leaving = queue_size(core, queue_id);
    for (size_t i = 0; i < side->outside_count; i++)
        side->outside[i]->orphan |= side->outside[i]->queue_id == queue_id;
}

void ghost_before(struct ghost *ghost, uint32_t shard, const struct core *core,
                  const struct command *command)
{
    struct body_ref ref;
    ghost->touched_count = 0;
    ghost->leaving = 0;
    ghost->deleted = 0;
    ghost->taken = NULL;
    if (command->type == COMMAND_QUEUE_DELETE)
        before_removal(ghost, shard, core, command->queue_delete.queue_id);
    else if (command->type == COMMAND_QUEUE_PURGE)
        before_removal(ghost, shard, core, command->queue_purge.queue_id);
    else if (command->type == COMMAND_DELETE &&
             core_message_body(core, command->delete.queue_id, command->delete.lease, &ref))
        ghost->deleted = copy_find(ghost, shard, ref)->fate->number;
}

/* ---- after it: the outboxes ---- */

static void die(struct ghost *ghost, struct fate *fate)
{
    ghost->alive -= !fate->gone;
    fate->gone = true;
}

static void left_outbox(struct ghost *ghost, struct copy *copy)
{
    struct fate *fate = copy->fate;
    copy->outside = false;
    if (!copy->held) {
        if (!copy->spent && !copy->orphan)
            sim_fail("X1: message %llu left the outbox for nowhere",
                     (unsigned long long)fate->number);
        if (!copy->spent)
            die(ghost, fate);
        return;
    }
    if (copy->spent)
        sim_fail("X2: message %llu came back though it had arrived",
                 (unsigned long long)fate->number);
    if (copy->orphan)
        sim_fail("X4: message %llu came back though its queue was purged",
                 (unsigned long long)fate->number);
    fate->refused_by_two |= fate->refused_by[0] != 0 && strcmp(fate->refused_by, copy->target) != 0;
    snprintf(fate->refused_by, TEXT, "%s", copy->target);
}

static void look(struct ghost *ghost, uint32_t shard, const struct core *core)
{
    struct side *side = &ghost->sides[shard];
    struct copy **before = side->outside;
    size_t before_count = side->outside_count;
    size_t total = 0;
    ghost->looks++;
    for (uint32_t to = 0; to <= SHARDS; to++)
        total += core_outbox_count(core, to);
    side->outside = calloc(total + 1, sizeof side->outside[0]);
    ASSERT(side->outside != NULL);
    side->outside_count = 0;
    for (uint32_t to = 0; to <= SHARDS; to++) {
        const struct parcel *position = NULL;
        struct outbox_view view;
        while (core_outbox_next(core, to, &position, &view)) {
            struct copy *copy = copy_find(ghost, shard, view.body);
            if (copy == NULL || !copy->held)
                sim_fail("X1: an outbox has a message whose body is not held");
            if (copy->seen == ghost->looks)
                sim_fail("X1: message %llu is in the outboxes twice",
                         (unsigned long long)copy->fate->number);
            copy->seen = ghost->looks;
            side->outside[side->outside_count++] = copy;
            if (copy->outside)
                continue;
            copy->outside = true;
            copy->spent = false;
            copy->orphan = false;
            copy->queue_id = view.queue_id;
            copy->seq = view.seq;
            if (view.arrive.destination_queue_id != 0)
                snprintf(copy->target, TEXT, "%s",
                         name_of(ghost, view.arrive.destination_queue_id));
            else
                snprintf(copy->target, TEXT, "%.*s", SLICE_ARGS(view.arrive.destination_name));
            touch(ghost, copy);
        }
    }
    for (size_t i = 0; i < before_count; i++) {
        if (before[i]->seen == ghost->looks)
            continue;
        left_outbox(ghost, before[i]);
        touch(ghost, before[i]);
    }
    free(before);
}

/* ---- arrivals ---- */

static void check_order(struct ghost *ghost, const struct fate *fate, const struct copy *from,
                        uint64_t target_id)
{
    char key[3 * TEXT] = {0};
    struct order *order;
    bool strayed =
        fate->refused_by_two ||
        (fate->refused_by[0] != 0 && strcmp(fate->refused_by, name_of(ghost, target_id)) != 0);
    if (strayed)
        return; /* it had been on its way to another queue, while others went ahead */
    snprintf(key, sizeof key, "%llx %llx %s", (unsigned long long)from->queue_id,
             (unsigned long long)target_id, fate->group);
    HASH_FIND_STR(ghost->orders, key, order);
    if (order == NULL) {
        order = calloc(1, sizeof *order);
        ASSERT(order != NULL);
        memcpy(order->key, key, sizeof key);
        HASH_ADD_STR(ghost->orders, key, order);
    }
    if (order->seq > from->seq)
        sim_fail("X3: message %llu of group %s was overtaken on the way from %s to %s",
                 (unsigned long long)fate->number, fate->group, name_of(ghost, from->queue_id),
                 name_of(ghost, target_id));
    order->seq = from->seq;
}

static void after_arrive(struct ghost *ghost, const struct core *core,
                         const struct command_arrive *arrive)
{
    struct fate *fate = ghost->taken->fate;
    struct copy *from = fate->copies;
    struct queue_view target = {.queue_id = arrive->destination_queue_id};
    while (from != NULL && !(from->outside && !from->spent &&
                             from->key.shard == arrive->source_shard && from != ghost->taken))
        from = from->next;
    if (from == NULL)
        sim_fail("X2: message %llu arrives though it is not on its way",
                 (unsigned long long)fate->number);
    from->spent = true;
    if (target.queue_id == 0)
        core_queue_by_name(core, arrive->destination_name, &target);
    if (strcmp(from->target, name_of(ghost, target.queue_id)) != 0)
        sim_fail("X1: message %llu arrived at the wrong queue", (unsigned long long)fate->number);
    if (arrive->fifo)
        check_order(ghost, fate, from, target.queue_id);
    fate->refused_by[0] = 0;
    fate->refused_by_two = false;
    ghost->hops++;
}

static void after_create(struct ghost *ghost, const struct command_queue_create *create,
                         uint64_t queue_id)
{
    struct named *named = calloc(1, sizeof *named);
    ASSERT(named != NULL);
    named->queue_id = queue_id;
    snprintf(named->name, TEXT, "%.*s", SLICE_ARGS(create->name));
    HASH_ADD(hh, ghost->names, queue_id, sizeof named->queue_id, named);
}

static void after_receive(const struct ghost *ghost, uint32_t shard,
                          const struct core_result *result)
{
    for (uint32_t i = 0; i < result->message_count; i++) {
        const struct copy *copy = copy_find(ghost, shard, result->messages[i].body);
        if (copy == NULL || !copy->held || copy->outside || copy->fate->gone)
            sim_fail("X1: a message was received that is not in the queue");
    }
}

/* ---- the verdict ---- */

static void check_fate(struct ghost *ghost, struct fate *fate)
{
    uint32_t live = 0;
    for (const struct copy *copy = fate->copies; copy != NULL; copy = copy->next)
        live += copy->held && !copy->spent;
    if (live > 1)
        sim_fail("X1: message %llu is in %u places", (unsigned long long)fate->number, live);
    if (live == 1 && fate->gone)
        sim_fail("X2: message %llu is back from the dead", (unsigned long long)fate->number);
    if (live == 1 || fate->gone)
        return;
    if (ghost->leaving > 0)
        ghost->leaving--;
    else if (ghost->deleted != fate->number)
        sim_fail("X1: message %llu is lost", (unsigned long long)fate->number);
    die(ghost, fate);
}

/* The copies that are no more are forgotten. */
static void bury(struct ghost *ghost, struct copy *copy)
{
    if (copy->held || copy->outside)
        return;
    LL_DELETE(copy->fate->copies, copy);
    HASH_DEL(ghost->copies, copy);
    free(copy);
}

void ghost_after(struct ghost *ghost, uint32_t shard, const struct core *core,
                 const struct command *command, const struct core_result *result)
{
    if (command->type == COMMAND_QUEUE_CREATE && result->code == CORE_OK)
        after_create(ghost, &command->queue_create, result->queue_id);
    look(ghost, shard, core);
    if (command->type == COMMAND_ARRIVE && ghost->taken != NULL)
        after_arrive(ghost, core, &command->arrive);
    if (command->type == COMMAND_RECEIVE)
        after_receive(ghost, shard, result);
    for (size_t i = 0; i < ghost->touched_count; i++)
        check_fate(ghost, ghost->touched[i]->fate);
    /* Each once: a copy may have been touched twice. */
    for (size_t i = 0; i < ghost->touched_count; i++) {
        struct copy *copy = ghost->touched[i];
        for (size_t j = i + 1; j < ghost->touched_count && copy != NULL; j++)
            copy = ghost->touched[j] == copy ? NULL : copy;
        if (copy != NULL)
            bury(ghost, copy);
    }
    ghost->touched_count = 0;
}
