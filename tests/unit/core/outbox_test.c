/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between shards: what leaves, what arrives, what comes back. The core under test is shard
 * 1 of 4; "orders" is in shard 2, "orders.fifo" in 3, "q1" in 2 (snapshot_test.c). */
#include "broker/core/record.h"
#include "tests/unit/core/fixture.h"

#include <stdio.h>

#define HERE      1u
#define AWAY      2u
#define AWAY_FIFO 3u

static struct queue_settings redriving(bool fifo)
{
    struct queue_settings settings = settings_default();
    settings.receive_count_max = 1;
    settings.fifo = fifo;
    settings.dead_letter = slice_of(fifo ? "orders.fifo" : "orders");
    return settings;
}

static uint64_t begin(struct fixture *f, bool fifo)
{
    apply(f, &(struct command){.type = COMMAND_PLACE, .place = {HERE, 4}});
    return create(f, "q", redriving(fifo)).queue_id;
}

/* record_of: in static storage; `number` makes it another message. */
static struct slice record_of(const char *group, uint32_t number)
{
    static struct buffer bytes;
    char dedup[16];
    snprintf(dedup, sizeof dedup, "%u", number);
    struct record record = {.group_id = slice_of(group), .dedup_id = slice_of(dedup)};
    record.body = SLICE_LITERAL("body");
    buffer_clear(&bytes);
    record_encode(&bytes, &record);
    return buffer_slice(&bytes);
}

static uint64_t send_grouped(struct fixture *f, uint64_t queue_id, const char *group)
{
    static uint32_t number;
    struct command command = {.type = COMMAND_SEND};
    command.send = (struct command_send){queue_id, 0, record_of(group, ++number)};
    f->now_ms++; /* no two of one age */
    struct core_result result = apply(f, &command);
    assert_int_equal(result.code, CORE_OK);
    return result.seq;
}

/* What waits for `shard`, in order. */
static size_t outbox(const struct fixture *f, uint32_t shard, struct command_arrive *out)
{
    const struct parcel *position = NULL;
    struct outbox_view parcel;
    size_t count = 0;
    while (core_outbox_next(f->core, shard, &position, &parcel)) {
        assert_true(parcel.body.length > 0);
        out[count++] = parcel.arrive;
    }
    assert_int_equal(core_outbox_count(f->core, shard), count);
    return count;
}

static void departed(struct fixture *f, uint32_t shard, uint64_t number)
{
    apply(f, &(struct command){.type = COMMAND_DEPARTED, .departed = {shard, number}});
}

static enum core_code refused(struct fixture *f, uint32_t shard, uint64_t first, uint64_t last)
{
    return apply(f, &(struct command){.type = COMMAND_REFUSED, .refused = {shard, first, last}})
        .code;
}

/* Receive all that can be, and let the leases run out. */
static void exhaust(struct fixture *f, uint64_t queue_id)
{
    struct core_result result = receive(f, queue_id, 10, 1);
    while (result.message_count > 0)
        result = receive(f, queue_id, 10, 1);
    tick(f, 1000);
}

/* ---- leaving ---- */

static void test_a_redriven_message_leaves(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = begin(f, false);
    send(f, queue_id, 0);
    uint64_t sent_ms = f->now_ms;
    exhaust(f, queue_id);
    assert_int_equal(f->departs, 0);
    assert_int_equal(receive(f, queue_id, 1, 1).message_count, 0);
    assert_int_equal(f->departs, 1);
    struct queue_view queue = view(f, queue_id);
    assert_int_equal(queue.visible + queue.in_flight + queue.delayed, 0);
    assert_int_equal(f->held, 1); /* its body stays */
    assert_int_equal(outbox(f, AWAY, out), 1);
    assert_int_equal(core_outbox_count(f->core, AWAY_FIFO), 0);
    assert_int_equal(out[0].source_shard, HERE);
    assert_int_equal(out[0].source_queue_id, queue_id);
    assert_int_equal(out[0].received_before, 1);
    assert_int_equal(out[0].sent_ms, sent_ms);
    assert_int_equal(out[0].destination_queue_id, 0);
    assert_true(slice_is(out[0].destination_name, "orders"));
    assert_false(out[0].fifo);
    assert_int_equal(out[0].settled, out[0].number - 1);
    assert_int_equal(out[0].after, out[0].settled);
    departed(f, AWAY, out[0].number - 1);
    assert_int_equal(core_outbox_count(f->core, AWAY), 1);
    departed(f, AWAY, out[0].number);
    departed(f, AWAY, out[0].number);
    assert_int_equal(core_outbox_count(f->core, AWAY), 0);
    assert_int_equal(f->held, 0);
}

