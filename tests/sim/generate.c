/* SPDX-License-Identifier: Apache-2.0 */
/* The mix is weighted so that queues stay small and busy: a message meets delays, leases, redrives
 * and retention within a few dozen steps. Few names and few code digests, so that things collide.
 */
#include "tests/sim/generate.h"

#include "broker/core/place.h"
#include "proto/base/assert.h"

#include <stdio.h>

uint64_t random_next(struct random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint32_t random_below(struct random *random, uint32_t bound)
{
    return (uint32_t)(random_next(random) % bound);
}

bool random_chance(struct random *random, uint32_t percent)
{
    return random_below(random, 100) < percent;
}

static uint32_t below(struct generator *generator, uint32_t bound)
{
    return random_below(&generator->random, bound);
}

static bool chance(struct generator *generator, uint32_t percent)
{
    return random_chance(&generator->random, percent);
}

static struct slice text(struct generator *generator, const char *prefix, uint32_t count)
{
    char *at = generator->texts[generator->text_next++ % ARRAY_COUNT(generator->texts)];
    int length = snprintf(at, MODEL_TEXT, "%s%u", prefix, below(generator, count));
    return slice_make(at, (size_t)length);
}

static struct slice queue_name(struct generator *generator)
{
    if (generator->crowded)
        return text(generator, "q", 2);
    return text(generator, chance(generator, 85) ? "q" : "/async/f", 4);
}

static struct queue_settings settings(struct generator *generator)
{
    bool redrives = chance(generator, generator->crowded ? 10 : 60);
    return (struct queue_settings){
        .fifo = !generator->crowded && chance(generator, 50),
        .content_based_dedup = chance(generator, 50),
        .dedup_per_group = chance(generator, 40),
        .throughput_per_group = chance(generator, 50),
        .delay_s = chance(generator, 25) ? below(generator, 6) : 0,
        .message_bytes_max = 1024 + below(generator, 1000),
        .retention_s = chance(generator, 50) ? 60 + below(generator, 60) : 3600,
        .receive_wait_s = below(generator, 21),
        .visibility_s = chance(generator, 10) ? 0 : below(generator, generator->crowded ? 300 : 20),
        .receive_count_max = redrives ? 1 + below(generator, 3) : 0,
        .dead_letter = redrives ? text(generator, "q", 5) : (struct slice){0},
        .extras = text(generator, "extras", 9),
    };
}

/* Of a queue that exists, or now and then of none. */
static uint64_t queue_id(struct generator *generator)
{
    uint32_t start = below(generator, MODEL_QUEUES);
    if (chance(generator, 2))
        return below(generator, 100);
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        const struct model_queue *queue = &generator->model->queues[(start + i * 7) % MODEL_QUEUES];
        if (queue->exists)
            return queue->queue_id;
    }
    return 1;
}

static uint64_t near(struct generator *generator, uint64_t version)
{
    return chance(generator, 80) ? version : version + below(generator, 3) - 1;
}

static struct known_lease lease(struct generator *generator)
{
    struct known_lease known = {queue_id(generator), {1 + below(generator, 50), 1}};
    size_t kept = generator->lease_count < LEASES_KEPT ? generator->lease_count : LEASES_KEPT;
    if (kept > 0 && chance(generator, 95))
        known = generator->leases[below(generator, (uint32_t)kept)];
    if (chance(generator, 5))
        known.lease.receive_count += below(generator, 3) - 1;
    return known;
}

void generate_remember(struct generator *generator, uint64_t queue,
                       const struct core_result *result)
{
    for (uint32_t i = 0; i < result->message_count; i++) {
        generator->leases[generator->lease_count++ % LEASES_KEPT] = (struct known_lease){
            queue, {result->messages[i].seq, result->messages[i].receive_count}};
    }
}

static void fill(struct generator *generator, uint8_t *at, size_t length, uint32_t kinds)
{
    memset(at, (int)(1 + below(generator, kinds)), length);
}

#define DEDUP_ID_BYTES_MAX 36
#define MAKE(name)         static void make_##name(struct generator *generator, struct command *out)

