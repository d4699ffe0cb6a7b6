/* SPDX-License-Identifier: Apache-2.0 */
/* What the Raft library (0.15) gets wrong between nodes, and what is done about it. Everything that
 * enters the library from outside comes through here: messages, ticks, the ends of writes. struct
 * raft is public; where the library offers no other way its fields are set while it works on one
 * event, and set back after it. The tests named are in tests/unit/replication/guard*_test.c;
 * mutants.cmake there takes the guards away, one by one, and demands that they fail.
 *
 *   G1  It commits by counting replicas of the leader's last stored entry only: under a steady
 *       stream the followers never have that, and nothing is committed. It is made to count at the
 *       highest index that a majority has. (replicationQuorum)
 *       entries_are_committed_though_more_is_stored
 *
 *   G2  It counts entries of older terms (Raft, 5.4.2, figure 8: they may still be overwritten).
 *       Only entries of the current term are counted; older ones are committed with them.
 *       an_entry_of_an_older_term_is_not_counted
 *
 *   G3  A follower answers an append with the last entry that it has on disk, and a write that an
 *       old leader asked for is reported to a new one: both may be entries that the leader does not
 *       have, so it counts what is not there. A follower acknowledges only what it has checked
 *       against the log of this term's leader, and what is on disk: guard_acknowledged.
 *       (sendAppendEntriesResult)
 *       only_what_this_leader_has_is_acknowledged
 *       a_write_for_an_old_leader_is_not_reported_to_a_new_one
 *       nothing_is_acknowledged_before_it_is_on_disk
 *
 *   G4  A follower commits up to its own last entry, checked or not, if the leader's commit index
 *       is higher than what an append covers: raft_net.c clips what the library hears.
 *       unchecked_entries_are_not_committed
 *
 *   G5  A candidate offers entries that are not on disk: raft_net.c does not ask for votes until
 *       they are; then the candidate asks at once. (electionSend)
 *       votes_are_asked_for_only_with_what_is_on_disk
 *
 *   G6  A candidate that should be a follower handles the end of a snapshot's installation through
 *       the wrong member of a union: installations take one step here (catch_up.c, raft_disk.c).
 *       a_candidate_takes_over_a_snapshot
 *
 *   G7  Appends without limit, and an optimistic next index that a clipped append makes wrong: set
 *       right in guard_settle. A follower that answers a probe well stays in probe mode until there
 *       is something new, and then waits for a heartbeat: set right too.
 *       appends_are_clipped
 *       appends_follow_each_other_without_a_gap
 *       a_follower_that_answers_a_probe_gets_what_is_new_at_once
 *
 *   G8  Where a follower cannot be reached, each new entry makes the library gather all that the
 *       follower lacks, to be told that there is no connection: it is made to wait for the
 *       heartbeat.
 *       nothing_is_gathered_for_a_follower_that_cannot_be_reached
 *
 *   G9  A leader that hands over would vote for its successor after it has voted for another in the
 *       same term: the request is dropped. (electionVote)
 *       nobody_votes_twice_in_a_term
 *
 *   G10 A change of members that is rolled back after its predecessor was trimmed from the log ends
 *       in a NULL; and what it is rolled back to is the last change that is applied, though another
 *       may be left in the log: the members are taken from there, or from the last committed ones,
 *       which are kept here. (membershipRollback)
 *       Snapshots record members that are not committed: raft_disk.c is given the same copy.
 *       a_change_of_members_is_taken_back_after_a_snapshot
 *       a_change_that_is_taken_back_leaves_the_one_before_it
 *       a_change_that_comes_with_the_next_one_is_kept
 *       a_snapshot_has_no_members_that_are_not_committed
 *
 *   G11 A follower that has not heard from its leader for an election timeout still refuses its
 *       vote until its own, random timer ends (Raft, 4.2.3 says the minimum timeout). The leader is
 *       forgotten in time. And when the connection to it ends, nothing is waited for at all.
 *       a_silent_leader_is_forgotten_in_time
 *       a_leader_whose_connection_ends_is_gone
 *
 *   G12 A member that has taken over a snapshot is left waiting for the timeout, if a newer one was
 *       offered meanwhile: guard_settle sees that what follows is there. After an installation the
 *       library keeps the index of an uncommitted change: reset.
 *       an_older_snapshot_will_do
 *       an_installed_snapshot_ends_a_change_of_members
 *
 *   G13 Entries up to the snapshot that it was told of are unknown to it, and it would take them
 *       for new ones when a leader sends them again: raft_net.c leaves them out.
 *       entries_that_a_snapshot_covers_are_left_out
 *
 *   G14 After a start the library takes the last change of members in the log for committed, and
 *       would not take it back when a leader overwrites it: guard_started makes it uncommitted, if
 *       it is not known to be more. (restoreEntries)
 *       a_change_that_a_start_found_is_taken_back
 *
 *   G15 It takes no snapshot that ends where it has an entry of a later term, although that entry
 *       is not committed: it would be left behind for good. catch_up.c tells it of a later term
 *       for that moment. (recvInstallSnapshot; tests/sim/cluster, mutant "left-behind")
 *
 *   G16 The only voter leads without an election, in the term of the leader before it: what that
 * one (or itself, before a crash) had sent to others may then stand at the same index in the same
 *       term as something else, and a call is taken twice. It gets a term of its own first.
 *       (convertToCandidate)
 *       an_only_voter_leads_in_a_term_of_its_own
 *
 *   G17 A refusal of a pre-vote says the term that was asked for. A node in a later term with a
 *       shorter log, and one in an earlier term with a longer one, then refuse each other for good:
 *       VOTED carries the term of who votes, too. (recvRequestVote)
 *       a_refused_pre_vote_tells_the_term
 *
 *   G18 Who is no voter in its own latest members does not vote, though the candidate may know
 *       better: promoted, and not told yet; or removed by an entry that is not committed, which
 *       then keeps shorter logs from winning, and does not stand for election itself. Candidates
 *       count who votes by their own members (the dissertation, 4.1), so everybody votes; and one
 *       that such an entry removes as if its log ended before that: what it has from there on never
 *       counted for a majority, and of the voters without it one of any majority has the entry if
 *       it is committed. (electionVote; tests/sim/cluster, mutant "mute-learner")
 *
 *   G19 It goes by a change of members when that is on disk; but not if it has begun to stand for
 *       election meanwhile: then it has the entry, and the members of before, for good. They are
 *       taken over here. (appendFollowerCb)
 *       a_change_that_is_stored_during_an_election_counts
 */
