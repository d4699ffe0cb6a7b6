/* SPDX-License-Identifier: Apache-2.0 */
/* struct raft_io over broker/log.
 *
 * The library's contract, as far as raft.h does not say it:
 *   - append: callbacks in order; the entries stay alive until then. The index is not passed: it is
 *     always the next one. A status other than 0 makes the library (0.15) answer its callers and go
 *     on with a log that is ahead of the disk, or crash; so the log stops the process before that.
 *   - truncate takes effect before later appends; set_term and set_vote are durable on return.
 *   - load: the library wants the snapshot and all later entries in memory at once, which may be
 *     more than there is. Where this node is the only voter, what is on its disk is committed, so
 *     snapshot and entries go into the state one by one here, and the library is told of a snapshot
 *     as of the last of them. Otherwise, and from a change of the members on, it gets the entries.
 *   - load: entries are one allocation each with `batch` NULL. With a shared batch the library
 * scans the whole log at each release to see who else uses it: quadratic at the first snapshot.
 *     (The price: it does not free such entries if raft_start fails; the process ends then.)
 *   - snapshot_put comes in the same call as fsm->snapshot, so the state is still that of the
 *     snapshot's index: the log forks here, and the bytes that the library has from fsm->snapshot
 *     are a token.
 *   - snapshot_put with trailing 0 means that a snapshot was received and replaces everything. One
 *     voter never receives one: refused.
 *   - close: every callback must have run before close_cb, since close_cb frees the entries.
 *   - entry lengths need not be multiples of 8 here; that is a limit of the library's own io.
 *
 * With one voter nothing is ever sent; `send` says that there is no connection, which is what the
 * library expects of a peer that cannot be reached. */
#include "broker/replication/raft_disk.h"

#include "broker/replication/configuration.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <stdio.h>
#include <stdlib.h>

#define ENTRIES_ON_STACK 32u

static struct raft_disk *disk_of(struct raft_io *io)
{
    return io->impl;
}

static int fail(struct raft_io *io, int code, const char *sentence)
{
    snprintf(io->errmsg, sizeof io->errmsg, "%s", sentence);
    return code;
}

/* ---- life ---- */

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)id;
    (void)address;
    return uv_timer_init(disk_of(io)->loop, &disk_of(io)->ticker) == 0 ? 0 : RAFT_NOMEM;
}

static void on_log_closed(void *data)
{
    struct raft_disk *disk = data;
    disk->log = NULL;
    disk->close_cb(&disk->io);
}

static void on_ticker_closed(uv_handle_t *handle)
{
    struct raft_disk *disk = CONTAINER_OF(handle, struct raft_disk, ticker);
    log_close(disk->log, on_log_closed, disk);
}

static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
    struct raft_disk *disk = disk_of(io);
    disk->close_cb = cb;
    uv_close((uv_handle_t *)&disk->ticker, on_ticker_closed);
}

static void on_tick(uv_timer_t *timer)
{
    struct raft_disk *disk = CONTAINER_OF(timer, struct raft_disk, ticker);
    disk->tick(&disk->io);
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct raft_disk *disk = disk_of(io);
    disk->tick = tick;
    disk->recv = recv;
    return uv_timer_start(&disk->ticker, on_tick, msecs, msecs) == 0 ? 0 : RAFT_INVALID;
}

/* ---- loading ---- */

struct loading {
    struct raft_disk *disk;
    bool alone; /* every entry on this disk is committed */
    /* What is in the state already, and what the library gets: the entries behind `index`. */
    uint64_t index;
    uint64_t term;
    struct raft_entry *entries;
    size_t count;
};

static void keep_entry(struct loading *l, const struct log_entry *entry)
{
    if (l->entries == NULL)
        l->entries =
            raft_calloc(log_last_index(l->disk->log) + 1 - entry->index, sizeof *l->entries);
    ASSERT(l->entries != NULL);
    struct raft_entry *to = &l->entries[l->count++];
    *to = (struct raft_entry){.term = entry->term, .type = entry->type};
    to->buf.len = entry->payload.length;
    to->buf.base = raft_malloc(entry->payload.length + 1);
    ASSERT(to->buf.base != NULL);
    if (entry->payload.length > 0)
        memcpy(to->buf.base, entry->payload.data, entry->payload.length);
}

/* visit_entry: apply it, as long as that is right: a change of the members is for the library, and
 * so is all that follows. */
static void visit_entry(void *data, const struct log_entry *entry)
{
    struct loading *l = data;
    l->alone = l->alone && entry->type != RAFT_CHANGE;
    if (!l->alone) {
        keep_entry(l, entry);
        return;
    }
    l->index = entry->index;
    l->term = entry->term;
    if (entry->type == RAFT_COMMAND)
        l->disk->apply(l->disk->data, entry->index, entry->payload);
}

static void free_entries(struct loading *l)
{
    for (size_t i = 0; i < l->count; i++)
        raft_free(l->entries[i].buf.base);
    raft_free(l->entries);
}

