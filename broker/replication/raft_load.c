/* SPDX-License-Identifier: Apache-2.0 */
/* From the disk to the library: struct raft_io.load.
 *
 * The library wants a snapshot and all later entries in memory at once, which may be more than
 * there is. So what is known to be committed goes into the state here, one entry after the other,
 * and the library is told of a snapshot as of the last of them; it gets only the rest. What is
 * committed is known from two sources: each entry says how far everything was committed when it was
 * proposed (ORIGIN); and while this node is the only voter, what is on its disk is committed. (But
 * not where it has begun anew: its log is another's then, who may have had the members of old.)
 *
 * Entries are one allocation each with `batch` NULL: with a shared batch the library scans the
 * whole log at each release to see who else uses it, quadratic at the first snapshot. (The price:
 * it does not free such entries if raft_start fails; the process ends then.) */
#include "broker/replication/configuration.h"
#include "broker/replication/raft_disk.h"
#include "proto/base/assert.h"

#include <stdio.h>
#include <stdlib.h>

#define TOKEN_BYTES 1u

struct loading {
    struct raft_disk *disk;
    bool alone;         /* every entry on this disk is committed */
    uint64_t committed; /* everything up to here is */
    /* What is in the state already: the snapshot as the library will hear of it. */
    struct log_snapshot at;
    /* What the library gets: the entries behind at.index, and how many of the array are used up. */
    struct raft_entry *entries;
    size_t begin;
    size_t end;
    size_t capacity;
};

struct raft_snapshot *raft_disk_token(const struct log_snapshot *stored)
{
    struct raft_snapshot *snapshot = raft_calloc(1, sizeof *snapshot);
    ASSERT(snapshot != NULL);
    if (configuration_decode(buffer_slice(&stored->config), &snapshot->configuration) !=
        STATUS_OK) {
        raft_free(snapshot);
        return NULL;
    }
    snapshot->bufs = raft_calloc(1, sizeof *snapshot->bufs);
    ASSERT(snapshot->bufs != NULL);
    *snapshot->bufs = (struct raft_buffer){raft_calloc(1, TOKEN_BYTES), TOKEN_BYTES};
    ASSERT(snapshot->bufs->base != NULL);
    snapshot->n_bufs = 1;
    snapshot->index = stored->index;
    snapshot->term = stored->term;
    snapshot->configuration_index = stored->config_index;
    return snapshot;
}

static void keep_entry(struct loading *l, const struct log_entry *entry)
{
    if (l->end == l->capacity) {
        l->capacity = l->capacity < 64 ? 64 : l->capacity * 2;
        l->entries = raft_realloc(l->entries, l->capacity * sizeof *l->entries);
        ASSERT(l->entries != NULL);
    }
    struct raft_entry *to = &l->entries[l->end++];
    *to = (struct raft_entry){.term = entry->term, .type = entry->type};
    to->buf.len = entry->payload.length;
    to->buf.base = raft_malloc(entry->payload.length + 1);
    ASSERT(to->buf.base != NULL);
    if (entry->payload.length > 0)
        memcpy(to->buf.base, entry->payload.data, entry->payload.length);
}

/* apply: the entry behind at.index is committed. */
static void apply(struct loading *l, uint64_t term, unsigned type, struct slice payload)
{
    struct raft_configuration members;
    l->at.index++;
    l->at.term = term;
    if (type == RAFT_COMMAND) {
        l->disk->apply(l->disk->data, l->at.index, payload);
    } else if (type == RAFT_CHANGE && configuration_from_entry(payload, &members) == STATUS_OK) {
        l->at.config_index = l->at.index;
        buffer_clear(&l->at.config);
        configuration_encode(&l->at.config, &members);
        l->alone = false;
        raft_configuration_close(&members);
    }
}

/* apply_committed: of those that were kept; memory is used again once all are through. */
static void apply_committed(struct loading *l)
{
    while (l->begin < l->end && l->at.index < l->committed) {
        struct raft_entry *entry = &l->entries[l->begin++];
        apply(l, entry->term, entry->type, slice_make(entry->buf.base, entry->buf.len));
        raft_free(entry->buf.base);
    }
    if (l->begin == l->end)
        l->begin = l->end = 0;
}

