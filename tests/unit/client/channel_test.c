/* SPDX-License-Identifier: Apache-2.0 */
/* A channel against a server of the test's own, in a thread: answers in any order, refusals, and
 * connections that end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/channel.h"
#include "proto/base/assert.h"
#include "proto/rpc/link.h"
#include "proto/sqs/native.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define HELD_MAX 16

/* What the server does with calls, by the queue that they name. */
struct server {
    uv_loop_t loop;
    uv_async_t stop;
    struct link_listener *listener;
    struct link *link;
    pthread_t thread;
    uint16_t port;
    bool refuse;       /* greetings */
    const char *name;  /* the message id of its answers */
    uint64_t node_id;  /* in its welcome */
    uint64_t ask_node; /* in its answers */
    uint32_t held[HELD_MAX];
    unsigned held_count;
    unsigned greetings;
    unsigned seen_count;
    char seen[64]; /* the last characters of the bodies of orders, as they came */
};

static void answer_with(struct link *link, uint32_t id, const char *message_id, uint64_t ask_node)
{
    struct sqs_send_message_result result = {.message_id = slice_of(message_id)};
    struct buffer *out = link_frame_begin(link);
    ASSERT(out != NULL);
    native_answer_header(out, id, false, ask_node);
    native_write(out, SQS_SHAPE_send_message_result, &result);
    ASSERT(link_frame_end(link, MILLRACE__TYPE__TYPE_ANSWER) == STATUS_OK);
}

static void answer(struct link *link, uint32_t id, const char *message_id)
{
    answer_with(link, id, message_id, 0);
}

static void refuse(struct link *link, uint32_t id, enum sqs_error_code code)
{
    struct buffer *out = link_frame_begin(link);
    ASSERT(out != NULL);
    native_answer_header(out, id, true, 0);
    native_write_error(out, &(struct sqs_error){code, NULL});
    ASSERT(link_frame_end(link, MILLRACE__TYPE__TYPE_ANSWER) == STATUS_OK);
}

static void garbage(struct link *link, uint32_t id)
{
    struct buffer *out = link_frame_begin(link);
    ASSERT(out != NULL);
    native_answer_header(out, id, false, 0);
    buffer_add_u32(out, UINT32_MAX);
    ASSERT(link_frame_end(link, MILLRACE__TYPE__TYPE_ANSWER) == STATUS_OK);
}

/* Calls to "hold" are answered by one to "release", the last first, and the last of them by one to
 * "release one". Those to "orders" say who answered, and whom to ask; unless their body begins with
 * "wait": then they are as to "hold"; or with "down": node 2 holds them, others refuse. */
static void on_call(struct server *server, struct link *link, struct slice payload)
{
    struct native_header header;
    struct slice body;
    struct arena arena = {0};
    struct sqs_send_message_input input = {0};
    ASSERT(native_header_read(payload, &header, &body));
    ASSERT(native_read(body, SQS_SHAPE_send_message_input, &arena, &input));
    bool orders = slice_starts_with(input.queue_url, "orders");
    bool down = orders && slice_starts_with(input.body, "down");
    if (orders && server->seen_count + 1 < sizeof server->seen)
        server->seen[server->seen_count++] = (char)input.body.data[input.body.length - 1];
    if (down && server->node_id != 2) {
        refuse(link, header.id, SQS_ERROR_UNAVAILABLE);
    } else if (orders && !down && !slice_starts_with(input.body, "wait")) {
        answer_with(link, header.id, server->name, server->ask_node);
    } else if (slice_is(input.queue_url, "release one")) {
        ASSERT(server->held_count > 0);
        answer_with(link, server->held[--server->held_count], server->name, server->ask_node);
        answer(link, header.id, "released");
    } else if (orders || slice_is(input.queue_url, "hold")) {
        server->held[server->held_count++] = header.id;
    } else if (slice_is(input.queue_url, "release")) {
        answer(link, header.id, "released");
        while (server->held_count > 0)
            answer(link, server->held[--server->held_count], "held");
        answer(link, header.id, "twice"); /* finds nobody */
        answer(link, 12345, "never asked");
    } else if (slice_is(input.queue_url, "missing")) {
        refuse(link, header.id, SQS_ERROR_QUEUE_DOES_NOT_EXIST);
    } else if (slice_is(input.queue_url, "busy")) {
        refuse(link, header.id, SQS_ERROR_THROTTLED);
    } else if (slice_is(input.queue_url, "down")) {
        refuse(link, header.id, SQS_ERROR_UNAVAILABLE);
    } else if (slice_is(input.queue_url, "garbage")) {
        garbage(link, header.id);
    } else {
        link_close(link);
    }
    arena_free(&arena);
}

