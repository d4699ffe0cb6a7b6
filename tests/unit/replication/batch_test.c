/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes one entry, and how many share a sync of the log. */
#include "tests/unit/replication/cluster.h"

#define BODY_BYTES 262144u
#define BODIES     32u

static struct shard_stats stats_of_first(struct cluster *c)
{
    struct shard_stats stats;
    shard_stats(c->nodes[1].shard, &stats);
    return stats;
}

/* Four bodies of 256 KiB are an entry, and no entry has a sync of its own: on a disk that takes
 * 375 MB/s in pieces of 4 MiB, one at a time got 60. */
static void large_calls_share_entries_and_syncs(void **state)
{
    static char text[BODY_BYTES + 1];
    struct outcome *o = calloc(BODIES, sizeof *o);
    struct cluster *c = cluster_make(1);
    (void)state;
    assert_non_null(o);
    c->nodes[1].options.segment_bytes = 16u << 20;
    start_node(c, 1);
    UNTIL(c, all_ready(c));
    uint64_t queue_id = create_queue(c, 1, "pictures");
    struct shard_stats before = stats_of_first(c);
    memset(text, 'x', BODY_BYTES);
    for (unsigned i = 0; i < BODIES; i++)
        begin_send(c, 1, &o[i], queue_id, text);
    for (unsigned i = 0; i < BODIES; i++) {
        UNTIL(c, o[i].done);
        assert_int_equal(o[i].status, STATUS_OK);
    }
    struct shard_stats after = stats_of_first(c);
    assert_int_equal(after.entries - before.entries, BODIES / 4);
    assert_in_range(after.log_syncs - before.log_syncs, 1, BODIES / 8);
    cluster_free(c);
    free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_calls_share_entries_and_syncs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
