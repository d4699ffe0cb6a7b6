/* SPDX-License-Identifier: Apache-2.0 */
/* The folder of one shard: term and vote, snapshots, segments, and the state that comes of them.
 * The state is what a start would come to: the newest good snapshot that the log goes on from, and
 * every entry behind it. In a cluster the last entries may never have been committed; a start would
 * not apply those. */
#include "broker/inspect/internal.h"
#include "broker/log/disk.h"
#include "broker/log/meta.h"
#include "broker/log/owed.h"
#include "broker/log/snapshot_file.h"
#include "proto/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* One segment whose frames are known. */
struct span {
    char name[48];
    const char *folder;
    int fd; /* of the folder */
    uint64_t first;
    uint64_t last;
    bool sparse;
};

struct shard {
    const struct inspect_options *options;
    struct problems problems;
    json_t *report;
    int dir_fd;
    int segments_fd;
    int snapshots_fd;
    struct buffer spans;
    struct buffer snapshots; /* uint64_t index of each that holds, ascending */
    struct bodies bodies;
    struct installing installing;
};

/* Where a file is. */
struct place {
    int fd;
    const char *folder;
};

static size_t span_count(const struct shard *shard)
{
    return shard->spans.length / sizeof(struct span);
}

static struct span span_at(const struct shard *shard, size_t i)
{
    struct span span;
    memcpy(&span, shard->spans.data + i * sizeof span, sizeof span);
    return span;
}

/* ---- meta ---- */

static const char *meta_state(struct shard *shard, const char *name)
{
    struct buffer file = {0};
    struct log_meta meta;
    int error = disk_read_file(shard->dir_fd, name, &file);
    bool good = error == 0 && meta_decode(buffer_slice(&file), &meta);
    buffer_free(&file);
    if (error == ENOENT)
        return "absent";
    return good ? "good" : "damaged"; /* one may be: a write to it was torn */
}

static void inspect_meta(struct shard *shard)
{
    struct log_meta meta;
    enum status status = meta_load(shard->dir_fd, &meta);
    json_t *files = json_pack("{s:s, s:s}", "meta-1", meta_state(shard, "meta-1"), "meta-2",
                              meta_state(shard, "meta-2"));
    if (status == STATUS_UNSUPPORTED)
        problem(&shard->problems, "meta-1", 8, "written by a later version of the program");
    else if (status != STATUS_OK)
        problem(&shard->problems, "meta-1", 0, "neither meta-1 nor meta-2 is readable and whole");
    else if (meta.sequence == 0)
        problem(&shard->problems, "meta-1", 0, "meta-1 and meta-2 are missing");
    else
        json_object_set_new(shard->report, "meta",
                            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "format",
                                      (json_int_t)meta.format, "node_id", (json_int_t)meta.node_id,
                                      "shard_id", (json_int_t)meta.shard_id, "term",
                                      (json_int_t)meta.term, "vote", (json_int_t)meta.vote,
                                      "sequence", (json_int_t)meta.sequence));
    json_object_set_new(shard->report, "meta_files", files);
}

/* ---- snapshots ---- */

static void describe_state(struct shard *shard, const char *file, const struct log_snapshot *s,
                           json_t *row)
{
    struct core_events events = {0};
    struct core *core = core_new(&events);
    if (core_restore(core, buffer_slice(&s->data)) != STATUS_OK) {
        problem(&shard->problems, file, 0, "it is whole, but its content makes no sense");
    } else {
        json_t *state = state_describe(core, false);
        json_object_update(row, state);
        json_decref(state);
        buffer_add(&shard->snapshots, &s->index, sizeof s->index);
    }
    core_free(core);
}

static json_t *inspect_snapshot(struct shard *shard, struct place in, const char *name, bool last)
{
    char path[64];
    struct buffer file = {0};
    struct log_snapshot s;
    (void)last;
    snprintf(path, sizeof path, "%s/%s", in.folder, name);
    json_t *row = json_pack("{s:s}", "file", path);
    int error = disk_read_file(in.fd, name, &file);
    json_object_set_new(row, "file_bytes", json_integer((json_int_t)file.length));
    if (error != 0) {
        problem(&shard->problems, path, 0, "cannot be read: %s", strerror(error));
    } else if (snapshot_decode(buffer_slice(&file), &s) != STATUS_OK) {
        problem(&shard->problems, path, 0, "it does not match its checksums");
    } else {
        json_t *head = json_pack("{s:I, s:I, s:I, s:I, s:I}", "index", (json_int_t)s.index, "term",
                                 (json_int_t)s.term, "config_index", (json_int_t)s.config_index,
                                 "config_bytes", (json_int_t)s.config.length, "data_bytes",
                                 (json_int_t)s.data.length);
        json_object_update(row, head);
        json_decref(head);
        if (s.index != snapshot_name_parse(name))
            problem(&shard->problems, path, 8, "it belongs to entry %" PRIu64, s.index);
        else
            describe_state(shard, path, &s, row);
        log_snapshot_free(&s);
    }
    buffer_free(&file);
    return row;
}

