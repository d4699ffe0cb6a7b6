/* SPDX-License-Identifier: Apache-2.0 */
/* Modes are rows: which phases they have, which of them is the one that is reported, and what they
 * default to. Everything else is the same for all: queues are made, phases run, the ledger is
 * settled, queues are deleted.
 *
 * Nothing is believed: a mode that receives everything compares what was acknowledged with what
 * came, body by body; one that only sends compares with what the queues count. */
#include "client/bench/bench.h"

#include "client/bench/body.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NS_PER_S         UINT64_C(1000000000)
#define NS_PER_MS        UINT64_C(1000000)
#define SECONDS_DEFAULT  10
#define MESSAGES_DEFAULT 100000 /* of the modes that fill before they drain */
#define RATE_DEFAULT     500    /* of the modes that keep a rate */
#define QUEUES_DEFAULT   100    /* of the mode that is about them */
#define GROUPS_DEFAULT   64
#define RECEIVERS_LEAST  16 /* unless told; more, up to MOST, where more messages are in flight */
#define RECEIVERS_MOST   128
#define RECEIVERS_MAX    8192
#define INFLIGHT_MAX     16384
#define CALLS_MAX        14000 /* of sends and receives together; the channel's limit is 16384 */
#define QUEUE_NAME_BYTES 48
#define CHORE_CALLS      64 /* at a time, for what is done to every queue */
#define CHORE_WAIT_MS    20u

enum { FILL = 1, DRAIN = 2, BOTH = 4 };

struct mode_row {
    int phases;      /* FILL, DRAIN one after the other; BOTH at once */
    bool paced;      /* has a rate unless told otherwise */
    bool counted;    /* needs a number of messages, not a time */
    bool many;       /* of queues */
    bool resends;    /* and may kill */
    bool first_told; /* the result is of the first phase, not of the last */
};

const struct bench_mode bench_modes[] = {
    {"produce", "send only"},
    {"cycle", "send, receive and delete at once"},
    {"drain", "receive and delete what was sent before"},
    {"latency", "as cycle, at a fixed rate; latencies from when a message was due"},
    {"backlog", "send a backlog, then drain it; reports both"},
    {"queues", "as cycle, over many queues; reports how fast they are made"},
    {"failover", "as latency, resending what fails; kills --kill-pid half way"},
};
static const struct mode_row rows[] = {
    {.phases = FILL},
    {.phases = BOTH},
    {.phases = FILL | DRAIN, .counted = true},
    {.phases = BOTH, .paced = true},
    {.phases = FILL | DRAIN, .counted = true, .first_told = true},
    {.phases = BOTH, .many = true},
    {.phases = BOTH, .paced = true, .resends = true},
};
const size_t bench_mode_count = ARRAY_COUNT(bench_modes);
_Static_assert(ARRAY_COUNT(rows) == ARRAY_COUNT(bench_modes), "a row for each mode");

/* ---- the plan ---- */

static const struct mode_row *row_of(const struct bench_plan *plan)
{
    for (size_t i = 0; i < bench_mode_count; i++) {
        if (strcmp(bench_modes[i].name, plan->mode) == 0)
            return &rows[i];
    }
    return NULL;
}

static bool is_native(const struct bench_plan *plan)
{
    return strcmp(plan->protocol, "native") == 0;
}

/* As many messages received and not yet deleted as sent and not yet answered: with few receives it
 * would be these, and not the broker, that a drain waits for. */
static uint64_t receivers_for(uint64_t inflight)
{
    uint64_t receivers = inflight / PORT_BATCH_MAX;
    if (receivers < RECEIVERS_LEAST)
        return RECEIVERS_LEAST;
    return receivers < RECEIVERS_MOST ? receivers : RECEIVERS_MOST;
}

static void fill_defaults(struct bench_plan *plan, const struct mode_row *row)
{
    if (plan->messages == 0 && plan->seconds == 0 && row->counted)
        plan->messages = MESSAGES_DEFAULT;
    if (plan->messages == 0 && plan->seconds == 0)
        plan->seconds = SECONDS_DEFAULT;
    if (plan->rate == 0 && row->paced)
        plan->rate = RATE_DEFAULT;
    if (plan->queues == 0)
        plan->queues = row->many ? QUEUES_DEFAULT : 1;
    if (plan->batch > plan->inflight)
        plan->batch = plan->inflight;
    if (plan->fifo && plan->groups == 0)
        plan->groups = GROUPS_DEFAULT;
    if (plan->receivers == 0) {
        plan->receivers = receivers_for(plan->inflight);
        if (is_native(plan) && plan->queues > plan->receivers && plan->queues <= RECEIVERS_MAX)
            plan->receivers = plan->queues; /* each queue has one that waits */
    }
}

