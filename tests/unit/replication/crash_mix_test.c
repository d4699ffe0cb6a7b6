/* SPDX-License-Identifier: Apache-2.0 */
/* kill -9 in the middle of everything at once: what was promised holds after the restart.
 *
 * A child does a random mix on several queues: sends of very uneven sizes, receives, deletes,
 * changes of visibility, purges, moves. Segments and snapshots are small, and a slow queue keeps a
 * few messages of a fast one's segments alive, so the kills also hit snapshots, rewrites and
 * reclaiming. What was begun and what was answered stands in a ledger, in memory that is shared
 * with the parent: it outlives the child, and unlike a pipe it never stops one.
 *
 * After each kill a copy of the folder is opened and emptied: every message that was acknowledged
 * and neither deleted nor purged must be there, once, with its bytes; none that was may be; of a
 * FIFO group the order must hold. The copy is then opened once more and must have the same digest.
 * What nobody was told is settled by what was found, and the next child goes on in the folder
 * itself. MILLRACE_SEED repeats a run's choices; MILLRACE_ROUNDS sets the number of kills. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/core/record.h"
#include "broker/replication/shard.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS        4
#define WINDOW        8
#define NUMBERS       (4u << 20)
#define TEXT_ROOM     (72u << 10)
#define SEGMENT_BYTES (256u << 10)
#define TAKE_MAX      10u
#define FLOOD         12000u /* more than one entry drops of a purged queue */
#define BRIEF_S       60u    /* the least retention there is */

/* Queues between which messages wander are one family: they are purged together. */
enum family { FAST, WORK, SLOW, FIFO, BRIEF };
enum { QUEUES = 7, FAMILIES = 5, DEAD = 2, SIDE = 3 };
static const struct {
    const char *name;
    enum family family;
    uint32_t share;    /* of the sends, in a hundred */
    uint64_t wanted;   /* above this many, consumers delete nearly all that they get */
    uint32_t purge_in; /* one purge in so many steps; 0: never */
} queues[QUEUES] = {
    {"fast", FAST, 50, 20, 4000}, {"work", WORK, 20, 300, 1500}, {"dead", WORK, 0, 100, 0},
    {"side", WORK, 0, 100, 0},    {"slow", SLOW, 2, 400, 0},     {"ordered", FIFO, 20, 300, 3000},
    {"brief", BRIEF, 8, 2000, 0},
};

/* What is known of a number. */
enum {
    BEGUN = 1,
    SENT = 2,
    DELETING = 4,
    PURGING = 8,
    UNSURE = 16, /* sent beside a purge */
    GONE = 32
};
struct fact {
    uint8_t bits;
    uint8_t family;
    bool tiny;
    uint8_t seen;
    uint32_t sent_s; /* when the sending began */
};
struct ledger {
    uint32_t next;
    uint64_t digest;
    uint64_t index; /* applied, as of the digest */
    uint64_t sends;
    uint64_t deletes;
    uint64_t purges;
    uint64_t moves;
    uint64_t snapshots;
    struct fact facts[NUMBERS];
};
static struct ledger *ledger;

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: ", __func__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            _exit(3);                                                                              \
        }                                                                                          \
    } while (0)

static uint32_t draw(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)(*seed >> 4) * below) >> 28);
}

static uint32_t now_s(void)
{
    return (uint32_t)time(NULL);
}

/* ---- a node ---- */

struct node {
    uv_loop_t loop;
    struct shard *shard;
    uint64_t ids[QUEUES];
    uint64_t purges_begun[FAMILIES];
    uint64_t purges_done[FAMILIES];
    uint64_t kept[QUEUES]; /* leased for long by the checker */
    uint8_t *busy;         /* numbers that a step of ours is busy with */
    uint32_t seed;
    bool ready;
};

static void on_ready(void *data, bool ready)
{
    ((struct node *)data)->ready = ready;
}

/* load_node: as far as the disk goes; open_node: until it leads, which begins with an entry. */
static void load_node(struct node *node, const char *dir)
{
    const char *error = NULL;
    uv_loop_init(&node->loop);
    trace_configure(TRACE_WARN, false);
    struct shard_options options = {.loop = &node->loop,
                                    .dir = dir,
                                    .node_id = 1,
                                    .address = "127.0.0.1:9326",
                                    .segment_bytes = SEGMENT_BYTES,
                                    .snapshot_bytes = 64u << 10,
                                    .disk_reserve_bytes = 1,
                                    .leading_changed = on_ready,
                                    .data = node};
    enum status status = shard_open(&node->shard, &options, &error);
    CHECK(status == STATUS_OK, "%s", error);
}