static void test_a_dead_letter_queue_of_this_shard_is_used_at_once(void **state)
{
    struct fixture *f = *state;
    apply(f, &(struct command){.type = COMMAND_PLACE, .place = {AWAY, 4}});
    uint64_t queue_id = create(f, "q", redriving(false)).queue_id;
    uint64_t dead_id = create_default(f, "orders");
    send(f, queue_id, 0);
    exhaust(f, queue_id);
    receive(f, queue_id, 1, 1);
    assert_int_equal(view(f, dead_id).visible, 1);
    assert_int_equal(f->departs, 0);
}

/* Also a shard that goes on from an older state does not use a number again: time has passed. */
static void test_numbers_grow_with_time(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = begin(f, false);
    for (int i = 0; i < 3; i++)
        send(f, queue_id, 0);
    exhaust(f, queue_id);
    receive(f, queue_id, 10, 1);
    assert_int_equal(outbox(f, AWAY, out), 3);
    assert_int_equal(out[0].number, f->now_ms << 15);
    assert_int_equal(out[1].number, out[0].number + 1);
    assert_int_equal(out[1].after, out[0].number);
    assert_int_equal(out[2].after, out[1].number);
    assert_int_equal(out[2].settled, out[0].number - 1);
    send(f, queue_id, 0);
    exhaust(f, queue_id);
    receive(f, queue_id, 10, 1);
    assert_int_equal(outbox(f, AWAY, out), 4);
    assert_int_equal(out[3].number, f->now_ms << 15);
}

/* ---- coming back ---- */

static void test_what_is_refused_is_delivered_and_leaves_again(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = begin(f, false);
    uint64_t seq = send(f, queue_id, 0);
    uint64_t sent_ms = f->now_ms;
    exhaust(f, queue_id);
    receive(f, queue_id, 1, 1);
    outbox(f, AWAY, out);
    assert_int_equal(refused(f, AWAY, out[0].number + 1, out[0].number + 1), CORE_CONFLICT);
    assert_int_equal(refused(f, AWAY, out[0].number - 1, out[0].number - 1), CORE_CONFLICT);
    assert_int_equal(refused(f, AWAY, out[0].number, out[0].number), CORE_OK);
    assert_int_equal(f->ready, 1);
    assert_int_equal(core_outbox_count(f->core, AWAY), 0);
    assert_int_equal(refused(f, AWAY, out[0].number, out[0].number), CORE_CONFLICT);
    struct core_result result = receive(f, queue_id, 1, 1);
    assert_int_equal(result.message_count, 1);
    assert_int_equal(result.messages[0].seq, seq);
    assert_int_equal(result.messages[0].receive_count, 2);
    assert_int_equal(result.messages[0].sent_ms, sent_ms);
    tick(f, 1000);
    assert_int_equal(receive(f, queue_id, 1, 1).message_count, 0);
    assert_int_equal(core_outbox_count(f->core, AWAY), 1);
    assert_int_equal(f->held, 1);
}

static void test_it_goes_with_its_queue(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = begin(f, false);
    for (int i = 0; i < 3; i++)
        send(f, queue_id, 0);
    exhaust(f, queue_id);
    receive(f, queue_id, 10, 1);
    assert_int_equal(outbox(f, AWAY, out), 3);
    apply(f, &(struct command){.type = COMMAND_QUEUE_PURGE, .queue_purge = {queue_id}});
    assert_int_equal(refused(f, AWAY, out[0].number, out[0].number), CORE_OK);
    assert_int_equal(view(f, queue_id).visible, 0);
    apply(f, &(struct command){.type = COMMAND_QUEUE_DELETE, .queue_delete = {queue_id}});
    assert_int_equal(f->held, 2);
    outbox(f, AWAY, out);
    assert_int_equal(refused(f, AWAY, out[0].number, out[0].number), CORE_OK);
    outbox(f, AWAY, out);
    assert_int_equal(f->held, 1);
    departed(f, AWAY, out[0].number);
    assert_int_equal(f->held, 0);
}