static int load_entries(struct loading *l)
{
    struct log *log = l->disk->log;
    if (log_last_index(log) <= l->index)
        return 0;
    enum status status = log_load(log, l->index + 1, visit_entry, l, &l->disk->error);
    if (status == STATUS_OK)
        return 0;
    free_entries(l);
    return status == STATUS_CORRUPT ? RAFT_CORRUPT : RAFT_IOERR;
}

/* make_snapshot: what the library hears of the one that was stored. Its state is restored already,
 * so the data are a token. */
static struct raft_snapshot *make_snapshot(const struct log_snapshot *stored)
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
    *snapshot->bufs = (struct raft_buffer){raft_calloc(1, 1), 1};
    ASSERT(snapshot->bufs->base != NULL);
    snapshot->n_bufs = 1;
    snapshot->index = stored->index;
    snapshot->term = stored->term;
    snapshot->configuration_index = stored->config_index;
    return snapshot;
}

static void free_snapshot(struct raft_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    raft_configuration_close(&snapshot->configuration);
    raft_free(snapshot->bufs[0].base);
    raft_free(snapshot->bufs);
    raft_free(snapshot);
}

static int restore(struct raft_disk *disk, const struct log_snapshot *stored,
                   struct raft_snapshot **out)
{
    *out = make_snapshot(stored);
    if (*out == NULL) {
        disk->error = "the newest snapshot holds a member list that makes no sense";
        return RAFT_CORRUPT;
    }
    if (disk->restore_state(disk->data, buffer_slice(&stored->data)) == STATUS_OK)
        return 0;
    disk->error = "the newest snapshot is whole, but its content makes no sense to this version of "
                  "the program";
    free_snapshot(*out);
    return RAFT_CORRUPT;
}

static int load_snapshot(struct raft_disk *disk, struct raft_snapshot **out)
{
    struct log_snapshot stored;
    enum status status = log_snapshot_load(disk->log, &stored, &disk->error);
    *out = NULL;
    if (status != STATUS_OK)
        return status == STATUS_CORRUPT ? RAFT_CORRUPT : RAFT_IOERR;
    int rv = stored.index > 0 ? restore(disk, &stored, out) : 0;
    log_snapshot_free(&stored);
    return rv;
}

static int load(struct loading *l, struct raft_snapshot **snapshot)
{
    int rv = load_snapshot(l->disk, snapshot);
    if (rv != 0)
        return rv;
    if (*snapshot != NULL) {
        const struct raft_configuration *members = &(*snapshot)->configuration;
        l->alone = members->n == 1 && members->servers[0].role == RAFT_VOTER;
        l->index = (*snapshot)->index;
        l->term = (*snapshot)->term;
    }
    rv = load_entries(l);
    if (rv != 0) {
        free_snapshot(*snapshot);
    } else if (*snapshot != NULL) {
        (*snapshot)->index = l->index;
        (*snapshot)->term = l->term;
    }
    return rv;
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *voted_for,
                   struct raft_snapshot **snapshot, raft_index *start_index,
                   struct raft_entry *entries[], size_t *n_entries)
{
    struct raft_disk *disk = disk_of(io);
    struct loading l = {.disk = disk};
    *term = log_term(disk->log);
    *voted_for = log_vote(disk->log);
    int rv = load(&l, snapshot);
    if (rv != 0)
        return fail(io, rv, disk->error != NULL ? disk->error : "loading failed");
    *start_index = l.index + 1;
    *entries = l.entries;
    *n_entries = l.count;
    log_prefix_done(disk->log, log_snapshot_older(disk->log));
    return 0;
}

/* ---- term, vote and configuration ---- */

static int io_set_term(struct raft_io *io, raft_term term)
{
    return log_set_term(disk_of(io)->log, term) == STATUS_OK ? 0 : RAFT_IOERR;
}

static int io_set_vote(struct raft_io *io, raft_id server_id)
{
    return log_set_vote(disk_of(io)->log, server_id) == STATUS_OK ? 0 : RAFT_IOERR;
}

static int append_configuration(struct raft_disk *disk, const struct raft_configuration *conf)
{
    struct raft_buffer buf;
    int rv = raft_configuration_encode(conf, &buf);
    if (rv != 0)
        return rv;
    struct log_entry entry = {log_last_index(disk->log) + 1, log_term(disk->log), RAFT_CHANGE,
                              slice_make(buf.base, buf.len)};
    enum status status = log_append_now(disk->log, &entry, 1);
    raft_free(buf.base);
    return status == STATUS_OK ? 0 : RAFT_IOERR;
}

/* A crash between the two steps leaves a term without entries: bootstrapping again is fine then. */
static int io_bootstrap(struct raft_io *io, const struct raft_configuration *conf)
{
    struct raft_disk *disk = disk_of(io);
    if (log_last_index(disk->log) > 0 || log_snapshot_index(disk->log) > 0)
        return fail(io, RAFT_CANTBOOTSTRAP, "there are entries already");
    if (log_set_term(disk->log, 1) != STATUS_OK)
        return RAFT_IOERR;
    return append_configuration(disk, conf);
}

