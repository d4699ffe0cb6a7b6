/* SPDX-License-Identifier: Apache-2.0 */
/* The way in: an entry is begun with its time, then its commands are applied one by one, each by
 * its row in the table below. After every step that may have moved a deadline the due ones run, and
 * the owner is told once per step and queue what became visible.
 *
 * Nothing here depends on the order of pointers, on a hash's order or on anything but the entries:
 * maps are walked in name order or in order of creation only. */
#include "broker/core/foresee.h"
#include "broker/core/limits.h"
#include "broker/core/state.h"
#include "proto/base/bytes.h"

#include <stdlib.h>

struct slice slice_own(struct slice s)
{
    uint8_t *copy = malloc(s.length + 1); /* never of size 0 */
    ASSERT(copy != NULL);
    if (s.length > 0)
        memcpy(copy, s.data, s.length);
    return slice_make(copy, s.length);
}

void slice_disown(struct slice *s)
{
    free((void *)s->data);
    *s = (struct slice){0};
}

struct siphash_key core_hash_key(const struct core *core)
{
    return (struct siphash_key){{bytes_get_u64(core->secret), bytes_get_u64(core->secret + 8)}};
}

void body_hold(struct core *core, struct body_ref ref)
{
    core->bodies_held++;
    if (core->events.body_hold != NULL)
        core->events.body_hold(core->events.data, ref);
}

void body_release(struct core *core, struct body_ref ref)
{
    ASSERT(core->bodies_held > 0); /* I6 */
    core->bodies_held--;
    if (core->events.body_release != NULL)
        core->events.body_release(core->events.data, ref);
}

static void deadline_moved(void *data, uint32_t item, uint32_t position)
{
    struct core *core = data;
    message_at(&core->messages, item)->deadline_at = position;
}

static void retention_moved(void *data, uint32_t item, uint32_t position)
{
    struct core *core = data;
    core->queues[item]->retention_at = position;
}

static void chore_moved(void *data, uint32_t item, uint32_t position)
{
    struct core *core = data;
    core->queues[item]->chore_at = position;
}

struct core *core_new(const struct core_events *events)
{
    struct core *core = calloc(1, sizeof *core);
    ASSERT(core != NULL);
    if (events != NULL)
        core->events = *events;
    messages_init(&core->messages);
    heap_init(&core->deadlines, deadline_moved, core);
    heap_init(&core->retention, retention_moved, core);
    heap_init(&core->chores, chore_moved, core);
    core->step_max = STEP_MESSAGES;
    return core;
}

void core_set_events(struct core *core, const struct core_events *events)
{
    core->events = *events;
}

static void catalog_free(struct core *core)
{
    for (size_t i = 0; i < core->function_names.count; i++)
        function_free(core->function_names.entries[i].object);
    names_deinit(&core->function_names);
    for (size_t i = 0; i < core->document_names.count; i++)
        document_free(core->document_names.entries[i].object);
    names_deinit(&core->document_names);
    free(core->tallies);
    HASH_CLEAR(hh, core->mappings_by_uuid);
    for (size_t i = 0; i < core->mapping_count; i++)
        mapping_free(core->mappings[i]);
    free(core->mappings);
    struct blob *blob;
    struct blob *next;
    HASH_ITER(hh, core->blobs, blob, next)
    {
        HASH_DELETE(hh, core->blobs, blob);
        blob_free(blob);
    }
}

void core_free(struct core *core)
{
    if (core == NULL)
        return;
    catalog_free(core);
    hashes_free(&core->queues_by_id);
    hashes_free(&core->queues_by_name);
    for (uint32_t i = 0; i < core->queue_slots; i++) {
        if (core->queues[i] != NULL)
            queue_free(core, core->queues[i]);
    }
    names_deinit(&core->queue_names);
    free(core->queues);
    free(core->free_slots);
    free(core->ready);
    free(core->received);
    heap_deinit(&core->deadlines);
    heap_deinit(&core->retention);
    heap_deinit(&core->chores);
    free(core->groups);
    free(core->free_groups);
    outboxes_free(core);
    origins_free(core);
    messages_deinit(&core->messages);
    free(core);
}

/* ---- applying ---- */

static void settle_down(struct core *core)
{
    deadline_run(core);
    queue_ready_tell(core);
}