static void on_frame(struct link *link, void *data, uint16_t type, struct slice payload)
{
    struct server *server = data;
    if (type == MILLRACE__TYPE__TYPE_CALL) {
        on_call(server, link, payload);
        return;
    }
    ASSERT(type == MILLRACE__TYPE__TYPE_CLIENT_HELLO);
    server->greetings++;
    Millrace__ClientWelcome welcome = MILLRACE__CLIENT_WELCOME__INIT;
    Millrace__Refused refused = MILLRACE__REFUSED__INIT;
    welcome.node_id = server->node_id;
    if (server->refuse)
        ASSERT(link_send(link, MILLRACE__TYPE__TYPE_REFUSED, &refused.base) == STATUS_OK);
    else
        ASSERT(link_send(link, MILLRACE__TYPE__TYPE_CLIENT_WELCOME, &welcome.base) == STATUS_OK);
}

static void on_closed(struct link *link, void *data, enum status why)
{
    struct server *server = data;
    (void)link;
    (void)why;
    server->link = NULL;
    server->held_count = 0;
}

static const struct link_handler handler = {on_frame, on_closed};

static void on_accepted(struct link *link, void *data)
{
    struct server *server = data;
    server->link = link;
    link_start(link, &handler, server);
}

static void on_stop(uv_async_t *async)
{
    struct server *server = async->data;
    link_listener_close(server->listener, NULL, NULL);
    if (server->link != NULL)
        link_close(server->link);
    uv_close((uv_handle_t *)async, NULL);
}