static void open_node(struct node *node, const char *dir)
{
    load_node(node, dir);
    while (!node->ready)
        uv_run(&node->loop, UV_RUN_ONCE);
    core_check(shard_core(node->shard));
}

struct one_call {
    struct shard_call call;
    bool done;
    struct core_result result;
    struct core_message messages[TAKE_MAX];
};

static void on_one(struct shard_call *call, enum status status, const struct core_result *results,
                   uint32_t count)
{
    struct one_call *one = call->data;
    CHECK(status == STATUS_OK && count == 1, "%s", status_text(status));
    one->done = true;
    one->result = results[0];
    if (one->result.message_count > 0)
        memcpy(one->messages, results[0].messages,
               results[0].message_count * sizeof one->messages[0]);
}

static void run_one(struct node *node, struct one_call *one, const struct command *command)
{
    *one = (struct one_call){.call = {.done = on_one, .data = one}};
    shard_call_add(&one->call, command);
    shard_call(node->shard, &one->call);
    while (!one->done)
        uv_run(&node->loop, UV_RUN_ONCE);
}

static struct queue_settings settings_of(int q)
{
    struct queue_settings settings = {
        .message_bytes_max = 262144, .retention_s = 86400, .visibility_s = 1};
    settings.fifo = queues[q].family == FIFO;
    if (queues[q].family == BRIEF)
        settings.retention_s = BRIEF_S;
    if (queues[q].family == WORK && q != DEAD && q != SIDE) {
        settings.receive_count_max = 2;
        settings.dead_letter = slice_of(queues[DEAD].name);
    }
    return settings;
}

static void find_queues(struct node *node, bool create)
{
    struct queue_view view;
    struct one_call one;
    for (int q = 0; q < QUEUES; q++) {
        struct command command = {.type = COMMAND_QUEUE_CREATE};
        command.queue_create.name = slice_of(queues[q].name);
        command.queue_create.settings = settings_of(q);
        if (create)
            run_one(node, &one, &command);
        if (core_queue_by_name(shard_core(node->shard), slice_of(queues[q].name), &view))
            node->ids[q] = view.queue_id;
    }
}

/* ---- messages ---- */

/* text_of: "NUMBER aaaa...": what it is and how long follows from the number. */
static struct slice text_of(uint32_t number, char *text)
{
    uint32_t seed = number * 2654435761u;
    uint32_t kind = draw(&seed, 100);
    uint32_t room = ledger->facts[number].tiny ? 20 : kind < 80 ? 700 : kind < 98 ? 9000 : 66000;
    uint32_t used = (uint32_t)snprintf(text, TEXT_ROOM, "%u ", number);
    uint32_t length = used + draw(&seed, room);
    for (uint32_t i = used; i < length; i++)
        text[i] = (char)('a' + (number + i / 61) % 26);
    return slice_make(text, length);
}

static uint32_t group_of_number(uint32_t number)
{
    return number * 2654435761u >> 29;
}

static void add_send(struct shard_call *call, uint64_t queue_id, uint32_t number, uint32_t delay_s)
{
    static char text[TEXT_ROOM];
    char group[16];
    char dedup[16];
    struct buffer bytes = {0};
    struct record record = {.body = text_of(number, text)};
    snprintf(group, sizeof group, "g%u", group_of_number(number));
    snprintf(dedup, sizeof dedup, "%u", number);
    record.group_id = slice_of(group);
    record.dedup_id = slice_of(dedup);
    if (ledger->facts[number].family != FIFO) {
        record.dedup_id = slice_of("");
        record.group_id = number % 3 == 0 ? record.group_id : slice_of("");
    }
    memcpy(record.message_id, &number, sizeof number);
    record_encode(&bytes, &record);
    struct command command = {.type = COMMAND_SEND};
    command.send = (struct command_send){queue_id, delay_s, buffer_slice(&bytes)};
    shard_call_add(call, &command);
    buffer_free(&bytes);
}

