/* SPDX-License-Identifier: Apache-2.0 */
/* Node 1 asks; 2, 3 and 4 have the replicas, in this order. Their servers keep what they are asked
 * until the test says what becomes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/away/network.h"

#include "broker/away/wire.h"
#include "proto/base/clock.h"

#include <unistd.h>

#define SHARD     3
#define TASKS_MAX 8
#define ASKS_MAX  8
#define WAIT_MS   10000

struct world;

struct server {
    struct world *world;
    struct away *away;
    struct away_task *tasks[TASKS_MAX]; /* open ones, oldest first */
    unsigned task_count;
    unsigned begun, cancelled;
    bool answers_cancel; /* with CANCELLED, at once */
    bool closed;
};

struct ask {
    struct away_question question;
    bool done;
    enum status status;
    char answer[64];
};

struct world {
    uv_loop_t loop;
    struct network network;
    struct server nodes[1 + NODES_MAX];
    struct ask asks[ASKS_MAX];
    uint64_t replicas[NODES_MAX];
    size_t replica_count;
};

static size_t replicas(void *data, uint32_t shard, uint64_t *out, size_t max)
{
    const struct world *w = data;
    assert_int_equal(shard, SHARD);
    assert_true(max >= w->replica_count);
    memcpy(out, w->replicas, w->replica_count * sizeof *out);
    return w->replica_count;
}

static void on_begin(void *data, struct away_task *task)
{
    struct server *server = data;
    assert_true(server->task_count < TASKS_MAX);
    assert_int_equal(task->shard, SHARD);
    task->state = server;
    server->tasks[server->task_count++] = task;
    server->begun++;
}

static struct away_task *take(struct server *server, struct away_task *task)
{
    unsigned at = 0;
    while (server->tasks[at] != task)
        assert_true(++at < server->task_count);
    server->task_count--;
    memmove(server->tasks + at, server->tasks + at + 1,
            (server->task_count - at) * sizeof server->tasks[0]);
    return task;
}

static void on_cancel(void *data, struct away_task *task)
{
    struct server *server = data;
    server->cancelled++;
    if (server->answers_cancel)
        away_answer(take(server, task), STATUS_CANCELLED, (struct slice){0});
}

static void run(struct world *w)
{
    do
        uv_run(&w->loop, UV_RUN_NOWAIT);
    while (network_step(&w->network));
    uv_run(&w->loop, UV_RUN_NOWAIT);
}

#define UNTIL(w, condition)                                                                        \
    do {                                                                                           \
        uint64_t until_ = clock_monotonic_ns() + WAIT_MS * 1000000ull;                             \
        while (run(w), !(condition)) {                                                             \
            if (clock_monotonic_ns() > until_)                                                     \
                fail_msg("timed out waiting for %s", #condition);                                  \
            usleep(500);                                                                           \
        }                                                                                          \
    } while (0)

static void settle(struct world *w, unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        run(w);
        usleep(1000);
    }
}

static void node_open(struct world *w, uint64_t id, struct away_options options)
{
    struct server *server = &w->nodes[id];
    struct away_server serve = {.begin = on_begin, .cancel = on_cancel, .data = server};
    options.loop = &w->loop;
    options.node_id = id;
    options.replicas = replicas;
    options.data = w;
    if (options.peers == NULL)
        options.peers = &w->network.nodes[id].peers;
    *server = (struct server){.world = w, .away = away_open(&options), .answers_cancel = true};
    away_serve(server->away, AWAY_CALL, &serve);
}

static void on_closed(void *data)
{
    struct server *server = data;
    assert_false(server->closed);
    server->closed = true;
    server->away = NULL;
}

