/* SPDX-License-Identifier: Apache-2.0 */
/* shard_sync on a leader: it answers no question before a majority has said that it still leads. */
#include "tests/unit/replication/script.h"

static const struct shard_options plain;

struct asked {
    struct shard_sync sync;
    int done; /* its status, plus one */
    int turn; /* in which it ended */
};

static int turns;

static void on_synced(struct shard_sync *sync, enum status status)
{
    struct asked *asked = sync->data;
    asked->done = (int)status + 1;
    asked->turn = ++turns;
}

static void ask(struct script *s, struct asked *asked)
{
    *asked = (struct asked){.sync = {.done = on_synced, .data = asked}};
    shard_sync(shard_of(s), &asked->sync);
}

/* round_of: the number of the last round that node 2 was asked to confirm; 0: none. */
static uint64_t round_of(const struct script *s)
{
    const struct heard *heard = heard_last(s, 2, WIRE_CONFIRM);
    return heard != NULL ? heard->wire.a : 0;
}

static void confirm(struct script *s, uint64_t term, uint64_t round)
{
    struct wire wire = {.type = WIRE_CONFIRMED, .term = term, .a = round};
    say(s, 2, &wire, (struct slice){0});
}

/* leading: in term 3, and then the others fall silent. */
static struct script *leading(void)
{
    struct script *s = script_new(&plain);
    lead(s);
    UNTIL(s->c, shard_leads(shard_of(s)));
    s->played[2].follows = s->played[3].follows = false;
    return s;
}

static void a_confirmed_leader_answers(void **state)
{
    (void)state;
    struct script *s = leading();
    struct asked asked;
    ask(s, &asked);
    UNTIL(s->c, round_of(s) > 0);
    assert_int_equal(asked.done, 0);
    confirm(s, stats_of(s).term, round_of(s));
    UNTIL(s->c, asked.done > 0);
    assert_int_equal(asked.done - 1, STATUS_OK);
    script_free(s);
}

static void a_deposed_leader_answers_no_question(void **state)
{
    (void)state;
    struct script *s = leading();
    struct asked asked;
    ask(s, &asked);
    UNTIL(s->c, round_of(s) > 0);
    confirm(s, stats_of(s).term - 1, round_of(s));
    confirm(s, stats_of(s).term, round_of(s) - 1);
    run_ms(s->c, 50);
    assert_int_equal(asked.done, 0);
    script_free(s);
}

/* Whoever asks before each of several calls has them begun in that order (R10). */
static void questions_are_answered_as_they_came(void **state)
{
    (void)state;
    struct script *s = leading();
    struct asked asked[6];
    for (int i = 0; i < 3; i++)
        ask(s, &asked[i]);
    UNTIL(s->c, round_of(s) > 0);
    for (int i = 3; i < 6; i++) /* of the next round: they are kept */
        ask(s, &asked[i]);
    confirm(s, stats_of(s).term, round_of(s));
    UNTIL(s->c, asked[2].done > 0 && round_of(s) > 1);
    confirm(s, stats_of(s).term, round_of(s));
    UNTIL(s->c, asked[5].done > 0);
    for (int i = 1; i < 6; i++)
        assert_int_equal(asked[i].turn, asked[i - 1].turn + 1);
    script_free(s);
}

/* A round says nothing of what was answered since it began. */
static void a_question_is_not_answered_by_the_round_before_it(void **state)
{
    (void)state;
    struct script *s = leading();
    struct asked first;
    struct asked second;
    ask(s, &first);
    UNTIL(s->c, round_of(s) > 0);
    uint64_t round = round_of(s);
    ask(s, &second);
    run_ms(s->c, 20);
    assert_int_equal(round_of(s), round);
    confirm(s, stats_of(s).term, round);
    UNTIL(s->c, first.done > 0);
    run_ms(s->c, 20);
    assert_int_equal(second.done, 0);
    assert_int_equal(round_of(s), round + 1);
    confirm(s, stats_of(s).term, round + 1);
    UNTIL(s->c, second.done > 0);
    script_free(s);
}

/* A message that is lost is sent again. */
static void a_round_is_asked_for_again(void **state)
{
    (void)state;
    struct script *s = leading();
    struct asked asked;
    ask(s, &asked);
    UNTIL(s->c, round_of(s) > 0);
    uint64_t round = round_of(s);
    forget(s);
    UNTIL(s->c, round_of(s) == round);
    script_free(s);
}

/* At a node that follows: there was no room for the answer on its way. */
static void a_question_is_asked_again(void **state)
{
    (void)state;
    struct script *s = script_new(&plain);
    struct appending beat = {.from = 2, .term = 2, .prev = 1, .prev_term = 1, .commit = 1};
    struct asked asked;
    say_append(s, beat);
    ask(s, &asked);
    UNTIL(s->c, heard_last(s, 2, WIRE_SYNC) != NULL);
    uint64_t number = heard_last(s, 2, WIRE_SYNC)->wire.a;
    forget(s);
    for (int i = 0; i < 200 && heard_last(s, 2, WIRE_SYNC) == NULL; i++) {
        run_ms(s->c, 20);
        say_append(s, beat);
    }
    assert_non_null(heard_last(s, 2, WIRE_SYNC));
    assert_int_equal(heard_last(s, 2, WIRE_SYNC)->wire.a, number); /* an answer to either will do */
    struct wire synced = {.type = WIRE_SYNCED, .term = 2, .a = number, .b = 1};
    say(s, 2, &synced, (struct slice){0});
    UNTIL(s->c, asked.done > 0);
    assert_int_equal(asked.done - 1, STATUS_OK);
    script_free(s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_confirmed_leader_answers),
        cmocka_unit_test(a_deposed_leader_answers_no_question),
        cmocka_unit_test(a_question_is_not_answered_by_the_round_before_it),
        cmocka_unit_test(questions_are_answered_as_they_came),
        cmocka_unit_test(a_round_is_asked_for_again),
        cmocka_unit_test(a_question_is_asked_again),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
