/* SPDX-License-Identifier: Apache-2.0 */
/* The asking side of looks: one question for each shard that is elsewhere, and for each further
 * piece of a run that an answer had no room for, until all have what they want. */
#include "broker/shards/look.h"

#include "broker/shards/look_message.h"
#include "broker/shards/queues.h"
#include "proto/base/assert.h"

#include <stdlib.h>

/* One shard. */
struct look_part {
    struct shard_look *look;
    uint32_t shard;
    struct look_question question; /* what is to be asked of it next */
    struct away_question asked;
    struct buffer request;
    bool open; /* it has not ended */
};

/* The views of one answer. */
struct look_chunk {
    struct queue_view *views;
    uint32_t count;
    struct look_chunk *next;
};

/* ---- the end ---- */

static int by_name(const void *a, const void *b)
{
    return queue_name_order(((const struct queue_view *)a)->name,
                            ((const struct queue_view *)b)->name);
}

/* One that is found by name may be in the run too. */
static void gather(struct shard_look *look)
{
    uint32_t total = 0;
    for (const struct look_chunk *chunk = look->chunks; chunk != NULL; chunk = chunk->next)
        total += chunk->count;
    look->views = arena_alloc(look->arena, total * sizeof *look->views + 1);
    look->count = 0;
    for (const struct look_chunk *chunk = look->chunks; chunk != NULL; chunk = chunk->next) {
        if (chunk->count > 0)
            memcpy(look->views + look->count, chunk->views, chunk->count * sizeof *look->views);
        look->count += chunk->count;
    }
    qsort(look->views, look->count, sizeof *look->views, by_name);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < look->count; i++) {
        if (kept == 0 || by_name(&look->views[kept - 1], &look->views[i]) != 0)
            look->views[kept++] = look->views[i];
    }
    look->count = kept;
}

static void part_end(struct look_part *part, enum status status)
{
    struct shard_look *look = part->look;
    buffer_free(&part->request);
    part->open = false;
    if (status != STATUS_OK && look->status == STATUS_OK && !look->optional) {
        look_cancel(look);
        look->status = status;
    }
    if (--look->left > 0)
        return;
    if (look->status == STATUS_OK)
        gather(look);
    look->done(look, look->status);
}

/* ---- one shard ---- */

static void on_answer(struct away_question *asked, enum status status, struct slice bytes);

static void part_ask(struct look_part *part)
{
    struct shard_look *look = part->look;
    buffer_clear(&part->request);
    look_question_encode(&part->request, &part->question);
    part->asked = (struct away_question){.shard = part->shard,
                                         .kind = AWAY_LOOK,
                                         .request = buffer_slice(&part->request),
                                         .repeatable = true,
                                         .deadline_ms = look->since_ms + SHARD_CALL_MS,
                                         .done = on_answer,
                                         .data = part};
    away_ask(look->away, &part->asked);
}

/* What of the run counts is no longer to be asked for. */
static void count_run(struct look_part *part, const struct look_answer *answer)
{
    struct shard_look *look = part->look;
    for (uint32_t i = answer->count - answer->run_count; i < answer->count; i++) {
        bool counts = look->wanted == NULL || look->wanted(look->data, &answer->views[i]);
        if (counts && part->question.run_max != UINT32_MAX && part->question.run_max > 0)
            part->question.run_max--;
    }
}

static void on_answer(struct away_question *asked, enum status status, struct slice bytes)
{
    struct look_part *part = asked->data;
    struct shard_look *look = part->look;
    struct look_chunk *chunk = arena_alloc(look->arena, sizeof *chunk);
    struct look_answer answer;
    if (status != STATUS_OK || look->status != STATUS_OK) {
        part_end(part, status);
        return;
    }
    if (!look_answer_decode(arena_copy(look->arena, bytes), look->arena, &answer)) {
        part_end(part, STATUS_CLOSED);
        return;
    }
    *chunk = (struct look_chunk){answer.views, answer.count, look->chunks};
    look->chunks = chunk;
    count_run(part, &answer);
    if (!answer.goes_on || part->question.run_max == 0) {
        part_end(part, STATUS_OK);
        return;
    }
    part->question.name_count = part->question.id_count = 0;
    part->question.after = answer.views[answer.count - 1].name;
    part_ask(part); /* L2 */
}

/* ---- all ---- */

/* The names and ids of the look that this shard has. */
static void part_narrow(struct look_part *part, uint32_t queue_shards)
{
    struct shard_look *look = part->look;
    struct slice *names = arena_alloc(look->arena, look->question.name_count * sizeof *names + 1);
    uint64_t *ids = arena_alloc(look->arena, look->question.id_count * sizeof *ids + 1);
    part->question = look->question;
    part->question.names = names;
    part->question.ids = ids;
    part->question.name_count = part->question.id_count = 0;
    for (uint32_t i = 0; i < look->question.name_count; i++) {
        if (shard_of_queue_name(look->question.names[i], queue_shards) == part->shard)
            names[part->question.name_count++] = look->question.names[i];
    }
    for (uint32_t i = 0; i < look->question.id_count; i++) {
        if (shard_of_queue_id(look->question.ids[i]) == part->shard)
            ids[part->question.id_count++] = look->question.ids[i];
    }
}

static bool asks_nothing(const struct look_question *question)
{
    return question->name_count == 0 && question->id_count == 0 && question->run_max == 0;
}

bool look_begin(struct shard_look *look, const struct shards *shards, struct away *away)
{
    struct shard_set set = shard_set_elsewhere(&look->set, shards);
    uint32_t total = shards_total(shards);
    look->away = away;
    look->status = STATUS_OK;
    look->part_count = look->count = 0;
    look->chunks = NULL;
    look->parts = arena_alloc(look->arena, total * sizeof *look->parts);
    for (uint32_t id = 0; id < total; id++) {
        struct look_part *part = &look->parts[look->part_count];
        *part = (struct look_part){.look = look, .shard = id, .open = true};
        if (!shard_set_has(&set, id))
            continue;
        part_narrow(part, total - 1);
        look->part_count += !asks_nothing(&part->question);
    }
    look->left = look->part_count;
    for (uint32_t i = 0; i < look->part_count; i++)
        part_ask(&look->parts[i]);
    return look->part_count > 0;
}

/* Parts that are answered all the same ask for nothing more. */
void look_cancel(struct shard_look *look)
{
    if (look->status == STATUS_OK)
        look->status = STATUS_CANCELLED;
    for (uint32_t i = 0; i < look->part_count; i++) {
        if (look->parts[i].open)
            away_cancel(look->away, &look->parts[i].asked);
    }
}
