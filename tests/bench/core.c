/* SPDX-License-Identifier: Apache-2.0 */
/* The core alone: CPU time of a send, a receive and a delete, decoding included, with so many
 * messages in the queue. Prints one JSON object.
 *
 *     bench_core --messages 1000000 [--size 1024] [--fifo GROUPS] [--others KIB]
 *     bench_core --queues 10000 [--fifo 1]
 *
 * With --fifo: a FIFO queue with so many message groups, each message with a dedup id of 36 bytes.
 * bytes_per_message is the memory with all messages in the queue and every dedup id remembered;
 * bytes_per_message_later that with all of them still there when the ids have been forgotten.
 *
 * With --others: so many KiB of other memory are written before each entry, as whatever else a
 * broker does would, so that little of the core is left in the caches.
 *
 * With --queues: so many empty queues, and what one of them costs.
 *
 * Entries of 64 commands, as a busy shard would make; a receive takes 10 messages, and its time is
 * given for one of them. */
#include "broker/core/core.h"
#include "broker/core/foresee.h"
#include "broker/core/record.h"
#include "proto/base/assert.h"

#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define COMMANDS 64u
#define RECEIVED 10u

struct bench {
    struct core *core;
    struct foresight foresight;
    uint64_t index; /* of the last entry */
    uint64_t now_ms;
    uint64_t queue_id;
    struct buffer entry;
    struct buffer record;
    uint32_t groups; /* 0: a standard queue */
    uint8_t *others;
    size_t others_bytes;
    uint64_t record_number;
    struct core_lease *leases; /* of one round of receives */
    uint32_t lease_count;
};