/* Sent after the purge: it does come back. And what expired meanwhile goes. */
static void test_purge_and_retention(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = begin(f, false);
    apply(f, &(struct command){.type = COMMAND_QUEUE_PURGE, .queue_purge = {queue_id}});
    send(f, queue_id, 0);
    exhaust(f, queue_id);
    receive(f, queue_id, 10, 1);
    outbox(f, AWAY, out);
    refused(f, AWAY, out[0].number, out[0].number);
    assert_int_equal(view(f, queue_id).visible, 1);
    exhaust(f, queue_id);
    receive(f, queue_id, 10, 1);
    tick(f, 345600000);
    assert_int_equal(outbox(f, AWAY, out), 1);
    refused(f, AWAY, out[0].number, out[0].number);
    assert_int_equal(view(f, queue_id).visible, 0);
    assert_int_equal(f->held, 0);
}

/* Messages 1, 3 and 4 of group a, 2 of group b. All but 4 leave; 1 is refused, and takes 3 back,
 * before 4. 2 is of the same queue, so it comes back too; a message of another queue stays, with a
 * new number. */
static void test_a_group_comes_back_in_order(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = begin(f, true);
    uint64_t other_id = create(f, "other", redriving(true)).queue_id;
    send_grouped(f, queue_id, "a");
    send_grouped(f, queue_id, "b");
    send_grouped(f, queue_id, "a");
    send_grouped(f, other_id, "a");
    exhaust(f, queue_id);
    exhaust(f, other_id);
    receive(f, queue_id, 1, 1);
    receive(f, other_id, 1, 1);
    send_grouped(f, queue_id, "a");
    assert_int_equal(outbox(f, AWAY_FIFO, out), 4);
    uint64_t last = out[3].number;
    assert_int_equal(refused(f, AWAY_FIFO, out[0].number, out[0].number), CORE_OK);
    assert_int_equal(outbox(f, AWAY_FIFO, out), 1);
    assert_int_equal(out[0].source_queue_id, other_id);
    assert_true(out[0].number > last);
    assert_int_equal(out[0].settled, out[0].number - 1);
    static const uint64_t order[] = {1, 3, 4, 2}; /* a, then b */
    struct core_result result = receive(f, queue_id, 10, 1);
    assert_int_equal(result.message_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(result.messages[i].seq, order[i]);
}

/* While message 1 is away its group goes on; it comes back behind what is in flight. */
static void test_a_group_in_flight_keeps_it_waiting(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = begin(f, true);
    send_grouped(f, queue_id, "a");
    exhaust(f, queue_id);
    send_grouped(f, queue_id, "a");
    struct core_lease lease = receive_one(f, queue_id, 2);
    assert_int_equal(outbox(f, AWAY_FIFO, out), 1);
    refused(f, AWAY_FIFO, out[0].number, out[0].number);
    assert_int_equal(receive(f, queue_id, 10, 1).message_count, 0);
    assert_int_equal(delete_message(f, queue_id, lease, true), CORE_OK);
    receive_one(f, queue_id, 1);
}

/* ---- arriving ---- */

struct arrival {
    const char *name;
    uint64_t number, after, settled;
    enum core_code code;
    uint32_t visible; /* afterwards */
};

static struct core_result arrive(struct fixture *f, const struct arrival *a, bool fifo)
{
    struct command command = {.type = COMMAND_ARRIVE};
    command.arrive = (struct command_arrive){.source_shard = AWAY,
                                             .number = a->number,
                                             .after = a->after,
                                             .settled = a->settled,
                                             .fifo = fifo,
                                             .destination_name = slice_of(a->name),
                                             .source_queue_id = queue_id_make(AWAY, 7),
                                             .received_before = 5,
                                             .sent_ms = fifo ? 0 : 1000,
                                             .record = record_of("g", 1)};
    return apply(f, &command);
}

static void run(struct fixture *f, uint64_t queue_id, const struct arrival *table, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(arrive(f, &table[i], false).code, table[i].code);
        assert_int_equal(view(f, queue_id).visible, table[i].visible);
        assert_int_equal(f->held, table[i].visible);
    }
}

