/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/inquiry.h"

#include "proto/base/bytes.h"

#define VERSION   1u
#define CONNECTED 1u

static void encode_state(struct buffer *out, const struct shard_state *state)
{
    buffer_add_u64(out, state->leader);
    buffer_add_u64(out, state->last_index);
    buffer_add_u32(out, (uint32_t)state->count);
    for (size_t i = 0; i < state->count; i++) {
        const struct shard_state_member *member = &state->members[i];
        buffer_add_u64(out, member->node_id);
        buffer_add_byte(out, (uint8_t)member->role);
        buffer_add_byte(out, member->connected ? CONNECTED : 0);
        buffer_add_u16(out, 0);
        buffer_add_u64(out, member->lag);
    }
}

void inquiry_encode(struct buffer *out, const struct inquiry *inquiry)
{
    buffer_add_byte(out, (uint8_t)inquiry->kind);
    buffer_add_byte(out, VERSION);
    buffer_add_u16(out, inquiry->shard);
    buffer_add_u64(out, inquiry->number);
    buffer_add_u64(out, inquiry->list);
    if (inquiry->kind == INQUIRY_STATE)
        encode_state(out, &inquiry->state);
    else if (inquiry->kind == INQUIRY_MEMBER || inquiry->kind == INQUIRY_OPEN)
        buffer_add_byte(out, (uint8_t)inquiry->word);
}

static bool decode_state(struct cursor *in, struct shard_state *out)
{
    out->leader = cursor_u64(in);
    out->last_index = cursor_u64(in);
    uint32_t count = cursor_u32(in);
    if (count > SHARD_MEMBERS_MAX)
        return false;
    for (; out->count < count && !in->bad; out->count++) {
        struct shard_state_member *member = &out->members[out->count];
        member->node_id = cursor_u64(in);
        unsigned role = cursor_u8(in);
        member->role = (enum shard_role)role;
        member->connected = (cursor_u8(in) & CONNECTED) != 0;
        (void)cursor_u16(in);
        member->lag = cursor_u64(in);
        if (role > SHARD_SPARE)
            return false;
    }
    return true;
}

enum status inquiry_decode(struct slice message, struct inquiry *out)
{
    struct cursor in = cursor_of(message);
    bool good = true;
    *out = (struct inquiry){0};
    unsigned kind = cursor_u8(&in);
    unsigned version = cursor_u8(&in);
    out->kind = (enum inquiry_kind)kind;
    out->shard = cursor_u16(&in);
    out->number = cursor_u64(&in);
    out->list = cursor_u64(&in);
    if (in.bad)
        return STATUS_INVALID;
    if (version != VERSION || kind < INQUIRY_ASK_STATE || kind >= INQUIRY_KIND_COUNT)
        return STATUS_UNSUPPORTED;
    if (kind == INQUIRY_STATE)
        good = decode_state(&in, &out->state);
    else if (kind == INQUIRY_MEMBER || kind == INQUIRY_OPEN)
        out->word = (enum inquiry_word)cursor_u8(&in);
    good = good && (unsigned)out->word < INQUIRY_WORD_COUNT;
    return good && !in.bad && cursor_left(&in) == 0 ? STATUS_OK : STATUS_INVALID;
}
