/* SPDX-License-Identifier: Apache-2.0 */
/* Batches. A malformed batch (empty, too many, bad or repeated ids) fails as a whole; otherwise
 * each entry is judged by itself, the good ones become the commands of one call (so one commit),
 * and the answer is 200 with two lists. */
#include "broker/api/sqs/batch.h"

#include "broker/api/sqs/queue_name.h"
#include "proto/base/assert.h"

_Static_assert(offsetof(struct sqs_send_entry, id) == 0, "batch_begin reads the id there");
_Static_assert(offsetof(struct sqs_delete_entry, id) == 0, "batch_begin reads the id there");
_Static_assert(offsetof(struct sqs_change_visibility_entry, id) == 0, "batch_begin reads the id");

static bool check_count(struct sqs_call *call, uint32_t count, const char *entry_name)
{
    if (count == 0)
        sqs_fail(call,
                 sqs_error_make(call, SQS_ERROR_EMPTY_BATCH,
                                "There should be at least one %s in the request.", entry_name));
    else if (count > SQS_BATCH_MAX)
        sqs_fail(call, sqs_error_make(call, SQS_ERROR_TOO_MANY_ENTRIES,
                                      "Maximum number of entries per request are 10. You have sent "
                                      "%u.",
                                      count));
    return count > 0 && count <= SQS_BATCH_MAX;
}

static bool check_ids(struct sqs_call *call, const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        struct slice id = batch->entries[i].id;
        if (!sqs_name_valid(id)) {
            sqs_fail(call, (struct sqs_error){SQS_ERROR_INVALID_BATCH_ID, NULL});
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (slice_equal(batch->entries[k].id, id)) {
                sqs_fail(call, sqs_error_make(call, SQS_ERROR_BATCH_IDS_NOT_DISTINCT,
                                              "Id %s repeated.", sqs_quote(call, id)));
                return false;
            }
        }
    }
    return true;
}

static struct batch_entry *entries_new(struct sqs_call *call, uint32_t count)
{
    return arena_alloc(&call->arena, count * sizeof(struct batch_entry));
}

bool batch_begin(struct sqs_call *call, const struct sqs_list *list, size_t entry_bytes,
                 const char *entry_name, struct batch *batch)
{
    if (!check_count(call, list->count, entry_name))
        return false;
    *batch = (struct batch){.entries = entries_new(call, list->count), .count = list->count};
    for (uint32_t i = 0; i < list->count; i++) {
        const char *entry = (const char *)list->items + i * entry_bytes;
        batch->entries[i].id = *(const struct slice *)(const void *)entry;
    }
    return check_ids(call, batch);
}

void batch_single(struct sqs_call *call, struct batch *batch)
{
    *batch = (struct batch){.entries = entries_new(call, 1), .count = 1, .single = true};
}

static void claim_next(const struct sqs_call *call, struct batch *batch, uint32_t i)
{
    ASSERT(i < batch->count);
    ASSERT(batch->entries[i].error.code == SQS_OK);
    batch->entries[i].command = call->proposal.count;
}

void batch_add_send(struct sqs_call *call, struct batch *batch, uint32_t i,
                    const struct command *send, struct record *record)
{
    claim_next(call, batch, i);
    shard_call_send(&call->proposal, send, record);
}

void batch_add_command(struct sqs_call *call, struct batch *batch, uint32_t i,
                       const struct command *command)
{
    claim_next(call, batch, i);
    shard_call_add(&call->proposal, command);
}

void batch_failed(struct sqs_call *call, const struct batch *batch, struct sqs_list *out)
{
    struct sqs_failed_entry *items = arena_alloc(&call->arena, batch->count * sizeof *items);
    *out = (struct sqs_list){items, 0, true};
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct batch_entry *entry = &batch->entries[i];
        if (entry->error.code == SQS_OK)
            continue;
        items[out->count++] = (struct sqs_failed_entry){
            .id = entry->id,
            .sender_fault = sqs_errors[entry->error.code].sender_fault,
            .code = slice_of(sqs_error_short_code(entry->error.code)),
            .message = slice_of(sqs_error_text(call->protocol, &entry->error)),
        };
    }
}