void core_begin(struct core *core, uint64_t index, uint64_t now_ms)
{
    ASSERT(index > core->applied_index);
    ASSERT(index <= BODY_INDEX_MAX);
    ASSERT(now_ms <= TIME_MS_MAX);
    core->retention_left = core->step_max;
    core->deadlines_left = core->step_max;
    core->graves_left = core->step_max;
    core->applied_index = index;
    if (now_ms > core->now_ms)
        core->now_ms = now_ms;
    settle_down(core);
}

void core_bury(struct core *core, uint64_t most)
{
    grave_run(core, most);
}

uint64_t core_bury_left(const struct core *core)
{
    return core->graves_due;
}

void core_set_step(struct core *core, uint32_t messages)
{
    ASSERT(messages > 0);
    core->step_max = messages;
}

static void bootstrap(struct core *core, const struct command *command)
{
    if (core->bootstrapped)
        return;
    core->bootstrapped = true;
    memcpy(core->cluster_id, command->bootstrap.cluster_id, UUID_BYTES);
    memcpy(core->secret, command->bootstrap.secret, sizeof core->secret);
    queues_by_name_renew(core);
}

/* One signature for all rows of the table. */
typedef void (*apply_fn)(struct core *core, const struct command *command, struct slice entry,
                         struct core_result *result);

/* core_begin did it all. */
static void apply_tick(struct core *core, const struct command *command, struct slice entry,
                       struct core_result *result)
{
    (void)core, (void)command, (void)entry, (void)result;
}

static void apply_bootstrap(struct core *core, const struct command *command, struct slice entry,
                            struct core_result *result)
{
    (void)entry, (void)result;
    bootstrap(core, command);
}

static void apply_place(struct core *core, const struct command *command, struct slice entry,
                        struct core_result *result)
{
    (void)entry, (void)result;
    if (core->queue_id_last > 0 || core->queue_shards > 0)
        return;
    core->shard = command->place.shard;
    core->queue_shards = command->place.queue_shards;
}

static void apply_cluster_rename(struct core *core, const struct command *command,
                                 struct slice entry, struct core_result *result)
{
    (void)entry, (void)result;
    if (core->bootstrapped)
        memcpy(core->cluster_id, command->cluster_rename.cluster_id, UUID_BYTES);
}

/* A command of a later level; there is nothing to it. */
static void apply_rehearse(struct core *core, const struct command *command, struct slice entry,
                           struct core_result *result)
{
    (void)core, (void)command, (void)entry, (void)result;
}

/* For replicas, not for the state. */
static void apply_origin(struct core *core, const struct command *command, struct slice entry,
                         struct core_result *result)
{
    (void)core, (void)command, (void)entry, (void)result;
}

/* APPLY: the row's function for a command that stores no bytes of the entry. */
#define APPLY(name)                                                                                \
    static void apply_##name(struct core *core, const struct command *command, struct slice entry, \
                             struct core_result *result)                                           \
    {                                                                                              \
        (void)entry;                                                                               \
        name(core, command, result);                                                               \
    }
APPLY(queue_create)
APPLY(queue_update)
APPLY(queue_delete)
APPLY(queue_purge)
APPLY(queue_tag)
APPLY(move_start)
APPLY(move_cancel)
APPLY(message_receive)
APPLY(message_delete)
APPLY(message_change_visibility)
APPLY(message_departed)
APPLY(message_refused)
APPLY(function_put)
APPLY(function_delete)
APPLY(function_usage)
APPLY(usage_add)
APPLY(usage_drop)
APPLY(mapping_put)
APPLY(mapping_delete)
APPLY(document_put)
APPLY(document_delete)
#undef APPLY

#define apply_send              message_send
#define apply_receive           apply_message_receive
#define apply_delete            apply_message_delete
#define apply_change_visibility apply_message_change_visibility
#define apply_arrive            message_arrive
#define apply_departed          apply_message_departed
#define apply_refused           apply_message_refused
#define apply_blob_put          blob_put

static const apply_fn apply_table[] = {
#define COMMAND(NAME, number, type, doc) [COMMAND_##NAME] = apply_##type,
#include "broker/core/command.def"
#undef COMMAND
};