#include "broker/replication/configuration.h"
#include "broker/replication/internal.h"
#include "broker/replication/promise.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <stdlib.h>

#define PROBE        0 /* enum of the library's progress.h */
#define PIPELINE     1
#define SNAPSHOT     2
#define HASTE_MIN_MS 20u
#define HASTE_MAX_MS 150u

/* ---- the library's log ---- */

const struct raft_entry *guard_entry(const struct raft *raft, uint64_t index)
{
    const struct raft_log *log = &raft->log;
    size_t count = log->size == 0            ? 0
                   : log->front <= log->back ? log->back - log->front
                                             : log->size - log->front + log->back;
    if (index <= log->offset || index > log->offset + count)
        return NULL;
    return &log->entries[(log->front + (size_t)(index - log->offset - 1)) % log->size];
}

struct raft_entry *guard_entry_of(struct raft *raft, uint64_t index)
{
    return (struct raft_entry *)(uintptr_t)guard_entry(raft, index);
}

uint64_t guard_last_index(const struct raft *raft)
{
    return raft_last_index((struct raft *)(uintptr_t)raft);
}

uint64_t guard_term(const struct raft *raft, uint64_t index)
{
    const struct raft_entry *entry = guard_entry(raft, index);
    if (entry != NULL)
        return entry->term;
    return index > 0 && index == raft->log.snapshot.last_index ? raft->log.snapshot.last_term : 0;
}

