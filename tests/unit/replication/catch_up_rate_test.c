/* SPDX-License-Identifier: Apache-2.0 */
/* A node that catches up takes no more in a second than it may (shard_options.move_rate), so that
 * moving a shard leaves disk and network to those who use it. */
#include "broker/replication/wire.h"
#include "tests/unit/replication/cluster.h"

#define RATE       1000000u /* bytes a second */
#define BODY_BYTES 32000u
#define BODIES     60u

struct watch {
    uint64_t victim;
    uint64_t first_ms; /* when it asked for the snapshot, or for bodies */
    uint64_t last_ms;
    uint64_t bytes; /* of the answers */
};

static bool watch(struct cluster *c, uint64_t from, uint64_t to, struct slice message)
{
    struct watch *w = c->data;
    struct wire wire;
    if (wire_decode(message, &wire) != STATUS_OK)
        return false;
    bool asks = wire.type == WIRE_FETCH || wire.type == WIRE_FETCH_BODIES;
    bool answers = wire.type == WIRE_PIECE || wire.type == WIRE_BODIES;
    if (from == w->victim && asks) {
        w->first_ms = w->first_ms == 0 ? uv_now(&c->loop) : w->first_ms;
        w->last_ms = uv_now(&c->loop);
    }
    if (to == w->victim && answers && wire.items.length >= BODY_BYTES)
        w->bytes += wire.items.length;
    return false;
}

static uint64_t snapshot_index(struct cluster *c, uint64_t id)
{
    struct shard_stats stats;
    shard_stats(c->nodes[id].shard, &stats);
    return stats.snapshot_index;
}

static void send_large(struct cluster *c, uint64_t node, uint64_t queue_id)
{
    static char text[BODY_BYTES + 1];
    struct outcome o;
    memset(text, 'x', BODY_BYTES);
    begin_send(c, node, &o, queue_id, text);
    UNTIL(c, o.done);
    assert_int_equal(o.status, STATUS_OK);
}

/* leave_behind: `victim` is stopped, and lacks the bodies of a snapshot, whoever of the others
 * leads when it comes back. The next one is only made when there are more entries. */
static void leave_behind(struct cluster *c, uint64_t victim, uint64_t queue_id)
{
    uint64_t one = victim % 3 + 1;
    uint64_t other = one % 3 + 1;
    uint64_t had = core_applied_index(shard_core(c->nodes[victim].shard));
    uint64_t enough = had + BODIES;
    stop_node(c, victim);
    for (unsigned i = 0;
         i < 10 * BODIES && (snapshot_index(c, one) < enough || snapshot_index(c, other) < enough);
         i++)
        send_large(c, one, queue_id);
    assert_true(snapshot_index(c, one) >= enough && snapshot_index(c, other) >= enough);
}

static void bodies_come_at_the_rate(void **state)
{
    (void)state;
    struct cluster *c = cluster_make(3);
    for (uint64_t id = 1; id <= 3; id++) {
        c->nodes[id].options.snapshot_bytes = 4096;
        c->nodes[id].options.trailing_max = 4;
        c->nodes[id].options.move_rate = RATE;
        start_node(c, id);
    }
    UNTIL(c, all_ready(c));
    uint64_t queue_id = create_queue(c, 1, "orders");
    struct watch w = {.victim = leader_of(c) % 3 + 1};
    leave_behind(c, w.victim, queue_id);
    c->data = &w;
    c->drop = watch;
    start_node(c, w.victim);
    UNTIL(c, all_ready(c) && converged(c));
    assert_true(w.bytes > BODIES / 2 * BODY_BYTES);
    /* The last answer may come at once, and as much more as the burst allows: 150 ms of it. */
    uint64_t counted = w.bytes > (1u << 20) ? w.bytes - (1u << 20) : 0;
    assert_true(counted > 0);
    assert_true(w.last_ms - w.first_ms + 200 >= counted * 1000 / RATE);
    assert_same_state(c);
    cluster_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_come_at_the_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
