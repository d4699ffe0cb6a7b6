/* SPDX-License-Identifier: Apache-2.0 */
/* Who founds the queue shards. All founders must begin a shard with the same members, and a node
 * must not found what others have founded long ago: so the list is not taken from anybody's command
 * line, but written in the catalog by its first leader: the voters of the catalog then. It never
 * changes; who joins the cluster later is added to the shards as a member (follow.c).
 *
 * The document "cluster/founders": lines "ID HOST:PORT". */
#include "broker/shards/internal.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdlib.h>

#define NAME "cluster/founders"

static void on_written(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct shards *s = call->data;
    (void)status, (void)results, (void)count; /* if it is not there then, it is tried again */
    s->founders_asked = false;
}

static void write_founders(struct shards *s)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    struct shard *catalog = s->places[0].shard;
    size_t count = shard_members(catalog, members);
    struct buffer text = {0};
    for (size_t i = 0; i < count; i++) {
        if (members[i].role == SHARD_VOTER)
            buffer_printf(&text, "%" PRIu64 " %s\n", members[i].id, members[i].address);
    }
    struct command command = {
        .type = COMMAND_DOCUMENT_PUT,
        .document_put = {.name = SLICE_LITERAL(NAME), .content = buffer_slice(&text)}};
    s->founders_call = (struct shard_call){.done = on_written, .data = s};
    shard_call_add(&s->founders_call, &command);
    buffer_free(&text);
    s->founders_asked = true;
    shard_call(catalog, &s->founders_call);
}

/* One line into the list; false at the end. */
static bool read_line(struct shards *s, char **at)
{
    char *end;
    uint64_t id = strtoull(*at, &end, 10);
    if (id == 0 || *end != ' ' || s->founder_count == SHARD_MEMBERS_MAX)
        return false;
    char *address = end + 1;
    end = strchr(address, '\n');
    if (end == NULL)
        return false;
    *end = '\0';
    s->founders[s->founder_count++] = (struct shard_member){.id = id, .address = address};
    *at = end + 1;
    return true;
}

bool founders_known(struct shards *s)
{
    struct document_view view;
    struct shard *catalog = s->places[0].shard;
    if (s->founder_count > 0)
        return true;
    if (!core_document_get(shard_core(catalog), SLICE_LITERAL(NAME), &view)) {
        if (shard_leads(catalog) && !s->founders_asked)
            write_founders(s);
        return false;
    }
    char *at = arena_alloc(&s->arena, view.content.length + 1); /* zeroed, and kept */
    memcpy(at, view.content.data, view.content.length);
    while (read_line(s, &at))
        continue;
    return s->founder_count > 0;
}