/* number_of: checks the bytes too. */
static uint32_t number_of(struct slice bytes, enum family family)
{
    static char text[TEXT_ROOM];
    struct record record;
    CHECK(record_decode(bytes, &record) == STATUS_OK, "%zu bytes", bytes.length);
    CHECK(record.body.length > 0, "empty");
    uint32_t number = (uint32_t)strtoul((const char *)record.body.data, NULL, 10);
    CHECK(number < NUMBERS, "number %u", number);
    CHECK(slice_equal(record.body, text_of(number, text)), "body of %u", number);
    CHECK(ledger->facts[number].bits != 0, "number %u was never sent", number);
    CHECK(ledger->facts[number].family == family, "number %u is of another family", number);
    return number;
}

/* ---- the child that is killed ---- */

/* One of several things under way. */
struct step {
    struct node *node;
    struct shard_call call;
    struct shard_read read;
    int queue;
    uint32_t count;
    uint32_t numbers[TAKE_MAX];
    uint64_t purges_done[FAMILIES]; /* when it began */
    struct core_message messages[TAKE_MAX];
    struct body_ref refs[TAKE_MAX];
};

static void step_next(struct step *step);

static void begin(struct step *step, shard_call_cb done)
{
    step->call = (struct shard_call){.done = done, .data = step};
}

static void on_sent(struct shard_call *call, enum status status, const struct core_result *results,
                    uint32_t count)
{
    struct step *step = call->data;
    CHECK(status == STATUS_OK && count == step->count, "%s", status_text(status));
    for (uint32_t i = 0; i < count; i++) {
        struct fact *fact = &ledger->facts[step->numbers[i]];
        CHECK(results[i].code == CORE_OK && !results[i].duplicate, "send: %d", results[i].code);
        bool beside = step->node->purges_begun[fact->family] != step->purges_done[fact->family];
        fact->bits = (uint8_t)(fact->bits | SENT | (beside ? UNSURE : 0));
        ledger->sends++;
    }
    step_next(step);
}

/* Messages of several queues share an entry. */
static void step_send(struct step *step)
{
    struct node *node = step->node;
    begin(step, on_sent);
    memcpy(step->purges_done, node->purges_done, sizeof node->purges_done);
    step->count = 1 + draw(&node->seed, TAKE_MAX);
    for (uint32_t i = 0; i < step->count; i++) {
        uint32_t share = draw(&node->seed, 100);
        int q = 0;
        for (; share >= queues[q].share; q++)
            share -= queues[q].share;
        uint32_t number = ledger->next++;
        CHECK(number < NUMBERS, "too many");
        ledger->facts[number] =
            (struct fact){.bits = BEGUN, .family = (uint8_t)queues[q].family, .sent_s = now_s()};
        step->numbers[i] = number;
        bool late = queues[q].family != FIFO && draw(&node->seed, 20) == 0;
        add_send(&step->call, node->ids[q], number, late ? 1 : 0);
    }
    shard_call(node->shard, &step->call);
}

static void on_settled(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct step *step = call->data;
    CHECK(status == STATUS_OK && count == step->count, "%s", status_text(status));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = step->numbers[i];
        struct fact *fact = &ledger->facts[number];
        step->node->busy[number] = 0;
        if ((fact->bits & DELETING) == 0)
            continue;
        fact->bits = (uint8_t)(fact->bits & ~DELETING);
        if (results[i].code == CORE_OK) {
            fact->bits |= GONE;
            ledger->deletes++;
        }
    }
    step_next(step);
}

/* What a consumer does with what it got: delete, give back, or forget. */
static void settle(struct step *step, uint32_t seen_count)
{
    struct node *node = step->node;
    struct queue_view view;
    bool there = core_queue_by_id(shard_core(node->shard), node->ids[step->queue], &view);
    uint64_t present = there ? view.visible + view.in_flight : 0;
    uint32_t keep = present > queues[step->queue].wanted ? 5 : 70;
    begin(step, on_settled);
    step->count = 0;
    for (uint32_t i = 0; i < seen_count; i++) {
        uint32_t number = step->numbers[i];
        struct core_lease lease = {step->messages[i].seq, step->messages[i].receive_count};
        struct command command = {.type = COMMAND_DELETE};
        if (node->busy[number] > 0 || (draw(&node->seed, 100) < keep && draw(&node->seed, 2) == 0))
            continue;
        command.delete = (struct command_delete){node->ids[step->queue], lease, false};
        if (draw(&node->seed, 100) < keep) {
            command.type = COMMAND_CHANGE_VISIBILITY;
            command.change_visibility = (struct command_change_visibility){
                node->ids[step->queue], lease, draw(&node->seed, 2)};
        } else {
            ledger->facts[number].bits |= DELETING;
        }
        node->busy[number] = 1;
        step->numbers[step->count++] = number;
        shard_call_add(&step->call, &command);
    }
    if (step->count == 0)
        step_next(step);
    else
        shard_call(node->shard, &step->call);
}

