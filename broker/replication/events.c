/* SPDX-License-Identifier: Apache-2.0 */
/* What the core tells the shard while it applies (I2 of shard.c: nothing here touches the Raft
 * library), and what of that the owner is told at the end of the turn. */
#include "broker/feature/feature.h"
#include "broker/replication/internal.h"

#include <stdlib.h>

static void on_hold(void *data, struct body_ref ref)
{
    struct shard *shard = data;
    shard->snapshots.bodies++;
    if (shard->log != NULL)
        log_hold(shard->log, ref);
}

static void on_release(void *data, struct body_ref ref)
{
    struct shard *shard = data;
    shard->snapshots.bodies--;
    if (shard->log != NULL)
        log_release(shard->log, ref);
}

void shard_note_ready(struct shard *shard, uint64_t queue_id)
{
    struct buffer *ready = &shard->ready_queues;
    uint64_t last = 0;
    if (ready->length >= sizeof last)
        memcpy(&last, ready->data + ready->length - sizeof last, sizeof last);
    if (last != queue_id)
        buffer_add(ready, &queue_id, sizeof queue_id);
}

static void on_queue_ready(void *data, uint64_t queue_id)
{
    struct shard *shard = data;
    if (shard->stage == STAGE_OPENING || shard->guard.frozen)
        return;
    wait_ready(shard, queue_id);
    shard_note_ready(shard, queue_id);
}

static void on_queue_gone(void *data, uint64_t queue_id)
{
    struct shard *shard = data;
    if (shard->stage != STAGE_OPENING)
        wait_touch(shard, queue_id);
}

static void on_catalog_changed(void *data)
{
    struct shard *shard = data;
    shard->catalog_changed = true;
}

static void on_departs(void *data, uint32_t to)
{
    struct shard *shard = data;
    (void)to;
    shard->departs = true;
}

static void on_document_changed(void *data, struct slice name)
{
    struct shard *shard = data;
    if (slice_is(name, FEATURE_LEVEL_DOCUMENT))
        level_look(shard, shard->core);
}

struct core_events shard_core_events(struct shard *shard)
{
    return (struct core_events){.data = shard,
                                .body_hold = on_hold,
                                .body_release = on_release,
                                .queue_ready = on_queue_ready,
                                .queue_gone = on_queue_gone,
                                .catalog_changed = on_catalog_changed,
                                .document_changed = on_document_changed,
                                .departs = on_departs};
}

/* ---- telling the owner ---- */

static int by_id(const void *a, const void *b)
{
    uint64_t x;
    uint64_t y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* take_ready: the ids of queues in which messages became visible, sorted. */
static struct buffer take_ready(struct shard *shard)
{
    struct buffer ready = shard->ready_queues;
    shard->ready_queues = (struct buffer){0};
    if (ready.length > 0)
        qsort(ready.data, ready.length / sizeof(uint64_t), sizeof(uint64_t), by_id);
    return ready;
}

/* Where more is visible than the receives in flight ask for, the owner may want it.
 * Also on a node that does not lead, where receives work as well; it knows of none in flight. */
void events_tell_queues(struct shard *shard)
{
    struct buffer ready = take_ready(shard);
    uint64_t previous = 0;
    for (size_t at = 0; at < ready.length; at += sizeof previous) {
        struct core_outlook outlook;
        uint64_t queue_id;
        memcpy(&queue_id, ready.data + at, sizeof queue_id);
        if (queue_id == previous)
            continue;
        previous = queue_id;
        bool left = core_outlook(shard->core, queue_id, &outlook) &&
                    outlook.messages > wait_asked(shard, queue_id);
        if (left && shard->options.queue_ready != NULL)
            shard->options.queue_ready(shard->options.data, queue_id);
    }
    buffer_free(&ready);
}

static void tell_catalog(struct shard *shard)
{
    if (!shard->catalog_changed || shard->stage != STAGE_READY)
        return;
    shard->catalog_changed = false;
    if (shard->options.catalog_changed != NULL)
        shard->options.catalog_changed(shard->options.data);
}

static void tell_departs(struct shard *shard)
{
    if (!shard->departs || shard->stage != STAGE_READY)
        return;
    shard->departs = false;
    if (shard->options.departs != NULL)
        shard->options.departs(shard->options.data);
}

void events_tell(struct shard *shard)
{
    tell_catalog(shard);
    tell_departs(shard);
}
