/* SPDX-License-Identifier: Apache-2.0 */
/* A line: the connection of a channel to one of its brokers.
 *
 *     idle ──> connecting ──> greeting ──Welcome──> ready ──link ends──> idle
 *                  │             └─Challenge: Proof─┘ only with a key
 *                  └── failed, refused ──> idle
 */
#include "client/channel_internal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/options.h"
#include "proto/sqs/native.h"

#include <stdio.h>
#include <string.h>

#define CLIENT_NAME      "libmillrace"
#define ANSWER_BYTES_MAX FRAME_BYTES_MAX

static void lost(struct line *line, enum status why)
{
    line->link = NULL;
    line->node_id = 0;
    line->served = line->state == LINE_READY;
    line->state = LINE_IDLE;
    if (line->why == STATUS_OK) /* else the broker has said why */
        line->why = why;
    if (line->why_text[0] == '\0')
        snprintf(line->why_text, sizeof line->why_text, "%s", status_text(why));
    channel_line_lost(line);
}

static void on_refused(struct line *line, struct slice payload)
{
    Millrace__Refused *refused = millrace__refused__unpack(NULL, payload.length, payload.data);
    if (refused != NULL) {
        bool by_key = refused->code[0] != '\0';
        if (by_key)
            line->why = STATUS_PERMISSION;
        snprintf(line->why_text, sizeof line->why_text, "%s%s%s", refused->code, by_key ? ": " : "",
                 refused->reason);
        millrace__refused__free_unpacked(refused, NULL);
    }
    link_close(line->link);
}

/* Show that we have the key, without showing it. */
static void on_challenge(struct line *line, struct slice payload)
{
    const struct mr_channel *channel = line->channel;
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
        memcpy(terms.client_nonce, line->nonce, PROOF_NONCE_BYTES);
        good = proof_terms_valid(&terms);
    }
    if (good) {
        proof_make(slice_of(channel->secret), &terms, bytes);
        proof.proof = (ProtobufCBinaryData){PROOF_BYTES, bytes};
        good = link_send(line->link, MILLRACE__TYPE__TYPE_CLIENT_PROOF, &proof.base) == STATUS_OK;
    }
    if (!good)
        link_close(line->link);
    if (challenge != NULL)
        millrace__client_challenge__free_unpacked(challenge, NULL);
}

static void on_welcome(struct line *line, struct slice payload)
{
    Millrace__ClientWelcome *welcome =
        millrace__client_welcome__unpack(NULL, payload.length, payload.data);
    if (welcome == NULL) {
        link_close(line->link);
        return;
    }
    line->state = LINE_READY;
    line->node_id = welcome->node_id;
    millrace__client_welcome__free_unpacked(welcome, NULL);
    again_send(line->channel); /* before all that will be called from now on */
}

static void on_frame(struct link *link, void *data, uint16_t type, struct slice payload)
{
    struct line *line = data;
    (void)link;
    if (line->state == LINE_READY && type == MILLRACE__TYPE__TYPE_ANSWER)
        channel_answer(line, payload);
    else if (line->state == LINE_GREETING && type == MILLRACE__TYPE__TYPE_CLIENT_WELCOME)
        on_welcome(line, payload);
    else if (line->state == LINE_GREETING && type == MILLRACE__TYPE__TYPE_CLIENT_CHALLENGE)
        on_challenge(line, payload);
    else if (type == MILLRACE__TYPE__TYPE_REFUSED)
        on_refused(line, payload);
}

static void on_closed(struct link *link, void *data, enum status why)
{
    struct line *line = data;
    (void)link;
    if (why == STATUS_PERMISSION)
        snprintf(line->why_text, sizeof line->why_text, "%s",
                 "a certificate was refused: this client's, or the broker's");
    lost(line, why == STATUS_OK ? STATUS_UNAVAILABLE : why);
}

static const struct link_handler handler = {on_frame, on_closed};

static void connected(struct link *link, void *data)
{
    struct line *line = data;
    const struct mr_channel *channel = line->channel;
    Millrace__ClientHello hello = MILLRACE__CLIENT_HELLO__INIT;
    hello.protocol = NATIVE_PROTOCOL;
    hello.version = (char *)(uintptr_t)MILLRACE_VERSION;
    hello.name = (char *)(uintptr_t)CLIENT_NAME;
    if (channel->access_key_id != NULL) {
        clock_random(line->nonce, sizeof line->nonce);
        hello.access_key_id = (char *)(uintptr_t)channel->access_key_id;
        hello.region = (char *)(uintptr_t)channel->region;
        hello.nonce = (ProtobufCBinaryData){sizeof line->nonce, line->nonce};
    }
    line->link = link;
    line->state = LINE_GREETING;
    link_frame_max(link, ANSWER_BYTES_MAX);
    if (channel->closing || link_send(link, MILLRACE__TYPE__TYPE_CLIENT_HELLO, &hello.base) != 0)
        link_close(link);
}

static void failed(void *data, enum status why)
{
    lost(data, why);
}

void line_connect(struct line *line)
{
    const char *host;
    uint16_t port;
    struct arena arena = {0};
    struct mr_channel *channel = line->channel;
    bool good = address_split(line->broker, &arena, &host, &port);
    ASSERT(good); /* checked when it was opened */
    line->state = LINE_CONNECTING;
    line->why = STATUS_OK;
    line->why_text[0] = '\0';
    link_connect(&channel->loop, host, port, channel->timeout_ms, channel->tls, &handler, line,
                 connected, failed);
    arena_free(&arena);
}