static void test_a_number_arrives_once_and_in_turn(void **state)
{
    struct fixture *f = *state;
    static const struct arrival table[] = {
        {"q", 11, 10, 9, CORE_CONFLICT, 0}, /* 10 is not settled, and not here */
        {"q", 10, 9, 9, CORE_OK, 1},        /* the first ever: all before are settled */
        {"q", 10, 9, 9, CORE_OK, 1},        /* again: it is here */
        {"q", 12, 11, 9, CORE_CONFLICT, 1}, /* out of turn */
        {"q", 11, 10, 9, CORE_OK, 2},
        {"q", 10, 9, 9, CORE_OK, 2},   /* late */
        {"q", 20, 19, 19, CORE_OK, 3}, /* numbers have gaps */
        {"q", 30, 20, 19, CORE_OK, 4},
        {"q", 25, 20, 19, CORE_OK, 4},       /* before the last: dealt with */
        {"q", 40, 40, 30, CORE_CONFLICT, 4}, /* nonsense */
        {"q", 40, 30, 40, CORE_CONFLICT, 4},
    };
    begin(f, false);
    run(f, queue_id_make(HERE, 1), table, ARRAY_COUNT(table));
}

static void test_a_refusal_stands_until_it_is_settled(void **state)
{
    struct fixture *f = *state;
    static const struct arrival table[] = {
        {"q", 1, 0, 0, CORE_OK, 1},
        {"none", 2, 1, 0, CORE_NO_QUEUE, 1},
        {"none", 2, 1, 0, CORE_NO_QUEUE, 1}, /* the same answer again */
        {"q", 2, 1, 0, CORE_NO_QUEUE, 1},    /* whatever there is by now */
        {"q", 3, 2, 0, CORE_CONFLICT, 1},    /* nothing overtakes it */
        {"q", 1, 0, 0, CORE_OK, 1},
        {"none", 3, 2, 0, CORE_NO_QUEUE, 1}, /* but may share its fate */
        {"q", 4, 3, 0, CORE_CONFLICT, 1},
        {"q", 4, 3, 2, CORE_CONFLICT, 1}, /* 2 is settled, 3 is not */
        {"q", 2, 1, 0, CORE_OK, 1},       /* late: the source has it */
        {"q", 3, 2, 0, CORE_NO_QUEUE, 1},
        {"q", 9, 8, 8, CORE_OK, 2}, /* the source made others of what followed */
        {"q", 4, 3, 2, CORE_OK, 2}, /* late: of no effect */
        {"q", 3, 2, 0, CORE_OK, 2},
        {"q", 10, 9, 0, CORE_OK, 3},
    };
    begin(f, false);
    run(f, queue_id_make(HERE, 1), table, ARRAY_COUNT(table));
}

static void test_what_arrives(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = begin(f, false);
    uint64_t fifo_id = create(f, "f", redriving(true)).queue_id;
    assert_int_equal(arrive(f, &(struct arrival){"q", 1, 0, 0, CORE_OK, 0}, false).code, CORE_OK);
    assert_int_equal(f->ready_queue_id, queue_id);
    struct core_result result = receive(f, queue_id, 1, 1);
    assert_int_equal(result.messages[0].sent_ms, 1000);
    assert_int_equal(result.messages[0].receive_count, 1);
    assert_int_equal(result.messages[0].received_before, 5);
    assert_int_equal(result.messages[0].source_queue_id, queue_id_make(AWAY, 7));
    assert_int_equal(arrive(f, &(struct arrival){"f", 2, 1, 0, CORE_OK, 0}, true).code, CORE_OK);
    result = receive(f, fifo_id, 1, 1);
    assert_int_equal(result.messages[0].sent_ms, f->now_ms);
    /* The types must be the same, and a FIFO queue needs a group. */
    assert_int_equal(arrive(f, &(struct arrival){"f", 3, 2, 0, CORE_OK, 0}, false).code,
                     CORE_NO_QUEUE);
    assert_int_equal(arrive(f, &(struct arrival){"q", 4, 3, 3, CORE_OK, 0}, true).code,
                     CORE_NO_QUEUE);
    struct command command = {.type = COMMAND_ARRIVE};
    command.arrive = (struct command_arrive){.source_shard = AWAY,
                                             .number = 5,
                                             .after = 4,
                                             .settled = 4,
                                             .fifo = true,
                                             .destination_queue_id = fifo_id,
                                             .record = SLICE_LITERAL("no record")};
    assert_int_equal(apply(f, &command).code, CORE_NO_QUEUE);
    /* From itself, or a shard that is none. */
    command.arrive.source_shard = HERE;
    assert_int_equal(apply(f, &command).code, CORE_CONFLICT);
    command.arrive.source_shard = 5;
    assert_int_equal(apply(f, &command).code, CORE_CONFLICT);
}

