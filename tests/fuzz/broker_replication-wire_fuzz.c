/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a message between the replicas of a shard: what decodes encodes to the same
 * bytes again, header and items; and entries that check out are exactly as long as they say. Then
 * the bytes as entries of an append with every checksum right, which must check out, and not any
 * more when one bit is another. */
#include "broker/replication/wire.h"
#include "proto/base/assert.h"
#include "proto/base/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_calls(const struct wire *wire)
{
    struct cursor in = cursor_of(wire->items);
    struct wire_call call;
    struct buffer again = {0};
    for (uint32_t i = 0; i < wire->count && wire_call_decode(&in, &call); i++) {
        ASSERT(call.seq > 0);
        wire_call_encode(&again, &call);
    }
    ASSERT(again.length <= wire->items.length);
    ASSERT(again.length == 0 || memcmp(again.data, wire->items.data, again.length) == 0);
    buffer_free(&again);
}

static void check_verdicts(const struct wire *wire)
{
    struct cursor in = cursor_of(wire->items);
    struct wire_verdict verdict;
    struct buffer again = {0};
    for (uint32_t i = 0; i < wire->count && wire_verdict_decode(&in, &verdict); i++)
        wire_verdict_encode(&again, &verdict);
    ASSERT(again.length <= wire->items.length);
    ASSERT(again.length == 0 || memcmp(again.data, wire->items.data, again.length) == 0);
    buffer_free(&again);
}

static void check_entries(const struct wire *wire)
{
    struct cursor heads = cursor_of(wire->items);
    size_t bytes = 0;
    if (!wire_entries_check(wire))
        return;
    for (uint32_t i = 0; i < wire->count; i++) {
        struct wire_entry entry;
        wire_entry_decode(&heads, &entry);
        ASSERT(!heads.bad && entry.term > 0 && entry.term <= wire->term);
        bytes += WIRE_ENTRY_BYTES + entry.length;
    }
    ASSERT(bytes == wire->items.length);
}

static void check_message(struct slice message)
{
    struct wire wire;
    struct buffer again = {0};
    if (wire_decode(message, &wire) != STATUS_OK)
        return;
    ASSERT(wire.items.length == message.length - WIRE_HEADER_BYTES);
    wire_encode(&again, &wire);
    ASSERT(again.length == WIRE_HEADER_BYTES &&
           memcmp(again.data, message.data, WIRE_HEADER_BYTES) == 0);
    buffer_free(&again);
    check_calls(&wire);
    check_verdicts(&wire);
    check_entries(&wire);
}

/* check_append: payloads as the input cuts them: a byte of length each. */
static void check_append(struct slice input)
{
    struct cursor in = cursor_of(input);
    struct wire wire = {.type = WIRE_APPEND, .term = 7};
    struct buffer heads = {0};
    struct buffer payloads = {0};
    unsigned flip = cursor_u16(&in);
    while (cursor_left(&in) > 0 && wire.count < 64) {
        struct slice payload = cursor_take(&in, cursor_u8(&in));
        if (in.bad)
            break;
        struct wire_entry entry = {7, (uint32_t)payload.length, crc32c(0, payload), 1};
        wire_entry_encode(&heads, &entry);
        buffer_add_slice(&payloads, payload);
        wire.count++;
    }
    buffer_add_slice(&heads, buffer_slice(&payloads));
    wire.items = buffer_slice(&heads);
    ASSERT(wire_entries_check(&wire));
    if (payloads.length > 0) {
        heads.data[heads.length - 1 - flip % payloads.length] ^= (uint8_t)(1u << flip % 8);
        ASSERT(!wire_entries_check(&wire));
    }
    buffer_free(&heads);
    buffer_free(&payloads);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_message(slice_make(data, size));
    check_append(slice_make(data, size));
    return 0;
}
