/* SPDX-License-Identifier: Apache-2.0 */
/* A call goes to its node over the client's network, becomes commands there, and comes back with an
 * answer; or the node ends, or the client gives up, and its outcome is unknown. */
#include "tests/sim/cluster/calls.h"

#include "broker/core/record.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FILLER_MAX 12000u
#define STUCK      (8 * SECOND) /* without an answer, though nothing is in the way */

uint64_t queue_ids[QUEUE_COUNT];
static struct call *open_calls;
static uint64_t answered_index; /* the latest entry that any answer so far knew of */
static uint64_t taken;          /* sends, by any process */

/* ---- the queues ---- */

static const struct {
    const char *name;
    struct queue_promise promise;
} queue_table[QUEUE_COUNT] = {
    [QUEUE_PLAIN] = {"plain", {false, false, 0, -1}},
    [QUEUE_REDRIVEN] = {"redriven", {false, false, 3, QUEUE_DEAD}},
    [QUEUE_DEAD] = {"dead", {false, false, 0, -1}},
    [QUEUE_FIFO] = {"fifo.fifo", {true, false, 0, -1}},
    [QUEUE_GROUPS] = {"groups.fifo", {true, true, 0, -1}},
    [QUEUE_FIFO_REDRIVEN] = {"redriven.fifo", {true, false, 2, QUEUE_FIFO_DEAD}},
    [QUEUE_FIFO_DEAD] = {"dead.fifo", {true, false, 0, -1}},
};

void queues_promised(void)
{
    for (int i = 0; i < QUEUE_COUNT; i++)
        history_queue(i, queue_table[i].promise);
}

static void add_queue(struct shard_call *call, int number)
{
    const struct queue_promise *promise = &queue_table[number].promise;
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    command.queue_create.name = slice_of(queue_table[number].name);
    command.queue_create.tags = SLICE_LITERAL("{}");
    command.queue_create.settings = (struct queue_settings){
        .message_bytes_max = 1048576,
        .retention_s = 1209600,
        .visibility_s = 30,
        .receive_count_max = promise->receive_count_max,
        .fifo = promise->fifo,
        .dedup_per_group = promise->dedup_by_group,
        .extras = SLICE_LITERAL("{}"),
    };
    if (promise->dead_letter >= 0)
        command.queue_create.settings.dead_letter =
            slice_of(queue_table[promise->dead_letter].name);
    shard_call_add(call, &command);
}

/* ---- messages ---- */

static uint32_t filler_of(uint32_t label)
{
    struct chance chance = {label};
    return chance_in(&chance, 20) ? (uint32_t)chance_below(&chance, FILLER_MAX)
                                  : (uint32_t)chance_below(&chance, 400);
}

/* make_body: the label, and bytes that follow from it. */
static void make_body(struct buffer *out, uint32_t label)
{
    buffer_printf(out, "message %u ", label);
    uint32_t filler = filler_of(label);
    for (uint32_t i = 0; i < filler; i++)
        buffer_add_byte(out, (uint8_t)('a' + (label * 7 + i * 11) % 26));
}

static void add_send(struct shard_call *call, const struct sent *sent, uint32_t label)
{
    struct buffer body = {0};
    struct buffer bytes = {0};
    char group[16];
    char dedup[16];
    snprintf(group, sizeof group, "g%u", sent->group);
    snprintf(dedup, sizeof dedup, "d%u", sent->dedup);
    make_body(&body, label);
    struct record record = {.body = buffer_slice(&body)};
    memcpy(record.message_id, &label, sizeof label);
    if (sent->group > 0)
        record.group_id = slice_of(group);
    if (sent->dedup > 0)
        record.dedup_id = slice_of(dedup);
    record_encode(&bytes, &record);
    struct command command = {.type = COMMAND_SEND};
    command.send =
        (struct command_send){queue_ids[sent->queue], sent->delay_s, buffer_slice(&bytes)};
    shard_call_add(call, &command);
    buffer_free(&body);
    buffer_free(&bytes);
}

/* label_of: of a record that was read; fails where it is not as it was sent. */
static uint32_t label_of(struct slice bytes)
{
    struct record record;
    struct buffer body = {0};
    uint32_t label;
    if (record_decode(bytes, &record) != STATUS_OK)
        sim_fail("invented: a body that is no record");
    memcpy(&label, record.message_id, sizeof label);
    make_body(&body, label);
    if (!slice_equal(record.body, buffer_slice(&body)))
        sim_fail("invented: the body of message %u is another", label);
    buffer_free(&body);
    return label;
}

