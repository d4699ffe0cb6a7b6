/* SPDX-License-Identifier: Apache-2.0 */
/* A channel: one link (proto/rpc) on a loop of its own, and a table of the calls under way.
 *
 *     idle ──> connecting ──> greeting ──Welcome──> ready ──link ends──> idle (after RETRY_MS)
 *                  │             └─Challenge: Proof─┘ only with a key
 *                  └── failed, refused ──> idle, next broker
 *
 * The id of a call is its slot in the table and, above, a number that grows each time a slot is
 * used, so that an answer which comes too late or twice finds nobody. Calls that cannot be sent
 * wait in a list and end in the next run, since a callback must not run within mr_channel_call.
 *
 * I1  each call's callback runs exactly once
 * I2  a slot is in use exactly while its call is under way or waits to be refused */
#include "client/channel.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/options.h"
#include "proto/rpc/link.h"
#include "proto/sigv4/proof.h"
#include "proto/sqs/native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_BITS        14
#define SLOT_COUNT       (1u << SLOT_BITS)
#define RETRY_MS         50u
#define REFUSED_RETRY_MS 1000u
#define REGION_DEFAULT   "us-east-1"
#define CLIENT_NAME      "libmillrace"
#define ANSWER_BYTES_MAX FRAME_BYTES_MAX

_Static_assert(SLOT_COUNT == MR_CHANNEL_CALLS_MAX, "a slot for each call");

enum channel_state { CHANNEL_IDLE, CHANNEL_CONNECTING, CHANNEL_GREETING, CHANNEL_READY };

struct call_slot {
    mr_answer_fn done; /* NULL: free */
    void *data;
    enum sqs_action action;
    uint32_t use;        /* of the slot, in the id */
    uint32_t next;       /* in the list of free, or of unsent ones */
    enum status refusal; /* of an unsent one */
};

struct mr_channel {
    uv_loop_t loop;
    uv_timer_t timer; /* ends a run, or wakes it to connect */
    struct arena arena;
    const char *brokers[MR_CHANNEL_BROKERS_MAX];
    size_t broker_count;
    size_t broker; /* the current one */
    uint32_t timeout_ms;
    enum channel_state state;
    enum status why; /* the last connection ended */
    char why_text[MR_WHY_BYTES];
    const char *access_key_id; /* NULL: none */
    char *secret;              /* wiped at the end */
    const char *region;
    uint8_t nonce[PROOF_NONCE_BYTES]; /* of this greeting */
    struct tls_context *tls;          /* NULL: plain */
    struct link *link;
    uint64_t retry_at_ms;
    struct call_slot *slots;
    uint32_t free_first, unsent_first, unsent_last; /* SLOT_COUNT: none */
    uint32_t call_count;
    uint32_t called_back; /* in this run */
    bool closing;
};

/* ---- calls ---- */

static void end_call(struct mr_channel *channel, uint32_t slot, const struct mr_answer *answer)
{
    struct call_slot *s = &channel->slots[slot];
    mr_answer_fn done = s->done;
    s->done = NULL; /* I1, I2 */
    s->next = channel->free_first;
    channel->free_first = slot;
    channel->call_count--;
    channel->called_back++;
    done(s->data, answer);
}

static void end_all_sent(struct mr_channel *channel)
{
    const struct mr_answer closed = {.status = STATUS_CLOSED};
    for (uint32_t i = 0; i < SLOT_COUNT; i++) {
        if (channel->slots[i].done != NULL && channel->slots[i].refusal == STATUS_OK)
            end_call(channel, i, &closed);
    }
}

static void end_unsent(struct mr_channel *channel)
{
    uint32_t slot = channel->unsent_first;
    channel->unsent_first = channel->unsent_last = SLOT_COUNT;
    while (slot != SLOT_COUNT) {
        uint32_t next = channel->slots[slot].next;
        struct mr_answer answer = {.status = channel->slots[slot].refusal};
        end_call(channel, slot, &answer);
        slot = next;
    }
}