static void node_close(struct world *w, uint64_t id)
{
    if (w->nodes[id].away == NULL)
        return;
    away_close(w->nodes[id].away, on_closed, &w->nodes[id]);
    UNTIL(w, w->nodes[id].closed);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    uv_loop_init(&w->loop);
    network_open(&w->network);
    for (uint64_t id = 1; id <= 4; id++)
        node_open(w, id,
                  (struct away_options){.late_ms = 200, .tasks_max = 4, .task_bytes_max = 1000});
    w->replica_count = 3;
    for (size_t i = 0; i < 3; i++)
        w->replicas[i] = 2 + i;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (uint64_t id = 1; id <= 4; id++)
        node_close(w, id);
    assert_null(w->network.parcels);
    run(w);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w);
    return 0;
}

static void on_done(struct away_question *question, enum status status, struct slice answer)
{
    struct ask *ask = question->data;
    assert_false(ask->done); /* A1 */
    ask->done = true;
    ask->status = status;
    if (status == STATUS_OK)
        snprintf(ask->answer, sizeof ask->answer, "%.*s", SLICE_ARGS(answer));
    else
        assert_int_equal(answer.length, 0);
}

static struct ask *ask_for(struct world *w, unsigned which, bool repeatable, unsigned ms)
{
    struct ask *ask = &w->asks[which];
    *ask = (struct ask){.question = {.shard = SHARD,
                                     .kind = AWAY_CALL,
                                     .request = SLICE_LITERAL("hello"),
                                     .repeatable = repeatable,
                                     .deadline_ms = uv_now(&w->loop) + ms,
                                     .done = on_done,
                                     .data = ask}};
    away_ask(w->nodes[1].away, &ask->question);
    assert_false(ask->done); /* A1 */
    return ask;
}

static struct ask *ask(struct world *w, unsigned which, bool repeatable)
{
    return ask_for(w, which, repeatable, 60000);
}

static void answer(struct world *w, uint64_t id, enum status status, const char *text)
{
    struct server *server = &w->nodes[id];
    assert_true(server->task_count > 0);
    away_answer(take(server, server->tasks[0]), status, slice_of(text));
}

/* ---- one question, one answer ---- */

static void test_a_question_is_answered(void **state)
{
    struct world *w = *state;
    struct ask *one = ask_for(w, 0, false, 5000);
    run(w);
    assert_int_equal(w->nodes[2].task_count, 1);
    const struct away_task *task = w->nodes[2].tasks[0];
    assert_int_equal(task->node_id, 1);
    assert_true(slice_is(task->request, "hello"));
    assert_true(task->deadline_ms <= uv_now(&w->loop) + 5000);
    assert_true(task->deadline_ms > uv_now(&w->loop) + 4000);
    answer(w, 2, STATUS_OK, "well");
    run(w);
    assert_true(one->done);
    assert_int_equal(one->status, STATUS_OK);
    assert_string_equal(one->answer, "well");
    assert_int_equal(away_asked(w->nodes[1].away), 0);
    assert_int_equal(away_serving(w->nodes[2].away), 0);
    assert_int_equal(w->nodes[3].begun + w->nodes[4].begun, 0);
}

static void test_answers_out_of_order(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, false);
    struct ask *two = ask(w, 1, false);
    run(w);
    away_answer(take(&w->nodes[2], w->nodes[2].tasks[1]), STATUS_OK, SLICE_LITERAL("two"));
    struct buffer moved = {0};
    buffer_add_text(&moved, "one");
    away_answer_moved(take(&w->nodes[2], w->nodes[2].tasks[0]), &moved);
    assert_null(moved.data);
    run(w);
    assert_string_equal(one->answer, "one");
    assert_string_equal(two->answer, "two");
}

static void test_nobody_there(void **state)
{
    struct world *w = *state;
    w->replica_count = 0;
    struct ask *one = ask_for(w, 0, false, 200);
    UNTIL(w, one->done);
    assert_true(uv_now(&w->loop) >= one->question.deadline_ms);
    assert_int_equal(one->status, STATUS_NOT_LEADER);
}