/* A move back to where it came from works across shards: the source is remembered. */
static void test_back_to_another_shard(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = begin(f, false);
    arrive(f, &(struct arrival){"q", 1, 0, 0, CORE_OK, 0}, false);
    struct command move = {.type = COMMAND_MOVE_START, .move_start = {{1}, queue_id, 0, 0}};
    assert_int_equal(apply(f, &move).code, CORE_OK);
    assert_int_equal(outbox(f, AWAY, out), 1);
    assert_int_equal(out[0].destination_queue_id, queue_id_make(AWAY, 7));
    assert_int_equal(out[0].source_queue_id, 0);
    assert_int_equal(out[0].sent_ms, 0);
}

/* ---- both sides ---- */

/* What waits for AWAY_FIFO, with the bytes that are all alike here, as an old leader may send it
 * much later. */
static struct core_result offer(struct fixture *to, struct command_arrive arrival)
{
    arrival.record = record_of("g", 1);
    struct command command = {.type = COMMAND_ARRIVE, .arrive = arrival};
    return apply(to, &command);
}

/* Messages 1 and 3 left q for a queue that is missing, 2 left another queue for one that is there.
 * 1 is refused, and 3 comes back with it: a late offer of it must find its number passed, though 2
 * in between arrives. */
static void test_a_late_offer_of_what_came_back(void **state)
{
    struct fixture *f = *state;
    struct fixture *to;
    struct command_arrive old[16];
    struct command_arrive out[16];
    struct queue_settings settings = redriving(true);
    char name[8] = "d0";
    fixture_setup((void **)&to);
    apply(to, &(struct command){.type = COMMAND_PLACE, .place = {AWAY_FIFO, 4}});
    while (shard_of_queue_name(slice_of(name), 4) != AWAY_FIFO)
        name[1]++;
    uint64_t queue_id = begin(f, true);
    settings.dead_letter = slice_of(name);
    uint64_t other_id = create(f, "other", settings).queue_id;
    settings.receive_count_max = 0;
    uint64_t there_id = create(to, name, settings).queue_id;
    static const int order[] = {0, 1, 0};
    for (int i = 0; i < 3; i++) {
        uint64_t from_id = order[i] == 0 ? queue_id : other_id;
        send_grouped(f, from_id, "g");
        exhaust(f, from_id);
        receive(f, from_id, 1, 1);
    }
    assert_int_equal(outbox(f, AWAY_FIFO, old), 3);
    for (int i = 0; i < 3; i++) /* the names go with the parcels */
        old[i].destination_name = slice_of(order[i] == 0 ? "orders.fifo" : name);
    assert_int_equal(offer(to, old[0]).code, CORE_NO_QUEUE);
    settings.dead_letter = (struct slice){0};
    uint64_t dead_id = create(to, "orders.fifo", settings).queue_id;
    assert_int_equal(offer(to, old[1]).code, CORE_CONFLICT);
    assert_int_equal(refused(f, AWAY_FIFO, old[0].number, old[0].number), CORE_OK);
    assert_int_equal(view(f, queue_id).visible, 2);
    assert_int_equal(outbox(f, AWAY_FIFO, out), 1);
    assert_int_equal(offer(to, out[0]).code, CORE_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(offer(to, old[i]).code, CORE_OK);
    assert_int_equal(view(to, there_id).visible, 1);
    assert_int_equal(view(to, dead_id).visible, 0);
    fixture_teardown((void **)&to);
}

/* ---- moves ---- */

static struct move_view move_of(const struct fixture *f, uint64_t queue_id)
{
    struct move_view out;
    size_t position = 0;
    assert_true(core_move_next(f->core, queue_id, &position, &out));
    return out;
}

static uint64_t move_away(struct fixture *f, uint32_t messages, uint32_t per_second_max)
{
    uint64_t queue_id = begin(f, false);
    for (uint32_t i = 0; i < messages; i++)
        send(f, queue_id, 0);
    struct command move = {.type = COMMAND_MOVE_START,
                           .move_start = {{1}, queue_id, queue_id_make(AWAY, 9), per_second_max}};
    assert_int_equal(apply(f, &move).code, CORE_OK);
    return queue_id;
}

static void test_a_move_is_done_when_all_has_arrived(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = move_away(f, 3, 0);
    assert_int_equal(outbox(f, AWAY, out), 3);
    tick(f, 5000);
    assert_int_equal(move_of(f, queue_id).status, MOVE_RUNNING);
    assert_int_equal(move_of(f, queue_id).moved, 0);
    departed(f, AWAY, out[1].number);
    assert_int_equal(move_of(f, queue_id).status, MOVE_RUNNING);
    assert_int_equal(move_of(f, queue_id).moved, 2);
    departed(f, AWAY, out[2].number);
    assert_int_equal(move_of(f, queue_id).status, MOVE_COMPLETED);
    assert_int_equal(move_of(f, queue_id).moved, 3);
}

static void test_a_refusal_fails_a_move(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = move_away(f, 3, 2);
    assert_int_equal(outbox(f, AWAY, out), 2);
    departed(f, AWAY, out[0].number);
    assert_int_equal(refused(f, AWAY, out[1].number, out[1].number), CORE_OK);
    assert_int_equal(move_of(f, queue_id).status, MOVE_FAILED);
    assert_int_equal(move_of(f, queue_id).failure, MOVE_FAILURE_NO_QUEUE);
    assert_int_equal(move_of(f, queue_id).moved, 1);
    assert_int_equal(view(f, queue_id).visible, 2);
    tick(f, 5000);
    assert_int_equal(core_outbox_count(f->core, AWAY), 0);
    /* What came back can be moved again. */
    struct command move = {.type = COMMAND_MOVE_START,
                           .move_start = {{2}, queue_id, queue_id_make(AWAY, 9), 0}};
    assert_int_equal(apply(f, &move).code, CORE_OK);
    assert_int_equal(outbox(f, AWAY, out), 2);
}

static void test_a_cancelled_move_counts_what_still_arrives(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = move_away(f, 2, 0);
    struct command cancel = {.type = COMMAND_MOVE_CANCEL, .move_cancel = {{1}, queue_id}};
    assert_int_equal(apply(f, &cancel).code, CORE_OK);
    outbox(f, AWAY, out);
    departed(f, AWAY, out[0].number);
    refused(f, AWAY, out[1].number, out[1].number);
    assert_int_equal(move_of(f, queue_id).status, MOVE_CANCELLED);
    assert_int_equal(move_of(f, queue_id).moved, 1);
}

/* Two moves with one handle: nothing is counted twice or below zero. */
static void test_a_handle_used_twice(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    uint64_t queue_id = move_away(f, 2, 0);
    struct command cancel = {.type = COMMAND_MOVE_CANCEL, .move_cancel = {{1}, queue_id}};
    apply(f, &cancel);
    send(f, queue_id, 0);
    struct command move = {.type = COMMAND_MOVE_START,
                           .move_start = {{1}, queue_id, queue_id_make(AWAY, 9), 0}};
    assert_int_equal(apply(f, &move).code, CORE_OK);
    assert_int_equal(outbox(f, AWAY, out), 3);
    departed(f, AWAY, out[2].number);
    assert_int_equal(move_of(f, queue_id).status, MOVE_COMPLETED);
}

static void test_where_a_move_can_go(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = begin(f, false);
    static const struct {
        uint64_t destination_id;
        enum core_code code;
    } table[] = {{5ull << 32 | 1, CORE_NO_QUEUE}, /* there is no shard 5 */
                 {1ull << 32 | 99, CORE_NO_QUEUE},
                 {99, CORE_OK}}; /* shard 0 is one too */
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        struct command move = {.type = COMMAND_MOVE_START,
                               .move_start = {{3}, queue_id, table[i].destination_id, 0}};
        assert_int_equal(apply(f, &move).code, table[i].code);
    }
}

