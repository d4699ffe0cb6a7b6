/* SPDX-License-Identifier: Apache-2.0 */
/* Members and those who were some, seen from one real shard: who counts, who is remembered, and
 * what becomes of those who are served, or wait, when the shard is closed. */
#include "tests/unit/replication/script.h"

static const struct shard_options plain;

static void on_change(struct shard_change *change, enum status status)
{
    *(int *)change->data = (int)status + 1;
}

/* leading: with node 2 as its only follower. */
static struct script *leading(void)
{
    struct script *s = script_new(&plain);
    lead(s);
    return s;
}

static enum status send_now(struct script *s)
{
    struct outcome o;
    begin_send(s->c, SHARD_NODE, &o, 1, "a message");
    UNTIL(s->c, o.done);
    return o.status;
}

static void say_low(struct script *s, uint64_t from)
{
    struct wire wire = {.type = WIRE_APPENDED, .flags = WIRE_DISK_LOW, .term = 3};
    wire.b = 1;
    say(s, from, &wire, (struct slice){0});
}

/* Of three disks two are low. Nodes that are no members have room, and it is of no use. */
static void only_the_disks_of_members_count(void **state)
{
    (void)state;
    struct script *s = leading();
    for (uint64_t stranger = 20; stranger < 30; stranger++)
        tell_connection(s->c, SHARD_NODE, stranger, true);
    say_low(s, 20);
    say_low(s, 21);
    assert_int_equal(send_now(s), STATUS_OK);
    s->played[2].follows = false;
    say_low(s, 3);
    say_low(s, 2);
    assert_int_equal(send_now(s), STATUS_DISK_FULL);
    script_free(s);
}

struct newcomer {
    unsigned heard;
};

static void on_newcomer_message(void *data, uint64_t from, struct slice message)
{
    (void)from, (void)message;
    ((struct newcomer *)data)->heard++;
}

static void on_newcomer_connection(void *data, uint64_t node_id, bool up)
{
    (void)data, (void)node_id, (void)up;
}

/* As many nodes have come and gone as can be known at a time; the next one is heard all the same.
 */
static void those_who_have_gone_are_forgotten(void **state)
{
    (void)state;
    struct script *s = leading();
    struct newcomer newcomer = {0};
    struct shard_change change = {.done = on_change, .data = &(int){0}};
    struct bus *bus = &s->c->nodes[4].bus;
    for (uint64_t gone = 100; gone < 100 + 2 * SHARD_MEMBERS_MAX; gone++) {
        tell_connection(s->c, SHARD_NODE, gone, true);
        tell_connection(s->c, SHARD_NODE, gone, false);
    }
    bus->handler = (struct peer_handler){on_newcomer_message, on_newcomer_connection, &newcomer};
    bus->handling = true;
    tell_connection(s->c, SHARD_NODE, 4, true);
    shard_member_add(shard_of(s), &change, 4, "node-4:9326");
    UNTIL(s->c, newcomer.heard > 0);
    UNTIL(s->c, *(int *)change.data > 0);
    bus->handling = false;
    script_free(s);
}

/* Bodies that are gone are asked for, and the shard is closed while it looks for them. */
static void it_closes_while_it_gives_bodies(void **state)
{
    (void)state;
    struct script *s = leading();
    struct wire wire = {.type = WIRE_FETCH_BODIES, .count = 1, .term = 3, .a = 1};
    struct buffer items = {0};
    wire.c = 1u << 20;
    wire.d = 1;
    buffer_add_u64(&items, 1);
    buffer_add_u32(&items, 1u << 20);
    buffer_add_u32(&items, 8);
    say(s, 2, &wire, buffer_slice(&items));
    buffer_free(&items);
    script_free(s);
}

/* close_during: a change that nobody acknowledges is told of its end. */
static void close_during(struct script *s, int *done)
{
    run_ms(s->c, 20);
    assert_int_equal(*done, 0);
    stop_node(s->c, SHARD_NODE);
    assert_int_equal(*done - 1, STATUS_CLOSED);
    script_free(s);
}

static void it_closes_while_members_change(void **state)
{
    (void)state;
    struct script *s = leading();
    int done = 0;
    struct shard_change change = {.done = on_change, .data = &done};
    s->played[2].follows = false;
    shard_member_add(shard_of(s), &change, 4, "node-4:9326");
    close_during(s, &done);
}

static void it_closes_while_it_hands_over(void **state)
{
    (void)state;
    struct script *s = leading();
    int done = 0;
    struct shard_change change = {.done = on_change, .data = &done};
    shard_transfer(shard_of(s), &change, 2);
    UNTIL(s->c, heard_last(s, 2, WIRE_TIMEOUT_NOW) != NULL);
    close_during(s, &done);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_disks_of_members_count),
        cmocka_unit_test(those_who_have_gone_are_forgotten),
        cmocka_unit_test(it_closes_while_it_gives_bodies),
        cmocka_unit_test(it_closes_while_members_change),
        cmocka_unit_test(it_closes_while_it_hands_over),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