/* ---- G1, G2: what is committed ---- */

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

/* quorum: the highest index that a majority of the voters has, with `match` for server `i`. */
static uint64_t quorum(const struct raft *raft, uint64_t id, uint64_t match)
{
    uint64_t have[SHARD_MEMBERS_MAX];
    size_t voters = 0;
    for (unsigned i = 0; i < raft->configuration.n && voters < SHARD_MEMBERS_MAX; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        uint64_t known = raft->leader_state.progress[i].match_index;
        if (server->role == RAFT_VOTER)
            have[voters++] = server->id == id && match > known ? match : known;
    }
    if (voters == 0)
        return 0;
    qsort(have, voters, sizeof have[0], descending);
    return have[voters / 2];
}

/* countable: the index at which the library may count: one that will be committed, or none new. */
static uint64_t countable(const struct raft *raft, uint64_t index)
{
    return guard_term(raft, index) == raft->current_term ? index : raft->commit_index;
}

static void receive_result(struct shard *shard, struct raft_message *message)
{
    struct raft *raft = &shard->raft;
    const struct raft_append_entries_result *result = &message->append_entries_result;
    uint64_t stored = raft->last_stored;
    uint64_t last = guard_last_index(raft);
    bool counts =
        raft->state == RAFT_LEADER && result->term == raft->current_term && result->rejected == 0;
    if (counts) {
        uint64_t match = result->last_log_index < last ? result->last_log_index : last;
        raft->last_stored = countable(raft, quorum(raft, message->server_id, match));
    }
    shard->disk.recv(&shard->disk.io, message);
    if (counts)
        raft->last_stored = stored;
}

/* stored_count: how many of the entries that were written are still those of the log: as the
 * library counts. */
static unsigned stored_count(const struct raft *raft, uint64_t first_index,
                             const struct raft_entry *entries, unsigned n)
{
    unsigned i = 0;
    while (i < n && guard_term(raft, first_index + i) == entries[i].term)
        i++;
    return i;
}

/* ---- G3: what is acknowledged ---- */

/* matches: the follower's check of an append, as the library makes it. */
static bool matches(const struct raft *raft, const struct raft_append_entries *append)
{
    return append->prev_log_index == 0 ||
           guard_term(raft, append->prev_log_index) == append->prev_log_term;
}

void guard_verified(struct shard *shard, uint64_t term, uint64_t index)
{
    struct guard *g = &shard->guard;
    if (g->verified_term != term) {
        g->verified_term = term;
        g->verified_index = 0;
    }
    if (index > g->verified_index)
        g->verified_index = index;
}

static void note_verified(struct shard *shard, const struct raft_append_entries *append)
{
    uint64_t last = append->prev_log_index + append->n_entries;
    guard_verified(shard, append->term, matches(&shard->raft, append) ? last : 0);
}

uint64_t guard_acknowledged(const struct shard *shard, uint64_t last_index)
{
    const struct guard *g = &shard->guard;
    uint64_t verified = g->verified_term == shard->raft.current_term ? g->verified_index : 0;
    uint64_t durable = log_durable_index(shard->log);
    uint64_t least = verified < durable ? verified : durable;
    return last_index < least ? last_index : least;
}

/* ---- G10: the members ---- */

/* keep_from_entry: false: it makes no sense. */
static bool keep_from_entry(struct shard *shard, uint64_t index)
{
    const struct raft_entry *entry = guard_entry(&shard->raft, index);
    struct raft_configuration members;
    if (configuration_from_entry(slice_make(entry->buf.base, entry->buf.len), &members) !=
        STATUS_OK)
        return false;
    shard->guard.configuration_index = index;
    buffer_clear(&shard->guard.configuration);
    configuration_encode(&shard->guard.configuration, &members);
    raft_configuration_close(&members);
    return true;
}

