/* SPDX-License-Identifier: Apache-2.0 */
/* What a node has to know of replicas on other nodes, and how it asks (inquiry.h). Nothing is kept
 * that matters: a question without an answer is asked again.
 *
 * State: who leads a shard, and how far its members are, as its leader says. Every node asks for
 * the shards that it has no replica of, to tell its users; and the node that leads the catalog for
 * all, to plan (planner.c).
 *
 * Member: a node that is to let go of its replica asks the shard's leader whether it is out
 * (release.c). The leader says so only if
 *   - its list is no older than the one that the asker goes by: it adds nobody by an older one
 *   - it is still the leader, which it asks a majority for (shard_sync)
 *   - it is changing nothing about the members, and the asker is none of them.
 * So nobody will count on the asker again before it is asked anew: this leader goes by a list
 * without it, and a later one first looks at a catalog that is no older (place_sees_catalog).
 *
 * Open: before a shard's leader adds a member, that one says that it has opened its replica. The
 * answer comes on the connection on which the acknowledgements come, behind all that an earlier
 * replica on the same node may have sent: none of those can be taken for one of the new (P4). */
#include "broker/shards/inquiry.h"
#include "broker/shards/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>

#define ASK_MS   500u
#define FRESH_MS 5000u

/* ---- messages ---- */

/* One message on its way; it owns its bytes, and frees itself. */
struct letter {
    struct peer_send send;
    struct iovec part;
    struct buffer bytes;
};

static void letter_done(struct peer_send *send, enum status status)
{
    struct letter *letter = send->data;
    (void)status; /* who asked asks again */
    buffer_free(&letter->bytes);
    free(letter);
}

static void tell(struct shards *s, uint64_t node_id, const struct inquiry *inquiry)
{
    struct letter *letter = calloc(1, sizeof *letter);
    ASSERT(letter != NULL);
    inquiry_encode(&letter->bytes, inquiry);
    letter->part = (struct iovec){letter->bytes.data, letter->bytes.length};
    letter->send = (struct peer_send){
        .parts = &letter->part, .part_count = 1, .done = letter_done, .data = letter};
    peers_send(s->options.peers, node_id, PEER_CHANNEL_SHARDS, &letter->send);
}

static uint64_t ask(struct place *place, uint64_t node_id, enum inquiry_kind kind, uint64_t list)
{
    struct shards *s = place->shards;
    struct inquiry question = {
        .kind = kind, .shard = (uint16_t)place->id, .number = ++s->asked, .list = list};
    tell(s, node_id, &question);
    return question.number;
}

static bool reaches(const struct shards *s, uint64_t node_id)
{
    return s->options.peers != NULL && node_id != 0 && node_id != s->options.node_id &&
           peers_connected(s->options.peers, node_id);
}

/* ---- state ---- */

/* As the leader knows it. */
static void own_state(const struct place *place, struct shard_state *out)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    struct shard_stats stats;
    shard_stats(place->shard, &stats);
    *out = (struct shard_state){.leader = shard_leader(place->shard),
                                .last_index = stats.last_index,
                                .count = shard_members(place->shard, members)};
    for (size_t i = 0; i < out->count; i++) {
        bool self = members[i].id == place->shards->options.node_id;
        uint64_t match = self ? stats.last_index : members[i].match_index;
        out->members[i] = (struct shard_state_member){
            .node_id = members[i].id,
            .role = members[i].role,
            .connected = members[i].connected,
            .lag = stats.last_index > match ? stats.last_index - match : 0};
    }
}

bool shards_state(const struct shards *s, uint32_t id, struct shard_state *out)
{
    const struct place *place = &s->places[id];
    bool leads = place->shard != NULL && shard_leads(place->shard);
    *out = (struct shard_state){0};
    if (leads) {
        own_state(place, out);
        return true;
    }
    bool fresh = place->state != NULL && shards_now_ms(s) < place->state_ms + FRESH_MS;
    if (fresh)
        *out = *place->state;
    if (place->serves) /* a member, who hears from it; else what was asked for counts */
        out->leader = shard_leader(place->shard);
    return fresh && out->count > 0;
}

