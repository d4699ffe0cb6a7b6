/* SPDX-License-Identifier: Apache-2.0 */
/* The two things of the worker that read bytes: a launch order, and a Runtime API path. An order
 * that decodes must encode to the same bytes. */
#include "proto/base/assert.h"
#include "worker/runtime_api.h"
#include "worker/sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct sandbox_spec spec;
    struct slice id;
    (void)api_route_parse(SLICE_LITERAL("POST"), slice_make(data, size), &id);
    if (sandbox_spec_decode(slice_make(data, size), &arena, &spec) == STATUS_OK) {
        struct buffer again = {0};
        sandbox_spec_encode(&again, &spec);
        /* All but the flags that mean nothing. */
        ASSERT(again.length == size && memcmp(again.data + 4, data + 4, size - 4) == 0);
        buffer_free(&again);
    }
    arena_free(&arena);
    return 0;
}
