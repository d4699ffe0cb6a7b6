/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/placement.h"

#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LIST_PREFIX "cluster/replicas/"
#define COUNT_NAME  "cluster/replication"

/* ---- lists ---- */

const struct replica *replicas_find(const struct replica_list *list, uint64_t node_id)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->at[i].node_id == node_id)
            return &list->at[i];
    }
    return NULL;
}

void replicas_drop(struct replica_list *list, uint64_t node_id)
{
    const struct replica *one = replicas_find(list, node_id);
    if (one == NULL)
        return;
    size_t at = (size_t)(one - list->at);
    memmove(&list->at[at], &list->at[at + 1], (list->count - at - 1) * sizeof *one);
    list->count--;
}

static bool read_number(struct slice *rest, uint64_t *out)
{
    size_t length = 0;
    *out = 0;
    for (; length < rest->length && rest->data[length] >= '0' && rest->data[length] <= '9';
         length++)
        *out = *out * 10 + (uint64_t)(rest->data[length] - '0');
    *rest = slice_sub(*rest, length);
    return length > 0 && length <= 10 && *out > 0;
}

bool replicas_parse(struct slice text, struct replica_list *out)
{
    *out = (struct replica_list){0};
    while (text.length > 0) {
        struct replica one = {.leaving = text.data[0] == '-'};
        text = slice_sub(text, one.leaving ? 1 : 0);
        if (!read_number(&text, &one.node_id) || out->count == SHARD_MEMBERS_MAX ||
            replicas_find(out, one.node_id) != NULL)
            return false;
        out->at[out->count++] = one;
        if (text.length == 0)
            return true;
        if (text.data[0] != ' ')
            return false;
        text = slice_sub(text, 1);
    }
    return false; /* empty, or it ends with a blank */
}

void replicas_print(struct buffer *out, const struct replica_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        buffer_printf(out, "%s%s%" PRIu64, i > 0 ? " " : "", list->at[i].leaving ? "-" : "",
                      list->at[i].node_id);
}

/* ---- documents ---- */

bool replicas_get(const struct core *catalog, uint32_t shard, struct replica_list *out)
{
    struct document_view view;
    char name[sizeof LIST_PREFIX + 10];
    snprintf(name, sizeof name, LIST_PREFIX "%u", shard);
    if (!core_document_get(catalog, slice_of(name), &view) || !replicas_parse(view.content, out))
        return false;
    out->version = view.version;
    return true;
}

struct command replicas_command(uint32_t shard, const struct replica_list *list, struct buffer *out)
{
    struct command command = {.type = COMMAND_DOCUMENT_PUT};
    ASSERT(list->count > 0);
    buffer_printf(out, LIST_PREFIX "%u", shard);
    size_t name_length = out->length;
    replicas_print(out, list);
    struct slice all = buffer_slice(out);
    command.document_put = (struct command_document_put){.name = slice_make(all.data, name_length),
                                                         .version = list->version,
                                                         .content = slice_sub(all, name_length)};
    return command;
}

uint32_t replication_get(const struct core *catalog)
{
    struct document_view view;
    uint64_t count;
    if (!core_document_get(catalog, SLICE_LITERAL(COUNT_NAME), &view) ||
        !read_number(&view.content, &count))
        return 0;
    return count <= REPLICATION_MAX ? (uint32_t)count : REPLICATION_MAX;
}

struct command replication_command(uint32_t replication, struct buffer *out)
{
    struct command command = {.type = COMMAND_DOCUMENT_PUT};
    buffer_printf(out, "%u", replication);
    command.document_put = (struct command_document_put){.name = SLICE_LITERAL(COUNT_NAME),
                                                         .content = buffer_slice(out)};
    return command;
}
