/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of broker/log share. Nothing outside the folder includes this. */
#ifndef BROKER_LOG_INTERNAL_H
#define BROKER_LOG_INTERNAL_H

#include "broker/log/frame.h"
#include "broker/log/log.h"
#include "broker/log/meta.h"
#include "broker/log/packer.h"
#include "broker/log/sparse.h"
#include "broker/log/transfer.h"
#include "broker/log/write_thread.h"

#define NAME_BYTES         48
#define OPEN_FILES_MAX     64 /* sealed segments kept open for reading */
#define SPARE_FILES_MAX    16
#define JOB_BYTES_MAX      (8u << 20) /* of payload in one write, unless one entry is bigger */
#define SNAPSHOTS_KEPT     2
#define SNAPSHOTS_READ_MAX 16
#define BACKUP_NAME        "backup" /* the folder of log_backup_begin */

/* One segment file. Everything but `fd` is the loop's; `fd` is the writer's until the operation
 * that opens the segment has completed.
 *
 * Where a frame stands is known when it has been written, since only then it is packed or not. So
 * the first `placed` frames have an offset; for the others there is `reserved` room behind `end`,
 * as much as they take unpacked. */
struct segment {
    struct segment_head head;
    uint32_t *offsets;   /* of each placed frame */
    uint32_t *blocks_at; /* which of `live` is the frame's first */
    uint32_t *numbers;   /* rewritten: index less first_index, of each frame; else NULL */
    uint16_t *live;      /* bodies in each block of each payload; or BLOCK_GONE, BLOCK_STUCK */
    uint32_t count;
    uint32_t capacity;
    uint32_t placed;
    uint32_t block_count;
    uint32_t block_capacity;
    uint32_t end;      /* of the placed frames: where the next one goes */
    uint32_t reserved; /* for those that are not placed yet */
    uint32_t size;     /* frames end before this */
    uint64_t file_bytes;
    uint64_t holds;      /* bodies */
    uint64_t live_bytes; /* in the file, of blocks with a body; about */
    uint32_t users;      /* queued operations and reads */
    uint64_t last_used;  /* for closing the file that was not read for longest */
    uint32_t filled;     /* the writer's: bytes before this one were written once */
    int fd;              /* -1: closed */
    bool sealed;
    bool damaged;  /* a rewrite found out */
    bool nameless; /* retired, and its name is gone for good: the folder was synced */
    bool retired;  /* removed, or replaced by its rewritten self; only reads still use it */
};

/* Values of `live` that are no counts. */
#define BLOCK_GONE  UINT16_MAX       /* left out by a rewrite, or about to be */
#define BLOCK_STUCK (UINT16_MAX - 1) /* counting was given up: kept as long as the segment */

enum op_type {
    OP_OPEN,
    OP_WRITE,
    OP_SEAL,
    OP_CUT,
    OP_REMOVE,
    OP_SWITCH,
    OP_INSTALL,
    OP_TYPE_COUNT
};

/* One step of the writer; see writer.c. */
struct op {
    enum op_type type;
    struct op *next;
    struct segment *segment;
    struct segment *fresh;         /* SWITCH: what takes the segment's place */
    uint32_t offset;               /* SEAL: where; CUT: the new end. WRITE: where, for the first
                                      one of a job in its segment; out: for each */
    uint32_t bytes;                /* WRITE, out: of the frame */
    struct log_entry entry;        /* WRITE; CUT: only the index, the first that goes */
    struct log_append *append;     /* WRITE: of the last entry of a request */
    struct buffer footer;          /* SEAL */
    struct log_incoming *incoming; /* INSTALL */
    char spare[NAME_BYTES];        /* OPEN: file to use; REMOVE: name to keep it under; or "" */
    int file;                      /* REMOVE, out: open, if the segment's was closed; else -1 */
    bool unlinked;                 /* REMOVE, out: it is gone, and no spare */
    bool at_leisure;               /* REMOVE: by removal.c, which syncs the folder */
    bool replaced;                 /* REMOVE: the OPEN behind it takes the name */
};

struct op_list {
    struct op *first;
    struct op *last;
};

struct job {
    struct write_task task;
    struct log *log;
    struct op_list ops;
    uint64_t synced_index; /* what was durable when the job began */
    struct segment *into;  /* what WRITE wrote to last, and where its frames end now */
    uint32_t into_at;
    uint64_t bytes;        /* out: written */
    uint64_t saved;        /* out: by packing */
    uint64_t syncs;        /* out */
    int error;             /* out: 0 or an errno */
    const char *doing;     /* out: what failed */
    struct segment *dirty; /* written, not yet synced */
};

