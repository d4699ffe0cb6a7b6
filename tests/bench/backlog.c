/* SPDX-License-Identifier: Apache-2.0 */
/* A backlog: one shard, in this process and without HTTP, is filled with messages, closed, opened
 * again, and drained. Prints one JSON object; docs/benchmarks.md says what came of it.
 *
 *     backlog --messages 1000000 --size 1024 --dir DIR [--batch 10] [--window 64] [--json FILE]
 *             [--body letters|orders] [--unpacked]
 *
 * A thousand different bodies are sent in turn: letters by chance, which do not compress, or orders
 * in JSON, as an application would send. --unpacked: the log does not try to compress. WINDOW
 * callers each have one call in flight: while filling a batch of sends, as of one SendMessageBatch;
 * while draining a receive, then the read of all bodies, then a batch of deletes. The program also
 * checks: every message comes out once, with its own body. DIR must not exist; it is removed at the
 * end. */
#include "broker/core/record.h"
#include "broker/replication/shard.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "tests/bench/measure.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH_MAX    10u
#define WINDOW_MAX   1024u
#define RETRY_MS     10u
#define LOOK_EVERY   32u /* answers, for a snapshot under way */
#define RETENTION_S  1209600u
#define VISIBILITY_S 600u
#define SETTLE_MS    3000u /* after the drain, until the disk is looked at */
#define BODIES       1021u

struct options {
    uint64_t messages;
    uint32_t size;
    uint32_t batch;
    uint32_t window;
    const char *dir;
    const char *json;
    bool orders; /* bodies are JSON */
    bool unpacked;
};

struct bench;

/* One caller. */
struct caller {
    struct bench *bench;
    struct shard_call call;
    struct shard_receive receive;
    struct shard_read read;
    uv_timer_t retry;
    struct body_ref refs[BATCH_MAX];
    struct core_lease leases[BATCH_MAX];
    uint32_t count; /* of messages in this call */
};

struct figures {
    struct phase fill;
    struct phase drain;
    double ready_s;
    double ready_cpu_s;
    double close_s;
    uint64_t anon_full_bytes; /* with the backlog, after the restart */
    uint64_t held_full_bytes; /* of that, log in memory */
    uint64_t anon_empty_bytes;
    struct shard_stats filled;
    struct shard_stats drained;
    uint64_t disk_filled_bytes;
    uint64_t disk_drained_bytes;
    uint64_t snapshot_pause_ns;
};

struct bench {
    struct options options;
    uv_loop_t loop;
    struct shard *shard;
    struct shard_options shard_options;
    struct sampler sampler;
    struct phase *phase;
    struct caller callers[WINDOW_MAX];
    struct buffer records[BODIES]; /* what is sent, but for the number; all of one length */
    size_t number_at;              /* in a record */
    uint64_t queue_id;
    uint64_t sent;
    uint64_t answered; /* messages sent, or deleted */
    uint8_t *seen;     /* one bit for each message */
    uint32_t active;   /* callers that are not finished */
    bool in_snapshot;  /* when it was looked at last */
    bool ready;
    bool closed;
    struct figures figures;
};

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(EXIT_FAILURE);
}

static bool in_snapshot(const struct bench *b)
{
    struct shard_stats stats;
    shard_stats(b->shard, &stats);
    return stats.snapshot_pid > 0;
}

static void answered(struct bench *b)
{
    if (b->phase->answers % LOOK_EVERY == 0)
        b->in_snapshot = in_snapshot(b);
    phase_answer(b->phase, b->in_snapshot);
}

/* ---- opening and closing ---- */

static void on_ready(void *data, bool ready)
{
    ((struct bench *)data)->ready = ready;
}

