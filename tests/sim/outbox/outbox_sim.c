/* SPDX-License-Identifier: Apache-2.0 */
/* outbox_sim: messages between shards, while everything that can go wrong between them does.
 *
 *     outbox_sim [--seed N] [--steps M] [--seeds K] [--mutate depart-early|refuse-early]
 *
 * Three cores are three shards. Clients send, receive, delete, move, create and delete queues;
 * queues redrive to each other across shards. For each pair of shards there are two couriers, as if
 * a deposed leader went on beside the new one: they read the outbox of the leading core or of one
 * that lags, offer more before they have settled what was taken, and crash between any two steps.
 * Their calls are applied late, in any order, or never. Cores restart from their snapshot. ghost.c
 * judges after every command. At the end the chaos stops, and every message must reach a consumer
 * (X4), every move end, and all replicas be equal.
 *
 * The same seed gives the same run. A mutation, here or of the core (CMakeLists.txt), must fail. */
#include "tests/sim/cluster/chance.h"
#include "tests/sim/outbox/ghost.h"

#include "broker/core/place.h"
#include "broker/core/record.h"
#include "proto/base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NAMES       8u /* the first half are FIFO queues */
#define COURIERS    (2 * SHARDS * SHARDS)
#define CALLS_MAX   64
#define LEASES_MAX  64
#define IDS_MAX     64
#define BATCH_MAX   4
#define ALIVE_MAX   150 /* then consumers delete all that they get */
#define DRAIN_TURNS 600

enum mutation { MUTATE_NOTHING, MUTATE_DEPART_EARLY, MUTATE_REFUSE_EARLY };

/* Commands on their way to a shard. */
struct call {
    bool used;
    uint32_t to;
    struct buffer commands;
    uint32_t count;
    uint32_t courier; /* whom the results are for, if it has not crashed since */
    uint32_t life;
};

struct courier {
    uint32_t from;
    uint32_t to;
    uint32_t life;
    enum { IDLE, OFFERED, SETTLING } state;
    uint64_t numbers[BATCH_MAX];
    uint32_t count;
    uint64_t offered; /* what follows is next, though this is not settled yet; 0: nothing */
};

static struct world {
    uint64_t seed;
    uint64_t step;
    enum mutation mutation;
    struct chance chance;
    struct ghost *ghost;
    struct node {
        struct core *core;
        uint64_t index;
        uint64_t now_ms;
        struct core *lagging; /* the same shard, some entries ago */
        uint64_t lagging_index;
    } shards[SHARDS + 1];
    struct courier couriers[COURIERS];
    struct call calls[CALLS_MAX];
    struct known {
        uint64_t queue_id;
        struct core_lease lease;
    } leases[LEASES_MAX];
    uint64_t lease_count;
    uint64_t ids[IDS_MAX]; /* of queues created last */
    uint64_t id_count;
    uint64_t number_last; /* of messages */
    uint64_t handle_last; /* of moves */
    uint64_t moves_done;
    uint64_t refusals;
    bool draining;
} w;

void sim_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "seed %llu, step %llu: ", (unsigned long long)w.seed,
            (unsigned long long)w.step);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

static uint32_t below(uint32_t bound)
{
    return (uint32_t)chance_below(&w.chance, bound);
}

static bool percent(uint32_t of_hundred)
{
    return below(100) < of_hundred;
}

/* ---- cores ---- */

/* One entry of these commands; `results` may be NULL, and lack borrowed parts. */
static void apply(uint32_t shard, struct slice commands, uint32_t count,
                  struct core_result *results)
{
    struct node *node = &w.shards[shard];
    struct buffer entry = {0};
    struct command command = {.type = COMMAND_TICK};
    struct core_result result = {0};
    entry_begin(&entry);
    buffer_add_slice(&entry, commands);
    entry_finish(&entry, count, node->now_ms);
    ghost_entry(w.ghost, shard, buffer_slice(&entry));
    buffer_free(&entry);
    struct slice payload = ghost_payload(w.ghost, shard, ++node->index);
    struct cursor in;
    uint64_t now_ms;
    ASSERT(entry_open(payload, &in, &count, &now_ms) == STATUS_OK);
    ghost_before(w.ghost, shard, node->core, &command);
    core_begin(node->core, node->index, now_ms);
    core_bury(node->core, UINT64_MAX); /* at once: the ghost counts what leaves in each step */
    ghost_after(w.ghost, shard, node->core, &command, &result);
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(command_decode(&in, &command) == STATUS_OK);
        ghost_before(w.ghost, shard, node->core, &command);
        core_apply(node->core, &command, payload, &result);
        core_bury(node->core, UINT64_MAX); /* the ghost goes by which bodies are held */
        ghost_after(w.ghost, shard, node->core, &command, &result);
        if (results != NULL)
            results[i] = result;
    }
}

