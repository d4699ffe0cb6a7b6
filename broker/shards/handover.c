/* SPDX-License-Identifier: Apache-2.0 */
/* A node that stops lets others lead all that it leads, while it still serves: clients notice
 * nothing. All shards at once, and each in its own time. */
#include "broker/shards/internal.h"
#include "proto/base/trace.h"

static void ended(struct shards *s)
{
    if (--s->handovers == 0)
        s->handed_over(s->handed_over_data, s->handover_status);
}

static void on_transferred(struct shard_change *change, enum status status)
{
    struct place *place = change->data;
    place->changing = false;
    if (status != STATUS_OK) {
        trace_warn("shards", "not_handed_over", "shard=%u status=%s", place->id,
                   status_name(status));
        place->shards->handover_status = status;
    }
    ended(place->shards);
}

static bool in_company(const struct place *place)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    size_t voters = 0;
    size_t count = shard_members(place->shard, members);
    for (size_t i = 0; i < count; i++)
        voters += members[i].role == SHARD_VOTER;
    return voters > 1;
}

bool shards_hand_over(struct shards *s, void (*done)(void *data, enum status status), void *data)
{
    s->handing_over = true;
    s->handed_over = done;
    s->handed_over_data = data;
    for (uint32_t id = 0; id < places_end(s); id++) {
        struct place *place = &s->places[id];
        if (place->shard == NULL || !shard_leads(place->shard) || !in_company(place) ||
            place->changing)
            continue;
        s->handovers++;
        place->changing = true;
        place->change = (struct shard_change){.done = on_transferred, .data = place};
        shard_transfer(place->shard, &place->change, 0);
    }
    return s->handovers > 0;
}
