/* SPDX-License-Identifier: Apache-2.0 */
/* The comparison is exact: also the order of received messages, which standard queues do not
 * promise but which the core keeps (I4), and the next deadline to the millisecond. Bodies are
 * compared as a sum of hashes, so that holding one too often and another not at all is seen. */
#include "tests/sim/compare.h"

#include "proto/base/assert.h"

static uint64_t hash_body(struct body_ref ref)
{
    uint64_t h =
        ref.index * UINT64_C(0x9e3779b97f4a7c15) + ((uint64_t)ref.offset << 32) + ref.length + 1;
    h = (h ^ (h >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    return h ^ (h >> 32);
}

static void on_hold(void *data, struct body_ref ref)
{
    struct observed *observed = data;
    observed->held_count++;
    observed->held_digest += hash_body(ref);
}

static void on_release(void *data, struct body_ref ref)
{
    struct observed *observed = data;
    if (observed->lose_release) {
        observed->lose_release = false;
        return;
    }
    observed->held_count--;
    observed->held_digest -= hash_body(ref);
}

static void on_ready(void *data, uint64_t queue_id)
{
    struct observed *observed = data;
    ASSERT(observed->ready_count < MODEL_QUEUES);
    observed->ready[observed->ready_count++] = queue_id;
}

static void on_gone(void *data, uint64_t queue_id)
{
    (void)queue_id;
    ((struct observed *)data)->queues_gone++;
}

static void on_changed(void *data)
{
    ((struct observed *)data)->catalog_changes++;
}

static void on_document(void *data, struct slice name)
{
    ASSERT(name.length > 0);
    ((struct observed *)data)->document_changes++;
}

static void on_departs(void *data, uint32_t shard)
{
    ASSERT(shard < MODEL_SHARDS);
    ((struct observed *)data)->departures++;
}

struct core_events observed_events(struct observed *observed)
{
    return (struct core_events){.data = observed,
                                .body_hold = on_hold,
                                .body_release = on_release,
                                .queue_ready = on_ready,
                                .queue_gone = on_gone,
                                .catalog_changed = on_changed,
                                .document_changed = on_document,
                                .departs = on_departs};
}

#define SAME(a, b)                                                                                 \
    do {                                                                                           \
        if ((a) != (b))                                                                            \
            return #a " differs";                                                                  \
    } while (0)
#define SAME_TEXT(view, text)                                                                      \
    do {                                                                                           \
        if (!slice_equal(view, slice_make((text).bytes, (text).length)))                           \
            return #view " differs";                                                               \
    } while (0)

const char *compare_result(const struct core_result *core, const struct core_result *model)
{
    SAME(core->code, model->code);
    SAME(core->queue_id, model->queue_id);
    SAME(core->version, model->version);
    SAME(core->seq, model->seq);
    SAME(core->message_count, model->message_count);
    SAME(core->duplicate, model->duplicate);
    SAME(core->moved, model->moved);
    SAME(memcmp(core->message_id, model->message_id, UUID_BYTES), 0);
    for (uint32_t i = 0; i < core->message_count; i++) {
        const struct core_message *a = &core->messages[i];
        const struct core_message *b = &model->messages[i];
        SAME(a->seq, b->seq);
        SAME(a->sent_ms, b->sent_ms);
        SAME(a->first_receive_ms, b->first_receive_ms);
        SAME(a->visible_at_ms, b->visible_at_ms);
        SAME(a->receive_count, b->receive_count);
        SAME(a->received_before, b->received_before);
        SAME(a->source_queue_id, b->source_queue_id);
        SAME(a->body.index, b->body.index);
        SAME(a->body.offset, b->body.offset);
        SAME(a->body.length, b->body.length);
    }
    return NULL;
}

const char *compare_ready(const struct observed *observed, const struct model *model)
{
    size_t expected = 0;
    for (size_t q = 0; q < MODEL_QUEUES; q++) {
        const struct model_queue *queue = &model->queues[q];
        if (!queue->exists || !queue->ready || model_next(queue, false) == MODEL_NONE)
            continue;
        expected++;
        size_t i = 0;
        while (i < observed->ready_count && observed->ready[i] != queue->queue_id)
            i++;
        if (i == observed->ready_count)
            return "queue_ready was not told";
    }
    return expected == observed->ready_count ? NULL : "queue_ready was told for nothing, or twice";
}

static const char *compare_settings(const struct queue_settings *a, const struct queue_settings *b)
{
    SAME(a->delay_s, b->delay_s);
    SAME(a->message_bytes_max, b->message_bytes_max);
    SAME(a->retention_s, b->retention_s);
    SAME(a->receive_wait_s, b->receive_wait_s);
    SAME(a->visibility_s, b->visibility_s);
    SAME(a->receive_count_max, b->receive_count_max);
    SAME(a->fifo, b->fifo);
    SAME(a->content_based_dedup, b->content_based_dedup);
    SAME(a->dedup_per_group, b->dedup_per_group);
    SAME(a->throughput_per_group, b->throughput_per_group);
    return NULL;
}

static const char *compare_moves(const struct core *core, const struct model_queue *queue)
{
    size_t position = 0;
    struct move_view view;
    while (core_move_next(core, queue->queue_id, &position, &view)) {
        if (position > queue->move_count)
            return "there are more moves";
        const struct move_view *expected = &queue->moves[position - 1].view;
        SAME(view.status, expected->status);
        SAME(view.failure, expected->failure);
        SAME(view.moved, expected->moved);
        SAME(view.to_move, expected->to_move);
        SAME(view.started_ms, expected->started_ms);
        SAME(view.source_queue_id, expected->source_queue_id);
        SAME(view.destination_queue_id, expected->destination_queue_id);
        SAME(view.per_second_max, expected->per_second_max);
        SAME(memcmp(view.handle, expected->handle, UUID_BYTES), 0);
    }
    return position == queue->move_count ? NULL : "there are fewer moves";
}

static const char *compare_queue(const struct core *core, const struct model_queue *queue)
{
    struct queue_view view;
    struct queue_view named;
    if (!core_queue_by_id(core, queue->queue_id, &view))
        return "a queue is missing";
    if (!core_queue_by_name(core, view.name, &named) || named.queue_id != view.queue_id)
        return "a queue is not found by its name";
    uint64_t counts[3] = {0};
    uint64_t oldest_ms = 0;
    for (size_t i = 0; i < queue->count; i++) {
        const struct model_message *message = &queue->messages[i];
        counts[message->state]++;
        if (oldest_ms == 0 || message->sent_ms < oldest_ms)
            oldest_ms = message->sent_ms;
    }
    SAME(view.visible, counts[MODEL_VISIBLE]);
    SAME(view.delayed, counts[MODEL_DELAYED]);
    SAME(view.in_flight, counts[MODEL_LEASED]);
    SAME(view.oldest_sent_ms, oldest_ms);
    SAME(view.version, queue->version);
    SAME(view.created_ms, queue->created_ms);
    SAME(view.modified_ms, queue->modified_ms);
    SAME(view.sent_total, queue->sent_total);
    SAME(view.received_total, queue->received_total);
    SAME(view.deleted_total, queue->deleted_total);
    SAME(view.empty_receives_total, queue->empty_receives_total);
    SAME_TEXT(view.name, queue->name);
    SAME_TEXT(view.tags, queue->tags);
    SAME_TEXT(view.settings.extras, queue->extras);
    SAME_TEXT(view.settings.dead_letter, queue->dead_letter);
    const char *wrong = compare_settings(&view.settings, &queue->settings);
    return wrong != NULL ? wrong : compare_moves(core, queue);
}

static const char *compare_queues(const struct core *core, const struct model *model)
{
    size_t expected = 0;
    for (size_t i = 0; i < MODEL_QUEUES; i++) {
        if (!model->queues[i].exists)
            continue;
        expected++;
        const char *wrong = compare_queue(core, &model->queues[i]);
        if (wrong != NULL)
            return wrong;
    }
    size_t seen = 0;
    struct queue_view view = {0};
    while (core_queue_next(core, view.name, &view))
        seen++;
    return seen == expected ? NULL : "there are more queues, or fewer";
}

static const char *compare_functions(const struct core *core, const struct model *model)
{
    size_t expected = 0;
    struct function_view view = {0};
    for (size_t i = 0; i < MODEL_FUNCTIONS; i++) {
        const struct model_function *function = &model->functions[i];
        if (!function->exists)
            continue;
        expected++;
        struct slice name = slice_make(function->name.bytes, function->name.length);
        if (!core_function_get(core, name, &view))
            return "a function is missing";
        SAME(view.version, function->version);
        SAME_TEXT(view.config, function->config);
        SAME(memcmp(view.code_sha256, function->code_sha256, SHA256_BYTES), 0);
        SAME(memcmp(&view.usage, &function->usage, sizeof view.usage), 0);
    }
    size_t seen = 0;
    view.name = (struct slice){0};
    while (core_function_next(core, view.name, &view))
        seen++;
    return seen == expected ? NULL : "there are more functions, or fewer";
}

static const char *compare_mappings(const struct core *core, const struct model *model)
{
    size_t expected = 0;
    struct mapping_view view;
    for (size_t i = 0; i < MODEL_MAPPINGS; i++) {
        const struct model_mapping *mapping = &model->mappings[i];
        if (!mapping->exists)
            continue;
        expected++;
        if (!core_mapping_get(core, mapping->uuid, &view))
            return "a mapping is missing";
        SAME(view.version, mapping->version);
        SAME_TEXT(view.function_name, mapping->function_name);
        SAME_TEXT(view.queue_name, mapping->queue_name);
        SAME_TEXT(view.config, mapping->config);
    }
    size_t position = 0;
    while (core_mapping_next(core, &position, &view))
        ;
    return position == expected ? NULL : "there are more mappings, or fewer";
}

static const char *compare_tallies(const struct core *core, const struct model *model)
{
    size_t expected = 0;
    for (size_t i = 0; i < MODEL_TALLIES; i++) {
        const struct model_tally *tally = &model->tallies[i];
        struct usage usage = {0};
        if (!tally->exists)
            continue;
        expected++;
        if (!core_tally(core, tally->function_id, &usage))
            return "a tally is missing";
        SAME(memcmp(&usage, &tally->usage, sizeof usage), 0);
    }
    size_t seen = 0;
    for (uint64_t id = 0; core_tally_next(core, id, &id);)
        seen++;
    return seen == expected ? NULL : "there are more tallies, or fewer";
}

static const char *compare_documents(const struct core *core, const struct model *model)
{
    size_t expected = 0;
    struct document_view view = {0};
    for (size_t i = 0; i < MODEL_DOCUMENTS; i++) {
        const struct model_document *document = &model->documents[i];
        if (!document->exists)
            continue;
        expected++;
        struct slice name = slice_make(document->name.bytes, document->name.length);
        if (!core_document_get(core, name, &view))
            return "a document is missing";
        SAME(view.version, document->version);
        SAME_TEXT(view.content, document->content);
    }
    size_t seen = 0;
    view.name = (struct slice){0};
    while (core_document_next(core, view.name, &view))
        seen++;
    return seen == expected ? NULL : "there are more documents, or fewer";
}

static const char *compare_outboxes(const struct core *core, const struct model *model)
{
    for (uint32_t shard = 0; shard < MODEL_SHARDS; shard++) {
        const struct model_passage *passage = &model->passages[shard];
        const struct parcel *position = NULL;
        struct outbox_view view;
        SAME(core_outbox_count(core, shard), passage->count);
        for (size_t i = 0; i < passage->count; i++) {
            const struct model_parcel *parcel = &passage->parcels[i];
            const struct model_message *message = &parcel->message;
            bool redriven = parcel->destination_id == 0;
            if (!core_outbox_next(core, shard, &position, &view))
                return "an outbox ends early";
            SAME(view.queue_id, parcel->queue_id);
            SAME(view.seq, message->seq);
            SAME(view.body.index, message->body.index);
            SAME(view.body.offset, message->body.offset);
            SAME(view.arrive.source_shard, model->shard);
            SAME(view.arrive.number, parcel->number);
            SAME(view.arrive.settled, passage->parcels[0].number - 1);
            SAME(view.arrive.after, (i > 0 ? passage->parcels[i - 1].number : parcel->number - 1));
            SAME(view.arrive.fifo, parcel->fifo);
            SAME(view.arrive.destination_queue_id, parcel->destination_id);
            SAME_TEXT(view.arrive.destination_name, parcel->destination);
            SAME(view.arrive.source_queue_id, (redriven ? parcel->queue_id : 0));
            SAME(view.arrive.received_before,
                 (redriven ? message->received_before + message->receive_count : 0));
            SAME(view.arrive.sent_ms, (redriven && !parcel->fifo ? message->sent_ms : 0));
        }
    }
    return NULL;
}

static const char *compare_bodies(const struct core *core, const struct observed *observed,
                                  const struct model *model)
{
    uint64_t count = 0;
    uint64_t digest = 0;
    for (size_t q = 0; q < MODEL_QUEUES; q++) {
        const struct model_queue *queue = &model->queues[q];
        for (size_t i = 0; queue->exists && i < queue->count; i++, count++)
            digest += hash_body(queue->messages[i].body);
    }
    for (size_t s = 0; s < MODEL_SHARDS; s++) {
        for (size_t i = 0; i < model->passages[s].count; i++, count++)
            digest += hash_body(model->passages[s].parcels[i].message.body);
    }
    for (size_t b = 0; b < MODEL_BLOBS; b++) {
        const struct model_blob *blob = &model->blobs[b];
        if (!blob->exists)
            continue;
        for (size_t i = 0; i < blob->piece_count; i++, count++)
            digest += hash_body(blob->pieces[i]);
        SAME(core_blob_complete(core, blob->sha256), model_blob_bytes(blob) == blob->total_bytes);
    }
    /* The model drops what is given over at once; a core when it is told to. */
    uint64_t least = count + model_grave_messages(model);
    SAME(observed->held_count >= least, true);
    SAME(observed->held_count <= least + core_bury_left(core), true);
    if (model_grave_messages(model) == 0 && core_bury_left(core) == 0)
        SAME(observed->held_digest, digest);
    return NULL;
}

const char *compare_state(const struct core *core, const struct observed *observed,
                          const struct model *model)
{
    SAME(core_now_ms(core), model->now_ms);
    SAME(core_applied_index(core), model->index);
    /* A buried message may still have one, which does no more than let time pass. */
    SAME(core_next_deadline_ms(core) <= model_next_deadline_ms(model), true);
    if (core_bury_left(core) == 0)
        SAME(core_next_deadline_ms(core), model_next_deadline_ms(model));
    SAME(observed->queues_gone, model->queues_gone);
    SAME(observed->catalog_changes, model->catalog_changes);
    SAME(observed->document_changes, model->document_changes);
    SAME(observed->departures, model->departures);
    struct command_bootstrap bootstrap = {0};
    SAME(core_bootstrapped(core, bootstrap.cluster_id, bootstrap.secret), model->bootstrapped);
    SAME(memcmp(&bootstrap, &model->bootstrap, sizeof bootstrap), 0);
    const char *wrong = compare_queues(core, model);
    wrong = wrong != NULL ? wrong : compare_functions(core, model);
    wrong = wrong != NULL ? wrong : compare_mappings(core, model);
    wrong = wrong != NULL ? wrong : compare_documents(core, model);
    wrong = wrong != NULL ? wrong : compare_tallies(core, model);
    wrong = wrong != NULL ? wrong : compare_outboxes(core, model);
    return wrong != NULL ? wrong : compare_bodies(core, observed, model);
}
