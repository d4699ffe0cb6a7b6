/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/away/wire.h"

#include "broker/away/away.h"
#include "proto/base/bytes.h"

#define VERSION 1u

void away_encode(uint8_t *out, const struct away_message *message)
{
    memset(out, 0, AWAY_HEAD_BYTES);
    out[0] = VERSION;
    out[1] = (uint8_t)message->type;
    if (message->type == AWAY_ASK)
        out[2] = message->kind;
    else if (message->type == AWAY_ANSWER)
        out[2] = (uint8_t)message->status;
    bytes_put_u32(out + 4, message->shard);
    bytes_put_u64(out + 8, message->number);
    bytes_put_u32(out + 16, message->rest_ms);
}

static enum status known_status(uint8_t status)
{
    switch (status) {
    case STATUS_OK:
    case STATUS_NOT_LEADER:
    case STATUS_BUSY:
    case STATUS_CANCELLED:
        return (enum status)status;
    default:
        return STATUS_CLOSED;
    }
}

/* What must be as it is in the version that we know. */
static bool sound(const uint8_t *in, const struct away_message *message)
{
    bool asks = message->type == AWAY_ASK;
    bool plain = in[3] == 0 && bytes_get_u32(in + 20) == 0;
    bool own = asks || (message->shard == 0 && message->rest_ms == 0);
    bool bare = asks || (message->type == AWAY_ANSWER && message->status == STATUS_OK) ||
                message->body.length == 0;
    return plain && own && bare && (message->type != AWAY_CANCEL || in[2] == 0);
}

enum status away_decode(struct slice message, struct away_message *out)
{
    const uint8_t *in = message.data;
    *out = (struct away_message){0};
    if (message.length < AWAY_HEAD_BYTES)
        return STATUS_INVALID;
    out->type = (enum away_message_type)in[1];
    out->number = bytes_get_u64(in + 8);
    if (out->type < AWAY_ASK || out->type > AWAY_ANSWER)
        return STATUS_INVALID;
    if (in[0] != VERSION) {
        out->status = STATUS_CLOSED;
        return STATUS_OK;
    }
    out->shard = bytes_get_u32(in + 4);
    out->rest_ms = bytes_get_u32(in + 16);
    out->body = slice_sub(message, AWAY_HEAD_BYTES);
    if (out->type == AWAY_ASK && in[2] < AWAY_KIND_COUNT)
        out->kind = in[2];
    if (out->type == AWAY_ANSWER)
        out->status = known_status(in[2]);
    return sound(in, out) ? STATUS_OK : STATUS_INVALID;
}
