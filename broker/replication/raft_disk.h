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
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    raft_io_close_cb close_cb;
    const char *error; /* of a load that failed: a sentence, or NULL */
    /* the snapshot being stored */
    struct log_snapshot_put put;
    bool putting;
    unsigned trailing;
    struct raft_io_snapshot_put *put_request;
    raft_io_snapshot_put_cb put_cb;
    /* restore_state, apply: while loading, before the library does anything. */
    enum status (*restore_state)(void *data, struct slice state);
    void (*apply)(void *data, uint64_t index, struct slice payload);
    /* make_state: the state as it is now, in a forked child (struct log_snapshot_put). */
    void (*make_state)(void *data, struct snapshot_sink *sink);
    /* snapshot_ended: a snapshot has been stored, or could not be. */
    void (*snapshot_ended)(void *data, enum status status);
    void *data;
};

/* raft_disk_init: fill in `disk`; takes over `log`. Nothing to undo but through raft_close, once
 * raft_init has been called; loop must run for that. */
void raft_disk_init(struct raft_disk *disk, uv_loop_t *loop, struct log *log);

#endif