uint64_t shards_leader(const struct shards *s, uint32_t id)
{
    struct shard_state state;
    (void)shards_state(s, id, &state);
    return state.leader;
}

/* Who is asked next: the leader, as far as that is known, else one after the other. */
static uint64_t whom(struct place *place)
{
    uint64_t nodes[SHARD_MEMBERS_MAX];
    struct shards *s = place->shards;
    uint64_t leader = shards_leader(s, place->id);
    if (reaches(s, leader))
        return leader;
    size_t count = shards_replicas(s, place->id, nodes, ARRAY_COUNT(nodes));
    for (size_t i = 0; i < count; i++) {
        uint64_t node_id = nodes[place->turn++ % count];
        if (reaches(s, node_id))
            return node_id;
    }
    return 0;
}

static void look(struct place *place)
{
    bool plans = shard_leads(place->shards->places[0].shard);
    bool here = place->shard != NULL;
    if (here && (shard_leads(place->shard) || (!plans && place->serves)))
        return;
    uint64_t node_id = whom(place);
    if (node_id != 0)
        ask(place, node_id, INQUIRY_ASK_STATE, 0);
}

static void on_ask_state(struct place *place, uint64_t node_id, const struct inquiry *question)
{
    struct inquiry answer = {
        .kind = INQUIRY_STATE, .shard = question->shard, .number = question->number};
    if (place->shard != NULL && shard_leads(place->shard))
        own_state(place, &answer.state);
    else if (place->shard != NULL)
        answer.state.leader = shard_leader(place->shard);
    tell(place->shards, node_id, &answer);
}

/* From one that does not lead only where the leader may be found. */
static void on_state(struct place *place, const struct inquiry *answer)
{
    bool known = place->state != NULL &&
                 shards_now_ms(place->shards) < place->state_ms + FRESH_MS &&
                 place->state->count > 0;
    if (answer->state.count == 0 && known && answer->state.leader == place->state->leader)
        return;
    if (place->state == NULL)
        place->state = calloc(1, sizeof *place->state);
    ASSERT(place->state != NULL);
    *place->state = answer->state;
    place->state_ms = shards_now_ms(place->shards);
}

/* ---- member ---- */

struct verdict {
    struct shards *shards;
    uint64_t node_id;
    struct inquiry question;
    struct shard_sync sync;
};

static enum inquiry_word is_out(const struct place *place, uint64_t node_id, uint64_t version)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    struct replica_list list;
    const struct core *catalog = shard_core(place->shards->places[0].shard);
    if (place->shard == NULL || !shard_leads(place->shard) || place->changing ||
        !replicas_get(catalog, place->id, &list) || list.version < version)
        return INQUIRY_UNKNOWN;
    const struct replica *listed = replicas_find(&list, node_id);
    size_t count = shard_members(place->shard, members);
    for (size_t i = 0; i < count; i++) {
        if (members[i].id == node_id)
            return INQUIRY_YES;
    }
    return listed != NULL && !listed->leaving ? INQUIRY_YES : INQUIRY_NO;
}

static void say(struct shards *s, uint64_t node_id, const struct inquiry *question,
                enum inquiry_kind kind, enum inquiry_word word)
{
    struct inquiry answer = {
        .kind = kind, .shard = question->shard, .number = question->number, .word = word};
    tell(s, node_id, &answer);
}

static void on_confirmed(struct shard_sync *sync, enum status status)
{
    struct verdict *verdict = sync->data;
    struct shards *s = verdict->shards;
    const struct place *place = &s->places[verdict->question.shard];
    if (status == STATUS_OK)
        say(s, verdict->node_id, &verdict->question, INQUIRY_MEMBER,
            is_out(place, verdict->node_id, verdict->question.list));
    free(verdict);
}

