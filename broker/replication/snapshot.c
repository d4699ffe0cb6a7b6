/* SPDX-License-Identifier: Apache-2.0 */
/* When snapshots are taken, of what, and what is kept in memory until there is one.
 *
 * A restart replays the entries since the last snapshot, and their segments stay on disk: that asks
 * for frequent ones. Each costs time in proportion to the state, though: of 20 million messages a
 * gigabyte is made and compressed. So the next is due after
 *
 *     twice the bytes of the state as it is now, at most 2 GiB, and at least 64 MiB; but 256 MiB
 *     while the one before was made within ten seconds
 *
 * of log: less than a byte of state is made for each byte of log then, and of what is made a small
 * part is written. As a queue is drained the state shrinks, so that the last entries of a drain
 * bring snapshots often enough to let the segments go. Two gigabytes are replayed in seconds.
 *
 * Why ten seconds: even for a small state the whole process is forked, all shards of it, and copies
 * the pages that it writes to meanwhile. At 130 MB/s and 64 MiB that was a tenth of all CPU time. A
 * node with 6 MB/s or less keeps the 64 MiB, which is a short log on a small disk.
 *
 * All members have the same log, and would fork at the same moment: a commit, which the quicker
 * half of them makes, would wait for all the same. So each begins an eighth later than the one
 * before it in the order of ids.
 *
 * The size of the state: MESSAGE_BYTES for each message, and what the last snapshot had besides:
 * deduplication ids of FIFO queues, mostly, which stay for five minutes.
 *
 * The library keeps every entry since the last stored snapshot in memory, bodies and all. Those of
 * the latest HOT_BYTES stay there: messages are mostly received soon after they were sent, and are
 * read from there without a system call (shard_read_now); and followers are sent them. Behind that,
 * payloads are freed, and the library's entries have a length and no payload from then on, once
 * they are applied, on this disk, and not on their way to anyone; whoever needs one reads the log.
 * The memory is used again for the next entries, and its pages with it. What stays is an entry's
 * overhead: it is counted, and brings a snapshot by itself: an eighth of the state's bytes, 32 MiB
 * to 128 MiB. At the end of a turn of the loop nothing of the library is on the stack that has such
 * a payload in its hands.
 *
 * While a snapshot is written log goes on gathering. From 6 GiB of log, or 384 MiB of memory, that
 * no stored snapshot covers, entries are spaced, which slows callers down without stopping anybody;
 * at twice that calls that store bodies are refused as BUSY. So both are bounded even while no
 * snapshot can be stored at all.
 *
 * fsm_snapshot gives the library a token: the state is made in a forked child, by raft_disk's
 * snapshot_put, in the same call (broker/log/snapshot_child.c). */
#include "broker/replication/internal.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#define TOKEN_BYTES   1u
#define MESSAGE_BYTES 52u /* of a message in the state, about; the rest of it is little */
#define RETRY_SHARE   4u
#define APART_SHARE   8u

/* ---- when ---- */

static uint64_t within(uint64_t least, uint64_t value, uint64_t most)
{
    uint64_t bounded = value < most ? value : most;
    return bounded > least ? bounded : least;
}

/* least: of log between two snapshots. */
static uint64_t least(const struct shard *shard)
{
    const struct shard_options *options = &shard->options;
    uint64_t ago_ms = uv_now(options->loop) - shard->snapshots.begun_ms;
    bool recent = shard->snapshots.begun_ms > 0 && ago_ms < SNAPSHOT_SPACING_MS;
    return within(options->snapshot_bytes, recent ? options->snapshot_spaced_bytes : 0, UINT64_MAX);
}

/* apart: `bytes`, and an eighth of it for each member whose id is less than this node's. */
static uint64_t apart(const struct shard *shard, uint64_t bytes)
{
    const struct raft_configuration *members = &shard->raft.configuration;
    uint64_t before = 0;
    for (unsigned i = 0; i < members->n; i++)
        before += members->servers[i].id < shard->options.node_id ? 1 : 0;
    return bytes + bytes / APART_SHARE * (before < APART_SHARE ? before : APART_SHARE);
}

/* due: so much without a snapshot calls for one. */
static struct unstored due(const struct shard *shard)
{
    uint64_t state = MESSAGE_BYTES * shard->snapshots.bodies + shard->snapshots.besides;
    uint64_t log = within(least(shard), 2 * state, SNAPSHOT_BYTES_MAX);
    uint64_t memory = within(SNAPSHOT_MEMORY_BYTES, state / 8, SNAPSHOT_MEMORY_BYTES_MAX);
    return (struct unstored){apart(shard, log), apart(shard, memory)};
}