const char *bench_plan_check(struct bench_plan *plan)
{
    const struct mode_row *row = row_of(plan);
    struct processes processes;
    if (row == NULL)
        return "--mode must be produce, cycle, drain, latency, backlog, queues or failover";
    if (!is_native(plan) && strcmp(plan->protocol, "http") != 0)
        return "--protocol must be native or http";
    if (plan->size < BODY_BYTES_MIN || plan->size > BODY_BYTES_MAX)
        return "--size must be between 48 and 1048576";
    if (plan->inflight == 0 || plan->inflight > INFLIGHT_MAX)
        return "--inflight must be between 1 and 16384";
    if (plan->batch == 0 || plan->batch > PORT_BATCH_MAX)
        return "--batch must be between 1 and 10";
    if (plan->batch * plan->size > BODY_BYTES_MAX)
        return "--batch times --size is above 1 MiB, the limit of a batch";
    if (plan->groups > 0 && !plan->fifo)
        return "--groups is for --fifo";
    if (plan->kill_pid > 0 && !row->resends)
        return "--kill-pid is for --mode failover";
    if (plan->kill_pid > 0 && plan->messages > 0)
        return "--kill-pid wants --seconds, to know when half of it is over";
    if (row->counted && plan->seconds > 0)
        return "this mode wants --messages, not --seconds";
    if (plan->server_pids != NULL && !processes_parse(plan->server_pids, &processes))
        return "--server-pids must be numbers of running processes, separated by commas";
    fill_defaults(plan, row);
    if (plan->inflight / plan->batch + plan->receivers > CALLS_MAX)
        return "--inflight divided by --batch, and --receivers, are above 14000 together";
    return NULL;
}

/* ---- the queues ---- */

struct bench {
    const struct bench_plan *plan;
    const struct mode_row *row;
    struct port *port;
    struct ledger ledger;
    struct run_setup setup;
    char (*names)[QUEUE_NAME_BYTES];
    const char **queues;
    uint64_t created_ns;              /* what making them took */
    uint64_t rss_before, rss_created; /* of the servers: before, and with them */
    struct phase_result fill, main;
    char *why; /* 256 bytes */
};

static void name_queues(struct bench *b)
{
    const struct bench_plan *plan = b->plan;
    b->names = calloc(plan->queues, sizeof *b->names);
    b->queues = calloc(plan->queues, sizeof *b->queues);
    ASSERT(b->names != NULL && b->queues != NULL);
    for (uint64_t i = 0; i < plan->queues; i++) {
        snprintf(b->names[i], sizeof b->names[i], "bench-%08" PRIx32 "-%" PRIu64 "%s",
                 b->setup.run_id, i, plan->fifo ? ".fifo" : "");
        b->queues[i] = b->names[i];
    }
}

/* One call for each queue, some at a time. */
struct chore {
    struct port_call calls[CHORE_CALLS];
    struct port_call *idle[CHORE_CALLS];
    uint32_t idle_count;
    uint64_t visible; /* COUNT: of all */
    char why[160];    /* of the first that was refused; empty: none was */
};

static void on_chore_call(struct port_call *call)
{
    struct chore *chore = call->data;
    if (call->end == PORT_DONE)
        chore->visible += call->visible;
    else if (chore->why[0] == 0)
        memcpy(chore->why, call->why, sizeof chore->why);
    chore->idle[chore->idle_count++] = call;
}

/* Each queue has its call, whatever came of the others; what was refused is told in `why`. */
static uint64_t each_queue(struct bench *b, enum port_kind kind, char why[160])
{
    struct chore *chore = calloc(1, sizeof *chore);
    ASSERT(chore != NULL);
    for (uint32_t i = 0; i < CHORE_CALLS; i++)
        chore->idle[chore->idle_count++] = &chore->calls[i];
    for (uint64_t next = 0; next < b->plan->queues || chore->idle_count < CHORE_CALLS;) {
        while (next < b->plan->queues && chore->idle_count > 0) {
            struct port_call *call = chore->idle[--chore->idle_count];
            *call = (struct port_call){.kind = kind,
                                       .queue = b->queues[next++],
                                       .fifo = b->plan->fifo,
                                       .done = on_chore_call,
                                       .data = chore};
            b->port->ops->call(b->port, call);
        }
        if (chore->idle_count < CHORE_CALLS)
            b->port->ops->run(b->port, CHORE_WAIT_MS);
    }
    uint64_t visible = chore->visible;
    memcpy(why, chore->why, sizeof chore->why);
    free(chore);
    return visible;
}