static void on_bodies(struct shard_read *read, enum status status)
{
    struct step *step = read->data;
    uint32_t count = (uint32_t)read->count;
    uint32_t last[8] = {0};
    size_t at = 0;
    CHECK(status == STATUS_OK, "%s: %s", queues[step->queue].name, status_text(status));
    for (uint32_t i = 0; i < count; i++) {
        struct slice bytes = slice_make(read->out.data + at, step->refs[i].length);
        uint32_t number = number_of(bytes, queues[step->queue].family);
        at += step->refs[i].length;
        step->numbers[i] = number;
        if (queues[step->queue].family != FIFO)
            continue;
        CHECK(number + 1 > last[group_of_number(number)], "group order: %u", number);
        last[group_of_number(number)] = number + 1;
    }
    buffer_free(&read->out);
    settle(step, count);
}

static void on_taken(struct shard_call *call, enum status status, const struct core_result *results,
                     uint32_t count)
{
    struct step *step = call->data;
    CHECK(status == STATUS_OK && count == 1, "%s", status_text(status));
    if (results[0].message_count == 0) {
        step_next(step);
        return;
    }
    for (uint32_t i = 0; i < results[0].message_count; i++) {
        step->messages[i] = results[0].messages[i];
        step->refs[i] = results[0].messages[i].body;
    }
    step->read = (struct shard_read){
        .refs = step->refs, .count = results[0].message_count, .done = on_bodies, .data = step};
    shard_read(step->node->shard, &step->read);
}

static void step_receive(struct step *step)
{
    struct node *node = step->node;
    struct command command = {.type = COMMAND_RECEIVE};
    step->queue = draw(&node->seed, 2) == 0 ? 0 : (int)draw(&node->seed, QUEUES);
    command.receive = (struct command_receive){node->ids[step->queue], TAKE_MAX, 1, 0, {0}};
    begin(step, on_taken);
    shard_call_add(&step->call, &command);
    shard_call(node->shard, &step->call);
}

static void on_purged(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct step *step = call->data;
    enum family family = queues[step->queue].family;
    CHECK(status == STATUS_OK && count > 0 && results[0].code == CORE_OK, "%s",
          status_text(status));
    for (uint32_t i = 0; i < ledger->next; i++) {
        struct fact *fact = &ledger->facts[i];
        if (fact->family == family && (fact->bits & PURGING) != 0)
            fact->bits = (uint8_t)((fact->bits & ~PURGING) | GONE);
    }
    step->node->purges_done[family]++;
    ledger->purges++;
    step_next(step);
}

static void step_purge(struct step *step)
{
    struct node *node = step->node;
    enum family family = queues[step->queue].family;
    begin(step, on_purged);
    node->purges_begun[family]++;
    for (uint32_t i = 0; i < ledger->next; i++) {
        struct fact *fact = &ledger->facts[i];
        if (fact->family == family && (fact->bits & (SENT | GONE)) == SENT)
            fact->bits |= PURGING;
    }
    for (int q = 0; q < QUEUES; q++) {
        struct command command = {.type = COMMAND_QUEUE_PURGE};
        command.queue_purge.queue_id = node->ids[q];
        if (queues[q].family == family)
            shard_call_add(&step->call, &command);
    }
    shard_call(node->shard, &step->call);
}

static bool may_purge(const struct node *node, int q)
{
    return node->purges_begun[queues[q].family] == node->purges_done[queues[q].family];
}

