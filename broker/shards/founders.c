/* SPDX-License-Identifier: Apache-2.0 */
/* Who founds the queue shards. All founders must begin a shard with the same members, and a node
 * must not found what others have founded long ago: so the list is not taken from anybody's command
 * line, but written in the catalog by its first leader: the voters of the catalog then, and which
 * of them found which shard. It never changes; who joins later is added to the shards as a member
 * (follow.c).
 *
 * The document "cluster/founders": lines "ID HOST:PORT", then lines "shard K: ID ID ID". Without
 * those, as versions before wrote it, all found all. The replicas of the shards (placement.h) are
 * written in the same entry, and begin the same: shard K is on the K-th founder and those that
 * follow, counted around, so that replicas and leaders are spread. */
#include "broker/feature/feature.h"
#include "broker/shards/internal.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME "cluster/founders"

/* ---- writing ---- */

static void on_written(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct shards *s = call->data;
    (void)status, (void)results, (void)count; /* if it is not there then, it is tried again */
    s->founders_asked = false;
}

static size_t voters_of(const struct shard *catalog, struct shard_member_view *out)
{
    size_t all = shard_members(catalog, out);
    size_t count = 0;
    for (size_t i = 0; i < all; i++) {
        if (out[i].role == SHARD_VOTER)
            out[count++] = out[i];
    }
    return count;
}

static void first_replicas(uint32_t shard, uint32_t replication,
                           const struct shard_member_view *voters, size_t count,
                           struct replica_list *out)
{
    *out = (struct replica_list){.count = replication < count ? replication : count};
    for (size_t i = 0; i < out->count; i++)
        out->at[i].node_id = voters[(shard + i) % count].id;
}

static void add_replicas(struct shards *s, const struct shard_member_view *voters, size_t count,
                         struct buffer *founders)
{
    uint32_t replication = s->options.replication;
    struct buffer text = {0};
    struct command command = replication_command(replication, &text);
    shard_call_add(&s->founders_call, &command);
    for (uint32_t id = 1; id <= s->founding.queue_shards; id++) {
        struct replica_list list;
        first_replicas(id, replication, voters, count, &list);
        buffer_clear(&text);
        command = replicas_command(id, &list, &text);
        shard_call_add(&s->founders_call, &command);
        buffer_printf(founders, "shard %u: ", id);
        replicas_print(founders, &list);
        buffer_add_byte(founders, '\n');
    }
    buffer_free(&text);
}

static void write_founders(struct shards *s)
{
    struct shard_member_view voters[SHARD_MEMBERS_MAX];
    struct shard *catalog = s->places[0].shard;
    size_t count = voters_of(catalog, voters);
    struct buffer text = {0};
    for (size_t i = 0; i < count; i++)
        buffer_printf(&text, "%" PRIu64 " %s\n", voters[i].id, voters[i].address);
    s->founders_call = (struct shard_call){.done = on_written, .data = s};
    if (feature_in(feature_level(), FEATURE_REPLICAS))
        add_replicas(s, voters, count, &text);
    struct command command = {
        .type = COMMAND_DOCUMENT_PUT,
        .document_put = {.name = SLICE_LITERAL(NAME), .content = buffer_slice(&text)}};
    shard_call_add(&s->founders_call, &command);
    buffer_free(&text);
    s->founders_asked = true;
    shard_call(catalog, &s->founders_call);
}

/* ---- reading ---- */

/* One line of a founder into the list; false: it is none. */
static bool read_founder(char **at, struct shard_member *out)
{
    char *end;
    uint64_t id = strtoull(*at, &end, 10);
    if (id == 0 || *end != ' ')
        return false;
    char *address = end + 1;
    end = strchr(address, '\n');
    if (end == NULL)
        return false;
    *end = '\0';
    *out = (struct shard_member){.id = id, .address = address};
    *at = end + 1;
    return true;
}

/* The line of a shard; false: there is none. */
static bool read_shard(const char *at, uint32_t shard, struct replica_list *out)
{
    char wanted[32];
    int length = snprintf(wanted, sizeof wanted, "shard %u: ", shard);
    for (; at != NULL && *at != '\0'; at = strchr(at, '\n'), at = at != NULL ? at + 1 : NULL) {
        if (strncmp(at, wanted, (size_t)length) == 0)
            return replicas_parse(slice_make(at + length, strcspn(at + length, "\n")), out);
    }
    return false;
}

size_t founders_of(struct shards *s, uint32_t shard, struct shard_member *out)
{
    struct document_view view;
    struct replica_list list;
    size_t all = 0;
    size_t count = 0;
    if (!core_document_get(shard_core(s->places[0].shard), SLICE_LITERAL(NAME), &view))
        return 0;
    char *at = arena_alloc(&s->arena, view.content.length + 1); /* zeroed, and kept */
    memcpy(at, view.content.data, view.content.length);
    while (all < SHARD_MEMBERS_MAX && read_founder(&at, &out[all]))
        all++;
    if (!read_shard(at, shard, &list))
        return all;
    for (size_t i = 0; i < all; i++) {
        if (replicas_find(&list, out[i].id) != NULL)
            out[count++] = out[i];
    }
    return count;
}

bool founders_known(struct shards *s)
{
    struct document_view view;
    struct shard *catalog = s->places[0].shard;
    if (core_document_get(shard_core(catalog), SLICE_LITERAL(NAME), &view))
        return true;
    if (shard_leads(catalog) && !s->founders_asked)
        write_founders(s);
    return false;
}
