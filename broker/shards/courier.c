/* SPDX-License-Identifier: Apache-2.0 */
/* One lane for each other shard, and one batch in flight in it:
 *
 *     IDLE -- messages wait --> READING -- bodies --> OFFERING -- results --> IDLE
 *       |                          |                     |
 *       |<--- after a rest, where something failed ------+
 *       +---- keep_ms after the results --> SETTLING --> IDLE
 *
 * Batches are offered one after the other; what became of each is told keep_ms later. Behind a
 * refusal nothing is offered until it is settled: what follows is numbered anew then.
 *
 * A body that cannot be read would be in the way of all that follow. After some tries that message
 * is offered without it, to no queue: the other shard refuses that for good, and it goes back to
 * its queue, where each receive of it fails as for any message whose body is damaged. */
#include "broker/shards/courier.h"

#include "broker/core/place.h"
#include "proto/base/arena.h"
#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

#define BATCH_MESSAGES_MAX 500u
#define BATCH_BYTES_MAX    (512u << 10) /* but one message always fits */
#define REST_MS_MIN        20u
#define REST_MS_MAX        2000u
#define READ_TRIES         5u
#define MARKS_MAX          64u

enum stage { STAGE_IDLE, STAGE_READING, STAGE_OFFERING, STAGE_SETTLING };

/* Everything up to `number` had arrived at this time. */
struct mark {
    uint64_t number;
    uint64_t at_ms;
};

struct lane {
    struct courier *courier;
    uint32_t to;
    enum stage stage;
    uint64_t rest_ms; /* the last one; 0: all goes well */
    uint64_t rest_until_ms;
    uint32_t unread; /* tries to read that failed; then messages go one by one */
    struct command_arrive arrivals[BATCH_MESSAGES_MAX];
    struct body_ref refs[BATCH_MESSAGES_MAX];
    uint32_t count;
    uint64_t offered;             /* nothing up to this number need be offered again */
    struct mark marks[MARKS_MAX]; /* the oldest first; not settled yet */
    uint32_t mark_count;
    uint64_t refused_first, refused_last; /* behind all marks; 0: none */
    uint64_t settling;                    /* up to here */
    bool settling_refusal;
    struct arena arena; /* of the batch */
    struct shard_read read;
    struct door_call call;
};

struct courier {
    struct courier_options options;
    bool stopped;
    struct lane *lanes[1 + QUEUE_SHARDS_MAX]; /* NULL: nothing was ever sent there */
};

struct courier *courier_new(const struct courier_options *options)
{
    struct courier *courier = calloc(1, sizeof *courier);
    ASSERT(courier != NULL);
    courier->options = *options;
    return courier;
}

static void begin(struct lane *lane);

/* ---- the end of a batch ---- */

static void end(struct lane *lane)
{
    lane->stage = STAGE_IDLE;
    buffer_free(&lane->read.out);
    arena_free(&lane->arena);
}

/* Try again later: what was done is known to the cores. */
static void rest(struct lane *lane)
{
    end(lane);
    lane->rest_ms = lane->rest_ms == 0 ? REST_MS_MIN : lane->rest_ms * 2;
    if (lane->rest_ms > REST_MS_MAX)
        lane->rest_ms = REST_MS_MAX;
    lane->rest_until_ms = uv_now(lane->courier->options.loop) + lane->rest_ms;
}

/* What is settled is forgotten here; behind a refusal all numbers are new. */
static void settled(struct lane *lane)
{
    uint32_t done = 0;
    while (done < lane->mark_count && lane->marks[done].number <= lane->settling)
        done++;
    lane->mark_count -= done;
    memmove(lane->marks, lane->marks + done, lane->mark_count * sizeof lane->marks[0]);
    if (lane->settling_refusal)
        lane->refused_first = lane->refused_last = lane->offered = 0;
}

static void on_settled(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct lane *lane = call->data;
    (void)results, (void)count;
    if (status != STATUS_OK) {
        rest(lane);
        return;
    }
    settled(lane);
    end(lane);
    lane->rest_ms = 0;
    begin(lane);
}

static bool is_due(const struct lane *lane, const struct mark *mark)
{
    const struct courier_options *options = &lane->courier->options;
    return uv_now(options->loop) >= mark->at_ms + options->keep_ms;
}

