/* SPDX-License-Identifier: Apache-2.0 */
/* kill -9 at random moments: what was acknowledged is there after the restart.
 *
 * A child sends numbered messages through a shard, several at a time, and deletes some; it writes a
 * number to a pipe once the send is acknowledged. The parent kills it after a random time. A second
 * child opens the same folder, receives everything, and fails unless each acknowledged number is
 * there and every body is whole. Rounds go on in the same folder, with small segments and
 * snapshots, so that kills also hit rolls, recycling and snapshots. MILLRACE_SEED repeats a run's
 * choices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/core/record.h"
#include "broker/replication/shard.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS    8
#define WINDOW    6
#define NUMBERS   200000u
#define TEXT_ROOM 3000

struct node {
    uv_loop_t loop;
    struct shard *shard;
    uint64_t queue_id;
    bool ready;
};

static void on_ready(void *data, bool ready)
{
    ((struct node *)data)->ready = ready;
}

static void open_node(struct node *node, const char *dir)
{
    const char *error = NULL;
    uv_loop_init(&node->loop);
    trace_configure(TRACE_WARN, false);
    struct shard_options options = {.loop = &node->loop,
                                    .dir = dir,
                                    .node_id = 1,
                                    .address = "127.0.0.1:9326",
                                    .segment_bytes = 64u << 10,
                                    .snapshot_bytes = 100u << 10,
                                    .disk_reserve_bytes = 1,
                                    .leading_changed = on_ready,
                                    .data = node};
    if (shard_open(&node->shard, &options, &error) != STATUS_OK) {
        fprintf(stderr, "shard_open: %s\n", error);
        _exit(3);
    }
    while (!node->ready)
        uv_run(&node->loop, UV_RUN_ONCE);
    core_check(shard_core(node->shard));
}

struct one_call {
    struct shard_call call;
    bool done;
    enum status status;
    struct core_result result;
    struct core_message messages[10];
};

static void on_one(struct shard_call *call, enum status status, const struct core_result *results,
                   uint32_t count)
{
    struct one_call *one = call->data;
    one->done = true;
    one->status = status;
    if (count == 0)
        return;
    one->result = results[0];
    if (results[0].message_count > 0)
        memcpy(one->messages, results[0].messages,
               results[0].message_count * sizeof one->messages[0]);
}

/* run_one: `messages` (room for 10, or NULL) are those of the result. */
static struct core_result run_one(struct node *node, const struct command *command,
                                  struct core_message *messages)
{
    struct one_call one = {.call = {.done = on_one, .data = &one}};
    shard_call_add(&one.call, command);
    shard_call(node->shard, &one.call);
    while (!one.done)
        uv_run(&node->loop, UV_RUN_ONCE);
    if (one.status != STATUS_OK)
        _exit(4);
    if (messages != NULL)
        memcpy(messages, one.messages, sizeof one.messages);
    return one.result;
}

static void find_queue(struct node *node)
{
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    struct queue_view view;
    command.queue_create.name = slice_of("numbers");
    command.queue_create.settings = (struct queue_settings){
        .message_bytes_max = 262144, .retention_s = 3600, .visibility_s = 600};
    run_one(node, &command, NULL);
    if (!core_queue_by_name(shard_core(node->shard), slice_of("numbers"), &view))
        _exit(5);
    node->queue_id = view.queue_id;
}

/* ---- the child that is killed ---- */

struct sending {
    struct shard_call call;
    struct node *node;
    uint32_t number;
    uint32_t *next;
    int pipe;
};

/* text_of: "NUMBER aaaa...": as long as the number says. */
static struct slice text_of(uint32_t number, char text[TEXT_ROOM])
{
    int used = snprintf(text, TEXT_ROOM, "%u ", number);
    int length = used + (int)(number * 97 % 2500);
    memset(text + used, 'a' + (int)(number % 26), (size_t)(length - used));
    return slice_make(text, (size_t)length);
}

static void send_next(struct sending *sending);

static void on_sent(struct shard_call *call, enum status status, const struct core_result *results,
                    uint32_t count)
{
    struct sending *sending = call->data;
    if (status != STATUS_OK || count == 0 || results[0].code != CORE_OK)
        _exit(6);
    if (write(sending->pipe, &sending->number, sizeof sending->number) < 0)
        _exit(7);
    send_next(sending);
}

static void send_next(struct sending *sending)
{
    char text[TEXT_ROOM];
    struct buffer bytes = {0};
    struct command command = {.type = COMMAND_SEND};
    sending->number = (*sending->next)++;
    struct record record = {.body = text_of(sending->number, text)};
    record_encode(&bytes, &record);
    command.send =
        (struct command_send){sending->node->queue_id, CORE_DEFAULT, buffer_slice(&bytes)};
    sending->call = (struct shard_call){.done = on_sent, .data = sending};
    shard_call_add(&sending->call, &command);
    shard_call(sending->node->shard, &sending->call);
    buffer_free(&bytes);
}

