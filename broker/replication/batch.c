/* SPDX-License-Identifier: Apache-2.0 */
/* The batcher: calls in, Raft entries out, results back.
 *
 * Calls queue up during a turn of the loop. On the leader they become one entry at its end, if none
 * is in flight; while one is, they wait for it, so a batch grows as large as the disk is slow, and
 * an idle shard adds no delay. A second entry goes into flight when half of all that is under way
 * has gathered: callers who wait for their answers before they send more would fill no larger one
 * by waiting, and the log begins the next write while answers to the first go out. A full entry
 * goes beside some others: it would not grow either, and those that wait for the log share its
 * next write and sync. When snapshots do not keep up, entries are spaced (snapshot.c). On other
 * nodes they go to the leader (forward.c).
 *
 * Every entry begins with an ORIGIN that says who built it. When one is applied, its commands are
 * applied call by call, and each call of this node is answered at once, since a result's messages
 * are only valid until the next command. That is the same on the leader and on a node that sent its
 * calls there, and also on one that has lost its leadership meanwhile.
 *
 * I1  A call is answered exactly once: when its commands are applied (OK); when they are proven
 * never to be (after its deadline: NOT_LEADER; before that it is tried again); or at its deadline,
 * when nothing is proven (CLOSED). I2  What becomes of an entry is known when it is applied, or
 * when one of a later term is: leaders of later terms put nothing of older terms behind their own
 * (Raft, 5.4.3). I3  Commands are decoded before they are proposed: what is in the log must never
 * fail to decode, since that stops a node for good. I4  A RECEIVE that this node asked for and has
 * no taker any more gives its messages back. I5  Pending calls stand in the order in which they
 * came, also those that come back; and none leaves while an earlier one may be among those of
 * unknown fate (batch_in_doubt): R10. */
#include "broker/core/record.h"
#include "broker/replication/internal.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <stdlib.h>

#define ORIGIN_BYTES_MAX 64u
#define ORDER_FIRST      UINT64_C(0) /* of shard_call.order: what a leader begins with */

/* ---- calls ---- */

void shard_call_add(struct shard_call *call, const struct command *command)
{
    command_encode(&call->commands, command);
    call->count++;
}

void shard_call_send(struct shard_call *call, const struct command *send, struct record *record)
{
    ASSERT(send->type == COMMAND_SEND);
    struct command_open open = command_open(&call->commands, send, record_bytes(record));
    record_encode(&call->commands, record);
    command_close(&call->commands, open);
    call->count++;
}

static void answer(struct shard *shard, struct shard_call *call, enum status status,
                   const struct core_result *results, uint32_t count)
{
    shard->batch.flight_calls--;
    shard->batch.flight_bytes -= call->bytes;
    buffer_free(&call->commands);
    call->done(call, status, results, count);
}

/* refuse_new: it was not admitted, so it is in no count. */
static void refuse_new(struct shard *shard, struct shard_call *call, enum status status)
{
    shard->batch.flight_calls++;
    call->bytes = 0;
    batch_refuse(shard, call, status);
}

void batch_refuse(struct shard *shard, struct shard_call *call, enum status status)
{
    call->refusal = status;
    call_list_add(&shard->batch.refused, call);
    shard_wake(shard);
}

/* judge: every command of a call, before it is taken. */
static enum status judge(const struct shard *shard, const struct shard_call *call)
{
    struct cursor in = cursor_of(buffer_slice(&call->commands));
    struct command command;
    for (uint32_t i = 0; i < call->count; i++) {
        if (command_decode(&in, &command) != STATUS_OK)
            return STATUS_INVALID;
        if (!level_allows(shard, call, &command))
            return STATUS_UNSUPPORTED;
    }
    return call->count > 0 && cursor_left(&in) == 0 ? STATUS_OK : STATUS_INVALID;
}