static void test_alone(void **state)
{
    struct world *w = *state;
    node_close(w, 1);
    struct away_options options = {.loop = &w->loop, .node_id = 1, .replicas = replicas, .data = w};
    w->nodes[1] = (struct server){.world = w, .away = away_open(&options)};
    struct ask *one = ask(w, 0, true);
    run(w);
    assert_int_equal(one->status, STATUS_NOT_LEADER);
}

/* ---- A2 ---- */

static void test_the_next_one_after_a_refusal(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, false);
    run(w);
    answer(w, 2, STATUS_NOT_LEADER, NULL);
    run(w);
    answer(w, 3, STATUS_NOT_LEADER, NULL);
    run(w);
    answer(w, 4, STATUS_OK, "four");
    run(w);
    assert_string_equal(one->answer, "four");
}

static void test_round_again_until_the_deadline(void **state)
{
    struct world *w = *state;
    w->replica_count = 1;
    struct ask *one = ask_for(w, 0, false, 400);
    while (run(w), !one->done) {
        if (w->nodes[2].task_count > 0)
            answer(w, 2, STATUS_NOT_LEADER, NULL);
        usleep(1000);
    }
    assert_int_equal(one->status, STATUS_NOT_LEADER);
    assert_true(w->nodes[2].begun >= 1);
    assert_true(w->nodes[2].begun <= 10); /* not in a busy loop */
}

static void test_one_that_is_not_connected_is_passed_by(void **state)
{
    struct world *w = *state;
    network_cut(&w->network, 1, 2);
    ask(w, 0, false);
    run(w);
    assert_int_equal(w->nodes[3].begun, 1);
    answer(w, 3, STATUS_OK, "x");
    run(w);
    assert_true(w->asks[0].done);
}

static void test_asked_when_it_comes_up(void **state)
{
    struct world *w = *state;
    w->replica_count = 1;
    network_cut(&w->network, 1, 2);
    struct ask *one = ask(w, 0, false);
    settle(w, 120);
    assert_false(one->done);
    network_join(&w->network, 1, 2);
    run(w);
    answer(w, 2, STATUS_OK, "x");
    run(w);
    assert_true(one->done);
}

/* The connection is gone when it is to be sent, and nobody has said so yet. */
static void test_it_never_reached_the_node(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, false);
    w->network.up[1][2] = false;
    run(w);
    assert_int_equal(w->nodes[2].begun, 0);
    answer(w, 3, STATUS_OK, "three");
    run(w);
    assert_string_equal(one->answer, "three");
    w->network.up[1][2] = true;
}

static void test_lost_with_the_connection(void **state)
{
    struct world *w = *state;
    struct ask *once = ask(w, 0, false);
    struct ask *often = ask(w, 1, true);
    run(w);
    assert_int_equal(w->nodes[2].task_count, 2);
    network_cut(&w->network, 1, 2);
    run(w);
    assert_int_equal(once->status, STATUS_CLOSED);
    assert_false(often->done);
    assert_int_equal(w->nodes[2].cancelled, 2); /* A4 */
    assert_int_equal(away_serving(w->nodes[2].away), 0);
    answer(w, 3, STATUS_OK, "again");
    run(w);
    assert_string_equal(often->answer, "again");
}

static void test_lost_on_its_way(void **state)
{
    struct world *w = *state;
    struct ask *once = ask(w, 0, false);
    struct ask *often = ask(w, 1, true);
    network_cut(&w->network, 1, 2); /* part of it may have been written */
    run(w);
    assert_int_equal(w->nodes[2].begun, 0);
    assert_int_equal(once->status, STATUS_CLOSED);
    answer(w, 3, STATUS_OK, "again");
    run(w);
    assert_string_equal(often->answer, "again");
}

static void test_the_answer_is_lost(void **state)
{
    struct world *w = *state;
    struct ask *once = ask(w, 0, false);
    run(w);
    answer(w, 2, STATUS_OK, "x");
    network_cut(&w->network, 1, 2);
    run(w);
    assert_int_equal(once->status, STATUS_CLOSED);
}