/* ---- the end of a call ---- */

static void tell_finished(void *data)
{
    struct call *call = data;
    call->finished(call);
}

static void drop(struct call *call)
{
    struct call **at = &open_calls;
    while (*at != call)
        at = &(*at)->next_open;
    *at = call->next_open;
}

static void write_down(struct call *call)
{
    for (uint32_t i = 0; i < call->count; i++) {
        if (call->kind == CALL_SEND) {
            history_sent(call->numbers[i])->outcome = call->outcome;
            history_sent(call->numbers[i])->answered_ns = call->answered_ns;
        } else {
            history_settled(call->numbers[i])->outcome = call->outcome;
            history_settled(call->numbers[i])->answered_ns = call->answered_ns;
        }
    }
}

static const char *const kind_names[] = {"setup",      "send",  "receive", "delete",
                                         "visibility", "purge", "look"};

static void end(struct call *call, enum outcome outcome)
{
    static const char *const names[] = {"open", "done", "not done", "unknown"};
    if (call->over)
        return;
    call->over = true;
    call->outcome = outcome;
    if (call->answered_ns == 0)
        call->answered_ns = sim_now_ns();
    write_down(call);
    drop(call);
    sim_say("%s q%d at node %u: %s, %s, first %u, got %u", kind_names[call->kind], call->queue,
            call->node->number, names[outcome], status_text(call->status),
            call->count > 0 ? call->numbers[0] : 0, call->got_count);
    world_at(sim_now_ns() + chance_between(&world.chance, 20, 300) * US, tell_finished, call);
}

static enum outcome outcome_of(enum status status)
{
    switch (status) {
    case STATUS_OK:
        return OUTCOME_DONE;
    case STATUS_NOT_LEADER:
    case STATUS_BUSY:
    case STATUS_DISK_FULL:
    case STATUS_CANCELLED:
        return OUTCOME_NOT_DONE;
    case STATUS_CLOSED:
        return OUTCOME_UNKNOWN;
    default:
        sim_fail("a call was answered with \"%s\"", status_text(status));
    }
}

void call_give_up(struct call *call)
{
    end(call, OUTCOME_UNKNOWN);
}

void calls_node_ended(struct node *node)
{
    struct call *next;
    for (struct call *call = open_calls; call != NULL; call = next) {
        next = call->next_open;
        if (call->node == node)
            end(call, OUTCOME_UNKNOWN);
    }
}

/* ---- answers ---- */

static void note_answer(const struct node *node, enum status status)
{
    uint64_t index = node->shard != NULL ? core_applied_index(shard_core(node->shard)) : 0;
    if (status == STATUS_OK && index > answered_index)
        answered_index = index;
}

/* on_synced: the state must be as new as any that was answered from before the call. */
static void on_synced(struct shard_sync *sync, enum status status)
{
    struct call *call = CONTAINER_OF(sync, struct call, sync);
    struct queue_view view;
    if (call->over)
        return;
    call->status = status;
    call->answered_ns = sim_now_ns();
    if (status == STATUS_OK) {
        const struct core *core = shard_core(call->node->shard);
        if (core_applied_index(core) < call->answered_index)
            sim_fail("behind: node %u looked at entry %" PRIu64 " and entry %" PRIu64
                     " had been answered from before",
                     call->node->number, core_applied_index(core), call->answered_index);
        if (!core_queue_by_id(core, queue_ids[call->queue], &view))
            sim_fail("behind: queue %d is not there", call->queue);
        history_look(call->queue, call->called_ns, view.sent_total);
    }
    end(call, outcome_of(status));
}

static void take_result(struct call *call, uint32_t i, const struct core_result *result)
{
    bool took = result->code == CORE_OK;
    if (result->code == CORE_NO_QUEUE)
        sim_fail("lost: queue %d is gone", call->queue);
    if (call->kind == CALL_SETUP) {
        queue_ids[i] = result->queue_id;
    } else if (call->kind == CALL_SEND) {
        struct sent *sent = history_sent(call->numbers[i]);
        if (!took)
            sim_fail("a send was answered with code %d", (int)result->code);
        sent->duplicate = result->duplicate;
        sent->seq = result->seq;
    } else {
        history_settled(call->numbers[i])->took = took;
    }
}

/* is_stuck: this call is overdue: nothing has been in the way of an answer for long, and a later
 * call at that node has got one through the log. */
