/* SPDX-License-Identifier: Apache-2.0 */
/* struct raft_io over broker/log.
 *
 * The library's contract, as far as raft.h does not say it:
 *   - append: callbacks in order; the entries stay alive until then. The index is not passed: it is
 *     always the next one. A status other than 0 makes the library (0.15) answer its callers and go
 *     on with a log that is ahead of the disk, or crash; so the log stops the process before that.
 *   - truncate takes effect before later appends; set_term and set_vote are durable on return.
 *   - snapshot_put comes in the same call as fsm->snapshot, so the state is still that of the
 *     snapshot's index: the log forks here, and the bytes that the library has from fsm->snapshot
 *     are a token.
 *   - snapshot_put with trailing 0 means that a snapshot was received and replaces everything: the
 * log has taken it over by then (catch_up.c), so there is nothing left to do.
 *   - snapshot_get, likewise, gives a token: what goes over the network is an offer.
 *   - close: every callback must have run before close_cb, since close_cb frees the entries.
 *   - entry lengths need not be multiples of 8 here; that is a limit of the library's own io. */
#include "broker/replication/raft_disk.h"

#include "broker/replication/configuration.h"
#include "proto/base/assert.h"
#include "proto/base/beat.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <stdio.h>
#include <stdlib.h>

#define ENTRIES_ON_STACK 32u
#define CALM_TICKS       4u

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
    (void)address;
    disk_of(io)->node_id = id;
    return uv_timer_init(disk_of(io)->loop, &disk_of(io)->ticker) == 0 ? 0 : RAFT_NOMEM;
}

static void on_log_closed(void *data)
{
    struct raft_disk *disk = data;
    disk->log = NULL;
    buffer_free(&disk->newest.config);
    buffer_free(&disk->told_config);
    disk->close_cb(&disk->io);
}

void raft_disk_idle(struct raft_disk *disk)
{
    if (!disk->closing || (disk->idle != NULL && !disk->idle(disk->data)))
        return;
    disk->closing = false;
    log_close(disk->log, on_log_closed, disk);
}

static void on_ticker_closed(uv_handle_t *handle)
{
    struct raft_disk *disk = CONTAINER_OF(handle, struct raft_disk, ticker);
    disk->closing = true;
    raft_disk_idle(disk);
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
    raft_disk_arm(disk);
    disk->ticked(disk->data);
}

void raft_disk_arm(struct raft_disk *disk)
{
    bool calm = disk->calm != NULL && disk->calm(disk->data);
    disk->resting = calm;
    uint64_t period_ms = calm ? CALM_TICKS * disk->tick_ms : disk->tick_ms;
    (void)uv_timer_start(&disk->ticker, on_tick,
                         beat_in_ms(uv_now(disk->loop), period_ms, disk->node_id), 0);
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct raft_disk *disk = disk_of(io);
    disk->tick = tick;
    disk->recv = recv;
    disk->tick_ms = disk->tick_ms > 0 ? disk->tick_ms : msecs;
    if (disk->starting != NULL)
        disk->starting(disk->data);
    raft_disk_arm(disk);
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

void raft_disk_note_snapshot(struct raft_disk *disk, const struct log_snapshot *stored)
{
    disk->newest.index = stored->index;
    disk->newest.term = stored->term;
    disk->newest.config_index = stored->config_index;
    buffer_clear(&disk->newest.config);
    buffer_add_slice(&disk->newest.config, buffer_slice(&stored->config));
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
    struct raft_disk *disk;
    struct raft_io_append *request;
    raft_io_append_cb cb;
    uint64_t first_index;
    const struct raft_entry *entries; /* the library's, until it is told */
    unsigned n;
};

static void on_appended(struct log_append *done, enum status status)
{
    struct append *append = CONTAINER_OF(done, struct append, append);
    struct append a = *append;
    int rv = status == STATUS_OK ? 0 : RAFT_IOERR;
    free(append);
    a.disk->appended(a.disk->data, a.request, a.cb, rv, a.first_index, a.entries, a.n);
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
    *append = (struct append){{.done = on_appended},   disk_of(io), req, cb,
                              log_last_index(log) + 1, entries,     n};
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
    disk->putting = false;
    if (status == STATUS_OK) {
        raft_disk_note_snapshot(disk, &put->snapshot);
        disk->told_index = put->snapshot.index;
        disk->trailing = disk->snapshot_trailing(disk->data);
        log_prefix_done(disk->log, done_with(disk));
    }
    buffer_free(&put->snapshot.config);
    disk->put_cb(disk->put_request, status == STATUS_OK ? 0 : RAFT_IOERR);
    if (disk->snapshot_ended != NULL)
        disk->snapshot_ended(disk->data, status);
}

static void on_own_put(struct log_snapshot_put *put, enum status status)
{
    struct raft_disk *disk = CONTAINER_OF(put, struct raft_disk, put);
    disk->putting = false;
    if (status == STATUS_OK)
        raft_disk_note_snapshot(disk, &put->snapshot);
    buffer_free(&put->snapshot.config);
    disk->snapshot_ended(disk->data, status);
}

static void put(struct raft_disk *disk, uint64_t index, uint64_t term, uint64_t config_index,
                log_snapshot_put_cb done)
{
    ASSERT(!disk->putting);
    disk->putting = true;
    disk->put =
        (struct log_snapshot_put){.make = disk->make_state, .make_data = disk->data, .done = done};
    disk->put.snapshot.index = index;
    disk->put.snapshot.term = term;
    disk->put.snapshot.config_index = config_index;
    buffer_add_slice(&disk->put.snapshot.config, disk->snapshot_members(disk->data));
    log_snapshot_put(disk->log, &disk->put);
}

void raft_disk_put(struct raft_disk *disk, uint64_t index, uint64_t term, uint64_t config_index)
{
    put(disk, index, term, config_index, on_own_put);
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct raft_disk *disk = disk_of(io);
    if (trailing == 0) { /* in this very call: there is no state in between (guard.c, G6) */
        cb(req, 0);
        return 0;
    }
    disk->trailing = trailing;
    disk->put_request = req;
    disk->put_cb = cb;
    put(disk, snapshot->index, snapshot->term, snapshot->configuration_index, on_put);
    return 0;
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req,
                           raft_io_snapshot_get_cb cb)
{
    struct raft_disk *disk = disk_of(io);
    struct raft_snapshot *snapshot = NULL;
    if (disk->newest.index >= disk->told_index && disk->newest.index > 0)
        snapshot = raft_disk_token(&disk->newest);
    if (snapshot == NULL) {
        disk->snapshot_wanted(disk->data);
        return fail(io, RAFT_BUSY, "the snapshot is being made");
    }
    cb(req, snapshot, 0);
    return 0;
}

/* ---- the world ---- */

static int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message,
                   raft_io_send_cb cb)
{
    struct raft_disk *disk = disk_of(io);
    return disk->send(disk->data, req, message, cb);
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
        .load = raft_load,
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