/* What the first node says late is not the answer. */
static void test_an_answer_of_the_one_before(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, true);
    run(w);
    w->nodes[2].answers_cancel = false;
    network_cut(&w->network, 1, 2);
    network_join(&w->network, 1, 2);
    run(w);
    answer(w, 2, STATUS_OK, "late");
    run(w);
    assert_false(one->done);
    answer(w, 3, STATUS_OK, "three");
    run(w);
    assert_string_equal(one->answer, "three");
}

static void test_nobody_knows(void **state)
{
    struct world *w = *state;
    struct ask *once = ask(w, 0, false);
    struct ask *often = ask(w, 1, true);
    run(w);
    answer(w, 2, STATUS_CLOSED, NULL);
    answer(w, 2, STATUS_CLOSED, NULL);
    run(w);
    assert_int_equal(once->status, STATUS_CLOSED);
    answer(w, 3, STATUS_OK, "again");
    run(w);
    assert_string_equal(often->answer, "again");
}

/* Nobody may say of a question that it was not done, once somebody may have done it. */
static void test_done_perhaps_and_nobody_else_there(void **state)
{
    struct world *w = *state;
    w->replica_count = 1;
    struct ask *one = ask_for(w, 0, true, 150);
    run(w);
    network_cut(&w->network, 1, 2);
    UNTIL(w, one->done);
    assert_int_equal(one->status, STATUS_CLOSED);
}

static void test_done_perhaps_and_the_next_one_is_busy(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, true);
    run(w);
    network_cut(&w->network, 1, 2);
    run(w);
    answer(w, 3, STATUS_BUSY, NULL);
    run(w);
    assert_int_equal(one->status, STATUS_CLOSED);
}

static void test_nobody_else_after_the_deadline(void **state)
{
    struct world *w = *state;
    node_close(w, 1);
    node_open(w, 1, (struct away_options){.late_ms = 60000});
    struct ask *one = ask_for(w, 0, false, 50);
    UNTIL(w, uv_now(&w->loop) >= one->question.deadline_ms);
    answer(w, 2, STATUS_NOT_LEADER, NULL);
    run(w);
    assert_int_equal(one->status, STATUS_NOT_LEADER);
    assert_int_equal(w->nodes[3].begun, 0);
    one = ask_for(w, 0, false, 0);
    run(w);
    assert_int_equal(one->status, STATUS_NOT_LEADER);
    assert_int_equal(w->nodes[2].begun, 1);
}

/* ---- A3 ---- */

static void test_too_many(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 5; i++)
        ask(w, i, true);
    run(w);
    assert_int_equal(w->nodes[2].task_count, 4);
    assert_int_equal(w->asks[4].status, STATUS_BUSY);
    for (unsigned i = 0; i < 4; i++)
        answer(w, 2, STATUS_OK, "x");
    run(w);
    ask(w, 4, true);
    run(w);
    assert_int_equal(w->nodes[2].task_count, 1);
    answer(w, 2, STATUS_OK, "x");
    run(w);
    assert_int_equal(w->asks[4].status, STATUS_OK);
}

static void test_too_many_bytes(void **state)
{
    struct world *w = *state;
    static uint8_t bytes[900];
    for (unsigned i = 0; i < 2; i++) {
        w->asks[i] = (struct ask){.question = {.shard = SHARD,
                                               .kind = AWAY_CALL,
                                               .request = slice_make(bytes, sizeof bytes),
                                               .deadline_ms = uv_now(&w->loop) + 60000,
                                               .done = on_done,
                                               .data = &w->asks[i]}};
        away_ask(w->nodes[1].away, &w->asks[i].question);
    }
    run(w);
    assert_int_equal(w->asks[1].status, STATUS_BUSY);
    answer(w, 2, STATUS_OK, "x");
    run(w);
    assert_int_equal(w->asks[0].status, STATUS_OK);
    ask(w, 1, false);
    run(w);
    answer(w, 2, STATUS_OK, "x");
    run(w);
    assert_int_equal(w->asks[1].status, STATUS_OK);
}