static void hold_back(struct mr_channel *channel, uint32_t slot, enum status refusal)
{
    channel->slots[slot].refusal = refusal;
    channel->slots[slot].next = SLOT_COUNT;
    if (channel->unsent_first == SLOT_COUNT)
        channel->unsent_first = slot;
    else
        channel->slots[channel->unsent_last].next = slot;
    channel->unsent_last = slot;
}

static enum status send_call(struct mr_channel *channel, uint32_t slot, const void *input)
{
    struct call_slot *s = &channel->slots[slot];
    struct buffer *out = channel->state == CHANNEL_READY ? link_frame_begin(channel->link) : NULL;
    if (out == NULL)
        return channel->state == CHANNEL_READY ? STATUS_BUSY : STATUS_UNAVAILABLE;
    native_call_header(out, s->use << SLOT_BITS | slot, s->action);
    native_write(out, sqs_actions[s->action].input, input);
    return link_frame_end(channel->link, MILLRACE__TYPE__TYPE_CALL);
}

void mr_channel_call(struct mr_channel *channel, enum sqs_action action, const void *input,
                     mr_answer_fn done, void *data)
{
    ASSERT(action < SQS_ACTION_COUNT);
    ASSERT(done != NULL);
    uint32_t slot = channel->free_first;
    ASSERT(slot != SLOT_COUNT); /* the caller keeps to MR_CHANNEL_CALLS_MAX */
    struct call_slot *s = &channel->slots[slot];
    channel->free_first = s->next;
    channel->call_count++;
    *s = (struct call_slot){.done = done, .data = data, .action = action, .use = s->use + 1};
    enum status status = send_call(channel, slot, input);
    if (status != STATUS_OK)
        hold_back(channel, slot, status);
}

static enum status refusal_status(const struct sqs_call_error *error)
{
    if (slice_is(error->code, "RequestThrottled"))
        return STATUS_BUSY;
    return error->http_status.value >= 500 ? STATUS_UNAVAILABLE : STATUS_INVALID;
}

static void read_answer(const struct native_header *header, struct slice body,
                        enum sqs_action action, struct arena *arena, struct mr_answer *answer)
{
    enum sqs_shape shape = header->refused ? SQS_SHAPE_call_error : sqs_actions[action].result;
    void *object = arena_alloc(arena, sqs_shapes[shape].bytes);
    if (!native_read(body, shape, arena, object)) {
        *answer = (struct mr_answer){.status = STATUS_CORRUPT};
    } else if (header->refused) {
        const struct sqs_call_error *error = object;
        *answer = (struct mr_answer){
            .status = refusal_status(error), .code = error->code, .message = error->message};
    } else {
        *answer = (struct mr_answer){.result = shape != SQS_SHAPE_none ? object : NULL};
    }
}

static void on_answer(struct mr_channel *channel, struct slice payload)
{
    struct native_header header;
    struct slice body;
    if (!native_header_read(payload, &header, &body)) {
        link_close(channel->link);
        return;
    }
    uint32_t slot = header.id & (SLOT_COUNT - 1);
    const struct call_slot *s = &channel->slots[slot];
    if (s->done == NULL || (s->use << SLOT_BITS | slot) != header.id)
        return; /* of a call that has ended */
    struct arena arena = {0};
    struct mr_answer answer;
    read_answer(&header, body, s->action, &arena, &answer);
    end_call(channel, slot, &answer);
    arena_free(&arena);
}

/* ---- the connection ---- */

static void lost(struct mr_channel *channel, enum status why)
{
    channel->link = NULL;
    if (channel->why == STATUS_OK) /* else the broker has said why */
        channel->why = why;
    bool refused = channel->why == STATUS_PERMISSION;
    if (channel->why_text[0] == '\0')
        snprintf(channel->why_text, sizeof channel->why_text, "%s", status_text(why));
    channel->state = CHANNEL_IDLE;
    channel->broker = (channel->broker + 1) % channel->broker_count;
    channel->retry_at_ms = uv_now(&channel->loop) + (refused ? REFUSED_RETRY_MS : RETRY_MS);
    end_all_sent(channel);
}

