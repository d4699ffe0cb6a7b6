/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/replication/wire.h"

#include "proto/base/crc32c.h"

#define WIRE_VERSION 1u

void wire_encode(struct buffer *out, const struct wire *head)
{
    buffer_add_byte(out, (uint8_t)head->type);
    buffer_add_byte(out, WIRE_VERSION);
    buffer_add_u16(out, head->flags);
    buffer_add_u32(out, head->count);
    buffer_add_u64(out, head->term);
    buffer_add_u64(out, head->a);
    buffer_add_u64(out, head->b);
    buffer_add_u64(out, head->c);
    buffer_add_u64(out, head->d);
}

void wire_set_count(struct buffer *out, size_t at, uint32_t count)
{
    bytes_put_u32(out->data + at + 4, count);
}

enum status wire_decode(struct slice message, struct wire *out)
{
    struct cursor in = cursor_of(message);
    unsigned type = cursor_u8(&in);
    unsigned version = cursor_u8(&in);
    *out = (struct wire){.type = (enum wire_type)type};
    out->flags = cursor_u16(&in);
    out->count = cursor_u32(&in);
    out->term = cursor_u64(&in);
    out->a = cursor_u64(&in);
    out->b = cursor_u64(&in);
    out->c = cursor_u64(&in);
    out->d = cursor_u64(&in);
    out->items = slice_make(in.at, cursor_left(&in));
    if (in.bad)
        return STATUS_INVALID;
    bool known = version == WIRE_VERSION && type >= WIRE_APPEND && type < WIRE_TYPE_COUNT;
    return known ? STATUS_OK : STATUS_UNSUPPORTED;
}

void wire_entry_encode(struct buffer *out, const struct wire_entry *entry)
{
    buffer_add_u64(out, entry->term);
    buffer_add_u32(out, entry->length);
    buffer_add_u32(out, entry->crc32c);
    buffer_add_u16(out, entry->type);
    buffer_add_u16(out, 0);
}

void wire_entry_decode(struct cursor *in, struct wire_entry *out)
{
    out->term = cursor_u64(in);
    out->length = cursor_u32(in);
    out->crc32c = cursor_u32(in);
    out->type = cursor_u16(in);
    (void)cursor_u16(in);
}

bool wire_entries_check(const struct wire *head)
{
    struct cursor in = cursor_of(head->items);
    if (head->count > cursor_left(&in) / WIRE_ENTRY_BYTES)
        return false;
    struct cursor payloads = in;
    (void)cursor_take(&payloads, (size_t)head->count * WIRE_ENTRY_BYTES);
    for (uint32_t i = 0; i < head->count; i++) {
        struct wire_entry entry;
        wire_entry_decode(&in, &entry);
        struct slice payload = cursor_take(&payloads, entry.length);
        if (payloads.bad || entry.term == 0 || entry.term > head->term || entry.type == 0 ||
            crc32c(0, payload) != entry.crc32c)
            return false;
    }
    return cursor_left(&payloads) == 0;
}

void wire_call_encode(struct buffer *out, const struct wire_call *call)
{
    buffer_add_u64(out, call->seq);
    buffer_add_u32(out, call->count);
    buffer_add_u32(out, call->flags);
    buffer_add_u32(out, (uint32_t)call->commands.length);
    buffer_add_slice(out, call->commands);
}

bool wire_call_decode(struct cursor *in, struct wire_call *out)
{
    out->seq = cursor_u64(in);
    out->count = cursor_u32(in);
    out->flags = cursor_u32(in);
    out->commands = cursor_bytes(in);
    return !in->bad && out->seq > 0;
}

void wire_verdict_encode(struct buffer *out, const struct wire_verdict *verdict)
{
    buffer_add_u64(out, verdict->seq);
    buffer_add_u32(out, verdict->status);
    buffer_add_u32(out, verdict->code);
}

bool wire_verdict_decode(struct cursor *in, struct wire_verdict *out)
{
    out->seq = cursor_u64(in);
    out->status = cursor_u32(in);
    out->code = cursor_u32(in);
    return !in->bad;
}