/* keep_committed: before the library lets go of the entry that made them. One message may bring
 * what commits a change, and the next change with it: then only the entry says who they were in
 * between.
 */
static void keep_committed(struct shard *shard)
{
    struct raft *raft = &shard->raft;
    struct guard *g = &shard->guard;
    if (raft->configuration.n == 0 ||
        (g->configuration_index == raft->configuration_index && g->configuration.length > 0))
        return;
    if (raft->configuration_uncommitted_index != 0) {
        const struct raft_entry *entry = guard_entry(raft, raft->configuration_index);
        if (raft->configuration_index <= raft->last_applied && entry != NULL &&
            entry->type == RAFT_CHANGE)
            (void)keep_from_entry(shard, raft->configuration_index);
        return;
    }
    g->configuration_index = raft->configuration_index;
    buffer_clear(&g->configuration);
    configuration_encode(&g->configuration, &raft->configuration);
}

/* While the library starts, and applies what it was given, nothing has been kept yet: what it
 * begins with is committed as far as it is applied. */
struct slice guard_members(struct shard *shard)
{
    struct guard *g = &shard->guard;
    const struct raft *raft = &shard->raft;
    keep_committed(shard);
    if (g->configuration.length == 0 &&
        raft->configuration_uncommitted_index <= raft->last_applied + 1)
        configuration_encode(&g->configuration, &raft->configuration);
    ASSERT(g->configuration.length > 4); /* a snapshot without members would be the last */
    return buffer_slice(&g->configuration);
}

/* change_before: the last change of the members behind `after` and before `index`; 0: none. */
static uint64_t change_before(const struct raft *raft, uint64_t index, uint64_t after)
{
    while (--index > after) {
        const struct raft_entry *entry = guard_entry(raft, index);
        if (entry != NULL && entry->type == RAFT_CHANGE)
            return index;
    }
    return 0;
}

/* conflict_of: the first entry that the append replaces by another; 0: none. */
static uint64_t conflict_of(const struct raft *raft, const struct raft_append_entries *append)
{
    for (unsigned i = 0; i < append->n_entries; i++) {
        uint64_t index = append->prev_log_index + 1 + i;
        uint64_t term = guard_term(raft, index);
        if (term > 0 && term != append->entries[i].term)
            return index;
    }
    return 0;
}

/* roll_back: what membershipRollback would do, if it looked at the log. The change that is left may
 * be one that is not applied yet. */
static void roll_back(struct shard *shard, const struct raft_append_entries *append)
{
    struct raft *raft = &shard->raft;
    struct raft_configuration members;
    uint64_t conflict = conflict_of(raft, append);
    if (conflict == 0 || raft->configuration_uncommitted_index < conflict || !matches(raft, append))
        return;
    uint64_t left = change_before(raft, conflict, raft->log.offset);
    const struct raft_entry *entry = guard_entry(raft, left);
    enum status status =
        entry != NULL
            ? configuration_from_entry(slice_make(entry->buf.base, entry->buf.len), &members)
            : configuration_decode(buffer_slice(&shard->guard.configuration), &members);
    if (status != STATUS_OK)
        return;
    raft_configuration_close(&raft->configuration);
    raft->configuration = members;
    raft->configuration_uncommitted_index = left > raft->last_applied ? left : 0;
}

/* ---- the ends of writes ---- */

/* adopt_members: G19. Not by their terms: what stands in the log now counts. */
static void adopt_members(struct shard *shard, uint64_t first_index, unsigned n)
{
    struct raft *raft = &shard->raft;
    for (uint64_t index = first_index; index < first_index + n; index++) {
        const struct raft_entry *entry = guard_entry(raft, index);
        struct raft_configuration members;
        if (entry == NULL || entry->type != RAFT_CHANGE || index <= raft->configuration_index ||
            index <= raft->configuration_uncommitted_index ||
            configuration_from_entry(slice_make(entry->buf.base, entry->buf.len), &members) !=
                STATUS_OK)
            continue;
        keep_committed(shard);
        raft_configuration_close(&raft->configuration);
        raft->configuration = members;
        raft->configuration_uncommitted_index = index;
    }
}

