/* SPDX-License-Identifier: Apache-2.0 */
/* Raft's messages: from the library to the network and back. The library's own transport is not
 * used (docs/decisions.md); what it leaves out is done here:
 *   - It puts everything that a follower lacks into one message, and a probe repeats that: appends
 *     are clipped (CLIP_BYTES, PROBE_BYTES) and nothing is sent while much is unsent. The commit
 *     index goes with it as it is, so that a follower knows how far behind it is; the library hears
 *     of no more than the append covers: it would take that for entries that were checked.
 *   - A result that cannot be sent makes it free the entries twice (recv.c of 0.15): the send of a
 *     result or a vote never fails; it is dropped.
 *   - A candidate offers its last index although that is not on disk yet: its request waits.
 *   - Followers hear of a commit with the next append, or heartbeat. Those whose callers wait hear
 * of it at once, the others with the next append or tick, since a message costs both sides more
 *     than what it tells: raft_net_tell_commit.
 *   - A follower applies what an append says is committed when that append is on its disk: here
 *     while it is being written (apply_known).
 *   - Payloads that snapshot.c has given back are read from the log again. */
#include "broker/replication/configuration.h"
#include "broker/replication/outgoing.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/crc32c.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

#define CLIP_BYTES   (1u << 20)
#define CLIP_ENTRIES 256u
#define PROBE_BYTES  (64u << 10)
#define UNSENT_MAX   (6u << 20) /* below PEER_UNSENT_BYTES_MAX, so that heartbeats still go */
#define PIPELINE     1          /* enum of the library's progress.h */

/* ---- appends ---- */

static const struct raft_progress *progress_of(const struct shard *shard, uint64_t node_id)
{
    const struct raft *raft = &shard->raft;
    for (unsigned i = 0; i < raft->configuration.n && raft->state == RAFT_LEADER; i++) {
        if (raft->configuration.servers[i].id == node_id)
            return &raft->leader_state.progress[i];
    }
    return NULL;
}

/* clip: how many of the entries go into one message: at least one. */
static unsigned clip(const struct raft_append_entries *append, bool probing)
{
    size_t bytes_max = probing ? PROBE_BYTES : CLIP_BYTES;
    size_t bytes = 0;
    unsigned n = 0;
    for (; n < append->n_entries && n < CLIP_ENTRIES; n++) {
        bytes += append->entries[n].buf.len;
        if (n > 0 && bytes > bytes_max)
            break;
    }
    return n;
}

static void add_payload(struct outgoing *out, const struct raft_entry *entry)
{
    if (entry->buf.len > 0)
        out->parts[out->part_count++] = (struct iovec){entry->buf.base, entry->buf.len};
}

static void on_fetched(struct shard_read *read, enum status status);

/* fetch: the first `n` payloads are no longer in memory. */
static void fetch(struct outgoing *out, uint64_t first_index, const struct raft_entry *entries,
                  unsigned n)
{
    out->refs = calloc(n, sizeof *out->refs);
    ASSERT(out->refs != NULL);
    size_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        out->refs[i] = (struct body_ref){first_index + i, 0, (uint32_t)entries[i].buf.len};
        bytes += entries[i].buf.len;
    }
    out->fetch =
        (struct shard_read){.refs = out->refs, .count = n, .done = on_fetched, .data = out};
    buffer_reserve(&out->fetch.out, bytes + 1);
    out->parts[out->part_count++] = (struct iovec){out->fetch.out.data, bytes};
    out->fetching = true;
}

/* sum_of: made once, for all followers. */
static uint32_t sum_of(struct shard *shard, uint64_t index, const struct raft_entry *entry)
{
    struct entry_sum *sum = &shard->links.sums[index % SUMS_KEPT];
    if (sum->index != index || sum->term != entry->term)
        *sum = (struct entry_sum){index, entry->term,
                                  crc32c(0, slice_make(entry->buf.base, entry->buf.len))};
    return sum->crc32c;
}

/* add_entry_heads: checksums of what is fetched are filled in when it has been. */
static void add_entry_heads(struct shard *shard, struct buffer *head, uint64_t first,
                            const struct raft_entry *entries, unsigned n, unsigned fetched)
{
    buffer_reserve(head, (size_t)n * WIRE_ENTRY_BYTES);
    for (unsigned i = 0; i < n; i++) {
        uint32_t sum = i < fetched ? 0 : sum_of(shard, first + i, &entries[i]);
        struct wire_entry entry = {entries[i].term, (uint32_t)entries[i].buf.len, sum,
                                   entries[i].type};
        wire_entry_encode(head, &entry);
    }
}

