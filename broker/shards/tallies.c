/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/tallies.h"

#include "broker/shards/internal.h"
#include "broker/shards/question.h"
#include "proto/base/assert.h"

#include <stdlib.h>
#include <utlist.h>

#define FETCH_MS 1500u

/* ---- what is known ---- */

static bool kept(const struct tallies *tallies, uint64_t function_id, struct usage *out)
{
    size_t at = core_tally_at(tallies->items, tallies->count, function_id);
    if (at == tallies->count || tallies->items[at].function_id != function_id)
        return false;
    *out = tallies->items[at].usage;
    return true;
}

bool tallies_get(const struct shards *s, uint32_t shard_id, uint64_t function_id, struct usage *out)
{
    const struct shard *shard = shards_at(s, shard_id);
    return shard != NULL ? core_tally(shard_core(shard), function_id, out)
                         : kept(&s->tallies[shard_id], function_id, out);
}

bool tallies_next(const struct shards *s, uint32_t shard_id, uint64_t after, uint64_t *function_id)
{
    const struct shard *shard = shards_at(s, shard_id);
    if (shard != NULL)
        return core_tally_next(shard_core(shard), after, function_id);
    const struct tallies *tallies = &s->tallies[shard_id];
    size_t at = core_tally_at(tallies->items, tallies->count, after + 1);
    if (at < tallies->count)
        *function_id = tallies->items[at].function_id;
    return at < tallies->count;
}

void tallies_free(struct shards *s)
{
    for (uint32_t id = 0; id <= QUEUE_SHARDS_MAX; id++)
        free(s->tallies[id].items);
}

/* ---- asking ---- */

struct part {
    struct door_asked asked;
    struct fetch *fetch;
    bool ended;
};

struct fetch {
    struct shards *shards;
    void (*done)(void *data);
    void *data;
    uint64_t deadline_ms;
    struct fetch *prev, *next; /* in s->fetches, until `done` was called */
    bool told;
    uint32_t count, left;
    struct part parts[];
};

static void tell(struct fetch *fetch)
{
    DL_DELETE(fetch->shards->fetches, fetch);
    fetch->told = true;
    fetch->done(fetch->data);
}

static void on_answer(struct away_question *question, enum status status, struct slice bytes)
{
    struct part *part = CONTAINER_OF(question, struct part, asked.question);
    struct fetch *fetch = part->fetch;
    struct tallies *tallies = &fetch->shards->tallies[question->shard];
    struct tallies fresh;
    door_asked_ended(&part->asked);
    part->ended = true;
    if (status == STATUS_OK && tallies_decode(bytes, &fresh.items, &fresh.count)) {
        free(tallies->items);
        *tallies = fresh;
    }
    if (--fetch->left > 0)
        return;
    if (!fetch->told)
        tell(fetch);
    free(fetch);
}

static void ask(struct fetch *fetch, struct part *part, uint32_t shard_id)
{
    part->fetch = fetch;
    part->asked.question = (struct away_question){.shard = shard_id,
                                                  .kind = AWAY_TALLIES,
                                                  .repeatable = true,
                                                  .deadline_ms = fetch->deadline_ms,
                                                  .done = on_answer};
    door_ask(fetch->shards, &part->asked);
}

bool tallies_fetch(struct shards *s, void (*done)(void *data), void *data)
{
    uint32_t total = shards_total(s);
    uint32_t count = 0;
    for (uint32_t id = 1; id < total; id++)
        count += shards_at(s, id) == NULL;
    if (count == 0)
        return false;
    struct fetch *fetch = calloc(1, sizeof *fetch + count * sizeof fetch->parts[0]);
    ASSERT(fetch != NULL);
    *fetch = (struct fetch){.shards = s,
                            .done = done,
                            .data = data,
                            .deadline_ms = shards_now_ms(s) + FETCH_MS,
                            .count = count,
                            .left = count};
    DL_APPEND(s->fetches, fetch);
    for (uint32_t id = 1, i = 0; id < total; id++) {
        if (shards_at(s, id) == NULL)
            ask(fetch, &fetch->parts[i++], id);
    }
    return true;
}

/* A node that was asked may be there, and say nothing, not even that it was told to give up. */
void tallies_tick(struct shards *s)
{
    struct fetch *fetch;
    struct fetch *next;
    DL_FOREACH_SAFE(s->fetches, fetch, next)
    {
        if (shards_now_ms(s) < fetch->deadline_ms)
            continue;
        tell(fetch);
        for (uint32_t i = 0; i < fetch->count; i++) {
            if (!fetch->parts[i].ended)
                door_ask_cancel(&fetch->parts[i].asked);
        }
    }
}
