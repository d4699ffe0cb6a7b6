/* SPDX-License-Identifier: Apache-2.0 */
/* The log of one shard on disk: entries by index, the node's term and vote, and snapshots. It knows
 * nothing of Raft's rules; it stores what it is told and says when that is on disk.
 *
 * Bodies of messages are read from where their entry stands (struct body_ref), for as long as
 * someone holds them: a segment file goes only when its entries are done with (log_prefix_done) and
 * nothing in it is held (log_hold). One in which little is held is rewritten without the rest.
 * thread: loop. Callbacks never run before the call that started them has returned, except where it
 * says so. A write or sync that fails on the way to durability ends the process (options.fatal). */
#ifndef BROKER_LOG_LOG_H
#define BROKER_LOG_LOG_H

#include "broker/core/types.h"
#include "broker/log/disk.h"
#include "broker/log/snapshot_file.h"

#include <uv.h>

#define LOG_SEGMENT_BYTES_DEFAULT (16u << 20)
#define LOG_SEGMENT_BYTES_MIN     4096u
#define LOG_SEGMENT_BYTES_MAX     (1u << 30)
#define LOG_REWRITE_RATE_DEFAULT  (32u << 20)
#define LOG_EXIT_CODE             70 /* EX_SOFTWARE: what the process ends with */

struct log;

struct log_options {
    uv_loop_t *loop;
    const char *dir; /* made if its parent exists; copied */
    uint64_t node_id;
    uint64_t shard_id;
    uint32_t segment_bytes;      /* 0: the default */
    uint64_t rewrite_rate;       /* bytes per second, read and written; 0: the default */
    bool unpacked;               /* store payloads as they are; else compressed where that pays */
    const struct log_disk *disk; /* NULL: the real one; alive as long as the log */
    /* fatal: does not return in production (NULL: trace the sentence, then _exit). When it does, in
     * a test, every later request fails with IO_ERROR. */
    void (*fatal)(void *data, const char *sentence);
    void *fatal_data;
};

/* log_open: recover what is in the folder (blocking). On failure *error is a sentence for the
 * operator, valid until this thread's next refusal.
 *   errors: CORRUPT, INVALID (another node's or shard's), UNSUPPORTED, IO_ERROR, PERMISSION,
 * DISK_FULL */
MUST_CHECK enum status log_open(struct log **out, const struct log_options *options,
                                const char **error);

/* log_close: finish what is queued, then free everything and call back; may call back before
 * returning. */
void log_close(struct log *log, void (*closed)(void *data), void *data);

/* ---- term and vote ---- */

uint64_t log_term(const struct log *log);
uint64_t log_vote(const struct log *log);
/* log_set_term: also forgets the vote. Both are on disk when they return (blocking). */
MUST_CHECK enum status log_set_term(struct log *log, uint64_t term);
MUST_CHECK enum status log_set_vote(struct log *log, uint64_t node_id);

/* ---- entries ---- */

struct log_entry {
    uint64_t index;
    uint64_t term;
    uint16_t type; /* opaque here */
    struct slice payload;
};

/* log_last_index: 0 = empty. log_first_index: of the unbroken run of entries that ends with the
 * last one; there may be older entries before it, kept for their bodies, with gaps. */
uint64_t log_last_index(const struct log *log);
uint64_t log_first_index(const struct log *log);
/* log_durable_index: everything up to here is on disk. */
uint64_t log_durable_index(const struct log *log);

/* log_load: give every entry from `from` to the last to `visit`, in order (blocking, at start). The
 * payload is borrowed for the call. `from` >= log_first_index.
 *   errors: CORRUPT, IO_ERROR; *error as in log_open */
MUST_CHECK enum status log_load(struct log *log, uint64_t from,
                                void (*visit)(void *data, const struct log_entry *entry),
                                void *data, const char **error);

struct log_append;
typedef void (*log_append_cb)(struct log_append *append, enum status status);

/* The caller's memory, alive until `done`; payloads too. */
struct log_append {
    log_append_cb done; /* OK: on disk. IO_ERROR only after a fatal that returned. */
    void *data;
};

/* log_append: store `count` entries whose indexes follow the last one. Entries that are appended
 * while a write is under way go into the next write together. Payloads <= 1 GiB.
 *   log_append_now: the same, blocking; nothing else may be queued. At start only. */
void log_append(struct log *log, struct log_append *append, const struct log_entry *entries,
                size_t count);
MUST_CHECK enum status log_append_now(struct log *log, const struct log_entry *entries,
                                      size_t count);

/* log_truncate: drop every entry from `index` on; takes effect before later appends. Nothing that
 * is dropped may be held. */
void log_truncate(struct log *log, uint64_t index);

/* log_prefix_done: entries up to `index` are needed only for what is held in them. */
void log_prefix_done(struct log *log, uint64_t index);

/* log_hold, log_release: count references to bodies; each hold is released with the same ref. A
 * hold on what is not there (any more) is counted as missing: while a snapshot that is older than
 * the log is replayed, such holds come and go. log_missing: how many are left, and the last such
 * index. */