static bool create_queues(struct bench *b)
{
    char why[160];
    uint64_t begun = clock_monotonic_ns();
    b->rss_before = processes_rss_bytes(&b->setup.servers);
    each_queue(b, PORT_CREATE, why);
    if (why[0] != 0)
        snprintf(b->why, 256, "cannot create a queue: %s", why);
    b->created_ns = clock_monotonic_ns() - begun;
    b->rss_created = processes_rss_bytes(&b->setup.servers);
    return why[0] == 0;
}

/* What cannot be deleted (the broker is gone) is left. */
static void delete_queues(struct bench *b)
{
    char why[160];
    each_queue(b, PORT_DESTROY, why);
}

static uint64_t count_visible(struct bench *b)
{
    char why[160];
    return each_queue(b, PORT_COUNT, why);
}

/* ---- the result ---- */

static double per_second(uint64_t count, uint64_t ns)
{
    return ns > 0 ? (double)count * (double)NS_PER_S / (double)ns : 0;
}

static double each(uint64_t total, uint64_t count)
{
    return count > 0 ? (double)total / (double)count : 0;
}

static void put_number(json_t *out, const char *key, uint64_t value)
{
    json_object_set_new(out, key, json_integer((json_int_t)value));
}

/* Three digits behind the point are more than can be measured. */
static void put_real(json_t *out, const char *key, double value)
{
    double rounded = (double)(int64_t)(value * 1000 + (value < 0 ? -0.5 : 0.5)) / 1000;
    json_object_set_new(out, key, json_real(rounded));
}

static void put_settings(json_t *out, const struct bench_plan *plan)
{
    json_object_set_new(out, "mode", json_string(plan->mode));
    json_object_set_new(out, "protocol", json_string(plan->protocol));
    put_number(out, "size", plan->size);
    put_number(out, "inflight", plan->inflight);
    put_number(out, "batch", plan->batch);
    put_number(out, "queues", plan->queues);
    put_number(out, "groups", plan->groups);
    put_number(out, "target_rate", plan->rate);
}

static void put_phase(json_t *out, const struct bench_plan *plan, const struct phase_result *r,
                      const struct histogram *h)
{
    double rate = per_second(r->messages, r->elapsed_ns);
    put_number(out, "messages", r->messages);
    put_real(out, "seconds", (double)r->elapsed_ns / (double)NS_PER_S);
    put_real(out, "rate", rate);
    put_real(out, "mb_per_s", rate * (double)plan->size / 1e6);
    put_number(out, "p50_us", histogram_at(h, 0.5));
    put_number(out, "p99_us", histogram_at(h, 0.99));
    put_number(out, "p999_us", histogram_at(h, 0.999));
    put_number(out, "max_us", h->max);
    put_real(out, "client_cpu_us_per_msg", each(r->client_cpu_us, r->messages));
    put_real(out, "server_cpu_us_per_msg", each(r->server_cpu_us, r->messages));
    put_real(out, "server_rss_mb", (double)r->server_rss_bytes / 1e6);
    put_real(out, "longest_gap_ms", (double)r->longest_gap_ns / (double)NS_PER_MS);
}

/* A backlog's drain is told beside its filling, a cycle's acknowledgements beside its deliveries.
 */
static void put_rest(json_t *out, const struct bench *b)
{
    const struct phase_result *main = &b->main;
    if (b->row->many) {
        uint32_t servers = b->setup.servers.count;
        double grown = (double)b->rss_created - (double)b->rss_before;
        put_real(out, "create_rate", per_second(b->plan->queues, b->created_ns));
        put_real(out, "queue_rss_bytes",
                 servers > 0 ? grown / servers / (double)b->plan->queues : 0);
    }
    if (b->row->first_told) {
        put_real(out, "drain_rate", per_second(main->messages, main->elapsed_ns));
        put_real(out, "drain_server_cpu_us_per_msg", each(main->server_cpu_us, main->messages));
        put_number(out, "drain_p50_us", histogram_at(&main->delivered, 0.5));
    }
    if ((b->row->phases & BOTH) != 0) {
        put_number(out, "ack_p50_us", histogram_at(&main->acked, 0.5));
        put_number(out, "ack_p99_us", histogram_at(&main->acked, 0.99));
        put_number(out, "ack_p999_us", histogram_at(&main->acked, 0.999));
    }
    const char *why = b->fill.why[0] != 0 ? b->fill.why : main->why;
    if (why[0] != 0)
        json_object_set_new(out, "first_error", json_string(why));
}