/* settle_due: tell this shard of what was kept for long enough. False: there is nothing. */
static bool settle_due(struct lane *lane)
{
    struct command departed = {.type = COMMAND_DEPARTED, .departed.destination_shard = lane->to};
    struct command back = {.type = COMMAND_REFUSED, .refused.destination_shard = lane->to};
    uint32_t due = 0;
    while (due < lane->mark_count && is_due(lane, &lane->marks[due]))
        due++;
    lane->settling_refusal = lane->refused_first != 0 && due == lane->mark_count;
    if (due == 0 && !lane->settling_refusal)
        return false;
    lane->settling = due > 0 ? lane->marks[due - 1].number : 0;
    lane->stage = STAGE_SETTLING;
    lane->call.call = (struct shard_call){.done = on_settled, .data = lane};
    if (due > 0) {
        departed.departed.number = lane->settling;
        shard_call_add(&lane->call.call, &departed);
    }
    if (lane->settling_refusal) {
        back.refused.first = lane->refused_first;
        back.refused.last = lane->refused_last;
        shard_call_add(&lane->call.call, &back);
    }
    shard_call(lane->courier->options.shard, &lane->call.call);
    return true;
}

/* The first `accepted` of the batch were taken, the next `refused` not. */
static void note(struct lane *lane, uint32_t accepted, uint32_t refused)
{
    if (accepted > 0) {
        lane->offered = lane->arrivals[accepted - 1].number;
        lane->marks[lane->mark_count++] =
            (struct mark){lane->offered, uv_now(lane->courier->options.loop)};
    }
    if (refused > 0) {
        lane->refused_first = lane->arrivals[accepted].number;
        lane->refused_last = lane->arrivals[accepted + refused - 1].number;
    }
    end(lane);
    lane->rest_ms = 0;
    begin(lane);
}

/* ---- offering ---- */

static uint32_t run_of(const struct core_result *results, uint32_t from, uint32_t count,
                       enum core_code code)
{
    uint32_t i = from;
    while (i < count && results[i].code == code)
        i++;
    return i - from;
}

static void on_offered(struct shard_call *call, enum status status,
                       const struct core_result *results, uint32_t count)
{
    struct lane *lane = call->data;
    if (status == STATUS_INVALID || status == STATUS_TOO_LARGE)
        trace_error("courier", "offer_refused", "to=%u status=%s", lane->to, status_name(status));
    if (status != STATUS_OK || lane->courier->stopped) {
        rest(lane);
        return;
    }
    uint32_t accepted = run_of(results, 0, count, CORE_OK);
    uint32_t refused = run_of(results, accepted, count, CORE_NO_QUEUE);
    if (accepted + refused > 0)
        note(lane, accepted, refused);
    else
        rest(lane); /* another courier is at it */
}

static void offer(struct lane *lane)
{
    struct courier *courier = lane->courier;
    size_t at = 0;
    if (courier->stopped) {
        rest(lane);
        return;
    }
    lane->stage = STAGE_OFFERING;
    lane->call.call = (struct shard_call){.grows = true, .done = on_offered, .data = lane};
    lane->call.repeatable = true; /* its number tells one that came before */
    for (uint32_t i = 0; i < lane->count; i++) {
        struct command command = {.type = COMMAND_ARRIVE, .arrive = lane->arrivals[i]};
        command.arrive.record = slice_make(lane->read.out.data + at, lane->refs[i].length);
        at += lane->refs[i].length;
        shard_call_add(&lane->call.call, &command);
    }
    ASSERT(at == lane->read.out.length);
    door_call(courier->options.shards, lane->to, &lane->call);
}

/* ---- reading ---- */

/* The one message of this batch cannot be read: let the other side refuse it. */
static void offer_nothing(struct lane *lane)
{
    struct command_arrive *arrive = &lane->arrivals[0];
    ASSERT(lane->count == 1);
    trace_error("courier", "unreadable", "to=%u queue=%" PRIu64 " entry=%" PRIu64, lane->to,
                arrive->source_queue_id, lane->refs[0].index);
    arrive->destination_queue_id = 0;
    arrive->destination_name = (struct slice){0};
    lane->refs[0].length = 0;
    buffer_clear(&lane->read.out);
    lane->unread = 0;
    offer(lane);
}

