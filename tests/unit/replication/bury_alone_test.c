/* SPDX-License-Identifier: Apache-2.0 */
/* Dropping what a deleted queue had, where nothing else wakes the shard: a node without others, of
 * which the library's ticks are stopped as well. What it forgets to do stays undone. */
#include "tests/unit/replication/bench.h"

#include "broker/replication/internal.h"

#define PER_CALL  500u
#define CALLS     50u /* 25,000 messages: three entries give them over */
#define ENTRY_MAX 10000u
#define SOON_MS   100u

static void send_many(struct bench *b, uint64_t queue_id)
{
    struct buffer record = {0};
    struct shard_call call = {.done = on_called, .grows = true};
    struct answer answer = {0};
    struct command command = send_of(queue_id, a_record(&record, "small"));
    call.data = &answer;
    for (uint32_t i = 0; i < PER_CALL; i++)
        shard_call_add(&call, &command);
    shard_call(b->shard, &call);
    wait_for(b, &answer.done);
    assert_int_equal(answer.status, STATUS_OK);
    buffer_free(&record);
}

static bool nothing_left(const struct core *core)
{
    return core_bury_left(core) == 0 && core_next_deadline_ms(core) == UINT64_MAX;
}

/* asleep: nothing is under way, nor will be by itself. (The timer of ticks may be set for a look a
 * minute after the queue's messages came; for what is due it is set for 5 ms.) */
static bool asleep(const struct shard *shard)
{
    bool ticks = uv_is_active((const uv_handle_t *)&shard->tick_timer) &&
                 uv_timer_get_due_in(&shard->tick_timer) < SOON_MS;
    return !ticks && !shard->ticking && !uv_is_active((const uv_handle_t *)&shard->idle) &&
           !uv_is_active((const uv_handle_t *)&shard->bury_timer);
}

/* An entry gives over 10,000; when those are gone the shard asks for the next entry at once. */
static void a_large_queue_goes_though_nothing_happens(void **state)
{
    struct bench *b = *state;
    open_shard(b);
    uint64_t queue_id = make_queue(b, "orders");
    for (uint32_t i = 0; i < CALLS; i++)
        send_many(b, queue_id);
    struct command command = {.type = COMMAND_QUEUE_DELETE, .queue_delete = {queue_id}};
    assert_int_equal(call_one(b, &command).status, STATUS_OK);
    const struct core *core = shard_core(b->shard);
    assert_in_range(core_bury_left(core), 1, ENTRY_MAX);
    uv_timer_stop(&b->shard->disk.ticker);
    while (!nothing_left(core) && !asleep(b->shard))
        uv_run(&b->loop, UV_RUN_NOWAIT);
    bool gone = nothing_left(core);
    core_check(core);
    close_shard(b); /* before a failure, for the loop's sake */
    assert_true(gone);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {SHARD_TEST(a_large_queue_goes_though_nothing_happens)};
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
