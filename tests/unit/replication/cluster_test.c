/* SPDX-License-Identifier: Apache-2.0 */
/* Three replicas: calls on any of them, leaders that go, messages that come once. */
#include "broker/replication/wire.h"
#include "tests/unit/replication/cluster.h"

static uint64_t follower_of(struct cluster *c, uint64_t leader)
{
    return leader % c->count + 1;
}

static void calls_work_on_every_node(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    struct outcome o;
    uint64_t queue_id = create_queue(c, follower_of(c, leader_of(c)), "orders");
    for (uint64_t id = 1; id <= 3; id++) {
        begin_send(c, id, &o, queue_id, "hello");
        UNTIL(c, o.done);
        assert_int_equal(o.status, STATUS_OK);
        assert_int_equal(o.result.code, CORE_OK);
        assert_int_equal(o.result.seq, id);
    }
    for (uint64_t id = 1; id <= 3; id++) {
        begin_receive(c, id, &o, queue_id, 0);
        UNTIL(c, o.done);
        assert_int_equal(o.status, STATUS_OK);
        assert_int_equal(o.result.message_count, id == 1 ? 3 : 0);
    }
    assert_same_state(c);
    cluster_free(c);
}

/* One commit for a send and the receive that waits for it, wherever each of them is. */
static void a_waiting_receive_is_served_in_the_commit_of_the_send(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    struct outcome receive;
    struct outcome send;
    uint64_t queue_id = create_queue(c, 1, "orders");
    for (uint64_t at = 1; at <= 3; at++) {
        begin_receive(c, at, &receive, queue_id, 10000);
        run_ms(c, 30);
        assert_false(receive.done);
        uint64_t before = core_applied_index(shard_core(c->nodes[leader_of(c)].shard));
        begin_send(c, at % 3 + 1, &send, queue_id, "hello");
        UNTIL(c, receive.done && send.done);
        assert_int_equal(receive.result.message_count, 1);
        assert_int_equal(receive.messages[0].body.index, before + 1);
        assert_int_equal(core_applied_index(shard_core(c->nodes[at].shard)), before + 1);
    }
    assert_same_state(c);
    cluster_free(c);
}

static void a_wait_ends_empty_on_any_node(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    uint64_t queue_id = create_queue(c, 1, "orders");
    struct outcome o[3];
    for (uint64_t id = 1; id <= 3; id++)
        begin_receive(c, id, &o[id - 1], queue_id, 300);
    run_ms(c, 150);
    for (int i = 0; i < 3; i++)
        assert_false(o[i].done);
    UNTIL(c, o[0].done && o[1].done && o[2].done);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(o[i].status, STATUS_OK);
        assert_int_equal(o[i].result.message_count, 0);
    }
    cluster_free(c);
}

/* R1, R2: sends on all nodes while leaders are cut off again and again: each is stored exactly
 * once, and none of them fails. */
static void nothing_is_lost_or_doubled_when_leaders_go(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    struct outcome *sends = calloc(600, sizeof *sends);
    uint64_t queue_id = create_queue(c, 1, "orders");
    char text[32];
    int begun = 0;
    for (int round = 0; round < 6; round++) {
        UNTIL(c, leader_of(c) != 0);
        uint64_t victim = leader_of(c);
        for (int i = 0; i < 50; i++, begun++) {
            snprintf(text, sizeof text, "message %d", begun);
            begin_send(c, (uint64_t)begun % 3 + 1, &sends[begun], queue_id, text);
            uv_run(&c->loop, UV_RUN_NOWAIT);
        }
        isolate(c, victim, round % 2 == 0);
        for (int i = 0; i < 50; i++, begun++) {
            snprintf(text, sizeof text, "message %d", begun);
            begin_send(c, (uint64_t)begun % 3 + 1, &sends[begun], queue_id, text);
            uv_run(&c->loop, UV_RUN_NOWAIT);
        }
        UNTIL(c, leader_of(c) != 0 && leader_of(c) != victim);
        run_ms(c, 200);
        rejoin(c, victim);
        UNTIL(c, all_ready(c));
    }
    for (int i = 0; i < begun; i++) {
        UNTIL(c, sends[i].done);
        assert_int_equal(sends[i].status, STATUS_OK);
    }
    assert_same_state(c);
    struct queue_view view;
    assert_true(core_queue_by_id(shard_core(c->nodes[1].shard), queue_id, &view));
    assert_int_equal(view.sent_total, begun);
    assert_int_equal(view.visible, begun);
    free(sends);
    cluster_free(c);
}