static struct core_result apply_one(uint32_t shard, const struct command *command)
{
    struct buffer bytes = {0};
    struct core_result result;
    command_encode(&bytes, command);
    apply(shard, buffer_slice(&bytes), 1, &result);
    buffer_free(&bytes);
    return result;
}

static void catch_up(uint32_t shard, uint64_t entries)
{
    struct node *node = &w.shards[shard];
    for (; entries > 0 && node->lagging_index < node->index; entries--) {
        uint64_t index = ++node->lagging_index;
        struct slice payload = ghost_payload(w.ghost, shard, index);
        ASSERT(core_apply_entry(node->lagging, index, payload) == STATUS_OK);
    }
    if (node->lagging_index == node->index && core_digest(node->lagging) != core_digest(node->core))
        sim_fail("the replica of shard %u differs", shard);
}

static void restart(uint32_t shard)
{
    struct node *node = &w.shards[shard];
    struct core_events events = ghost_events(w.ghost, shard);
    struct buffer bytes = {0};
    core_snapshot(node->core, &bytes);
    core_free(node->core);
    ghost_restart(w.ghost, shard);
    node->core = core_new(&events);
    if (core_restore(node->core, buffer_slice(&bytes)) != STATUS_OK)
        sim_fail("the snapshot of shard %u is refused", shard);
    ghost_restarted(w.ghost, shard);
    core_check(node->core);
    buffer_free(&bytes);
}

/* ---- clients ---- */

static struct slice name_of(uint32_t number)
{
    static char names[NAMES][16];
    snprintf(names[number], sizeof names[0], "queue%u", number);
    return slice_of(names[number]);
}

static uint32_t home_of(uint32_t number)
{
    return shard_of_queue_name(name_of(number), SHARDS);
}

/* A FIFO queue's is a FIFO queue, so that messages go in circles. */
static uint32_t dead_letter_of(uint32_t number)
{
    uint32_t half = NAMES / 2;
    return number / half * half + (number + 1) % half;
}

static bool find(uint32_t number, struct queue_view *out)
{
    return core_queue_by_name(w.shards[home_of(number)].core, name_of(number), out);
}

static void create(void)
{
    uint32_t number = below(NAMES);
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    command.queue_create.name = name_of(number);
    command.queue_create.settings = (struct queue_settings){
        .message_bytes_max = 1024,
        .retention_s = 1209600,
        .delay_s = percent(10) ? 2 : 0,
        .visibility_s = 1,
        .receive_count_max = 1 + below(2),
        .fifo = percent(95) == (number < NAMES / 2),
        .dead_letter = name_of(dead_letter_of(number)),
    };
    struct core_result result = apply_one(home_of(number), &command);
    if (result.code == CORE_OK)
        w.ids[w.id_count++ % IDS_MAX] = result.queue_id;
}

static void remove_queue(void)
{
    struct queue_view view;
    uint32_t number = below(NAMES);
    struct command command = {.type = COMMAND_QUEUE_DELETE};
    if (!find(number, &view))
        return;
    command.queue_delete.queue_id = view.queue_id;
    apply_one(home_of(number), &command);
}

static void purge(void)
{
    struct queue_view view;
    uint32_t number = below(NAMES);
    struct command command = {.type = COMMAND_QUEUE_PURGE};
    if (!find(number, &view))
        return;
    command.queue_purge.queue_id = view.queue_id;
    apply_one(home_of(number), &command);
}

static void send_one(void)
{
    struct queue_view view;
    uint32_t number = below(NAMES);
    struct command command = {.type = COMMAND_SEND};
    struct buffer bytes = {0};
    char group[] = "g0";
    char dedup[24];
    if (!find(number, &view))
        return;
    group[1] = (char)('0' + below(3));
    snprintf(dedup, sizeof dedup, "%llu", (unsigned long long)++w.number_last);
    struct record record = {.dedup_id = slice_of(dedup), .body = SLICE_LITERAL("body")};
    if (view.settings.fifo || percent(70))
        record.group_id = slice_of(group);
    bytes_put_u64(record.message_id, w.number_last);
    record_encode(&bytes, &record);
    command.send = (struct command_send){view.queue_id, CORE_DEFAULT, buffer_slice(&bytes)};
    apply_one(home_of(number), &command);
    buffer_free(&bytes);
}

