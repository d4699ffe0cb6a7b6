/* SPDX-License-Identifier: Apache-2.0 */
/* Greetings: what decodes encodes to the same bytes again (but for what a later version added), and
 * judging it has the same answer from both sides. */
#include "broker/peer/handshake.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct hello *hello, struct slice in)
{
    struct buffer out = {0};
    struct hello copy;
    hello_encode(&out, hello);
    ASSERT(out.length <= HELLO_BYTES_MAX);
    bool more = hello->version.length > 0 || hello->feature_level_now > 0; /* it may be missing */
    size_t told = more ? out.length : out.length - 6;
    ASSERT(told <= in.length);
    ASSERT(memcmp(out.data, in.data, told) == 0);
    ASSERT(hello_decode(buffer_slice(&out), &copy));
    buffer_free(&out);
}

static void judge(const struct hello *theirs)
{
    struct hello own = {.version_min = 1,
                        .version_max = 3,
                        .feature_level = 2,
                        .feature_level_min = 1,
                        .cluster_id = {1},
                        .node_id = theirs->to_node_id,
                        .to_node_id = theirs->node_id};
    enum refusal here = hello_judge(&own, theirs, 0);
    enum refusal there = hello_judge(theirs, &own, own.node_id);
    ASSERT(here == there);
    if (here == REFUSAL_NONE) {
        uint16_t version = hello_version(&own, theirs);
        ASSERT(version == hello_version(theirs, &own));
        ASSERT(version >= 1 && version <= 3);
    }
    ASSERT(refusal_text(here) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_make(data, size);
    struct hello hello;
    if (hello_decode(in, &hello)) {
        again(&hello, in);
        judge(&hello);
    }
    struct refused refused;
    if (refused_decode(in, &refused)) {
        ASSERT(refusal_name(refused.why) != NULL);
        ASSERT(refusal_text(refused.why) != NULL);
    }
    return 0;
}