static void on_flooded(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct step *step = call->data;
    CHECK(status == STATUS_OK && count == FLOOD, "%s", status_text(status));
    for (uint32_t i = 0; i < count; i++) {
        CHECK(results[i].code == CORE_OK, "send: %d", results[i].code);
        bool beside = step->node->purges_begun[FAST] != step->purges_done[FAST];
        struct fact *fact = &ledger->facts[step->numbers[0] + i];
        fact->bits = (uint8_t)(fact->bits | SENT | (beside ? UNSURE : 0));
    }
    ledger->sends += count;
    step->queue = 0;
    if (may_purge(step->node, 0))
        step_purge(step);
    else
        step_next(step);
}

/* So many that dropping them takes several entries. */
static void step_flood(struct step *step)
{
    struct node *node = step->node;
    begin(step, on_flooded);
    memcpy(step->purges_done, node->purges_done, sizeof node->purges_done);
    step->numbers[0] = ledger->next;
    for (uint32_t i = 0; i < FLOOD; i++) {
        uint32_t number = ledger->next++;
        CHECK(number < NUMBERS, "too many");
        ledger->facts[number] =
            (struct fact){.bits = BEGUN, .family = FAST, .tiny = true, .sent_s = now_s()};
        add_send(&step->call, node->ids[0], number, 0);
    }
    shard_call(node->shard, &step->call);
}

static void on_moving(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct step *step = call->data;
    CHECK(status == STATUS_OK && count == 1, "%s", status_text(status));
    ledger->moves += results[0].code == CORE_OK;
    step_next(step);
}

static void step_move(struct step *step)
{
    static const int ways[][2] = {{DEAD, -1}, {DEAD, SIDE}, {1, SIDE}, {SIDE, 1}};
    struct node *node = step->node;
    const int *way = ways[draw(&node->seed, 4)];
    struct command command = {.type = COMMAND_MOVE_START};
    clock_random(command.move_start.handle, sizeof command.move_start.handle);
    command.move_start.source_queue_id = node->ids[way[0]];
    command.move_start.destination_queue_id = way[1] < 0 ? 0 : node->ids[way[1]];
    command.move_start.per_second_max = draw(&node->seed, 2) == 0 ? 0 : 400;
    begin(step, on_moving);
    shard_call_add(&step->call, &command);
    shard_call(node->shard, &step->call);
}

static void step_next(struct step *step)
{
    struct node *node = step->node;
    struct shard_stats stats;
    shard_stats(node->shard, &stats);
    ledger->snapshots = stats.snapshots;
    for (int q = 0; q < QUEUES; q++) {
        if (queues[q].purge_in > 0 && draw(&node->seed, queues[q].purge_in) == 0 &&
            may_purge(node, q)) {
            step->queue = q;
            step_purge(step);
            return;
        }
    }
    if (draw(&node->seed, 1500) == 0) {
        step_flood(step);
        return;
    }
    uint32_t choice = draw(&node->seed, 100);
    if (choice < 40)
        step_send(step);
    else if (choice < 99)
        step_receive(step);
    else
        step_move(step);
}

static void work_for_ever(const char *dir, uint32_t seed)
{
    static struct node node;
    static struct step steps[WINDOW];
    node.seed = seed;
    node.busy = calloc(NUMBERS, 1);
    open_node(&node, dir);
    find_queues(&node, true);
    for (int i = 0; i < WINDOW; i++) {
        steps[i].node = &node;
        step_next(&steps[i]);
    }
    uv_run(&node.loop, UV_RUN_DEFAULT);
    _exit(4);
}

/* ---- the child that checks ---- */

static void on_read(struct shard_read *read, enum status status)
{
    CHECK(status == STATUS_OK, "%s", status_text(status));
    *(bool *)read->data = true;
}

static bool stays(uint32_t number)
{
    const struct fact *fact = &ledger->facts[number];
    return number % 4 == 3 && fact->family != FIFO && fact->family != BRIEF;
}

static struct buffer read_bodies(struct node *node, const struct body_ref *refs, uint32_t count)
{
    bool done = false;
    struct shard_read read = {.refs = refs, .count = count, .done = on_read, .data = &done};
    shard_read(node->shard, &read);
    while (!done)
        uv_run(&node->loop, UV_RUN_ONCE);
    return read.out;
}

static void see(uint32_t number, uint32_t last[8])
{
    ledger->facts[number].seen++;
    if (ledger->facts[number].family != FIFO)
        return;
    CHECK(number + 1 > last[group_of_number(number)], "group order: %u", number);
    last[group_of_number(number)] = number + 1;
}