void log_hold(struct log *log, struct body_ref ref);
void log_release(struct log *log, struct body_ref ref);
uint64_t log_missing(const struct log *log, uint64_t *index);
/* log_owed_index: until entries up to here are applied, something may be missing for a reason: they
 * release what a snapshot that was taken over refers to. */
uint64_t log_owed_index(const struct log *log);

/* log_reclaim_begin: recovery is over, and all holds are counted: from now on segments may go, and
 * those in which little is held are rewritten. */
void log_reclaim_begin(struct log *log);

/* ---- bodies ---- */

/* log_read_now: append a body to `out` if it is in memory and matches its checksum; else false,
 * `out` unchanged. The entry must be durable. */
MUST_CHECK bool log_read_now(struct log *log, struct body_ref ref, struct buffer *out);

struct log_read;
typedef void (*log_read_cb)(struct log_read *read, enum status status);
struct log_read {
    const struct body_ref *refs; /* caller's, alive until done */
    size_t count;
    struct buffer out; /* the bodies in order; the caller's, also to free */
    log_read_cb done;  /* OK; CORRUPT: missing or damaged; IO_ERROR, BUSY (no file descriptors) */
    void *data;
    /* private */
    uv_work_t work;
    struct log *log;
    struct read_step *steps;
    enum status status;
};
/* log_read: from a pool thread. What is held now stays readable until done. */
void log_read(struct log *log, struct log_read *read);

/* ---- snapshots ---- */

struct log_snapshot_put;
typedef void (*log_snapshot_put_cb)(struct log_snapshot_put *put, enum status status);
struct log_snapshot_put {
    struct log_snapshot snapshot; /* data is unused; config is borrowed until done */
    /* make: give the data to `sink` with snapshot_add. Runs once, before log_snapshot_put returns
     * or in a forked child, which has a copy of everything as it was then: it may read memory, and
     * must take no lock, use no file or loop, and better take no memory. */
    void (*make)(void *make_data, struct snapshot_sink *sink);
    void *make_data;
    const struct slice *parts; /* where `make` is NULL: the data; borrowed until done */
    size_t part_count;
    log_snapshot_put_cb done;
    void *data;
    uint64_t raw_bytes;  /* out: of the data, as they were given */
    uint64_t file_bytes; /* out: on disk */
    uint64_t fork_ns;    /* out: how long the fork stopped everything */
    /* private */
    uv_work_t work;
    uv_poll_t poll;
    struct log *log;
    struct buffer image; /* of the whole file, where there is no child */
    pid_t pid;           /* of the child; 0: none */
    int fd;              /* of its report */
    int ended;           /* its status, as of waitpid */
    int error;
};
/* log_snapshot_put: write it from a child process or a pool thread and keep the newest two. One at
 * a time. log_close ends it. errors (in done): DISK_FULL, IO_ERROR (also: the child was killed):
 * nothing changed */
void log_snapshot_put(struct log *log, struct log_snapshot_put *put);

/* log_snapshot_load: the newest good one from which the log goes on (blocking); index 0 if there is
 * none and the log reaches back to entry 1. The caller frees it.
 *   errors: CORRUPT with *error: a damaged one without a way round it */
MUST_CHECK enum status log_snapshot_load(struct log *log, struct log_snapshot *out,
                                         const char **error);

/* log_snapshot_index: of the newest. log_snapshot_older: of the one before; 0 = none. */
uint64_t log_snapshot_index(const struct log *log);
uint64_t log_snapshot_older(const struct log *log);

/* ---- seeing inside ---- */

struct log_stats {
    uint64_t bytes_written; /* since open, with headers */
    uint64_t bytes_saved;   /* since open: how many more it would have been without packing */
    uint64_t syncs;         /* since open */
    uint64_t segments;
    uint64_t bytes_on_disk; /* of segments and spares */
    uint64_t holds;
    uint64_t live_bytes;             /* on disk, about: of blocks in which something is held */
    uint64_t rewrites;               /* since open */
    uint64_t bytes_rewritten;        /* since open; not in bytes_written */
    uint64_t snapshots;              /* stored since open */
    uint64_t snapshot_bytes_written; /* of those */
    uint64_t snapshot_fork_ns_max;   /* the longest pause for one */
    pid_t snapshot_pid;              /* of the child that writes one now; 0: none */
};
void log_stats(const struct log *log, struct log_stats *out);

/* log_disk_free: bytes that this process may still use on the log's file system. */
MUST_CHECK enum status log_disk_free(const struct log *log, uint64_t *out);

/* ---- one process per folder ---- */

struct node_lock {
    int fd;
};
/* node_lock_take: lock DIR/LOCK, made if missing, trying again for `wait_ms` (blocking). The lock
 * goes with the process, however it ends.
 *   errors: LOCKED, PERMISSION, IO_ERROR; *error as in log_open */
MUST_CHECK enum status node_lock_take(struct node_lock *lock, const char *dir, uint32_t wait_ms,
                                      const char **error);
void node_lock_drop(struct node_lock *lock);

#endif