/* room_on_disks: a majority of the voters has it, and this node among them. */
static bool room_on_disks(const struct shard *shard)
{
    const struct raft_configuration *members = &shard->raft.configuration;
    unsigned voters = 0;
    unsigned low = 0;
    for (unsigned i = 0; i < members->n; i++) {
        const struct link *link = links_find(shard, members->servers[i].id);
        if (members->servers[i].role != RAFT_VOTER)
            continue;
        voters++;
        low += link != NULL && link->disk_low;
    }
    return !shard->disk_low && (low == 0 || voters - low > voters / 2);
}

static enum status admit(const struct shard *shard, const struct shard_call *call)
{
    const struct batch *b = &shard->batch;
    bool open = shard_in_company(shard) && shard->stage != STAGE_OPENING;
    if (shard->stage == STAGE_CLOSING || (!open && shard->stage != STAGE_READY))
        return STATUS_NOT_LEADER;
    if (call->commands.length > CALL_BYTES_MAX)
        return STATUS_TOO_LARGE;
    enum status judged = judge(shard, call); /* I3 */
    if (judged != STATUS_OK)
        return judged;
    if (call->grows && shard_leading(shard) && !room_on_disks(shard))
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
        refuse_new(shard, call, status);
}

static void count_in(struct shard *shard, struct shard_call *call)
{
    call->bytes = call->commands.length;
    uint64_t since_ms = call->since_ms > 0 ? call->since_ms : uv_now(shard->options.loop);
    call->deadline_ms = since_ms + CALL_DEADLINE_MS;
    call->order = ++shard->batch.orders;
    shard->batch.flight_bytes += call->bytes;
    shard->batch.flight_calls++;
}

static void add_pending(struct shard *shard, struct shard_call *call)
{
    shard->batch.pending_bytes += call->commands.length;
    call_list_insert(&shard->batch.pending, call);
    shard_wake(shard);
}

void batch_add(struct shard *shard, struct shard_call *call)
{
    count_in(shard, call);
    add_pending(shard, call);
}

void batch_add_first(struct shard *shard, struct shard_call *call)
{
    count_in(shard, call);
    call->order = ORDER_FIRST;
    call->deadline_ms = UINT64_MAX; /* the term is led by nobody without it */
    add_pending(shard, call);
}

void batch_serve(struct shard *shard, struct call_list *calls, struct shard_call *call)
{
    count_in(shard, call);
    call_list_add(calls, call);
}

void batch_retry(struct shard *shard, struct call_list *calls)
{
    struct call_list rest = shard->batch.pending;
    shard->batch.pending = (struct call_list){0};
    for (struct shard_call *call = calls->first; call != NULL; call = call->next)
        shard->batch.pending_bytes += call->commands.length;
    while (calls->first != NULL || rest.first != NULL) {
        bool back =
            rest.first == NULL || (calls->first != NULL && calls->first->order < rest.first->order);
        call_list_add(&shard->batch.pending, call_list_take(back ? calls : &rest));
    }
    shard_wake(shard);
}

/* refuse_where: those of the pending calls that `where` picks. */
static void refuse_where(struct shard *shard, enum status status,
                         bool (*where)(const struct shard_call *call, uint64_t now_ms),
                         uint64_t now_ms)
{
    struct call_list list = shard->batch.pending;
    shard->batch.pending = (struct call_list){0};
    shard->batch.pending_bytes = 0;
    for (struct shard_call *call; (call = call_list_take(&list)) != NULL;) {
        if (where(call, now_ms))
            batch_refuse(shard, call, status);
        else
            add_pending(shard, call);
    }
}

static bool any(const struct shard_call *call, uint64_t now_ms)
{
    (void)call, (void)now_ms;
    return true;
}

static bool of_this_term(const struct shard_call *call, uint64_t now_ms)
{
    (void)now_ms;
    return call->of_other || call->order == ORDER_FIRST;
}

static bool too_late(const struct shard_call *call, uint64_t now_ms)
{
    return call->deadline_ms <= now_ms;
}