static bool is_due(const struct shard *shard)
{
    const struct snapshots *s = &shard->snapshots;
    struct unstored limit = due(shard);
    if (s->failed.log_bytes > 0) { /* again, but not at once */
        limit.log_bytes = s->failed.log_bytes + limit.log_bytes / RETRY_SHARE;
        limit.memory_bytes = s->failed.memory_bytes + limit.memory_bytes / RETRY_SHARE;
    }
    return s->held.log_bytes >= limit.log_bytes || s->held.memory_bytes >= limit.memory_bytes;
}

static void consider(struct shard *shard)
{
    if (!shard->snapshots.making && shard->catch_up == NULL && is_due(shard))
        raft_set_snapshot_threshold(&shard->raft, 1);
}

/* next_cold: the entry behind those whose payload is gone, if its own may follow. */
static struct raft_entry *next_cold(struct shard *shard)
{
    const struct snapshots *s = &shard->snapshots;
    uint64_t index = s->given_back + 1;
    bool needed = index > shard->raft.last_applied || index >= links_pinned(shard) ||
                  index > log_durable_index(shard->log);
    return needed ? NULL : guard_entry_of(&shard->raft, index);
}

void snapshots_cool(struct shard *shard)
{
    struct snapshots *s = &shard->snapshots;
    if (s->given_back < shard->raft.log.offset)
        s->given_back = shard->raft.log.offset; /* gone with a snapshot */
    while (s->hot_bytes > HOT_BYTES) {
        struct raft_entry *entry = next_cold(shard);
        if (entry == NULL)
            return;
        s->given_back++;
        if (entry->type != RAFT_COMMAND)
            continue;
        ASSERT(entry->batch == NULL);
        raft_free(entry->buf.base);
        entry->buf.base = NULL;
        s->hot_bytes -= entry->buf.len < s->hot_bytes ? entry->buf.len : s->hot_bytes;
        s->held.memory_bytes -= entry->buf.len;
    }
}

void snapshots_note_entry(struct shard *shard, const struct raft_buffer *payload)
{
    shard->snapshots.hot_bytes += payload->len;
    shard->snapshots.held.memory_bytes += payload->len + ENTRY_OVERHEAD;
    snapshots_note_replayed(shard, payload->len);
}

bool snapshots_hot(const struct shard *shard, struct body_ref ref, struct buffer *out)
{
    const struct raft_entry *entry = NULL;
    if (ref.index > shard->snapshots.given_back && shard->log != NULL)
        entry = guard_entry(&shard->raft, ref.index);
    if (entry == NULL || (uint64_t)ref.offset + ref.length > entry->buf.len)
        return false;
    buffer_add(out, (const uint8_t *)entry->buf.base + ref.offset, ref.length);
    return true;
}

void snapshots_note_replayed(struct shard *shard, size_t length)
{
    shard->snapshots.held.log_bytes += length;
    consider(shard);
}

static bool beyond(const struct shard *shard, uint64_t times)
{
    const struct unstored *held = &shard->snapshots.held;
    return held->log_bytes >= PACED_BYTES * times ||
           held->memory_bytes >= PACED_MEMORY_BYTES * times;
}

uint64_t snapshots_pace_ms(const struct shard *shard)
{
    uint64_t waited_ms = uv_now(shard->options.loop) - shard->proposed_ms;
    return beyond(shard, 1) && waited_ms < PACE_MS ? PACE_MS - waited_ms : 0;
}

bool snapshots_full(const struct shard *shard)
{
    return beyond(shard, 2);
}

/* ---- what ---- */

static void begin(struct snapshots *s, const struct shard *shard)
{
    buffer_reserve(&s->scratch, SCRATCH_BYTES);
    s->covered = s->held;
    s->covered_bodies = s->bodies;
    s->begun_ms = uv_now(shard->options.loop);
    s->making = true;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct shard *shard = fsm->data;
    struct snapshots *s = &shard->snapshots;
    /* Others may have committed what is not on this disk yet: a snapshot must not be ahead of the
     * log that it belongs to. Asked again after the next entry. */
    if (s->making || log_durable_index(shard->log) < raft_last_applied(&shard->raft))
        return RAFT_BUSY;
    raft_set_snapshot_threshold(&shard->raft, UINT32_MAX);
    *bufs = raft_calloc(1, sizeof **bufs);
    ASSERT(*bufs != NULL);
    **bufs = (struct raft_buffer){raft_calloc(1, TOKEN_BYTES), TOKEN_BYTES};
    ASSERT((*bufs)->base != NULL);
    *n_bufs = 1;
    begin(s, shard);
    return 0;
}

static void take_piece(void *data, struct buffer *piece)
{
    snapshot_add(data, buffer_slice(piece));
    buffer_clear(piece);
}

/* In the child: see struct log_snapshot_put. */
static void make_state(void *data, struct snapshot_sink *sink)
{
    struct shard *shard = data;
    core_snapshot_stream(shard->core, &shard->snapshots.scratch, take_piece, sink);
}

