/* SPDX-License-Identifier: Apache-2.0 */
/* The engine. Senders are a pool of calls that are filled and sent whenever one is free and a
 * message is due; receivers are calls that wait at the broker all the time; each answer of theirs
 * becomes one delete.
 *
 * With a rate, message k is due k/rate after the start, whatever happened to those before it, and
 * latencies count from then: a stall is felt by all the messages that it delays, not only by the
 * one that met it (no coordinated omission). Without a rate a message is due when it is sent.
 *
 * What was refused or has an unknown end goes into `again` if the plan says so, and is sent with
 * the same number: the ledger then finds what that doubled. */
#include "client/bench/run.h"

#include "client/bench/body.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define NS_PER_US   UINT64_C(1000)
#define NS_PER_MS   UINT64_C(1000000)
#define NS_PER_S    UINT64_C(1000000000)
#define TICK_NS     (100 * NS_PER_MS)
#define PROGRESS_NS (2 * NS_PER_S)
#define BACKOFF_NS  (20 * NS_PER_MS)
#define PATIENCE_NS                                                                                \
    (45 * NS_PER_S)    /* for messages that are missing: leased to one who died, for 30 s */
#define RECEIVE_S    1 /* how long a receive waits at the broker */
#define IDLE_MS      20u
#define FINE_WAIT_US 1000u
#define ID_BYTES_MAX 24 /* a letter and a number */

struct message {
    uint64_t number;
    uint64_t due_ns;
};

struct sender {
    struct port_call call;
    struct run *run;
    struct message messages[PORT_BATCH_MAX];
    uint8_t *bodies;
    uint8_t ids[PORT_BATCH_MAX][2][ID_BYTES_MAX]; /* group, deduplication */
    struct sender *next;
};

struct deleter {
    struct port_call call;
    struct run *run;
    uint8_t handles[PORT_BATCH_MAX][PORT_HANDLE_BYTES];
    struct deleter *next;
};

struct receiver {
    struct port_call call;
    struct run *run;
    uint32_t queue; /* where it receives next */
    uint64_t attempts;
    char attempt_id[40];
};

struct run {
    const struct run_setup *setup;
    const struct phase *phase;
    struct phase_result *out;
    struct processes servers;
    uint64_t begun_ns, now_ns;
    uint64_t sent; /* in this phase, resends not counted */
    uint64_t deleted;
    uint64_t last_ack_ns, last_receipt_ns;
    uint64_t hold_until_ns; /* after an error */
    uint64_t next_tick_ns, next_progress_ns;
    uint64_t progress_messages;
    struct sender *senders, *idle_senders;
    uint32_t senders_busy, sender_count;
    struct deleter *idle_deleters;
    uint32_t deleters_busy;
    struct receiver *receivers;
    uint32_t receivers_busy;
    struct message *again;
    uint64_t again_count, again_capacity;
    uint32_t next_queue;
    bool sending_over, stopping, killed;
};

static void note_error(struct run *run, const struct port_call *call, uint64_t count)
{
    run->out->errors += count;
    run->hold_until_ns = clock_monotonic_ns() + BACKOFF_NS;
    if (run->out->why[0] == 0)
        snprintf(run->out->why, sizeof run->out->why, "%s", call->why);
}

/* ---- sending ---- */

static void keep_for_again(struct run *run, const struct message *message)
{
    if (run->again_count == run->again_capacity) {
        run->again_capacity = run->again_capacity * 2 + 1024;
        run->again = realloc(run->again, run->again_capacity * sizeof *run->again);
        ASSERT(run->again != NULL);
    }
    run->again[run->again_count++] = *message;
}

static void on_acked(struct run *run, const struct message *message, uint64_t now)
{
    ledger_ack(run->setup->ledger, message->number);
    histogram_add(&run->out->acked, (now - message->due_ns) / NS_PER_US);
}

static void on_sent(struct port_call *call)
{
    struct sender *sender = call->data;
    struct run *run = sender->run;
    uint64_t now = clock_monotonic_ns();
    uint32_t bad = 0;
    for (uint32_t i = 0; i < call->count; i++) {
        if (call->end == PORT_DONE && (call->failed & 1u << i) == 0) {
            on_acked(run, &sender->messages[i], now);
        } else {
            bad++;
            if (run->setup->resend)
                keep_for_again(run, &sender->messages[i]);
        }
    }
    if (bad < call->count) {
        if (now - run->last_ack_ns > run->out->longest_gap_ns)
            run->out->longest_gap_ns = now - run->last_ack_ns;
        run->last_ack_ns = now;
    }
    if (bad > 0)
        note_error(run, call, bad);
    sender->next = run->idle_senders;
    run->idle_senders = sender;
    run->senders_busy--;
}