static void on_fetched(struct shard_read *read, enum status status)
{
    struct outgoing *out = read->data;
    size_t at = 0;
    for (size_t i = 0; i < read->count && status == STATUS_OK; i++) {
        struct slice payload = slice_make(read->out.data + at, read->refs[i].length);
        bytes_put_u32(out->head.data + WIRE_HEADER_BYTES + i * WIRE_ENTRY_BYTES + 12,
                      crc32c(0, payload));
        at += payload.length;
    }
    out->parts[1] = (struct iovec){read->out.data, read->out.length};
    outgoing_fetched(out, status);
}

static void note_sent(struct shard *shard, struct link *link,
                      const struct raft_append_entries *append, unsigned n, uint64_t commit)
{
    link->term = shard->raft.current_term;
    link->sent_index = append->prev_log_index + n;
    link->sent_term = n > 0 ? append->entries[n - 1].term : append->prev_log_term;
    link->sent_commit = commit;
    link->next_index = n < append->n_entries ? link->sent_index + 1 : 0;
}

/* send_append: without a request it is no message of the library's, and the answer to it would only
 * tell what others have told. */
static int send_append(struct shard *shard, struct link *link,
                       const struct raft_append_entries *append, struct raft_io_send *request,
                       raft_io_send_cb cb)
{
    const struct raft_progress *progress = progress_of(shard, link->node_id);
    bool probing = progress == NULL || progress->state != PIPELINE;
    unsigned n = clip(append, probing);
    uint64_t first = append->prev_log_index + 1;
    uint64_t given_back = shard->snapshots.given_back;
    unsigned cold = given_back < first ? 0 : (unsigned)(given_back - first + 1);
    if (n > 0 && outgoing_unsent(link) > UNSENT_MAX)
        return RAFT_NOCONNECTION;
    cold = cold < n ? cold : n;
    uint64_t commit = append->leader_commit;
    commit = commit < first - 1 + n ? commit : first - 1 + n;
    struct wire wire = {.type = WIRE_APPEND, .count = n, .term = append->term};
    wire.flags = request == NULL ? WIRE_TELLS : 0;
    wire.a = append->prev_log_index;
    wire.b = append->prev_log_term;
    wire.c = append->leader_commit;
    wire.d = time_now_ms(shard);
    struct buffer head = {0};
    wire_encode(&head, &wire);
    add_entry_heads(shard, &head, first, append->entries, n, cold);
    struct outgoing *out = outgoing_new(shard, &head, n + 1);
    out->request = request;
    out->cb = cb;
    /* The library holds on to all that it wanted sent, also to what was clipped. */
    out->first_index = request != NULL && append->n_entries > 0 ? first + cold : 0;
    if (cold > 0)
        fetch(out, first, append->entries, cold);
    for (unsigned i = cold; i < n; i++)
        add_payload(out, &append->entries[i]);
    note_sent(shard, link, append, n, commit);
    outgoing_send(out, link);
    if (out->fetching)
        shard_read(shard, &out->fetch);
    return 0;
}

void raft_net_hurry(struct shard *shard, struct link *link)
{
    if (link != NULL)
        link->hurry_until_ms = uv_now(shard->options.loop) + HURRY_MS;
}

void raft_net_tell_commit(struct shard *shard, bool all)
{
    uint64_t now_ms = uv_now(shard->options.loop);
    const struct raft *raft = &shard->raft;
    shard->untold = false;
    for (size_t i = 0; i < shard->links.count && raft->state == RAFT_LEADER; i++) {
        struct link *link = shard->links.list[i];
        const struct raft_progress *progress = progress_of(shard, link->node_id);
        uint64_t commit =
            raft->commit_index < link->sent_index ? raft->commit_index : link->sent_index;
        if (!link->up || link->term != raft->current_term || progress == NULL ||
            progress->state != PIPELINE || commit <= link->sent_commit)
            continue;
        if (!all && now_ms >= link->hurry_until_ms) {
            shard->untold = true;
            continue;
        }
        struct raft_append_entries append = {.term = raft->current_term,
                                             .prev_log_index = link->sent_index,
                                             .prev_log_term = link->sent_term,
                                             .leader_commit = commit};
        (void)send_append(shard, link, &append, NULL, NULL);
    }
    if (shard->untold && shard->disk.resting)
        raft_disk_arm(&shard->disk);
}