static json_t *result(struct bench *b, uint64_t visible)
{
    json_t *out = json_object();
    const struct ledger *ledger = &b->ledger;
    bool only_sent = b->row->phases == FILL;
    bool first = only_sent || b->row->first_told;
    const struct phase_result *told = first ? &b->fill : &b->main;
    uint64_t lost = ledger_lost(ledger);
    uint64_t duplicates = ledger->duplicates;
    if (only_sent) {
        lost = visible < ledger->acked ? ledger->acked - visible : 0;
        duplicates = visible > ledger->sent ? visible - ledger->sent : 0;
    }
    put_settings(out, b->plan);
    put_phase(out, b->plan, told, first ? &told->acked : &told->delivered);
    put_number(out, "errors", b->fill.errors + b->main.errors);
    put_number(out, "lost", lost);
    put_number(out, "duplicates", duplicates);
    put_number(out, "corrupt", ledger->corrupt);
    put_number(out, "disordered", ledger->disordered);
    put_rest(out, b);
    return out;
}

/* ---- running ---- */

static void run_phases(struct bench *b)
{
    const struct bench_plan *plan = b->plan;
    struct phase phase = {.name = plan->mode,
                          .send = true,
                          .receive = (b->row->phases & BOTH) != 0,
                          .messages_max = plan->messages,
                          .ns_max = plan->seconds * NS_PER_S,
                          .rate = (uint32_t)plan->rate,
                          .kill_pid = (int)plan->kill_pid};
    struct phase drain = {.name = "drain", .receive = true};
    if ((b->row->phases & DRAIN) != 0)
        phase.name = "fill";
    run_phase(&b->setup, &phase, phase.receive ? &b->main : &b->fill);
    if ((b->row->phases & DRAIN) != 0)
        run_phase(&b->setup, &drain, &b->main);
}

static bool open_port(struct bench *b)
{
    const struct bench_plan *plan = b->plan;
    bool native = is_native(plan);
    /* A call that waits at the broker keeps an HTTP connection; deletes must not wait behind it. */
    uint32_t connections = (uint32_t)(plan->inflight / plan->batch + 2 * plan->receivers + 1);
    char why[PORT_WHY_BYTES];
    enum status status = native
                             ? port_native(&b->port, plan->brokers, &plan->access, why)
                             : port_http(&b->port, plan->endpoint, connections, &plan->access, why);
    if (status != STATUS_OK)
        snprintf(b->why, 256, "cannot use %.100s: %.140s", native ? plan->brokers : plan->endpoint,
                 why);
    return status == STATUS_OK;
}

static void set_up(struct bench *b)
{
    const struct bench_plan *plan = b->plan;
    b->setup = (struct run_setup){.ledger = &b->ledger,
                                  .queue_count = (uint32_t)plan->queues,
                                  .size = (uint32_t)plan->size,
                                  .inflight = (uint32_t)plan->inflight,
                                  .batch = (uint32_t)plan->batch,
                                  .receivers = (uint32_t)plan->receivers,
                                  .groups = plan->fifo ? (uint32_t)plan->groups : 0,
                                  .resend = b->row->resends};
    clock_random(&b->setup.run_id, sizeof b->setup.run_id);
    if (plan->server_pids != NULL && !processes_parse(plan->server_pids, &b->setup.servers))
        b->setup.servers.count = 0; /* one has ended since the plan was checked */
    ledger_init(&b->ledger, b->setup.groups);
    name_queues(b);
    b->setup.queues = b->queues;
    b->setup.port = b->port;
}

json_t *bench_run(const struct bench_plan *plan, struct port *port, char why[256])
{
    struct bench *b = calloc(1, sizeof *b);
    json_t *out = NULL;
    ASSERT(b != NULL);
    b->plan = plan;
    b->row = row_of(plan);
    b->why = why;
    b->port = port;
    why[0] = 0;
    ASSERT(b->row != NULL);
    if (port == NULL && !open_port(b))
        goto done_without_port;
    set_up(b);
    if (create_queues(b)) {
        run_phases(b);
        out = result(b, b->row->phases == FILL ? count_visible(b) : 0);
    }
    delete_queues(b);
    b->port->ops->close(b->port);
    ledger_free(&b->ledger);
    free(b->names);
    free(b->queues);
done_without_port:
    free(b);
    return out;
}