/* Node 1 asks on and on, and does not read what it is told. */
static void test_answers_that_nobody_reads(void **state)
{
    struct world *w = *state;
    uint8_t head[AWAY_HEAD_BYTES];
    struct away_message message = {.type = AWAY_ASK, .kind = AWAY_SQS, .shard = SHARD};
    struct parcel *parcel;
    unsigned waiting = 0;
    for (unsigned i = 0; i < 100; i++) {
        message.number = 1000 + i;
        away_encode(head, &message);
        w->network.nodes[2].handler.message(w->network.nodes[2].handler.data, 1,
                                            slice_make(head, sizeof head));
    }
    DL_FOREACH(w->network.parcels, parcel)
    {
        waiting++;
    }
    assert_int_equal(waiting, 8); /* twice tasks_max, which is 4 */
    run(w);
    ask(w, 0, true);
    run(w);
    answer(w, 2, STATUS_OK, "x");
    run(w);
    assert_int_equal(w->asks[0].status, STATUS_OK);
}

/* The network has no room for a while: nothing is lost, on neither way. */
static void test_no_room(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, false);
    w->network.no_room = 2;
    UNTIL(w, w->nodes[2].task_count == 1);
    assert_int_equal(w->nodes[3].begun, 0);
    answer(w, 2, STATUS_OK, "x");
    w->network.no_room = 2;
    UNTIL(w, one->done);
    assert_string_equal(one->answer, "x");
    one = ask(w, 0, false);
    run(w);
    away_cancel(w->nodes[1].away, &one->question);
    w->network.no_room = 2;
    UNTIL(w, one->done);
    assert_int_equal(one->status, STATUS_CANCELLED);
}

/* ---- A5 ---- */

static void ask_in_turn(struct world *w, unsigned which, struct slice request)
{
    struct ask *ask = &w->asks[which];
    *ask = (struct ask){.question = {.shard = SHARD,
                                     .kind = AWAY_CALL,
                                     .request = request,
                                     .repeatable = true,
                                     .ordered = true,
                                     .deadline_ms = uv_now(&w->loop) + 60000,
                                     .done = on_done,
                                     .data = ask}};
    away_ask(w->nodes[1].away, &ask->question);
}

/* got: that node was asked these, in this order, by their first letters; and answers. */
static void got(struct world *w, uint64_t id, const char *letters)
{
    for (; *letters != '\0'; letters++) {
        assert_true(w->nodes[id].task_count > 0);
        assert_int_equal(w->nodes[id].tasks[0]->request.data[0], *letters);
        answer(w, id, STATUS_OK, "x");
    }
    assert_int_equal(w->nodes[id].task_count, 0);
    run(w);
}

/* Which replica is preferred changes with the leader. */
static void test_they_go_where_the_others_are(void **state)
{
    struct world *w = *state;
    ask_in_turn(w, 0, SLICE_LITERAL("a"));
    run(w);
    w->replicas[0] = 3;
    w->replicas[1] = 2;
    ask(w, 1, false);
    ask_in_turn(w, 2, SLICE_LITERAL("b"));
    run(w);
    got(w, 3, "h"); /* which has no order */
    got(w, 2, "ab");
    ask_in_turn(w, 3, SLICE_LITERAL("c"));
    run(w);
    got(w, 3, "c");
}

/* One that does not take it is not waited for. */
static void test_they_go_on_from_who_refuses(void **state)
{
    struct world *w = *state;
    ask_in_turn(w, 0, SLICE_LITERAL("a"));
    ask_in_turn(w, 1, SLICE_LITERAL("b"));
    run(w);
    away_answer(take(&w->nodes[2], w->nodes[2].tasks[1]), STATUS_NOT_LEADER, (struct slice){0});
    run(w);
    got(w, 3, "b");
    got(w, 2, "a");
}

