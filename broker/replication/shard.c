/* SPDX-License-Identifier: Apache-2.0 */
/* One shard's life: recovery, applying, the turn of the loop, closing; lead.c has leading.
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
 * I1  The core's state changes in fsm_apply only, and while the log is loaded.
 * I2  Nothing that a callback of the core or of the library calls touches the library; that happens
 *     in flush. */
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

#define TICK_MS         25u   /* of the library, where there are other nodes */
#define CALM_MS         250u  /* since the leader was heard: an election is due after ELECTION_MS */
#define SWEEP_MS        90u   /* less than a calm tick */
#define LED_GRACE_MS    4000u /* so long calls wait for a new leader */
#define OFFER_AGAIN_MS  3000u /* a snapshot, to a member that did not take it up or is at it */
#define LAG_MAX         128u  /* entries; a follower that lacks more is not ready */
#define DISK_CHECK_MS   1000u
#define DISK_CHECK_PART 8u /* and when this part of the reserve has been written since */
#define HANDLES         7u /* of the loop; pool work counts as more (shard->handles) */

void shard_fatal(struct shard *shard, const char *sentence)
{
    trace_error("shard", "stopping", "dir=\"%s\" reason=\"%s\"", shard->options.dir, sentence);
    _exit(LOG_EXIT_CODE);
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

/* ---- a turn of the loop ---- */

static void begin_close(struct shard *shard);
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
    lead_watch(shard);
    if (shard_in_company(shard))
        look_around(shard);
    snapshots_cool(shard);
    wait_pump(shard);
    events_tell_queues(shard);
    wait_pump(shard); /* for the receives that the owner has begun just now */
    batch_propose(shard);
    forward_pump(shard);
    sync_pump(shard);
    raft_net_tell_commit(shard, false);
    lead_tell(shard);
    events_tell(shard);
    batch_deliver(shard);
    wait_deliver(shard);
    members_deliver(shard);
    wait_arm(shard);
    tick_arm(shard);
    bury_arm(shard);
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
    members_abort(shard, STATUS_CLOSED); /* what the library had until it was closed */
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
        (uv_handle_t *)&shard->bury_timer,
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
    reads_fail_late(shard);
    catch_up_abort(shard);
    give_close(shard);
    backup_close(shard);
    links_close(shard);
    shard->log = NULL;
    uv_timer_stop(&shard->tick_timer);
    uv_timer_stop(&shard->wait_timer);
    uv_timer_stop(&shard->pace_timer);
    uv_timer_stop(&shard->bury_timer);
    raft_close(&shard->raft, on_raft_closed);
}

bool shard_idle(const struct shard *shard)
{
    return shard->batch.flight_calls == 0 && shard->waits.heap_count == 0 &&
           shard->waits.finishing == NULL && shard->forward.calls == NULL &&
           shard->forward.receives == NULL && shard->sync.list == NULL &&
           shard->late_reads == NULL && shard->handles == HANDLES;
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
    uv_timer_init(loop, &shard->bury_timer);
    shard->handles = HANDLES;
    shard->prepare.data = shard->check.data = shard->idle.data = shard;
    shard->tick_timer.data = shard->wait_timer.data = shard->pace_timer.data = shard;
    shard->bury_timer.data = shard;
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
    if (shard->options.snapshot_spaced_bytes == 0 && shard->options.snapshot_bytes == 0)
        shard->options.snapshot_spaced_bytes = SNAPSHOT_SPACED_BYTES;
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
    reads_begin_late(shard);
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
    shard->disk.begun_anew = shard->promised.index > 0;
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
 * beginning. What the process before this one may have dropped of purged queues has to go first. */
static enum status check_recovered(struct shard *shard, const char **error)
{
    uint64_t index;
    core_bury(shard->core, UINT64_MAX);
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

/* The library keeps the leader of an older term in mind when it votes. */
uint64_t shard_leader(const struct shard *shard)
{
    const struct raft *raft = &shard->raft;
    if (raft->state == RAFT_LEADER)
        return raft->id;
    bool known = raft->state == RAFT_FOLLOWER && shard->guard.led_term == raft->current_term;
    return known ? raft->follower_state.current_leader.id : 0;
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
