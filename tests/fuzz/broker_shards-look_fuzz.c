/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a look that another node takes at our queues, and as what one tells of its
 * own: a question that is read is written the same again; an answer is no longer than its bytes
 * allow, and one that goes on has moved on. */
#include "broker/shards/look_message.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct buffer again = {0};
    struct look_question question;
    struct look_answer answer;
    if (look_question_decode(slice_make(data, size), &arena, &question)) {
        look_question_encode(&again, &question);
        ASSERT(slice_equal(buffer_slice(&again), slice_make(data, size)));
    }
    if (look_answer_decode(slice_make(data, size), &arena, &answer)) {
        ASSERT(answer.run_count <= answer.count && answer.count <= size);
        ASSERT(!answer.goes_on || answer.run_count > 0);
    }
    buffer_free(&again);
    arena_free(&arena);
    return 0;
}