static void on_refused(struct mr_channel *channel, struct slice payload)
{
    Millrace__Refused *refused = millrace__refused__unpack(NULL, payload.length, payload.data);
    if (refused != NULL) {
        bool by_key = refused->code[0] != '\0';
        if (by_key)
            channel->why = STATUS_PERMISSION;
        snprintf(channel->why_text, sizeof channel->why_text, "%s%s%s", refused->code,
                 by_key ? ": " : "", refused->reason);
        millrace__refused__free_unpacked(refused, NULL);
    }
    link_close(channel->link);
}

/* Show that we have the key, without showing it. */
static void on_challenge(struct mr_channel *channel, struct slice payload)
{
    uint8_t bytes[PROOF_BYTES];
    struct proof_terms terms = {.access_key_id = slice_of(channel->access_key_id),
                                .region = slice_of(channel->region)};
    Millrace__ClientProof proof = MILLRACE__CLIENT_PROOF__INIT;
    Millrace__ClientChallenge *challenge =
        millrace__client_challenge__unpack(NULL, payload.length, payload.data);
    bool good = challenge != NULL && channel->access_key_id != NULL &&
                challenge->nonce.len == PROOF_NONCE_BYTES;
    if (good) {
        terms.time = slice_of(challenge->time);
        memcpy(terms.broker_nonce, challenge->nonce.data, PROOF_NONCE_BYTES);
        memcpy(terms.client_nonce, channel->nonce, PROOF_NONCE_BYTES);
        good = proof_terms_valid(&terms);
    }
    if (good) {
        proof_make(slice_of(channel->secret), &terms, bytes);
        proof.proof = (ProtobufCBinaryData){PROOF_BYTES, bytes};
        good =
            link_send(channel->link, MILLRACE__TYPE__TYPE_CLIENT_PROOF, &proof.base) == STATUS_OK;
    }
    if (!good)
        link_close(channel->link);
    if (challenge != NULL)
        millrace__client_challenge__free_unpacked(challenge, NULL);
}

static void on_frame(struct link *link, void *data, uint16_t type, struct slice payload)
{
    struct mr_channel *channel = data;
    (void)link;
    if (channel->state == CHANNEL_READY && type == MILLRACE__TYPE__TYPE_ANSWER)
        on_answer(channel, payload);
    else if (channel->state == CHANNEL_GREETING && type == MILLRACE__TYPE__TYPE_CLIENT_WELCOME)
        channel->state = CHANNEL_READY;
    else if (channel->state == CHANNEL_GREETING && type == MILLRACE__TYPE__TYPE_CLIENT_CHALLENGE)
        on_challenge(channel, payload);
    else if (type == MILLRACE__TYPE__TYPE_REFUSED)
        on_refused(channel, payload);
}

static void on_closed(struct link *link, void *data, enum status why)
{
    struct mr_channel *channel = data;
    (void)link;
    if (why == STATUS_PERMISSION)
        snprintf(channel->why_text, sizeof channel->why_text, "%s",
                 "a certificate was refused: this client's, or the broker's");
    lost(channel, why == STATUS_OK ? STATUS_UNAVAILABLE : why);
}

static const struct link_handler handler = {on_frame, on_closed};