static void long_polls_survive_a_change_of_leaders(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    struct outcome receive[3];
    struct outcome send;
    uint64_t queue_id = create_queue(c, 1, "orders");
    uint64_t first = leader_of(c);
    for (uint64_t id = 1; id <= 3; id++)
        begin_receive(c, id, &receive[id - 1], queue_id, 15000);
    run_ms(c, 50);
    isolate(c, first, true);
    UNTIL(c, leader_of(c) != 0 && leader_of(c) != first);
    rejoin(c, first);
    UNTIL(c, all_ready(c));
    run_ms(c, 50);
    for (int i = 0; i < 3; i++) {
        begin_send(c, (uint64_t)i + 1, &send, queue_id, "hello");
        UNTIL(c, send.done);
        assert_int_equal(send.status, STATUS_OK);
    }
    UNTIL(c, receive[0].done && receive[1].done && receive[2].done);
    for (int i = 0; i < 3; i++)
        assert_int_equal(receive[i].result.message_count, 1);
    assert_same_state(c);
    cluster_free(c);
}

static void cancelled_receives_give_their_messages_back(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    uint64_t queue_id = create_queue(c, 1, "orders");
    uint64_t at = follower_of(c, leader_of(c));
    struct outcome send;
    for (int i = 0; i < 20; i++) {
        struct outcome waiting;
        struct outcome receive;
        begin_receive(c, at, &waiting, queue_id, 10000);
        run_ms(c, 5);
        begin_send(c, leader_of(c), &send, queue_id, "hello");
        for (int turns = 0; turns < i; turns++)
            uv_run(&c->loop, UV_RUN_NOWAIT);
        if (!waiting.done)
            shard_receive_cancel(c->nodes[at].shard, &waiting.receive);
        UNTIL(c, waiting.done && send.done);
        if (waiting.status == STATUS_CANCELLED) {
            begin_receive(c, 1, &receive, queue_id, 5000);
            UNTIL(c, receive.done);
            assert_int_equal(receive.result.message_count, 1);
        }
    }
    assert_same_state(c);
    cluster_free(c);
}

static void a_restarted_node_goes_on(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    struct outcome o;
    uint64_t queue_id = create_queue(c, 1, "orders");
    for (int round = 0; round < 3; round++) {
        uint64_t victim = round % 2 == 0 ? leader_of(c) : follower_of(c, leader_of(c));
        stop_node(c, victim);
        for (int i = 0; i < 20; i++) {
            begin_send(c, victim % 3 + 1, &o, queue_id, "while it is away");
            UNTIL(c, o.done);
            assert_int_equal(o.status, STATUS_OK);
        }
        start_node(c, victim);
        UNTIL(c, all_ready(c));
        assert_same_state(c);
    }
    /* All at once. */
    for (uint64_t id = 1; id <= 3; id++)
        stop_node(c, id);
    for (uint64_t id = 1; id <= 3; id++)
        start_node(c, id);
    UNTIL(c, all_ready(c));
    assert_same_state(c);
    struct queue_view view;
    assert_true(core_queue_by_id(shard_core(c->nodes[2].shard), queue_id, &view));
    assert_int_equal(view.sent_total, 60);
    cluster_free(c);
}

static void on_synced(struct shard_sync *sync, enum status status)
{
    *(int *)sync->data = (int)status + 1;
}