static void test_they_keep_their_order_when_the_node_goes(void **state)
{
    struct world *w = *state;
    ask_in_turn(w, 0, SLICE_LITERAL("a"));
    ask_in_turn(w, 1, SLICE_LITERAL("b"));
    run(w);
    network_cut(&w->network, 1, 2);
    ask_in_turn(w, 2, SLICE_LITERAL("c"));
    run(w);
    got(w, 3, "abc");
    network_join(&w->network, 1, 2);
}

static void test_they_keep_their_order_where_there_is_no_room(void **state)
{
    struct world *w = *state;
    static uint8_t large[500] = "a";
    w->network.unsent = PEER_UNSENT_BYTES_MAX - 300;
    ask_in_turn(w, 0, slice_make(large, sizeof large));
    ask_in_turn(w, 1, SLICE_LITERAL("b"));
    settle(w, 120);
    ask_in_turn(w, 2, SLICE_LITERAL("c"));
    assert_int_equal(w->nodes[2].begun, 0);
    ask(w, 3, false);
    run(w);
    got(w, 2, "h");
    w->network.unsent = 0;
    UNTIL(w, w->nodes[2].task_count == 3);
    got(w, 2, "abc");
}

static void test_who_comes_back_waits_in_its_place(void **state)
{
    struct world *w = *state;
    w->replica_count = 1;
    ask_in_turn(w, 0, SLICE_LITERAL("a"));
    run(w);
    w->network.unsent = PEER_UNSENT_BYTES_MAX;
    ask_in_turn(w, 1, SLICE_LITERAL("b"));
    answer(w, 2, STATUS_NOT_LEADER, NULL);
    run(w);
    w->network.unsent = 0;
    UNTIL(w, w->nodes[2].task_count == 2);
    got(w, 2, "ab");
}

/* ---- cancelling ---- */

static void test_cancelled_under_way(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, true);
    run(w);
    away_cancel(w->nodes[1].away, &one->question);
    away_cancel(w->nodes[1].away, &one->question);
    assert_false(one->done);
    run(w);
    assert_int_equal(w->nodes[2].cancelled, 1);
    assert_int_equal(one->status, STATUS_CANCELLED);
    assert_int_equal(w->nodes[3].begun, 0);
}

static void test_cancelled_while_the_answer_comes(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, false);
    run(w);
    answer(w, 2, STATUS_OK, "leased");
    away_cancel(w->nodes[1].away, &one->question);
    run(w);
    assert_int_equal(one->status, STATUS_OK); /* for whoever must give it back */
    assert_string_equal(one->answer, "leased");
    assert_int_equal(w->nodes[2].cancelled, 0);
}

static void test_cancelled_while_it_waits(void **state)
{
    struct world *w = *state;
    w->replica_count = 0;
    struct ask *one = ask(w, 0, false);
    run(w);
    away_cancel(w->nodes[1].away, &one->question);
    assert_false(one->done);
    run(w);
    assert_int_equal(one->status, STATUS_CANCELLED);
}

static void test_cancelled_and_then_the_node_goes(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, true);
    w->nodes[2].answers_cancel = false;
    run(w);
    away_cancel(w->nodes[1].away, &one->question);
    run(w);
    assert_false(one->done);
    network_cut(&w->network, 1, 2);
    run(w);
    assert_int_equal(one->status, STATUS_CANCELLED);
    assert_int_equal(w->nodes[2].cancelled, 1);
    assert_int_equal(w->nodes[3].begun, 0);
    answer(w, 2, STATUS_OK, "nobody");
}

/* The request is borrowed until `done`: so that waits until the network has let go of it. */
static void test_answered_before_the_network_says_sent(void **state)
{
    struct world *w = *state;
    w->network.slow_done = true;
    struct ask *one = ask(w, 0, false);
    struct parcel *parcel = w->network.parcels;
    struct peer_send *send = parcel->send;
    parcel->send = NULL;
    run(w);
    answer(w, 2, STATUS_OK, "x");
    run(w);
    assert_false(one->done);
    send->done(send, STATUS_OK);
    assert_false(one->done);
    run(w);
    assert_string_equal(one->answer, "x");
}