static uint64_t due_ns(const struct run *run, uint64_t k)
{
    uint32_t rate = run->phase->rate;
    return run->begun_ns + k / rate * NS_PER_S + k % rate * NS_PER_S / rate;
}

/* The next message that is due, if there is one. */
static bool next_message(struct run *run, struct message *out)
{
    if (run->again_count > 0) {
        *out = run->again[--run->again_count];
        return true;
    }
    if (run->sending_over)
        return false;
    uint64_t due = run->phase->rate > 0 ? due_ns(run, run->sent) : run->now_ns;
    if (run->phase->ns_max > 0 && due - run->begun_ns >= run->phase->ns_max)
        run->sending_over = true;
    if (run->sending_over || due > run->now_ns)
        return false;
    *out = (struct message){ledger_send(run->setup->ledger), due};
    run->sent++;
    run->sending_over = run->phase->messages_max > 0 && run->sent == run->phase->messages_max;
    return true;
}

/* id_write: the number behind the letter; at the end of the room. */
static struct slice id_write(uint8_t room[ID_BYTES_MAX], char letter, uint64_t number)
{
    uint8_t *at = room + ID_BYTES_MAX;
    do {
        *--at = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    *--at = (uint8_t)letter;
    return slice_make(at, (size_t)(room + ID_BYTES_MAX - at));
}

static void fill_item(struct sender *sender, uint32_t i)
{
    const struct run_setup *setup = sender->run->setup;
    const struct message *message = &sender->messages[i];
    struct port_item *item = &sender->call.items[i];
    uint8_t *body = sender->bodies + (size_t)i * setup->size;
    body_write(body, setup->size,
               &(struct body_facts){message->number, message->due_ns, setup->run_id});
    *item = (struct port_item){.body = slice_make(body, setup->size)};
    if (setup->groups == 0)
        return;
    item->group_id = id_write(sender->ids[i][0], 'g', message->number % setup->groups);
    item->deduplication_id = id_write(sender->ids[i][1], 'd', message->number);
}

/* A message's queue follows from its group, so that a group's order means something. */
static uint32_t queue_of(struct run *run, const struct message *first)
{
    const struct run_setup *setup = run->setup;
    if (setup->groups > 0)
        return (uint32_t)(first->number % setup->groups % setup->queue_count);
    run->next_queue = (run->next_queue + 1) % setup->queue_count;
    return run->next_queue;
}

static bool send_some(struct run *run)
{
    struct sender *sender = run->idle_senders;
    const struct run_setup *setup = run->setup;
    uint32_t count = 0;
    /* The messages of a batch of several FIFO queues would belong to different ones. */
    uint32_t most = setup->groups > 0 && setup->queue_count > 1 ? 1 : setup->batch;
    while (count < most && next_message(run, &sender->messages[count]))
        count++;
    if (count == 0)
        return false;
    run->idle_senders = sender->next;
    run->senders_busy++;
    for (uint32_t i = 0; i < count; i++)
        fill_item(sender, i);
    sender->call.kind = PORT_SEND;
    sender->call.count = count;
    sender->call.queue = setup->queues[queue_of(run, &sender->messages[0])];
    setup->port->ops->call(setup->port, &sender->call);
    return true;
}

static void send_due(struct run *run)
{
    run->now_ns = clock_monotonic_ns();
    if (run->now_ns < run->hold_until_ns)
        return;
    while (run->idle_senders != NULL && send_some(run))
        continue;
}

/* ---- receiving ---- */

static void on_deleted(struct port_call *call)
{
    struct deleter *deleter = call->data;
    struct run *run = deleter->run;
    uint32_t bad =
        call->end == PORT_DONE ? (uint32_t)__builtin_popcount(call->failed) : call->count;
    run->deleted += call->count - bad;
    if (bad > 0)
        note_error(run, call, bad);
    deleter->next = run->idle_deleters;
    run->idle_deleters = deleter;
    run->deleters_busy--;
}

static void delete_all(struct run *run, const struct port_call *received)
{
    struct deleter *deleter = run->idle_deleters;
    if (deleter != NULL) {
        run->idle_deleters = deleter->next;
    } else {
        deleter = calloc(1, sizeof *deleter);
        ASSERT(deleter != NULL);
    }
    deleter->run = run;
    deleter->call = (struct port_call){.kind = PORT_DELETE,
                                       .queue = received->queue,
                                       .count = received->count,
                                       .done = on_deleted,
                                       .data = deleter};
    for (uint32_t i = 0; i < received->count; i++) {
        struct slice handle = received->items[i].handle;
        ASSERT(handle.length <= PORT_HANDLE_BYTES);
        memcpy(deleter->handles[i], handle.data, handle.length);
        deleter->call.items[i].handle = slice_make(deleter->handles[i], handle.length);
    }
    run->deleters_busy++;
    run->setup->port->ops->call(run->setup->port, &deleter->call);
}

static void take_message(struct run *run, struct slice body, uint64_t now)
{
    struct body_facts facts;
    if (!body_read(body, &facts) || facts.run != run->setup->run_id)
        run->setup->ledger->corrupt++;
    else if (ledger_receive(run->setup->ledger, facts.number))
        histogram_add(&run->out->delivered, (now - facts.due_ns) / NS_PER_US);
}

static void begin_receive(struct receiver *receiver);

static void on_received(struct port_call *call)
{
    struct receiver *receiver = call->data;
    struct run *run = receiver->run;
    uint64_t now = clock_monotonic_ns();
    run->receivers_busy--;
    if (call->end != PORT_DONE) {
        note_error(run, call, 1);
        return; /* receive_more begins it again, after a pause */
    }
    for (uint32_t i = 0; i < call->count; i++)
        take_message(run, call->items[i].body, now);
    if (call->count > 0) {
        run->last_receipt_ns = now;
        delete_all(run, call);
    }
    if (!run->stopping)
        begin_receive(receiver);
}

static void begin_receive(struct receiver *receiver)
{
    struct run *run = receiver->run;
    const struct run_setup *setup = run->setup;
    receiver->call = (struct port_call){
        .kind = PORT_RECEIVE,
        .queue = setup->queues[receiver->queue],
        .count = PORT_BATCH_MAX,
        /* One that goes round must not wait at a queue that is empty. */
        .wait_s = setup->queue_count > setup->receivers ? 0 : RECEIVE_S,
        .done = on_received,
        .data = receiver,
    };
    receiver->queue = setup->queue_count > setup->receivers
                          ? (receiver->queue + setup->receivers) % setup->queue_count
                          : receiver->queue;
    if (setup->resend && setup->groups > 0) {
        snprintf(receiver->attempt_id, sizeof receiver->attempt_id, "%08" PRIx32 "-%td-%" PRIu64,
                 setup->run_id, receiver - run->receivers, ++receiver->attempts);
        receiver->call.attempt_id = slice_of(receiver->attempt_id);
    }
    run->receivers_busy++;
    setup->port->ops->call(setup->port, &receiver->call);
}

static bool receiver_idle(const struct receiver *receiver)
{
    return receiver->call.done == NULL || receiver->call.end != PORT_DONE;
}

/* Those that an error ended; `end` is set by the port, and DONE while a call is under way. */
static void receive_more(struct run *run)
{
    if (!run->phase->receive || run->stopping || clock_monotonic_ns() < run->hold_until_ns ||
        run->receivers_busy == run->setup->receivers)
        return;
    for (uint32_t i = 0; i < run->setup->receivers; i++) {
        if (receiver_idle(&run->receivers[i]))
            begin_receive(&run->receivers[i]);
    }
}

/* ---- the phase ---- */

static uint64_t messages_done(const struct run *run)
{
    return run->phase->receive ? run->deleted : run->out->acked.total;
}

static void progress(struct run *run)
{
    uint64_t messages = messages_done(run);
    double seconds = (double)(run->now_ns - run->begun_ns) / (double)NS_PER_S;
    double rate = (double)(messages - run->progress_messages) * (double)NS_PER_S /
                  (double)(run->now_ns - run->next_progress_ns + PROGRESS_NS);
    const struct histogram *h = run->phase->receive ? &run->out->delivered : &run->out->acked;
    fprintf(stderr,
            "%s %3.0f s: %" PRIu64 " done, %.0f/s, p50 %" PRIu64 " us, p99 %" PRIu64 " us, %" PRIu64
            " errors\n",
            run->phase->name, seconds, messages, rate, histogram_at(h, 0.5), histogram_at(h, 0.99),
            run->out->errors);
    run->progress_messages = messages;
    run->next_progress_ns = run->now_ns + PROGRESS_NS;
}

static void tick(struct run *run)
{
    if (run->now_ns < run->next_tick_ns)
        return;
    run->next_tick_ns = run->now_ns + TICK_NS;
    (void)processes_cpu_us(&run->servers); /* looked at, in case one ends */
    uint64_t rss = processes_rss_bytes(&run->servers);
    if (rss > run->out->server_rss_bytes)
        run->out->server_rss_bytes = rss;
    if (run->now_ns >= run->next_progress_ns)
        progress(run);
    if (run->phase->kill_pid > 0 && !run->killed &&
        run->now_ns - run->begun_ns > run->phase->ns_max / 2) {
        run->killed = true;
        fprintf(stderr, "kill -9 %d\n", run->phase->kill_pid);
        kill((pid_t)run->phase->kill_pid, SIGKILL);
    }
}

static bool sends_over(const struct run *run)
{
    return run->sending_over && run->senders_busy == 0 && run->again_count == 0;
}

static bool receives_over(const struct run *run)
{
    const struct ledger *ledger = run->setup->ledger;
    if (ledger->received >= ledger->acked && run->deleters_busy == 0)
        return true;
    uint64_t since =
        run->last_receipt_ns > run->last_ack_ns ? run->last_receipt_ns : run->last_ack_ns;
    return run->now_ns - since > PATIENCE_NS;
}

static bool phase_over(const struct run *run)
{
    return (!run->phase->send || sends_over(run)) && (!run->phase->receive || receives_over(run));
}

/* How long there is nothing to do but wait for answers. */
static void wait_for_answers(struct run *run)
{
    struct port *port = run->setup->port;
    bool scheduled = run->phase->send && run->phase->rate > 0 && !run->sending_over;
    if (!scheduled || run->idle_senders == NULL || run->now_ns < run->hold_until_ns) {
        port->ops->run(port, IDLE_MS);
        return;
    }
    uint64_t due = due_ns(run, run->sent);
    uint64_t now = clock_monotonic_ns();
    uint64_t wait_us = due > now ? (due - now) / NS_PER_US : 0;
    port_wait(port, wait_us < FINE_WAIT_US * IDLE_MS ? wait_us : FINE_WAIT_US * IDLE_MS);
}

static void run_init(struct run *run)
{
    const struct run_setup *setup = run->setup;
    run->sender_count = run->phase->send ? (setup->inflight + setup->batch - 1) / setup->batch : 0;
    run->senders = calloc(run->sender_count + 1, sizeof *run->senders);
    run->receivers = calloc(setup->receivers + 1, sizeof *run->receivers);
    ASSERT(run->senders != NULL && run->receivers != NULL);
    for (uint32_t i = 0; i < run->sender_count; i++) {
        struct sender *sender = &run->senders[i];
        sender->run = run;
        sender->call.done = on_sent;
        sender->call.data = sender;
        sender->bodies = malloc((size_t)setup->size * setup->batch);
        ASSERT(sender->bodies != NULL);
        sender->next = run->idle_senders;
        run->idle_senders = sender;
    }
    for (uint32_t i = 0; i < setup->receivers; i++)
        run->receivers[i] = (struct receiver){.run = run, .queue = i % setup->queue_count};
    run->sending_over = !run->phase->send;
}

static void run_free(struct run *run)
{
    for (uint32_t i = 0; i < run->sender_count; i++)
        free(run->senders[i].bodies);
    while (run->idle_deleters != NULL) {
        struct deleter *next = run->idle_deleters->next;
        free(run->idle_deleters);
        run->idle_deleters = next;
    }
    free(run->senders);
    free(run->receivers);
    free(run->again);
}

static void turn(struct run *run)
{
    send_due(run);
    receive_more(run);
    wait_for_answers(run);
    run->now_ns = clock_monotonic_ns();
    tick(run);
}

void run_phase(const struct run_setup *setup, const struct phase *phase, struct phase_result *out)
{
    struct run run = {.setup = setup, .phase = phase, .out = out, .servers = setup->servers};
    *out = (struct phase_result){0};
    run_init(&run);
    uint64_t client_us = own_cpu_us();
    uint64_t server_us = processes_cpu_us(&run.servers);
    run.begun_ns = run.now_ns = run.last_ack_ns = run.last_receipt_ns = clock_monotonic_ns();
    run.next_progress_ns = run.begun_ns + PROGRESS_NS;
    while (!phase_over(&run))
        turn(&run);
    out->elapsed_ns = run.now_ns - run.begun_ns;
    out->messages = messages_done(&run);
    out->client_cpu_us = own_cpu_us() - client_us;
    out->server_cpu_us = processes_cpu_us(&run.servers) - server_us;
    run.stopping = true;
    while (run.receivers_busy + run.deleters_busy > 0)
        setup->port->ops->run(setup->port, IDLE_MS);
    run_free(&run);
}