static void delete_one(uint64_t queue_id, struct core_lease lease)
{
    struct command command = {.type = COMMAND_DELETE, .delete = {queue_id, lease, false}};
    apply_one(shard_of_queue_id(queue_id), &command);
}

static void receive_from(uint32_t number, bool all)
{
    struct queue_view view;
    struct command command = {.type = COMMAND_RECEIVE};
    struct core_lease taken[10];
    if (!find(number, &view))
        return;
    command.receive = (struct command_receive){view.queue_id, 1 + below(10), below(3), 0, {0}};
    struct core_result result = apply_one(home_of(number), &command);
    uint32_t count = result.message_count;
    for (uint32_t i = 0; i < count; i++)
        taken[i] = (struct core_lease){result.messages[i].seq, result.messages[i].receive_count};
    for (uint32_t i = 0; i < count; i++) {
        w.leases[w.lease_count++ % LEASES_MAX] = (struct known){view.queue_id, taken[i]};
        if (all || ghost_alive(w.ghost) > ALIVE_MAX)
            delete_one(view.queue_id, taken[i]);
    }
}

static void receive_some(void)
{
    receive_from(below(NAMES), false);
}

static void delete_some(void)
{
    uint64_t kept = w.lease_count < LEASES_MAX ? w.lease_count : LEASES_MAX;
    if (kept == 0)
        return;
    struct known known = w.leases[below((uint32_t)kept)];
    delete_one(known.queue_id, known.lease);
}

static uint64_t some_queue(void)
{
    uint64_t kept = w.id_count < IDS_MAX ? w.id_count : IDS_MAX;
    struct queue_view view;
    if (percent(70) && find(below(NAMES), &view))
        return view.queue_id;
    return kept > 0 ? w.ids[below((uint32_t)kept)] : queue_id_make(1, 1);
}

static void move_start(void)
{
    struct command command = {.type = COMMAND_MOVE_START};
    bytes_put_u64(command.move_start.handle, ++w.handle_last);
    command.move_start.source_queue_id = some_queue();
    command.move_start.destination_queue_id = percent(50) ? 0 : some_queue();
    command.move_start.per_second_max = percent(70) ? 0 : 1 + below(3);
    apply_one(shard_of_queue_id(command.move_start.source_queue_id), &command);
}

static void move_cancel(void)
{
    struct command command = {.type = COMMAND_MOVE_CANCEL};
    struct move_view move;
    size_t position = 0;
    uint64_t queue_id = some_queue();
    uint32_t shard = shard_of_queue_id(queue_id);
    if (!core_move_next(w.shards[shard].core, queue_id, &position, &move))
        return;
    memcpy(command.move_cancel.handle, move.handle, UUID_BYTES);
    command.move_cancel.source_queue_id = queue_id;
    apply_one(shard, &command);
}

static void pass_time(void)
{
    uint32_t shard = 1 + below(SHARDS);
    w.shards[shard].now_ms += percent(50) ? below(5) : below(3000);
    apply_one(shard, &(struct command){.type = COMMAND_TICK});
}

/* ---- couriers ---- */

static struct call *call_begin(uint32_t to, const struct courier *courier)
{
    size_t i = 0;
    while (i < CALLS_MAX && w.calls[i].used)
        i++;
    if (i == CALLS_MAX)
        i = below(CALLS_MAX); /* one is lost */
    struct call *call = &w.calls[i];
    buffer_clear(&call->commands);
    call->used = true;
    call->to = to;
    call->count = 0;
    call->courier = (uint32_t)(courier - w.couriers);
    call->life = courier->life;
    return call;
}

static void call_add(struct call *call, const struct command *command)
{
    command_encode(&call->commands, command);
    call->count++;
}

static void settle(struct courier *courier, uint64_t accepted, uint64_t first, uint64_t last)
{
    struct call *call = call_begin(courier->from, courier);
    struct command departed = {.type = COMMAND_DEPARTED, .departed = {courier->to, accepted}};
    struct command refused = {.type = COMMAND_REFUSED, .refused = {courier->to, first, last}};
    if (accepted > 0)
        call_add(call, &departed);
    if (last > 0)
        call_add(call, &refused);
    courier->state = SETTLING;
    if (last > 0)
        courier->offered = 0; /* what follows is numbered anew */
}

