/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of functions that report partial failures: whatever they are, either all messages failed,
 * or the answer was understood. */
#include "broker/dispatch/item_failures.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t ids[3][UUID_BYTES] = {{1}, {2}, {3}};
    bool failed[3];
    if (!item_failures_read(slice_make(data, size), ids, 3, failed))
        ASSERT(failed[0] && failed[1] && failed[2]);
    return 0;
}
