/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/look_message.h"

#include "proto/base/assert.h"

#define VERSION          1u
#define RUN_MAX          1000u      /* queues in one answer */
#define RUN_BYTES_MAX    (4u << 20) /* after which a run is cut */
#define VIEW_BYTES_LEAST 140u

#define FLAG_FIFO        1u
#define FLAG_CONTENT     2u
#define FLAG_DEDUP       4u
#define FLAG_THROUGHPUT  8u
#define FLAGS            15u

/* ---- questions ---- */

void look_question_encode(struct buffer *out, const struct look_question *question)
{
    ASSERT(question->name_count <= LOOK_ITEMS_MAX);
    ASSERT(question->id_count <= LOOK_ITEMS_MAX);
    buffer_add_u32(out, VERSION);
    buffer_add_u32(out, question->name_count);
    buffer_add_u32(out, question->id_count);
    buffer_add_u32(out, question->run_max);
    buffer_add_bytes(out, question->after);
    buffer_add_bytes(out, question->prefix);
    buffer_add_bytes(out, question->dead_letter);
    for (uint32_t i = 0; i < question->name_count; i++)
        buffer_add_bytes(out, question->names[i]);
    for (uint32_t i = 0; i < question->id_count; i++)
        buffer_add_u64(out, question->ids[i]);
}

bool look_question_decode(struct slice in, struct arena *arena, struct look_question *out)
{
    struct cursor c = cursor_of(in);
    uint32_t version = cursor_u32(&c);
    *out = (struct look_question){.name_count = cursor_u32(&c)};
    out->id_count = cursor_u32(&c);
    out->run_max = cursor_u32(&c);
    out->after = cursor_bytes(&c);
    out->prefix = cursor_bytes(&c);
    out->dead_letter = cursor_bytes(&c);
    if (c.bad || version != VERSION || out->name_count > LOOK_ITEMS_MAX ||
        out->id_count > LOOK_ITEMS_MAX)
        return false;
    struct slice *names = arena_alloc(arena, out->name_count * sizeof *names + 1);
    uint64_t *ids = arena_alloc(arena, out->id_count * sizeof *ids + 1);
    for (uint32_t i = 0; i < out->name_count; i++)
        names[i] = cursor_bytes(&c);
    for (uint32_t i = 0; i < out->id_count; i++)
        ids[i] = cursor_u64(&c);
    out->names = names;
    out->ids = ids;
    return !c.bad && cursor_left(&c) == 0;
}

/* ---- views ---- */

static void view_encode(struct buffer *out, const struct queue_view *view)
{
    const struct queue_settings *s = &view->settings;
    const uint64_t longs[] = {
        view->queue_id,   view->version,        view->created_ms,    view->modified_ms,
        view->visible,    view->in_flight,      view->delayed,       view->oldest_sent_ms,
        view->sent_total, view->received_total, view->deleted_total, view->empty_receives_total};
    const uint32_t numbers[] = {s->delay_s,        s->message_bytes_max, s->retention_s,
                                s->receive_wait_s, s->visibility_s,      s->receive_count_max};
    for (size_t i = 0; i < ARRAY_COUNT(longs); i++)
        buffer_add_u64(out, longs[i]);
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++)
        buffer_add_u32(out, numbers[i]);
    buffer_add_u32(out, (s->fifo ? FLAG_FIFO : 0) | (s->content_based_dedup ? FLAG_CONTENT : 0) |
                            (s->dedup_per_group ? FLAG_DEDUP : 0) |
                            (s->throughput_per_group ? FLAG_THROUGHPUT : 0));
    buffer_add_bytes(out, view->name);
    buffer_add_bytes(out, view->tags);
    buffer_add_bytes(out, s->dead_letter);
    buffer_add_bytes(out, s->extras);
}

