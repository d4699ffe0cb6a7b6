/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/replication/alone.h"

#include "broker/log/log.h"
#include "broker/replication/configuration.h"
#include "proto/base/assert.h"

#include <stdio.h>

/* What is open while one of the two works. */
struct offline {
    uv_loop_t loop;
    struct log *log;
    struct alone_report *report;
};

static enum status offline_open(struct offline *o, const struct alone_place *place,
                                const char **error)
{
    struct log_options options = {.loop = &o->loop,
                                  .dir = place->dir,
                                  .node_id = place->node_id,
                                  .shard_id = place->shard_id};
    int rv = uv_loop_init(&o->loop);
    ASSERT(rv == 0);
    enum status status = log_open(&o->log, &options, error);
    if (status != STATUS_OK) {
        o->log = NULL;
        (void)uv_loop_close(&o->loop);
    }
    return status;
}

static void on_closed(void *data)
{
    *(bool *)data = true;
}

static void offline_close(struct offline *o)
{
    bool closed = false;
    log_close(o->log, on_closed, &closed);
    uv_run(&o->loop, UV_RUN_DEFAULT);
    ASSERT(closed);
    int rv = uv_loop_close(&o->loop);
    ASSERT(rv == 0);
}

/* ---- looking ---- */

static void take_members(struct alone_report *report, const struct raft_configuration *members)
{
    report->member_count = 0;
    for (unsigned i = 0; i < members->n && i < SHARD_MEMBERS_MAX; i++) {
        struct alone_member *to = &report->members[report->member_count++];
        to->id = members->servers[i].id;
        to->voter = members->servers[i].role == RAFT_VOTER;
        snprintf(to->address, sizeof to->address, "%s", members->servers[i].address);
    }
}

static void visit(void *data, const struct log_entry *entry)
{
    struct offline *o = data;
    struct raft_configuration members;
    o->report->last_index = entry->index;
    o->report->last_term = entry->term;
    if (entry->type == RAFT_CHANGE &&
        configuration_from_entry(entry->payload, &members) == STATUS_OK) {
        take_members(o->report, &members);
        raft_configuration_close(&members);
    }
}

static enum status look_at_snapshot(struct offline *o, const char **error)
{
    struct log_snapshot snapshot;
    struct raft_configuration members;
    enum status status = log_snapshot_load(o->log, &snapshot, error);
    if (status != STATUS_OK)
        return status;
    o->report->last_index = snapshot.index;
    o->report->last_term = snapshot.term;
    if (snapshot.index > 0)
        status = configuration_decode(buffer_slice(&snapshot.config), &members);
    if (snapshot.index > 0 && status == STATUS_OK) {
        take_members(o->report, &members);
        raft_configuration_close(&members);
    }
    log_snapshot_free(&snapshot);
    return status;
}

static enum status look(struct offline *o, const char **error)
{
    *error = "the newest snapshot holds a member list that makes no sense";
    enum status status = look_at_snapshot(o, error);
    uint64_t from = o->report->last_index + 1;
    if (status == STATUS_OK && log_last_index(o->log) >= from)
        status = log_load(o->log, from, visit, o, error);
    o->report->term = log_term(o->log);
    if (status == STATUS_OK && o->report->last_index == 0) {
        *error = "there is nothing in it: no entry, no snapshot";
        status = STATUS_NOT_FOUND;
    }
    return status;
}

enum status alone_look(const struct alone_place *place, struct alone_report *out,
                       const char **error)
{
    struct offline o = {.report = out};
    *out = (struct alone_report){0};
    enum status status = offline_open(&o, place, error);
    if (status != STATUS_OK)
        return status;
    status = look(&o, error);
    offline_close(&o);
    return status;
}

/* ---- making ---- */

/* An entry as a leader would build it; core time stays where it is. */
static void rename_cluster(struct buffer *out, const struct alone_place *place, uint64_t term)
{
    struct command origin = {.type = COMMAND_ORIGIN,
                             .origin = {.node_id = place->node_id, .term = term}};
    struct command rename = {.type = COMMAND_CLUSTER_RENAME};
    memcpy(rename.cluster_rename.cluster_id, place->cluster_id, UUID_BYTES);
    entry_begin(out);
    command_encode(out, &origin);
    command_encode(out, &rename);
    entry_finish(out, 2, 0);
}

static void only_member(struct raft_buffer *out, uint64_t node_id, const char *address)
{
    struct raft_configuration members;
    raft_configuration_init(&members);
    int rv = raft_configuration_add(&members, node_id, address, RAFT_VOTER);
    ASSERT(rv == 0); /* fails for lack of memory only */
    rv = raft_configuration_encode(&members, out);
    ASSERT(rv == 0);
    raft_configuration_close(&members);
}

static enum status append(struct log *log, const struct alone_place *place, const char *address)
{
    struct raft_buffer members;
    struct buffer renaming = {0};
    struct log_entry entries[2];
    unsigned count = 0;
    uint64_t term = log_term(log) + 1;
    uint64_t next = log_last_index(log) + 1;
    only_member(&members, place->node_id, address);
    if (place->cluster_id != NULL) {
        rename_cluster(&renaming, place, term);
        entries[count++] = (struct log_entry){
            .index = next, .term = term, .type = RAFT_COMMAND, .payload = buffer_slice(&renaming)};
    }
    entries[count] = (struct log_entry){.index = next + count,
                                        .term = term,
                                        .type = RAFT_CHANGE,
                                        .payload = slice_make(members.base, members.len)};
    enum status status = log_set_term(log, term);
    if (status == STATUS_OK)
        status = log_append_now(log, entries, count + 1);
    buffer_free(&renaming);
    raft_free(members.base);
    return status;
}

enum status alone_make(const struct alone_place *place, const char *address, const char **error)
{
    struct offline o = {0};
    enum status status = offline_open(&o, place, error);
    if (status != STATUS_OK)
        return status;
    if (log_last_index(o.log) == 0) {
        *error = "there is nothing in it: no entry, no snapshot";
        status = STATUS_NOT_FOUND;
    } else {
        *error = "the new member list could not be written";
        status = append(o.log, place, address);
    }
    offline_close(&o);
    return status;
}