static int io_recover(struct raft_io *io, const struct raft_configuration *conf)
{
    return append_configuration(disk_of(io), conf);
}

/* ---- entries ---- */

struct append {
    struct log_append append;
    struct raft_io_append *request;
    raft_io_append_cb cb;
};

static void on_appended(struct log_append *done, enum status status)
{
    struct append *append = CONTAINER_OF(done, struct append, append);
    struct raft_io_append *request = append->request;
    raft_io_append_cb cb = append->cb;
    free(append);
    cb(request, status == STATUS_OK ? 0 : RAFT_IOERR);
}

static int io_append(struct raft_io *io, struct raft_io_append *req,
                     const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
    struct log *log = disk_of(io)->log;
    struct log_entry few[ENTRIES_ON_STACK];
    struct log_entry *list = n <= ENTRIES_ON_STACK ? few : calloc(n, sizeof *list);
    struct append *append = calloc(1, sizeof *append);
    ASSERT(list != NULL);
    ASSERT(append != NULL);
    for (unsigned i = 0; i < n; i++)
        list[i] = (struct log_entry){log_last_index(log) + 1 + i, entries[i].term, entries[i].type,
                                     slice_make(entries[i].buf.base, entries[i].buf.len)};
    *append = (struct append){{.done = on_appended}, req, cb};
    log_append(log, &append->append, list, n);
    if (list != few)
        free(list);
    return 0;
}

static int io_truncate(struct raft_io *io, raft_index index)
{
    log_truncate(disk_of(io)->log, index);
    return 0;
}

/* ---- snapshots ---- */

/* done_with: what the library no longer needs, and neither would the snapshot before this one. */
static uint64_t done_with(const struct raft_disk *disk)
{
    uint64_t index = log_snapshot_index(disk->log);
    uint64_t older = log_snapshot_older(disk->log);
    uint64_t kept = index > disk->trailing ? index - disk->trailing : 0;
    return kept < older ? kept : older;
}

static void on_put(struct log_snapshot_put *put, enum status status)
{
    struct raft_disk *disk = CONTAINER_OF(put, struct raft_disk, put);
    buffer_free(&put->snapshot.config);
    disk->putting = false;
    if (status == STATUS_OK)
        log_prefix_done(disk->log, done_with(disk));
    disk->put_cb(disk->put_request, status == STATUS_OK ? 0 : RAFT_IOERR);
    if (disk->snapshot_ended != NULL)
        disk->snapshot_ended(disk->data, status);
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct raft_disk *disk = disk_of(io);
    if (trailing == 0)
        return fail(io, RAFT_INVALID, "received snapshots are not supported");
    ASSERT(!disk->putting);
    disk->putting = true;
    disk->put = (struct log_snapshot_put){
        .make = disk->make_state, .make_data = disk->data, .done = on_put};
    disk->put.snapshot.index = snapshot->index;
    disk->put.snapshot.term = snapshot->term;
    disk->put.snapshot.config_index = snapshot->configuration_index;
    configuration_encode(&disk->put.snapshot.config, &snapshot->configuration);
    disk->trailing = trailing;
    disk->put_request = req;
    disk->put_cb = cb;
    log_snapshot_put(disk->log, &disk->put);
    return 0;
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req,
                           raft_io_snapshot_get_cb cb)
{
    (void)req;
    (void)cb;
    return fail(io, RAFT_NOCONNECTION, "there are no peers to send a snapshot to");
}

/* ---- the world ---- */

static int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message,
                   raft_io_send_cb cb)
{
    (void)req;
    (void)message;
    (void)cb;
    return fail(io, RAFT_NOCONNECTION, "there are no peers");
}

static raft_time io_time(struct raft_io *io)
{
    return uv_now(disk_of(io)->loop);
}

static int io_random(struct raft_io *io, int min, int max)
{
    uint32_t bits;
    (void)io;
    clock_random(&bits, sizeof bits);
    return max > min ? min + (int)(bits % (uint32_t)(max - min)) : min;
}

void raft_disk_init(struct raft_disk *disk, uv_loop_t *loop, struct log *log)
{
    *disk = (struct raft_disk){.loop = loop, .log = log};
    disk->io = (struct raft_io){
        .version = 1,
        .impl = disk,
        .init = io_init,
        .close = io_close,
        .load = io_load,
        .start = io_start,
        .bootstrap = io_bootstrap,
        .recover = io_recover,
        .set_term = io_set_term,
        .set_vote = io_set_vote,
        .send = io_send,
        .append = io_append,
        .truncate = io_truncate,
        .snapshot_put = io_snapshot_put,
        .snapshot_get = io_snapshot_get,
        .time = io_time,
        .random = io_random,
    };
}