static void on_ask_member(struct place *place, uint64_t node_id, const struct inquiry *question)
{
    if (is_out(place, node_id, question->list) != INQUIRY_NO) {
        say(place->shards, node_id, question, INQUIRY_MEMBER,
            is_out(place, node_id, question->list));
        return;
    }
    struct verdict *verdict = calloc(1, sizeof *verdict);
    ASSERT(verdict != NULL);
    *verdict = (struct verdict){.shards = place->shards, .node_id = node_id, .question = *question};
    verdict->sync = (struct shard_sync){.done = on_confirmed, .data = verdict};
    shard_sync(place->shard, &verdict->sync);
}

bool watch_is_out(struct place *place, uint64_t list)
{
    struct shards *s = place->shards;
    if (place->out.list == list && place->out.word == INQUIRY_NO)
        return true;
    uint64_t leader = shards_leader(s, place->id);
    if (!reaches(s, leader) || shards_now_ms(s) < place->out.asked_ms + ASK_MS)
        return false;
    place->out = (struct asked){.number = ask(place, leader, INQUIRY_ASK_MEMBER, list),
                                .list = list,
                                .asked_ms = shards_now_ms(s)};
    return false;
}

/* ---- open ---- */

static void on_ask_open(struct place *place, uint64_t node_id, const struct inquiry *question)
{
    bool open = place->shard != NULL && place_is_listed(place) && !place->releases;
    say(place->shards, node_id, question, INQUIRY_OPEN, open ? INQUIRY_YES : INQUIRY_NO);
}

bool watch_is_open(struct place *place, uint64_t node_id, uint64_t list)
{
    struct shards *s = place->shards;
    struct asked *open = &place->open;
    if (open->node_id == node_id && open->list == list && open->word == INQUIRY_YES)
        return true;
    bool pending = open->node_id == node_id && open->list == list &&
                   shards_now_ms(s) < open->asked_ms + ASK_MS;
    if (!reaches(s, node_id) || pending)
        return false;
    *open = (struct asked){.number = ask(place, node_id, INQUIRY_ASK_OPEN, list),
                           .node_id = node_id,
                           .list = list,
                           .asked_ms = shards_now_ms(s)};
    return false;
}

/* ---- coming in, and now and then ---- */

static void take_word(struct asked *asked, const struct inquiry *answer)
{
    if (answer->number == asked->number)
        asked->word = answer->word;
}

static void on_message(void *data, uint64_t node_id, struct slice message)
{
    struct shards *s = data;
    struct inquiry inquiry;
    if (inquiry_decode(message, &inquiry) != STATUS_OK || inquiry.shard == 0 ||
        inquiry.shard >= places_end(s))
        return;
    struct place *place = &s->places[inquiry.shard];
    switch (inquiry.kind) {
    case INQUIRY_ASK_STATE:
        on_ask_state(place, node_id, &inquiry);
        break;
    case INQUIRY_STATE:
        on_state(place, &inquiry);
        break;
    case INQUIRY_ASK_MEMBER:
        on_ask_member(place, node_id, &inquiry);
        break;
    case INQUIRY_MEMBER:
        take_word(&place->out, &inquiry);
        break;
    case INQUIRY_ASK_OPEN:
        on_ask_open(place, node_id, &inquiry);
        break;
    default:
        take_word(&place->open, &inquiry);
        break;
    }
}

static void on_connection(void *data, uint64_t node_id, bool up)
{
    (void)data, (void)node_id, (void)up; /* what was lost is asked again */
}

void watch_tick(struct shards *s)
{
    if (s->options.peers == NULL || shards_now_ms(s) < s->watched_ms + ASK_MS)
        return;
    s->watched_ms = shards_now_ms(s);
    for (uint32_t id = 1; id < places_end(s); id++)
        look(&s->places[id]);
}

void watch_open(struct shards *s)
{
    const struct peer_handler handler = {
        .message = on_message, .connection = on_connection, .data = s};
    if (s->options.peers != NULL)
        peers_handle(s->options.peers, PEER_CHANNEL_SHARDS, &handler);
}

void watch_close(struct shards *s)
{
    if (s->options.peers != NULL)
        peers_handle(s->options.peers, PEER_CHANNEL_SHARDS, NULL);
}