/* The other node hangs, or does not know what it is asked. */
static void test_an_answer_that_never_comes(void **state)
{
    struct world *w = *state;
    struct ask *one = ask_for(w, 0, true, 100);
    w->nodes[2].answers_cancel = false;
    UNTIL(w, one->done);
    assert_true(uv_now(&w->loop) >= one->question.deadline_ms + 200);
    assert_int_equal(one->status, STATUS_CLOSED);
    UNTIL(w, w->nodes[2].cancelled == 1);
    answer(w, 2, STATUS_OK, "late");
    run(w);
}

/* ---- closing ---- */

static void test_close_with_questions_under_way(void **state)
{
    struct world *w = *state;
    struct ask *sent = ask(w, 0, true);
    run(w);
    network_cut(&w->network, 1, 3);
    w->replica_count = 0;
    struct ask *waits = ask(w, 1, false);
    node_close(w, 1);
    assert_int_equal(sent->status, STATUS_CLOSED);
    assert_int_equal(waits->status, STATUS_CLOSED);
    run(w);
    assert_int_equal(w->nodes[2].cancelled, 1); /* A4 */
    assert_int_equal(away_serving(w->nodes[2].away), 0);
}

static void test_close_with_tasks_under_way(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, true);
    w->nodes[2].answers_cancel = false;
    run(w);
    away_close(w->nodes[2].away, on_closed, &w->nodes[2]);
    run(w);
    assert_int_equal(w->nodes[2].cancelled, 1);
    assert_false(w->nodes[2].closed);
    ask(w, 1, false); /* that one takes nothing new */
    run(w);
    assert_int_equal(w->nodes[3].begun, 1);
    away_answer(take(&w->nodes[2], w->nodes[2].tasks[0]), STATUS_OK, SLICE_LITERAL("x"));
    UNTIL(w, w->nodes[2].closed);
    answer(w, 3, STATUS_OK, "y");
    network_cut(&w->network, 1, 2);
    run(w);
    if (!one->done)
        answer(w, 3, STATUS_OK, "again");
    run(w);
    assert_int_equal(one->status, STATUS_OK);
}

static void test_ask_of_a_closing_one(void **state)
{
    struct world *w = *state;
    w->replica_count = 0;
    w->nodes[1].answers_cancel = false;
    struct ask *one = ask(w, 0, false);
    away_close(w->nodes[1].away, on_closed, &w->nodes[1]);
    struct ask *two = ask(w, 1, false);
    UNTIL(w, w->nodes[1].closed);
    assert_int_equal(one->status, STATUS_CLOSED);
    assert_int_equal(two->status, STATUS_CLOSED);
}

/* ---- foreign bytes ---- */

static void on_sent(struct peer_send *send, enum status status)
{
    (void)status;
    free(send);
}

static void say(struct world *w, uint64_t from, uint64_t to, const void *bytes, size_t length)
{
    struct iovec part = {(void *)(uintptr_t)bytes, length};
    struct peer_send *send = calloc(1, sizeof *send);
    *send = (struct peer_send){.parts = &part, .part_count = 1, .done = on_sent};
    peers_send(&w->network.nodes[from].peers, to, PEER_CHANNEL_AWAY, send);
    run(w);
}