/* ---- segments ---- */

static void check_frames(struct shard *shard, struct segment_file *file, json_t *row)
{
    uint64_t term = 0;
    uint64_t payload_bytes = 0;
    uint64_t sparse = 0;
    uint64_t packed = 0;
    for (uint32_t slot = 0; slot < file->count; slot++) {
        struct frame frame;
        struct slice payload;
        if (!segment_file_frame(file, slot, &frame, &payload, &shard->problems))
            continue;
        if (frame.term < term)
            problem(&shard->problems, file->name, file->places[slot].offset,
                    "the term of entry %" PRIu64 " is lower than that of the one before",
                    frame.index);
        term = frame.term;
        payload_bytes += frame.length;
        sparse += frame.sparse ? 1 : 0;
        packed += frame.packed ? 1 : 0;
    }
    json_object_set_new(row, "payload_bytes", json_integer((json_int_t)payload_bytes));
    json_object_set_new(row, "sparse_frames", json_integer((json_int_t)sparse));
    json_object_set_new(row, "packed_frames", json_integer((json_int_t)packed));
}

static json_t *describe_segment(const struct segment_file *file)
{
    char id[20];
    snprintf(id, sizeof id, "%016" PRIx64, file->head.id);
    return json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:b, s:b, s:b}", "file", file->name,
                     "file_bytes", (json_int_t)file->bytes.length, "segment_id", id, "first_index",
                     (json_int_t)file->head.first_index, "last_index",
                     (json_int_t)segment_file_last(file), "frames", (json_int_t)file->count,
                     "frames_end", (json_int_t)file->end, "sealed", file->sealed, "rewritten",
                     file->numbers != NULL, "leftovers", file->torn);
}

/* note_span: of the segments that a start would find; see install.c. */
static void note_span(struct shard *shard, struct place in, const struct segment_file *file,
                      const char *name)
{
    bool stays = in.fd == shard->segments_fd;
    uint64_t keep = stays ? shard->installing.keep_index : UINT64_MAX;
    uint64_t last = segment_file_last(file);
    struct span span = {.folder = in.folder,
                        .fd = in.fd,
                        .first = file->head.first_index,
                        .last = last < keep ? last : keep,
                        .sparse = file->numbers != NULL};
    if (span.first > keep)
        return;
    snprintf(span.name, sizeof span.name, "%s", name);
    if (span_count(shard) > 0 && span_at(shard, span_count(shard) - 1).last >= span.first)
        problem(&shard->problems, file->name, 16, "it overlaps the segment before it");
    buffer_add(&shard->spans, &span, sizeof span);
    bodies_add(&shard->bodies, file, keep);
}

static json_t *inspect_segment(struct shard *shard, struct place in, const char *name, bool last)
{
    struct segment_file file;
    json_t *row;
    if (segment_file_read(in.fd, in.folder, name, last, &file, &shard->problems)) {
        row = describe_segment(&file);
        note_span(shard, in, &file, name);
        if (shard->options->verify)
            check_frames(shard, &file, row);
    } else {
        row =
            json_pack("{s:s, s:I}", "file", file.name, "file_bytes", (json_int_t)file.bytes.length);
    }
    segment_file_free(&file);
    return row;
}

/* ---- folders ---- */

typedef json_t *(*inspect_fn)(struct shard *shard, struct place in, const char *name, bool last);

static bool is_segment(const char *name)
{
    return segment_file_name(name) > 0;
}

static bool is_snapshot(const char *name)
{
    return snapshot_name_parse(name) > 0;
}

/* walk: rows for what `is` knows, in order of names; other names go to `other` (NULL: nowhere). */
static void walk(struct shard *shard, struct place in, bool (*is)(const char *name),
                 inspect_fn inspect, json_t *rows, json_t *other)
{
    struct buffer names = {0};
    size_t count = 0;
    int error = in.fd < 0 ? ENOENT : disk_names(in.fd, &names, &count);
    if (error != 0)
        problem(&shard->problems, in.folder, 0, "cannot be read: %s", strerror(error));
    const char *pending = NULL;
    const char *name = (const char *)names.data;
    for (size_t i = 0; error == 0 && i < count; i++, name += strlen(name) + 1) {
        if (!is(name)) {
            if (other != NULL)
                json_array_append_new(other, json_sprintf("%s/%s", in.folder, name));
            continue;
        }
        if (pending != NULL)
            json_array_append_new(rows, inspect(shard, in, pending, false));
        pending = name;
    }
    if (pending != NULL)
        json_array_append_new(rows, inspect(shard, in, pending, true));
    buffer_free(&names);
}

