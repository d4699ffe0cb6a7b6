/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing a log up to date that lacks more than entries: a snapshot, and the bodies that its state
 * refers to, from the log of another node. How the bytes travel is the caller's affair
 * (broker/replication); here they are only made, verified, stored and taken over.
 *
 *     the node that has them               the node that lags
 *     log_export_open                      log_incoming_begin
 *     log_export_read, piece by piece      log_incoming_snapshot, piece by piece
 *                                          log_incoming_restore: the state, so that the caller
 *                                          knows which bodies it lacks
 *     log_export_bodies, for some of them  log_incoming_bodies
 *     log_export_close                     log_incoming_commit
 *
 * thread: loop. Callbacks never run before the call that started them has returned. */
#ifndef BROKER_LOG_TRANSFER_H
#define BROKER_LOG_TRANSFER_H

#include "broker/log/log.h"

/* ---- giving ---- */

struct log_export;

struct log_export_about {
    uint64_t index;
    uint64_t term;
    uint64_t bytes; /* of the snapshot file */
};

/* log_export_open: the stored snapshot of entry `index`, or the newest for 0 (blocking, briefly).
 * It stays readable until log_export_close, also when newer ones take its place.
 *   errors: NOT_FOUND, CORRUPT (its head), BUSY (no file descriptors), IO_ERROR */
MUST_CHECK enum status log_export_open(struct log *log, uint64_t index, struct log_export **out);
void log_export_about(const struct log_export *export, struct log_export_about *out);
/* log_export_close: reads under way still end, with their callbacks. All must be closed before
 * log_close. */
void log_export_close(struct log_export *export);

struct log_export_read;
typedef void (*log_export_read_cb)(struct log_export_read *read, enum status status);
struct log_export_read {
    uint64_t offset;
    size_t length;     /* fewer bytes come only at the end of the file */
    struct buffer out; /* the caller's, also to free; what is in it is dropped */
    log_export_read_cb done;
    void *data; /* errors: IO_ERROR */
    /* private */
    uv_work_t work;
    struct log_export *export;
    int error;
};
void log_export_read(struct log_export *export, struct log_export_read *read);

#define LOG_EXPORT_REFS_MAX 65536u

struct log_export_bodies;
typedef void (*log_export_bodies_cb)(struct log_export_bodies *bodies, enum status status);
struct log_export_bodies {
    /* refs: ascending by index, then offset; may come from another node, so nothing is taken for
     * granted. Borrowed until done. No more than LOG_EXPORT_REFS_MAX. */
    const struct body_ref *refs;
    size_t count;
    uint32_t from; /* of the payload of refs[0]'s entry: what is before was sent already. 0 at
                      first; then `next_from` of the request before */
    size_t limit;  /* of `out`; passed by no more than one header and one block. 1 MiB or more is
                      sensible: the header of a huge entry is as long as that */
    log_export_bodies_cb done; /* OK; INVALID: refs not in order, or too many; BUSY; IO_ERROR */
    void *data;
    /* out */
    struct buffer out;  /* for log_incoming_bodies; opaque. The caller's, also to free */
    size_t covered;     /* refs[0, covered) are in `out`, or gone: the next request is for those
                           behind */
    uint32_t next_from; /* what of refs[covered] was sent, if its entry did not fit; else 0. Each
                           request covers something or moves this on */
    size_t gone;        /* of the covered: not here any more, not even in part */
    size_t damaged;     /* of the covered: not to be had from here for a bad checksum */
    /* private */
    uv_work_t work;
    struct log *log;
    struct export_step *steps;
    size_t step_count;
    enum status status;
};
/* log_export_bodies: read the blocks that the bodies touch, in a pool thread. Bodies that were
 * released here and are gone are no error: a later entry of the log releases them there too. */
void log_export_bodies(struct log *log, struct log_export_bodies *bodies);

/* ---- taking ---- */

struct log_incoming;
typedef void (*log_incoming_cb)(void *data, enum status status);

struct log_offer {
    uint64_t keep_index; /* entries up to here stay: they are the same ones there, and hold the
                            bodies that are here already. What is behind it will be dropped */
    uint64_t index;      /* of the snapshot; > keep_index */
    uint64_t term;       /* of that entry */
    uint64_t bytes;      /* of the snapshot file */
};

/* log_incoming_begin: from now on until commit or abort nothing is appended, truncated or put as a
 * snapshot; reading, holding and releasing go on. One at a time.
 *   errors: BUSY: there is one; INVALID: keep_index is behind the last entry or below
 * log_snapshot_index, or index is not above it; or bytes is no possible size */
MUST_CHECK enum status log_incoming_begin(struct log *log, const struct log_offer *offer,
                                          struct log_incoming **out);

/* The requests: one under way at a time; bytes are borrowed until `done`. After DISK_FULL or
 * IO_ERROR nothing but abort is of use; the log is as it was before. */

/* log_incoming_snapshot: the next bytes of the snapshot file.
 *   errors: INVALID: `offset` is not where the last piece ended, or it goes past the offered size:
 * nothing happened; DISK_FULL, IO_ERROR */
void log_incoming_snapshot(struct log_incoming *incoming, uint64_t offset, struct slice bytes,
                           log_incoming_cb done, void *data);

/* log_incoming_restore: the snapshot file is complete: verify and decode it. The caller frees *out.
 *   errors: INVALID: not all bytes are here yet; CORRUPT: damaged, or not what was offered: abort;
 * DISK_FULL, IO_ERROR */
void log_incoming_restore(struct log_incoming *incoming, struct log_snapshot *out,
                          log_incoming_cb done, void *data);

/* log_incoming_bodies: what log_export_bodies made, in the order in which it was made.
 *   errors: CORRUPT: damaged, out of order, or of entries outside (keep_index, index]: nothing of
 * it was taken; INVALID: before log_incoming_restore; DISK_FULL, IO_ERROR */
void log_incoming_bodies(struct log_incoming *incoming, struct slice bytes, log_incoming_cb done,
                         void *data);

/* log_incoming_commit: take it all over in one durable step. A crash before that step leaves the
 * log as it was, one after it as it will be.
 *   done, OK: log_last_index is the snapshot's, log_snapshot_index too, there is no older one.
 * Nothing is held, and nothing reclaimed: restore the state again with log_hold for each reference,
 * then call log_reclaim_begin. `incoming` is gone.
 *   errors: INVALID: before log_incoming_restore; DISK_FULL, IO_ERROR: abort.
 * A failure behind the step ends the process (log_options.fatal). Reads under way of bodies in
 * dropped entries may fail with CORRUPT. It waits for a snapshot that is being put. */
void log_incoming_commit(struct log_incoming *incoming, log_incoming_cb done, void *data);

/* log_incoming_abort: give up; not while a commit is under way. A request under way still ends,
 * with CANCELLED. `incoming` is gone; another may begin at once. log_close does this too. */
void log_incoming_abort(struct log_incoming *incoming);

/* log_incoming_owes: before the commit: some bodies were gone, and entries up to `index` release
 * them (log_owed_index). */
void log_incoming_owes(struct log_incoming *incoming, uint64_t index);

struct log_incoming_stats {
    uint64_t snapshot_bytes; /* so far */
    uint64_t body_bytes;     /* written so far, with headers */
    uint64_t entries;        /* of which bodies were stored */
};
void log_incoming_stats(const struct log_incoming *incoming, struct log_incoming_stats *out);

#endif