void guard_appended(struct shard *shard, struct raft_io_append *request, raft_io_append_cb cb,
                    int status, uint64_t first_index, const struct raft_entry *entries, unsigned n)
{
    struct raft *raft = &shard->raft;
    uint64_t term = raft->current_term;
    if (raft->state != RAFT_LEADER || status != 0) {
        cb(request, status);
        if (status == 0)
            adopt_members(shard, first_index, n);
        shard_settle(shard);
        return;
    }
    /* The library adds the count to last_stored, and counts replicas there. */
    unsigned count = stored_count(raft, first_index, entries, n);
    uint64_t stored = raft->last_stored + count;
    raft->last_stored = countable(raft, quorum(raft, raft->id, stored)) - count;
    cb(request, status);
    raft->last_stored = stored;
    for (unsigned i = 0;
         raft->state == RAFT_LEADER && raft->current_term == term && i < raft->configuration.n;
         i++) {
        if (raft->configuration.servers[i].id == raft->id)
            raft->leader_state.progress[i].match_index = stored;
    }
    shard_settle(shard);
}

/* ---- G16: terms of its own ---- */

/* own_role: of this node in the latest members; NULL: it is none of them. */
static int *own_role(struct raft *raft)
{
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        if (raft->configuration.servers[i].id == raft->id)
            return &raft->configuration.servers[i].role;
    }
    return NULL;
}

static bool is_only_voter(const struct raft *raft)
{
    unsigned voters = 0;
    bool self = false;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        voters += server->role == RAFT_VOTER;
        self |= server->role == RAFT_VOTER && server->id == raft->id;
    }
    return self && voters == 1;
}

static void new_term(struct shard *shard)
{
    struct raft *raft = &shard->raft;
    if (raft->io->set_term(raft->io, raft->current_term + 1) != 0)
        shard_fatal(shard, "the term could not be stored");
    raft->current_term++;
    raft->voted_for = 0;
}

/* may_stand: it would vote for itself, and must not break the promise of the replica before it by
 * that. What its log says so far may be long past: that it is a voter, even the only one. */
static bool may_stand(const struct shard *shard)
{
    const struct shard_end end = shard_end(shard);
    return promise_allows(&shard->promised, &end);
}

/* The only voter leads as soon as the library starts: one that may not is none until then. */
void guard_starting(void *data)
{
    struct shard *shard = data;
    bool alone = shard_in_company(shard) && is_only_voter(&shard->raft);
    shard->guard.held_back = alone && !may_stand(shard);
    if (shard->guard.held_back)
        *own_role(&shard->raft) = RAFT_STANDBY;
    else if (alone)
        new_term(shard);
}

/* will_lead: in this tick. */
static bool will_lead(const struct shard *shard)
{
    const struct raft *raft = &shard->raft;
    uint64_t waited_ms = uv_now(shard->options.loop) - raft->election_timer_start;
    return raft->state == RAFT_FOLLOWER && is_only_voter(raft) &&
           waited_ms >= raft->follower_state.randomized_election_timeout;
}

void guard_started(struct shard *shard)
{
    struct raft *raft = &shard->raft;
    struct raft_disk *disk = &shard->disk;
    struct guard *g = &shard->guard;
    uint64_t last = raft->configuration_index;
    if (g->held_back)
        *own_role(raft) = RAFT_VOTER;
    g->held_back = false;
    /* What is applied (told of, or by the only voter, at once) is committed, and so is what the
     * group was founded with. */
    if (last <= raft->last_applied || last <= 1)
        return;
    uint64_t before = change_before(raft, last, disk->told_index);
    if (before == 0) {
        g->configuration_index = disk->told_config_index;
        buffer_clear(&g->configuration);
        buffer_add_slice(&g->configuration, buffer_slice(&disk->told_config));
    } else if (!keep_from_entry(shard, before)) {
        return;
    }
    raft->configuration_index = g->configuration_index;
    raft->configuration_uncommitted_index = last;
}

