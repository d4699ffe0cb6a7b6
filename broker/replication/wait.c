/* SPDX-License-Identifier: Apache-2.0 */
/* Receives that wait.
 *
 *     shard_receive -> PARKED -> PROPOSED -> done
 *                        ^          |  came back empty, and there is time left
 *                        +----------+
 * On a node that does not lead they wait at the leader (forward_wait.c), which has a proxy here for
 * each: a receive with an `origin`, whose messages go to that node through the log.
 * Each queue has its parked receives in the order of arrival. They are proposed
 *   - in the very entry that carries a send to their queue (wait_serve), so that a message is
 * stored and leased in one commit;
 *   - when the core says that a message became visible for another reason (wait_ready);
 *   - on arrival, when messages are visible, or when it may repeat an earlier attempt (FIFO
 * queues): what that one was given is in flight, and only the core knows it. Only as many are
 * proposed as can be served: while the receives in flight ask for as many messages as are visible,
 * the next one stays parked. A receive that finds nothing visible costs no entry: it parks, or is
 * answered empty at once (so the core's count of empty receives leaves these out).
 *
 * I1  A receive is in exactly one place: parked (queue's list, and the heap when it may wait),
 *     proposed (the batch), or finishing (the list that is answered at the end of the turn).
 * I2  A wait_queue exists while receives for it are parked or proposed.
 * I3  A queue whose last receive came back empty is `fruitless`: nothing is proposed for it until a
 *     message becomes visible, so that messages that are counted visible but cannot be handed out
 *     do not make a circle of entries.
 * I4  When the reason is that too many are in flight it is `limited` too. Then a receive that does
 *     not wait is told so, and one that waits is not: it goes on waiting, and may end empty (the
 *     SQS Developer Guide, "Message quotas": OverLimit is for short polls). */
#include "broker/replication/internal.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <stdlib.h>
#include <uthash.h>

#define LATE_MS 20u

struct wait_queue {
    uint64_t queue_id;
    struct shard_receive *first;
    struct shard_receive *last;
    uint64_t asked;    /* messages that proposed receives ask for */
    uint32_t proposed; /* receives */
    uint64_t arriving; /* messages that the entry being built makes visible */
    uint64_t attempts; /* parked receives that may repeat an earlier attempt and were not asked */
    bool fruitless;
    bool limited;
    UT_hash_handle hh;
};

static struct wait_queue *find(const struct shard *shard, uint64_t queue_id)
{
    struct wait_queue *queue;
    HASH_FIND(hh, shard->waits.queues, &queue_id, sizeof queue_id, queue);
    return queue;
}

static struct wait_queue *find_or_make(struct shard *shard, uint64_t queue_id)
{
    struct wait_queue *queue = find(shard, queue_id);
    if (queue != NULL)
        return queue;
    queue = calloc(1, sizeof *queue);
    ASSERT(queue != NULL);
    queue->queue_id = queue_id;
    HASH_ADD(hh, shard->waits.queues, queue_id, sizeof queue->queue_id, queue);
    return queue;
}

static void drop_if_unused(struct shard *shard, struct wait_queue *queue)
{
    if (queue->first != NULL || queue->proposed > 0) /* I2 */
        return;
    HASH_DEL(shard->waits.queues, queue);
    free(queue);
}

/* ---- the heap of deadlines ---- */

static void heap_set(struct waits *w, size_t slot, struct shard_receive *receive)
{
    w->heap[slot] = receive;
    receive->heap_slot = slot;
}

static void heap_up(struct waits *w, size_t slot, struct shard_receive *receive)
{
    while (slot > 0 && w->heap[(slot - 1) / 2]->deadline_ms > receive->deadline_ms) {
        heap_set(w, slot, w->heap[(slot - 1) / 2]);
        slot = (slot - 1) / 2;
    }
    heap_set(w, slot, receive);
}

static void heap_down(struct waits *w, size_t slot, struct shard_receive *receive)
{
    for (;;) {
        size_t child = 2 * slot + 1;
        if (child >= w->heap_count)
            break;
        if (child + 1 < w->heap_count &&
            w->heap[child + 1]->deadline_ms < w->heap[child]->deadline_ms)
            child++;
        if (w->heap[child]->deadline_ms >= receive->deadline_ms)
            break;
        heap_set(w, slot, w->heap[child]);
        slot = child;
    }
    heap_set(w, slot, receive);
}

