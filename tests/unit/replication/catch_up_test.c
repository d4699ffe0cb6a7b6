/* SPDX-License-Identifier: Apache-2.0 */
/* While a node that lags decodes a large state it goes on with everything else: its peers hear of
 * it. All nodes of the test share one loop, so a decode on that loop would stop them all. */
#include "tests/unit/replication/cluster.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static pthread_t loop_thread;
static atomic_bool holding, entered, go;
static atomic_bool on_the_loop;

enum status __real_core_restore(struct core *core, struct slice snapshot); /* NOLINT */
enum status __wrap_core_restore(struct core *core, struct slice snapshot); /* NOLINT */

static void nap(void)
{
    struct timespec ms = {.tv_nsec = 1000000};
    (void)nanosleep(&ms, NULL);
}

/* As long as the test wants: a state of any size. */
enum status __wrap_core_restore(struct core *core, struct slice snapshot)
{
    if (holding) {
        on_the_loop = pthread_equal(pthread_self(), loop_thread) != 0;
        entered = true;
        while (!go && !on_the_loop)
            nap();
    }
    return __real_core_restore(core, snapshot);
}

static void fill(struct cluster *c, uint64_t node, uint64_t queue_id, int count)
{
    struct outcome sends[100];
    for (int i = 0; i < count; i++)
        begin_send(c, node, &sends[i], queue_id, "x");
    for (int i = 0; i < count; i++) {
        UNTIL(c, sends[i].done);
        assert_int_equal(sends[i].status, STATUS_OK);
    }
}

static uint64_t snapshot_index(struct cluster *c, uint64_t node)
{
    struct shard_stats stats;
    shard_stats(c->nodes[node].shard, &stats);
    return stats.snapshot_index;
}

/* A cluster in which *victim has been away for so long that it needs a snapshot, and asks for it:
 * it is in the middle of decoding. */
static struct cluster *decoding(uint64_t *victim, uint64_t *one, uint64_t *queue_id)
{
    struct cluster *c = cluster_new(3);
    loop_thread = pthread_self();
    holding = entered = go = on_the_loop = false;
    for (uint64_t id = 1; id <= 3; id++) {
        c->nodes[id].options.snapshot_bytes = 64u << 10;
        c->nodes[id].options.trailing_max = 16;
        stop_node(c, id);
        start_node(c, id);
        UNTIL(c, all_ready(c));
    }
    *queue_id = create_queue(c, 1, "orders");
    *victim = leader_of(c) % 3 + 1;
    *one = *victim % 3 + 1;
    uint64_t other = *one % 3 + 1;
    uint64_t had = core_applied_index(shard_core(c->nodes[*victim].shard));
    stop_node(c, *victim);
    for (int i = 0;
         i < 100 && (snapshot_index(c, *one) < had + 50 || snapshot_index(c, other) < had + 50);
         i++)
        fill(c, *one, *queue_id, 100);
    start_node(c, *victim);
    holding = true;
    UNTIL(c, entered);
    return c;
}

static void the_loop_goes_on_while_a_state_is_decoded(void **state)
{
    (void)state;
    uint64_t victim, one, queue_id;
    struct cluster *c = decoding(&victim, &one, &queue_id);
    assert_false(on_the_loop);
    fill(c, one, queue_id, 100);
    assert_false(go);
    go = true;
    UNTIL(c, all_ready(c));
    assert_same_state(c);
    cluster_free(c);
}

static void let_go(uv_timer_t *timer)
{
    (void)timer;
    go = true;
}

static void a_node_can_be_stopped_meanwhile(void **state)
{
    (void)state;
    uint64_t victim, one, queue_id;
    struct cluster *c = decoding(&victim, &one, &queue_id);
    uv_timer_t timer;
    assert_int_equal(uv_timer_init(&c->loop, &timer), 0);
    assert_int_equal(uv_timer_start(&timer, let_go, 300, 0), 0);
    stop_node(c, victim);
    assert_true(go);
    uv_close((uv_handle_t *)&timer, NULL);
    holding = false;
    start_node(c, victim);
    UNTIL(c, all_ready(c));
    assert_same_state(c);
    cluster_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_loop_goes_on_while_a_state_is_decoded),
        cmocka_unit_test(a_node_can_be_stopped_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