/* What one node has answered, another one sees after it has asked. */
static void a_synced_node_sees_what_others_wrote(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    char name[32];
    for (int i = 0; i < 30; i++) {
        struct queue_view view;
        struct shard_sync sync = {.done = on_synced};
        int synced = 0;
        uint64_t reader = (uint64_t)(i + 1) % 3 + 1;
        sync.data = &synced;
        snprintf(name, sizeof name, "queue-%d", i);
        create_queue(c, (uint64_t)i % 3 + 1, name);
        shard_sync(c->nodes[reader].shard, &sync);
        UNTIL(c, synced > 0);
        assert_int_equal(synced - 1, STATUS_OK);
        assert_true(core_queue_by_name(shard_core(c->nodes[reader].shard), slice_of(name), &view));
    }
    cluster_free(c);
}

static uint64_t follower_of_a_leader(struct cluster *c)
{
    for (uint64_t id = 1; id <= c->count; id++) {
        uint64_t leader = c->nodes[id].shard != NULL ? shard_leader(c->nodes[id].shard) : 0;
        if (leader != 0 && leader != id && c->nodes[leader].shard != NULL)
            return id;
    }
    return 0;
}

static bool drop_appended(struct cluster *c, uint64_t from, uint64_t to, struct slice message)
{
    struct wire wire;
    (void)c, (void)from, (void)to;
    return wire_decode(message, &wire) == STATUS_OK && wire.type == WIRE_APPENDED;
}

/* What a new leader is asked before it can know the answer, it answers when it does. */
static void a_new_leader_answers_what_it_was_asked_too_early(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    struct shard_sync sync = {.done = on_synced};
    int synced = 0;
    sync.data = &synced;
    UNTIL(c, all_ready(c));
    stop_node(c, leader_of(c));
    c->drop = drop_appended;
    uint64_t reader = 0;
    UNTIL(c, (reader = follower_of_a_leader(c)) != 0);
    shard_sync(c->nodes[reader].shard, &sync);
    run_ms(c, 300);
    assert_int_equal(synced, 0);
    c->drop = NULL;
    UNTIL(c, synced > 0);
    assert_int_equal(synced - 1, STATUS_OK);
    cluster_free(c);
}

static void on_late_call(struct shard_call *call, enum status status,
                         const struct core_result *results, uint32_t count)
{
    (void)results, (void)count;
    *(int *)call->data = (int)status + 1;
}

/* What has waited for one thing already has so much less time for the next: all that a request
 * leads to ends CALL_DEADLINE_MS after its arrival. */
static void time_counts_from_arrival(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    struct command tick = {.type = COMMAND_TICK};
    int synced = 0, called = 0;
    UNTIL(c, all_ready(c));
    uint64_t asked = leader_of(c) % 3 + 1;
    for (uint64_t id = 1; id <= 3; id++)
        c->cut[asked][id] = c->cut[id][asked] = true;
    uint64_t began_ms = uv_now(&c->loop);
    struct shard_sync sync = {.done = on_synced, .data = &synced, .since_ms = began_ms - 9500};
    struct shard_call call = {.done = on_late_call, .data = &called, .since_ms = began_ms - 9500};
    shard_call_add(&call, &tick);
    shard_sync(c->nodes[asked].shard, &sync);
    shard_call(c->nodes[asked].shard, &call);
    UNTIL(c, synced > 0 && called > 0);
    assert_true(uv_now(&c->loop) - began_ms >= 500);
    assert_true(uv_now(&c->loop) - began_ms < 9000);
    assert_int_equal(synced - 1, STATUS_NOT_LEADER);
    assert_true(called - 1 == STATUS_NOT_LEADER || called - 1 == STATUS_CLOSED);
    cluster_free(c);
}

/* A node that is cut off refuses nothing before it must, and says that it does not know. */
static void without_a_majority_calls_end_unanswered(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    struct outcome o[2];
    uint64_t queue_id = create_queue(c, 1, "orders");
    uint64_t leader = leader_of(c);
    uint64_t other = follower_of(c, leader);
    stop_node(c, other);
    stop_node(c, follower_of(c, other));
    begin_send(c, leader, &o[0], queue_id, "never");
    run_ms(c, 3000);
    begin_send(c, leader, &o[1], queue_id, "never either");
    assert_false(o[0].done);
    UNTIL(c, o[0].done && o[1].done);
    assert_int_equal(o[0].status, STATUS_CLOSED);     /* it was proposed */
    assert_int_equal(o[1].status, STATUS_NOT_LEADER); /* it was not */
    cluster_free(c);
}

