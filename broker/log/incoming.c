/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a snapshot and bodies from another node: the loop's side. Every request is one job in the
 * pool over the staging folder (staging.c); the last one decides (install.c). From then on it
 * happens, whatever comes: the loop drops the entries behind keep_index from its picture of the
 * log, adds the staged segments, and the writer does the same on disk, in its queue. */
#include "broker/log/owed.h"
#include "broker/log/staging.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define SNAPSHOT_BYTES_MAX (UINT64_C(8) << 30) /* what can be read back */

enum stage { STAGE_SNAPSHOT, STAGE_BODIES, STAGE_COMMIT };

struct log_incoming {
    struct log *log;
    struct staging staging;
    enum stage stage;
    enum status broken; /* what spoilt it */
    bool aborted;
    struct log_incoming_stats stats;
    /* the request under way */
    uv_work_t work;
    bool busy;
    enum status (*run)(struct log_incoming *incoming); /* in the pool */
    log_incoming_cb done;
    void *data;
    struct slice bytes;
    struct log_snapshot *snapshot;
    enum status status;
    bool waits;          /* a commit: for the writer to be idle, and for a snapshot put to end */
    uint64_t owed_index; /* 0: nothing is */
    bool decided; /* out: the log will be the new one; `status` says if that is known to last */
};

/* ---- requests ---- */

static void after_remove(uv_work_t *work, int status)
{
    struct log_incoming *incoming = CONTAINER_OF(work, struct log_incoming, work);
    struct log *log = incoming->log;
    (void)status;
    staging_free(&incoming->staging);
    free(incoming);
    log->incoming_ends--;
    log_maybe_closed(log);
}

static void run_remove(uv_work_t *work)
{
    struct log_incoming *incoming = CONTAINER_OF(work, struct log_incoming, work);
    staging_remove(&incoming->staging);
}

static void remove_it(struct log_incoming *incoming)
{
    int error =
        uv_queue_work(incoming->log->options.loop, &incoming->work, run_remove, after_remove);
    ASSERT(error == 0);
}

static void install(struct log_incoming *incoming);

static void run_request(uv_work_t *work)
{
    struct log_incoming *incoming = CONTAINER_OF(work, struct log_incoming, work);
    if (incoming->status == STATUS_OK)
        incoming->status = incoming->run(incoming);
}

/* spoils: after these the staging folder is not what it should be. */
static bool spoils(enum status status)
{
    return status != STATUS_OK && status != STATUS_INVALID && status != STATUS_CORRUPT;
}

static void after_request(uv_work_t *work, int status)
{
    struct log_incoming *incoming = CONTAINER_OF(work, struct log_incoming, work);
    (void)status; /* never cancelled */
    const struct staging *s = &incoming->staging;
    incoming->busy = false;
    incoming->stats = (struct log_incoming_stats){s->snapshot_bytes, s->body_bytes, s->entries};
    if (incoming->decided) {
        install(incoming);
        return;
    }
    if (incoming->stage == STAGE_COMMIT)
        incoming->stage = STAGE_BODIES;
    if (spoils(incoming->status) && incoming->broken == STATUS_OK)
        incoming->broken = incoming->status;
    if (incoming->aborted) {
        if (incoming->snapshot != NULL)
            log_snapshot_free(incoming->snapshot);
        incoming->done(incoming->data, STATUS_CANCELLED);
        remove_it(incoming);
        return;
    }
    incoming->snapshot = NULL;
    incoming->done(incoming->data, incoming->status);
}

static void queue(struct log_incoming *incoming)
{
    int error =
        uv_queue_work(incoming->log->options.loop, &incoming->work, run_request, after_request);
    ASSERT(error == 0);
}

/* request: `status` other than OK is what it comes to without running. */
static void request(struct log_incoming *incoming, enum status status,
                    enum status (*run)(struct log_incoming *incoming), log_incoming_cb done,
                    void *data)
{
    ASSERT(!incoming->busy);
    ASSERT(!incoming->aborted);
    incoming->busy = true;
    incoming->status = incoming->broken != STATUS_OK ? incoming->broken : status;
    incoming->run = run;
    incoming->done = done;
    incoming->data = data;
}

static enum status run_snapshot(struct log_incoming *incoming)
{
    int error = staging_snapshot(&incoming->staging, incoming->bytes);
    return error == 0 ? STATUS_OK : status_from_errno(error);
}

void log_incoming_snapshot(struct log_incoming *incoming, uint64_t offset, struct slice bytes,
                           log_incoming_cb done, void *data)
{
    const struct staging *s = &incoming->staging;
    bool good = incoming->stage == STAGE_SNAPSHOT && offset == s->snapshot_bytes &&
                bytes.length <= s->offer.bytes - offset;
    incoming->bytes = bytes;
    request(incoming, good ? STATUS_OK : STATUS_INVALID, run_snapshot, done, data);
    queue(incoming);
}

static enum status run_restore(struct log_incoming *incoming)
{
    enum status status = staging_restore(&incoming->staging, incoming->snapshot);
    if (status == STATUS_OK)
        incoming->stage = STAGE_BODIES;
    return status;
}

void log_incoming_restore(struct log_incoming *incoming, struct log_snapshot *out,
                          log_incoming_cb done, void *data)
{
    const struct staging *s = &incoming->staging;
    bool good = incoming->stage == STAGE_SNAPSHOT && s->snapshot_bytes == s->offer.bytes;
    *out = (struct log_snapshot){0};
    incoming->snapshot = out;
    request(incoming, good ? STATUS_OK : STATUS_INVALID, run_restore, done, data);
    queue(incoming);
}

