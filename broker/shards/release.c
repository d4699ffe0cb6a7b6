/* SPDX-License-Identifier: Apache-2.0 */
/* Letting go of a replica (docs/replication.md, P2 to P4):
 *
 *     open ──the lists name this node no more, or as leaving──> answers no requests: others do
 *          ──its leader says that this node is no member (watch.c), and what was under way here
 *            has ended, or has had its time──> CLOSING
 *          ──closed──> KEEPING: what it promised goes into the folder shard-K.was (promise.h)
 *          ──shards_begun says so──> REMOVING: the folder is renamed to shard-K.gone, and removed
 *          ──> the node's place in the list is struck
 *
 * What is durable decides where a next process goes on: the replica is open, and asks again, while
 * shards_begun has it; a folder that shards_begun has not, and that no list names this node for, is
 * removed, if there is a shard-K.was; else its process ended before it could say that it had begun,
 * and it is opened, to go all the way; when there is no folder, the place in the list is struck. A
 * replica that was never open here is struck at once. A step that fails is tried again: nothing is
 * removed before what it promised is kept.
 *
 * Until its leader has taken this node out, its copy counts, and stays as it is: a member that
 * closes its replica early takes a copy away before there is another. */
#include "broker/log/disk.h"
#include "broker/replication/promise.h"
#include "broker/shards/internal.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define GRACE_MS (SHARD_CALL_MS + 2000u) /* whoever found the replica here is done with it */
#define QUIET_MS 1000u                   /* the same, where nothing is under way */
#define RETRY_MS 2000u

#define WAS      ".was"
#define GONE     ".gone"

/* What cannot be looked at is not taken for what is not there. */
static bool exists(const struct place *place, const char *suffix)
{
    struct stat about;
    char dir[PLACE_DIR_MAX];
    place_dir(place, suffix, dir);
    return stat(dir, &about) == 0 || errno != ENOENT;
}

/* ---- on disk, in the pool ---- */

struct released {
    struct place *place;
    char dir[PLACE_DIR_MAX], was[PLACE_DIR_MAX], gone[PLACE_DIR_MAX];
    struct shard_end end;
    int error;
};

static void keep_in_pool(uv_work_t *work)
{
    struct released *r = work->data;
    r->error = promise_keep(r->dir, r->was, &r->end);
}

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *ftw)
{
    (void)about, (void)type, (void)ftw;
    return remove(path);
}

static int remove_tree(const char *path)
{
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT ? 0 : errno;
}

/* Something may be left of an earlier one. */
static void remove_in_pool(uv_work_t *work)
{
    struct released *r = work->data;
    struct stat about;
    r->error = remove_tree(r->gone);
    if (r->error != 0 || stat(r->dir, &about) != 0)
        return;
    r->error = disk_rename(&log_disk_real, AT_FDCWD, r->dir, AT_FDCWD, r->gone);
    if (r->error == 0)
        r->error = disk_sync_parent(&log_disk_real, r->gone);
    if (r->error == 0)
        r->error = remove_tree(r->gone);
}

/* ---- steps ---- */

/* Closing waits for it. */
static void work_begin(struct place *place, uv_work_cb run, uv_after_work_cb after)
{
    struct released *r = calloc(1, sizeof *r);
    ASSERT(r != NULL);
    r->place = place;
    r->end = place->end;
    place_dir(place, "", r->dir);
    place_dir(place, WAS, r->was);
    place_dir(place, GONE, r->gone);
    shards_part_begin(place->shards);
    place->release_works = true;
    place->work.data = r;
    int code = uv_queue_work(place->shards->options.loop, &place->work, run, after);
    ASSERT(code == 0);
}

static void work_end(struct released *r)
{
    struct place *place = r->place;
    place->release_works = false;
    place->release_at_ms = shards_now_ms(place->shards) + (r->error != 0 ? RETRY_MS : 0);
    free(r);
    shards_part_closed(place->shards);
}

/* What is left is seen at the next tick. */
static void after_remove(uv_work_t *work, int status)
{
    struct released *r = work->data;
    struct place *place = r->place;
    ASSERT(status == 0); /* nobody cancels it */
    place->release = RELEASE_NONE;
    if (r->error == 0)
        trace_info("shards", "released", "shard=%u", place->id);
    else
        trace_warn("shards", "not_removed", "dir=\"%s\" why=\"%s\"", r->dir, strerror(r->error));
    work_end(r);
}

static void begin_remove(struct place *place)
{
    place->release = RELEASE_REMOVING;
    work_begin(place, remove_in_pool, after_remove);
}

/* False: it has to be tried again. */
static bool forget_begun(struct place *place)
{
    struct shards *s = place->shards;
    place->release = RELEASE_REMOVING;
    if (s->options.events.begun(s->options.events.data)) {
        s->options.begun = shards_begun(s);
        return true;
    }
    place->release = RELEASE_KEEPING;
    return false;
}

