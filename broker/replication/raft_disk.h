/* SPDX-License-Identifier: Apache-2.0 */
/* What the Raft library stores and sends through: its raft_io over broker/log. */
#ifndef BROKER_REPLICATION_RAFT_DISK_H
#define BROKER_REPLICATION_RAFT_DISK_H

#include "broker/log/log.h"

#include <raft.h>

struct raft_disk {
    struct raft_io io; /* for raft_init */
    uv_loop_t *loop;
    struct log *log; /* closed when the library closes the io */
    uv_timer_t ticker;
    uint64_t node_id;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    raft_io_close_cb close_cb;
    const char *error;          /* of a load that failed: a sentence, or NULL */
    struct log_snapshot newest; /* that is stored; without its data */
    uint64_t told_index;        /* of the one that the library believes in */
    uint64_t told_config_index; /* the members as of told_index, when the log was loaded */
    struct buffer told_config;
    /* the snapshot being stored */
    struct log_snapshot_put put;
    bool putting;
    unsigned trailing;
    struct raft_io_snapshot_put *put_request;
    raft_io_snapshot_put_cb put_cb;
    /* restore_state, apply: while loading, before the library does anything. */
    enum status (*restore_state)(void *data, struct slice state);
    void (*apply)(void *data, uint64_t index, struct slice payload);
    /* commit_in: what an entry says about the commit index when it was proposed; 0 = nothing. */
    uint64_t (*commit_in)(struct slice payload);
    /* make_state: the state as it is now, in a forked child (struct log_snapshot_put). */
    void (*make_state)(void *data, struct snapshot_sink *sink);
    /* snapshot_ended: a snapshot has been stored, or could not be. */
    void (*snapshot_ended)(void *data, enum status status);
    /* snapshot_trailing: how many entries to keep behind the one that was stored just now.
     * snapshot_wanted: a member needs one, and the newest is older than what the library tells it.
     * snapshot_members: the committed members, for the file. All three may be NULL. */
    unsigned (*snapshot_trailing)(void *data);
    void (*snapshot_wanted)(void *data);
    struct slice (*snapshot_members)(void *data);
    /* starting: the library knows the log and the members, and will lead at once if it is alone. */
    void (*starting)(void *data);
    /* send, appended, ticked: what the library's messages, ends of writes and ticks go through. */
    int (*send)(void *data, struct raft_io_send *request, const struct raft_message *message,
                raft_io_send_cb cb);
    void (*appended)(void *data, struct raft_io_append *request, raft_io_append_cb cb, int status,
                     uint64_t first_index, const struct raft_entry *entries, unsigned n);
    void (*ticked)(void *data);
    /* idle: nothing that was sent is under way: until then the log stays open. */
    bool (*idle)(void *data);
    bool begun_anew;  /* a replica before this one had a log: alone in what is here says little */
    bool closing;     /* it waits for that: see raft_disk_idle */
    unsigned tick_ms; /* 0: as the library says */
    bool resting;     /* the next tick is a late one */
    /* calm: nothing is to happen that every fourth tick were too seldom for. NULL: never. */
    bool (*calm)(void *data);
    void *data;
};

/* raft_disk_init: fill in `disk`; takes over `log`. Nothing to undo but through raft_close, once
 * raft_init has been called; loop must run for that. */
void raft_disk_init(struct raft_disk *disk, uv_loop_t *loop, struct log *log);

/* raft_disk_note_snapshot: this one is on disk, and the newest. raft_disk_token: what the library
 * hears of it: its state never goes through the library. NULL: its members make no sense. */
void raft_disk_note_snapshot(struct raft_disk *disk, const struct log_snapshot *stored);
struct raft_snapshot *raft_disk_token(const struct log_snapshot *stored);

/* raft_disk_put: store a snapshot of the state as it is now, past the library, which does not hear
 * of it; snapshot_ended is told. */
void raft_disk_put(struct raft_disk *disk, uint64_t index, uint64_t term, uint64_t config_index);

/* raft_load: struct raft_io.load. */
int raft_load(struct raft_io *io, raft_term *term, raft_id *voted_for,
              struct raft_snapshot **snapshot, raft_index *start_index,
              struct raft_entry *entries[], size_t *n_entries);

/* raft_disk_arm: look again when the next tick is due. */
void raft_disk_arm(struct raft_disk *disk);

/* raft_disk_idle: what was sent may be through: a close goes on. */
void raft_disk_idle(struct raft_disk *disk);

#endif
