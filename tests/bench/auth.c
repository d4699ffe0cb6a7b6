/* SPDX-License-Identifier: Apache-2.0 */
/* What checking a request costs: CPU time of authenticating a SendMessage as an SDK signs it, and
 * of authorising it by the policy of its key and that of its queue. Prints one JSON object.
 *
 *     bench_auth --dir DIR [--requests 200000] [--body 256]
 *
 * A real shard is opened in DIR, which must not exist, for the catalog is where keys are. */
#include "broker/auth/auth.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEY_ID "MRAKEXAMPLE"
#define SECRET "0123456789abcdef0123456789abcdef01234567"
#define POLICY                                                                                     \
    "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"sqs:Send*\","  \
    "\"sqs:ReceiveMessage\"],\"Resource\":\"arn:aws:sqs:*:*:orders-*\"},{\"Effect\":\"Deny\","     \
    "\"Action\":\"*\",\"Resource\":\"*\",\"Condition\":{\"NotIpAddress\":{\"aws:SourceIp\":"       \
    "\"127.0.0.0/8\"}}}]}"
#define QUEUE_EXTRAS                                                                               \
    "{\"Policy\":\"{\\\"Statement\\\":[{\\\"Effect\\\":\\\"Deny\\\",\\\"Principal\\\":\\\"*\\\","  \
    "\\\"Action\\\":\\\"sqs:DeleteQueue\\\",\\\"Resource\\\":\\\"*\\\"}]}\"}"

struct bench {
    uv_loop_t loop;
    struct shard *shard;
    struct auth *auth;
    struct shard_call call;
    bool stored;
    bool closed;
};

static double cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void on_stored(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct bench *b = call->data;
    ASSERT(status == STATUS_OK);
    for (uint32_t i = 0; i < count; i++)
        ASSERT(results[i].code == CORE_OK);
    b->stored = true;
}

static void on_closed(void *data)
{
    ((struct bench *)data)->closed = true;
}

static void nobody(void *data)
{
    (void)data; /* the key comes a moment later */
}