static bool view_decode(struct cursor *c, struct queue_view *view)
{
    struct queue_settings *s = &view->settings;
    uint64_t *const longs[] = {
        &view->queue_id,       &view->version,        &view->created_ms,
        &view->modified_ms,    &view->visible,        &view->in_flight,
        &view->delayed,        &view->oldest_sent_ms, &view->sent_total,
        &view->received_total, &view->deleted_total,  &view->empty_receives_total};
    uint32_t *const numbers[] = {&s->delay_s,        &s->message_bytes_max, &s->retention_s,
                                 &s->receive_wait_s, &s->visibility_s,      &s->receive_count_max};
    *view = (struct queue_view){0};
    for (size_t i = 0; i < ARRAY_COUNT(longs); i++)
        *longs[i] = cursor_u64(c);
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++)
        *numbers[i] = cursor_u32(c);
    uint32_t flags = cursor_u32(c);
    s->fifo = (flags & FLAG_FIFO) != 0;
    s->content_based_dedup = (flags & FLAG_CONTENT) != 0;
    s->dedup_per_group = (flags & FLAG_DEDUP) != 0;
    s->throughput_per_group = (flags & FLAG_THROUGHPUT) != 0;
    view->name = cursor_bytes(c);
    view->tags = cursor_bytes(c);
    s->dead_letter = cursor_bytes(c);
    s->extras = cursor_bytes(c);
    return !c->bad && (flags & ~FLAGS) == 0 && view->queue_id != 0 && view->name.length > 0;
}

/* ---- answers ---- */

/* An answer being made: `at` is where it begins in `out`. */
struct making {
    struct buffer *out;
    size_t at;
    uint32_t count, run_count;
};

static void add_view(struct making *m, const struct queue_view *view)
{
    view_encode(m->out, view);
    m->count++;
}

static void add_found(struct making *m, const struct core *core, const struct look_question *q)
{
    struct queue_view view;
    for (uint32_t i = 0; i < q->name_count; i++) {
        if (core_queue_by_name(core, q->names[i], &view))
            add_view(m, &view);
    }
    for (uint32_t i = 0; i < q->id_count; i++) {
        if (core_queue_by_id(core, q->ids[i], &view))
            add_view(m, &view);
    }
}

/* The next one of the run, behind view->name or, with none, at its beginning. Names with a prefix
 * stand together and begin with the prefix itself, which a walk behind it would miss. */
static bool run_next(const struct core *core, const struct look_question *q, bool begun,
                     struct queue_view *view)
{
    struct slice after = begun ? view->name : q->after.length > 0 ? q->after : q->prefix;
    bool itself = !begun && q->after.length == 0 && q->prefix.length > 0 &&
                  core_queue_by_name(core, q->prefix, view);
    return (itself || core_queue_next(core, after, view)) &&
           slice_has_prefix(view->name, q->prefix);
}

/* True: it goes on. */
static bool add_run(struct making *m, const struct core *core, const struct look_question *q)
{
    struct queue_view view;
    uint32_t most = q->run_max < RUN_MAX ? q->run_max : RUN_MAX;
    bool begun = false;
    while (run_next(core, q, begun, &view)) {
        begun = true;
        if (q->dead_letter.length > 0 && !slice_equal(view.settings.dead_letter, q->dead_letter))
            continue;
        if (m->run_count >= most || m->out->length - m->at > RUN_BYTES_MAX)
            return true;
        add_view(m, &view);
        m->run_count++;
    }
    return false;
}

void look_answer(struct buffer *out, const struct core *core, const struct look_question *question)
{
    struct making m = {.out = out, .at = out->length};
    buffer_add_u32(out, VERSION);
    buffer_add_u32(out, 0);
    buffer_add_u32(out, 0);
    add_found(&m, core, question);
    bool goes_on = question->run_max > 0 && add_run(&m, core, question);
    out->data[m.at + 1] = goes_on ? 1 : 0;
    bytes_put_u32(out->data + m.at + 4, m.count);
    bytes_put_u32(out->data + m.at + 8, m.run_count);
}

bool look_answer_decode(struct slice in, struct arena *arena, struct look_answer *out)
{
    struct cursor c = cursor_of(in);
    unsigned version = cursor_u8(&c);
    unsigned goes_on = cursor_u8(&c);
    unsigned zero = cursor_u16(&c);
    *out = (struct look_answer){.goes_on = goes_on == 1, .count = cursor_u32(&c)};
    out->run_count = cursor_u32(&c);
    if (c.bad || version != VERSION || goes_on > 1 || zero != 0 || out->run_count > out->count ||
        out->count > cursor_left(&c) / VIEW_BYTES_LEAST || (goes_on == 1 && out->run_count == 0))
        return false;
    out->views = arena_alloc(arena, out->count * sizeof *out->views + 1);
    for (uint32_t i = 0; i < out->count; i++) {
        if (!view_decode(&c, &out->views[i]))
            return false;
    }
    return cursor_left(&c) == 0;
}