void batch_refuse_pending(struct shard *shard, enum status status, bool all)
{
    refuse_where(shard, status, all ? any : of_this_term, 0);
}

void batch_deliver(struct shard *shard)
{
    struct call_list list = shard->batch.refused;
    shard->batch.refused = (struct call_list){0};
    for (struct shard_call *call; (call = call_list_take(&list)) != NULL;)
        answer(shard, call, call->refusal, NULL, 0);
}

/* ---- entries ---- */

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
    ASSERT(entry->calls.first == NULL);
    free(entry);
}

static void forget_if_done(struct shard *shard, struct entry *entry)
{
    if (entry->settled && !entry->in_raft)
        forget_entry(shard, entry);
}

/* A call that was answered before its entry's fate was known leaves this in its place. */
static void on_abandoned(struct shard_call *call, enum status status,
                         const struct core_result *results, uint32_t count)
{
    (void)status, (void)results, (void)count;
    free(call);
}

/* fail_calls: give up on all calls of an entry. */
static void fail_calls(struct shard *shard, struct entry *entry, enum status status)
{
    for (struct shard_call *call; (call = call_list_take(&entry->calls)) != NULL;)
        batch_refuse(shard, call, status);
    entry->settled = true;
}

/* retry_calls: they never happened: those of this node are pending again, other nodes look after
 * theirs by the same proof; what a leader begins with is of no use in another term. */
static void retry_calls(struct shard *shard, struct entry *entry)
{
    struct call_list own = {0};
    for (struct shard_call *call; (call = call_list_take(&entry->calls)) != NULL;) {
        if (call->of_other || call->order == ORDER_FIRST)
            batch_refuse(shard, call, STATUS_CLOSED);
        else
            call_list_insert(&own, call);
    }
    batch_retry(shard, &own);
    entry->settled = true;
}

static void on_raft_done(struct raft_apply *request, int status, void *result)
{
    struct entry *entry = CONTAINER_OF(request, struct entry, request);
    struct shard *shard = entry->shard;
    (void)result;
    entry->in_raft = false;
    shard->batch.in_flight--;
    /* Leadership was lost: the entry may still be committed, and I2 will tell; but not to one who
     * is closing, or has nobody to tell it. */
    if (status != 0 && !entry->settled &&
        (shard->stage == STAGE_CLOSING || !shard_in_company(shard)))
        fail_calls(shard, entry, STATUS_CLOSED);
    forget_if_done(shard, entry);
    shard_wake(shard);
}

void batch_overtaken(struct shard *shard, uint64_t term)
{
    for (struct entry *entry = shard->batch.first; entry != NULL;) {
        struct entry *next = entry->next;
        if (entry->term < term && !entry->settled) {
            retry_calls(shard, entry);
            forget_if_done(shard, entry);
        }
        entry = next;
    }
}

bool batch_in_doubt(const struct shard *shard)
{
    for (const struct entry *entry = shard->batch.first; entry != NULL; entry = entry->next) {
        if (!entry->settled && entry->term < shard->raft.current_term)
            return shard_in_company(shard);
    }
    return forward_in_doubt(shard);
}

void batch_give_up(struct shard *shard)
{
    for (struct entry *entry = shard->batch.first; entry != NULL;) {
        struct entry *next = entry->next;
        if (!entry->settled && !entry->in_raft) {
            fail_calls(shard, entry, STATUS_CLOSED);
            forget_if_done(shard, entry);
        }
        entry = next;
    }
}