static void after_keep(uv_work_t *work, int status)
{
    struct released *r = work->data;
    struct place *place = r->place;
    ASSERT(status == 0);
    if (r->error != 0)
        trace_warn("shards", "not_kept", "dir=\"%s\" why=\"%s\"", r->was, strerror(r->error));
    else if (place->shards->closed == NULL && !forget_begun(place))
        r->error = EIO; /* which is traced */
    bool kept = place->release == RELEASE_REMOVING;
    work_end(r);
    if (kept)
        begin_remove(place);
}

static void on_closed(void *data)
{
    struct place *place = data;
    struct shards *s = place->shards;
    struct spent *spent = calloc(1, sizeof *spent);
    ASSERT(spent != NULL);
    *spent = (struct spent){place->courier, s->spent};
    s->spent = spent;
    place->courier = NULL;
    place->shard = NULL;
    place->led_since_ms = place->out_since_ms = 0;
    place->release = RELEASE_KEEPING;
    work_begin(place, keep_in_pool, after_keep);
    shards_part_closed(s);
}

static void begin_close(struct place *place)
{
    trace_info("shards", "releasing", "shard=%u", place->id);
    shards_part_begin(place->shards);
    place->release = RELEASE_CLOSING;
    place->serves = false;
    place->end = shard_end(place->shard);
    courier_stop(place->courier);
    shard_close(place->shard, on_closed, place);
}

/* ---- the list ---- */

static void on_struck(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct place *place = call->data;
    (void)status, (void)results, (void)count; /* if it is still there, it is tried again */
    place->striking = false;
}

void release_strike(struct place *place, const struct replica_list *list, uint64_t node_id)
{
    struct replica_list next = *list;
    struct buffer text = {0};
    if (place->striking || list->count < 2)
        return;
    replicas_drop(&next, node_id);
    struct command command = replicas_command(place->id, &next, &text);
    place->strike_call = (struct shard_call){.done = on_struck, .data = place};
    shard_call_add(&place->strike_call, &command);
    buffer_free(&text);
    place->striking = true;
    trace_info("shards", "struck", "shard=%u node=%" PRIu64, place->id, node_id);
    shard_call(place->shards->places[0].shard, &place->strike_call);
}

/* ---- now and then ---- */

static void release_open(struct place *place, const struct replica_list *list)
{
    if (shard_leads(place->shard))
        return; /* it hands over first (balance.c) */
    shard_end_waits(place->shard);
    if (!watch_is_out(place, list->version) || place->changing || place->level_asked)
        return;
    uint64_t now_ms = shards_now_ms(place->shards);
    place->serves = false;
    if (place->out_since_ms == 0)
        place->out_since_ms = now_ms;
    uint32_t wait_ms = shard_idle(place->shard) ? QUIET_MS : GRACE_MS;
    if (place->held == 0 && now_ms >= place->out_since_ms + wait_ms)
        begin_close(place);
}

/* Nothing of it is open. True: there is nothing to do about it. */
static bool release_folder(struct place *place)
{
    bool there = exists(place, "");
    place->unkept = there && !exists(place, WAS); /* it is opened at the next tick */
    if (place->unkept || (!there && !exists(place, GONE)))
        return !place->unkept;
    begin_remove(place);
    return false;
}

void release_tick(struct place *place)
{
    struct replica_list list;
    struct shards *s = place->shards;
    if (place->release_works || shards_now_ms(s) < place->release_at_ms)
        return;
    if (place->release == RELEASE_KEEPING)
        work_begin(place, keep_in_pool, after_keep); /* again */
    if (place->id == 0 || place->release != RELEASE_NONE || s->handing_over || !s->opened ||
        !shard_ready(s->places[0].shard) ||
        !replicas_get(shard_core(s->places[0].shard), place->id, &list))
        return;
    const struct replica *own = replicas_find(&list, s->options.node_id);
    place->releases = own == NULL || own->leaving;
    if (!place->releases)
        place->out_since_ms = 0;
    if (!place->releases || place->released_list == list.version)
        return;
    if (place->shard != NULL)
        release_open(place, &list);
    else if (release_folder(place) && own != NULL)
        release_strike(place, &list, s->options.node_id);
    else if (place->release == RELEASE_NONE && own == NULL && !place->unkept)
        place->released_list = list.version; /* nothing to do by this one */
}

/* ---- beginning again ---- */

void release_take_up(struct place *place)
{
    char dir[PLACE_DIR_MAX];
    char was[PLACE_DIR_MAX];
    if (exists(place, "") || !exists(place, WAS))
        return;
    place_dir(place, "", dir);
    place_dir(place, WAS, was);
    int error = disk_rename(&log_disk_real, AT_FDCWD, was, AT_FDCWD, dir);
    if (error == 0)
        error = disk_sync_parent(&log_disk_real, dir);
    ASSERT(error == 0); /* a folder without the promises must not be begun */
}

bool release_was_here(const struct place *place)
{
    struct shard_end end;
    char dir[PLACE_DIR_MAX];
    place_dir(place, "", dir);
    return promise_load(dir, &end) != STATUS_NOT_FOUND;
}
