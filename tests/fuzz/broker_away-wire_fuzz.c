/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a message between brokers about shards that are elsewhere: what decodes, and
 * is of a version and kind that we know, encodes to the same head again. */
#include "broker/away/away.h"
#include "broker/away/wire.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct away_message message;
    uint8_t head[AWAY_HEAD_BYTES];
    if (away_decode(slice_make(data, size), &message) != STATUS_OK)
        return 0;
    ASSERT(message.kind < AWAY_KIND_COUNT);
    ASSERT(message.body.length == 0 || message.body.length == size - AWAY_HEAD_BYTES);
    away_encode(head, &message);
    bool same = data[0] == 1 && (message.type != AWAY_ASK || message.kind == data[2]) &&
                (message.type != AWAY_ANSWER || message.status == data[2]);
    ASSERT(!same || memcmp(head, data, sizeof head) == 0);
    return 0;
}