/* abandon: answer the calls of an entry that are past their deadline; each leaves a stand-in. */
static void abandon(struct shard *shard, struct entry *entry, uint64_t now_ms)
{
    struct call_list list = entry->calls;
    entry->calls = (struct call_list){0};
    for (struct shard_call *call; (call = call_list_take(&list)) != NULL;) {
        if (call->deadline_ms > now_ms || call->of_other) {
            call_list_add(&entry->calls, call);
            continue;
        }
        struct shard_call *stand_in = calloc(1, sizeof *stand_in);
        ASSERT(stand_in != NULL);
        *stand_in = (struct shard_call){.count = call->count,
                                        .done = on_abandoned,
                                        .of_other = true,
                                        .deadline_ms = UINT64_MAX};
        shard->batch.flight_calls++;
        call_list_add(&entry->calls, stand_in);
        batch_refuse(shard, call, STATUS_CLOSED);
    }
}

void batch_expire(struct shard *shard, uint64_t now_ms)
{
    refuse_where(shard, STATUS_NOT_LEADER, too_late, now_ms);
    for (struct entry *entry = shard->batch.first; entry != NULL; entry = entry->next)
        abandon(shard, entry, now_ms);
}

/* ---- proposing ---- */

/* may_leave: the first that is pending may become part of an entry: what a leader begins with may
 * always, and ends the doubt. */
static bool may_leave(const struct shard *shard, bool in_doubt)
{
    const struct shard_call *call = shard->batch.pending.first;
    return call != NULL && (!in_doubt || call->order == ORDER_FIRST);
}

static struct entry *gather(struct shard *shard, bool in_doubt)
{
    struct batch *b = &shard->batch;
    struct entry *entry = calloc(1, sizeof *entry);
    ASSERT(entry != NULL);
    entry->shard = shard;
    entry->seq = ++shard->forward.seq;
    entry->term = shard->raft.current_term;
    size_t bytes = ENTRY_HEADER_BYTES;
    while (may_leave(shard, in_doubt)) {
        size_t more = b->pending.first->commands.length;
        if (entry->calls.first != NULL && bytes + more > ENTRY_BYTES_GOOD)
            break;
        bytes += more;
        b->pending_bytes -= more;
        call_list_add(&entry->calls, call_list_take(&b->pending));
    }
    return entry;
}

static void add_origin(struct shard *shard, const struct entry *entry, struct buffer *out)
{
    struct command command = {.type = COMMAND_ORIGIN};
    command.origin = (struct command_origin){.node_id = shard->options.node_id,
                                             .boot = shard->forward.boot,
                                             .seq = entry->seq,
                                             .term = entry->term,
                                             .commit = shard->raft.commit_index};
    command_encode(out, &command);
}

/* room_for: memory of the library's for the payload of this entry. */
static struct buffer room_for(const struct entry *entry)
{
    struct buffer room = {.capacity = ENTRY_HEADER_BYTES + ORIGIN_BYTES_MAX};
    for (const struct shard_call *call = entry->calls.first; call != NULL; call = call->next)
        room.capacity += call->commands.length;
    room.data = raft_malloc(room.capacity);
    ASSERT(room.data != NULL);
    return room;
}

/* build: the payload of the entry, where the library keeps it. Where the fate of an entry may be
 * learnt by another leader's word, calls keep their commands, to try again. */
static struct raft_buffer build(struct shard *shard, struct entry *entry)
{
    uint32_t count = 1;
    struct buffer out = room_for(entry);
    size_t capacity = out.capacity;
    entry_begin(&out);
    add_origin(shard, entry, &out);
    for (struct shard_call *call = entry->calls.first; call != NULL; call = call->next) {
        buffer_add_slice(&out, buffer_slice(&call->commands));
        count += call->count;
        if (!shard_in_company(shard) || call->of_other)
            buffer_free(&call->commands);
    }
    entry_finish(&out, count, time_now_ms(shard));
    ASSERT(out.capacity == capacity); /* it has not moved: realloc knows nothing of the library's */
    shard->entries++;
    shard->commands += count - 1;
    return (struct raft_buffer){out.data, out.length};
}

static void add_entry(struct batch *b, struct entry *entry)
{
    if (b->last != NULL)
        b->last->next = entry;
    else
        b->first = entry;
    b->last = entry;
}