static void heap_add(struct waits *w, struct shard_receive *receive)
{
    if (w->heap_count == w->heap_capacity) {
        w->heap_capacity = w->heap_capacity < 64 ? 64 : w->heap_capacity * 2;
        w->heap = realloc(w->heap, w->heap_capacity * sizeof(struct shard_receive *));
        ASSERT(w->heap != NULL);
    }
    heap_up(w, w->heap_count++, receive);
}

static void heap_remove(struct waits *w, struct shard_receive *receive)
{
    size_t slot = receive->heap_slot;
    if (slot == NO_SLOT)
        return;
    ASSERT(w->heap[slot] == receive);
    struct shard_receive *moved = w->heap[--w->heap_count];
    receive->heap_slot = NO_SLOT;
    if (moved == receive)
        return;
    if (slot > 0 && w->heap[(slot - 1) / 2]->deadline_ms > moved->deadline_ms)
        heap_up(w, slot, moved);
    else
        heap_down(w, slot, moved);
}

/* ---- the lists ---- */

static bool may_repeat(const struct shard_receive *receive)
{
    return receive->command.attempt_id.length > 0 && !receive->repeated;
}

static void park(struct shard *shard, struct wait_queue *queue, struct shard_receive *receive,
                 bool in_front)
{
    queue->attempts += may_repeat(receive);
    receive->previous = in_front ? NULL : queue->last;
    receive->next = in_front ? queue->first : NULL;
    if (receive->previous != NULL)
        receive->previous->next = receive;
    else
        queue->first = receive;
    if (receive->next != NULL)
        receive->next->previous = receive;
    else
        queue->last = receive;
    heap_add(&shard->waits, receive);
}

static void unpark(struct shard *shard, struct wait_queue *queue, struct shard_receive *receive)
{
    if (receive->previous != NULL)
        receive->previous->next = receive->next;
    else
        queue->first = receive->next;
    if (receive->next != NULL)
        receive->next->previous = receive->previous;
    else
        queue->last = receive->previous;
    receive->next = receive->previous = NULL;
    heap_remove(&shard->waits, receive);
}

enum core_code wait_code(const struct shard_receive *receive, enum core_code code)
{
    return code == CORE_LIMIT && receive->wait_ms > 0 ? CORE_OK : code;
}

void wait_finish(struct shard *shard, struct shard_receive *receive, enum status status,
                 enum core_code code)
{
    struct waits *w = &shard->waits;
    receive->finishing = true;
    receive->status = status;
    receive->code = wait_code(receive, code);
    receive->next = NULL;
    if (w->finishing_last != NULL)
        w->finishing_last->next = receive;
    else
        w->finishing = receive;
    w->finishing_last = receive;
    shard_wake(shard);
}

void wait_deliver(struct shard *shard)
{
    struct waits *w = &shard->waits;
    struct shard_receive *receive = w->finishing;
    w->finishing = w->finishing_last = NULL;
    while (receive != NULL) {
        struct shard_receive *next = receive->next;
        struct core_result result = {.code = receive->code};
        enum status status = receive->cancelled ? STATUS_CANCELLED : receive->status;
        receive->done(receive, status, status == STATUS_OK ? &result : NULL);
        receive = next;
    }
}

void wait_touch(struct shard *shard, uint64_t queue_id)
{
    struct buffer *touched = &shard->waits.touched;
    uint64_t last = 0;
    if (touched->length >= sizeof last)
        memcpy(&last, touched->data + touched->length - sizeof last, sizeof last);
    if (touched->length == 0 || last != queue_id)
        buffer_add(touched, &queue_id, sizeof queue_id);
    shard_wake(shard);
}

/* ---- giving back ---- */

static void on_given_back(struct shard_call *call, enum status status,
                          const struct core_result *results, uint32_t count)
{
    (void)status; /* not done: the lease runs out by itself */
    (void)results;
    (void)count;
    free(call);
}

void wait_give_back(struct shard *shard, uint64_t queue_id, const struct core_result *result)
{
    if (result->code != CORE_OK || result->message_count == 0)
        return;
    struct shard_call *call = calloc(1, sizeof *call);
    ASSERT(call != NULL);
    call->done = on_given_back;
    for (uint32_t i = 0; i < result->message_count; i++) {
        const struct core_message *message = &result->messages[i];
        struct command command = {.type = COMMAND_CHANGE_VISIBILITY};
        command.change_visibility =
            (struct command_change_visibility){queue_id, {message->seq, message->receive_count}, 0};
        shard_call_add(call, &command);
    }
    shard_call(shard, call);
}