static void test_what_is_not_understood(void **state)
{
    struct world *w = *state;
    uint8_t head[AWAY_HEAD_BYTES];
    struct away_message message = {
        .type = AWAY_ASK, .kind = AWAY_CALL, .number = 7, .shard = SHARD};
    away_encode(head, &message);
    unsigned told = w->network.sent[1];
    say(w, 1, 2, head, sizeof head - 1);
    head[3] = 1;
    say(w, 1, 2, head, sizeof head);
    assert_int_equal(w->nodes[2].begun, 0);
    assert_int_equal(w->network.sent[1], told);
    head[3] = 0;
    head[0] = 2; /* of a later version: it is told that it was not done */
    say(w, 1, 2, head, sizeof head);
    assert_int_equal(w->network.sent[1], told + 1);
    head[0] = 1;
    head[2] = AWAY_KIND_COUNT;
    say(w, 1, 2, head, sizeof head);
    head[2] = AWAY_SQS; /* known, and nobody serves it */
    say(w, 1, 2, head, sizeof head);
    assert_int_equal(w->network.sent[1], told + 3);
    assert_int_equal(w->nodes[2].begun, 0);
    head[2] = AWAY_CALL;
    say(w, 1, 2, head, sizeof head);
    say(w, 1, 2, head, sizeof head); /* twice */
    assert_int_equal(w->nodes[2].begun, 1);
    message = (struct away_message){.type = AWAY_CANCEL, .number = 7};
    away_encode(head, &message);
    say(w, 3, 2, head, sizeof head); /* another's */
    assert_int_equal(w->nodes[2].cancelled, 0);
    say(w, 1, 2, head, sizeof head);
    assert_int_equal(w->nodes[2].cancelled, 1);
}

/* Only the node that was asked can answer. */
static void test_an_answer_of_another(void **state)
{
    struct world *w = *state;
    struct ask *one = ask(w, 0, false);
    uint8_t head[AWAY_HEAD_BYTES];
    struct away_message message;
    assert_int_equal(away_decode(buffer_slice(&w->network.parcels->bytes), &message), STATUS_OK);
    message =
        (struct away_message){.type = AWAY_ANSWER, .status = STATUS_BUSY, .number = message.number};
    away_encode(head, &message);
    run(w);
    say(w, 3, 1, head, sizeof head);
    assert_false(one->done);
    head[2] = 200; /* a status of some later program: nobody knows */
    say(w, 2, 1, head, sizeof head);
    assert_true(one->done);
    assert_int_equal(one->status, STATUS_CLOSED);
    away_answer(take(&w->nodes[2], w->nodes[2].tasks[0]), STATUS_OK, SLICE_LITERAL("late"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_question_is_answered),
        TEST(test_answers_out_of_order),
        TEST(test_nobody_there),
        TEST(test_alone),
        TEST(test_the_next_one_after_a_refusal),
        TEST(test_round_again_until_the_deadline),
        TEST(test_one_that_is_not_connected_is_passed_by),
        TEST(test_asked_when_it_comes_up),
        TEST(test_it_never_reached_the_node),
        TEST(test_lost_with_the_connection),
        TEST(test_lost_on_its_way),
        TEST(test_the_answer_is_lost),
        TEST(test_an_answer_of_the_one_before),
        TEST(test_nobody_knows),
        TEST(test_done_perhaps_and_nobody_else_there),
        TEST(test_done_perhaps_and_the_next_one_is_busy),
        TEST(test_nobody_else_after_the_deadline),
        TEST(test_too_many),
        TEST(test_too_many_bytes),
        TEST(test_answers_that_nobody_reads),
        TEST(test_no_room),
        TEST(test_they_go_where_the_others_are),
        TEST(test_they_go_on_from_who_refuses),
        TEST(test_they_keep_their_order_when_the_node_goes),
        TEST(test_they_keep_their_order_where_there_is_no_room),
        TEST(test_who_comes_back_waits_in_its_place),
        TEST(test_cancelled_under_way),
        TEST(test_cancelled_while_the_answer_comes),
        TEST(test_cancelled_while_it_waits),
        TEST(test_cancelled_and_then_the_node_goes),
        TEST(test_answered_before_the_network_says_sent),
        TEST(test_an_answer_that_never_comes),
        TEST(test_close_with_questions_under_way),
        TEST(test_close_with_tasks_under_way),
        TEST(test_ask_of_a_closing_one),
        TEST(test_what_is_not_understood),
        TEST(test_an_answer_of_another),
    };
    return cmocka_run_group_tests_name("away", tests, NULL, NULL);
}