/* ---- messages ---- */

/* hear: it is from the leader, though what it brings cannot be taken now. */
static void hear(struct shard *shard, const struct raft_append_entries *append)
{
    if (append->term != shard->raft.current_term)
        return;
    shard->guard.heard_ms = uv_now(shard->options.loop);
    shard->raft.election_timer_start = shard->guard.heard_ms;
}

static bool receive_append(struct shard *shard, struct raft_message *message)
{
    const struct raft_append_entries *append = &message->append_entries;
    struct raft *raft = &shard->raft;
    /* What it has left of the disk is for what is under way: it falls behind, and stays alive. */
    bool full = shard->disk_free_bytes < shard->options.disk_reserve_bytes / 4;
    if (append->n_entries > 0 && ((full && shard->disk_low) || shard->catch_up != NULL)) {
        hear(shard, append);
        return false;
    }
    if (append->term >= raft->current_term) {
        shard->guard.heard_ms = uv_now(shard->options.loop);
        shard->guard.led_term = append->term;
        note_verified(shard, append);
        if (raft->configuration_uncommitted_index > 0)
            roll_back(shard, append);
    }
    shard->disk.recv(&shard->disk.io, message);
    return true;
}

/* G11 */
static void forget_leader(struct shard *shard)
{
    struct raft *raft = &shard->raft;
    uint64_t silent_ms = uv_now(shard->options.loop) - shard->guard.heard_ms;
    if (raft->state == RAFT_FOLLOWER && silent_ms >= raft->election_timeout)
        raft->follower_state.current_leader.id = 0;
}

/* vote_removed: as one of the members, and with a log that ends before the entry that says
 * otherwise, if that is not committed. */
static void vote_removed(struct shard *shard, struct raft_message *message)
{
    struct raft *raft = &shard->raft;
    struct raft_configuration members = raft->configuration;
    struct raft_server servers[SHARD_MEMBERS_MAX + 1];
    size_t back = raft->log.back;
    uint64_t change = raft->configuration_uncommitted_index;
    if (members.n > SHARD_MEMBERS_MAX)
        return;
    for (unsigned i = 0; i < members.n; i++)
        servers[i] = members.servers[i];
    servers[members.n] = (struct raft_server){raft->id, raft->address, RAFT_VOTER};
    raft->configuration = (struct raft_configuration){servers, members.n + 1};
    if (change > 0 && guard_entry(raft, change) != NULL)
        raft->log.back =
            (raft->log.front + (size_t)(change - raft->log.offset - 1)) % raft->log.size;
    shard->disk.recv(&shard->disk.io, message);
    raft->log.back = back;
    raft->configuration = members;
}

/* give_vote: G18. */
static void give_vote(struct shard *shard, struct raft_message *message)
{
    struct raft *raft = &shard->raft;
    int *role = own_role(raft);
    bool follows = raft->state == RAFT_FOLLOWER;
    if (follows && role == NULL && guard_last_index(raft) > 0) {
        vote_removed(shard, message);
        return;
    }
    int was = role != NULL ? *role : RAFT_VOTER;
    if (role != NULL && follows)
        *role = RAFT_VOTER;
    shard->disk.recv(&shard->disk.io, message);
    if (role != NULL)
        *role = was;
}

/* Its answer would be another than that of the replica which was here before (promise.h). */
static bool breaks_promise(const struct shard *shard, const struct raft_request_vote *vote)
{
    const struct shard_end end = {.term = vote->last_log_term, .index = vote->last_log_index};
    return !promise_allows(&shard->promised, &end);
}