MAKE(tick)
{
    (void)generator, (void)out;
}
MAKE(bootstrap)
{
    fill(generator, out->bootstrap.cluster_id, UUID_BYTES, 200);
    fill(generator, out->bootstrap.secret, sizeof out->bootstrap.secret, 200);
}
MAKE(queue_create)
{
    out->queue_create.name = queue_name(generator);
    out->queue_create.settings = settings(generator);
    out->queue_create.tags = text(generator, "tags", 9);
}
MAKE(queue_update)
{
    out->queue_update.queue_id = queue_id(generator);
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        const struct model_queue *queue = &generator->model->queues[i];
        if (queue->exists && queue->queue_id == out->queue_update.queue_id)
            out->queue_update.version = near(generator, queue->version);
    }
    out->queue_update.settings = settings(generator);
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        const struct model_queue *queue = &generator->model->queues[i];
        if (queue->exists && queue->queue_id == out->queue_update.queue_id && chance(generator, 90))
            out->queue_update.settings.fifo = queue->settings.fifo;
    }
}
MAKE(queue_delete)
{
    out->queue_delete.queue_id = queue_id(generator);
}
MAKE(queue_purge)
{
    out->queue_purge.queue_id = queue_id(generator);
}
MAKE(queue_tag)
{
    out->queue_tag.queue_id = queue_id(generator);
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        const struct model_queue *queue = &generator->model->queues[i];
        if (queue->exists && queue->queue_id == out->queue_tag.queue_id)
            out->queue_tag.version = near(generator, queue->version);
    }
    out->queue_tag.tags = text(generator, "tags", 9);
}
/* One of fifty: some are UUIDs, some digits, some neither, for the core keeps these in different
 * ways. */
static uint32_t make_dedup_id(struct generator *generator, uint8_t out[DEDUP_ID_BYTES_MAX])
{
    static const char *forms[] = {"d00", "d00f", "0000d000-0000-4000-8000-00000000000f",
                                  "0000d000-0000-4000-8000-00000000000F"};
    uint32_t number = below(generator, 50);
    const char *form = forms[number % ARRAY_COUNT(forms)];
    uint32_t length = (uint32_t)strlen(form);
    memcpy(out, form, length);
    uint8_t *digits = memchr(out, 'd', length);
    digits[1] = (uint8_t)('0' + number / 10);
    digits[2] = (uint8_t)('0' + number % 10);
    return length;
}

/* A record's ids, as record.h has them, and some bytes behind. Now and then it is none. */
static struct slice record(struct generator *generator)
{
    uint8_t *at = generator->bytes;
    uint32_t group = chance(generator, generator->crowded ? 70 : 85) ? 2 : 0;
    uint8_t dedup_id[DEDUP_ID_BYTES_MAX];
    uint32_t dedup = chance(generator, 95) ? make_dedup_id(generator, dedup_id) : 0;
    uint32_t sender = below(generator, 4);
    memset(at, 0, 76);
    at[0] = chance(generator, 98) ? 2 : 1;
    fill(generator, at + 4, UUID_BYTES, 250);
    bytes_put_u32(at + 52, sender);
    bytes_put_u32(at + 60, group);
    bytes_put_u32(at + 64, dedup);
    fill(generator, at + 76, 100, 200);
    at[76 + sender] = 'g';
    at[77 + sender] = (uint8_t)('0' + (chance(generator, 60) ? 0 : below(generator, 4)));
    memcpy(at + 76 + sender + group, dedup_id, dedup);
    return slice_make(at, 76 + sender + group + dedup + below(generator, 40));
}

MAKE(send)
{
    out->send.queue_id = queue_id(generator);
    out->send.delay_s = chance(generator, 80) ? CORE_DEFAULT : below(generator, 10);
    out->send.record = record(generator);
}
MAKE(receive)
{
    uint32_t most = generator->crowded ? 12 : 5;
    out->receive.queue_id = queue_id(generator);
    out->receive.max = 1 + below(generator, most);
    out->receive.visibility_s =
        chance(generator, 70) ? CORE_DEFAULT : below(generator, generator->crowded ? 300 : 30);
    out->receive.bytes_max = chance(generator, 30) ? 1 + below(generator, 400) : 0;
    if (chance(generator, 30))
        out->receive.attempt_id = text(generator, "attempt", 3);
}
MAKE(delete)
{
    struct known_lease known = lease(generator);
    out->delete.queue_id = known.queue_id;
    out->delete.lease = known.lease;
    out->delete.exact = chance(generator, 40);
}
MAKE(change_visibility)
{
    struct known_lease known = lease(generator);
    uint32_t seconds = below(generator, 20);
    out->change_visibility.queue_id = known.queue_id;
    out->change_visibility.lease = known.lease;
    out->change_visibility.visibility_s = chance(generator, 30)   ? 0
                                          : chance(generator, 10) ? 43190 + seconds
                                                                  : seconds;
}
/* A shard that is another, mostly. */
static uint32_t another_shard(struct generator *generator)
{
    return below(generator, 100) < 95 ? 2 + below(generator, 2) : below(generator, 7);
}