static void send_for_ever(const char *dir, int pipe, uint32_t next)
{
    struct node node = {0};
    struct sending sendings[WINDOW];
    open_node(&node, dir);
    find_queue(&node);
    for (int i = 0; i < WINDOW; i++) {
        sendings[i] = (struct sending){.node = &node, .next = &next, .pipe = pipe};
        send_next(&sendings[i]);
    }
    uv_run(&node.loop, UV_RUN_DEFAULT);
    _exit(8);
}

/* ---- the child that checks ---- */

struct one_read {
    struct shard_read read;
    bool done;
    enum status status;
};

static void on_read(struct shard_read *read, enum status status)
{
    struct one_read *one = read->data;
    one->done = true;
    one->status = status;
}

static struct buffer read_body(struct node *node, struct body_ref ref)
{
    struct one_read one = {.read = {.refs = &ref, .count = 1, .done = on_read, .data = &one}};
    if (shard_read_now(node->shard, ref, &one.read.out))
        return one.read.out;
    shard_read(node->shard, &one.read);
    while (!one.done)
        uv_run(&node->loop, UV_RUN_ONCE);
    if (one.status != STATUS_OK) {
        fprintf(stderr, "entry %llu at %u: %s\n", (unsigned long long)ref.index, ref.offset,
                status_text(one.status));
        _exit(9);
    }
    return one.read.out;
}

static uint32_t check_body(struct node *node, struct body_ref ref)
{
    char text[TEXT_ROOM];
    struct buffer out = read_body(node, ref);
    struct record record;
    if (record_decode(buffer_slice(&out), &record) != STATUS_OK)
        _exit(12);
    uint32_t number = (uint32_t)strtoul((const char *)record.body.data, NULL, 10);
    if (!slice_equal(record.body, text_of(number, text)))
        _exit(10);
    buffer_free(&out);
    return number;
}

static void delete_messages(struct node *node, const struct core_message *messages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct command command = {.type = COMMAND_DELETE};
        command.delete = (struct command_delete){
            node->queue_id, {messages[i].seq, messages[i].receive_count}, false};
        run_one(node, &command, NULL);
    }
}

static void check_all(const char *dir, const uint8_t *acknowledged)
{
    struct node node = {0};
    uint8_t *seen = calloc(NUMBERS, 1);
    open_node(&node, dir);
    find_queue(&node);
    for (;;) {
        struct core_message messages[10];
        struct command command = {.type = COMMAND_RECEIVE};
        command.receive = (struct command_receive){node.queue_id, 10, CORE_DEFAULT, 0, {0}};
        struct core_result result = run_one(&node, &command, messages);
        if (result.message_count == 0)
            break;
        for (uint32_t i = 0; i < result.message_count; i++)
            seen[check_body(&node, messages[i].body) % NUMBERS]++;
        delete_messages(&node, messages, result.message_count);
    }
    for (uint32_t i = 0; i < NUMBERS; i++) {
        if (seen[i] > 1 || (acknowledged[i] > 0 && seen[i] == 0)) {
            fprintf(stderr, "number %u: acknowledged %d, seen %d times\n", i, acknowledged[i],
                    seen[i]);
            _exit(11);
        }
    }
    free(seen);
    _exit(0); /* without closing: the next start recovers from that too */
}

/* ---- the parent ---- */

static void kill_after(pid_t child, uint32_t ms)
{
    const struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000l};
    int status;
    nanosleep(&pause, NULL);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status)); /* it had not ended by itself */
}

static uint32_t one_round(const char *dir, uint32_t ms, uint32_t next)
{
    static uint8_t acknowledged[NUMBERS];
    int ends[2];
    int status;
    uint32_t number;
    uint32_t count = 0;
    memset(acknowledged, 0, sizeof acknowledged);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0)
        send_for_ever(dir, ends[1], next);
    close(ends[1]);
    kill_after(child, ms);
    while (read(ends[0], &number, sizeof number) == (ssize_t)sizeof number) {
        acknowledged[number]++;
        count++;
        next = number >= next ? number + 1 : next;
    }
    close(ends[0]);
    child = fork();
    if (child == 0)
        check_all(dir, acknowledged);
    assert_int_equal(waitpid(child, &status, 0), child);
    print_message("killed after %u ms: %u acknowledged\n", ms, count);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    return next + WINDOW;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void nothing_acknowledged_is_lost(void **state)
{
    (void)state;
    char dir[160];
    char base[128];
    uint32_t seed;
    uint32_t next = 0;
    const char *given = getenv("MILLRACE_SEED");
    clock_random(&seed, sizeof seed);
    seed = given != NULL ? (uint32_t)strtoul(given, NULL, 10) : seed;
    print_message("MILLRACE_SEED=%u\n", seed);
    snprintf(base, sizeof base, "%s/millrace-crash-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/shard-0", base);
    for (int round = 0; round < ROUNDS && next < NUMBERS / 2; round++) {
        seed = seed * 1664525u + 1013904223u;
        next = one_round(dir, 1 + (seed >> 8) % 250, next);
    }
    nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_acknowledged_is_lost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