static void receive_vote(struct shard *shard, struct raft_message *message)
{
    struct raft *raft = &shard->raft;
    const struct raft_request_vote *vote = &message->request_vote;
    bool second = raft->transfer != NULL && vote->term == raft->current_term && !vote->pre_vote &&
                  raft->voted_for != 0 && raft->voted_for != vote->candidate_id; /* G9 */
    if (breaks_promise(shard, vote))
        return;
    forget_leader(shard);
    if (!second)
        give_vote(shard, message);
}

bool guard_receive(struct shard *shard, struct raft_message *message)
{
    bool taken = true;
    if (shard->guard.frozen || shard->stage == STAGE_OPENING)
        return false;
    if (message->type == RAFT_IO_APPEND_ENTRIES)
        taken = receive_append(shard, message);
    else if (message->type == RAFT_IO_APPEND_ENTRIES_RESULT)
        receive_result(shard, message);
    else if (message->type == RAFT_IO_REQUEST_VOTE)
        receive_vote(shard, message);
    else if (message->type != RAFT_IO_TIMEOUT_NOW || may_stand(shard))
        shard->disk.recv(&shard->disk.io, message);
    shard_settle(shard);
    return taken;
}

void guard_tick(struct shard *shard)
{
    if (shard->guard.frozen)
        return;
    if (!may_stand(shard))
        shard->raft.election_timer_start = uv_now(shard->options.loop);
    if (will_lead(shard))
        new_term(shard);
    shard->disk.tick(&shard->disk.io);
    shard_settle(shard);
}

void guard_leader_gone(struct shard *shard)
{
    struct raft *raft = &shard->raft;
    uint32_t bits;
    if (raft->state != RAFT_FOLLOWER)
        return;
    clock_random(&bits, sizeof bits);
    raft->follower_state.current_leader.id = 0;
    raft->election_timer_start = uv_now(shard->options.loop);
    raft->follower_state.randomized_election_timeout =
        HASTE_MIN_MS + bits % (HASTE_MAX_MS - HASTE_MIN_MS);
    raft_disk_arm(&shard->disk);
}

/* ---- after each event ---- */

/* settle_progress: G7, G8, G12. */
static void settle_progress(struct shard *shard, unsigned i)
{
    struct raft *raft = &shard->raft;
    struct raft_progress *p = &raft->leader_state.progress[i];
    struct link *link = links_find(shard, raft->configuration.servers[i].id);
    if (link == NULL || !link->up) {
        p->last_send = uv_now(shard->options.loop);
        return;
    }
    if (link->next_index > 0 && link->term == raft->current_term && p->state == PIPELINE &&
        p->next_index > link->next_index)
        p->next_index = link->next_index;
    link->next_index = 0;
    if (p->state == SNAPSHOT && guard_term(raft, p->match_index) != 0) {
        p->state = PROBE;
        p->next_index = p->match_index + 1;
        p->snapshot_index = 0;
    }
    if (p->state == PROBE && p->match_index > 0 && p->next_index == p->match_index + 1 &&
        p->recent_recv)
        p->state = PIPELINE;
}

void guard_settle(struct shard *shard)
{
    struct raft *raft = &shard->raft;
    keep_committed(shard);
    if (raft->state == RAFT_LEADER) {
        for (unsigned i = 0; i < raft->configuration.n; i++) {
            if (raft->configuration.servers[i].id != raft->id)
                settle_progress(shard, i);
        }
    }
    if (shard->guard.vote_again && log_durable_index(shard->log) >= guard_last_index(raft)) {
        shard->guard.vote_again = false; /* G5 */
        if (raft->state == RAFT_CANDIDATE)
            raft->election_timer_start = 0;
    }
}

void guard_free(struct shard *shard)
{
    buffer_free(&shard->guard.configuration);
}
