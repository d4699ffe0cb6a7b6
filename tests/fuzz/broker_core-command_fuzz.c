/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a Raft entry: refused, or applied with every invariant kept. What decodes encodes to
 * the same bytes again. A queue and a function exist beforehand, so that commands find something;
 * the core is shard 1 of 4, and one message waits for shard 2 ("orders" is there). */
#include "broker/core/core.h"
#include "broker/core/place.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void apply(struct core *core, uint64_t index, const struct command *commands, uint32_t count)
{
    struct buffer entry = {0};
    entry_begin(&entry);
    for (uint32_t i = 0; i < count; i++)
        command_encode(&entry, &commands[i]);
    entry_finish(&entry, count, 1000 * index);
    ASSERT(core_apply_entry(core, index, buffer_slice(&entry)) == STATUS_OK);
    buffer_free(&entry);
}

static struct core *prepared(void)
{
    struct core *core = core_new(NULL);
    uint64_t queue_id = queue_id_make(1, 1);
    struct command receive = {.type = COMMAND_RECEIVE, .receive = {queue_id, 1, 1, 0, {0}}};
    struct command send = {.type = COMMAND_SEND, .send = {queue_id, 0, SLICE_LITERAL("record")}};
    struct command first[] = {
        {.type = COMMAND_PLACE, .place = {1, 4}},
        {.type = COMMAND_QUEUE_CREATE,
         .queue_create = {.name = SLICE_LITERAL("q"),
                          .settings = {.message_bytes_max = 1024,
                                       .retention_s = 60,
                                       .visibility_s = 1,
                                       .receive_count_max = 1,
                                       .dead_letter = SLICE_LITERAL("orders")}}},
        send,
        receive,
        {.type = COMMAND_BLOB_PUT, .blob_put = {{0}, 4, 0, SLICE_LITERAL("code")}},
        {.type = COMMAND_FUNCTION_PUT, .function_put = {.name = SLICE_LITERAL("f")}},
        {.type = COMMAND_DOCUMENT_PUT, .document_put = {.name = SLICE_LITERAL("d")}}};
    struct command then[] = {receive, send};
    apply(core, 1, first, ARRAY_COUNT(first));
    apply(core, 2, then, ARRAY_COUNT(then));
    ASSERT(core_outbox_count(core, 2) == 1);
    return core;
}

static void check_codec(struct slice bytes)
{
    struct cursor in = cursor_of(bytes);
    struct command command;
    while (cursor_left(&in) > 0) {
        const uint8_t *at = in.at;
        if (command_decode(&in, &command) != STATUS_OK)
            return;
        struct buffer again = {0};
        command_encode(&again, &command);
        ASSERT(slice_equal(buffer_slice(&again), slice_make(at, (size_t)(in.at - at))));
        buffer_free(&again);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct core *core = prepared();
    uint64_t digest = core_digest(core);
    if (size >= ENTRY_HEADER_BYTES)
        check_codec(slice_make(data + ENTRY_HEADER_BYTES, size - ENTRY_HEADER_BYTES));
    if (core_apply_entry(core, 3, slice_make(data, size)) != STATUS_OK)
        ASSERT(core_digest(core) == digest);
    core_check(core);
    core_free(core);
    return 0;
}
