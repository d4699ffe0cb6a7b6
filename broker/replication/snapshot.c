/* SPDX-License-Identifier: Apache-2.0 */
/* When snapshots are taken, of what, and what happens if that is too slow.
 *
 * The Raft library keeps every entry since the last stored snapshot in memory, and a restart
 * replays them: that asks for frequent ones. Each costs time and disk in proportion to the state,
 * though: of 20 million messages a gigabyte is read and compressed. So the next is due after
 *
 *     half the bytes of the last one's state, at least 64 MiB, at most 512 MiB
 *
 * of log: while the state is small the cost is nothing, while it is large at most two bytes of
 * state are read for a byte of log (beyond 20 million messages more), and of what is read a small
 * part is written. Half a gigabyte of log is replayed in seconds.
 *
 * A snapshot takes time, and log goes on gathering. What no stored snapshot covers is counted as
 * held: from 1 GiB on entries are spaced, which slows the callers down without stopping anybody,
 * and at 1.5 GiB calls that store bodies are refused as BUSY. So memory is bounded even while no
 * snapshot can be stored at all (a full disk); consumers go on then.
 *
 * fsm_snapshot gives the library a token: the state is made in a forked child, by raft_disk's
 * snapshot_put, in the same call (broker/log/snapshot_child.c). */
#include "broker/replication/internal.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#define TOKEN_BYTES 1u

static uint64_t due_after(const struct shard *shard)
{
    uint64_t least = shard->options.snapshot_bytes;
    uint64_t most = least > SNAPSHOT_BYTES_MAX ? least : SNAPSHOT_BYTES_MAX;
    uint64_t fair = shard->snapshots.state_bytes / 2;
    if (fair < least)
        return least;
    return fair < most ? fair : most;
}

void snapshots_note_entry(struct shard *shard, size_t length)
{
    struct snapshots *s = &shard->snapshots;
    s->held_bytes += length + ENTRY_OVERHEAD;
    if (s->held_bytes >= s->due_bytes && !s->making)
        raft_set_snapshot_threshold(&shard->raft, 1);
}

uint64_t snapshots_pace_ms(const struct shard *shard)
{
    uint64_t waited_ms = uv_now(shard->options.loop) - shard->proposed_ms;
    if (shard->snapshots.held_bytes < HELD_BYTES_PACED || waited_ms >= PACE_MS)
        return 0;
    return PACE_MS - waited_ms;
}

bool snapshots_full(const struct shard *shard)
{
    return shard->snapshots.held_bytes >= HELD_BYTES_MAX;
}

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
    s->covered_bytes = s->held_bytes;
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

static void on_ended(void *data, enum status status, uint64_t state_bytes)
{
    struct shard *shard = data;
    struct snapshots *s = &shard->snapshots;
    s->making = false;
    buffer_free(&s->scratch);
    if (status == STATUS_OK) {
        s->state_bytes = state_bytes;
        s->held_bytes -= s->covered_bytes;
        s->due_bytes = due_after(shard);
        return;
    }
    s->due_bytes = s->held_bytes + due_after(shard) / 4; /* again before long */
    if (shard->stage != STAGE_CLOSING)
        trace_error("shard", "snapshot-failed", "dir=\"%s\" error=\"%s\"", shard->options.dir,
                    status_text(status));
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct shard *shard = fsm->data;
    if (core_restore(shard->core, slice_make(buf->base, buf->len)) != STATUS_OK)
        shard->restore_failed = true;
    shard->snapshots.state_bytes = buf->len;
    shard->snapshots.due_bytes = due_after(shard);
    raft_free(buf->base);
    return 0;
}

void snapshots_init(struct shard *shard)
{
    shard->fsm.snapshot = fsm_snapshot;
    shard->fsm.restore = fsm_restore;
    shard->disk.make_state = make_state;
    shard->disk.snapshot_ended = on_ended;
    shard->disk.data = shard;
    shard->snapshots.due_bytes = due_after(shard);
}

void snapshots_free(struct shard *shard)
{
    buffer_free(&shard->snapshots.scratch);
}