struct log {
    struct log_options options;
    const struct log_disk *disk;
    char *dir;
    int dir_fd;
    int segments_fd;
    int snapshots_fd;
    struct log_meta meta;

    struct segment **segments; /* by first index */
    size_t segment_count;
    size_t segment_capacity;
    uint64_t next_index;
    uint64_t durable_index;
    uint32_t cuts;       /* queued or under way */
    uint64_t cut_floor;  /* the lowest index that one of them cuts off; UINT64_MAX */
    uint64_t done_index; /* log_prefix_done */
    uint64_t read_clock;
    uint32_t open_files;
    uint64_t missing;
    uint64_t missing_index;
    uint64_t owed_index;
    bool reclaim;

    struct op_list queue;
    struct packer packer;        /* the job's */
    struct buffer packed;        /* the job's: payloads on their way to the disk */
    struct shelf *shelf;         /* what log_read_now read last (reader.c) */
    struct write_thread *thread; /* begun with the first job; NULL: none has been yet */
    bool writing;                /* a job is in the thread */
    bool in_callbacks;
    bool failed;

    char spares[SPARE_FILES_MAX][NAME_BYTES];
    uint32_t spare_count;
    uint64_t spare_number;   /* for names */
    struct removal *removal; /* NULL: no segment is on its way out */
    uint32_t shrinks;        /* files that are */

    uint64_t snapshots[SNAPSHOTS_READ_MAX]; /* indexes, ascending */
    size_t snapshot_count;
    struct log_snapshot_put *putting; /* NULL: no snapshot is being stored */
    uint64_t puts;                    /* stored */
    uint64_t put_bytes;
    uint64_t fork_ns_max;

    struct rewrite *rewrite; /* under way */
    uv_timer_t pace;         /* when the next may begin */
    bool pace_open;

    struct log_incoming *incoming; /* what another node sends, until it is taken over */
    uint64_t incoming_number;      /* for names */
    uint32_t incoming_ends;        /* given up, and not yet removed */

    uint32_t reads;
    uint32_t exports; /* open; a backup counts as one */
    bool backing_up;
    uint64_t bytes_written;
    uint64_t bytes_saved;
    uint64_t syncs;
    uint64_t rewrites;
    uint64_t bytes_rewritten;

