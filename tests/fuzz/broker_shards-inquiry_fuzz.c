/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes ask each other about shards, and the lists in the catalog: what decodes encodes to
 * bytes that decode to the same. */
#include "broker/shards/inquiry.h"
#include "broker/shards/placement.h"
#include "proto/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inquiry_again(const struct inquiry *inquiry)
{
    struct buffer out = {0};
    struct buffer twice = {0};
    struct inquiry copy;
    inquiry_encode(&out, inquiry);
    ASSERT(inquiry_decode(buffer_slice(&out), &copy) == STATUS_OK);
    inquiry_encode(&twice, &copy);
    ASSERT(slice_equal(buffer_slice(&out), buffer_slice(&twice)));
    buffer_free(&out);
    buffer_free(&twice);
}

static void list_again(const struct replica_list *list)
{
    struct buffer out = {0};
    struct replica_list copy;
    replicas_print(&out, list);
    ASSERT(replicas_parse(buffer_slice(&out), &copy));
    ASSERT(copy.count == list->count);
    for (size_t i = 0; i < copy.count; i++)
        ASSERT(copy.at[i].node_id == list->at[i].node_id &&
               copy.at[i].leaving == list->at[i].leaving);
    buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct inquiry inquiry;
    struct replica_list list;
    if (inquiry_decode(slice_make(data, size), &inquiry) == STATUS_OK)
        inquiry_again(&inquiry);
    if (replicas_parse(slice_make(data, size), &list))
        list_again(&list);
    return 0;
}