static void *serve(void *data)
{
    struct server *server = data;
    uv_run(&server->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void start(struct server *server, uint16_t port)
{
    uv_loop_init(&server->loop);
    uv_async_init(&server->loop, &server->stop, on_stop);
    server->stop.data = server;
    enum status status =
        link_listen(&server->listener, &server->loop, "127.0.0.1", port, on_accepted, server);
    assert_int_equal(status, STATUS_OK);
    server->port = link_listener_port(server->listener);
    pthread_create(&server->thread, NULL, serve, server);
}

static void stop(struct server *server)
{
    uv_async_send(&server->stop);
    pthread_join(server->thread, NULL);
    assert_int_equal(uv_loop_close(&server->loop), 0);
}

/* ---- the client's side ---- */

struct outcome {
    int order; /* 0: not yet */
    enum status status;
    char text[64]; /* message id or code */
};
static int ended;

static void on_answer(void *data, const struct mr_answer *answer)
{
    struct outcome *outcome = data;
    const struct sqs_send_message_result *result = answer->result;
    assert_int_equal(outcome->order, 0); /* once */
    outcome->order = ++ended;
    outcome->status = answer->status;
    struct slice text = result != NULL ? result->message_id : answer->code;
    snprintf(outcome->text, sizeof outcome->text, "%.*s", SLICE_ARGS(text));
}

static void call_with(struct mr_channel *channel, const char *queue, const char *body,
                      struct outcome *outcome)
{
    struct sqs_send_message_input input = {.queue_url = slice_of(queue), .body = slice_of(body)};
    *outcome = (struct outcome){0};
    mr_channel_call(channel, SQS_ACTION_SendMessage, &input, on_answer, outcome);
    assert_int_equal(outcome->order, 0); /* never from within the call */
}

static void call(struct mr_channel *channel, const char *queue, struct outcome *outcome)
{
    call_with(channel, queue, "body", outcome);
}

static void run_until_quiet(struct mr_channel *channel)
{
    for (int i = 0; i < 100 && mr_channel_calls(channel) > 0; i++)
        (void)mr_channel_run(channel, 100);
    assert_int_equal(mr_channel_calls(channel), 0);
}

static enum status try_open(struct mr_channel **channel, const char *brokers)
{
    struct mr_channel_options options = {.brokers = brokers, .timeout_ms = 2000};
    return mr_channel_open(channel, &options, NULL);
}

static struct mr_channel *open_to(const struct server *server)
{
    char brokers[64];
    struct mr_channel *channel;
    /* Nobody listens at the first: the next is tried. */
    snprintf(brokers, sizeof brokers, "127.0.0.1:1,127.0.0.1:%u", server->port);
    assert_int_equal(try_open(&channel, brokers), STATUS_OK);
    assert_true(mr_channel_connected(channel));
    assert_string_equal(mr_channel_broker(channel), strchr(brokers, ',') + 1);
    return channel;
}

static void answers_find_their_calls(void **state)
{
    struct outcome held[HELD_MAX];
    struct outcome release;
    struct server server = {0};
    (void)state;
    start(&server, 0);
    struct mr_channel *channel = open_to(&server);
    ended = 0;
    for (int i = 0; i < HELD_MAX; i++)
        call(channel, "hold", &held[i]);
    assert_int_equal(mr_channel_run(channel, 20), 0); /* nothing yet */
    call(channel, "release", &release);
    run_until_quiet(channel);
    assert_int_equal(release.order, 1);
    assert_string_equal(release.text, "released");
    for (int i = 0; i < HELD_MAX; i++) {
        assert_int_equal(held[i].order, HELD_MAX + 1 - i);
        assert_string_equal(held[i].text, "held");
    }
    call(channel, "release", &release); /* the slots are free again, and the strays hit nobody */
    run_until_quiet(channel);
    assert_string_equal(release.text, "released");
    mr_channel_close(channel);
    stop(&server);
}

static void refusals_have_the_apis_codes(void **state)
{
    static const struct {
        const char *queue;
        enum status status;
        const char *code;
    } cases[] = {
        {"missing", STATUS_INVALID, "QueueDoesNotExist"},
        {"busy", STATUS_BUSY, "RequestThrottled"},
        {"down", STATUS_UNAVAILABLE, "ServiceUnavailableException"},
        {"garbage", STATUS_CORRUPT, ""},
    };
    struct server server = {0};
    (void)state;
    start(&server, 0);
    struct mr_channel *channel = open_to(&server);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct outcome outcome;
        call(channel, cases[i].queue, &outcome);
        run_until_quiet(channel);
        assert_int_equal(outcome.status, cases[i].status);
        assert_string_equal(outcome.text, cases[i].code);
    }
    mr_channel_close(channel);
    stop(&server);
}

static void a_lost_connection_ends_calls_and_comes_back(void **state)
{
    struct outcome held;
    struct outcome drop;
    struct outcome unsent;
    struct server server = {0};
    (void)state;
    start(&server, 0);
    struct mr_channel *channel = open_to(&server);
    call(channel, "hold", &held);
    call(channel, "drop", &drop);
    run_until_quiet(channel);
    assert_int_equal(held.status, STATUS_CLOSED);
    assert_int_equal(drop.status, STATUS_CLOSED);
    assert_false(mr_channel_connected(channel));
    call(channel, "release", &unsent); /* known not to have been sent */
    run_until_quiet(channel);
    assert_int_equal(unsent.status, STATUS_UNAVAILABLE);
    for (int i = 0; i < 100 && !mr_channel_connected(channel); i++)
        (void)mr_channel_run(channel, 50);
    assert_true(mr_channel_connected(channel));
    call(channel, "release", &unsent);
    run_until_quiet(channel);
    assert_string_equal(unsent.text, "released");
    mr_channel_close(channel);
    stop(&server);
    assert_int_equal(server.greetings, 2);
}

static void closing_ends_what_is_under_way(void **state)
{
    struct outcome held;
    struct server server = {0};
    (void)state;
    start(&server, 0);
    struct mr_channel *channel = open_to(&server);
    call(channel, "hold", &held);
    assert_int_equal(mr_channel_run(channel, 0), 0);
    mr_channel_close(channel);
    assert_int_equal(held.status, STATUS_CLOSED);
    stop(&server);
}

static void an_unwelcome_client_is_told(void **state)
{
    struct mr_channel *channel;
    char brokers[32];
    struct server server = {.refuse = true};
    (void)state;
    start(&server, 0);
    snprintf(brokers, sizeof brokers, "127.0.0.1:%u", server.port);
    assert_int_not_equal(try_open(&channel, brokers), STATUS_OK);
    assert_null(channel);
    stop(&server);
    assert_int_equal(try_open(&channel, "no list"), STATUS_INVALID);
    assert_int_equal(try_open(&channel, ""), STATUS_INVALID);
}

/* There is one broker only: it gets again what it had not answered, first of all. */
static void a_broker_that_comes_back_is_asked_again(void **state)
{
    struct outcome waits[2];
    struct outcome released[2];
    struct server server = {.name = "again"};
    char brokers[32];
    (void)state;
    start(&server, 0);
    snprintf(brokers, sizeof brokers, "127.0.0.1:%u", server.port);
    struct mr_channel *channel;
    assert_int_equal(try_open(&channel, brokers), STATUS_OK);
    call_with(channel, "orders.fifo", "wait 1", &waits[0]);
    call_with(channel, "orders.fifo", "wait 2", &waits[1]);
    (void)mr_channel_run(channel, 20);
    stop(&server);
    (void)mr_channel_run(channel, 20);
    assert_int_equal(mr_channel_calls(channel), 2);
    start(&server, server.port);
    for (int i = 0; i < 100 && !mr_channel_connected(channel); i++)
        (void)mr_channel_run(channel, 50);
    for (int i = 0; i < 2; i++)
        call(channel, "release one", &released[i]);
    run_until_quiet(channel);
    assert_string_equal(waits[0].text, "again");
    assert_string_equal(waits[1].text, "again");
    mr_channel_close(channel);
    stop(&server);
    assert_string_equal(server.seen, "1212");
}

static void what_finds_no_broker_in_time_is_closed(void **state)
{
    struct outcome waits[2];
    struct server server = {0};
    char brokers[32];
    (void)state;
    start(&server, 0);
    snprintf(brokers, sizeof brokers, "127.0.0.1:%u", server.port);
    struct mr_channel_options options = {.brokers = brokers, .timeout_ms = 2000, .repeat_ms = 300};
    struct mr_channel *channel;
    assert_int_equal(mr_channel_open(&channel, &options, NULL), STATUS_OK);
    call_with(channel, "orders.fifo", "wait", &waits[0]);
    (void)mr_channel_run(channel, 20);
    stop(&server);
    run_until_quiet(channel);
    assert_int_equal(waits[0].status, STATUS_CLOSED);
    start(&server, server.port);
    while (!mr_channel_connected(channel))
        (void)mr_channel_run(channel, 50);
    call_with(channel, "orders.fifo", "wait", &waits[0]);
    (void)mr_channel_run(channel, 20);
    stop(&server);
    (void)mr_channel_run(channel, 20);
    mr_channel_close(channel); /* also when the caller does not wait so long */
    assert_int_equal(waits[0].status, STATUS_CLOSED);
}

/* ---- two brokers ---- */

struct pair {
    struct server first, second;
    struct mr_channel *channel;
};

/* The first says: ask the second for "orders". */
static void open_pair(struct pair *pair)
{
    char brokers[64];
    *pair = (struct pair){.first = {.name = "first", .node_id = 1, .ask_node = 2},
                          .second = {.name = "second", .node_id = 2, .ask_node = 2}};
    start(&pair->first, 0);
    start(&pair->second, 0);
    snprintf(brokers, sizeof brokers, "127.0.0.1:%u,127.0.0.1:%u", pair->first.port,
             pair->second.port);
    assert_int_equal(try_open(&pair->channel, brokers), STATUS_OK);
}

static void close_pair(struct pair *pair)
{
    mr_channel_close(pair->channel);
    stop(&pair->first);
    stop(&pair->second);
}

static void ask(struct pair *pair, const char *queue, const char *answered_by)
{
    struct outcome outcome;
    call(pair->channel, queue, &outcome);
    run_until_quiet(pair->channel);
    assert_int_equal(outcome.status, STATUS_OK);
    assert_string_equal(outcome.text, answered_by);
}

/* The second has to be dialled first: until then the first is good enough. */
static void ask_until_moved(struct pair *pair, const char *queue)
{
    struct outcome outcome = {0};
    for (int i = 0; i < 200 && strcmp(outcome.text, "second") != 0; i++) {
        call(pair->channel, queue, &outcome);
        run_until_quiet(pair->channel);
        assert_int_equal(outcome.status, STATUS_OK);
        (void)mr_channel_run(pair->channel, 5);
    }
    assert_string_equal(outcome.text, "second");
}

static void run_until_ended(struct pair *pair, const struct outcome *outcome)
{
    for (int i = 0; i < 100 && outcome->order == 0; i++)
        (void)mr_channel_run(pair->channel, 100);
    assert_int_not_equal(outcome->order, 0);
}

static void a_queue_moves_to_the_broker_that_is_named(void **state)
{
    struct pair pair;
    (void)state;
    open_pair(&pair);
    ask(&pair, "orders", "first");
    ask_until_moved(&pair, "orders");
    ask(&pair, "orders", "second");
    ask(&pair, "release", "released"); /* nobody was named for that */
    close_pair(&pair);
    assert_int_equal(pair.second.greetings, 1);
}

/* Once round all of them, some at a time. */
static void ask_all(struct pair *pair, struct outcome *outcomes, size_t count)
{
    char queue[32];
    for (size_t i = 0; i < count; i++) {
        snprintf(queue, sizeof queue, "orders-%zu", i);
        call(pair->channel, queue, &outcomes[i]);
        if (i % 256 == 255)
            run_until_quiet(pair->channel);
    }
    run_until_quiet(pair->channel);
}

/* As many as the goal: 10,000 queues, no loss of speed. */
static void many_queues_are_remembered(void **state)
{
    enum { QUEUES = 10000 };
    struct outcome *outcomes = calloc(QUEUES, sizeof *outcomes);
    struct pair pair;
    (void)state;
    assert_non_null(outcomes);
    open_pair(&pair);
    ask_until_moved(&pair, "orders"); /* so there is a line to the second */
    ask_all(&pair, outcomes, QUEUES);
    ask_all(&pair, outcomes, QUEUES);
    for (size_t i = 0; i < QUEUES; i++)
        assert_string_equal(outcomes[i].text, "second");
    close_pair(&pair);
    free(outcomes);
}

static void calls_keep_their_order_when_a_queue_moves(void **state)
{
    struct pair pair;
    struct outcome before[2];
    struct outcome after[3];
    struct outcome released;
    (void)state;
    open_pair(&pair);
    ask_until_moved(&pair, "orders of others"); /* so there is a line to the second */
    ended = 0;
    call_with(pair.channel, "orders", "wait", &before[0]);
    call_with(pair.channel, "orders", "wait", &before[1]);
    call(pair.channel, "release one", &released); /* names the second */
    run_until_ended(&pair, &released);
    assert_string_equal(before[1].text, "first");
    for (size_t i = 0; i < ARRAY_COUNT(after); i++)
        call(pair.channel, "orders", &after[i]);
    for (int i = 0; i < 5; i++)
        (void)mr_channel_run(pair.channel, 10);
    assert_int_equal(ended, 2); /* nothing overtakes the one that still waits */
    call(pair.channel, "release one", &released);
    run_until_quiet(pair.channel);
    assert_string_equal(before[0].text, "first");
    for (size_t i = 0; i < ARRAY_COUNT(after); i++) {
        assert_string_equal(after[i].text, "second");
        assert_true(after[i].order > before[0].order);
        assert_true(i == 0 || after[i].order > after[i - 1].order);
    }
    close_pair(&pair);
}

static void a_queue_comes_back_when_its_broker_is_gone(void **state)
{
    struct pair pair;
    struct outcome waits;
    (void)state;
    open_pair(&pair);
    ask_until_moved(&pair, "orders");
    call_with(pair.channel, "orders", "wait", &waits);
    for (int i = 0; i < 5; i++)
        (void)mr_channel_run(pair.channel, 10);
    stop(&pair.second);
    run_until_quiet(pair.channel);
    assert_int_equal(waits.status, STATUS_CLOSED);
    assert_true(mr_channel_connected(pair.channel));
    ask(&pair, "orders", "first"); /* which still names the second */
    ask(&pair, "orders", "first");
    mr_channel_close(pair.channel);
    stop(&pair.first);
}

/* open_waiting: calls with these bodies are at the second. */
static void open_waiting(struct pair *pair, const char *queue, const char *const bodies[],
                         struct outcome *outcomes, size_t count)
{
    open_pair(pair);
    ask_until_moved(pair, queue);
    for (size_t i = 0; i < count; i++)
        call_with(pair->channel, queue, bodies[i], &outcomes[i]);
    for (int i = 0; i < 5; i++)
        (void)mr_channel_run(pair->channel, 10);
}

static void what_may_be_done_twice_is_asked_of_another_in_order(void **state)
{
    static const char *const bodies[] = {"wait 1", "wait 2", "wait 3"};
    struct pair pair;
    struct outcome waits[3];
    struct outcome behind;
    struct outcome released[3];
    (void)state;
    open_waiting(&pair, "orders.fifo", bodies, waits, 3);
    stop(&pair.second);
    for (int i = 0; i < 10; i++)
        (void)mr_channel_run(pair.channel, 10);
    call_with(pair.channel, "orders.fifo", "4", &behind);
    run_until_ended(&pair, &behind);
    for (int i = 0; i < 3; i++)
        call(pair.channel, "release one", &released[i]);
    run_until_quiet(pair.channel);
    for (int i = 0; i < 3; i++)
        assert_string_equal(waits[i].text, "first");
    mr_channel_close(pair.channel);
    stop(&pair.first);
    assert_string_equal(pair.first.seen + pair.first.seen_count - 4, "1234");
    assert_string_equal(pair.second.seen + pair.second.seen_count - 3, "123");
}

/* Not to be done the second time says nothing of the first. */
static void what_is_refused_the_second_time_is_of_unknown_outcome(void **state)
{
    static const char *const bodies[] = {"down"};
    struct pair pair;
    struct outcome waits;
    (void)state;
    open_waiting(&pair, "orders.fifo", bodies, &waits, 1);
    stop(&pair.second);
    run_until_quiet(pair.channel);
    assert_int_equal(waits.status, STATUS_CLOSED);
    assert_string_equal(waits.text, "ServiceUnavailableException");
    mr_channel_close(pair.channel);
    stop(&pair.first);
}

static void sends_are_made_again_where_that_is_wanted(void **state)
{
    struct pair pair;
    struct outcome waits;
    struct outcome released;
    (void)state;
    open_pair(&pair);
    mr_channel_close(pair.channel);
    char brokers[64];
    snprintf(brokers, sizeof brokers, "127.0.0.1:%u,127.0.0.1:%u", pair.second.port,
             pair.first.port);
    struct mr_channel_options options = {
        .brokers = brokers, .timeout_ms = 2000, .repeat_sends = true};
    assert_int_equal(mr_channel_open(&pair.channel, &options, NULL), STATUS_OK);
    call_with(pair.channel, "orders", "wait", &waits);
    (void)mr_channel_run(pair.channel, 20);
    stop(&pair.second);
    for (int i = 0; i < 200 && !mr_channel_connected(pair.channel); i++)
        (void)mr_channel_run(pair.channel, 10);
    call(pair.channel, "release one", &released);
    run_until_quiet(pair.channel);
    assert_string_equal(waits.text, "first");
    mr_channel_close(pair.channel);
    stop(&pair.first);
}

static void another_broker_takes_over_at_once(void **state)
{
    struct pair pair;
    struct outcome waits;
    (void)state;
    open_pair(&pair);
    ask_until_moved(&pair, "orders");
    call(pair.channel, "hold", &waits); /* at the first */
    for (int i = 0; i < 5; i++)
        (void)mr_channel_run(pair.channel, 10);
    stop(&pair.first);
    run_until_quiet(pair.channel);
    assert_int_equal(waits.status, STATUS_CLOSED);
    assert_true(mr_channel_connected(pair.channel));
    ask(&pair, "orders", "second");
    ask(&pair, "release", "released");
    mr_channel_close(pair.channel);
    stop(&pair.second);
}

static void what_is_held_back_goes_on_when_its_broker_is_gone(void **state)
{
    struct pair pair;
    struct outcome before[2];
    struct outcome after[3];
    struct outcome released;
    (void)state;
    open_pair(&pair);
    ask_until_moved(&pair, "orders of others");
    ended = 0;
    call_with(pair.channel, "orders", "wait", &before[0]);
    call_with(pair.channel, "orders", "wait", &before[1]);
    call(pair.channel, "release one", &released); /* names the second */
    run_until_ended(&pair, &released);
    call(pair.channel, "orders", &after[0]);
    call(pair.channel, "orders", &after[1]);
    stop(&pair.second);
    run_until_ended(&pair, &after[0]); /* at the first, behind what waits there */
    call(pair.channel, "orders", &after[2]);
    run_until_ended(&pair, &after[2]);
    for (size_t i = 0; i < ARRAY_COUNT(after); i++) {
        assert_string_equal(after[i].text, "first");
        assert_true(i == 0 || after[i].order > after[i - 1].order);
    }
    assert_int_equal(before[0].order, 0);
    mr_channel_close(pair.channel);
    stop(&pair.first);
}

static void what_is_held_back_ends_with_the_channel(void **state)
{
    struct pair pair;
    struct outcome before[2];
    struct outcome after;
    struct outcome released;
    (void)state;
    open_pair(&pair);
    ask_until_moved(&pair, "orders of others");
    call_with(pair.channel, "orders", "wait", &before[0]);
    call_with(pair.channel, "orders", "wait", &before[1]);
    call(pair.channel, "release one", &released);
    run_until_ended(&pair, &released);
    call(pair.channel, "orders", &after);
    close_pair(&pair);
    assert_int_equal(before[0].status, STATUS_CLOSED);
    assert_int_equal(after.status, STATUS_UNAVAILABLE); /* it was not sent */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_find_their_calls),
        cmocka_unit_test(refusals_have_the_apis_codes),
        cmocka_unit_test(a_lost_connection_ends_calls_and_comes_back),
        cmocka_unit_test(closing_ends_what_is_under_way),
        cmocka_unit_test(a_broker_that_comes_back_is_asked_again),
        cmocka_unit_test(what_finds_no_broker_in_time_is_closed),
        cmocka_unit_test(what_may_be_done_twice_is_asked_of_another_in_order),
        cmocka_unit_test(what_is_refused_the_second_time_is_of_unknown_outcome),
        cmocka_unit_test(sends_are_made_again_where_that_is_wanted),
        cmocka_unit_test(an_unwelcome_client_is_told),
        cmocka_unit_test(a_queue_moves_to_the_broker_that_is_named),
        cmocka_unit_test(many_queues_are_remembered),
        cmocka_unit_test(calls_keep_their_order_when_a_queue_moves),
        cmocka_unit_test(a_queue_comes_back_when_its_broker_is_gone),
        cmocka_unit_test(another_broker_takes_over_at_once),
        cmocka_unit_test(what_is_held_back_goes_on_when_its_broker_is_gone),
        cmocka_unit_test(what_is_held_back_ends_with_the_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