/* ---- bounds ---- */

/* Many in one entry, without the checks of `apply`. */
static void many(struct fixture *f, const struct command *command, uint32_t count)
{
    struct buffer entry = {0};
    entry_begin(&entry);
    for (uint32_t i = 0; i < count; i++)
        command_encode(&entry, command);
    entry_finish(&entry, count, f->now_ms);
    assert_int_equal(core_apply_entry(f->core, ++f->index, buffer_slice(&entry)), STATUS_OK);
    buffer_free(&entry);
}

static void test_moves_wait_for_room(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = begin(f, false);
    struct command send_one = {.type = COMMAND_SEND,
                               .send = {queue_id, 0, SLICE_LITERAL("0123456789")}};
    many(f, &send_one, 10100);
    struct command move = {.type = COMMAND_MOVE_START,
                           .move_start = {{1}, queue_id, queue_id_make(AWAY, 9), 0}};
    apply(f, &move);
    for (int i = 0; i < 30; i++)
        many(f, &(struct command){.type = COMMAND_TICK}, (f->now_ms += 10, 1));
    assert_int_equal(core_outbox_count(f->core, AWAY), 10000);
    assert_int_equal(view(f, queue_id).visible, 100);
    assert_true(core_next_deadline_ms(f->core) > f->now_ms + 100); /* it does not spin */
    const struct parcel *position = NULL;
    struct outbox_view parcel;
    core_outbox_next(f->core, AWAY, &position, &parcel);
    departed(f, AWAY, parcel.arrive.number);
    assert_int_equal(core_outbox_count(f->core, AWAY), 10000);
    assert_int_equal(view(f, queue_id).visible, 99);
}