/* ---- everything else ---- */

static void offer_encode(struct wire *wire, const struct raft_install_snapshot *offer)
{
    *wire = (struct wire){.type = WIRE_OFFER, .count = 1, .term = offer->term};
    wire->a = offer->last_index;
    wire->b = offer->last_term;
    wire->c = offer->conf_index;
}

static void vote_encode(struct wire *wire, const struct raft_request_vote *vote)
{
    unsigned flags =
        (vote->pre_vote ? WIRE_PRE_VOTE : 0) | (vote->disrupt_leader ? WIRE_DISRUPT : 0);
    *wire = (struct wire){.type = WIRE_VOTE, .flags = (uint16_t)flags, .term = vote->term};
    wire->a = vote->candidate_id;
    wire->b = vote->last_log_index;
    wire->c = vote->last_log_term;
}

static void voted_encode(const struct shard *shard, struct wire *wire,
                         const struct raft_request_vote_result *voted)
{
    unsigned flags = (voted->vote_granted ? WIRE_GRANTED : 0) |
                     (voted->pre_vote == raft_tribool_true ? WIRE_PRE_VOTE : 0);
    *wire = (struct wire){.type = WIRE_VOTED, .flags = (uint16_t)flags, .term = voted->term};
    wire->a = shard->time.term;
    wire->b = shard->raft.current_term;
    wire->c = clock_now_ms();
    wire->d = time_known_ms(shard);
}

static void result_encode(const struct shard *shard, struct wire *wire,
                          const struct raft_append_entries_result *result)
{
    *wire = (struct wire){.type = WIRE_APPENDED, .term = result->term};
    wire->flags = shard->disk_low ? WIRE_DISK_LOW : 0;
    wire->a = result->rejected;
    wire->b = result->rejected > 0 ? result->last_log_index
                                   : guard_acknowledged(shard, result->last_log_index);
}

static bool encode(const struct shard *shard, const struct raft_message *message, struct wire *wire)
{
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        result_encode(shard, wire, &message->append_entries_result);
        return true;
    case RAFT_IO_REQUEST_VOTE:
        vote_encode(wire, &message->request_vote);
        return true;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        voted_encode(shard, wire, &message->request_vote_result);
        return true;
    case RAFT_IO_INSTALL_SNAPSHOT:
        offer_encode(wire, &message->install_snapshot);
        return true;
    case RAFT_IO_TIMEOUT_NOW:
        *wire = (struct wire){.type = WIRE_TIMEOUT_NOW, .term = message->timeout_now.term};
        wire->a = message->timeout_now.last_log_index;
        wire->b = message->timeout_now.last_log_term;
        return true;
    default:
        return false;
    }
}

/* dropped: as if the network had lost it. */
static int dropped(struct raft_io_send *request, raft_io_send_cb cb)
{
    if (cb != NULL)
        cb(request, 0);
    return 0;
}

static int on_send(void *data, struct raft_io_send *request, const struct raft_message *message,
                   raft_io_send_cb cb)
{
    struct shard *shard = data;
    struct link *link = links_find(shard, message->server_id);
    struct wire wire;
    struct buffer bytes = {0};
    bool up = link != NULL && link->up && shard->stage != STAGE_CLOSING;
    if (message->type == RAFT_IO_APPEND_ENTRIES)
        return up ? send_append(shard, link, &message->append_entries, request, cb)
                  : RAFT_NOCONNECTION;
    /* An offer that is lost unseen would be repeated after a timeout only. */
    if ((message->type == RAFT_IO_TIMEOUT_NOW || message->type == RAFT_IO_INSTALL_SNAPSHOT) && !up)
        return RAFT_NOCONNECTION;
    if (up && message->type == RAFT_IO_REQUEST_VOTE &&
        log_durable_index(shard->log) < guard_last_index(&shard->raft)) {
        shard->guard.vote_again = true;
        return dropped(request, cb);
    }
    bool spared = shard->spare_answer && message->type == RAFT_IO_APPEND_ENTRIES_RESULT &&
                  message->append_entries_result.rejected == 0;
    if (!up || spared || !encode(shard, message, &wire))
        return dropped(request, cb);
    wire_encode(&bytes, &wire);
    if (message->type == RAFT_IO_INSTALL_SNAPSHOT)
        configuration_encode(&bytes, &message->install_snapshot.conf);
    struct outgoing *out = outgoing_new(shard, &bytes, 0);
    out->request = request;
    out->cb = cb;
    outgoing_send(out, link);
    return 0;
}