MAKE(move_start)
{
    fill(generator, out->move_start.handle, UUID_BYTES, 12);
    out->move_start.source_queue_id = queue_id(generator);
    out->move_start.destination_queue_id = chance(generator, 50) ? 0 : queue_id(generator);
    if (chance(generator, 25))
        out->move_start.destination_queue_id =
            queue_id_make(another_shard(generator), 1 + below(generator, 3));
    out->move_start.per_second_max = chance(generator, 50) ? 0 : 1 + below(generator, 3);
}
MAKE(move_cancel)
{
    fill(generator, out->move_cancel.handle, UUID_BYTES, 12);
    out->move_cancel.source_queue_id = queue_id(generator);
    for (size_t i = 0; i < MODEL_QUEUES && chance(generator, 90); i++) {
        const struct model_queue *queue = &generator->model->queues[i];
        if (!queue->exists || queue->move_count == 0 || !chance(generator, 50))
            continue;
        memcpy(out->move_cancel.handle, queue->moves[0].view.handle, UUID_BYTES);
        out->move_cancel.source_queue_id = queue->queue_id;
        return;
    }
}
static const struct model_passage *passage_of(const struct generator *generator, uint32_t number)
{
    return &generator->model->passages[number % MODEL_SHARDS];
}

/* The type of the queue that it goes to, mostly. */
static bool fifo_of(struct generator *generator, const struct command_arrive *arrive)
{
    for (size_t i = 0; i < MODEL_QUEUES && chance(generator, 99); i++) {
        const struct model_queue *queue = &generator->model->queues[i];
        if (queue->exists && (queue->queue_id == arrive->destination_queue_id ||
                              model_text_is(&queue->name, arrive->destination_name)))
            return queue->settings.fifo;
    }
    return chance(generator, 50);
}

MAKE(arrive)
{
    struct command_arrive *arrive = &out->arrive;
    arrive->source_shard = another_shard(generator);
    const struct model_passage *passage = passage_of(generator, arrive->source_shard);
    uint64_t base = passage->accepted;
    if (chance(generator, 15) && base > 4) /* late */
        base -= below(generator, 5);
    arrive->number = base + 1 + below(generator, 3);
    arrive->after = chance(generator, 85) ? base : base + below(generator, 3);
    arrive->settled = chance(generator, 50) || base == 0 ? base : base - below(generator, 3) % base;
    arrive->source_queue_id = chance(generator, 60) ? queue_id_make(2, 1 + below(generator, 3)) : 0;
    arrive->received_before = below(generator, 5);
    arrive->sent_ms = chance(generator, 50) ? 0 : 1 + below(generator, 100000);
    if (chance(generator, 50))
        arrive->destination_queue_id = queue_id(generator);
    else
        arrive->destination_name = queue_name(generator);
    arrive->fifo = fifo_of(generator, arrive);
    arrive->record = record(generator);
}
MAKE(departed)
{
    out->departed.destination_shard = another_shard(generator);
    const struct model_passage *passage = passage_of(generator, out->departed.destination_shard);
    out->departed.number = passage->number_last;
    if (passage->count > 0)
        out->departed.number = passage->parcels[below(generator, (uint32_t)passage->count)].number -
                               (chance(generator, 10) ? 1 : 0);
}
MAKE(refused)
{
    out->refused.destination_shard = another_shard(generator);
    const struct model_passage *passage = passage_of(generator, out->refused.destination_shard);
    if (passage->count == 0)
        return;
    out->refused.first = passage->parcels[0].number + (chance(generator, 10) ? 1 : 0);
    out->refused.last =
        passage->parcels[chance(generator, 60) ? 0 : below(generator, (uint32_t)passage->count)]
            .number;
}
MAKE(blob_put)
{
    fill(generator, out->blob_put.sha256, SHA256_BYTES, 6);
    uint8_t kind = out->blob_put.sha256[0];
    /* Pieces of 10 bytes; the size of the whole follows from the digest, mostly. */
    out->blob_put.total_bytes = 10u * (kind % 3 + 1) + (chance(generator, 3) ? 1 : 0);
    out->blob_put.offset = 10u * below(generator, kind % 3 + 1);
    fill(generator, generator->bytes, 10, 200);
    out->blob_put.piece = slice_make(generator->bytes, 10);
}
MAKE(function_put)
{
    out->function_put.name = text(generator, "f", 4);
    for (size_t i = 0; i < MODEL_FUNCTIONS; i++) {
        const struct model_function *function = &generator->model->functions[i];
        if (function->exists && slice_equal(slice_make(function->name.bytes, function->name.length),
                                            out->function_put.name))
            out->function_put.version = near(generator, function->version);
    }
    fill(generator, out->function_put.code_sha256, SHA256_BYTES, 7);
    out->function_put.config = text(generator, "config", 9);
}
MAKE(function_delete)
{
    out->function_delete.name = text(generator, "f", 4);
}
MAKE(function_usage)
{
    out->function_usage.name = text(generator, "f", 4);
    out->function_usage.delta = (struct usage){
        .invocations = below(generator, 9), .errors = below(generator, 3), .billed_mb_ms = 77};
}
MAKE(usage_add)
{
    out->usage_add.function_id = 1 + below(generator, MODEL_TALLIES);
    out->usage_add.delta = (struct usage){
        .invocations = below(generator, 9), .timeouts = below(generator, 3), .duration_us = 88};
}
MAKE(usage_drop)
{
    out->usage_drop.function_id = 1 + below(generator, MODEL_TALLIES);
}
MAKE(mapping_put)
{
    fill(generator, out->mapping_put.uuid, UUID_BYTES, 8);
    for (size_t i = 0; i < MODEL_MAPPINGS; i++) {
        const struct model_mapping *mapping = &generator->model->mappings[i];
        if (mapping->exists && memcmp(mapping->uuid, out->mapping_put.uuid, UUID_BYTES) == 0)
            out->mapping_put.version = near(generator, mapping->version);
    }
    out->mapping_put.function_name = text(generator, "f", 4);
    out->mapping_put.queue_name = queue_name(generator);
    out->mapping_put.config = text(generator, "config", 9);
}
MAKE(mapping_delete)
{
    fill(generator, out->mapping_delete.uuid, UUID_BYTES, 8);
}

