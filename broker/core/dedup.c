/* SPDX-License-Identifier: Apache-2.0 */
/* What FIFO queues remember of the last five minutes' sends, so that one sent again is not stored
 * again. It has nothing to do with the messages themselves: they may be received, deleted, purged
 * or expired long before.
 *
 * A key is one byte of scope and the dedup id; where dedup ids belong to their message group, the
 * scope is 1 more than the length of the group id, which stands in between. So no two pairs of ids
 * have one key, and keys of both scopes can stand side by side after a change of the setting.
 *
 * Entries come in order of time and leave from the front. They are swept some seconds after their
 * time, many at once; until then they count as gone. */
#include "broker/core/limits.h"
#include "broker/core/record.h"
#include "broker/core/state.h"

#include <stdlib.h>

#define KEY_BYTES_MAX (1 + 2 * RECORD_ID_BYTES_MAX)

static struct slice key_of(const struct queue *queue, const struct record_ids *ids,
                           uint8_t bytes[KEY_BYTES_MAX])
{
    size_t length = 1;
    bytes[0] = 0;
    if (queue->view.settings.dedup_per_group) {
        bytes[0] = (uint8_t)(1 + ids->group_id.length);
        memcpy(bytes + length, ids->group_id.data, ids->group_id.length);
        length += ids->group_id.length;
    }
    memcpy(bytes + length, ids->dedup_id.data, ids->dedup_id.length);
    return slice_make(bytes, length + ids->dedup_id.length);
}

static struct dedup *by_key(const struct queue *queue, struct slice key)
{
    struct dedup *dedup;
    HASH_FIND(hh, queue->dedups, key.data, key.length, dedup);
    return dedup;
}

static bool is_past(const struct core *core, const struct dedup *dedup)
{
    return dedup->sent_ms + DEDUP_WINDOW_MS <= core->now_ms;
}

struct dedup *dedup_find(const struct core *core, const struct queue *queue,
                         const struct record_ids *ids)
{
    uint8_t bytes[KEY_BYTES_MAX];
    struct dedup *dedup = by_key(queue, key_of(queue, ids, bytes));
    return dedup != NULL && !is_past(core, dedup) ? dedup : NULL;
}

bool dedup_put(struct queue *queue, struct slice key, const struct dedup *what)
{
    if (by_key(queue, key) != NULL)
        return false;
    struct dedup *dedup = malloc(sizeof *dedup + key.length);
    ASSERT(dedup != NULL);
    *dedup = *what;
    uint8_t *bytes = (uint8_t *)(dedup + 1);
    memcpy(bytes, key.data, key.length);
    dedup->key = slice_make(bytes, key.length);
    HASH_ADD_KEYPTR(hh, queue->dedups, bytes, key.length, dedup);
    return true;
}

void dedup_drop(struct queue *queue, struct dedup *dedup)
{
    HASH_DELETE(hh, queue->dedups, dedup);
    free(dedup);
}

void dedup_add(struct core *core, struct queue *queue, const struct record_ids *ids, uint64_t seq)
{
    uint8_t bytes[KEY_BYTES_MAX];
    struct slice key = key_of(queue, ids, bytes);
    struct dedup what = {.seq = seq, .sent_ms = core->now_ms};
    struct dedup *past = by_key(queue, key);
    if (past != NULL)
        dedup_drop(queue, past);
    memcpy(what.message_id, ids->message_id, UUID_BYTES);
    dedup_put(queue, key, &what);
    queue_chores_follow(core, queue);
}

void dedup_sweep(struct core *core, struct queue *queue)
{
    while (queue->dedups != NULL && is_past(core, queue->dedups))
        dedup_drop(queue, queue->dedups);
}

uint64_t dedup_due_ms(const struct queue *queue)
{
    return queue->dedups != NULL ? queue->dedups->sent_ms + DEDUP_WINDOW_MS + DEDUP_SLACK_MS
                                 : UINT64_MAX;
}
