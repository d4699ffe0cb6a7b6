/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a call that another node sends, and as the answer to one: what is read as a
 * call is read the same when it is written again. */
#include "broker/api/sqs/away_message.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_call(struct slice in)
{
    struct arena arena = {0};
    struct sqs_away_call call;
    struct sqs_away_call again;
    struct buffer once = {0};
    struct buffer twice = {0};
    if (sqs_away_call_decode(in, &arena, &call)) {
        sqs_away_call_encode(&once, &call);
        ASSERT(sqs_away_call_decode(buffer_slice(&once), &arena, &again));
        sqs_away_call_encode(&twice, &again);
        ASSERT(slice_equal(buffer_slice(&once), buffer_slice(&twice)));
    }
    buffer_free(&once);
    buffer_free(&twice);
    arena_free(&arena);
}

static void check_answer(struct slice in, enum sqs_action action)
{
    struct arena arena = {0};
    struct sqs_error error;
    void *result = arena_alloc(&arena, sqs_shapes[sqs_actions[action].result].bytes + 1);
    if (sqs_away_answer_decode(in, action, &arena, result, &error))
        ASSERT(error.code < SQS_ERROR_COUNT);
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_make(data, size);
    check_call(in);
    if (size > 0)
        check_answer(slice_sub(in, 1), (enum sqs_action)(data[0] % SQS_ACTION_COUNT));
    return 0;
}