static void propose_one(struct shard *shard, bool in_doubt)
{
    struct batch *b = &shard->batch;
    struct entry *entry = gather(shard, in_doubt);
    wait_serve(shard, &entry->calls);
    struct raft_buffer payload = build(shard, entry);
    add_entry(b, entry);
    entry->in_raft = true;
    b->in_flight++;
    shard->proposed_ms = uv_now(shard->options.loop);
    /* Exactly one entry a request: with more, the library answers when the first is applied. */
    int rv = raft_apply(&shard->raft, &entry->request, &payload, 1, on_raft_done);
    if (rv == 0) {
        shard_settle(shard);
        return;
    }
    raft_free(payload.base);
    entry->in_raft = false;
    b->in_flight--;
    fail_calls(shard, entry, rv == RAFT_NOTLEADER ? STATUS_NOT_LEADER : STATUS_BUSY);
    forget_entry(shard, entry);
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

/* may_follow: what waits is worth an entry beside those that are in flight. */
static bool may_follow(const struct batch *b)
{
    bool full = b->pending_bytes >= ENTRY_BYTES_GOOD;
    bool half = 2 * b->pending_bytes >= b->flight_bytes;
    return b->in_flight == 0 || (b->in_flight == 1 && half) ||
           (b->in_flight < ENTRIES_IN_FLIGHT && full);
}

void batch_propose(struct shard *shard)
{
    struct batch *b = &shard->batch;
    bool in_doubt = batch_in_doubt(shard);
    while (may_leave(shard, in_doubt) && raft_state(&shard->raft) == RAFT_LEADER &&
           !members_hands_over(shard) && may_follow(b) && !paced(shard))
        propose_one(shard, in_doubt);
}

/* ---- applying ---- */

/* next_command: of the entry; see foresight_next. */
static const struct command *next_command(struct shard *shard, struct cursor *in)
{
    return foresight_next(&shard->batch.foresight, shard->core, in);
}

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

/* apply_one: the next command; for one whose results nobody takes. I4 */
static void apply_one(struct shard *shard, struct cursor *in, struct slice payload, bool give_back)
{
    struct core_result result = {0};
    const struct command *command = next_command(shard, in);
    ASSERT(command != NULL); /* I3 */
    core_apply(shard->core, command, payload, &result);
    if (give_back && command->type == COMMAND_RECEIVE)
        wait_give_back(shard, command->receive.queue_id, &result);
}

/* apply_commands: `count` of them; their results stay valid until the core is called again. */
static const struct core_result *apply_commands(struct shard *shard, struct cursor *in,
                                                uint32_t count, struct slice payload)
{
    struct batch *b = &shard->batch;
    buffer_clear(&b->results);
    buffer_clear(&b->messages);
    struct core_result *results = (void *)buffer_reserve(&b->results, count * sizeof *results);
    for (uint32_t i = 0; i < count; i++) {
        const struct command *command = next_command(shard, in);
        ASSERT(command != NULL); /* I3 */
        results[i] = (struct core_result){0};
        core_apply(shard->core, command, payload, &results[i]);
        if (count > 1)
            keep_messages(b, &results[i]);
    }
    for (uint32_t i = 0; i < count && count > 1; i++) {
        if (results[i].message_count > 0)
            results[i].messages = (const void *)(b->messages.data + (uintptr_t)results[i].messages);
    }
    return results;
}

/* apply_own: an entry that this node built. */
static void apply_own(struct shard *shard, struct entry *entry, struct cursor *in,
                      struct slice payload)
{
    for (struct shard_call *call; (call = call_list_take(&entry->calls)) != NULL;) {
        __builtin_prefetch(entry->calls.first); /* cold since it was proposed */
        if (call->done == on_abandoned) {
            for (uint32_t i = 0; i < call->count; i++)
                apply_one(shard, in, payload, true);
            answer(shard, call, STATUS_OK, NULL, 0);
            continue;
        }
        const struct core_result *results = apply_commands(shard, in, call->count, payload);
        answer(shard, call, STATUS_OK, results, call->count);
    }
    ASSERT(cursor_left(in) == 0);
    entry->settled = true;
    forget_if_done(shard, entry);
}

/* apply_returned: commands of this node that came back through another's entry. */
static uint32_t apply_returned(struct shard *shard, const struct command_origin *origin,
                               struct cursor *in, uint32_t left, struct slice payload)
{
    struct shard_call *call = forward_returned(shard, origin->seq);
    uint32_t count = origin->count < left ? origin->count : left;
    if (call != NULL) {
        ASSERT(call->count == count);
        const struct core_result *results = apply_commands(shard, in, count, payload);
        answer(shard, call, STATUS_OK, results, count);
        return count;
    }
    if (count == 1 && forward_wait_is_here(shard, origin->seq)) {
        forward_wait_applied(shard, origin->seq, apply_commands(shard, in, 1, payload));
        return 1;
    }
    for (uint32_t i = 0; i < count; i++)
        apply_one(shard, in, payload, true);
    return count;
}

/* apply_others: an entry that another node built, or an earlier process. */
static void apply_others(struct shard *shard, struct cursor *in, uint32_t count,
                         struct slice payload)
{
    while (count > 0) {
        const struct command *command = next_command(shard, in);
        if (command == NULL)
            shard_fatal(shard, "an entry of the log does not decode: it was written by another "
                               "program or a later version");
        count--;
        if (command->type == COMMAND_ORIGIN && command->origin.count > 0 &&
            command->origin.node_id == shard->options.node_id &&
            command->origin.boot == shard->forward.boot) {
            struct command_origin origin = command->origin; /* others are read meanwhile */
            count -= apply_returned(shard, &origin, in, count, payload);
        } else {
            struct core_result result = {0};
            core_apply(shard->core, command, payload, &result);
        }
    }
}

static struct entry *own_entry(struct shard *shard, const struct command_origin *origin)
{
    if (origin->node_id != shard->options.node_id || origin->boot != shard->forward.boot)
        return NULL;
    for (struct entry *entry = shard->batch.first; entry != NULL; entry = entry->next) {
        if (entry->seq == origin->seq)
            return entry->settled ? NULL : entry;
    }
    return NULL;
}

void batch_apply(struct shard *shard, uint64_t index, struct slice payload)
{
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    struct command head = {0};
    if (entry_open(payload, &in, &count, &now_ms) != STATUS_OK)
        shard_fatal(shard, "an entry of the log has no header of ours: it was written by another "
                           "program or a later version");
    core_begin(shard->core, index, now_ms);
    foresight_begin(&shard->batch.foresight);
    struct cursor ahead = in;
    bool has_origin = count > 0 && command_decode(&ahead, &head) == STATUS_OK &&
                      head.type == COMMAND_ORIGIN && head.origin.count == 0;
    struct entry *entry = has_origin ? own_entry(shard, &head.origin) : NULL;
    if (entry != NULL) {
        in = ahead;
        apply_own(shard, entry, &in, payload);
    } else {
        apply_others(shard, &in, count, payload);
    }
    if (has_origin && head.origin.term > shard->forward.applied_term)
        shard->forward.applied_term = head.origin.term;
}

uint64_t batch_commit_in(struct slice payload)
{
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    struct command head;
    bool good = entry_open(payload, &in, &count, &now_ms) == STATUS_OK && count > 0 &&
                command_decode(&in, &head) == STATUS_OK && head.type == COMMAND_ORIGIN;
    return good ? head.origin.commit : 0;
}

void batch_free(struct shard *shard)
{
    ASSERT(shard->batch.first == NULL);
    ASSERT(shard->batch.flight_calls == 0);
    buffer_free(&shard->batch.results);
    buffer_free(&shard->batch.messages);
}
