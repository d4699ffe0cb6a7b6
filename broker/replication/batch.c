/* SPDX-License-Identifier: Apache-2.0 */
/* The batcher: calls in, Raft entries out, results back.
 *
 * Calls queue up during a turn of the loop; at its end they become one entry, if none is in flight.
 * While one is, they wait for it, so a batch grows as large as the disk is slow, and an idle shard
 * adds no delay. A second entry goes into flight only when a full one has gathered: it lets the log
 * begin the next write without waiting for a turn of the loop, and small ones would only cost
 * syncs. When snapshots do not keep up, entries are spaced (snapshot.c).
 *
 * When Raft commits an entry that this node proposed, the commands are applied call by call, and
 * each call is answered at once, since a result's messages are only valid until the next command.
 *
 * I1  An entry's calls are answered exactly once: when it is applied (OK), or when the library says
 *     that leadership was lost (CLOSED: the entry may still commit).
 * I2  The entries in flight stand in the order of their indexes, so the one being applied is the
 *     first or none of ours.
 * I3  Commands are decoded before they are proposed: what is in the log must never fail to decode,
 *     since that stops a node for good. */
#include "broker/replication/internal.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <stdlib.h>

/* ---- calls ---- */

void shard_call_add(struct shard_call *call, const struct command *command)
{
    command_encode(&call->commands, command);
    call->count++;
}

static void refuse(struct shard *shard, struct shard_call *call, enum status status)
{
    call->refusal = status;
    buffer_free(&call->commands);
    call_list_add(&shard->batch.refused, call);
    shard_wake(shard);
}

static bool decodes(const struct shard_call *call)
{
    struct cursor in = cursor_of(buffer_slice(&call->commands));
    struct command command;
    for (uint32_t i = 0; i < call->count; i++) {
        if (command_decode(&in, &command) != STATUS_OK)
            return false;
    }
    return call->count > 0 && cursor_left(&in) == 0;
}

static enum status admit(const struct shard *shard, const struct shard_call *call)
{
    const struct batch *b = &shard->batch;
    if (shard->stage != STAGE_READY)
        return STATUS_NOT_LEADER;
    if (call->commands.length > CALL_BYTES_MAX)
        return STATUS_TOO_LARGE;
    if (!decodes(call)) /* I3 */
        return STATUS_INVALID;
    if (call->grows && shard->disk_low)
        return STATUS_DISK_FULL;
    if (call->grows && snapshots_full(shard))
        return STATUS_BUSY;
    bool full = b->flight_calls >= FLIGHT_CALLS_MAX ||
                b->flight_bytes + call->commands.length > FLIGHT_BYTES_MAX;
    return full ? STATUS_BUSY : STATUS_OK;
}

void shard_call(struct shard *shard, struct shard_call *call)
{
    enum status status = admit(shard, call);
    if (status == STATUS_OK)
        batch_add(shard, call);
    else
        refuse(shard, call, status);
}

void batch_add(struct shard *shard, struct shard_call *call)
{
    struct batch *b = &shard->batch;
    b->pending_bytes += call->commands.length;
    b->flight_bytes += call->commands.length;
    b->flight_calls++;
    call_list_add(&b->pending, call);
    shard_wake(shard);
}

void batch_refuse_all(struct shard *shard, enum status status)
{
    struct batch *b = &shard->batch;
    for (struct shard_call *call; (call = call_list_take(&b->pending)) != NULL;) {
        b->flight_bytes -= call->commands.length;
        b->flight_calls--;
        refuse(shard, call, status);
    }
    b->pending_bytes = 0;
}

void batch_deliver(struct shard *shard)
{
    struct call_list list = shard->batch.refused;
    shard->batch.refused = (struct call_list){0};
    for (struct shard_call *call; (call = call_list_take(&list)) != NULL;)
        call->done(call, call->refusal, NULL, 0);
}

/* ---- proposing ---- */

static void forget_entry(struct shard *shard, struct entry *entry)
{
    struct batch *b = &shard->batch;
    struct entry **at = &b->first;
    struct entry *previous = NULL;
    while (*at != entry) {
        previous = *at;
        at = &(*at)->next;
    }
    *at = entry->next;
    if (b->last == entry)
        b->last = previous;
    b->in_flight--;
    b->flight_bytes -= entry->bytes;
}

static void refuse_calls(struct shard *shard, struct entry *entry, enum status status)
{
    for (struct shard_call *call; (call = call_list_take(&entry->calls)) != NULL;) {
        shard->batch.flight_calls--;
        refuse(shard, call, status);
    }
}

static void on_applied(struct raft_apply *request, int status, void *result)
{
    struct entry *entry = CONTAINER_OF(request, struct entry, request);
    struct shard *shard = entry->shard;
    (void)result;
    forget_entry(shard, entry);
    if (status != 0) /* I1: leadership lost, or closing; outcome unknown */
        refuse_calls(shard, entry, STATUS_CLOSED);
    ASSERT(entry->calls.first == NULL);
    free(entry);
    shard_wake(shard);
}

static struct entry *gather(struct shard *shard)
{
    struct batch *b = &shard->batch;
    struct entry *entry = calloc(1, sizeof *entry);
    ASSERT(entry != NULL);
    entry->shard = shard;
    size_t bytes = ENTRY_HEADER_BYTES;
    while (b->pending.first != NULL) {
        size_t more = b->pending.first->commands.length;
        if (entry->calls.first != NULL && bytes + more > ENTRY_BYTES_GOOD)
            break;
        bytes += more;
        b->pending_bytes -= more;
        call_list_add(&entry->calls, call_list_take(&b->pending));
    }
    return entry;
}