    bool thread_closing;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- segment.c ---- */
struct segment *segment_new(uint64_t id, uint64_t first_index, uint32_t size);
void segment_free(struct segment *segment);
void segment_name(uint64_t first_index, char out[NAME_BYTES]);
uint64_t segment_name_parse(const char *name);        /* 0: another name */
uint64_t segment_last(const struct segment *segment); /* first_index - 1 when it is empty */
/* segment_add_frame: it is to be written. segment_place_frame: it was, in so many bytes. */
void segment_add_frame(struct segment *segment, uint32_t length);
void segment_place_frame(struct segment *segment, uint64_t index, uint32_t length, uint32_t offset,
                         uint32_t bytes);
/* segment_cut: only `count` frames are left. */
void segment_cut(struct segment *segment, uint32_t count);
/* segment_footer: append that of an ordinary segment, all placed. */
void segment_footer(const struct segment *segment, struct buffer *out);
/* segment_slot: which frame has this index; false: none. */
MUST_CHECK bool segment_slot(const struct segment *segment, uint64_t index, uint32_t *slot);
/* segment_slot_bytes, segment_slot_blocks: of the frame in the file; of its payload. */
uint32_t segment_slot_bytes(const struct segment *segment, uint32_t slot);
uint32_t segment_slot_blocks(const struct segment *segment, uint32_t slot);
/* segment_block_cost: about what a block of the frame takes in the file. */
uint32_t segment_block_cost(const struct segment *segment, uint32_t slot);
/* segment_take_places: the frames of a recovered segment. */
void segment_take_places(struct segment *segment, const struct frame_place *places, uint32_t count,
                         uint32_t end);
/* segment_add_blocks: the next frame's, nothing held; blocks_at must have the room. */
void segment_add_blocks(struct segment *segment, uint32_t slot, uint32_t blocks);
/* segment_hold, segment_release: false, and nothing is counted, if the body is not there. */
MUST_CHECK bool segment_hold(struct segment *segment, struct body_ref ref);
MUST_CHECK bool segment_release(struct segment *segment, struct body_ref ref);
void segments_add(struct log *log, struct segment *segment); /* behind all others */
void segments_remove(struct log *log, struct segment *segment);
void segments_replace(struct log *log, struct segment *old, struct segment *fresh);
struct segment *segments_find(const struct log *log, uint64_t index); /* NULL: not there */
void segments_hold_nothing(struct log *log);
struct segment *segments_last(const struct log *log);
/* segment_open_file: make sure that fd is open; 0 or an errno. */
MUST_CHECK int segment_open_file(struct log *log, struct segment *segment);

/* ---- removal.c ---- */
/* segment_consider: remove it if nobody needs it any more, now or when its turn comes.
 * removal_consider: the same, of all. removal_goes_on: the REMOVE has been done, or never will. */
void segment_consider(struct log *log, struct segment *segment);
void removal_consider(struct log *log);
void removal_goes_on(struct log *log, struct op *op);

/* ---- shrink.c ---- */
/* shrink_begin: close a file, which the callee owns now. `cut`: its name is gone for good (the
 * folder was synced), so its blocks go in pieces first. `done`: then; may be NULL. */
void shrink_begin(struct log *log, int fd, bool cut, void (*done)(struct log *log));

/* ---- reader.c ---- */
/* shelf_forget: another file has taken the segment's place. NULL is fine to both. */
void shelf_drop(struct shelf *shelf);
void shelf_forget(struct shelf *shelf, uint64_t segment_id);
/* One frame of a segment that is in use from read_step_begin to read_step_end, both on the loop. */
struct read_step {
    struct segment *segment; /* NULL: the entry is not there */
    int fd;
    int error;
    uint64_t segment_id;
    uint32_t frame_at;
};
void read_step_begin(struct log *log, uint64_t index, struct read_step *step);
void read_step_end(struct log *log, struct read_step *step);
enum status read_step_status(const struct read_step *step); /* CORRUPT: not there */

/* ---- recover.c ---- */
MUST_CHECK enum status recover_segments(struct log *log, const char **error);

/* ---- writer.c ---- */
void writer_add(struct log *log, struct op op); /* copies the op */
void writer_kick(struct log *log);
MUST_CHECK enum status writer_run_now(struct log *log);
void log_fatal(struct log *log, const char *sentence);

/* ---- rewrite.c ---- */
#define REWRITE_NAME "rewrite.tmp"
/* rewrite_consider: begin to rewrite a segment if one is worth it and it is time. `segment`: look
 * at this one only; NULL: at all. rewrite_switched: after OP_SWITCH, in the loop. */
void rewrite_open(struct log *log);
void rewrite_close(struct log *log);
void rewrite_consider(struct log *log, struct segment *segment);
MUST_CHECK int rewrite_switch(struct log *log, const struct segment *segment);
void rewrite_switched(struct log *log, struct op *op);
/* rewrite_take_footer: the frames of a rewritten segment; false: it does not hold. */
MUST_CHECK bool rewrite_take_footer(struct segment *segment, struct slice footer, uint32_t count,
                                    uint32_t end);

/* ---- snapshot_store.c ---- */
MUST_CHECK enum status snapshots_list(struct log *log, const char **error);
/* snapshots_stop: end the child that is writing one; its put fails. */
void snapshots_stop(struct log *log);

/* ---- install.c ---- */
/* install_decide: the staging folder becomes the one to install: what follows happens, also after a
 * crash. *decided: it may have, even if there was an error. thread: pool. */
MUST_CHECK int install_decide(struct log *log, const char *name, bool *decided);
/* install_move: entries behind keep_index are gone for good: everything in the folder goes to its
 * place, older snapshots go, then the folder. thread: pool, or at start. */
MUST_CHECK int install_move(struct log *log);
/* install_recover: at start, before anything else: leftovers of staging go; what was decided is
 * carried out. */
MUST_CHECK enum status install_recover(struct log *log, const char **error);

/* ---- incoming.c ---- */
void incoming_proceed(struct log *log); /* a snapshot put has ended */
void incoming_installed(struct log *log, struct log_incoming *incoming);
void incoming_close(struct log *log);

/* ---- log.c ---- */
/* log_sync_last: the last segment as it was read at start may be in the kernel's memory only. */
MUST_CHECK int log_sync_last(const struct log *log);
/* log_cut: drop every entry from `index` on. The last segment that is left is sealed. */
void log_cut(struct log *log, uint64_t index);
/* log_maybe_closed: after every end of an activity. The log may be gone when it returns. */
void log_maybe_closed(struct log *log);

#endif
