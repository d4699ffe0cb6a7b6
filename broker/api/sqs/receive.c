/* SPDX-License-Identifier: Apache-2.0 */
/* ReceiveMessage:
 *
 *     handle_receive_message  -> waiting   shard_receive is under way, perhaps a long poll
 *     on_received             -> reading   messages are leased; bodies not in memory are being read
 *     on_read                 -> looking   for queues that the messages were redriven from, if they
 *                                          are elsewhere
 *     on_sources              -> answered
 *
 * A consumer that goes away must not take messages with it. While waiting, shard_receive_cancel
 * makes sure that nothing stays leased; while reading, the messages are given back (visibility 0)
 * when the read has ended. Only after the answer was handed to the connection do they count as
 * delivered.
 *
 * I1  once messages are leased, the call ends either in an answer that holds them or in give_back,
 *     except when their bodies cannot be read: then the leases run out by themselves */
#include "broker/api/sqs/attributes.h"
#include "broker/api/sqs/look.h"
#include "broker/api/sqs/message.h"
#include "broker/core/record.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <utlist.h>

#define MESSAGES_MAX     10
#define WAIT_MAX_S       20
#define VISIBILITY_MAX_S 43200

/* An answer's size is bounded by what is leased for it: stored bytes, before any escaping. */
#define ANSWER_BYTES_MAX (4u << 20)

/* The system attributes that a receive can show, where the message has them. */
enum system_attribute {
    SYSTEM_SENDER_ID,
    SYSTEM_SENT,
    SYSTEM_RECEIVE_COUNT,
    SYSTEM_FIRST_RECEIVE,
    SYSTEM_TRACE_HEADER,
    SYSTEM_SEQUENCE_NUMBER,
    SYSTEM_GROUP_ID,
    SYSTEM_DEDUPLICATION_ID,
    SYSTEM_SOURCE_ARN,
    SYSTEM_COUNT
};
static const char *const system_names[SYSTEM_COUNT] = {
    [SYSTEM_SENDER_ID] = "SenderId",
    [SYSTEM_SENT] = "SentTimestamp",
    [SYSTEM_RECEIVE_COUNT] = "ApproximateReceiveCount",
    [SYSTEM_FIRST_RECEIVE] = "ApproximateFirstReceiveTimestamp",
    [SYSTEM_TRACE_HEADER] = "AWSTraceHeader",
    [SYSTEM_SEQUENCE_NUMBER] = "SequenceNumber",
    [SYSTEM_GROUP_ID] = "MessageGroupId",
    [SYSTEM_DEDUPLICATION_ID] = "MessageDeduplicationId",
    [SYSTEM_SOURCE_ARN] = "DeadLetterQueueSourceArn",
};

struct received {
    struct core_message messages[MESSAGES_MAX];
    struct body_ref refs[MESSAGES_MAX];
    uint64_t sources[MESSAGES_MAX]; /* queues to look for elsewhere */
};

struct receiving {
    struct sqs_call *call;
    struct shard_receive receive;
    struct shard_read read;
    struct received *received; /* once there are messages: few calls wait with room for them */
    struct buffer bodies;      /* while sources are looked for */
    uint32_t count;
    uint64_t queue_id;
    bool fifo;
    bool waiting; /* and in sqs_state.waiting */
    bool closing; /* the node is stopping: there is nothing more to wait for */
    bool system_wanted[SYSTEM_COUNT];
};

/* ---- what was asked for ---- */

static bool want_system(struct sqs_call *call, const struct sqs_list *names,
                        struct receiving *receiving, struct sqs_error *error)
{
    const struct slice *items = names->items;
    for (uint32_t i = 0; i < names->count; i++) {
        bool known = attributes_name_known(items[i]); /* the older parameter allows these too */
        bool all = slice_is(items[i], "All");
        for (size_t k = 0; k < SYSTEM_COUNT; k++) {
            bool named = slice_is(items[i], system_names[k]);
            known = known || named;
            receiving->system_wanted[k] = receiving->system_wanted[k] || all || named;
        }
        if (!known) {
            *error = sqs_error_make(call, SQS_ERROR_INVALID_ATTRIBUTE_NAME, "Unknown Attribute %s.",
                                    sqs_quote(call, items[i]));
            return false;
        }
    }
    return true;
}