static void on_change(struct shard_change *change, enum status status)
{
    *(int *)change->data = (int)status + 1;
}

static int transfer(struct cluster *c, uint64_t to)
{
    int done = 0;
    struct shard_change change = {.done = on_change, .data = &done};
    shard_transfer(c->nodes[leader_of(c)].shard, &change, to);
    UNTIL(c, done > 0);
    return done - 1;
}

static void leadership_is_handed_over(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    struct outcome sends[200];
    uint64_t queue_id = create_queue(c, 1, "orders");
    for (int i = 0; i < 200; i++) {
        begin_send(c, (uint64_t)i % 3 + 1, &sends[i], queue_id, "hello");
        if (i % 40 == 20) {
            uint64_t from = leader_of(c);
            uint64_t to = follower_of(c, from);
            assert_int_equal(transfer(c, to), STATUS_OK);
            UNTIL(c, leader_of(c) == to);
        }
    }
    for (int i = 0; i < 200; i++) {
        UNTIL(c, sends[i].done);
        assert_int_equal(sends[i].status, STATUS_OK);
    }
    assert_same_state(c);
    struct queue_view view;
    assert_true(core_queue_by_id(shard_core(c->nodes[1].shard), queue_id, &view));
    assert_int_equal(view.sent_total, 200);
    cluster_free(c);
}

/* On a busy machine leaders come and go (this process stood still for half a second): then the next
 * one is asked, which may have made the change already. */
static int change_member(struct cluster *c, uint64_t id,
                         void (*how)(struct shard *, struct shard_change *, uint64_t))
{
    for (bool again = false;; again = true) {
        int done = 0;
        struct shard_change change = {.done = on_change, .data = &done};
        UNTIL(c, leader_of(c) != 0);
        how(c->nodes[leader_of(c)].shard, &change, id);
        UNTIL(c, done > 0);
        int status = done - 1;
        if (again && (status == STATUS_EXISTS || status == STATUS_NOT_FOUND))
            return STATUS_OK;
        if (status != STATUS_NOT_LEADER)
            return status;
    }
}

static void add_learner(struct shard *shard, struct shard_change *change, uint64_t id)
{
    static char address[32];
    snprintf(address, sizeof address, "node-%d:9326", (int)id);
    shard_member_add(shard, change, id, address);
}

static void members_come_and_go(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    struct outcome o;
    uint64_t queue_id = create_queue(c, 1, "orders");
    for (int i = 0; i < 50; i++) {
        begin_send(c, 1, &o, queue_id, "hello");
        UNTIL(c, o.done);
    }
    c->nodes[4].options.join = true;
    start_node(c, 4);
    assert_int_equal(change_member(c, 4, add_learner), STATUS_OK);
    assert_int_equal(change_member(c, 4, add_learner), STATUS_EXISTS);
    UNTIL(c, converged(c));
    assert_int_equal(change_member(c, 4, shard_member_promote), STATUS_OK);
    uint64_t gone = follower_of(c, leader_of(c));
    assert_int_equal(change_member(c, gone, shard_member_remove), STATUS_OK);
    stop_node(c, gone);
    begin_send(c, 4, &o, queue_id, "through the new one");
    UNTIL(c, o.done);
    assert_int_equal(o.status, STATUS_OK);
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    size_t count = shard_members(c->nodes[4].shard, members);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(members[i].role, SHARD_VOTER);
        assert_int_not_equal(members[i].id, gone);
    }
    assert_same_state(c);
    cluster_free(c);
}

static enum shard_role role_of(struct cluster *c, uint64_t id)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    size_t count = shard_members(c->nodes[leader_of(c)].shard, members);
    for (size_t i = 0; i < count; i++) {
        if (members[i].id == id)
            return members[i].role;
    }
    return SHARD_SPARE;
}

static void set_cut(struct cluster *c, uint64_t id, bool is_cut)
{
    for (uint64_t other = 1; other <= c->count; other++) {
        if (is_cut)
            cut(c, id, other, true);
        else
            heal(c, id, other);
    }
}