static void connected(struct link *link, void *data)
{
    struct mr_channel *channel = data;
    Millrace__ClientHello hello = MILLRACE__CLIENT_HELLO__INIT;
    hello.protocol = NATIVE_PROTOCOL;
    hello.version = (char *)(uintptr_t)MILLRACE_VERSION;
    hello.name = (char *)(uintptr_t)CLIENT_NAME;
    if (channel->access_key_id != NULL) {
        clock_random(channel->nonce, sizeof channel->nonce);
        hello.access_key_id = (char *)(uintptr_t)channel->access_key_id;
        hello.region = (char *)(uintptr_t)channel->region;
        hello.nonce = (ProtobufCBinaryData){sizeof channel->nonce, channel->nonce};
    }
    channel->link = link;
    channel->state = CHANNEL_GREETING;
    link_frame_max(link, ANSWER_BYTES_MAX);
    if (channel->closing || link_send(link, MILLRACE__TYPE__TYPE_CLIENT_HELLO, &hello.base) != 0)
        link_close(link);
}

static void failed(void *data, enum status why)
{
    lost(data, why);
}

static void connect_next(struct mr_channel *channel)
{
    const char *host;
    uint16_t port;
    struct arena arena = {0};
    bool good = address_split(channel->brokers[channel->broker], &arena, &host, &port);
    ASSERT(good); /* checked when it was opened */
    channel->state = CHANNEL_CONNECTING;
    channel->why = STATUS_OK;
    channel->why_text[0] = '\0';
    link_connect(&channel->loop, host, port, channel->timeout_ms, channel->tls, &handler, channel,
                 connected, failed);
    arena_free(&arena);
}

/* ---- running ---- */

static void on_timer(uv_timer_t *timer)
{
    (void)timer; /* has made uv_run return */
}

static bool retry_due(const struct mr_channel *channel)
{
    return channel->state == CHANNEL_IDLE && uv_now(&channel->loop) >= channel->retry_at_ms;
}

/* turn: one turn of the loop, which may sleep until `until_ms`. */
static void turn(struct mr_channel *channel, uint64_t until_ms)
{
    uint64_t now = uv_now(&channel->loop);
    if (retry_due(channel))
        connect_next(channel);
    if (channel->state == CHANNEL_IDLE && channel->retry_at_ms < until_ms)
        until_ms = channel->retry_at_ms;
    if (until_ms > now) {
        uv_timer_start(&channel->timer, on_timer, until_ms - now, 0);
        uv_run(&channel->loop, UV_RUN_ONCE);
        uv_timer_stop(&channel->timer);
    } else {
        uv_run(&channel->loop, UV_RUN_NOWAIT);
    }
}

uint32_t mr_channel_run(struct mr_channel *channel, uint32_t timeout_ms)
{
    channel->called_back = 0;
    uv_update_time(&channel->loop);
    uint64_t until_ms = uv_now(&channel->loop) + timeout_ms;
    do {
        end_unsent(channel);
        turn(channel, channel->called_back > 0 ? 0 : until_ms);
    } while (channel->called_back == 0 && uv_now(&channel->loop) < until_ms);
    return channel->called_back;
}

/* ---- opening and closing ---- */

static bool take_brokers(struct mr_channel *channel, const char *list)
{
    const char *host;
    uint16_t port;
    while (*list != 0) {
        size_t length = strcspn(list, ",");
        const char *one = arena_text(&channel->arena, slice_make(list, length));
        if (channel->broker_count == MR_CHANNEL_BROKERS_MAX ||
            !address_split(one, &channel->arena, &host, &port))
            return false;
        channel->brokers[channel->broker_count++] = one;
        list += length + (list[length] == ',');
    }
    return channel->broker_count > 0;
}

static void slots_init(struct mr_channel *channel)
{
    channel->slots = calloc(SLOT_COUNT, sizeof *channel->slots);
    ASSERT(channel->slots != NULL);
    for (uint32_t i = 0; i < SLOT_COUNT; i++)
        channel->slots[i].next = i + 1;
    channel->unsent_first = channel->unsent_last = SLOT_COUNT;
}

/* Each broker once. */
static enum status connect_first(struct mr_channel *channel)
{
    for (size_t tried = 0; tried < channel->broker_count; tried++) {
        connect_next(channel);
        while (channel->state != CHANNEL_READY && channel->state != CHANNEL_IDLE)
            uv_run(&channel->loop, UV_RUN_ONCE);
        if (channel->state == CHANNEL_READY)
            return STATUS_OK;
    }
    return channel->why;
}

