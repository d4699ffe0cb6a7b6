/* SPDX-License-Identifier: Apache-2.0 */
/* A backup of the shard, taken on the node that leads: what it has applied is all that was ever
 * answered, and while it leads its log is never cut (so files that are read stay as they were).
 *
 * It is begun as soon as what was applied at the call is on this disk, too: others may have
 * committed it. It ends when nobody has read for IDLE_MS, when this node leads no more, and at
 * shard_close. Its number tells it from the one before it. */
#include "broker/replication/backup.h"
#include "broker/replication/internal.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

#define IDLE_MS 600000u /* who copies several shards in turn reads one of them at a time */
#define TRY_MS  5u
#define GIVE_UP 1000u /* tries */
#define TIDY_MS 1000u

struct backup {
    struct shard *shard;
    struct log_backup *log_backup; /* NULL: not begun yet */
    uint64_t number;
    uint64_t wanted_index;
    uint64_t term;
    uint64_t used_ms;
    unsigned tries;
    uv_timer_t timer;
    struct shard_backup_begin *begin; /* to be answered */
};

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void answer(struct backup *backup, enum status status)
{
    struct shard_backup_begin *begin = backup->begin;
    backup->begin = NULL;
    if (begin != NULL)
        begin->done(begin, status);
}

static void end(struct backup *backup, enum status status)
{
    backup->shard->backup = NULL;
    if (backup->log_backup != NULL)
        log_backup_end(backup->log_backup);
    uv_close((uv_handle_t *)&backup->timer, on_closed);
    answer(backup, status);
}

static bool leads_still(const struct backup *backup)
{
    return shard_leads(backup->shard) && backup->shard->raft.current_term == backup->term;
}

/* try_begin: false: not yet. */
static bool try_begin(struct backup *backup)
{
    struct shard *shard = backup->shard;
    uint64_t index = shard->raft.last_applied;
    uint64_t durable = log_durable_index(shard->log);
    index = index < durable ? index : durable;
    if (index < backup->wanted_index)
        return false;
    enum status status = log_backup_begin(shard->log, index, &backup->log_backup);
    if (status == STATUS_BUSY)
        return false;
    if (status != STATUS_OK) {
        backup->log_backup = NULL;
        end(backup, status);
        return true;
    }
    backup->used_ms = uv_now(shard->options.loop);
    trace_info("shard", "backup-begins", "dir=\"%s\" index=%" PRIu64 " number=%" PRIu64,
               shard->options.dir, index, backup->number);
    backup->begin->number = backup->number;
    log_backup_view(backup->log_backup, &backup->begin->view);
    answer(backup, STATUS_OK);
    return true;
}

static void on_timer(uv_timer_t *timer)
{
    struct backup *backup = timer->data;
    if (!leads_still(backup)) {
        end(backup, STATUS_NOT_LEADER);
    } else if (backup->log_backup != NULL) {
        if (uv_now(backup->shard->options.loop) - backup->used_ms >= IDLE_MS)
            end(backup, STATUS_TIMEOUT);
    } else if (try_begin(backup)) {
        if (!uv_is_closing((uv_handle_t *)timer))
            uv_timer_start(timer, on_timer, TIDY_MS, TIDY_MS);
    } else if (++backup->tries >= GIVE_UP) {
        end(backup, STATUS_BUSY);
    }
}

void shard_backup_begin(struct shard *shard, struct shard_backup_begin *begin)
{
    if (!shard_leads(shard) || shard->backup != NULL) {
        begin->done(begin, shard->backup != NULL ? STATUS_EXISTS : STATUS_NOT_LEADER);
        return;
    }
    struct backup *backup = calloc(1, sizeof *backup);
    ASSERT(backup != NULL);
    backup->shard = shard;
    backup->term = shard->raft.current_term;
    backup->wanted_index = shard->raft.last_applied;
    backup->begin = begin;
    clock_random((uint8_t *)&backup->number, sizeof backup->number);
    backup->number >>= 1; /* for those who have signed numbers only */
    shard->backup = backup;
    uv_timer_init(shard->options.loop, &backup->timer);
    backup->timer.data = backup;
    uv_timer_start(&backup->timer, on_timer, 0, TRY_MS);
}

void shard_backup_forget(struct shard *shard, struct shard_backup_begin *begin)
{
    if (shard->backup != NULL && shard->backup->begin == begin) {
        shard->backup->begin = NULL;
        end(shard->backup, STATUS_CANCELLED);
    }
}

static struct backup *find(struct shard *shard, uint64_t number)
{
    struct backup *backup = shard->backup;
    return backup != NULL && backup->log_backup != NULL && backup->number == number ? backup : NULL;
}

enum status shard_backup_read(struct shard *shard, uint64_t number, struct slice name,
                              struct log_backup_read *read)
{
    struct backup *backup = find(shard, number);
    struct log_backup_view view;
    if (backup == NULL || !leads_still(backup))
        return STATUS_NOT_FOUND;
    log_backup_view(backup->log_backup, &view);
    backup->used_ms = uv_now(shard->options.loop);
    for (size_t i = 0; i < view.file_count; i++) {
        if (!slice_is(name, view.files[i].name))
            continue;
        read->file = i;
        log_backup_read(backup->log_backup, read);
        return STATUS_OK;
    }
    return STATUS_NOT_FOUND;
}

enum status shard_backup_end(struct shard *shard, uint64_t number)
{
    struct backup *backup = find(shard, number);
    if (backup == NULL)
        return STATUS_NOT_FOUND;
    trace_info("shard", "backup-ends", "dir=\"%s\" number=%" PRIu64, shard->options.dir, number);
    end(backup, STATUS_OK);
    return STATUS_OK;
}

void backup_close(struct shard *shard)
{
    if (shard->backup != NULL)
        end(shard->backup, STATUS_CLOSED);
}