static void store(struct bench *b)
{
    struct arena arena = {0};
    struct buffer content = {0};
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[SEAL_CLUSTER_SECRET_BYTES];
    struct key_record record = {.id = SLICE_LITERAL(KEY_ID),
                                .secret = SLICE_LITERAL(SECRET),
                                .name = SLICE_LITERAL("bench"),
                                .account = SLICE_LITERAL("000000000000"),
                                .policy = SLICE_LITERAL(POLICY)};
    struct command command = {.type = COMMAND_DOCUMENT_PUT};
    struct command create = {.type = COMMAND_QUEUE_CREATE};
    ASSERT(core_bootstrapped(shard_core(b->shard), cluster_id, secret));
    key_record_encode(&record, secret, &content);
    command.document_put.name = key_document_name(record.id, &arena);
    command.document_put.content = buffer_slice(&content);
    create.queue_create.name = SLICE_LITERAL("orders-1");
    create.queue_create.settings = (struct queue_settings){
        .message_bytes_max = 1048576, .retention_s = 60, .extras = SLICE_LITERAL(QUEUE_EXTRAS)};
    b->call = (struct shard_call){.done = on_stored, .data = b};
    shard_call_add(&b->call, &command);
    shard_call_add(&b->call, &create);
    shard_call(b->shard, &b->call);
    buffer_free(&content);
    arena_free(&arena);
    while (!b->stored)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static void open_all(struct bench *b, const char *dir)
{
    const char *why = NULL;
    ASSERT(uv_loop_init(&b->loop) == 0);
    struct shard_options options = {
        .loop = &b->loop, .dir = dir, .node_id = 1, .address = "127.0.0.1:1"};
    if (shard_open(&b->shard, &options, &why) != STATUS_OK) {
        fprintf(stderr, "bench_auth: %s\n", why);
        exit(1);
    }
    while (!shard_ready(b->shard))
        uv_run(&b->loop, UV_RUN_ONCE);
    struct auth_options auth = {.loop = &b->loop,
                                .mode = AUTH_REQUIRED,
                                .shard = b->shard,
                                .account_id = "000000000000",
                                .no_key = nobody};
    b->auth = auth_open(&auth);
    store(b);
}

static void close_all(struct bench *b)
{
    shard_close(b->shard, on_closed, b);
    while (!b->closed)
        uv_run(&b->loop, UV_RUN_ONCE);
    b->closed = false;
    auth_close(b->auth, on_closed, b);
    while (!b->closed)
        uv_run(&b->loop, UV_RUN_ONCE);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    ASSERT(uv_loop_close(&b->loop) == 0);
}

/* As botocore sends a SendMessage. */
static struct sigv4_header headers[] = {
    {{0}, {0}}, /* Authorization; set below */
    {SLICE_LITERAL("Host"), SLICE_LITERAL("127.0.0.1:9324")},
    {SLICE_LITERAL("Accept-Encoding"), SLICE_LITERAL("identity")},
    {SLICE_LITERAL("Content-Type"), SLICE_LITERAL("application/x-amz-json-1.0")},
    {SLICE_LITERAL("X-Amz-Target"), SLICE_LITERAL("AmazonSQS.SendMessage")},
    {SLICE_LITERAL("User-Agent"), SLICE_LITERAL("Boto3/1.34 Python/3.11 Linux/6.1 Botocore/1.34")},
    {SLICE_LITERAL("X-Amz-Date"), {0}},
    {SLICE_LITERAL("Content-Length"), SLICE_LITERAL("256")},
};
#define SIGNED_FROM  1
#define HEADER_COUNT ARRAY_COUNT(headers)

static struct auth_input make_input(struct slice body, struct arena *arena)
{
    char *time = arena_alloc(arena, MOMENT_LENGTH + 1);
    uint64_t now_s = clock_now_ms() / 1000;
    moment_format(now_s, time);
    headers[6].value = slice_of(time);
    struct sigv4_request request = {SLICE_LITERAL("POST"),
                                    SLICE_LITERAL("/"),
                                    {0},
                                    headers + SIGNED_FROM,
                                    HEADER_COUNT - SIGNED_FROM};
    struct sigv4_signer signer = {SLICE_LITERAL(KEY_ID), SLICE_LITERAL(SECRET),
                                  SLICE_LITERAL("us-east-1"), SLICE_LITERAL("sqs"), now_s};
    headers[0] = (struct sigv4_header){SLICE_LITERAL("Authorization"),
                                       slice_of(sigv4_sign(&request, &signer, body, arena))};
    request.headers = headers;
    request.header_count = HEADER_COUNT;
    return (struct auth_input){.request = request,
                               .service = "sqs",
                               .body = body,
                               .source_ip = SLICE_LITERAL("127.0.0.1"),
                               .now_s = now_s};
}

static double authenticate(struct bench *b, const struct auth_input *input, unsigned requests)
{
    double begun = cpu_s();
    for (unsigned i = 0; i < requests; i++) {
        struct arena arena = {0};
        struct auth_caller caller;
        struct auth_failure failure = {0};
        bool good = auth_authenticate(b->auth, input, &arena, &caller, &failure);
        ASSERT(good);
        arena_free(&arena);
    }
    return (cpu_s() - begun) / requests * 1e6;
}

static double authorize(struct bench *b, const struct auth_input *input, unsigned requests)
{
    struct arena kept = {0};
    struct auth_caller caller;
    struct auth_failure failure = {0};
    struct queue_view queue;
    ASSERT(auth_authenticate(b->auth, input, &kept, &caller, &failure));
    ASSERT(core_queue_by_name(shard_core(b->shard), SLICE_LITERAL("orders-1"), &queue));
    struct auth_question question = {
        .action = "sqs:SendMessage",
        .resource = SLICE_LITERAL("arn:aws:sqs:us-east-1:000000000000:orders-1"),
        .of_queue = true,
        .queue = &queue};
    double begun = cpu_s();
    for (unsigned i = 0; i < requests; i++) {
        struct arena arena = {0};
        bool good = auth_authorize(b->auth, &caller, &question, &arena, &failure);
        ASSERT(good);
        arena_free(&arena);
    }
    double used = (cpu_s() - begun) / requests * 1e6;
    arena_free(&kept);
    return used;
}

int main(int argc, char *argv[])
{
    static const struct option flags[] = {{"dir", required_argument, NULL, 'd'},
                                          {"requests", required_argument, NULL, 'r'},
                                          {"body", required_argument, NULL, 'b'},
                                          {NULL, 0, NULL, 0}};
    const char *dir = NULL;
    unsigned long requests = 200000;
    unsigned long body_bytes = 256;
    struct bench b = {0};
    struct arena arena = {0};
    int flag;
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        if (flag == 'd')
            dir = optarg;
        else if (flag == 'r')
            requests = strtoul(optarg, NULL, 10);
        else if (flag == 'b')
            body_bytes = strtoul(optarg, NULL, 10);
        else
            return 64;
    }
    if (dir == NULL || requests == 0) {
        fprintf(stderr, "usage: bench_auth --dir DIR [--requests N] [--body BYTES]\n");
        return 64;
    }
    open_all(&b, dir);
    uint8_t *body = arena_alloc(&arena, body_bytes + 1);
    struct auth_input input = make_input(slice_make(body, body_bytes), &arena);
    printf("{\"requests\":%lu,\"body_bytes\":%lu,\"authenticate_us\":%.2f,\"authorize_us\":%.2f}\n",
           requests, body_bytes, authenticate(&b, &input, (unsigned)requests),
           authorize(&b, &input, (unsigned)requests));
    arena_free(&arena);
    close_all(&b);
    return 0;
}