static void take_key(struct mr_channel *channel, const struct mr_channel_options *options)
{
    if (options->access_key_id == NULL || options->secret_access_key == NULL)
        return;
    const char *region = options->region != NULL ? options->region : REGION_DEFAULT;
    channel->access_key_id = arena_text(&channel->arena, slice_of(options->access_key_id));
    channel->region = arena_text(&channel->arena, slice_of(region));
    channel->secret = strdup(options->secret_access_key);
    ASSERT(channel->secret != NULL);
}

static enum status take_tls(struct mr_channel *channel, const struct mr_channel_options *options)
{
    struct tls_error error;
    if (options->certificate_file == NULL || options->key_file == NULL || options->ca_file == NULL)
        return STATUS_OK;
    struct tls_settings settings = {.use = TLS_MUTUAL,
                                    .certificate_file = options->certificate_file,
                                    .key_file = options->key_file,
                                    .ca_file = options->ca_file,
                                    .peer_role = TLS_ROLE_BROKER};
    enum status status = tls_context_open(&channel->tls, &channel->loop, &settings, &error);
    if (status != STATUS_OK)
        snprintf(channel->why_text, sizeof channel->why_text, "%s", error.text);
    return status;
}

static enum status take_options(struct mr_channel *channel,
                                const struct mr_channel_options *options)
{
    channel->timeout_ms = options->timeout_ms;
    take_key(channel, options);
    if (take_brokers(channel, options->brokers))
        return take_tls(channel, options);
    snprintf(channel->why_text, sizeof channel->why_text, "brokers are HOST:PORT,HOST:PORT");
    return STATUS_INVALID;
}

enum status mr_channel_open(struct mr_channel **out, const struct mr_channel_options *options,
                            char why[MR_WHY_BYTES])
{
    *out = NULL;
    struct mr_channel *channel = calloc(1, sizeof *channel);
    ASSERT(channel != NULL);
    int rc = uv_loop_init(&channel->loop);
    ASSERT(rc == 0);
    uv_timer_init(&channel->loop, &channel->timer);
    slots_init(channel);
    enum status status = take_options(channel, options);
    if (status == STATUS_OK)
        status = connect_first(channel);
    if (status != STATUS_OK) {
        if (why != NULL)
            memcpy(why, channel->why_text, MR_WHY_BYTES);
        mr_channel_close(channel);
    } else {
        *out = channel;
    }
    return status;
}

void mr_channel_close(struct mr_channel *channel)
{
    if (channel == NULL)
        return;
    channel->closing = true;
    if (channel->link != NULL)
        link_close(channel->link);
    uv_close((uv_handle_t *)&channel->timer, NULL);
    if (channel->tls != NULL)
        tls_context_close(channel->tls, NULL, NULL);
    uv_run(&channel->loop, UV_RUN_DEFAULT);
    end_all_sent(channel);
    end_unsent(channel);
    int rc = uv_loop_close(&channel->loop);
    ASSERT(rc == 0);
    if (channel->secret != NULL)
        hash_wipe(channel->secret, strlen(channel->secret));
    free(channel->secret);
    free(channel->slots);
    arena_free(&channel->arena);
    free(channel);
}

int mr_channel_fd(const struct mr_channel *channel)
{
    return uv_backend_fd(&channel->loop);
}

uint32_t mr_channel_calls(const struct mr_channel *channel)
{
    return channel->call_count;
}

bool mr_channel_connected(const struct mr_channel *channel)
{
    return channel->state == CHANNEL_READY;
}

const char *mr_channel_why(const struct mr_channel *channel)
{
    return channel->why_text;
}

const char *mr_channel_broker(const struct mr_channel *channel)
{
    return channel->brokers[channel->broker];
}
