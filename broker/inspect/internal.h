/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of broker/inspect share. Nothing outside the folder includes this. */
#ifndef BROKER_INSPECT_INTERNAL_H
#define BROKER_INSPECT_INTERNAL_H

#include "broker/core/core.h"
#include "broker/inspect/inspect.h"
#include "broker/log/frame.h"
#include "broker/log/plan.h"
#include "broker/log/sparse.h"

/* ---- problems.c: what is wrong, in the order of finding ---- */
struct problems {
    json_t *list;      /* borrowed */
    const char *shard; /* "" for the folder itself */
};
void problem(struct problems *problems, const char *file, uint64_t offset, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- segment_file.c: one segment file in memory ---- */
struct segment_file {
    char name[64];
    struct buffer bytes;
    struct buffer payload; /* of the packed frame looked at last */
    struct segment_head head;
    struct frame_place *places;
    uint32_t *numbers; /* index less the first; NULL: 0, 1, 2 */
    uint32_t count;
    uint32_t end;
    bool sealed;
    bool torn; /* unsealed: behind the end is a torn frame, or an earlier use of the file */
};

/* segment_file_name: the first index that a name of a segment says; 0: it is no such name. */
uint64_t segment_file_name(const char *name);

/* segment_file_read: false when nothing can be made of it; the problem is noted.
 *   folder  of `dir_fd`, for people
 *   last    it may be unsealed. The caller ends it with segment_file_free, in any case. */
MUST_CHECK bool segment_file_read(int dir_fd, const char *folder, const char *name, bool last,
                                  struct segment_file *out, struct problems *problems);
void segment_file_free(struct segment_file *file);
uint64_t segment_file_last(const struct segment_file *file);
uint64_t segment_file_index(const struct segment_file *file, uint32_t slot);

/* segment_file_frame: the frame with its checksums verified; false: damaged, and noted.
 *   payload  absent (data NULL) for a sparse frame; borrowed until the next call */
MUST_CHECK bool segment_file_frame(struct segment_file *file, uint32_t slot, struct frame *frame,
                                   struct slice *payload, struct problems *problems);

/* ---- bodies.c: which blocks of which entries are there ---- */
struct bodies {
    struct buffer frames; /* struct body_frame, by index */
    struct buffer maps;
    uint64_t missing;
    uint64_t missing_index;
    uint64_t held;
    uint64_t held_bytes;
};
/* bodies_add: those of entries up to `last`; the files by index. */
void bodies_add(struct bodies *bodies, const struct segment_file *file, uint64_t last);
void bodies_hold(void *bodies, struct body_ref ref);
void bodies_release(void *bodies, struct body_ref ref);
void bodies_free(struct bodies *bodies);

/* ---- state.c: the state machine, from a snapshot or by entries ---- */
/* state_describe: digest and counts; with `queues`, each by name. */
json_t *state_describe(const struct core *core, bool queues);
/* state_entry: what an entry says; core may be NULL, or know the queues' names. */
json_t *state_entry(const struct frame *frame, struct slice payload, const struct core *core);
const char *state_type_name(uint16_t type);

/* ---- install.c: what was being taken over when the broker ended ---- */
struct installing {
    int fd;            /* of the folder; -1: there is none */
    const char *phase; /* NULL: unknown, or nothing is left to do */
    struct install_plan plan;
    uint64_t keep_index; /* entries behind it do not count; UINT64_MAX: they are gone already */
};
/* installing_open: closed by the caller. */
struct installing installing_open(int dir_fd, struct problems *problems);
json_t *installing_describe(const struct installing *installing);

/* ---- shard.c ---- */
/* inspect_shard: a folder with meta files, segments and snapshots. */
json_t *inspect_shard(int dir_fd, const char *name, const struct inspect_options *options,
                      json_t *problem_list);

#endif