static bool is_stuck(const struct call *call, const struct call *later)
{
    bool waits = call->kind == CALL_RECEIVE;
    uint64_t due_ns = call->arrived_ns + (waits ? call->wait_ms * MS : 0);
    uint64_t calm_ns = calm_since_ns(call->node);
    if (call->node != later->node || call->arrived_ns == 0 || call->node->closing ||
        due_ns > later->arrived_ns || (waits && !call->receiving))
        return false;
    return world.now_ns > STUCK + (due_ns > calm_ns ? due_ns : calm_ns);
}

static void judge_stuck(const struct call *later)
{
    for (const struct call *call = open_calls; call != NULL; call = call->next_open) {
        if (is_stuck(call, later))
            sim_fail("stuck: a %s at node %u, begun at %.6f s, is not answered, though others are",
                     kind_names[call->kind], call->node->number, (double)call->arrived_ns / 1e9);
    }
}

static void on_answer(struct shard_call *commands, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct call *call = CONTAINER_OF(commands, struct call, commands);
    if (call->over)
        return;
    call->status = status;
    call->answered_ns = sim_now_ns();
    note_answer(call->node, status);
    for (uint32_t i = 0; i < count && status == STATUS_OK; i++)
        take_result(call, i, &results[i]);
    end(call, outcome_of(status));
    if (status == STATUS_OK)
        judge_stuck(call);
}

static void deliver(struct call *call, struct slice body, uint32_t i, uint32_t number)
{
    const struct core_message *message = &call->messages[i];
    uint32_t label = label_of(body);
    history_deliver((struct delivery){.queue = call->queue,
                                      .label = label,
                                      .seq = message->seq,
                                      .receive_count = message->receive_count,
                                      .visibility_s = call->visibility_s,
                                      .sent_ms = message->sent_ms,
                                      .until_ms = message->visible_at_ms,
                                      .called_ns = call->called_ns,
                                      .answered_ns = call->answered_ns,
                                      .receive = number,
                                      .place = i,
                                      .called_epoch = call->called_epoch,
                                      .epoch = world.epoch});
    call->got[call->got_count++] =
        (struct lease){call->queue, label, message->seq, message->receive_count};
    sim_say("  got message %u of q%d, seq %" PRIu64 ", count %u until %" PRIu64, label, call->queue,
            message->seq, message->receive_count, message->visible_at_ms);
}

/* may_be_gone: a node that catches up may hear so late of what it received that another has
 * received and deleted it meanwhile, or purged it; what a snapshot lacked for that reason cannot be
 * read. */
static bool may_be_gone(const struct call *call)
{
    const struct shard *shard = call->node->shard;
    bool lease_is_over = shard != NULL && call->messages[0].visible_at_ms <= shard_now_ms(shard);
    return lease_is_over || history_purged(call->queue, call->called_ns);
}

static void on_read(struct shard_read *read, enum status status)
{
    struct call *call = CONTAINER_OF(read, struct call, read);
    if (status == STATUS_CORRUPT && !call->node->damaged && !may_be_gone(call))
        sim_fail("lost: a body that was received from q%d cannot be read at node %u", call->queue,
                 call->node->number);
    if (!call->over && status == STATUS_OK) {
        uint32_t number = history_receive();
        struct slice bytes = buffer_slice(&read->out);
        for (uint32_t i = 0; i < read->count; i++) {
            deliver(call, slice_make(bytes.data, read->refs[i].length), i, number);
            bytes = slice_sub(bytes, read->refs[i].length);
        }
    }
    buffer_free(&read->out);
    end(call, status == STATUS_OK ? OUTCOME_DONE : OUTCOME_UNKNOWN);
}

static void read_bodies(struct call *call)
{
    bool all = true;
    call->read = (struct shard_read){.refs = call->refs, .count = call->max, .done = on_read};
    for (uint32_t i = 0; i < call->max && all; i++)
        all = shard_read_now(call->node->shard, call->refs[i], &call->read.out);
    if (all) {
        on_read(&call->read, STATUS_OK);
        return;
    }
    buffer_free(&call->read.out);
    shard_read(call->node->shard, &call->read);
}

static void on_received(struct shard_receive *receive, enum status status,
                        const struct core_result *result)
{
    struct call *call = CONTAINER_OF(receive, struct call, receive);
    call->receiving = false;
    if (call->over)
        return;
    call->status = status;
    call->answered_ns = sim_now_ns();
    note_answer(call->node, status);
    if (status != STATUS_OK || result->message_count == 0 || call->node->closing) {
        end(call, outcome_of(status));
        return;
    }
    ASSERT(result->message_count <= call->max);
    call->max = result->message_count;
    for (uint32_t i = 0; i < call->max; i++) {
        call->messages[i] = result->messages[i];
        call->refs[i] = result->messages[i].body;
    }
    read_bodies(call);
}