static void on_deleted(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    CHECK(status == STATUS_OK, "%s", status_text(status));
    for (uint32_t i = 0; i < count; i++)
        CHECK(results[i].code == CORE_OK, "delete: %d", results[i].code);
    *(bool *)call->data = true;
}

/* See what a receive gave, and delete it; but some stay, so that the digest has things to tell. */
static void see_all(struct node *node, int q, const struct one_call *got, uint32_t last[8])
{
    struct body_ref refs[TAKE_MAX];
    uint32_t count = got->result.message_count;
    size_t at = 0;
    bool done = false;
    struct shard_call call = {.done = on_deleted, .data = &done};
    for (uint32_t i = 0; i < count; i++)
        refs[i] = got->messages[i].body;
    struct buffer bodies = read_bodies(node, refs, count);
    for (uint32_t i = 0; i < count; at += refs[i++].length) {
        struct command command = {.type = COMMAND_DELETE};
        uint32_t number = number_of(slice_make(bodies.data + at, refs[i].length), queues[q].family);
        see(number, last);
        command.delete = (struct command_delete){
            node->ids[q], {got->messages[i].seq, got->messages[i].receive_count}, true};
        if (stays(number))
            node->kept[q]++;
        else
            shard_call_add(&call, &command);
    }
    buffer_free(&bodies);
    if (call.count == 0)
        return;
    shard_call(node->shard, &call);
    while (!done)
        uv_run(&node->loop, UV_RUN_ONCE);
}

static void stop_moves(struct node *node)
{
    struct one_call one;
    for (int q = 0; q < QUEUES; q++) {
        struct move_view view;
        size_t position = 0;
        struct command command = {.type = COMMAND_MOVE_CANCEL};
        if (!core_move_next(shard_core(node->shard), node->ids[q], &position, &view) ||
            view.status != MOVE_RUNNING)
            continue;
        memcpy(command.move_cancel.handle, view.handle, UUID_BYTES);
        command.move_cancel.source_queue_id = node->ids[q];
        run_one(node, &one, &command);
    }
}

/* take_all: all that a queue gives now; false when nothing can come any more. */
static bool take_all(struct node *node, int q, uint32_t last[8])
{
    struct queue_view view;
    struct one_call one;
    struct command command = {.type = COMMAND_RECEIVE};
    command.receive = (struct command_receive){node->ids[q], TAKE_MAX, 600, 0, {0}};
    do {
        run_one(node, &one, &command);
        if (one.result.message_count > 0)
            see_all(node, q, &one, last);
    } while (one.result.message_count > 0);
    if (!core_queue_by_id(shard_core(node->shard), node->ids[q], &view))
        return false;
    return view.visible + view.in_flight + view.delayed > node->kept[q];
}

static void compare(uint32_t number)
{
    struct fact *fact = &ledger->facts[number];
    bool expired = fact->family == BRIEF && now_s() - fact->sent_s >= BRIEF_S - 2;
    bool promised = fact->bits == (BEGUN | SENT) && !expired;
    CHECK(fact->seen <= 1, "number %u of %d: seen %d times", number, fact->family, fact->seen);
    CHECK(fact->seen == 0 || (fact->bits & GONE) == 0, "number %u of %d is back, bits %d", number,
          fact->family, fact->bits);
    CHECK(fact->seen == 1 || !promised, "number %u of %d is lost", number, fact->family);
    fact->bits = fact->seen == 1 ? BEGUN | SENT : GONE;
    fact->seen = 0;
}

static void note_digest(const struct node *node)
{
    ledger->digest = core_digest(shard_core(node->shard));
    ledger->index = core_applied_index(shard_core(node->shard));
}

/* Leases and delays that are under way end within a second; the limit is for hangs. */
static void empty_and_compare(const char *dir)
{
    struct node node = {0};
    uint32_t last[8] = {0};
    const struct timespec pause = {0, 50000000};
    uint32_t began_s = now_s();
    open_node(&node, dir);
    find_queues(&node, false);
    if (node.ids[0] != 0)
        stop_moves(&node);
    for (bool more = true; more;) {
        more = false;
        for (int q = 0; q < QUEUES; q++)
            more |= node.ids[q] != 0 && take_all(&node, q, last);
        CHECK(now_s() - began_s < 60, "the queues do not become empty");
        nanosleep(&pause, NULL);
        uv_run(&node.loop, UV_RUN_NOWAIT);
    }
    for (uint32_t i = 0; i < ledger->next; i++)
        compare(i);
    core_check(shard_core(node.shard));
    note_digest(&node);
    _exit(0); /* without closing: the next start recovers from that too */
}

