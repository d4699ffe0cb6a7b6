/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a Raft entry: refused, or applied with every invariant kept. What decodes encodes to
 * the same bytes again. A queue and a function exist beforehand, so that commands find something.
 */
#include "broker/core/core.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct core *prepared(void)
{
    struct core *core = core_new(NULL);
    struct buffer entry = {0};
    struct command create = {.type = COMMAND_QUEUE_CREATE};
    create.queue_create.name = SLICE_LITERAL("q");
    create.queue_create.settings = (struct queue_settings){
        .message_bytes_max = 1024, .retention_s = 60, .visibility_s = 1, .receive_count_max = 1};
    struct command send = {.type = COMMAND_SEND, .send = {1, 0, SLICE_LITERAL("record")}};
    struct command blob = {.type = COMMAND_BLOB_PUT,
                           .blob_put = {{0}, 4, 0, SLICE_LITERAL("code")}};
    struct command put = {.type = COMMAND_FUNCTION_PUT};
    put.function_put.name = SLICE_LITERAL("f");
    struct command document = {.type = COMMAND_DOCUMENT_PUT};
    document.document_put.name = SLICE_LITERAL("d");
    entry_begin(&entry);
    command_encode(&entry, &create);
    command_encode(&entry, &send);
    command_encode(&entry, &blob);
    command_encode(&entry, &put);
    command_encode(&entry, &document);
    entry_finish(&entry, 5, 1000);
    ASSERT(core_apply_entry(core, 1, buffer_slice(&entry)) == STATUS_OK);
    buffer_free(&entry);
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
    if (core_apply_entry(core, 2, slice_make(data, size)) != STATUS_OK)
        ASSERT(core_digest(core) == digest);
    core_check(core);
    core_free(core);
    return 0;
}