/* ---- proposing ---- */

static void on_received(struct shard_call *call, enum status status,
                        const struct core_result *results, uint32_t count)
{
    struct shard_receive *receive = CONTAINER_OF(call, struct shard_receive, call);
    struct shard *shard = receive->shard;
    struct wait_queue *queue = find(shard, receive->command.queue_id);
    const struct core_result *result = count > 0 ? &results[count - 1] : NULL;
    ASSERT(queue != NULL);
    queue->asked -= receive->command.max;
    queue->proposed--;
    receive->proposed = false;
    wait_touch(shard, queue->queue_id); /* pump again, or drop it */
    bool limited = status == STATUS_OK && result->code == CORE_LIMIT;
    bool empty = status == STATUS_OK && wait_code(receive, result->code) == CORE_OK &&
                 result->message_count == 0;
    bool in_time = receive->deadline_ms > uv_now(shard->options.loop);
    queue->fruitless |= empty || limited;
    queue->limited |= limited;
    if (!empty && !limited)
        shard_note_ready(shard, queue->queue_id); /* there may be more than it took */
    if (receive->cancelled) {
        if (status == STATUS_OK && receive->origin.node_id == 0)
            wait_give_back(shard, queue->queue_id, result); /* a proxy's messages are its node's */
        receive->done(receive, STATUS_CANCELLED, NULL);
    } else if (empty && in_time && shard->stage == STAGE_READY) {
        park(shard, queue, receive, true);
    } else if (empty && in_time && receive->origin.node_id == 0 && shard_in_company(shard)) {
        forward_wait_add(shard, receive);
    } else if (empty && in_time) {
        receive->done(receive, STATUS_NOT_LEADER, NULL);
    } else if (empty) {
        receive->done(receive, STATUS_OK, &(struct core_result){.code = CORE_OK});
    } else {
        receive->done(receive, status, result);
    }
}

/* prepare: take a parked receive out and encode its command. */
static struct shard_call *prepare(struct shard *shard, struct wait_queue *queue,
                                  struct shard_receive *receive)
{
    struct command command = {.type = COMMAND_RECEIVE};
    command.receive = receive->command;
    unpark(shard, queue, receive);
    receive->proposed = true;
    receive->call = (struct shard_call){.done = on_received};
    if (receive->origin.node_id > 0) {
        receive->call.of_other = true;
        receive->call.count = 1;
        forward_encode_origin(&receive->call.commands, &receive->origin, shard->raft.current_term,
                              1);
    }
    shard_call_add(&receive->call, &command);
    queue->asked += receive->command.max;
    queue->proposed++;
    return &receive->call;
}

static void finish_parked(struct shard *shard, struct wait_queue *queue, enum status status,
                          enum core_code code)
{
    for (struct shard_receive *receive; (receive = queue->first) != NULL;) {
        unpark(shard, queue, receive);
        wait_finish(shard, receive, status, code);
    }
}

static void propose_repetitions(struct shard *shard, struct wait_queue *queue)
{
    for (struct shard_receive *receive = queue->first; queue->attempts > 0;) {
        struct shard_receive *next = receive->next;
        if (may_repeat(receive)) {
            struct shard_call *call = prepare(shard, queue, receive);
            receive->repeated = true;
            batch_add(shard, call);
        }
        receive = next;
    }
}

/* pump: propose what can be served. All that wait are not walked: they may be thousands. */
static void pump(struct shard *shard, struct wait_queue *queue)
{
    struct queue_view view;
    if (!core_queue_by_id(shard->core, queue->queue_id, &view)) {
        finish_parked(shard, queue, STATUS_OK, CORE_NO_QUEUE);
        return;
    }
    propose_repetitions(shard, queue);
    bool due = core_next_deadline_ms(shard->core) <= time_now_ms(shard);
    uint64_t visible = queue->fruitless ? 0 : view.visible;
    while (queue->first != NULL && (visible > queue->asked || (due && queue->asked == 0)))
        batch_add(shard, prepare(shard, queue, queue->first));
}