/* ---- from the network ---- */

/* The library copies what it takes of an append before raft_io's recv returns, and frees the batch
 * that the payloads came in: so that may as well be the network's memory. */
static _Thread_local const void *lent;

static void *heap_malloc(void *data, size_t bytes)
{
    (void)data;
    return malloc(bytes);
}

static void *heap_calloc(void *data, size_t count, size_t bytes)
{
    (void)data;
    return calloc(count, bytes);
}

static void *heap_realloc(void *data, void *at, size_t bytes)
{
    (void)data;
    return realloc(at, bytes);
}

static void *heap_aligned_alloc(void *data, size_t alignment, size_t bytes)
{
    (void)data;
    return aligned_alloc(alignment, bytes);
}

static void heap_free(void *data, void *at)
{
    (void)data;
    if (at != lent)
        free(at);
}

static void heap_aligned_free(void *data, size_t alignment, void *at)
{
    (void)data;
    (void)alignment;
    free(at);
}

/* take_entries: as the library wants them: one batch for all payloads. It is lent. */
static struct raft_entry *take_entries(const struct wire *wire)
{
    struct cursor heads = cursor_of(wire->items);
    struct cursor payloads = heads;
    (void)cursor_take(&payloads, (size_t)wire->count * WIRE_ENTRY_BYTES);
    if (wire->count == 0)
        return NULL;
    struct raft_entry *entries = raft_calloc(wire->count, sizeof *entries);
    ASSERT(entries != NULL);
    uint8_t *batch = (uint8_t *)(uintptr_t)payloads.at;
    lent = batch;
    size_t at = 0;
    for (uint32_t i = 0; i < wire->count; i++) {
        struct wire_entry entry;
        wire_entry_decode(&heads, &entry);
        entries[i] = (struct raft_entry){.term = entry.term, .type = entry.type, .batch = batch};
        entries[i].buf = (struct raft_buffer){batch + at, entry.length};
        at += entry.length;
    }
    return entries;
}

/* skip_known: entries up to the snapshot that the library was told of are committed, and the same
 * here; but it does not have them any more, and would take them for new ones (G13). */
static void skip_known(const struct raft *raft, struct raft_append_entries *append)
{
    uint64_t known = raft->log.snapshot.last_index;
    if (append->prev_log_index >= known)
        return;
    uint64_t more = known - append->prev_log_index;
    unsigned skipped = more < append->n_entries ? (unsigned)more : append->n_entries;
    append->n_entries -= skipped;
    append->prev_log_index = known;
    append->prev_log_term = raft->log.snapshot.last_term;
    if (append->n_entries > 0) {
        memmove(append->entries, append->entries + skipped,
                append->n_entries * sizeof *append->entries);
    } else if (append->entries != NULL) {
        raft_free(append->entries);
        append->entries = NULL;
    }
}

/* makes_sense: of the terms and indexes, and of members: the library would read these, whatever
 * they are, and stop the process over some. */
static bool makes_sense(const struct wire *wire)
{
    struct cursor heads = cursor_of(wire->items);
    struct cursor payloads = heads;
    (void)cursor_take(&payloads, (size_t)wire->count * WIRE_ENTRY_BYTES);
    for (uint32_t i = 0; i < wire->count; i++) {
        struct raft_configuration members;
        struct wire_entry entry;
        wire_entry_decode(&heads, &entry);
        struct slice payload = cursor_take(&payloads, entry.length);
        if (entry.type != RAFT_CHANGE)
            continue;
        if (configuration_from_entry(payload, &members) != STATUS_OK)
            return false;
        raft_configuration_close(&members);
    }
    return (wire->a > 0) == (wire->b > 0) && wire->b <= wire->term &&
           wire->a < UINT64_MAX - wire->count;
}

/* apply_known: what is committed before the entries that came with it: their write has begun, and
 * the library would wait for its end. As an append without entries, and nobody wants the answer. */
static void apply_known(struct shard *shard, const struct wire *wire, struct raft_message *message)
{
    uint64_t commit = wire->c < wire->a ? wire->c : wire->a;
    if (commit <= shard->raft.commit_index || wire->term != shard->raft.current_term)
        return;
    message->append_entries = (struct raft_append_entries){.term = wire->term,
                                                           .prev_log_index = wire->a,
                                                           .prev_log_term = wire->b,
                                                           .leader_commit = commit};
    shard->spare_answer = true;
    (void)guard_receive(shard, message);
    shard->spare_answer = false;
}