void core_apply(struct core *core, const struct command *command, struct slice entry,
                struct core_result *result)
{
    ASSERT(core->applied_index > 0); /* an entry was begun */
    ASSERT((size_t)command->type < ARRAY_COUNT(apply_table));
    ASSERT(apply_table[command->type] != NULL);
    *result = (struct core_result){.code = CORE_OK};
    apply_table[command->type](core, command, entry, result);
    settle_down(core);
}

/* Does all of it decode? A bad entry must change nothing. */
static bool entry_decodes(struct cursor in, uint32_t count)
{
    struct command command;
    for (uint32_t i = 0; i < count; i++) {
        if (command_decode(&in, &command) != STATUS_OK)
            return false;
    }
    return cursor_left(&in) == 0;
}

enum status core_apply_entry(struct core *core, uint64_t index, struct slice entry)
{
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    if (entry_open(entry, &in, &count, &now_ms) != STATUS_OK || !entry_decodes(in, count))
        return STATUS_INVALID;
    core_begin(core, index, now_ms);
    struct foresight foresight;
    foresight_begin(&foresight);
    for (uint32_t i = 0; i < count; i++) {
        struct core_result result;
        const struct command *command = foresight_next(&foresight, core, &in);
        if (command == NULL)
            return STATUS_INVALID;
        core_apply(core, command, entry, &result);
    }
    return STATUS_OK;
}

/* ---- reading ---- */

static bool queue_read(const struct queue *queue, struct queue_view *out)
{
    if (queue == NULL)
        return false;
    *out = queue->view;
    return true;
}

bool core_queue_by_name(const struct core *core, struct slice name, struct queue_view *out)
{
    return queue_read(queue_named(core, name), out);
}

bool core_queue_by_id(const struct core *core, uint64_t queue_id, struct queue_view *out)
{
    return queue_read(queue_find(core, queue_id), out);
}

bool core_queue_next(const struct core *core, struct slice after, struct queue_view *out)
{
    return queue_read(names_after(&core->queue_names, after), out);
}

size_t core_queue_from(const struct core *core, struct slice name)
{
    return names_from(&core->queue_names, name);
}

struct slice core_queue_name_at(const struct core *core, size_t position)
{
    const struct names *names = &core->queue_names;
    return position < names->count ? names->entries[position].name : (struct slice){0};
}

bool core_queue_at(const struct core *core, size_t position, struct queue_view *out)
{
    const struct names *names = &core->queue_names;
    return queue_read(position < names->count ? names->entries[position].object : NULL, out);
}

size_t core_queue_count(const struct core *core, struct slice prefix)
{
    return names_within(&core->queue_names, prefix);
}

bool core_message_body(const struct core *core, uint64_t queue_id, struct core_lease lease,
                       struct body_ref *out)
{
    const struct queue *queue = queue_find(core, queue_id);
    uint32_t index = queue != NULL ? message_by_lease(core, queue, lease) : MESSAGE_NONE;
    if (index == MESSAGE_NONE)
        return false;
    *out = message_body(message_at(&core->messages, index));
    return true;
}

bool core_lease_held(const struct core *core, uint64_t queue_id, struct core_lease lease)
{
    const struct queue *queue = queue_find(core, queue_id);
    uint32_t index = queue != NULL ? message_by_lease(core, queue, lease) : MESSAGE_NONE;
    if (index == MESSAGE_NONE)
        return false;
    const struct message *message = message_at(&core->messages, index);
    return message->state == MESSAGE_IN_FLIGHT && message->receive_count == lease.receive_count;
}

uint64_t core_now_ms(const struct core *core)
{
    return core->now_ms;
}

uint64_t core_applied_index(const struct core *core)
{
    return core->applied_index;
}

bool core_bootstrapped(const struct core *core, uint8_t cluster_id[UUID_BYTES], uint8_t secret[32])
{
    if (core->bootstrapped) {
        memcpy(cluster_id, core->cluster_id, UUID_BYTES);
        memcpy(secret, core->secret, sizeof core->secret);
    }
    return core->bootstrapped;
}

void core_place(const struct core *core, uint32_t *shard, uint32_t *queue_shards)
{
    *shard = core->shard;
    *queue_shards = core->queue_shards;
}