/* end_due: answer those whose time is over, but for what can still be served. */
static void end_due(struct shard *shard)
{
    struct waits *w = &shard->waits;
    uint64_t now_ms = uv_now(shard->options.loop);
    while (w->heap_count > 0 && w->heap[0]->deadline_ms <= now_ms) {
        struct shard_receive *receive = w->heap[0];
        struct wait_queue *queue = find(shard, receive->command.queue_id);
        struct queue_view view;
        pump(shard, queue);
        if (w->heap_count > 0 && w->heap[0] == receive) {
            bool limited = queue->limited && /* not after a purge: */
                           core_queue_by_id(shard->core, queue->queue_id, &view) &&
                           view.visible > 0;
            unpark(shard, queue, receive);
            wait_finish(shard, receive, STATUS_OK, limited ? CORE_LIMIT : CORE_OK);
        }
        drop_if_unused(shard, queue);
    }
}

void wait_pump(struct shard *shard)
{
    struct buffer touched = shard->waits.touched;
    shard->waits.touched = (struct buffer){0};
    for (size_t at = 0; at < touched.length; at += sizeof(uint64_t)) {
        uint64_t queue_id;
        memcpy(&queue_id, touched.data + at, sizeof queue_id);
        struct wait_queue *queue = find(shard, queue_id);
        if (queue == NULL)
            continue;
        if (shard->stage == STAGE_READY)
            pump(shard, queue);
        drop_if_unused(shard, queue);
    }
    if (shard->stage == STAGE_READY)
        end_due(shard);
    buffer_free(&touched);
}

void wait_ready(struct shard *shard, uint64_t queue_id)
{
    struct wait_queue *queue = find(shard, queue_id);
    if (queue == NULL)
        return;
    queue->fruitless = queue->limited = false;
    wait_touch(shard, queue_id);
}

uint64_t wait_asked(const struct shard *shard, uint64_t queue_id)
{
    const struct wait_queue *queue = find(shard, queue_id);
    return queue != NULL ? queue->asked : 0;
}

/* ---- in the entry of the send ---- */

/* makes_visible: the queue in which this command makes a message visible; 0 = none. */
static uint64_t makes_visible(const struct shard *shard, const struct command *command)
{
    struct queue_view view;
    if (command->type == COMMAND_CHANGE_VISIBILITY && command->change_visibility.visibility_s == 0)
        return command->change_visibility.queue_id;
    if (command->type != COMMAND_SEND)
        return 0;
    uint32_t delay_s = command->send.delay_s;
    if (delay_s == CORE_DEFAULT && core_queue_by_id(shard->core, command->send.queue_id, &view))
        delay_s = view.settings.delay_s;
    return delay_s == 0 ? command->send.queue_id : 0;
}

static void serve(struct shard *shard, struct wait_queue *queue, struct call_list *calls)
{
    struct queue_view view;
    uint64_t visible = queue->arriving;
    if (!queue->fruitless && core_queue_by_id(shard->core, queue->queue_id, &view))
        visible += view.visible;
    while (queue->first != NULL && visible > queue->asked) {
        batch_serve(shard, calls, prepare(shard, queue, queue->first));
    }
    queue->arriving = 0;
}

static void count_arriving(struct shard *shard, const struct shard_call *call,
                           struct buffer *queues)
{
    struct cursor in = cursor_of(buffer_slice(&call->commands));
    for (uint32_t i = 0; i < call->count; i++) {
        struct command command;
        if (command_decode(&in, &command) != STATUS_OK)
            return;
        uint64_t queue_id = makes_visible(shard, &command);
        struct wait_queue *queue = queue_id > 0 ? find(shard, queue_id) : NULL;
        if (queue == NULL || queue->first == NULL)
            continue;
        if (queue->arriving++ == 0)
            buffer_add(queues, &queue_id, sizeof queue_id);
    }
}

void wait_serve(struct shard *shard, struct call_list *calls)
{
    struct buffer queues = {0};
    if (shard->waits.heap_count == 0)
        return;
    for (struct shard_call *call = calls->first; call != NULL; call = call->next)
        count_arriving(shard, call, &queues);
    for (size_t at = 0; at < queues.length; at += sizeof(uint64_t)) {
        uint64_t queue_id;
        memcpy(&queue_id, queues.data + at, sizeof queue_id);
        serve(shard, find(shard, queue_id), calls);
    }
    buffer_free(&queues);
}

/* ---- from outside ---- */

void wait_park(struct shard *shard, struct shard_receive *receive)
{
    struct wait_queue *queue = find_or_make(shard, receive->command.queue_id);
    park(shard, queue, receive, false);
    wait_touch(shard, queue->queue_id);
}