static void offer(struct courier *courier, const struct core *core)
{
    const struct parcel *position = NULL;
    struct outbox_view view;
    struct call *call = NULL;
    uint32_t most = 1 + below(BATCH_MAX);
    courier->count = 0;
    while (courier->count < most && core_outbox_next(core, courier->to, &position, &view)) {
        if (view.arrive.number <= courier->offered)
            continue;
        struct command command = {.type = COMMAND_ARRIVE, .arrive = view.arrive};
        command.arrive.record = ghost_body(w.ghost, courier->from, view.body);
        if (call == NULL)
            call = call_begin(courier->to, courier);
        call_add(call, &command);
        courier->numbers[courier->count++] = view.arrive.number;
    }
    if (call == NULL)
        return;
    courier->state = OFFERED;
    if (w.mutation == MUTATE_DEPART_EARLY && percent(5))
        settle(courier, courier->numbers[courier->count - 1], 0, 0);
    if (w.mutation == MUTATE_REFUSE_EARLY && percent(5))
        settle(courier, 0, courier->numbers[0], courier->numbers[0]);
}

/* What was taken, then what was refused; what follows has to wait. */
static void on_offered(struct courier *courier, const struct core_result *results, uint32_t count)
{
    uint64_t accepted = 0;
    uint64_t first = 0;
    uint64_t last = 0;
    uint32_t i = 0;
    ASSERT(count == courier->count);
    for (; i < count && results[i].code == CORE_OK; i++)
        accepted = courier->numbers[i];
    for (; i < count && results[i].code == CORE_NO_QUEUE; i++) {
        first = first == 0 ? courier->numbers[i] : first;
        last = courier->numbers[i];
        w.refusals++;
    }
    courier->state = IDLE;
    if (accepted > 0)
        courier->offered = accepted;
    if (last > 0 || (accepted > 0 && (w.draining || percent(50))))
        settle(courier, courier->offered, first, last);
}

static void deliver(struct call *call)
{
    struct core_result results[BATCH_MAX + 2];
    struct courier *courier = &w.couriers[call->courier];
    call->used = false;
    apply(call->to, buffer_slice(&call->commands), call->count, results);
    if (courier->life != call->life)
        return;
    if (courier->state == OFFERED && call->to == courier->to)
        on_offered(courier, results, call->count);
    else
        courier->state = IDLE;
}

static void crash(struct courier *courier)
{
    courier->life++;
    courier->state = IDLE;
    courier->offered = 0;
}

static void courier_step(void)
{
    struct courier *courier = &w.couriers[below(COURIERS)];
    const struct node *node = &w.shards[courier->from];
    if (courier->state != IDLE || courier->from == courier->to)
        return;
    if (courier->offered > 0 && percent(20)) {
        settle(courier, courier->offered, 0, 0);
        return;
    }
    offer(courier, percent(50) ? node->core : node->lagging);
}

static void call_step(void)
{
    struct call *call = &w.calls[below(CALLS_MAX / 4)];
    if (!call->used)
        return;
    if (percent(90))
        deliver(call);
    else
        call->used = false;
}

static void crash_step(void)
{
    crash(&w.couriers[below(COURIERS)]);
}

static void restart_step(void)
{
    restart(1 + below(SHARDS));
}

static void catch_up_step(void)
{
    catch_up(1 + below(SHARDS), 1 + below(40));
}

/* ---- a run ---- */

static const struct {
    uint32_t weight;
    void (*act)(void);
} acts[] = {
    {250, send_one},   {250, receive_some},  {60, delete_some}, {60, create},
    {8, remove_queue}, {4, purge},           {25, move_start},  {5, move_cancel},
    {120, pass_time},  {500, courier_step},  {300, call_step},  {20, crash_step},
    {2, restart_step}, {100, catch_up_step},
};

static void step(void)
{
    uint32_t total = 0;
    for (size_t i = 0; i < ARRAY_COUNT(acts); i++)
        total += acts[i].weight;
    uint32_t draw = below(total);
    size_t row = 0;
    while (draw >= acts[row].weight)
        draw -= acts[row++].weight;
    acts[row].act();
}