/* build: the payload of the entry, from the allocator of the library, which keeps it. */
static struct raft_buffer build(struct shard *shard, struct entry *entry)
{
    struct batch *b = &shard->batch;
    uint32_t count = 0;
    buffer_clear(&b->scratch);
    entry_begin(&b->scratch);
    for (struct shard_call *call = entry->calls.first; call != NULL; call = call->next) {
        buffer_add_slice(&b->scratch, buffer_slice(&call->commands));
        entry->bytes += call->commands.length;
        count += call->count;
        buffer_free(&call->commands);
    }
    entry_finish(&b->scratch, count, clock_now_ms());
    struct raft_buffer out = {raft_malloc(b->scratch.length), b->scratch.length};
    ASSERT(out.base != NULL);
    memcpy(out.base, b->scratch.data, out.len);
    if (b->scratch.capacity > 4 * (size_t)ENTRY_BYTES_GOOD)
        buffer_free(&b->scratch);
    shard->entries++;
    shard->commands += count;
    return out;
}

static void propose_one(struct shard *shard)
{
    struct batch *b = &shard->batch;
    struct entry *entry = gather(shard);
    wait_serve(shard, &entry->calls);
    struct raft_buffer payload = build(shard, entry);
    /* Exactly one entry a request: with more, the library answers when the first is applied. */
    int rv = raft_apply(&shard->raft, &entry->request, &payload, 1, on_applied);
    if (rv != 0) {
        raft_free(payload.base);
        b->flight_bytes -= entry->bytes;
        refuse_calls(shard, entry, rv == RAFT_NOTLEADER ? STATUS_NOT_LEADER : STATUS_BUSY);
        free(entry);
        return;
    }
    if (b->last != NULL)
        b->last->next = entry;
    else
        b->first = entry;
    b->last = entry;
    b->in_flight++;
    shard->proposed_ms = uv_now(shard->options.loop);
}

static void on_pace_timer(uv_timer_t *timer)
{
    shard_wake(timer->data);
}

/* paced: entries are being spaced, and this is too early for the next. */
static bool paced(struct shard *shard)
{
    uint64_t delay_ms = snapshots_pace_ms(shard);
    if (delay_ms > 0 && !uv_is_active((uv_handle_t *)&shard->pace_timer))
        uv_timer_start(&shard->pace_timer, on_pace_timer, delay_ms, 0);
    return delay_ms > 0;
}

void batch_propose(struct shard *shard)
{
    struct batch *b = &shard->batch;
    while (b->pending.first != NULL &&
           (b->in_flight == 0 ||
            (b->in_flight < ENTRIES_IN_FLIGHT && b->pending_bytes >= ENTRY_BYTES_GOOD)) &&
           !paced(shard))
        propose_one(shard);
}

/* ---- applying ---- */

/* keep_messages: copy a result's messages aside, since the next command invalidates them. The
 * pointer is an offset until all are there. */
static void keep_messages(struct batch *b, struct core_result *result)
{
    size_t offset = b->messages.length;
    if (result->message_count == 0)
        return;
    buffer_add(&b->messages, result->messages, result->message_count * sizeof *result->messages);
    result->messages = (const struct core_message *)(uintptr_t)offset;
}

static void apply_call(struct shard *shard, struct shard_call *call, struct cursor *in,
                       struct slice payload)
{
    struct batch *b = &shard->batch;
    uint32_t count = call->count;
    buffer_clear(&b->results);
    buffer_clear(&b->messages);
    struct core_result *results = (void *)buffer_reserve(&b->results, count * sizeof *results);
    for (uint32_t i = 0; i < count; i++) {
        struct command command;
        enum status status = command_decode(in, &command);
        ASSERT(status == STATUS_OK); /* I3 */
        results[i] = (struct core_result){0};
        core_apply(shard->core, &command, payload, &results[i]);
        if (count > 1)
            keep_messages(b, &results[i]);
    }
    for (uint32_t i = 0; i < count && count > 1; i++) {
        if (results[i].message_count > 0)
            results[i].messages = (const void *)(b->messages.data + (uintptr_t)results[i].messages);
    }
    b->flight_calls--;
    call->done(call, STATUS_OK, results, count);
}

bool batch_apply(struct shard *shard, uint64_t index, struct slice payload)
{
    struct entry *entry = shard->batch.first;
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    if (entry == NULL || entry->request.index != index) /* I2 */
        return false;
    enum status status = entry_open(payload, &in, &count, &now_ms);
    ASSERT(status == STATUS_OK);
    core_begin(shard->core, index, now_ms);
    for (struct shard_call *call; (call = call_list_take(&entry->calls)) != NULL;)
        apply_call(shard, call, &in, payload);
    ASSERT(cursor_left(&in) == 0);
    return true;
}

void batch_free(struct shard *shard)
{
    ASSERT(shard->batch.first == NULL);
    ASSERT(shard->batch.flight_calls == 0);
    buffer_free(&shard->batch.scratch);
    buffer_free(&shard->batch.results);
    buffer_free(&shard->batch.messages);
}