void shard_receive(struct shard *shard, struct shard_receive *receive)
{
    struct queue_view view;
    uint64_t waiting =
        shard->waits.heap_count + shard->batch.flight_calls + forward_wait_count(shard);
    bool company = shard_in_company(shard) && shard->stage != STAGE_CLOSING;
    ASSERT(receive->command.max > 0);
    receive->cancelled = receive->proposed = receive->finishing = receive->repeated = false;
    receive->away = false;
    receive->shard = shard;
    receive->heap_slot = NO_SLOT;
    receive->deadline_ms = receive->wait_ms + (receive->since_ms > 0 ? receive->since_ms
                                                                     : uv_now(shard->options.loop));
    receive->next = receive->previous = NULL;
    if (!company && shard->stage != STAGE_READY)
        wait_finish(shard, receive, STATUS_NOT_LEADER, CORE_OK);
    else if (waiting >= WAITING_MAX)
        wait_finish(shard, receive, STATUS_BUSY, CORE_OK);
    else if (!shard_leading(shard))
        forward_wait_add(shard, receive);
    else if (shard->stage == STAGE_READY &&
             !core_queue_by_id(shard->core, receive->command.queue_id, &view))
        wait_finish(shard, receive, STATUS_OK, CORE_NO_QUEUE);
    else
        wait_park(shard, receive);
}

void shard_receive_cancel(struct shard *shard, struct shard_receive *receive)
{
    receive->cancelled = true;
    if (receive->proposed || receive->finishing)
        return; /* on_received or wait_deliver sees it */
    if (receive->away) {
        forward_wait_cancel(shard, receive);
        return;
    }
    struct wait_queue *queue = find(shard, receive->command.queue_id);
    ASSERT(queue != NULL);
    unpark(shard, queue, receive);
    wait_touch(shard, queue->queue_id);
    wait_finish(shard, receive, STATUS_CANCELLED, CORE_OK);
}

void wait_finish_all(struct shard *shard, enum status status)
{
    struct wait_queue *queue;
    struct wait_queue *next;
    HASH_ITER(hh, shard->waits.queues, queue, next)
    {
        finish_parked(shard, queue, status, CORE_OK);
        drop_if_unused(shard, queue);
    }
}

static void send_away(struct shard *shard, struct wait_queue *queue)
{
    for (struct shard_receive *receive; (receive = queue->first) != NULL;) {
        unpark(shard, queue, receive);
        if (receive->origin.node_id == 0)
            forward_wait_add(shard, receive);
        else
            wait_finish(shard, receive, STATUS_NOT_LEADER, CORE_OK);
    }
}

void wait_send_away(struct shard *shard)
{
    struct wait_queue *queue;
    struct wait_queue *next;
    HASH_ITER(hh, shard->waits.queues, queue, next)
    {
        send_away(shard, queue);
        drop_if_unused(shard, queue);
    }
}

/* ---- deadlines ---- */

void wait_on_timer(uv_timer_t *timer)
{
    struct shard *shard = timer->data;
    struct waits *w = &shard->waits;
    uint64_t now_ms = uv_now(shard->options.loop);
    /* Pumped, not answered: a receive that does not wait may have been parked by a timer that ran
     * just before this one, and has not been looked at yet. The flush arms the timer again. */
    if (w->heap_count > 0 && w->heap[0]->deadline_ms <= now_ms)
        wait_touch(shard, w->heap[0]->command.queue_id);
    shard_wake(shard);
}

void wait_arm(struct shard *shard)
{
    struct waits *w = &shard->waits;
    if (w->heap_count == 0) {
        uv_timer_stop(&shard->wait_timer);
        return;
    }
    uint64_t now_ms = uv_now(shard->options.loop);
    uint64_t deadline_ms = w->heap[0]->deadline_ms;
    uint64_t delay_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    if (delay_ms == 0 && shard->stage != STAGE_READY)
        delay_ms = LATE_MS; /* it is for the leader to end, when there is one */
    if (!uv_is_active((uv_handle_t *)&shard->wait_timer) ||
        uv_timer_get_due_in(&shard->wait_timer) != delay_ms)
        uv_timer_start(&shard->wait_timer, wait_on_timer, delay_ms, 0);
}

uint64_t wait_count(const struct shard *shard)
{
    return shard->waits.heap_count;
}

void wait_free(struct shard *shard)
{
    struct wait_queue *queue;
    struct wait_queue *next;
    HASH_ITER(hh, shard->waits.queues, queue, next)
    {
        HASH_DEL(shard->waits.queues, queue);
        free(queue);
    }
    free(shard->waits.heap);
    buffer_free(&shard->waits.touched);
}