static void visit_entry(void *data, const struct log_entry *entry)
{
    struct loading *l = data;
    if (l->alone && entry->type != RAFT_CHANGE) {
        apply(l, entry->term, entry->type, entry->payload);
        return;
    }
    l->alone = false; /* a change of the members: from here on only what is known */
    keep_entry(l, entry);
    uint64_t committed =
        entry->type == RAFT_COMMAND ? l->disk->commit_in(entry->payload) : l->committed;
    if (committed > l->committed)
        l->committed = committed;
    apply_committed(l);
}

static int load_entries(struct loading *l)
{
    struct log *log = l->disk->log;
    if (log_last_index(log) <= l->at.index)
        return 0;
    enum status status = log_load(log, l->at.index + 1, visit_entry, l, &l->disk->error);
    if (status == STATUS_OK)
        return 0;
    return status == STATUS_CORRUPT ? RAFT_CORRUPT : RAFT_IOERR;
}

static int restore(struct loading *l, const struct log_snapshot *stored)
{
    struct raft_configuration members;
    if (configuration_decode(buffer_slice(&stored->config), &members) != STATUS_OK) {
        l->disk->error = "the newest snapshot holds a member list that makes no sense";
        return RAFT_CORRUPT;
    }
    l->alone = members.n == 1 && members.servers[0].role == RAFT_VOTER && !l->disk->begun_anew;
    raft_configuration_close(&members);
    l->at = (struct log_snapshot){
        .index = stored->index, .term = stored->term, .config_index = stored->config_index};
    buffer_add_slice(&l->at.config, buffer_slice(&stored->config));
    raft_disk_note_snapshot(l->disk, stored);
    if (l->disk->restore_state(l->disk->data, buffer_slice(&stored->data)) == STATUS_OK)
        return 0;
    l->disk->error = "the newest snapshot is whole, but its content makes no sense to this version "
                     "of the program";
    return RAFT_CORRUPT;
}

static int load_snapshot(struct loading *l)
{
    struct log_snapshot stored;
    enum status status = log_snapshot_load(l->disk->log, &stored, &l->disk->error);
    if (status != STATUS_OK)
        return status == STATUS_CORRUPT ? RAFT_CORRUPT : RAFT_IOERR;
    int rv = stored.index > 0 ? restore(l, &stored) : 0;
    log_snapshot_free(&stored);
    return rv;
}

static void free_entries(struct loading *l)
{
    for (size_t i = l->begin; i < l->end; i++)
        raft_free(l->entries[i].buf.base);
    raft_free(l->entries);
}

/* give: the entries that are left, from the beginning of an array, as the library frees it. */
static void give(struct loading *l, struct raft_entry *entries[], size_t *count)
{
    *count = l->end - l->begin;
    if (*count == 0) {
        raft_free(l->entries);
        *entries = NULL;
        return;
    }
    memmove(l->entries, l->entries + l->begin, *count * sizeof *l->entries);
    *entries = l->entries;
}

int raft_load(struct raft_io *io, raft_term *term, raft_id *voted_for,
              struct raft_snapshot **snapshot, raft_index *start_index,
              struct raft_entry *entries[], size_t *n_entries)
{
    struct raft_disk *disk = io->impl;
    struct loading l = {.disk = disk};
    *term = log_term(disk->log);
    *voted_for = log_vote(disk->log);
    *snapshot = NULL;
    int rv = load_snapshot(&l);
    if (rv == 0)
        rv = load_entries(&l);
    if (rv == 0 && l.at.index > 0)
        *snapshot = raft_disk_token(&l.at);
    if (rv == 0 && l.at.index > 0 && *snapshot == NULL)
        rv = RAFT_CORRUPT;
    if (rv != 0) {
        free_entries(&l);
        buffer_free(&l.at.config);
        snprintf(io->errmsg, sizeof io->errmsg, "%s",
                 disk->error != NULL ? disk->error : "loading failed");
        return rv;
    }
    disk->told_index = l.at.index;
    disk->told_config_index = l.at.config_index;
    disk->told_config = l.at.config;
    *start_index = l.at.index + 1;
    give(&l, entries, n_entries);
    log_prefix_done(disk->log, log_snapshot_older(disk->log));
    return 0;
}