static bool in_range(struct sqs_call *call, const struct sqs_number *number, const char *name,
                     int32_t minimum, int32_t maximum, const char *reason, struct sqs_error *error)
{
    if (!number->given || (number->value >= minimum && number->value <= maximum))
        return true;
    *error = sqs_error_make(call, SQS_ERROR_INVALID_PARAMETER,
                            "Value %d for parameter %s is invalid. Reason: %s, if provided.",
                            number->value, name, reason);
    return false;
}

static bool check_attempt(struct sqs_call *call, struct slice attempt, bool fifo,
                          struct sqs_error *error)
{
    if (attempt.data == NULL || (fifo && sqs_fifo_id_legal(attempt)))
        return true;
    *error = sqs_error_make(
        call, SQS_ERROR_INVALID_PARAMETER,
        "Value %s for parameter ReceiveRequestAttemptId is invalid. Reason: %s",
        sqs_quote(call, attempt),
        fifo ? "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. "
               "1 to 128 in length."
             : "The request include parameter that is not valid for this queue type.");
    return false;
}

/* The older parameter and its successor: JSON adds them up, Query looks at the older one first. */
static bool want_systems(struct sqs_call *call, const struct sqs_receive_message_input *input,
                         struct receiving *receiving, struct sqs_error *error)
{
    bool older = want_system(call, &input->attribute_names, receiving, error);
    if (!older || (call->protocol == SQS_QUERY && input->attribute_names.count > 0))
        return older;
    return want_system(call, &input->system_attribute_names, receiving, error);
}

static bool check_input(struct sqs_call *call, const struct sqs_receive_message_input *input,
                        struct receiving *receiving, struct sqs_error *error)
{
    return in_range(call, &input->messages_max, "MaxNumberOfMessages", 1, MESSAGES_MAX,
                    "Must be between 1 and 10", error) &&
           in_range(call, &input->wait_s, "WaitTimeSeconds", 0, WAIT_MAX_S,
                    "Must be >= 0 and <= 20", error) &&
           in_range(call, &input->visibility_s, "VisibilityTimeout", 0, VISIBILITY_MAX_S,
                    "Must be >= 0 and <= 43200", error) &&
           check_attempt(call, input->attempt_id, receiving->fifo, error) &&
           want_systems(call, input, receiving, error);
}

/* "All", "*" and ".*" take every attribute, "prefix.*" those that begin with the prefix. */
static bool attribute_wanted(const struct sqs_list *names, struct slice name)
{
    const struct slice *items = names->items;
    for (uint32_t i = 0; i < names->count; i++) {
        struct slice want = items[i];
        bool prefix = want.length >= 2 && memcmp(want.data + want.length - 2, ".*", 2) == 0;
        if (slice_is(want, "All") || slice_is(want, "*") || slice_equal(want, name))
            return true;
        if (prefix && name.length >= want.length - 2 &&
            memcmp(name.data, want.data, want.length - 2) == 0)
            return true;
    }
    return false;
}

/* ---- the answer ---- */

static void add_system(struct sqs_call *call, const struct receiving *receiving,
                       enum system_attribute which, struct slice value, struct sqs_list *out)
{
    struct sqs_pair *pairs = out->items;
    if (receiving->system_wanted[which] && value.length > 0)
        pairs[out->count++] =
            (struct sqs_pair){slice_of(system_names[which]), arena_copy(&call->arena, value)};
}

static void add_system_number(struct sqs_call *call, const struct receiving *receiving,
                              enum system_attribute which, uint64_t value, struct sqs_list *out)
{
    if (receiving->system_wanted[which])
        add_system(call, receiving, which, slice_of(arena_printf(&call->arena, "%" PRIu64, value)),
                   out);
}

/* The queue that it was redriven from may be gone; or, being of another shard, not have come to
 * this node yet, which is behind there then by more than the message took to get here; or be of one
 * that no node that has it could tell of. */
