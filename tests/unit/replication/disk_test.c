/* SPDX-License-Identifier: Apache-2.0 */
/* A shard on a small file system of its own (a tmpfs in a private mount namespace): when little is
 * free it refuses sends and goes on serving receives and deletes, takes sends again when there is
 * room, and ends the process, with what was answered safe, when there is none at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/core/record.h"
#include "broker/log/log.h"
#include "broker/replication/shard.h"
#include "tests/unit/log/child.h"

#include <sys/stat.h>

#define BODY_BYTES 4000u

struct stage {
    char dir[128];
    char shard_dir[160];
    char ballast[160];
    uv_loop_t loop;
    struct shard *shard;
    uint64_t queue_id;
    bool done;
    enum status status;
    struct core_result result;
    struct core_message messages[16];
};

static void on_called(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct stage *s = call->data;
    s->done = true;
    s->status = status;
    if (status != STATUS_OK)
        return;
    s->result = results[count - 1];
    CHECK(s->result.message_count <= 16);
    if (s->result.message_count > 0)
        memcpy(s->messages, s->result.messages, s->result.message_count * sizeof s->messages[0]);
}

static enum status call_one(struct stage *s, const struct command *command)
{
    struct shard_call call = {.done = on_called, .data = s};
    shard_call_add(&call, command);
    call.grows = command->type == COMMAND_SEND;
    s->done = false;
    shard_call(s->shard, &call);
    while (!s->done)
        uv_run(&s->loop, UV_RUN_ONCE);
    return s->status;
}

static void open_stage(struct stage *s)
{
    const char *error = NULL;
    struct shard_options options = {.loop = &s->loop,
                                    .dir = s->shard_dir,
                                    .node_id = 1,
                                    .address = "127.0.0.1:9326",
                                    .segment_bytes = 256u << 10,
                                    .unpacked = true,
                                    .snapshot_bytes = 128u << 10,
                                    .disk_reserve_bytes = 3u << 20};
    uv_loop_init(&s->loop);
    enum status status = shard_open(&s->shard, &options, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "%s\n", error);
    CHECK(status == STATUS_OK);
    while (!shard_ready(s->shard))
        uv_run(&s->loop, UV_RUN_ONCE);
}

static void make_queue(struct stage *s)
{
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    command.queue_create.name = slice_of("orders");
    command.queue_create.settings = (struct queue_settings){
        .message_bytes_max = 262144, .retention_s = 3600, .visibility_s = 30};
    command.queue_create.tags = SLICE_LITERAL("{}");
    CHECK(call_one(s, &command) == STATUS_OK);
    s->queue_id = s->result.queue_id;
}

static enum status send_one(struct stage *s)
{
    static uint8_t body[BODY_BYTES];
    struct buffer bytes = {0};
    struct record record = {0};
    struct command command = {.type = COMMAND_SEND};
    memset(body, 'x', sizeof body);
    record.body = slice_make(body, sizeof body);
    record_encode(&bytes, &record);
    command.send.queue_id = s->queue_id;
    command.send.delay_s = CORE_DEFAULT;
    command.send.record = buffer_slice(&bytes);
    enum status status = call_one(s, &command);
    buffer_free(&bytes);
    return status;
}

/* take_some: receive and delete; how many there were. */
static uint32_t take_some(struct stage *s)
{
    struct command receive = {.type = COMMAND_RECEIVE};
    struct core_message messages[16];
    receive.receive.queue_id = s->queue_id;
    receive.receive.max = 10;
    receive.receive.visibility_s = CORE_DEFAULT;
    CHECK(call_one(s, &receive) == STATUS_OK);
    uint32_t count = s->result.message_count;
    memcpy(messages, s->messages, sizeof messages);
    for (uint32_t i = 0; i < count; i++) {
        struct command command = {.type = COMMAND_DELETE};
        struct buffer body = {0};
        CHECK(shard_read_now(s->shard, messages[i].body, &body) || body.length == 0);
        buffer_free(&body);
        command.delete.queue_id = s->queue_id;
        command.delete.lease = (struct core_lease){messages[i].seq, messages[i].receive_count};
        CHECK(call_one(s, &command) == STATUS_OK);
        CHECK(s->result.code == CORE_OK);
    }
    return count;
}

static uint64_t visible(const struct stage *s)
{
    struct queue_view view;
    CHECK(core_queue_by_name(shard_core(s->shard), slice_of("orders"), &view));
    return view.visible + view.in_flight;
}

static void nearly_full(void *data)
{
    struct stage *s = data;
    uint64_t sent = 0;
    enum status status;
    CHECK(child_mount(s->dir, "12m"));
    open_stage(s);
    make_queue(s);
    while ((status = send_one(s)) == STATUS_OK && sent < 100000)
        sent++;
    CHECK(status == STATUS_DISK_FULL);
    CHECK(sent > 500);
    CHECK(visible(s) == sent);
    uint64_t taken = 0;
    for (uint32_t count; (count = take_some(s)) > 0;)
        taken += count;
    CHECK(taken == sent); /* all is served, and nothing was lost or stored twice */
    /* Little log comes of small commands, so help on the snapshots that free the segments. */
    for (int i = 0; i < 100000 && (status = send_one(s)) == STATUS_DISK_FULL; i++) {
        struct command command = {.type = COMMAND_TICK};
        CHECK(call_one(s, &command) == STATUS_OK);
    }
    CHECK(status == STATUS_OK);
}

static void keep_sending(void *data)
{
    struct stage *s = data;
    open_stage(s);
    make_queue(s);
    for (int i = 0; i < 100; i++)
        CHECK(send_one(s) == STATUS_OK);
    child_fill(s->ballast, 0);
    fprintf(stderr, "answered 100\n");
    for (int i = 0; i < 100000; i++) {
        struct command command = {.type = COMMAND_TICK};
        CHECK(call_one(s, &command) == STATUS_OK);
    }
}

static void quite_full(void *data)
{
    struct stage *s = data;
    CHECK(child_mount(s->dir, "12m"));
    struct child_end end = child_run(keep_sending, s);
    fprintf(stderr, "%s", end.text);
    CHECK(end.code == LOG_EXIT_CODE);
    CHECK(strstr(end.text, "answered 100") != NULL);
    CHECK(strstr(end.text, "No space left on device") != NULL);
    CHECK(unlink(s->ballast) == 0);
    open_stage(s);
    CHECK(visible(s) == 100);
}

static void run_in_child(void (*run)(void *data))
{
    struct stage s = {0};
    const char *base = getenv("TMPDIR");
    snprintf(s.dir, sizeof s.dir, "%s/millrace-disk-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(s.dir));
    snprintf(s.shard_dir, sizeof s.shard_dir, "%s/shard-0", s.dir);
    snprintf(s.ballast, sizeof s.ballast, "%s/ballast", s.dir);
    bool may = child_may_mount(s.dir);
    struct child_end end = {0};
    if (may)
        end = child_run(run, &s);
    rmdir(s.dir);
    if (!may) {
        print_message("skipped: mounting a tmpfs needs CAP_SYS_ADMIN\n");
        skip();
    }
    if (end.code != 0)
        fail_msg("exit code %d: %s", end.code, end.text);
}

static void refuses_sends_and_serves_the_rest(void **state)
{
    (void)state;
    run_in_child(nearly_full);
}

static void ends_the_process_when_nothing_is_left(void **state)
{
    (void)state;
    run_in_child(quite_full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_sends_and_serves_the_rest),
        cmocka_unit_test(ends_the_process_when_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
