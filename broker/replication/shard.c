/* SPDX-License-Identifier: Apache-2.0 */
/* One shard's life: recovery, leading, applying, closing.
 *
 *     shard_open: the log recovers; what is known to be committed goes into the core, the library
 * gets the rest (raft_load.c). With one voter it leads at once. Each turn of the loop in which
 * something has happened to the shard (shard_wake) ends in flush (prepare and check handles): look
 * at the library's state, wake waiting receives, close the batch or send calls to the leader, tell
 * followers of commits, deliver refusals, set timers.
 *
 *     FOLLOWING --leads--> BARRIER --applied--> FOUNDING (first start ever) --applied--> READY
 *
 * What the library (0.15) leaves to its user is done here; what it gets wrong between nodes is in
 * guard.c:
 *   - It appends nothing of its own on becoming leader: a TICK is proposed at once, and nothing is
 *     answered before it is applied. It also proves to all nodes what became of older entries.
 *   - It tells nobody when its state changes, and UNAVAILABLE is final: looked at every turn; the
 *     process ends.
 *   - The index of the entry being applied is not passed: it is raft_last_applied() + 1.
 *   - LEADERSHIPLOST means that the outcome is unknown, never "not done": batch.c.
 *   - A snapshot is triggered by a count of entries: here by bytes (snapshot.c), by setting the
 *     threshold to 1 when it is due, which takes effect after the entry at hand. While one is under
 *     way no other is begun.
 *   - It keeps all entries since the last snapshot in memory: snapshot.c gives back what it can.
 *
 * I1  The core changes in fsm_apply only, and while the log is loaded.
 * I2  Nothing that a callback of the core or of the library calls touches the library; that happens
 *     in shard_flush. */
#include "broker/feature/feature.h"
#include "broker/replication/internal.h"
#include "broker/replication/promise.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TICK_MS          25u  /* of the library, where there are other nodes */
#define CALM_MS          250u /* since the leader was heard: an election is due after ELECTION_MS */
#define SWEEP_MS         100u
#define LED_GRACE_MS     4000u /* so long calls wait for a new leader */
#define OFFER_AGAIN_MS   3000u /* a snapshot, to a member that did not take it up or is at it */
#define LAG_MAX          128u  /* entries; a follower that lacks more is not ready */
#define DISK_CHECK_MS    1000u
#define DISK_CHECK_PART  8u     /* and when this part of the reserve has been written since */
#define TICK_AT_LEAST_MS 5u     /* deadlines closer than this run together */
#define TICK_AT_MOST_MS  60000u /* look again: the wall clock may have been set */

void shard_fatal(struct shard *shard, const char *sentence)
{
    trace_error("shard", "stopping", "dir=\"%s\" reason=\"%s\"", shard->options.dir, sentence);
    _exit(LOG_EXIT_CODE);
}

/* ---- the core's events ---- */

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

/* ---- the library's state machine ---- */

static void check_disk(struct shard *shard)
{
    shard->unchecked_bytes = 0;
    if (shard->log == NULL || log_disk_free(shard->log, &shard->disk_free_bytes) != STATUS_OK)
        return;
    bool low = shard->disk_free_bytes < shard->options.disk_reserve_bytes;
    if (low != shard->disk_low)
        trace_warn("shard", low ? "disk-low" : "disk-recovered",
                   "dir=\"%s\" free=%" PRIu64 " reserve=%" PRIu64, shard->options.dir,
                   shard->disk_free_bytes, shard->options.disk_reserve_bytes);
    shard->disk_low = low;
}

static void look_at_disk(struct shard *shard)
{
    shard->checked_ms = uv_now(shard->options.loop);
    time_save(shard);
    check_disk(shard);
}