static void add_source(struct sqs_call *call, const struct receiving *receiving,
                       const struct core_message *message, struct sqs_list *out)
{
    struct queue_view source;
    if (message->source_queue_id != 0 && sqs_queue_by_id(call, message->source_queue_id, &source))
        add_system(call, receiving, SYSTEM_SOURCE_ARN, slice_of(queue_arn_text(call, source.name)),
                   out);
}

/* In a dead-letter queue it is the message's id, so that two messages whose ids for deduplication
 * were the same stay two (Developer Guide, "Configure a dead-letter queue redrive"). */
static void add_deduplication_id(struct sqs_call *call, const struct receiving *receiving,
                                 const struct core_message *message, const struct record *record,
                                 struct sqs_list *out)
{
    char id[UUID_TEXT_LENGTH + 1];
    bool redriven = receiving->fifo && message->source_queue_id != 0;
    if (redriven)
        uuid_text(record->message_id, id);
    add_system(call, receiving, SYSTEM_DEDUPLICATION_ID, redriven ? slice_of(id) : record->dedup_id,
               out);
}

static void describe_system(struct sqs_call *call, const struct receiving *receiving,
                            const struct core_message *message, const struct record *record,
                            struct sqs_list *out)
{
    *out = (struct sqs_list){arena_alloc(&call->arena, SYSTEM_COUNT * sizeof(struct sqs_pair)), 0,
                             true};
    add_system(call, receiving, SYSTEM_SENDER_ID, record->sender_id, out);
    add_system_number(call, receiving, SYSTEM_SENT, message->sent_ms, out);
    add_system_number(call, receiving, SYSTEM_RECEIVE_COUNT,
                      (uint64_t)message->received_before + message->receive_count, out);
    add_system_number(call, receiving, SYSTEM_FIRST_RECEIVE, message->first_receive_ms, out);
    add_system(call, receiving, SYSTEM_TRACE_HEADER, record->trace_header, out);
    add_system(call, receiving, SYSTEM_GROUP_ID, record->group_id, out);
    add_deduplication_id(call, receiving, message, record, out);
    if (receiving->fifo)
        add_system(call, receiving, SYSTEM_SEQUENCE_NUMBER,
                   slice_of(arena_printf(&call->arena, "%020" PRIu64, message->seq)), out);
    add_source(call, receiving, message, out);
}

/* The MD5 is over what is returned, not over what was sent: that is what SDKs verify. */
static void describe_attributes(struct sqs_call *call, const struct record *record,
                                struct sqs_message *out)
{
    const struct sqs_receive_message_input *input = call->input;
    struct record_attribute kept[RECORD_ATTRIBUTES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < record->attribute_count; i++) {
        if (attribute_wanted(&input->message_attribute_names, record->attributes[i].name))
            kept[count++] = record->attributes[i];
    }
    if (count == 0)
        return;
    uint8_t md5[MD5_BYTES];
    record_attributes_md5(kept, count, md5);
    out->md5_attributes = sqs_hex(call, md5, sizeof md5);
    struct sqs_message_attribute *items = arena_alloc(&call->arena, count * sizeof *items);
    for (uint32_t i = 0; i < count; i++) {
        items[i].name = kept[i].name;
        items[i].data_type = kept[i].type;
        if (kept[i].kind == RECORD_BINARY)
            items[i].binary_value = kept[i].value;
        else
            items[i].string_value = kept[i].value;
    }
    out->message_attributes = (struct sqs_list){items, count, true};
}

static bool describe(struct sqs_call *call, const struct receiving *receiving,
                     const struct core_message *message, struct slice bytes,
                     struct sqs_message *out)
{
    struct record record;
    if (record_decode(bytes, &record) != STATUS_OK)
        return false;
    char id[UUID_TEXT_LENGTH + 1];
    uuid_text(record.message_id, id);
    struct buffer handle = {0};
    receipt_encode(&handle, call->secret, receiving->queue_id,
                   (struct core_lease){message->seq, message->receive_count});
    out->message_id = arena_copy(&call->arena, slice_of(id));
    out->receipt_handle = arena_copy(&call->arena, buffer_slice(&handle));
    buffer_free(&handle);
    if (!call->carrier->no_md5 || !record.no_md5) {
        uint8_t md5[MD5_BYTES];
        record_body_md5(&record, md5);
        out->md5_body = sqs_hex(call, md5, MD5_BYTES);
    }
    out->body = record.body;
    describe_system(call, receiving, message, &record, &out->attributes);
    describe_attributes(call, &record, out);
    return true;
}