/* The leader loses its place while it promotes a learner: one that cannot catch up, or one that has
 * everything, and the change is in the leader's log and nowhere else. */
static void promotion_without_the_leader(bool reached)
{
    struct cluster *c = cluster_new(3);
    uint64_t queue_id = create_queue(c, 1, "orders");
    struct outcome o;
    int done = 0;
    struct shard_change change = {.done = on_change, .data = &done};
    c->nodes[4].options.join = true;
    start_node(c, 4);
    assert_int_equal(change_member(c, 4, add_learner), STATUS_OK);
    UNTIL(c, converged(c) && leader_of(c) != 0);
    set_cut(c, 4, !reached);
    begin_send(c, 1, &o, queue_id, "what it lacks");
    UNTIL(c, o.done && (!reached || converged(c)) && leader_of(c) != 0);
    uint64_t first = leader_of(c);
    shard_member_promote(c->nodes[first].shard, &change, 4);
    if (!reached)
        run_ms(c, 50);
    assert_int_equal(done, 0);
    isolate(c, first, true);
    UNTIL(c, done > 0);
    assert_int_equal(done - 1, STATUS_NOT_LEADER);
    UNTIL(c, leader_of(c) != 0 && leader_of(c) != first);
    assert_int_equal(role_of(c, 4), SHARD_LEARNER);
    set_cut(c, 4, false);
    rejoin(c, first);
    UNTIL(c, all_ready(c));
    assert_int_equal(change_member(c, 4, shard_member_promote), STATUS_OK);
    UNTIL(c, leader_of(c) != 0);
    assert_int_equal(role_of(c, 4), SHARD_VOTER);
    assert_same_state(c);
    cluster_free(c);
}

static void a_promotion_ends_with_the_leadership(void **state)
{
    (void)state;
    promotion_without_the_leader(false);
    promotion_without_the_leader(true);
}

/* fill: so much that the leader's log no longer reaches back to where the others are. */
static void fill(struct cluster *c, uint64_t at, uint64_t queue_id, int count)
{
    static char text[3000];
    struct outcome *o = calloc((size_t)count, sizeof *o);
    for (int i = 0; i < count; i++) {
        memset(text, 'a' + i % 26, sizeof text - 1);
        begin_send(c, at, &o[i], queue_id, text);
        if (i % 10 == 9)
            UNTIL(c, o[i].done);
    }
    for (int i = 0; i < count; i++) {
        UNTIL(c, o[i].done);
        assert_int_equal(o[i].status, STATUS_OK);
    }
    free(o);
}

static uint64_t snapshot_index(struct cluster *c, uint64_t id)
{
    struct shard_stats stats;
    shard_stats(c->nodes[id].shard, &stats);
    return stats.snapshot_index;
}

static void on_body_read(struct shard_read *read, enum status status)
{
    *(int *)read->data = (int)status + 1;
}

/* assert_bodies: every message of the queue can be read on this node, and is as it was sent. */
static void assert_bodies(struct cluster *c, uint64_t id, uint64_t queue_id, int count)
{
    int seen = 0;
    while (seen < count) {
        struct outcome o;
        begin_receive(c, id, &o, queue_id, 0);
        UNTIL(c, o.done);
        assert_int_equal(o.status, STATUS_OK);
        if (o.result.message_count == 0)
            fail_msg("%d of %d messages", seen, count);
        for (uint32_t i = 0; i < o.result.message_count; i++, seen++) {
            int done = 0;
            struct shard_read read = {
                .refs = &o.messages[i].body, .count = 1, .done = on_body_read, .data = &done};
            struct record record;
            shard_read(c->nodes[id].shard, &read);
            UNTIL(c, done > 0);
            assert_int_equal(done - 1, STATUS_OK);
            assert_int_equal(record_decode(buffer_slice(&read.out), &record), STATUS_OK);
            assert_true(record.body.length == 2999 &&
                        record.body.data[0] == record.body.data[2998]);
            buffer_free(&read.out);
        }
    }
}