static enum status run_bodies(struct log_incoming *incoming)
{
    return staging_bodies(&incoming->staging, incoming->bytes);
}

void log_incoming_bodies(struct log_incoming *incoming, struct slice bytes, log_incoming_cb done,
                         void *data)
{
    bool good = incoming->stage == STAGE_BODIES;
    incoming->bytes = bytes;
    request(incoming, good ? STATUS_OK : STATUS_INVALID, run_bodies, done, data);
    queue(incoming);
}

/* ---- begin and end ---- */

enum status log_incoming_begin(struct log *log, const struct log_offer *offer,
                               struct log_incoming **out)
{
    if (log->incoming != NULL)
        return STATUS_BUSY;
    if (offer->index <= offer->keep_index || offer->index == UINT64_MAX ||
        offer->keep_index > log_last_index(log) || offer->keep_index < log_snapshot_index(log) ||
        offer->bytes < SNAPSHOT_HEAD_BYTES || offer->bytes > SNAPSHOT_BYTES_MAX)
        return STATUS_INVALID;
    struct log_incoming *incoming = calloc(1, sizeof *incoming);
    ASSERT(incoming != NULL);
    incoming->log = log;
    staging_init(&incoming->staging, log, offer, ++log->incoming_number);
    log->incoming = incoming;
    *out = incoming;
    return STATUS_OK;
}

void log_incoming_abort(struct log_incoming *incoming)
{
    struct log *log = incoming->log;
    ASSERT(log->incoming == incoming);
    ASSERT(incoming->stage != STAGE_COMMIT);
    log->incoming = NULL;
    log->incoming_ends++;
    incoming->aborted = true;
    if (!incoming->busy)
        remove_it(incoming);
}

void incoming_close(struct log *log)
{
    if (log->incoming != NULL && log->incoming->stage != STAGE_COMMIT)
        log_incoming_abort(log->incoming);
}

void log_incoming_owes(struct log_incoming *incoming, uint64_t index)
{
    uint64_t owed_index = incoming->log->owed_index;
    incoming->owed_index = index > owed_index ? index : owed_index;
}

void log_incoming_stats(const struct log_incoming *incoming, struct log_incoming_stats *out)
{
    *out = incoming->stats;
}

/* ---- taking over ---- */

static enum status run_commit(struct log_incoming *incoming)
{
    struct staging *s = &incoming->staging;
    int error = staging_end(s);
    if (error == 0 && incoming->owed_index > 0)
        error = owed_store(incoming->log->disk, incoming->log->dir_fd, incoming->owed_index);
    if (error == 0)
        error = install_decide(incoming->log, s->name, &incoming->decided);
    return error == 0 ? STATUS_OK : status_from_errno(error);
}

/* It waits for what would change the same files: entries up to keep_index must be on disk, and a
 * snapshot that is being put must not come to stand behind the new one. */
void incoming_proceed(struct log *log)
{
    struct log_incoming *incoming = log->incoming;
    if (incoming == NULL || !incoming->waits || log->putting != NULL || log->writing ||
        log->queue.first != NULL)
        return;
    incoming->waits = false;
    if (log->failed)
        incoming->status = STATUS_IO_ERROR;
    queue(incoming);
}

void log_incoming_commit(struct log_incoming *incoming, log_incoming_cb done, void *data)
{
    bool good = incoming->stage == STAGE_BODIES;
    request(incoming, good ? STATUS_OK : STATUS_INVALID, run_commit, done, data);
    if (good)
        incoming->stage = STAGE_COMMIT;
    incoming->waits = good;
    if (good)
        incoming_proceed(incoming->log);
    else
        queue(incoming);
}

static void add_staged(struct log *log, struct staging *s)
{
    for (size_t i = 0; i < s->segment_count; i++)
        segments_add(log, s->segments[i]);
    s->segment_count = 0;
}

/* install: the step is done; now the log in memory and the rest on disk follow. */
static void install(struct log_incoming *incoming)
{
    struct log *log = incoming->log;
    struct staging *s = &incoming->staging;
    if (incoming->status != STATUS_OK) /* it may be undone by a power cut, or not */
        log_fatal(log, refusal("taking over a snapshot in %s failed: %s. Check the disk, then "
                               "start the node again",
                               log->dir, status_text(incoming->status)));
    log->reclaim = false;
    segments_hold_nothing(log);
    log_cut(log, s->offer.keep_index + 1);
    add_staged(log, s);
    if (incoming->owed_index > log->owed_index)
        log->owed_index = incoming->owed_index;
    log->next_index = s->offer.index + 1;
    log->done_index = s->offer.index;
    writer_add(log, (struct op){.type = OP_INSTALL, .incoming = incoming});
    writer_kick(log);
}

void incoming_installed(struct log *log, struct log_incoming *incoming)
{
    enum status status = log->failed ? STATUS_IO_ERROR : STATUS_OK;
    if (!log->failed) {
        log->durable_index = incoming->staging.offer.index;
        log->snapshots[0] = incoming->staging.offer.index;
        log->snapshot_count = 1;
    }
    log->incoming = NULL;
    incoming->done(incoming->data, status);
    staging_free(&incoming->staging);
    free(incoming);
}