static void on_read(struct shard_read *read, enum status status)
{
    struct lane *lane = read->data;
    if (status == STATUS_OK) {
        offer(lane);
        return;
    }
    bool alone = lane->count == 1;
    if (status != STATUS_CLOSED)
        lane->unread++;
    if (alone && lane->unread >= READ_TRIES && !lane->courier->stopped)
        offer_nothing(lane);
    else
        rest(lane);
}

static void read_bodies(struct lane *lane)
{
    struct shard *shard = lane->courier->options.shard;
    lane->stage = STAGE_READING;
    lane->read = (struct shard_read){
        .refs = lane->refs, .count = lane->count, .done = on_read, .data = lane};
    for (uint32_t i = 0; i < lane->count; i++) {
        if (shard_read_now(shard, lane->refs[i], &lane->read.out))
            continue;
        buffer_clear(&lane->read.out);
        shard_read(shard, &lane->read);
        return;
    }
    offer(lane);
}

static void gather(struct lane *lane)
{
    const struct core *core = shard_core(lane->courier->options.shard);
    const struct parcel *position = NULL;
    struct outbox_view view;
    uint64_t bytes = 0;
    uint32_t most = lane->unread > 0 ? 1 : BATCH_MESSAGES_MAX;
    lane->count = 0;
    while (lane->count < most && core_outbox_next(core, lane->to, &position, &view)) {
        if (view.arrive.number <= lane->offered)
            continue;
        bytes += view.body.length;
        if (lane->count > 0 && bytes > BATCH_BYTES_MAX)
            break;
        view.arrive.destination_name = arena_copy(&lane->arena, view.arrive.destination_name);
        lane->arrivals[lane->count] = view.arrive;
        lane->refs[lane->count++] = view.body;
    }
}

static void begin(struct lane *lane)
{
    const struct courier *courier = lane->courier;
    if (lane->stage != STAGE_IDLE || courier->stopped || !shard_leads(courier->options.shard) ||
        uv_now(courier->options.loop) < lane->rest_until_ms)
        return;
    if (settle_due(lane) || lane->refused_first != 0 || lane->mark_count == MARKS_MAX)
        return;
    gather(lane);
    if (lane->count > 0)
        read_bodies(lane);
    else
        end(lane);
}

/* ---- from outside ---- */

/* Another node goes on with it, and this one from the beginning when it leads again. */
static void forget(struct courier *courier)
{
    for (uint32_t to = 0; to <= QUEUE_SHARDS_MAX; to++) {
        struct lane *lane = courier->lanes[to];
        if (lane != NULL && lane->stage == STAGE_IDLE)
            *lane = (struct lane){.courier = courier, .to = to};
    }
}

void courier_look(struct courier *courier)
{
    if (!courier->stopped && !shard_leads(courier->options.shard))
        forget(courier);
    if (courier->stopped || !shard_leads(courier->options.shard))
        return;
    for (uint32_t to = 0; to <= QUEUE_SHARDS_MAX; to++) {
        if (core_outbox_count(shard_core(courier->options.shard), to) == 0)
            continue;
        if (courier->lanes[to] == NULL) {
            courier->lanes[to] = calloc(1, sizeof *courier->lanes[to]);
            ASSERT(courier->lanes[to] != NULL);
            courier->lanes[to]->courier = courier;
            courier->lanes[to]->to = to;
        }
        begin(courier->lanes[to]);
    }
}

void courier_stop(struct courier *courier)
{
    courier->stopped = true;
}

bool courier_ended(const struct courier *courier)
{
    bool ended = courier->stopped;
    for (uint32_t to = 0; to <= QUEUE_SHARDS_MAX && ended; to++)
        ended = courier->lanes[to] == NULL || courier->lanes[to]->stage == STAGE_IDLE;
    return ended;
}

void courier_free(struct courier *courier)
{
    ASSERT(courier_ended(courier));
    for (uint32_t to = 0; to <= QUEUE_SHARDS_MAX; to++)
        free(courier->lanes[to]);
    free(courier);
}