/* recount: what the library has in memory, now that it has let go of what the snapshot covers. */
static void recount(struct shard *shard)
{
    const struct raft *raft = &shard->raft;
    struct snapshots *s = &shard->snapshots;
    s->held.memory_bytes = s->hot_bytes = 0;
    for (uint64_t i = raft->log.offset + 1; i <= raft->last_applied; i++) {
        const struct raft_entry *entry = guard_entry(raft, i);
        size_t length = entry != NULL ? entry->buf.len : 0;
        bool hot = i > s->given_back;
        s->hot_bytes += hot ? length : 0;
        s->held.memory_bytes += ENTRY_OVERHEAD + (hot ? length : 0);
    }
}

/* trailing: entries behind the snapshot that members lack, up to a bound; they lag a little, or are
 * taking over a snapshot that is no longer the newest. */
static unsigned trailing(void *data)
{
    struct shard *shard = data;
    struct raft *raft = &shard->raft;
    uint64_t least = raft->last_applied;
    for (unsigned i = 0; i < raft->configuration.n && raft->state == RAFT_LEADER; i++) {
        uint64_t match = raft->leader_state.progress[i].match_index;
        if (raft->configuration.servers[i].role != RAFT_SPARE && match < least)
            least = match;
    }
    uint64_t lag = raft->last_applied - least;
    unsigned most = shard->options.trailing_max;
    unsigned kept = lag > most ? most : (unsigned)lag;
    kept = kept > SNAPSHOT_TRAILING ? kept : SNAPSHOT_TRAILING;
    raft_set_snapshot_trailing(raft, kept);
    return kept;
}

static struct slice members(void *data)
{
    return guard_members(data);
}

static void on_wanted(void *data)
{
    struct shard *shard = data;
    shard->snapshots.wanted = true;
    shard_wake(shard);
}

/* snapshots_make: the library takes one only behind an entry that is applied, and without the
 * member that wants it there may be no majority to commit any: so this one is made past the
 * library. */
void snapshots_make(struct shard *shard)
{
    struct snapshots *s = &shard->snapshots;
    uint64_t index = raft_last_applied(&shard->raft);
    if (!s->wanted || s->making || shard->catch_up != NULL ||
        log_durable_index(shard->log) < index || guard_term(&shard->raft, index) == 0)
        return;
    if (index <= log_snapshot_index(shard->log)) {
        s->wanted = false;
        return;
    }
    s->wanted = false;
    begin(s, shard);
    raft_disk_put(&shard->disk, index, guard_term(&shard->raft, index),
                  shard->raft.configuration_index);
}

static void on_ended(void *data, enum status status)
{
    struct shard *shard = data;
    struct snapshots *s = &shard->snapshots;
    s->making = false;
    buffer_free(&s->scratch);
    shard_wake(shard);
    if (status == STATUS_OK) {
        uint64_t messages = MESSAGE_BYTES * s->covered_bodies;
        uint64_t made = shard->disk.put.raw_bytes;
        s->besides = made > messages ? made - messages : 0;
        s->held.log_bytes -= s->covered.log_bytes;
        recount(shard);
        s->failed = (struct unstored){0};
        return;
    }
    s->failed = s->held;
    if (shard->stage != STAGE_CLOSING)
        trace_error("shard", "snapshot-failed", "dir=\"%s\" error=\"%s\"", shard->options.dir,
                    status_text(status));
}

static enum status restore_state(void *data, struct slice state)
{
    struct shard *shard = data;
    enum status status = core_restore(shard->core, state);
    if (status == STATUS_OK)
        level_look(shard, shard->core);
    return status;
}

/* The state is restored while loading: the library has a token. */
static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    (void)fsm;
    ASSERT(buf->len == TOKEN_BYTES);
    raft_free(buf->base);
    return 0;
}

void snapshots_installed(struct shard *shard, uint64_t index, uint64_t bodies)
{
    struct snapshots *s = &shard->snapshots;
    s->held = s->covered = s->failed = (struct unstored){0};
    s->hot_bytes = 0;
    s->given_back = index;
    s->bodies = bodies;
    s->besides = 0;
    s->wanted = false;
}

void snapshots_init(struct shard *shard)
{
    shard->fsm.snapshot = fsm_snapshot;
    shard->fsm.restore = fsm_restore;
    shard->disk.make_state = make_state;
    shard->disk.restore_state = restore_state;
    shard->disk.snapshot_ended = on_ended;
    shard->disk.snapshot_trailing = trailing;
    shard->disk.snapshot_members = members;
    shard->disk.snapshot_wanted = on_wanted;
    shard->disk.data = shard;
}

void snapshots_free(struct shard *shard)
{
    buffer_free(&shard->snapshots.scratch);
}