/* note_growth: a second between two looks at the disk is long enough to fill the reserve. */
static void note_growth(struct shard *shard, size_t length)
{
    shard->unchecked_bytes += length;
    if (shard->unchecked_bytes >= shard->options.disk_reserve_bytes / DISK_CHECK_PART)
        check_disk(shard);
}

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct shard *shard = fsm->data;
    uint64_t index = raft_last_applied(&shard->raft) + 1;
    struct slice payload = slice_make(buf->base, buf->len);
    *result = NULL;
    batch_apply(shard, index, payload);
    note_growth(shard, buf->len);
    snapshots_note_entry(shard, buf);
    return 0;
}

/* recover_apply: while loading, from the disk. */
static void recover_apply(void *data, uint64_t index, struct slice payload)
{
    struct shard *shard = data;
    if (core_apply_entry(shard->core, index, payload) != STATUS_OK)
        shard_fatal(shard, "an entry of the log does not decode: it was written by another program "
                           "or a later version");
    snapshots_note_replayed(shard, payload.length);
}

/* ---- leading ---- */

/* What a new leader proposes before all else. */
struct first_call {
    struct shard_call call;
    struct shard *shard;
    uint64_t term;
};

static struct first_call *first_begin(struct shard *shard, shard_call_cb done)
{
    struct first_call *first = calloc(1, sizeof *first);
    ASSERT(first != NULL);
    first->shard = shard;
    first->term = shard->leading_term;
    first->call.done = done;
    return first;
}

/* first_ended: true if it did what it was for. */
static bool first_ended(struct shard_call *call, enum status status, enum stage stage)
{
    struct first_call *first = CONTAINER_OF(call, struct first_call, call);
    struct shard *shard = first->shard;
    bool good = status == STATUS_OK && shard->stage == stage && first->term == shard->leading_term;
    shard_wake(shard);
    free(first);
    return good;
}

static void on_founded(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct shard *shard = CONTAINER_OF(call, struct first_call, call)->shard;
    (void)results;
    (void)count;
    if (first_ended(call, status, STAGE_FOUNDING))
        shard->stage = STAGE_READY;
}

static void found(struct shard *shard)
{
    const struct shard_founding *founding = shard->options.founding;
    struct command whose = {.type = COMMAND_BOOTSTRAP};
    struct command place = {.type = COMMAND_PLACE, .place = {.shard = shard->options.shard_id}};
    struct command level;
    struct buffer level_text = {0};
    uuid_random(whose.bootstrap.cluster_id);
    clock_random(whose.bootstrap.secret, sizeof whose.bootstrap.secret);
    if (founding != NULL) {
        memcpy(whose.bootstrap.cluster_id, founding->cluster_id, UUID_BYTES);
        memcpy(whose.bootstrap.secret, founding->secret, sizeof whose.bootstrap.secret);
        place.place.queue_shards = founding->queue_shards;
    }
    level_first(&level, &level_text);
    struct first_call *first = first_begin(shard, on_founded);
    shard_call_add(&first->call, &whose);
    shard_call_add(&first->call, &place);
    shard_call_add(&first->call, &level);
    buffer_free(&level_text);
    shard->stage = STAGE_FOUNDING;
    batch_add_first(shard, &first->call);
}

static void on_barrier(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct shard *shard = CONTAINER_OF(call, struct first_call, call)->shard;
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];
    (void)results;
    (void)count;
    if (!first_ended(call, status, STAGE_BARRIER))
        return;
    if (core_bootstrapped(shard->core, cluster_id, secret))
        shard->stage = STAGE_READY;
    else
        found(shard);
}

static void begin_leading(struct shard *shard)
{
    struct command command = {.type = COMMAND_TICK};
    catch_up_abort(shard);
    shard->stage = STAGE_BARRIER;
    shard->leading_term = shard->raft.current_term;
    struct first_call *first = first_begin(shard, on_barrier);
    shard_call_add(&first->call, &command);
    batch_add_first(shard, &first->call);
}

static void stop_leading(struct shard *shard)
{
    shard->stage = STAGE_FOLLOWING;
    wait_send_away(shard);
    batch_refuse_pending(shard, STATUS_NOT_LEADER, !shard_in_company(shard));
}