/* ---- at the node ---- */

static void cancel(void *data)
{
    struct call *call = data;
    if (call->receiving && call->node->shard != NULL)
        shard_receive_cancel(call->node->shard, &call->receive);
}

static void begin_receive(struct call *call)
{
    struct command_receive command = {
        .queue_id = queue_ids[call->queue], .max = call->max, .visibility_s = call->visibility_s};
    call->receive =
        (struct shard_receive){.command = command, .wait_ms = call->wait_ms, .done = on_received};
    call->receiving = true;
    shard_receive(call->node->shard, &call->receive);
    if (call->cancel_ns > 0)
        node_at(call->node, sim_now_ns() + call->cancel_ns, cancel, call);
}

static void add_settle(struct call *call, const struct lease *lease)
{
    struct command command = {.type = COMMAND_QUEUE_PURGE};
    uint64_t queue_id = queue_ids[call->queue];
    struct core_lease held = {lease->seq, lease->receive_count};
    if (call->kind == CALL_DELETE) {
        command.type = COMMAND_DELETE;
        command.delete = (struct command_delete){queue_id, held, false};
    } else if (call->kind == CALL_VISIBILITY) {
        command.type = COMMAND_CHANGE_VISIBILITY;
        command.change_visibility =
            (struct command_change_visibility){queue_id, held, call->visibility_s};
    } else {
        command.queue_purge.queue_id = queue_id;
    }
    shard_call_add(&call->commands, &command);
}

/* take_send: now its process knows of it. */
static void take_send(struct call *call, uint32_t i)
{
    struct sent *sent = history_sent(call->numbers[i]);
    sent->process = (uint64_t)call->node->number << 32 | call->node->life;
    sent->taken = ++taken;
    add_send(&call->commands, &call->sends[i], call->numbers[i]);
}

static void arrive(void *data)
{
    struct call *call = data;
    if (call->over)
        return;
    if (call->node->shard == NULL) { /* closing: the connection is refused */
        end(call, OUTCOME_NOT_DONE);
        return;
    }
    call->arrived_ns = sim_now_ns();
    if (call->kind == CALL_RECEIVE) {
        begin_receive(call);
        return;
    }
    if (call->kind == CALL_LOOK) {
        call->sync = (struct shard_sync){.done = on_synced};
        shard_sync(call->node->shard, &call->sync);
        return;
    }
    call->commands = (struct shard_call){.done = on_answer, .grows = call->kind == CALL_SEND};
    for (int i = 0; i < QUEUE_COUNT && call->kind == CALL_SETUP; i++)
        add_queue(&call->commands, i);
    for (uint32_t i = 0; i < call->count; i++) {
        if (call->kind == CALL_SEND)
            take_send(call, i);
        else
            add_settle(call, &call->leases[i]);
    }
    shard_call(call->node->shard, &call->commands);
}

/* ---- at the client ---- */

static uint32_t begin_one(struct call *call, uint32_t i)
{
    static const enum settle_kind kinds[] = {[CALL_DELETE] = SETTLE_DELETE,
                                             [CALL_VISIBILITY] = SETTLE_VISIBILITY,
                                             [CALL_PURGE] = SETTLE_PURGE};
    if (call->kind == CALL_SEND) {
        call->sends[i].called_ns = call->called_ns;
        return history_send(call->sends[i]);
    }
    const struct lease *lease = &call->leases[i];
    return history_settle(
        (struct settled){.kind = kinds[call->kind],
                         .queue = call->queue,
                         .label = call->kind == CALL_PURGE ? LABEL_NONE : lease->label,
                         .seq = lease->seq,
                         .receive_count = lease->receive_count,
                         .visibility_s = call->visibility_s,
                         .called_ns = call->called_ns});
}

void call_begin(struct call *call)
{
    call->called_ns = world.now_ns;
    call->answered_index = answered_index;
    call->called_epoch = world.epoch;
    call->next_open = open_calls;
    open_calls = call;
    for (uint32_t i = 0; i < call->count; i++)
        call->numbers[i] = begin_one(call, i);
    if (!call->node->up) {
        end(call, OUTCOME_NOT_DONE);
        return;
    }
    node_at(call->node, world.now_ns + chance_between(&world.chance, 20, 300) * US, arrive, call);
}