static double cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* memory_used: bytes that are resident, without what could be given back. */
static size_t memory_used(void)
{
    malloc_trim(0);
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    ASSERT(file != NULL);
    int got = fscanf(file, "%*u %lu", &pages);
    ASSERT(got == 1);
    fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void keep_leases(struct bench *b, const struct core_result *result)
{
    for (uint32_t i = 0; i < result->message_count; i++)
        b->leases[b->lease_count++] =
            (struct core_lease){result->messages[i].seq, result->messages[i].receive_count};
}

/* run_entry: what a shard does with an entry when it is committed. */
static void run_entry(struct bench *b)
{
    struct slice entry = buffer_slice(&b->entry);
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    enum status status = entry_open(entry, &in, &count, &now_ms);
    ASSERT(status == STATUS_OK);
    core_begin(b->core, ++b->index, now_ms);
    foresight_begin(&b->foresight);
    for (uint32_t i = 0; i < count; i++) {
        struct core_result result = {0};
        const struct command *command = foresight_next(&b->foresight, b->core, &in);
        ASSERT(command != NULL);
        core_apply(b->core, command, entry, &result);
        ASSERT(result.code == CORE_OK);
        if (command->type == COMMAND_QUEUE_CREATE)
            b->queue_id = result.queue_id;
        keep_leases(b, &result);
    }
}

static void begin(struct bench *b)
{
    buffer_clear(&b->entry);
    entry_begin(&b->entry);
}

static void create_queue(struct bench *b, const char *name)
{
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    command.queue_create.name = slice_of(name);
    command.queue_create.settings = (struct queue_settings){.message_bytes_max = 1u << 20,
                                                            .retention_s = 1209600,
                                                            .visibility_s = 600,
                                                            .fifo = b->groups > 0};
    begin(b);
    command_encode(&b->entry, &command);
    entry_finish(&b->entry, 1, b->now_ms);
    run_entry(b);
}

/* pass: time goes on, and what is due happens. */
static void pass(struct bench *b, uint64_t ms)
{
    b->now_ms += ms;
    begin(b);
    command_encode(&b->entry, &(struct command){.type = COMMAND_TICK});
    entry_finish(&b->entry, 1, b->now_ms);
    run_entry(b);
}

/* make_record: the next one, with ids of its own in a FIFO queue. */
static struct slice make_record(struct bench *b, uint64_t size)
{
    static const uint8_t body[8192];
    char group[32];
    char dedup[64];
    struct record record = {.body = slice_make(body, (size_t)size)};
    uint64_t number = b->record_number++;
    if (b->groups > 0) {
        snprintf(group, sizeof group, "group-%u", (uint32_t)(number % b->groups));
        snprintf(dedup, sizeof dedup, "%08x-5717-4562-b3fc-%016" PRIx64,
                 (uint32_t)(number * 2654435761u), number);
        record.group_id = slice_of(group);
        record.dedup_id = slice_make(dedup, 36);
        memcpy(record.message_id, &number, sizeof number);
    }
    buffer_clear(&b->record);
    record_encode(&b->record, &record);
    return buffer_slice(&b->record);
}

/* disturb: not measured. */
static void disturb(struct bench *b)
{
    for (size_t i = 0; i < b->others_bytes; i += 64)
        b->others[i]++;
}

/* send_all: only applying the entries is measured. */
static double send_all(struct bench *b, uint64_t messages, uint64_t size)
{
    struct command command = {.type = COMMAND_SEND};
    double spent = 0;
    for (uint64_t sent = 0; sent < messages; sent += COMMANDS) {
        begin(b);
        for (uint32_t i = 0; i < COMMANDS; i++) {
            command.send = (struct command_send){b->queue_id, 0, make_record(b, size)};
            command_encode(&b->entry, &command);
        }
        entry_finish(&b->entry, COMMANDS, b->now_ms);
        disturb(b);
        double begun = cpu_s();
        run_entry(b);
        spent += cpu_s() - begun;
    }
    return spent;
}

static double receive_some(struct bench *b)
{
    struct command command = {.type = COMMAND_RECEIVE};
    command.receive.queue_id = b->queue_id;
    command.receive.max = RECEIVED;
    command.receive.visibility_s = CORE_DEFAULT;
    begin(b);
    for (uint32_t i = 0; i < COMMANDS; i++)
        command_encode(&b->entry, &command);
    entry_finish(&b->entry, COMMANDS, b->now_ms);
    b->lease_count = 0;
    disturb(b);
    double begun = cpu_s();
    run_entry(b);
    return cpu_s() - begun;
}

static double delete_some(struct bench *b)
{
    struct command command = {.type = COMMAND_DELETE};
    begin(b);
    for (uint32_t i = 0; i < b->lease_count; i++) {
        command.delete = (struct command_delete){b->queue_id, b->leases[i], true};
        command_encode(&b->entry, &command);
    }
    entry_finish(&b->entry, b->lease_count, b->now_ms);
    disturb(b);
    double begun = cpu_s();
    run_entry(b);
    return cpu_s() - begun;
}

static void run_queues(struct bench *b, uint64_t queues)
{
    char name[80];
    size_t before = memory_used();
    double begun = cpu_s();
    for (uint64_t i = 0; i < queues; i++) {
        snprintf(name, sizeof name, "queue-%" PRIu64, i);
        create_queue(b, name);
    }
    double spent = cpu_s() - begun;
    printf("{\"queues\": %" PRIu64 ", \"create_us\": %.3f, \"bytes_per_queue\": %.0f}\n", queues,
           spent / (double)queues * 1e6, (double)(memory_used() - before) / (double)queues);
}

static void run_messages(struct bench *b, uint64_t messages, uint64_t size)
{
    double receive_s = 0;
    double delete_s = 0;
    uint64_t drained = 0;
    create_queue(b, "bench");
    size_t before = memory_used();
    double send_s = send_all(b, messages, size);
    size_t used = memory_used() - before;
    pass(b, 311000);
    size_t used_later = memory_used() - before;
    do {
        receive_s += receive_some(b);
        if (b->lease_count == 0)
            break;
        drained += b->lease_count;
        delete_s += delete_some(b);
    } while (true);
    printf("{\"messages\": %" PRIu64 ", \"send_us\": %.3f, \"receive_us\": %.3f, "
           "\"delete_us\": %.3f, \"bytes_per_message\": %.0f, \"bytes_per_message_later\": %.0f}\n",
           drained, send_s / (double)drained * 1e6, receive_s / (double)drained * 1e6,
           delete_s / (double)drained * 1e6, (double)used / (double)drained,
           (double)used_later / (double)drained);
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"messages", required_argument, NULL, 'm'}, {"size", required_argument, NULL, 's'},
        {"fifo", required_argument, NULL, 'f'},     {"queues", required_argument, NULL, 'q'},
        {"others", required_argument, NULL, 'o'},   {NULL, 0, NULL, 0},
    };
    struct bench b = {.now_ms = 1};
    uint64_t messages = 100000;
    uint64_t size = 1024;
    uint64_t groups = 0;
    uint64_t queues = 0;
    uint64_t others = 0;
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (c == '?')
            return EXIT_FAILURE;
        *(c == 'm'   ? &messages
          : c == 's' ? &size
          : c == 'q' ? &queues
          : c == 'o' ? &others
                     : &groups) = strtoull(optarg, NULL, 10);
    }
    if (messages == 0 || messages > UINT32_MAX / 2 || size > 8192 || groups > UINT32_MAX) {
        fputs("usage: bench_core [--messages N] [--size BYTES, at most 8192] [--fifo GROUPS] "
              "[--others KIB]\n"
              "       bench_core --queues N [--fifo 1]\n",
              stderr);
        return EXIT_FAILURE;
    }
    b.groups = (uint32_t)groups;
    b.others_bytes = (size_t)others << 10;
    b.others = calloc(b.others_bytes + 1, 1);
    ASSERT(b.others != NULL);
    b.core = core_new(NULL);
    b.leases = calloc(COMMANDS * RECEIVED, sizeof *b.leases);
    ASSERT(b.leases != NULL);
    if (queues > 0)
        run_queues(&b, queues);
    else
        run_messages(&b, messages, size);
    core_free(b.core);
    buffer_free(&b.entry);
    buffer_free(&b.record);
    free(b.leases);
    free(b.others);
    return EXIT_SUCCESS;
}