/* Where the other shard is down for long, consumers get what they would get without it. */
static void test_a_full_outbox_delivers(void **state)
{
    struct fixture *f = *state;
    uint64_t queue_id = begin(f, false);
    struct command send_one = {.type = COMMAND_SEND,
                               .send = {queue_id, 0, SLICE_LITERAL("0123456789")}};
    struct command take = {.type = COMMAND_RECEIVE, .receive = {queue_id, 10000, 1, 0, {0}}};
    for (int i = 0; i < 11; i++) {
        many(f, &send_one, 10000);
        many(f, &take, 1);
        f->now_ms += 1000;
        many(f, &take, 1);
    }
    assert_int_equal(core_outbox_count(f->core, AWAY), 100000);
    assert_int_equal(view(f, queue_id).in_flight, 10000);
    core_check(f->core);
}

/* ---- snapshots ---- */

static struct core *copy_of(const struct core *core)
{
    struct buffer bytes = {0};
    struct core *copy = core_new(NULL);
    core_snapshot(core, &bytes);
    assert_int_equal(core_restore(copy, buffer_slice(&bytes)), STATUS_OK);
    core_check(copy);
    assert_int_equal(core_digest(copy), core_digest(core));
    buffer_free(&bytes);
    return copy;
}

/* Parcels of every kind, a message that came back, a refusal that stands. */
static void fill(struct fixture *f)
{
    struct command_arrive out[16];
    uint64_t queue_id = move_away(f, 2, 0);
    uint64_t fifo_id = create(f, "f", redriving(true)).queue_id;
    send(f, queue_id, 0);
    send_grouped(f, fifo_id, "g");
    exhaust(f, queue_id);
    exhaust(f, fifo_id);
    receive(f, queue_id, 1, 1);
    receive(f, fifo_id, 1, 1);
    send_grouped(f, fifo_id, "h");
    exhaust(f, fifo_id);
    outbox(f, AWAY_FIFO, out);
    refused(f, AWAY_FIFO, out[0].number, out[0].number);
    send_grouped(f, fifo_id, "h");
    receive(f, fifo_id, 1, 1);
    arrive(f, &(struct arrival){"q", 1, 0, 0, CORE_OK, 0}, false);
    arrive(f, &(struct arrival){"none", 2, 1, 0, CORE_OK, 0}, false);
    assert_true(core_outbox_count(f->core, AWAY) == 3);
}