/* One turn of an undisturbed courier for each pair of shards. */
static void deliver_all(void)
{
    for (uint32_t i = 0; i < COURIERS / 2; i++) {
        struct courier *courier = &w.couriers[i];
        if (courier->from == courier->to)
            continue;
        crash(courier);
        offer(courier, w.shards[courier->from].core);
        for (size_t j = 0; j < CALLS_MAX; j++) {
            if (w.calls[j].used)
                deliver(&w.calls[j]);
        }
        for (size_t j = 0; j < CALLS_MAX; j++) {
            if (w.calls[j].used)
                deliver(&w.calls[j]);
        }
    }
}

static bool moves_run(void)
{
    for (uint32_t number = 0; number < NAMES; number++) {
        struct queue_view queue;
        struct move_view move;
        size_t position = 0;
        if (find(number, &queue) &&
            core_move_next(w.shards[home_of(number)].core, queue.queue_id, &position, &move) &&
            move.status == MOVE_RUNNING)
            return true;
    }
    return false;
}

static void drain(void)
{
    uint32_t turns = 0;
    w.draining = true;
    for (; ghost_alive(w.ghost) > 0 || moves_run(); turns++) {
        if (turns == DRAIN_TURNS)
            sim_fail("X4: %llu messages are stuck%s", (unsigned long long)ghost_alive(w.ghost),
                     moves_run() ? ", and a move" : "");
        for (uint32_t shard = 1; shard <= SHARDS; shard++) {
            w.shards[shard].now_ms += 3000;
            apply_one(shard, &(struct command){.type = COMMAND_TICK});
        }
        deliver_all();
        for (uint32_t number = 0; number < NAMES; number++)
            receive_from(number, true);
    }
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        core_check(w.shards[shard].core);
        catch_up(shard, UINT64_MAX);
    }
}

static void open_world(uint64_t seed, enum mutation mutation)
{
    w = (struct world){.seed = seed, .mutation = mutation, .chance = {seed}};
    w.ghost = ghost_new();
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        struct core_events events = ghost_events(w.ghost, shard);
        w.shards[shard] = (struct node){
            .core = core_new(&events), .lagging = core_new(NULL), .now_ms = 1000000 + below(5000)};
        struct command place = {.type = COMMAND_PLACE, .place = {shard, SHARDS}};
        apply_one(shard, &place);
    }
    for (uint32_t i = 0; i < COURIERS; i++) {
        w.couriers[i].from = 1 + i % SHARDS;
        w.couriers[i].to = 1 + i / SHARDS % SHARDS;
    }
}

static void close_world(void)
{
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        core_free(w.shards[shard].core);
        core_free(w.shards[shard].lagging);
    }
    for (size_t i = 0; i < CALLS_MAX; i++)
        buffer_free(&w.calls[i].commands);
    ghost_free(w.ghost);
}

static void run(uint64_t seed, uint64_t steps, enum mutation mutation)
{
    open_world(seed, mutation);
    for (w.step = 0; w.step < steps; w.step++) {
        step();
        if (w.step % 64 == 0)
            core_check(w.shards[1 + below(SHARDS)].core);
    }
    drain();
    printf("seed %llu: %llu messages, %llu arrivals, %llu refusals\n", (unsigned long long)seed,
           (unsigned long long)w.number_last, (unsigned long long)ghost_hops(w.ghost),
           (unsigned long long)w.refusals);
    fflush(stdout);
    close_world();
}

static int usage(void)
{
    fprintf(stderr, "usage: outbox_sim [--seed N] [--seeds K] [--steps M]\n"
                    "                  [--mutate depart-early|refuse-early]\n");
    return 64;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    uint64_t seeds = 1;
    uint64_t steps = 20000;
    enum mutation mutation = MUTATE_NOTHING;
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        uint64_t number = strtoull(value, NULL, 10);
        if (strcmp(argv[i], "--seed") == 0)
            seed = number;
        else if (strcmp(argv[i], "--seeds") == 0)
            seeds = number;
        else if (strcmp(argv[i], "--steps") == 0)
            steps = number;
        else if (strcmp(argv[i], "--mutate") == 0 && strcmp(value, "depart-early") == 0)
            mutation = MUTATE_DEPART_EARLY;
        else if (strcmp(argv[i], "--mutate") == 0 && strcmp(value, "refuse-early") == 0)
            mutation = MUTATE_REFUSE_EARLY;
        else
            return usage();
    }
    for (uint64_t i = 0; i < seeds; i++)
        run(seed + i, steps, mutation);
    return 0;
}
