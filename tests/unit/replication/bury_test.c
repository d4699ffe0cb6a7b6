/* SPDX-License-Identifier: Apache-2.0 */
/* What must not hold up all members of a group at the same time: dropping what a deleted queue had,
 * and snapshots. */
#include "tests/unit/replication/cluster.h"

#define TEXT_BYTES     2000u
#define MESSAGES       600u
#define SNAPSHOT_BYTES (64u << 10)

static uint64_t leader(struct cluster *c)
{
    UNTIL(c, leader_of(c) != 0);
    return leader_of(c);
}

/* make: three nodes that take a snapshot each `snapshot_bytes`. */
static struct cluster *make(uint64_t snapshot_bytes)
{
    struct cluster *c = cluster_make(3);
    for (uint64_t id = 1; id <= c->count; id++) {
        c->nodes[id].options.snapshot_bytes = snapshot_bytes;
        c->nodes[id].options.unpacked = true; /* so that there is something to free */
        start_node(c, id);
    }
    UNTIL(c, all_ready(c));
    return c;
}

static void send_many(struct cluster *c, uint64_t queue_id, uint32_t count)
{
    char text[TEXT_BYTES + 1];
    memset(text, 'd', TEXT_BYTES);
    text[TEXT_BYTES] = '\0';
    for (uint32_t i = 0; i < count; i++) {
        struct outcome o;
        begin_send(c, leader(c), &o, queue_id, text);
        UNTIL(c, o.done);
        assert_int_equal(o.status, STATUS_OK);
    }
    UNTIL(c, converged(c));
}

static struct shard_stats stats_of(struct cluster *c, uint64_t id)
{
    struct shard_stats stats;
    shard_stats(c->nodes[id].shard, &stats);
    return stats;
}

static void delete_queue(struct cluster *c, uint64_t queue_id)
{
    struct outcome o;
    struct command command = {.type = COMMAND_QUEUE_DELETE, .queue_delete = {queue_id}};
    uint64_t id = leader(c);
    begin_call(c, id, &o, &command);
    UNTIL(c, o.done);
    assert_int_equal(o.status, STATUS_OK);
    assert_true(core_bury_left(shard_core(c->nodes[id].shard)) > 0); /* not all in the entry */
}

/* It goes between the entries, and takes its segments with it. A start that replays the deletion,
 * from a snapshot which still has the messages, misses none of them. */
static void a_deleted_queue_is_gone_at_the_next_start(void **state)
{
    (void)state;
    struct cluster *c = make(SNAPSHOT_BYTES);
    uint64_t queue_id = create_queue(c, leader(c), "orders");
    send_many(c, queue_id, MESSAGES);
    for (uint64_t id = 1; id <= c->count; id++) { /* no snapshots from now on */
        while (stats_of(c, id).snapshots < 3)     /* children make them, in their own time */
            send_many(c, queue_id, 10);
        stop_node(c, id);
        c->nodes[id].options.snapshot_bytes = UINT32_MAX;
        start_node(c, id);
        UNTIL(c, all_ready(c));
    }
    struct shard_stats full[4];
    for (uint64_t id = 1; id <= c->count; id++)
        full[id] = stats_of(c, id);
    delete_queue(c, queue_id);
    for (uint64_t id = 1; id <= c->count; id++) {
        UNTIL(c, stats_of(c, id).log_segments < full[id].log_segments / 2);
        UNTIL(c, core_bury_left(shard_core(c->nodes[id].shard)) == 0);
        assert_int_equal(stats_of(c, id).snapshot_index, full[id].snapshot_index);
    }
    for (uint64_t id = 1; id <= c->count; id++) {
        stop_node(c, id);
        start_node(c, id);
        UNTIL(c, all_ready(c));
    }
    assert_same_state(c);
    cluster_free(c);
}

/* send_small: so many messages in one call. */
static void send_small(struct cluster *c, uint64_t queue_id, uint32_t count)
{
    struct outcome o = {.call = {.done = on_call_done, .data = &o, .grows = true}};
    struct buffer bytes = {0};
    struct record record = {.body = slice_of("small")};
    record_encode(&bytes, &record);
    struct command command = {.type = COMMAND_SEND};
    command.send = (struct command_send){queue_id, CORE_DEFAULT, buffer_slice(&bytes)};
    for (uint32_t i = 0; i < count; i++)
        shard_call_add(&o.call, &command);
    shard_call(c->nodes[leader(c)].shard, &o.call);
    UNTIL(c, o.done);
    assert_int_equal(o.status, STATUS_OK);
    buffer_free(&bytes);
}

/* An entry gives over 10,000 messages; the leader asks for more when they are gone. */
static void a_large_queue_goes_by_itself(void **state)
{
    (void)state;
    struct cluster *c = make(UINT32_MAX);
    uint64_t queue_id = create_queue(c, leader(c), "orders");
    for (uint32_t i = 0; i < 25; i++)
        send_small(c, queue_id, 500);
    UNTIL(c, converged(c));
    delete_queue(c, queue_id);
    for (uint64_t id = 1; id <= c->count; id++) {
        const struct core *core = shard_core(c->nodes[id].shard);
        UNTIL(c, core_bury_left(core) == 0 && core_next_deadline_ms(core) == UINT64_MAX);
    }
    assert_same_state(c);
    cluster_free(c);
}

static bool nobody_makes_one(struct cluster *c)
{
    bool none = true;
    for (uint64_t id = 1; id <= c->count; id++)
        none = none && stats_of(c, id).snapshot_pid == 0;
    return none;
}

/* They have the same log: the second begins an eighth of a MiB after the first, the third after it.
 */
static void members_take_snapshots_apart(void **state)
{
    (void)state;
    uint64_t first[4] = {0};
    struct cluster *c = make(1u << 20);
    uint64_t queue_id = create_queue(c, leader(c), "orders");
    send_many(c, queue_id, MESSAGES / 2);
    for (uint32_t i = 0; i < MESSAGES && (first[1] == 0 || first[2] == 0 || first[3] == 0); i++) {
        send_many(c, queue_id, 1);
        UNTIL(c, nobody_makes_one(c));
        for (uint64_t id = 1; id <= c->count; id++)
            first[id] = first[id] == 0 ? stats_of(c, id).snapshot_index : first[id];
    }
    assert_true(first[1] > MESSAGES / 2);
    uint64_t entries = (1u << 20) / 8 / TEXT_BYTES / 2; /* half of that */
    assert_true(first[2] > first[1] + entries);
    assert_true(first[3] > first[2] + entries);
    cluster_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deleted_queue_is_gone_at_the_next_start),
        cmocka_unit_test(a_large_queue_goes_by_itself),
        cmocka_unit_test(members_take_snapshots_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