/* watch: the library says nothing when its state changes. */
static void watch(struct shard *shard)
{
    int state = raft_state(&shard->raft);
    if (state == RAFT_UNAVAILABLE)
        shard_fatal(shard, "the Raft library gave up (a failed write, or a conflict in the log)");
    if (state == RAFT_LEADER && shard->stage == STAGE_FOLLOWING)
        begin_leading(shard);
    else if (shard_leading(shard) &&
             (state != RAFT_LEADER || shard->raft.current_term != shard->leading_term))
        stop_leading(shard);
    if (shard->stage == STAGE_READY && !shard->at_home)
        forward_wait_home(shard);
    shard->at_home = shard->stage == STAGE_READY;
}

static void tell_leading(struct shard *shard)
{
    bool leads = shard->stage == STAGE_READY;
    if (leads == shard->told_leading)
        return;
    shard->told_leading = leads;
    trace_info("shard", leads ? "leads" : "follows", "dir=\"%s\" term=%llu applied=%llu",
               shard->options.dir, shard->raft.current_term, raft_last_applied(&shard->raft));
    if (shard->options.leading_changed != NULL)
        shard->options.leading_changed(shard->options.data, leads);
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

/* tell_queues: where more is visible than the receives in flight ask for, the owner may want it.
 * Also on a node that does not lead, where receives work as well; it knows of none in flight. */
static void tell_queues(struct shard *shard)
{
    struct buffer ready = take_ready(shard);
    uint64_t previous = 0;
    for (size_t at = 0; at < ready.length; at += sizeof previous) {
        struct queue_view view;
        uint64_t queue_id;
        memcpy(&queue_id, ready.data + at, sizeof queue_id);
        if (queue_id == previous)
            continue;
        previous = queue_id;
        bool left = core_queue_by_id(shard->core, queue_id, &view) &&
                    view.visible > wait_asked(shard, queue_id);
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

/* ---- time ---- */

static void on_ticked(struct shard_call *call, enum status status,
                      const struct core_result *results, uint32_t count)
{
    struct shard *shard = CONTAINER_OF(call, struct shard, tick);
    (void)status;
    (void)results;
    (void)count;
    shard->ticking = false;
    shard->tick_at_ms = 0;
}

static void propose_tick(struct shard *shard)
{
    struct command command = {.type = COMMAND_TICK};
    if (shard->stage != STAGE_READY || shard->ticking)
        return;
    shard->ticking = true;
    shard->tick = (struct shard_call){.done = on_ticked};
    shard_call_add(&shard->tick, &command);
    batch_add(shard, &shard->tick);
}

static void on_tick_timer(uv_timer_t *timer)
{
    struct shard *shard = timer->data;
    shard->tick_at_ms = 0;
    shard_wake(shard);
    if (core_next_deadline_ms(shard->core) <= time_now_ms(shard))
        propose_tick(shard);
}

static void arm_tick(struct shard *shard)
{
    uint64_t deadline_ms = core_next_deadline_ms(shard->core);
    if (shard->stage != STAGE_READY || shard->ticking || deadline_ms == UINT64_MAX ||
        deadline_ms == shard->tick_at_ms)
        return;
    uint64_t now_ms = time_now_ms(shard);
    uint64_t delay_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    if (delay_ms < TICK_AT_LEAST_MS)
        delay_ms = TICK_AT_LEAST_MS;
    if (delay_ms > TICK_AT_MOST_MS)
        delay_ms = TICK_AT_MOST_MS;
    shard->tick_at_ms = deadline_ms;
    uv_update_time(shard->options.loop); /* the timer counts from the loop's idea of now */
    uv_timer_start(&shard->tick_timer, on_tick_timer, delay_ms, 0);
}

/* ---- a turn of the loop ---- */

static void begin_close(struct shard *shard);
static void begin_late_reads(struct shard *shard);
static void fail_late_reads(struct shard *shard);
static bool is_led(const struct shard *shard);

/* look_around: what other nodes and the log have made known. */
static void look_around(struct shard *shard)
{
    links_update(shard);
    if (is_led(shard))
        shard->led_ms = uv_now(shard->options.loop);
    batch_overtaken(shard, shard->forward.applied_term);
    forward_overtaken(shard, shard->forward.applied_term);
    members_settle(shard);
    snapshots_make(shard);
}

static void flush(struct shard *shard)
{
    uv_idle_stop(&shard->idle);
    if (shard->closed != NULL && shard->stage != STAGE_CLOSING) {
        begin_close(shard);
        return;
    }
    if (shard->stage == STAGE_CLOSING)
        return;
    watch(shard);
    if (shard_in_company(shard))
        look_around(shard);
    snapshots_cool(shard);
    wait_pump(shard);
    tell_queues(shard);
    wait_pump(shard); /* for the receives that the owner has begun just now */
    batch_propose(shard);
    forward_pump(shard);
    sync_pump(shard);
    raft_net_tell_commit(shard, false);
    tell_leading(shard);
    tell_catalog(shard);
    tell_departs(shard);
    batch_deliver(shard);
    wait_deliver(shard);
    members_deliver(shard);
    wait_arm(shard);
    arm_tick(shard);
}

void shard_settle(struct shard *shard)
{
    if (shard->stage != STAGE_CLOSING && shard->stage != STAGE_OPENING)
        guard_settle(shard);
    shard_wake(shard);
}

/* sweep: what is past its deadline, where answers depend on others. */
static void sweep(struct shard *shard, uint64_t now_ms)
{
    shard->swept_ms = now_ms;
    catch_up_tick(shard);
    give_tick(shard, now_ms);
    batch_expire(shard, now_ms);
    forward_expire(shard, now_ms);
    sync_tick(shard, now_ms);
    forward_wait_expire(shard, now_ms);
    shard_wake(shard); /* also for what was held back a little */
}

/* A node has several shards, and most turns of the loop are another's. */
static void flush_if_awake(struct shard *shard)
{
    if (uv_is_active((uv_handle_t *)&shard->idle))
        flush(shard);
}

static void on_prepare(uv_prepare_t *handle)
{
    flush_if_awake(handle->data);
}

static void on_check(uv_check_t *handle)
{
    flush_if_awake(handle->data);
}

static void on_idle(uv_idle_t *handle)
{
    (void)handle; /* only keeps the loop from sleeping until the next flush */
}

void shard_wake(struct shard *shard)
{
    if (shard->stage != STAGE_OPENING && shard->handles > 0 &&
        !uv_is_closing((uv_handle_t *)&shard->idle))
        uv_idle_start(&shard->idle, on_idle);
}

/* ---- closing ---- */

void shard_part_gone(struct shard *shard)
{
    if (--shard->handles > 0)
        return;
    void (*closed)(void *data) = shard->closed;
    void *data = shard->closed_data;
    batch_deliver(shard);
    wait_pump(shard);
    wait_deliver(shard);
    members_deliver(shard);
    links_free(shard);
    guard_free(shard);
    core_free(shard->core);
    batch_free(shard);
    wait_free(shard);
    snapshots_free(shard);
    buffer_free(&shard->ready_queues);
    free((char *)(uintptr_t)shard->options.dir);
    free((char *)(uintptr_t)shard->options.address);
    free(shard);
    if (closed != NULL)
        closed(data);
}

static void on_handle_closed(uv_handle_t *handle)
{
    shard_part_gone(handle->data);
}

static void on_raft_closed(struct raft *raft)
{
    struct shard *shard = raft->data;
    uv_handle_t *handles[] = {
        (uv_handle_t *)&shard->prepare,    (uv_handle_t *)&shard->check,
        (uv_handle_t *)&shard->idle,       (uv_handle_t *)&shard->tick_timer,
        (uv_handle_t *)&shard->wait_timer, (uv_handle_t *)&shard->pace_timer,
    };
    for (size_t i = 0; i < ARRAY_COUNT(handles); i++)
        uv_close(handles[i], on_handle_closed);
}

static void begin_close(struct shard *shard)
{
    wait_finish_all(shard, STATUS_CLOSED);
    forward_close(shard);
    sync_finish_all(shard, STATUS_CLOSED);
    batch_refuse_pending(shard, STATUS_CLOSED, true);
    members_abort(shard, STATUS_CLOSED);
    shard->stage = STAGE_CLOSING;
    batch_give_up(shard);
    fail_late_reads(shard);
    catch_up_abort(shard);
    give_close(shard);
    backup_close(shard);
    links_close(shard);
    shard->log = NULL;
    uv_timer_stop(&shard->tick_timer);
    uv_timer_stop(&shard->wait_timer);
    uv_timer_stop(&shard->pace_timer);
    raft_close(&shard->raft, on_raft_closed);
}

void shard_close(struct shard *shard, void (*closed)(void *data), void *data)
{
    ASSERT(shard->closed == NULL);
    shard->closed = closed;
    shard->closed_data = data;
    shard_wake(shard);
}

/* ---- opening ---- */

static void nothing(void *data)
{
    (void)data;
}

static void init_handles(struct shard *shard)
{
    uv_loop_t *loop = shard->options.loop;
    uv_prepare_init(loop, &shard->prepare);
    uv_check_init(loop, &shard->check);
    uv_idle_init(loop, &shard->idle);
    uv_timer_init(loop, &shard->tick_timer);
    uv_timer_init(loop, &shard->wait_timer);
    uv_timer_init(loop, &shard->pace_timer);
    shard->handles = 6;
    shard->prepare.data = shard->check.data = shard->idle.data = shard;
    shard->tick_timer.data = shard->wait_timer.data = shard->pace_timer.data = shard;
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

static struct shard *make(const struct shard_options *options)
{
    struct shard *shard = calloc(1, sizeof *shard);
    ASSERT(shard != NULL);
    shard->options = *options;
    shard->options.dir = strdup(options->dir);
    shard->options.address = strdup(options->address != NULL ? options->address : "");
    ASSERT(shard->options.dir != NULL);
    ASSERT(shard->options.address != NULL);
    if (shard->options.snapshot_bytes == 0)
        shard->options.snapshot_bytes = SNAPSHOT_BYTES;
    if (shard->options.trailing_max == 0)
        shard->options.trailing_max = TRAILING_MAX;
    if (shard->options.disk_reserve_bytes == 0)
        shard->options.disk_reserve_bytes = DISK_RESERVE_BYTES;
    struct core_events events = shard_core_events(shard);
    shard->core = core_new(&events);
    shard->level = FEATURE_LEVEL_FIRST;
    shard->fsm = (struct raft_fsm){.version = 1, .data = shard, .apply = fsm_apply};
    forward_init(shard);
    return shard;
}

static int add_members(const struct shard_options *options, struct raft_configuration *out)
{
    int rv = 0;
    if (options->member_count == 0)
        return raft_configuration_add(out, options->node_id, options->address, RAFT_VOTER);
    for (size_t i = 0; i < options->member_count && rv == 0; i++)
        rv = raft_configuration_add(out, options->members[i].id, options->members[i].address,
                                    RAFT_VOTER);
    return rv;
}

/* bootstrap: the same first entry on all nodes of a new group. */
static int bootstrap(struct shard *shard)
{
    struct raft_configuration configuration;
    if (log_last_index(shard->log) > 0 || log_snapshot_index(shard->log) > 0 || shard->options.join)
        return 0;
    raft_configuration_init(&configuration);
    int rv = add_members(&shard->options, &configuration);
    if (rv == 0)
        rv = raft_bootstrap(&shard->raft, &configuration);
    raft_configuration_close(&configuration);
    return rv;
}

static void on_appended(void *data, struct raft_io_append *request, raft_io_append_cb cb,
                        int status, uint64_t first_index, const struct raft_entry *entries,
                        unsigned n)
{
    struct shard *shard = data;
    guard_appended(shard, request, cb, status, first_index, entries, n);
    begin_late_reads(shard);
}

/* is_calm: no election is near, and nobody waits for the next tick. */
static bool is_calm(void *data)
{
    const struct shard *shard = data;
    const struct raft *raft = &shard->raft;
    uint64_t silent_ms = uv_now(shard->options.loop) - shard->guard.heard_ms;
    return (raft->state == RAFT_LEADER && !shard->untold) ||
           (raft->state == RAFT_FOLLOWER && raft->follower_state.current_leader.id != 0 &&
            silent_ms < CALM_MS);
}

/* on_tick: the library's, and the one clock for all else that is looked at now and then. */
static void on_tick(void *data)
{
    struct shard *shard = data;
    uint64_t now_ms = uv_now(shard->options.loop);
    guard_tick(shard);
    raft_net_tell_commit(shard, true);
    if (shard_in_company(shard) && now_ms - shard->swept_ms >= SWEEP_MS)
        sweep(shard, now_ms);
    if (now_ms - shard->checked_ms >= DISK_CHECK_MS)
        look_at_disk(shard);
}

static bool nothing_on_its_way(void *data)
{
    return links_quiet(data);
}

static void connect_disk(struct shard *shard)
{
    shard->disk.apply = recover_apply;
    shard->disk.commit_in = batch_commit_in;
    shard->disk.appended = on_appended;
    shard->disk.ticked = on_tick;
    shard->disk.calm = shard_in_company(shard) ? is_calm : NULL;
    shard->disk.starting = guard_starting;
    shard->disk.idle = nothing_on_its_way;
    shard->disk.tick_ms = shard_in_company(shard) ? TICK_MS : 0;
    snapshots_init(shard);
    raft_net_init(shard);
}

static int start_raft(struct shard *shard)
{
    struct raft *raft = &shard->raft;
    raft_disk_init(&shard->disk, shard->options.loop, shard->log);
    connect_disk(shard);
    int rv = raft_init(raft, &shard->disk.io, &shard->fsm, shard->options.node_id,
                       shard->options.address);
    ASSERT(rv == 0); /* fails for lack of memory only */
    raft->data = shard;
    raft_set_heartbeat_timeout(raft, shard_in_company(shard) ? HEARTBEAT_MS : HEARTBEAT_LONE_MS);
    raft_set_election_timeout(raft, ELECTION_MS);
    raft_set_install_snapshot_timeout(raft, OFFER_AGAIN_MS);
    raft_set_pre_vote(raft, true);
    raft_set_snapshot_threshold(raft, UINT32_MAX);
    raft_set_snapshot_trailing(raft, SNAPSHOT_TRAILING);
    rv = bootstrap(shard);
    return rv != 0 ? rv : raft_start(raft);
}

static enum status from_raft(int rv)
{
    static const struct {
        int rv;
        enum status status;
    } table[] = {{RAFT_CORRUPT, STATUS_CORRUPT},
                 {RAFT_MALFORMED, STATUS_CORRUPT},
                 {RAFT_NOSPACE, STATUS_DISK_FULL}};
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        if (table[i].rv == rv)
            return table[i].status;
    }
    return STATUS_IO_ERROR;
}

/* check_recovered: what raft_start could not know. Where entries on the disk are not known to be
 * committed yet, the state is older than it was when the process before this one ended: what it
 * lacks may be what they delete. So may what a snapshot that was taken over lacked from the
 * beginning. */
static enum status check_recovered(struct shard *shard, const char **error)
{
    uint64_t index;
    uint64_t missing = log_missing(shard->log, &index);
    bool complete = raft_last_applied(&shard->raft) == log_last_index(shard->log) &&
                    log_last_index(shard->log) >= log_owed_index(shard->log);
    if (missing > 0 && complete) {
        *error = refusal("%s/segments: %" PRIu64 " messages are in segments that are missing (one "
                         "is in entry %" PRIu64 "). Restore the files from a copy, or replace "
                         "this node",
                         shard->options.dir, missing, index);
        return STATUS_CORRUPT;
    }
    *error = level_too_old(shard);
    return *error == NULL ? STATUS_OK : STATUS_UNSUPPORTED;
}

static enum status recover(struct shard *shard, const char **error)
{
    int rv = start_raft(shard);
    if (rv == 0) {
        shard->forward.begun_term = shard->raft.current_term;
        guard_started(shard);
        return check_recovered(shard, error);
    }
    *error = shard->disk.error != NULL
                 ? shard->disk.error
                 : refusal("%s: %s", shard->options.dir, raft_errmsg(&shard->raft));
    return from_raft(rv);
}

/* recall: what an earlier replica promised. */
static enum status recall(struct shard *shard, const char **error)
{
    enum status status = promise_load(shard->options.dir, &shard->promised);
    if (status == STATUS_OK || status == STATUS_NOT_FOUND)
        return STATUS_OK;
    *error = refusal("%s/" PROMISE_NAME " cannot be read: replace this node", shard->options.dir);
    return status;
}

static void start_handles(struct shard *shard)
{
    uv_prepare_start(&shard->prepare, on_prepare);
    uv_check_start(&shard->check, on_check);
    look_at_disk(shard);
}

enum status shard_open(struct shard **out, const struct shard_options *options, const char **error)
{
    struct shard *shard = make(options);
    struct log_options log_options = {.loop = options->loop,
                                      .dir = shard->options.dir,
                                      .node_id = options->node_id,
                                      .shard_id = options->shard_id,
                                      .segment_bytes = options->segment_bytes,
                                      .unpacked = options->unpacked};
    ASSERT(options->node_id > 0);
    enum status status = recall(shard, error);
    if (status == STATUS_OK)
        status = log_open(&shard->log, &log_options, error);
    if (status != STATUS_OK) {
        core_free(shard->core);
        free((char *)(uintptr_t)shard->options.dir);
        free((char *)(uintptr_t)shard->options.address);
        free(shard);
        return status;
    }
    time_load(shard);
    init_handles(shard);
    status = recover(shard, error);
    if (status != STATUS_OK) {
        shard->closed = nothing; /* the loop frees it */
        begin_close(shard);
        return status;
    }
    log_reclaim_begin(shard->log);
    shard->stage = STAGE_FOLLOWING;
    links_open(shard);
    if (shard_in_company(shard))
        links_update(shard);
    shard_settle(shard);
    start_handles(shard);
    shard_wake(shard);
    *out = shard;
    return STATUS_OK;
}

/* ---- reading and seeing inside ---- */

struct shard_end shard_end(const struct shard *shard)
{
    uint64_t index = guard_last_index(&shard->raft);
    return (struct shard_end){.term = guard_term(&shard->raft, index), .index = index};
}

bool shard_leads(const struct shard *shard)
{
    return shard->told_leading;
}

uint64_t shard_leader(const struct shard *shard)
{
    const struct raft *raft = &shard->raft;
    if (raft->state == RAFT_LEADER)
        return raft->id;
    return raft->state == RAFT_FOLLOWER ? raft->follower_state.current_leader.id : 0;
}

/* is_led: this node leads, or can reach the one that does. */
static bool is_led(const struct shard *shard)
{
    uint64_t leader = shard_leader(shard);
    return shard->stage == STAGE_READY || (leader != 0 && leader != shard->options.node_id &&
                                           peers_connected(shard->options.peers, leader));
}

/* is_behind: what it would say is not what others have answered. */
static bool is_behind(const struct shard *shard)
{
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];
    return shard->catch_up != NULL || !core_bootstrapped(shard->core, cluster_id, secret) ||
           shard->forward.known_commit > shard->raft.last_applied + LAG_MAX;
}

bool shard_ready(const struct shard *shard)
{
    bool lately = shard->led_ms > 0 && uv_now(shard->options.loop) - shard->led_ms < LED_GRACE_MS;
    if (shard->stage == STAGE_READY)
        return true;
    return shard_in_company(shard) && shard->stage != STAGE_OPENING &&
           shard->stage != STAGE_CLOSING && !is_behind(shard) && (lately || is_led(shard));
}

const struct core *shard_core(const struct shard *shard)
{
    return shard->core;
}

bool shard_read_now(struct shard *shard, struct body_ref ref, struct buffer *out)
{
    return snapshots_hot(shard, ref, out) ||
           (shard->log != NULL && log_read_now(shard->log, ref, out));
}

static void on_read(struct log_read *done, enum status status)
{
    struct shard_read *read = done->data;
    read->out = done->out;
    read->private_state = NULL;
    free(done);
    read->done(read, status);
}

static void begin_read(struct shard *shard, struct shard_read *read)
{
    struct log_read *inner = calloc(1, sizeof *inner);
    ASSERT(inner != NULL);
    ASSERT(shard->log != NULL);
    inner->refs = read->refs;
    inner->count = read->count;
    inner->out = read->out;
    inner->done = on_read;
    inner->data = read;
    read->private_state = inner;
    log_read(shard->log, inner);
}

/* is_late: an entry may be committed, and applied, before it is on this disk. */
static bool is_late(const struct shard *shard, const struct shard_read *read)
{
    for (size_t i = 0; i < read->count; i++) {
        if (read->refs[i].index > log_durable_index(shard->log) &&
            read->refs[i].index <= log_last_index(shard->log))
            return true;
    }
    return false;
}

void shard_read(struct shard *shard, struct shard_read *read)
{
    ASSERT(shard->log != NULL);
    if (!is_late(shard, read)) {
        begin_read(shard, read);
        return;
    }
    read->next = shard->late_reads;
    shard->late_reads = read;
}

static void begin_late_reads(struct shard *shard)
{
    struct shard_read *list = shard->late_reads;
    shard->late_reads = NULL;
    while (list != NULL) {
        struct shard_read *read = list;
        list = list->next;
        shard_read(shard, read);
    }
}

static void fail_late_reads(struct shard *shard)
{
    struct shard_read *list = shard->late_reads;
    shard->late_reads = NULL;
    while (list != NULL) {
        struct shard_read *read = list;
        list = list->next;
        read->done(read, STATUS_CLOSED);
    }
}

void shard_stats(const struct shard *shard, struct shard_stats *out)
{
    struct log_stats log = {0};
    struct raft *raft = (struct raft *)(uintptr_t)&shard->raft; /* its getters take no const */
    if (shard->log != NULL)
        log_stats(shard->log, &log);
    *out = (struct shard_stats){
        .term = raft->current_term,
        .last_index = raft_last_index(raft),
        .applied_index = raft_last_applied(raft),
        .snapshot_index = shard->log != NULL ? log_snapshot_index(shard->log) : 0,
        .log_bytes_written = log.bytes_written,
        .log_bytes_saved = log.bytes_saved,
        .log_syncs = log.syncs,
        .log_segments = log.segments,
        .log_bytes_on_disk = log.bytes_on_disk,
        .entries = shard->entries,
        .commands = shard->commands,
        .waiting = wait_count(shard),
        .snapshots = log.snapshots,
        .snapshot_bytes_written = log.snapshot_bytes_written,
        .snapshot_fork_ns_max = log.snapshot_fork_ns_max,
        .snapshot_pid = log.snapshot_pid,
        .unstored_log_bytes = shard->snapshots.held.log_bytes,
        .unstored_memory_bytes = shard->snapshots.held.memory_bytes,
        .disk_free_bytes = shard->disk_free_bytes,
        .disk_low = shard->disk_low,
        .backup = shard->backup != NULL,
    };
}