/* R8: a node that was away for long gets a snapshot, and has every body when it counts again. */
static void a_node_that_lags_takes_over_a_snapshot(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    for (uint64_t id = 1; id <= 3; id++) {
        c->nodes[id].options.snapshot_bytes = 256u << 10;
        c->nodes[id].options.trailing_max = 16;
    }
    for (uint64_t id = 1; id <= 3; id++) {
        stop_node(c, id);
        start_node(c, id);
        UNTIL(c, all_ready(c));
    }
    uint64_t queue_id = create_queue(c, 1, "orders");
    fill(c, 1, queue_id, 100);
    uint64_t victim = follower_of(c, leader_of(c));
    uint64_t had = core_applied_index(shard_core(c->nodes[victim].shard));
    stop_node(c, victim);
    /* On both of the others, since either may lead by the time it comes back. */
    uint64_t one = victim % 3 + 1;
    uint64_t other = one % 3 + 1;
    for (int i = 0;
         i < 40 && (snapshot_index(c, one) < had + 100 || snapshot_index(c, other) < had + 100);
         i++)
        fill(c, one, queue_id, 100);
    assert_true(snapshot_index(c, one) >= had + 100 && snapshot_index(c, other) >= had + 100);
    start_node(c, victim);
    UNTIL(c, snapshot_index(c, victim) > had);
    UNTIL(c, all_ready(c));
    assert_same_state(c);
    /* It counts: with it alone beside one other, things go on; and what it has it can read. */
    struct queue_view view;
    stop_node(c, other);
    fill(c, victim, queue_id, 10);
    assert_true(core_queue_by_id(shard_core(c->nodes[victim].shard), queue_id, &view));
    assert_bodies(c, victim, queue_id, (int)view.visible);
    /* And it starts again from what it has taken over. */
    stop_node(c, victim);
    start_node(c, victim);
    start_node(c, other);
    UNTIL(c, all_ready(c));
    assert_same_state(c);
    cluster_free(c);
}

/* A new node begins with nothing. */
static void a_new_node_gets_everything(void **state)
{
    (void)state;
    struct cluster *c = cluster_new(3);
    for (uint64_t id = 1; id <= 4; id++)
        c->nodes[id].options.snapshot_bytes = 256u << 10;
    for (uint64_t id = 1; id <= 3; id++) {
        stop_node(c, id);
        start_node(c, id);
        UNTIL(c, all_ready(c));
    }
    uint64_t queue_id = create_queue(c, 1, "orders");
    int sent = 1000;
    fill(c, 1, queue_id, sent);
    for (; leader_of(c) == 0 || snapshot_index(c, leader_of(c)) <= 50; sent += 10)
        fill(c, 1, queue_id, 10); /* the next one is only made when there are more entries */
    c->nodes[4].options.join = true;
    start_node(c, 4);
    assert_int_equal(change_member(c, 4, add_learner), STATUS_OK);
    fill(c, 1, queue_id, 200); /* meanwhile */
    UNTIL(c, converged(c));
    assert_int_equal(change_member(c, 4, shard_member_promote), STATUS_OK);
    assert_same_state(c);
    assert_bodies(c, 4, queue_id, sent + 200);
    cluster_free(c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_work_on_every_node),
        cmocka_unit_test(a_waiting_receive_is_served_in_the_commit_of_the_send),
        cmocka_unit_test(a_wait_ends_empty_on_any_node),
        cmocka_unit_test(nothing_is_lost_or_doubled_when_leaders_go),
        cmocka_unit_test(long_polls_survive_a_change_of_leaders),
        cmocka_unit_test(cancelled_receives_give_their_messages_back),
        cmocka_unit_test(a_restarted_node_goes_on),
        cmocka_unit_test(a_synced_node_sees_what_others_wrote),
        cmocka_unit_test(a_new_leader_answers_what_it_was_asked_too_early),
        cmocka_unit_test(time_counts_from_arrival),
        cmocka_unit_test(without_a_majority_calls_end_unanswered),
        cmocka_unit_test(leadership_is_handed_over),
        cmocka_unit_test(members_come_and_go),
        cmocka_unit_test(a_promotion_ends_with_the_leadership),
        cmocka_unit_test(a_node_that_lags_takes_over_a_snapshot),
        cmocka_unit_test(a_new_node_gets_everything),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