static void test_restored_goes_on_in_the_same_way(void **state)
{
    struct fixture *f = *state;
    struct command_arrive out[16];
    fill(f);
    struct fixture copy = {
        .core = copy_of(f->core), .index = f->index, .now_ms = f->now_ms, .held = 100};
    struct fixture *both[] = {f, &copy};
    for (size_t i = 0; i < ARRAY_COUNT(both); i++) {
        outbox(both[i], AWAY, out);
        assert_int_equal(arrive(both[i], &(struct arrival){"q", 2, 1, 0, 0, 0}, false).code,
                         CORE_NO_QUEUE);
        departed(both[i], AWAY, out[0].number);
        assert_int_equal(refused(both[i], AWAY, out[1].number, out[1].number), CORE_OK);
        exhaust(both[i], queue_id_make(HERE, 1));
        exhaust(both[i], queue_id_make(HERE, 2));
    }
    assert_int_equal(core_digest(copy.core), core_digest(f->core));
    buffer_free(&copy.entry);
    core_free(copy.core);
}

/* All comes back into whatever queues there are. */
static void refuse_all(struct core *core)
{
    struct core_result result;
    core_begin(core, core_applied_index(core) + 1, core_now_ms(core));
    for (uint32_t shard = 0; shard <= 4; shard++) {
        struct command command = {.type = COMMAND_REFUSED, .refused = {shard, 0, UINT64_MAX / 2}};
        core_apply(core, &command, (struct slice){0}, &result);
        core_check(core);
    }
}

/* Of the end, where the passages are; snapshot_test.c has the rest. */
static void test_damaged_snapshots(void **state)
{
    struct fixture *f = *state;
    struct buffer bytes = {0};
    fill(f);
    core_snapshot(f->core, &bytes);
    size_t begin_at = bytes.length - 400;
    for (size_t length = begin_at; length < bytes.length; length++) {
        struct core *core = core_new(NULL);
        assert_int_equal(core_restore(core, slice_make(bytes.data, length)), STATUS_INVALID);
        core_free(core);
    }
    for (size_t bit = begin_at * 8; bit < bytes.length * 8; bit++) {
        struct core *core = core_new(NULL);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (core_restore(core, buffer_slice(&bytes)) == STATUS_OK) {
            core_check(core);
            refuse_all(core);
        }
        core_free(core);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buffer_free(&bytes);
}

/* What decides later must be in the digest. */
static void test_digest(void **state)
{
    struct fixture *f = *state;
    fill(f);
    const struct arrival table[] = {{"none", 3, 2, 0, CORE_NO_QUEUE, 0},
                                    {"q", 3, 2, 0, CORE_OK, 0},
                                    {"q", 9, 8, 8, CORE_OK, 0}};
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        struct fixture copy = {.core = copy_of(f->core), .index = f->index, .now_ms = f->now_ms};
        tick(&copy, 0);
        arrive(f, &table[i], false);
        if (i != 1) /* which changes nothing */
            assert_int_not_equal(core_digest(f->core), core_digest(copy.core));
        buffer_free(&copy.entry);
        core_free(copy.core);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_a_redriven_message_leaves),
        FIXTURE_TEST(test_a_dead_letter_queue_of_this_shard_is_used_at_once),
        FIXTURE_TEST(test_numbers_grow_with_time),
        FIXTURE_TEST(test_what_is_refused_is_delivered_and_leaves_again),
        FIXTURE_TEST(test_it_goes_with_its_queue),
        FIXTURE_TEST(test_purge_and_retention),
        FIXTURE_TEST(test_a_group_comes_back_in_order),
        FIXTURE_TEST(test_a_group_in_flight_keeps_it_waiting),
        FIXTURE_TEST(test_a_number_arrives_once_and_in_turn),
        FIXTURE_TEST(test_a_refusal_stands_until_it_is_settled),
        FIXTURE_TEST(test_what_arrives),
        FIXTURE_TEST(test_back_to_another_shard),
        FIXTURE_TEST(test_a_late_offer_of_what_came_back),
        FIXTURE_TEST(test_a_move_is_done_when_all_has_arrived),
        FIXTURE_TEST(test_a_refusal_fails_a_move),
        FIXTURE_TEST(test_a_cancelled_move_counts_what_still_arrives),
        FIXTURE_TEST(test_a_handle_used_twice),
        FIXTURE_TEST(test_where_a_move_can_go),
        FIXTURE_TEST(test_moves_wait_for_room),
        FIXTURE_TEST(test_a_full_outbox_delivers),
        FIXTURE_TEST(test_restored_goes_on_in_the_same_way),
        FIXTURE_TEST(test_damaged_snapshots),
        FIXTURE_TEST(test_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