/* `bodies`: the records of all messages, one after the other. */
static void answer(struct receiving *receiving, struct slice bodies)
{
    struct sqs_call *call = receiving->call;
    struct sqs_message *items = arena_alloc(&call->arena, receiving->count * sizeof *items);
    size_t offset = 0;
    for (uint32_t i = 0; i < receiving->count; i++) {
        size_t length = receiving->received->refs[i].length;
        ASSERT(length <= bodies.length - offset);
        struct slice bytes = slice_make(bodies.data + offset, length);
        if (!describe(call, receiving, &receiving->received->messages[i], bytes, &items[i])) {
            sqs_fail(call,
                     (struct sqs_error){SQS_ERROR_INTERNAL, "A stored message could not be read."});
            return;
        }
        offset += length;
    }
    struct sqs_receive_message_result result = {.messages = {items, receiving->count, true}};
    sqs_reply(call, &result);
}

static void answer_nothing(struct receiving *receiving)
{
    struct sqs_receive_message_result none = {0};
    api_queue_counts(receiving->call->api, receiving->queue_id)->empty_receives++;
    sqs_reply(receiving->call, &none);
}

/* ---- giving back ---- */

/* The client has gone: sqs_propose then frees the call when the step has ended. */
static void give_back(struct receiving *receiving)
{
    struct sqs_call *call = receiving->call;
    ASSERT(call->gone);
    for (uint32_t i = 0; i < receiving->count; i++) {
        const struct core_message *message = &receiving->received->messages[i];
        struct command command = {
            .type = COMMAND_CHANGE_VISIBILITY,
            .change_visibility = {.queue_id = receiving->queue_id,
                                  .lease = {message->seq, message->receive_count},
                                  .visibility_s = 0}};
        shard_call_add(&call->proposal, &command);
    }
    sqs_propose(call, NULL);
}

/* ---- the steps ---- */

static void on_sources(struct sqs_call *call)
{
    struct receiving *receiving = call->state;
    struct buffer bodies = receiving->bodies;
    receiving->bodies = (struct buffer){0};
    if (call->gone)
        give_back(receiving);
    else
        answer(receiving, buffer_slice(&bodies));
    buffer_free(&bodies);
}

/* The queues that the messages were redriven from, where they are to be told and are elsewhere. */
static uint32_t find_sources(struct receiving *receiving)
{
    uint32_t count = 0;
    for (uint32_t i = 0; receiving->system_wanted[SYSTEM_SOURCE_ARN] && i < receiving->count; i++) {
        uint64_t id = receiving->received->messages[i].source_queue_id;
        bool known = count > 0 && receiving->received->sources[count - 1] == id;
        if (id != 0 && !known && shards_of_queue(api_shards(receiving->call->api), id) == NULL)
            receiving->received->sources[count++] = id;
    }
    return count;
}

/* `bodies` is moved. */
static void answer_with_sources(struct receiving *receiving, struct buffer *bodies)
{
    receiving->bodies = *bodies;
    *bodies = (struct buffer){0};
    sqs_look_ids(receiving->call, receiving->received->sources, find_sources(receiving),
                 on_sources);
}

static void on_read(struct shard_read *read, enum status status)
{
    struct receiving *receiving = read->data;
    struct buffer bodies = read->out;
    if (receiving->call->gone)
        give_back(receiving);
    else if (status != STATUS_OK)
        sqs_fail_status(receiving->call, status);
    else
        answer_with_sources(receiving, &bodies);
    buffer_free(&bodies);
}

static bool read_now(struct receiving *receiving, struct buffer *bodies)
{
    for (uint32_t i = 0; i < receiving->count; i++) {
        if (!shard_read_now(receiving->call->shard, receiving->received->refs[i], bodies))
            return false;
    }
    return true;
}

