/* SPDX-License-Identifier: Apache-2.0 */
/* When followers hear that an entry is committed (raft_net_tell_commit), and apply it. */
#include "tests/unit/replication/script.h"

#define TURNS 5 /* of the loop: a message is sent, and has arrived */

static const struct shard_options plain;

static void add_one(struct script *s)
{
    struct outcome o;
    begin_send(s->c, SHARD_NODE, &o, 1, "x"); /* to a queue that is not there */
    UNTIL(s->c, o.done);
    assert_int_equal(o.status, STATUS_OK);
}

/* told: this node was sent a commit index that covers the entry. */
static bool told(const struct script *s, uint64_t to, uint64_t index)
{
    for (const struct heard *heard = s->first; heard != NULL; heard = heard->next) {
        if (heard->to == to && heard->wire.type == WIRE_APPEND && heard->wire.c >= index &&
            heard->wire.a + heard->wire.count >= index)
            return true;
    }
    return false;
}

/* Nothing follows the entry, and nobody waits for it there. */
static void all_hear_of_the_last_commit(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    lead(s);
    s->played[3].follows = true;
    UNTIL(s->c, s->played[3].has == stats_of(s).last_index);
    for (int i = 0; i < 5; i++) {
        forget(s);
        add_one(s);
        uint64_t index = stats_of(s).last_index;
        UNTIL(s->c, told(s, 2, index) && told(s, 3, index));
    }
    script_free(s);
}

/* And where somebody does, in the same turn: its answer is in its own log. */
static void who_waits_hears_at_once(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    lead(s);
    struct wire sync = {.type = WIRE_SYNC, .term = 3, .a = 1};
    say(s, 2, &sync, (struct slice){0});
    for (int i = 0; i < 5; i++) {
        forget(s);
        add_one(s);
        for (int turn = 0; turn < TURNS; turn++)
            uv_run(&s->c->loop, UV_RUN_NOWAIT);
        assert_true(told(s, 2, stats_of(s).last_index));
    }
    script_free(s);
}

/* What an append tells is done while its own entries are being written. */
static void what_is_known_is_applied_before_the_next_is_on_disk(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    struct appending a = {.from = 2, .term = 2, .prev = 1, .prev_term = 1, .commit = 1, .n = 1};
    say_append(s, a);
    wait_durable(s, 2);
    assert_int_equal(stats_of(s).applied_index, 1);
    a.prev = a.prev_term = a.commit = 2;
    say_append(s, a);
    assert_int_equal(stats_of(s).applied_index, 2); /* the loop has not run since */
    wait_durable(s, 3);
    assert_int_equal(stats_of(s).applied_index, 2);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_hear_of_the_last_commit),
        cmocka_unit_test(who_waits_hears_at_once),
        cmocka_unit_test(what_is_known_is_applied_before_the_next_is_on_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
