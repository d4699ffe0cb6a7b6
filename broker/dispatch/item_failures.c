/* SPDX-License-Identifier: Apache-2.0 */
/* Partial batch responses, by Lambda's rules ("Implementing partial batch responses"):
 *
 *     answer                                             meaning
 *     nothing, null, {}, no or null batchItemFailures,
 *       an empty batchItemFailures                       all succeeded
 *     {"batchItemFailures":[{"itemIdentifier":ID},...]}  those failed
 *     no JSON, another type, an item without
 *       itemIdentifier, an empty or unknown ID           the whole batch failed
 *
 * When in doubt the batch fails: running a message twice is allowed, losing one is not.
 */
#include "broker/dispatch/item_failures.h"

#include <jansson.h>
#include <stdlib.h>

struct item_id {
    uint8_t id[UUID_BYTES];
    uint32_t position;
};

static int item_id_compare(const void *a, const void *b)
{
    return memcmp(a, b, UUID_BYTES);
}

/* A batch may have 10,000 messages and the answer may name them all, so look ids up by bisection.
 */
static struct item_id *item_ids_sorted(const uint8_t (*ids)[UUID_BYTES], uint32_t count)
{
    struct item_id *sorted = calloc(count > 0 ? count : 1, sizeof *sorted);
    if (sorted == NULL)
        abort();
    for (uint32_t i = 0; i < count; i++) {
        memcpy(sorted[i].id, ids[i], UUID_BYTES);
        sorted[i].position = i;
    }
    qsort(sorted, count, sizeof *sorted, item_id_compare);
    return sorted;
}

static bool item_mark(const json_t *item, const struct item_id *sorted, uint32_t count,
                      bool *failed)
{
    const json_t *identifier = json_object_get(item, "itemIdentifier");
    struct item_id wanted;
    if (!json_is_string(identifier) ||
        !uuid_parse(slice_make(json_string_value(identifier), json_string_length(identifier)),
                    wanted.id))
        return false;
    const struct item_id *found = bsearch(&wanted, sorted, count, sizeof *sorted, item_id_compare);
    if (found != NULL)
        failed[found->position] = true;
    return found != NULL;
}

static bool item_failures_mark(const json_t *list, const uint8_t (*ids)[UUID_BYTES], uint32_t count,
                               bool *failed)
{
    if (list == NULL || json_is_null(list))
        return true;
    if (!json_is_array(list))
        return false;
    struct item_id *sorted = item_ids_sorted(ids, count);
    bool good = true;
    for (size_t i = 0; i < json_array_size(list) && good; i++)
        good = item_mark(json_array_get(list, i), sorted, count, failed);
    free(sorted);
    return good;
}

bool item_failures_read(struct slice answer, const uint8_t (*ids)[UUID_BYTES], uint32_t count,
                        bool *failed)
{
    memset(failed, 0, count * sizeof *failed);
    if (answer.length == 0)
        return true;
    json_t *root = json_loadb((const char *)answer.data, answer.length, JSON_DECODE_ANY, NULL);
    bool good = false;
    if (json_is_null(root))
        good = true;
    else if (json_is_object(root))
        good = item_failures_mark(json_object_get(root, "batchItemFailures"), ids, count, failed);
    json_decref(root);
    if (!good)
        memset(failed, true, count * sizeof *failed);
    return good;
}