static void open_shard(struct bench *b)
{
    const char *error = NULL;
    b->shard_options = (struct shard_options){.loop = &b->loop,
                                              .dir = b->options.dir,
                                              .node_id = 1,
                                              .address = "127.0.0.1:1",
                                              .unpacked = b->options.unpacked,
                                              .leading_changed = on_ready,
                                              .data = b};
    if (shard_open(&b->shard, &b->shard_options, &error) != STATUS_OK)
        give_up("cannot open %s: %s", b->options.dir, error);
    while (!b->ready)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static void on_closed(void *data)
{
    ((struct bench *)data)->closed = true;
}

static void close_shard(struct bench *b)
{
    b->closed = b->ready = false;
    shard_close(b->shard, on_closed, b);
    while (!b->closed)
        uv_run(&b->loop, UV_RUN_ONCE);
}

/* ---- the queue and the message ---- */

static void on_created(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct bench *b = call->data;
    if (status != STATUS_OK || count != 1 || results[0].code != CORE_OK)
        give_up("the queue could not be made: %s", status_text(status));
    b->queue_id = results[0].queue_id;
}

static void make_queue(struct bench *b)
{
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    struct shard_call call = {.done = on_created, .data = b};
    command.queue_create.name = slice_of("backlog");
    command.queue_create.settings = (struct queue_settings){
        .message_bytes_max = 1u << 20, .retention_s = RETENTION_S, .visibility_s = VISIBILITY_S};
    shard_call_add(&call, &command);
    shard_call(b->shard, &call);
    while (b->queue_id == 0)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static uint64_t chance(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void add_letters(struct buffer *out, uint32_t size, uint64_t *state)
{
    while (out->length < size)
        buffer_add_byte(out, (uint8_t)('0' + chance(state) % 75));
}

static void add_order(struct buffer *out, uint32_t size, uint64_t *state)
{
    static const char *const names[] = {"Ada", "Grace", "Edsger", "Barbara", "Donald", "Margaret"};
    const char *name = names[chance(state) % ARRAY_COUNT(names)];
    buffer_printf(out,
                  "00000000{\"orderId\":\"%016" PRIx64 "%016" PRIx64 "\",\"customer\":{\"id\":%u,"
                  "\"name\":\"%s\",\"email\":\"%s%u@example.com\"},\"status\":\"%s\","
                  "\"createdAt\":\"2026-11-26T%02u:%02u:%02uZ\",\"items\":[",
                  chance(state), chance(state), (unsigned)(chance(state) % 10000000), name, name,
                  (unsigned)(chance(state) % 1000), chance(state) % 2 == 0 ? "paid" : "created",
                  (unsigned)(chance(state) % 24), (unsigned)(chance(state) % 60),
                  (unsigned)(chance(state) % 60));
    while (out->length < size)
        buffer_printf(out, "{\"sku\":\"SKU-%06u\",\"quantity\":%u,\"unitPrice\":%u.%02u},",
                      (unsigned)(chance(state) % 1000000), (unsigned)(chance(state) % 9 + 1),
                      (unsigned)(chance(state) % 1000), (unsigned)(chance(state) % 100));
}

/* make_records: with room for a number at the begin of each body. */
static void make_records(struct bench *b)
{
    uint64_t state = 88172645463325252u;
    struct buffer body = {0};
    for (uint32_t i = 0; i < BODIES; i++) {
        buffer_clear(&body);
        (b->options.orders ? add_order : add_letters)(&body, b->options.size, &state);
        struct record record = {.body = slice_make(body.data, b->options.size)};
        for (size_t n = 0; n < sizeof record.message_id; n++)
            record.message_id[n] = (uint8_t)(chance(&state) >> 32);
        record_encode(&b->records[i], &record);
        b->number_at = b->records[i].length - b->options.size;
    }
    buffer_free(&body);
}

static struct buffer *record_of(struct bench *b, uint64_t number)
{
    return &b->records[number % BODIES];
}

/* ---- filling ---- */

static void send_batch(struct caller *caller);

static void on_retry_send(uv_timer_t *timer)
{
    send_batch(timer->data);
}

static void on_sent(struct shard_call *call, enum status status, const struct core_result *results,
                    uint32_t count)
{
    struct caller *caller = call->data;
    struct bench *b = caller->bench;
    answered(b);
    if (status == STATUS_BUSY) {
        b->phase->busy++;
        b->sent -= caller->count;
        uv_timer_start(&caller->retry, on_retry_send, RETRY_MS, 0);
        return;
    }
    if (status != STATUS_OK)
        give_up("a send failed: %s", status_text(status));
    for (uint32_t i = 0; i < count; i++) {
        if (results[i].code != CORE_OK)
            give_up("a send failed with code %d", (int)results[i].code);
    }
    b->answered += count;
    send_batch(caller);
}

static void send_batch(struct caller *caller)
{
    struct bench *b = caller->bench;
    uint64_t left = b->options.messages - b->sent;
    caller->count = left < b->options.batch ? (uint32_t)left : b->options.batch;
    if (caller->count == 0) {
        b->active--;
        return;
    }
    caller->call = (struct shard_call){.grows = true, .done = on_sent, .data = caller};
    for (uint32_t i = 0; i < caller->count; i++) {
        struct command command = {.type = COMMAND_SEND};
        struct buffer *record = record_of(b, b->sent);
        bytes_put_u64(record->data + b->number_at, b->sent++);
        command.send = (struct command_send){b->queue_id, 0, buffer_slice(record)};
        shard_call_add(&caller->call, &command);
    }
    shard_call(b->shard, &caller->call);
}

/* ---- draining ---- */

static void receive_batch(struct caller *caller);

static void on_deleted(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct caller *caller = call->data;
    answered(caller->bench);
    if (status != STATUS_OK)
        give_up("a delete failed: %s", status_text(status));
    for (uint32_t i = 0; i < count; i++) {
        if (results[i].code != CORE_OK)
            give_up("a delete failed with code %d", (int)results[i].code);
    }
    caller->bench->answered += count;
    receive_batch(caller);
}

static void check_bodies(struct caller *caller)
{
    struct bench *b = caller->bench;
    size_t length = b->records[0].length;
    if (caller->read.out.length != caller->count * length)
        give_up("bodies have another length than what was sent");
    for (uint32_t i = 0; i < caller->count; i++) {
        const uint8_t *record = caller->read.out.data + i * length;
        uint64_t number = bytes_get_u64(record + b->number_at);
        if (number >= b->options.messages || (b->seen[number / 8] >> number % 8 & 1) != 0)
            give_up("message %" PRIu64 " came twice, or was never sent", number);
        b->seen[number / 8] |= (uint8_t)(1u << number % 8);
        size_t rest = b->number_at + sizeof number;
        if (memcmp(record + rest, record_of(b, number)->data + rest, length - rest) != 0)
            give_up("message %" PRIu64 " has another body than was sent", number);
    }
}

static void delete_batch(struct caller *caller)
{
    check_bodies(caller);
    buffer_clear(&caller->read.out);
    caller->call = (struct shard_call){.done = on_deleted, .data = caller};
    for (uint32_t i = 0; i < caller->count; i++) {
        struct command command = {.type = COMMAND_DELETE};
        command.delete = (struct command_delete){caller->bench->queue_id, caller->leases[i], true};
        shard_call_add(&caller->call, &command);
    }
    shard_call(caller->bench->shard, &caller->call);
}

static void on_read(struct shard_read *read, enum status status)
{
    if (status != STATUS_OK)
        give_up("a body could not be read: %s", status_text(status));
    delete_batch(read->data);
}

static void read_bodies(struct caller *caller)
{
    struct shard *shard = caller->bench->shard;
    bool all = true;
    for (uint32_t i = 0; i < caller->count && all; i++)
        all = shard_read_now(shard, caller->refs[i], &caller->read.out);
    if (all) {
        delete_batch(caller);
        return;
    }
    buffer_clear(&caller->read.out);
    caller->read.refs = caller->refs;
    caller->read.count = caller->count;
    caller->read.done = on_read;
    caller->read.data = caller;
    shard_read(shard, &caller->read);
}

static void on_retry_receive(uv_timer_t *timer)
{
    receive_batch(timer->data);
}

static void on_received(struct shard_receive *receive, enum status status,
                        const struct core_result *result)
{
    struct caller *caller = receive->data;
    answered(caller->bench);
    if (status != STATUS_OK || result->code != CORE_OK)
        give_up("a receive failed: %s", status_text(status));
    caller->count = result->message_count;
    if (caller->count == 0) { /* others hold the rest */
        uv_timer_start(&caller->retry, on_retry_receive, RETRY_MS, 0);
        return;
    }
    for (uint32_t i = 0; i < caller->count; i++) {
        const struct core_message *message = &result->messages[i];
        caller->refs[i] = message->body;
        caller->leases[i] = (struct core_lease){message->seq, message->receive_count};
    }
    read_bodies(caller);
}

static void receive_batch(struct caller *caller)
{
    struct bench *b = caller->bench;
    if (b->answered == b->options.messages) {
        b->active--;
        return;
    }
    caller->receive = (struct shard_receive){.done = on_received, .data = caller};
    caller->receive.command.queue_id = b->queue_id;
    caller->receive.command.max = b->options.batch;
    caller->receive.command.visibility_s = CORE_DEFAULT;
    shard_receive(b->shard, &caller->receive);
}

/* ---- the run ---- */

static void run_phase(struct bench *b, struct phase *phase, void (*begin)(struct caller *caller))
{
    b->phase = phase;
    b->answered = 0;
    b->active = b->options.window;
    phase_begin(phase);
    sampler_watch(&b->sampler, phase);
    for (uint32_t i = 0; i < b->options.window; i++)
        begin(&b->callers[i]);
    while (b->active > 0)
        uv_run(&b->loop, UV_RUN_ONCE);
    phase_end(phase);
    sampler_watch(&b->sampler, NULL);
    if (b->answered != b->options.messages)
        give_up("%" PRIu64 " messages instead of %" PRIu64, b->answered, b->options.messages);
}

static void on_wait_over(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static void wait_ms(struct bench *b, uint64_t ms)
{
    uv_timer_t timer;
    bool over = false;
    uv_timer_init(&b->loop, &timer);
    timer.data = &over;
    uv_timer_start(&timer, on_wait_over, ms, 0);
    while (!over || in_snapshot(b))
        uv_run(&b->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&b->loop, UV_RUN_NOWAIT);
}

static void note_pause(struct bench *b, const struct shard_stats *stats)
{
    if (stats->snapshot_fork_ns_max > b->figures.snapshot_pause_ns)
        b->figures.snapshot_pause_ns = stats->snapshot_fork_ns_max;
}

static void restart(struct bench *b)
{
    struct figures *f = &b->figures;
    struct phase closing;
    struct phase opening;
    uint64_t rss;
    struct shard_stats stats;
    phase_begin(&closing);
    close_shard(b);
    phase_end(&closing);
    phase_begin(&opening);
    open_shard(b);
    phase_end(&opening);
    f->close_s = phase_seconds(&closing);
    f->ready_s = phase_seconds(&opening);
    f->ready_cpu_s = (double)opening.cpu_us / 1e6;
    memory_now(&rss, &f->anon_full_bytes);
    shard_stats(b->shard, &stats);
    f->held_full_bytes = stats.unstored_memory_bytes;
}

static void run(struct bench *b)
{
    struct figures *f = &b->figures;
    uint64_t rss;
    open_shard(b);
    make_queue(b);
    memory_now(&rss, &f->anon_empty_bytes);
    run_phase(b, &f->fill, send_batch);
    shard_stats(b->shard, &f->filled);
    note_pause(b, &f->filled);
    f->disk_filled_bytes = disk_bytes(b->options.dir);
    restart(b);
    run_phase(b, &f->drain, receive_batch);
    wait_ms(b, SETTLE_MS);
    shard_stats(b->shard, &f->drained);
    note_pause(b, &f->drained);
    f->disk_drained_bytes = disk_bytes(b->options.dir);
    close_shard(b);
}

/* ---- the result ---- */

static void print_phase(FILE *out, const char *name, const struct phase *p, uint64_t messages)
{
    double n = (double)messages;
    fprintf(out,
            "  \"%s\": {\"seconds\": %.2f, \"messages_per_s\": %.0f, \"cpu_us_per_message\": %.2f, "
            "\"cpu_loop_us_per_message\": %.2f,\n    \"busy\": %" PRIu64
            ", \"answer_gap_ms_max\": %.1f, \"answer_gap_in_snapshot_ms_max\": %.1f, "
            "\"answer_gaps_over_50ms\": %" PRIu64 ", \"loop_late_ms_max\": %.1f,\n"
            "    \"rss_mib_max\": %.0f, \"anonymous_mib_max\": %.0f},\n",
            name, phase_seconds(p), n / phase_seconds(p), (double)p->cpu_us / n,
            (double)p->cpu_loop_us / n, p->busy, (double)p->gap_ns_max / 1e6,
            (double)p->gap_child_ns_max / 1e6, p->gaps_over_50ms, (double)p->late_ns_max / 1e6,
            (double)p->rss_bytes_max / 1048576, (double)p->anon_bytes_max / 1048576);
}

static void print_result(const struct bench *b, FILE *out)
{
    const struct figures *f = &b->figures;
    double n = (double)b->options.messages;
    double bodies = n * b->options.size;
    double memory = (double)f->anon_full_bytes - (double)f->anon_empty_bytes;
    fprintf(out, "{\n  \"messages\": %" PRIu64 ", \"size\": %u, \"batch\": %u, \"window\": %u,\n",
            b->options.messages, b->options.size, b->options.batch, b->options.window);
    print_phase(out, "fill", &f->fill, b->options.messages);
    print_phase(out, "drain", &f->drain, b->options.messages);
    fprintf(out,
            "  \"restart\": {\"close_s\": %.2f, \"ready_s\": %.2f, \"ready_cpu_s\": %.2f, "
            "\"ready_s_per_million\": %.2f},\n",
            f->close_s, f->ready_s, f->ready_cpu_s, f->ready_s / n * 1e6);
    fprintf(out,
            "  \"memory\": {\"bytes_per_message\": %.1f, \"anonymous_mib\": %.0f, "
            "\"log_held_mib\": %.0f},\n",
            (memory - (double)f->held_full_bytes) / n, (double)f->anon_full_bytes / 1048576,
            (double)f->held_full_bytes / 1048576);
    fprintf(out,
            "  \"disk\": {\"filled_bytes_per_body_byte\": %.3f, \"write_amplification\": %.3f, "
            "\"snapshot_share\": %.3f, \"filled_mib\": %.0f, \"drained_mib\": %.0f},\n",
            (double)f->disk_filled_bytes / bodies,
            (double)(f->filled.log_bytes_written + f->filled.snapshot_bytes_written) / bodies,
            (double)f->filled.snapshot_bytes_written / bodies,
            (double)f->disk_filled_bytes / 1048576, (double)f->disk_drained_bytes / 1048576);
    fprintf(out,
            "  \"snapshots\": {\"fill\": %" PRIu64 ", \"drain\": %" PRIu64
            ", \"fork_ms_max\": %.1f}\n}\n",
            f->filled.snapshots, f->drained.snapshots, (double)f->snapshot_pause_ns / 1e6);
}

static void write_result(const struct bench *b)
{
    print_result(b, stdout);
    if (b->options.json == NULL)
        return;
    FILE *file = fopen(b->options.json, "we");
    if (file == NULL)
        give_up("cannot write %s", b->options.json);
    print_result(b, file);
    fclose(file);
}

/* ---- options ---- */

static uint64_t number_of(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < least || value > most)
        give_up("%s is not a number from %" PRIu64 " to %" PRIu64, text, least, most);
    return value;
}

static struct options parse(int argc, char **argv)
{
    static const struct option table[] = {
        {"messages", required_argument, NULL, 'm'},
        {"size", required_argument, NULL, 's'},
        {"dir", required_argument, NULL, 'd'},
        {"json", required_argument, NULL, 'j'},
        {"batch", required_argument, NULL, 'b'},
        {"window", required_argument, NULL, 'w'},
        {"body", required_argument, NULL, 'B'},
        {"unpacked", no_argument, NULL, 'u'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.messages = 100000, .size = 1024, .batch = BATCH_MAX, .window = 64};
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (c == 'm')
            o.messages = number_of(optarg, 1, UINT64_C(1) << 31);
        else if (c == 's')
            o.size = (uint32_t)number_of(optarg, 8, 256u << 10);
        else if (c == 'd')
            o.dir = optarg;
        else if (c == 'j')
            o.json = optarg;
        else if (c == 'b')
            o.batch = (uint32_t)number_of(optarg, 1, BATCH_MAX);
        else if (c == 'w')
            o.window = (uint32_t)number_of(optarg, 1, WINDOW_MAX);
        else if (c == 'B' && (strcmp(optarg, "orders") == 0 || strcmp(optarg, "letters") == 0))
            o.orders = optarg[0] == 'o';
        else if (c == 'u')
            o.unpacked = true;
        else
            exit(EXIT_FAILURE);
    }
    if (o.dir == NULL || optind != argc)
        give_up("usage: backlog --dir DIR [--messages N] [--size BYTES] [--batch N] [--window N] "
                "[--json FILE] [--body letters|orders] [--unpacked]");
    return o;
}

static void init(struct bench *b)
{
    uv_loop_init(&b->loop);
    sampler_start(&b->sampler, &b->loop);
    make_records(b);
    b->seen = calloc(b->options.messages / 8 + 1, 1);
    ASSERT(b->seen != NULL);
    for (uint32_t i = 0; i < b->options.window; i++) {
        b->callers[i].bench = b;
        uv_timer_init(&b->loop, &b->callers[i].retry);
        b->callers[i].retry.data = &b->callers[i];
    }
}

static void deinit(struct bench *b)
{
    for (uint32_t i = 0; i < b->options.window; i++) {
        uv_close((uv_handle_t *)&b->callers[i].retry, NULL);
        buffer_free(&b->callers[i].read.out);
    }
    sampler_stop(&b->sampler);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    uv_loop_close(&b->loop);
    for (uint32_t i = 0; i < BODIES; i++)
        buffer_free(&b->records[i]);
    free(b->seen);
}

int main(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof *b);
    ASSERT(b != NULL);
    b->options = parse(argc, argv);
    if (mkdir(b->options.dir, 0700) != 0)
        give_up("%s: it must not exist, and its parent must", b->options.dir);
    init(b);
    run(b);
    write_result(b);
    deinit(b);
    remove_all(b->options.dir);
    free(b);
    return EXIT_SUCCESS;
}