static void read_bodies(struct receiving *receiving)
{
    struct buffer bodies = {0};
    if (read_now(receiving, &bodies)) {
        answer_with_sources(receiving, &bodies);
    } else {
        receiving->read = (struct shard_read){.refs = receiving->received->refs,
                                              .count = receiving->count,
                                              .done = on_read,
                                              .data = receiving};
        shard_read(receiving->call->shard, &receiving->read);
    }
    buffer_free(&bodies);
}

static void start_waiting(struct receiving *receiving)
{
    struct sqs_state *state = sqs_state(receiving->call);
    DL_APPEND(state->waiting, receiving->call);
    receiving->waiting = true;
}

static void stop_waiting(struct receiving *receiving)
{
    struct sqs_state *state = sqs_state(receiving->call);
    DL_DELETE(state->waiting, receiving->call);
    receiving->waiting = false;
}

/* The node stops. One that came from another node goes on waiting at the next one. */
static void stop(struct receiving *receiving)
{
    if (receiving->call->carrier->refuse != NULL)
        sqs_unavailable(receiving->call);
    else
        answer_nothing(receiving);
}

static void take_messages(struct receiving *receiving, const struct core_result *result)
{
    ASSERT(result->message_count <= MESSAGES_MAX);
    receiving->count = result->message_count;
    if (receiving->count > 0)
        receiving->received = arena_alloc(&receiving->call->arena, sizeof *receiving->received);
    for (uint32_t i = 0; i < receiving->count; i++) {
        receiving->received->messages[i] = result->messages[i];
        receiving->received->refs[i] = result->messages[i].body;
    }
}

static void on_received(struct shard_receive *receive, enum status status,
                        const struct core_result *result)
{
    struct receiving *receiving = receive->data;
    struct sqs_call *call = receiving->call;
    stop_waiting(receiving);
    if (status == STATUS_CANCELLED && receiving->closing) {
        stop(receiving);
        return;
    }
    if (status != STATUS_OK) {
        sqs_fail_status(call, status);
        return;
    }
    if (result->code != CORE_OK) {
        sqs_fail_core(call, result->code);
        return;
    }
    take_messages(receiving, result);
    if (receiving->count == 0) {
        answer_nothing(receiving);
    } else if (call->gone) {
        give_back(receiving);
    } else {
        read_bodies(receiving);
    }
}

static void on_abort(struct sqs_call *call)
{
    struct receiving *receiving = call->state;
    if (receiving->waiting)
        shard_receive_cancel(call->shard, &receiving->receive);
}

static void on_closing(struct sqs_call *call)
{
    struct receiving *receiving = call->state;
    receiving->closing = true;
    shard_receive_cancel(call->shard, &receiving->receive);
}

void handle_receive_message(struct sqs_call *call)
{
    const struct sqs_receive_message_input *input = call->input;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    struct receiving *receiving = arena_alloc(&call->arena, sizeof *receiving);
    struct sqs_error error = {0};
    receiving->fifo = queue.settings.fifo;
    if (!check_input(call, input, receiving, &error)) {
        sqs_fail(call, error);
        return;
    }
    uint32_t wait_s =
        input->wait_s.given ? (uint32_t)input->wait_s.value : queue.settings.receive_wait_s;
    receiving->call = call;
    receiving->queue_id = queue.queue_id;
    receiving->receive = (struct shard_receive){
        .command = {.queue_id = queue.queue_id,
                    .max = input->messages_max.given ? (uint32_t)input->messages_max.value : 1,
                    .visibility_s = input->visibility_s.given ? (uint32_t)input->visibility_s.value
                                                              : CORE_DEFAULT,
                    .bytes_max = ANSWER_BYTES_MAX,
                    .attempt_id = input->attempt_id},
        .wait_ms = api_closing(call->api) ? 0 : wait_s * 1000,
        .since_ms = call->since_ms,
        .done = on_received,
        .data = receiving,
    };
    call->state = receiving;
    call->on_abort = on_abort;
    call->on_closing = on_closing;
    start_waiting(receiving);
    if (wait_s > 0)
        sqs_call_park(call);
    shard_receive(call->shard, &receiving->receive);
}