static void walk_folder(struct shard *shard, struct place in, bool (*is)(const char *name),
                        inspect_fn inspect)
{
    json_t *rows = json_array();
    json_object_set_new(shard->report, in.folder, rows);
    walk(shard, in, is, inspect, rows, json_object_get(shard->report, "other_files"));
}

static void walk_install(struct shard *shard)
{
    struct place in = {shard->installing.fd, INSTALL_NAME};
    if (in.fd < 0)
        return;
    json_t *report = installing_describe(&shard->installing);
    json_object_set_new(shard->report, INSTALL_NAME, report);
    walk(shard, in, is_snapshot, inspect_snapshot, json_object_get(report, "snapshots"), NULL);
    walk(shard, in, is_segment, inspect_segment, json_object_get(report, "segments"), NULL);
}

/* list_incoming: what a start removes. */
static void list_incoming(struct shard *shard)
{
    struct buffer names = {0};
    size_t count = 0;
    int error = disk_names(shard->dir_fd, &names, &count);
    const char *name = (const char *)names.data;
    for (size_t i = 0; error == 0 && i < count; i++, name += strlen(name) + 1) {
        if (strncmp(name, INCOMING_PREFIX, strlen(INCOMING_PREFIX)) == 0)
            json_array_append_new(json_object_get(shard->report, "other_files"),
                                  json_sprintf("%s/", name));
    }
    buffer_free(&names);
}

/* ---- the state ---- */

/* run_begin: where the unbroken run of entries at the end begins; 1 when there is none. */
static uint64_t run_begin(const struct shard *shard, uint64_t *last)
{
    size_t count = span_count(shard);
    *last = count > 0 ? span_at(shard, count - 1).last : 0;
    uint64_t first = *last + 1;
    for (size_t i = count; i > 0; i--) {
        struct span span = span_at(shard, i - 1);
        if (span.last + 1 != first || span.sparse)
            break;
        first = span.first;
    }
    return first;
}

/* choose: the newest good snapshot that the log goes on from; 0: from the first entry. */
static bool choose(struct shard *shard, uint64_t *out)
{
    uint64_t last;
    uint64_t first = run_begin(shard, &last);
    for (size_t i = shard->snapshots.length / sizeof *out; i > 0; i--) {
        memcpy(out, shard->snapshots.data + (i - 1) * sizeof *out, sizeof *out);
        if (first <= *out + 1 && last >= *out)
            return true;
    }
    bool empty = last == 0 && shard->snapshots.length == 0;
    *out = 0;
    if (first == 1 || empty)
        return true;
    problem(&shard->problems, "segments", 0,
            "the entries are %" PRIu64 " to %" PRIu64 ", and no good snapshot leads up to them",
            first, last);
    return false;
}

static bool restore(struct shard *shard, struct core *core, uint64_t index)
{
    char name[SNAPSHOT_NAME_BYTES];
    struct buffer file = {0};
    struct log_snapshot s = {0};
    if (index == 0)
        return true;
    snapshot_name(index, name);
    bool found =
        disk_read_file(shard->snapshots_fd, name, &file) == 0 ||
        (shard->installing.fd >= 0 && disk_read_file(shard->installing.fd, name, &file) == 0);
    bool good = found && snapshot_decode(buffer_slice(&file), &s) == STATUS_OK &&
                core_restore(core, buffer_slice(&s.data)) == STATUS_OK;
    log_snapshot_free(&s);
    buffer_free(&file);
    return good;
}

/* replay_segment: false: a problem was noted, and what follows makes no sense. */
static bool replay_segment(struct shard *shard, struct core *core, const struct span *span,
                           uint64_t after)
{
    struct segment_file file;
    struct frame frame;
    struct slice payload;
    bool good =
        segment_file_read(span->fd, span->folder, span->name, true, &file, &shard->problems);
    for (uint32_t slot = 0; good && slot < file.count; slot++) {
        if (segment_file_index(&file, slot) <= after)
            continue;
        good = segment_file_frame(&file, slot, &frame, &payload, &shard->problems);
        if (!good || frame.type != 1)
            continue;
        good = core_apply_entry(core, frame.index, payload) == STATUS_OK;
        if (!good)
            problem(&shard->problems, file.name, file.places[slot].offset,
                    "entry %" PRIu64 " does not decode", frame.index);
    }
    segment_file_free(&file);
    return good;
}