static uint64_t document_version(struct generator *generator, struct slice name)
{
    for (size_t i = 0; i < MODEL_DOCUMENTS; i++) {
        const struct model_document *document = &generator->model->documents[i];
        if (document->exists && model_text_is(&document->name, name))
            return near(generator, document->version);
    }
    return chance(generator, 90) ? 0 : below(generator, 9);
}

MAKE(document_put)
{
    out->document_put.name = text(generator, "key/", 4);
    out->document_put.version = document_version(generator, out->document_put.name);
    out->document_put.content = text(generator, "content", 9);
}
MAKE(document_delete)
{
    out->document_delete.name = text(generator, "key/", 4);
    if (chance(generator, 70))
        out->document_delete.version = document_version(generator, out->document_delete.name);
}

static const struct {
    enum command_type type;
    uint32_t weight;
    void (*make)(struct generator *generator, struct command *out);
} mix[] = {
    {COMMAND_TICK, 2, make_tick},
    {COMMAND_BOOTSTRAP, 1, make_bootstrap},
    {COMMAND_QUEUE_CREATE, 12, make_queue_create},
    {COMMAND_QUEUE_UPDATE, 6, make_queue_update},
    {COMMAND_QUEUE_DELETE, 2, make_queue_delete},
    {COMMAND_QUEUE_PURGE, 1, make_queue_purge},
    {COMMAND_QUEUE_TAG, 3, make_queue_tag},
    {COMMAND_SEND, 90, make_send},
    {COMMAND_RECEIVE, 80, make_receive},
    {COMMAND_MOVE_START, 5, make_move_start},
    {COMMAND_MOVE_CANCEL, 2, make_move_cancel},
    {COMMAND_ARRIVE, 20, make_arrive},
    {COMMAND_DEPARTED, 12, make_departed},
    {COMMAND_REFUSED, 8, make_refused},
    {COMMAND_DELETE, 50, make_delete},
    {COMMAND_CHANGE_VISIBILITY, 30, make_change_visibility},
    {COMMAND_BLOB_PUT, 15, make_blob_put},
    {COMMAND_FUNCTION_PUT, 12, make_function_put},
    {COMMAND_FUNCTION_DELETE, 3, make_function_delete},
    {COMMAND_FUNCTION_USAGE, 5, make_function_usage},
    {COMMAND_USAGE_ADD, 5, make_usage_add},
    {COMMAND_USAGE_DROP, 2, make_usage_drop},
    {COMMAND_MAPPING_PUT, 8, make_mapping_put},
    {COMMAND_MAPPING_DELETE, 3, make_mapping_delete},
    {COMMAND_DOCUMENT_PUT, 6, make_document_put},
    {COMMAND_DOCUMENT_DELETE, 3, make_document_delete},
};

void generate_command(struct generator *generator, struct command *out)
{
    uint32_t total = 0;
    for (size_t i = 0; i < ARRAY_COUNT(mix); i++)
        total += mix[i].weight;
    uint32_t draw = below(generator, total);
    size_t row = 0;
    while (draw >= mix[row].weight)
        draw -= mix[row++].weight;
    *out = (struct command){.type = mix[row].type};
    mix[row].make(generator, out);
}

uint64_t generate_time_step_ms(struct generator *generator)
{
    uint64_t next_ms = model_next_deadline_ms(generator->model);
    uint64_t now_ms = generator->model->now_ms;
    uint32_t draw = below(generator, 1000);
    if (draw < 300)
        return 0;
    if (draw < 550 && next_ms != UINT64_MAX)
        return next_ms - now_ms - (chance(generator, 30) ? 1 : 0);
    if (draw < 900)
        return below(generator, 1500);
    if (draw < 995)
        return below(generator, 20000);
    return below(generator, draw < 999 ? 200000 : 50000000);
}
