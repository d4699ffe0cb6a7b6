/* SPDX-License-Identifier: Apache-2.0 */
/* When snapshots are taken, of what, and what is kept in memory until there is one.
 *
 * A restart replays the entries since the last snapshot, and their segments stay on disk: that asks
 * for frequent ones. Each costs time in proportion to the state, though: of 20 million messages a
 * gigabyte is made and compressed. So the next is due after
 *
 *     twice the bytes of the state as it is now, at least 64 MiB, at most 2 GiB
 *
 * of log: less than a byte of state is made for each byte of log then, and of what is made a small
 * part is written. As a queue is drained the state shrinks, so that the last entries of a drain
 * bring snapshots often enough to let the segments go. Two gigabytes are replayed in seconds.
 *
 * The library keeps every entry since the last stored snapshot in memory, bodies and all, to send
 * it to followers. Where there are none it never looks at an entry again once that is applied. So
 * the pages that lie inside such a payload are given back to the system (they read as zeros from
 * then on); the log has the entry. What stays is the edges and small payloads: those are counted,
 * and bring a snapshot by themselves: an eighth of the state's bytes, 32 MiB to 128 MiB. Whoever
 * makes this node send entries to others must fetch them from the log instead: raft_disk.c refuses
 * to send.
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

#include <sys/mman.h>
#include <unistd.h>

#define TOKEN_BYTES   1u
#define MESSAGE_BYTES 52u /* of a message in the state, about; the rest of it is little */
#define RETRY_SHARE   4u

/* ---- when ---- */

static uint64_t within(uint64_t least, uint64_t value, uint64_t most)
{
    uint64_t bounded = value < most ? value : most;
    return bounded > least ? bounded : least;
}

/* due: so much without a snapshot calls for one. */
static struct unstored due(const struct shard *shard)
{
    uint64_t state = MESSAGE_BYTES * shard->snapshots.bodies;
    return (struct unstored){
        within(shard->options.snapshot_bytes, 2 * state, SNAPSHOT_BYTES_MAX),
        within(SNAPSHOT_MEMORY_BYTES, state / 8, SNAPSHOT_MEMORY_BYTES_MAX),
    };
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
    if (!shard->snapshots.making && is_due(shard))
        raft_set_snapshot_threshold(&shard->raft, 1);
}

/* give_back: the pages inside a payload; the bytes left. */
static size_t give_back(const struct raft_buffer *payload)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)payload->base + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)payload->base + payload->len) / page * page;
    if (begin >= end || madvise((void *)begin, end - begin, MADV_DONTNEED) != 0)
        return payload->len;
    return payload->len - (end - begin);
}

static bool alone(const struct shard *shard)
{
    return shard->raft.configuration.n == 1;
}

void snapshots_note_entry(struct shard *shard, const struct raft_buffer *payload)
{
    size_t left = alone(shard) ? give_back(payload) : payload->len;
    shard->snapshots.held.memory_bytes += left + ENTRY_OVERHEAD;
    snapshots_note_replayed(shard, payload->len);
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

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct shard *shard = fsm->data;
    struct snapshots *s = &shard->snapshots;
    raft_set_snapshot_threshold(&shard->raft, UINT32_MAX);
    *bufs = raft_calloc(1, sizeof **bufs);
    ASSERT(*bufs != NULL);
    **bufs = (struct raft_buffer){raft_calloc(1, TOKEN_BYTES), TOKEN_BYTES};
    ASSERT((*bufs)->base != NULL);
    *n_bufs = 1;
    buffer_reserve(&s->scratch, SCRATCH_BYTES);
    s->covered = s->held;
    s->making = true;
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

static void on_ended(void *data, enum status status)
{
    struct shard *shard = data;
    struct snapshots *s = &shard->snapshots;
    s->making = false;
    buffer_free(&s->scratch);
    if (status == STATUS_OK) {
        s->held.log_bytes -= s->covered.log_bytes;
        s->held.memory_bytes -= s->covered.memory_bytes;
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
    return core_restore(shard->core, state);
}

/* The state is restored while loading: the library has a token. */
static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    (void)fsm;
    ASSERT(buf->len == TOKEN_BYTES);
    raft_free(buf->base);
    return 0;
}

void snapshots_init(struct shard *shard)
{
    shard->fsm.snapshot = fsm_snapshot;
    shard->fsm.restore = fsm_restore;
    shard->disk.make_state = make_state;
    shard->disk.restore_state = restore_state;
    shard->disk.snapshot_ended = on_ended;
    shard->disk.data = shard;
}

void snapshots_free(struct shard *shard)
{
    buffer_free(&shard->snapshots.scratch);
}