static void compare_digest(const char *dir)
{
    struct node node = {0};
    load_node(&node, dir);
    CHECK(core_digest(shard_core(node.shard)) == ledger->digest, "from index %llu to %llu",
          (unsigned long long)ledger->index,
          (unsigned long long)core_applied_index(shard_core(node.shard)));
    _exit(0);
}

/* ---- the parent ---- */

static void run_child(void (*function)(const char *dir), const char *dir)
{
    int status;
    pid_t child = fork();
    if (child == 0)
        function(dir);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void work_and_kill(const char *dir, uint32_t seed, uint32_t ms)
{
    const struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000l};
    int status;
    pid_t child = fork();
    if (child == 0)
        work_for_ever(dir, seed);
    nanosleep(&pause, NULL);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status)); /* it had not ended by itself */
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_tree(const char *dir)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void copy_tree(const char *from, const char *to)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        execlp("cp", "cp", "-a", from, to, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* What the kill hit, for whoever reads the output. */
static struct {
    unsigned segments;
    unsigned short_segments; /* less than half as long as full ones: mostly rewritten */
    bool in_rewrite;
    bool in_snapshot;
} hit;

static int note_file(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    const char *name = path + ftw->base;
    size_t length = strlen(name);
    if (type == FTW_F && length > 4 && strcmp(name + length - 4, ".seg") == 0) {
        hit.segments++;
        hit.short_segments += info->st_size < (off_t)SEGMENT_BYTES / 2;
    }
    hit.in_rewrite |= strcmp(name, "rewrite.tmp") == 0;
    hit.in_snapshot |= strcmp(name, "new.tmp") == 0;
    return 0;
}

static void one_round(const char *base, uint32_t *seed)
{
    char dir[160];
    char copy[160];
    snprintf(dir, sizeof dir, "%s/shard-0", base);
    snprintf(copy, sizeof copy, "%s/copy", base);
    uint32_t ms = 20 + draw(seed, draw(seed, 3) == 0 ? 1500 : 500);
    work_and_kill(dir, draw(seed, UINT32_MAX), ms);
    memset(&hit, 0, sizeof hit);
    nftw(dir, note_file, 8, FTW_PHYS);
    print_message("killed after %u ms: %llu sent, %llu deleted, %llu purges, %llu moves; "
                  "%llu snapshots in this run, %u segments, %u short%s%s\n",
                  ms, (unsigned long long)ledger->sends, (unsigned long long)ledger->deletes,
                  (unsigned long long)ledger->purges, (unsigned long long)ledger->moves,
                  (unsigned long long)ledger->snapshots, hit.segments, hit.short_segments,
                  hit.in_rewrite ? "; in a rewrite" : "", hit.in_snapshot ? "; in a snapshot" : "");
    ledger->snapshots = 0;
    if (access(dir, F_OK) != 0)
        return;
    copy_tree(dir, copy);
    run_child(empty_and_compare, copy);
    run_child(compare_digest, copy);
    remove_tree(copy);
}

static void what_was_promised_holds(void **state)
{
    (void)state;
    char base[128];
    uint32_t seed;
    const char *given = getenv("MILLRACE_SEED");
    const char *rounds = getenv("MILLRACE_ROUNDS");
    clock_random(&seed, sizeof seed);
    seed = given != NULL ? (uint32_t)strtoul(given, NULL, 10) : seed;
    print_message("MILLRACE_SEED=%u\n", seed);
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(ledger != MAP_FAILED);
    snprintf(base, sizeof base, "%s/millrace-mix-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(base));
    unsigned long count = rounds != NULL ? strtoul(rounds, NULL, 10) : ROUNDS;
    for (unsigned long round = 0; round < count && ledger->next < NUMBERS / 2; round++)
        one_round(base, &seed);
    remove_tree(base);
    munmap(ledger, sizeof *ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_promised_holds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