static void receive_append(struct shard *shard, const struct wire *wire,
                           struct raft_message *message)
{
    if (!wire_entries_check(wire) || !makes_sense(wire)) {
        trace_warn("shard", "bad-append", "dir=\"%s\" from=%" PRIu64 " index=%" PRIu64,
                   shard->options.dir, (uint64_t)message->server_id, wire->a);
        return;
    }
    uint64_t last = wire->a + wire->count;
    message->type = RAFT_IO_APPEND_ENTRIES;
    message->append_entries =
        (struct raft_append_entries){.term = wire->term,
                                     .prev_log_index = wire->a,
                                     .prev_log_term = wire->b,
                                     .leader_commit = wire->c < last ? wire->c : last,
                                     .entries = take_entries(wire),
                                     .n_entries = wire->count};
    if (wire->term >= shard->raft.current_term) {
        skip_known(&shard->raft, &message->append_entries);
        time_heard(shard, wire->term, wire->d);
        if (wire->c > shard->forward.known_commit)
            shard->forward.known_commit = wire->c; /* R7: also what it lacks yet */
    }
    shard->spare_answer = (wire->flags & WIRE_TELLS) != 0;
    bool taken = guard_receive(shard, message);
    shard->spare_answer = false;
    if (!taken && message->append_entries.entries != NULL)
        raft_free(message->append_entries.entries);
    lent = NULL;
    if (taken && wire->count > 0)
        apply_known(shard, wire, message);
}

static void receive_vote(const struct wire *wire, struct raft_message *message)
{
    message->type = RAFT_IO_REQUEST_VOTE;
    message->request_vote =
        (struct raft_request_vote){.term = wire->term,
                                   .candidate_id = wire->a,
                                   .last_log_index = wire->b,
                                   .last_log_term = wire->c,
                                   .disrupt_leader = (wire->flags & WIRE_DISRUPT) != 0,
                                   .pre_vote = (wire->flags & WIRE_PRE_VOTE) != 0};
}

/* receive_voted: in a refusal of a pre-vote the library repeats the term that was asked for, and
 * who is in an earlier term than the others would never hear of theirs (G17). */
static void receive_voted(struct shard *shard, struct link *link, const struct wire *wire,
                          struct raft_message *message)
{
    bool granted = (wire->flags & WIRE_GRANTED) != 0;
    bool pre_vote = (wire->flags & WIRE_PRE_VOTE) != 0;
    uint64_t term = pre_vote && !granted && wire->b > wire->term ? wire->b : wire->term;
    time_told(shard, wire->a, wire->d);
    link->wall_known = true;
    link->wall_offset_ms = (int64_t)(wire->c - clock_steady_ms());
    message->type = RAFT_IO_REQUEST_VOTE_RESULT;
    message->request_vote_result =
        (struct raft_request_vote_result){term, granted, TO_RAFT_TRIBOOL(pre_vote)};
}

void raft_net_receive(struct shard *shard, struct link *link, const struct wire *wire)
{
    struct raft_message message = {.server_id = link->node_id, .server_address = link->address};
    switch (wire->type) {
    case WIRE_APPEND:
        receive_append(shard, wire, &message);
        return;
    case WIRE_APPENDED:
        link->disk_low = (wire->flags & WIRE_DISK_LOW) != 0;
        message.type = RAFT_IO_APPEND_ENTRIES_RESULT;
        message.append_entries_result =
            (struct raft_append_entries_result){wire->term, wire->a, wire->b};
        break;
    case WIRE_VOTE:
        receive_vote(wire, &message);
        break;
    case WIRE_VOTED:
        receive_voted(shard, link, wire, &message);
        break;
    case WIRE_TIMEOUT_NOW:
        message.type = RAFT_IO_TIMEOUT_NOW;
        message.timeout_now = (struct raft_timeout_now){wire->term, wire->a, wire->b};
        break;
    default:
        return;
    }
    (void)guard_receive(shard, &message);
}

void raft_net_init(struct shard *shard)
{
    static struct raft_heap heap = {NULL,         heap_malloc,        heap_free,        heap_calloc,
                                    heap_realloc, heap_aligned_alloc, heap_aligned_free};
    raft_heap_set(&heap);
    shard->disk.send = on_send;
}