static struct core *replay(struct shard *shard)
{
    struct core_events events = {
        .data = &shard->bodies, .body_hold = bodies_hold, .body_release = bodies_release};
    uint64_t after;
    if (!choose(shard, &after))
        return NULL;
    struct core *core = core_new(&events);
    bool good = restore(shard, core, after);
    for (size_t i = 0; good && i < span_count(shard); i++) {
        struct span span = span_at(shard, i);
        if (span.last > after)
            good = replay_segment(shard, core, &span, after);
    }
    if (good) {
        core_bury(core, UINT64_MAX); /* the broker may have, and removed the bodies */
        return core;
    }
    core_free(core);
    return NULL;
}

static void report_state(struct shard *shard, const struct core *core)
{
    const struct bodies *bodies = &shard->bodies;
    uint64_t last;
    uint64_t first = run_begin(shard, &last);
    json_t *state = state_describe(core, true);
    json_object_set_new(state, "first_index", json_integer((json_int_t)first));
    json_object_set_new(state, "last_index", json_integer((json_int_t)last));
    json_object_set_new(state, "bodies", json_integer((json_int_t)bodies->held));
    json_object_set_new(state, "body_bytes", json_integer((json_int_t)bodies->held_bytes));
    json_object_set_new(state, "bodies_missing", json_integer((json_int_t)bodies->missing));
    json_object_set_new(shard->report, "state", state);
    /* What follows may release them: log_owed_index. */
    if (bodies->missing > 0 && last >= owed_load(shard->dir_fd))
        problem(&shard->problems, "segments", 0,
                "%" PRIu64 " messages are in segments that are missing (one is in entry %" PRIu64
                ")",
                bodies->missing, bodies->missing_index);
}

/* ---- entries ---- */

static void list_segment(struct shard *shard, const struct core *core, const struct span *span,
                         json_t *list)
{
    struct segment_file file;
    struct problems quiet = {json_array(), ""}; /* it has been said */
    bool good = segment_file_read(span->fd, span->folder, span->name, true, &file, &quiet);
    for (uint32_t slot = 0; good && slot < file.count; slot++) {
        struct frame frame;
        struct slice payload;
        uint64_t index = segment_file_index(&file, slot);
        if (index < shard->options->from || index > shard->options->to)
            continue;
        bool whole = segment_file_frame(&file, slot, &frame, &payload, &quiet);
        json_t *row = whole ? state_entry(&frame, payload, core)
                            : json_pack("{s:I, s:b}", "index", (json_int_t)index, "damaged", 1);
        json_object_set_new(row, "file", json_string(file.name));
        json_object_set_new(row, "offset", json_integer((json_int_t)file.places[slot].offset));
        json_array_append_new(list, row);
    }
    segment_file_free(&file);
    json_decref(quiet.list);
}

static void list_entries(struct shard *shard, const struct core *core)
{
    json_t *list = json_array();
    if (shard->options->from == 0) {
        json_decref(list);
        return;
    }
    for (size_t i = 0; i < span_count(shard); i++) {
        struct span span = span_at(shard, i);
        if (span.last >= shard->options->from && span.first <= shard->options->to)
            list_segment(shard, core, &span, list);
    }
    json_object_set_new(shard->report, "entries", list);
}

static int open_folder(int dir_fd, const char *name)
{
    return openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void close_folder(int fd)
{
    if (fd >= 0)
        close(fd);
}

json_t *inspect_shard(int dir_fd, const char *name, const struct inspect_options *options,
                      json_t *problem_list)
{
    struct shard shard = {.options = options,
                          .problems = {problem_list, name},
                          .report = json_pack("{s:s, s:[]}", "name", name, "other_files"),
                          .dir_fd = dir_fd,
                          .segments_fd = open_folder(dir_fd, "segments"),
                          .snapshots_fd = open_folder(dir_fd, "snapshots")};
    inspect_meta(&shard);
    shard.installing = installing_open(dir_fd, &shard.problems);
    walk_folder(&shard, (struct place){shard.snapshots_fd, "snapshots"}, is_snapshot,
                inspect_snapshot);
    walk_folder(&shard, (struct place){shard.segments_fd, "segments"}, is_segment, inspect_segment);
    walk_install(&shard);
    list_incoming(&shard);
    struct core *core = replay(&shard);
    if (core != NULL)
        report_state(&shard, core);
    list_entries(&shard, core);
    if (core != NULL)
        core_free(core);
    bodies_free(&shard.bodies);
    buffer_free(&shard.spans);
    buffer_free(&shard.snapshots);
    close_folder(shard.segments_fd);
    close_folder(shard.snapshots_fd);
    close_folder(shard.installing.fd);
    return shard.report;
}
