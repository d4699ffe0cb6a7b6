/* SPDX-License-Identifier: Apache-2.0 */
/* A channel: lines to brokers (channel_line.c) on a loop of its own, a table of the calls under
 * way, and which line each goes to (channel_route.c).
 *
 * One line is home: the first that answered, for all that has no better place. When it ends,
 * another that is ready is home from then on, else the next of the list is tried, at once if that
 * one has served, and then one each RETRY_MS.
 *
 * The id of a call is its slot in the table and, above, a number that grows each time a slot is
 * used, so that an answer which comes too late or twice finds nobody. Calls that cannot be sent
 * wait in a list and end in the next run, since a callback must not run within mr_channel_call.
 *
 * I1  each call's callback runs exactly once
 * I2  a slot is in use exactly while its call is under way, is held, or waits to be refused */
#include "client/channel_internal.h"

#include "proto/base/assert.h"
#include "proto/base/options.h"
#include "proto/sqs/native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS         50u
#define REFUSED_RETRY_MS 1000u
#define REGION_DEFAULT   "us-east-1"

/* ---- calls ---- */

static void end_call(struct mr_channel *channel, uint32_t slot, const struct mr_answer *answer)
{
    struct call_slot *s = &channel->slots[slot];
    mr_answer_fn done = s->done;
    s->done = NULL; /* I1, I2 */
    buffer_free(&s->payload);
    s->next = channel->free_first;
    channel->free_first = slot;
    channel->call_count--;
    channel->called_back++;
    if (s->route != NULL) {
        s->route->calls--;
        route_answered(channel, s);
    }
    done(s->data, answer);
}

/* end_all: those that were sent on this line. */
static void end_all(struct mr_channel *channel, uint8_t line)
{
    const struct mr_answer closed = {.status = STATUS_CLOSED};
    for (uint32_t i = 0; i < SLOT_COUNT; i++) {
        const struct call_slot *s = &channel->slots[i];
        if (s->done != NULL && s->line == line && s->refusal == STATUS_OK)
            end_call(channel, i, &closed);
    }
}

void channel_closed(struct mr_channel *channel, uint32_t slot)
{
    const struct mr_answer closed = {.status = STATUS_CLOSED};
    end_call(channel, slot, &closed);
}

void slots_add(struct mr_channel *channel, struct slot_list *list, uint32_t slot)
{
    channel->slots[slot].next = SLOT_COUNT;
    if (list->first == SLOT_COUNT)
        list->first = slot;
    else
        channel->slots[list->last].next = slot;
    list->last = slot;
}

uint32_t slots_take(struct mr_channel *channel, struct slot_list *list)
{
    uint32_t slot = list->first;
    if (slot != SLOT_COUNT)
        list->first = channel->slots[slot].next;
    return slot;
}

/* Those that callbacks add end in the next run. */
static void end_unsent(struct mr_channel *channel)
{
    struct slot_list list = channel->unsent;
    channel->unsent = (struct slot_list){SLOT_COUNT, SLOT_COUNT};
    for (uint32_t slot; (slot = slots_take(channel, &list)) != SLOT_COUNT;) {
        struct mr_answer answer = {.status = channel->slots[slot].refusal};
        end_call(channel, slot, &answer);
    }
}

void channel_unsent(struct mr_channel *channel, uint32_t slot, enum status refusal)
{
    channel->slots[slot].refusal = refusal;
    slots_add(channel, &channel->unsent, slot);
}

void mr_channel_call(struct mr_channel *channel, enum sqs_action action, const void *input,
                     mr_answer_fn done, void *data)
{
    ASSERT(action < SQS_ACTION_COUNT);
    ASSERT(done != NULL);
    uint32_t slot = channel->free_first;
    ASSERT(slot != SLOT_COUNT); /* the caller keeps to MR_CHANNEL_CALLS_MAX */
    struct call_slot *s = &channel->slots[slot];
    channel->free_first = s->next;
    channel->call_count++;
    *s = (struct call_slot){.done = done,
                            .data = data,
                            .action = action,
                            .use = s->use + 1,
                            .route = route_of(channel, action, input),
                            .line = LINE_NONE,
                            .repeats = again_wanted(channel, action, input),
                            .number = ++channel->calls_made,
                            .made_ms = uv_now(&channel->loop)};
    if (s->route != NULL)
        s->route->calls++;
    enum status status = route_send(channel, slot, input);
    if (status != STATUS_OK)
        channel_unsent(channel, slot, status);
}

static enum status refusal_status(const struct sqs_call_error *error)
{
    if (slice_is(error->code, "RequestThrottled"))
        return STATUS_BUSY;
    return error->http_status.value >= 500 ? STATUS_UNAVAILABLE : STATUS_INVALID;
}

static void read_answer(const struct native_header *header, struct slice body,
                        enum sqs_action action, struct arena *arena, struct mr_answer *answer)
{
    enum sqs_shape shape = header->refused ? SQS_SHAPE_call_error : sqs_actions[action].result;
    void *object = arena_alloc(arena, sqs_shapes[shape].bytes);
    if (!native_read(body, shape, arena, object)) {
        *answer = (struct mr_answer){.status = STATUS_CORRUPT};
    } else if (header->refused) {
        const struct sqs_call_error *error = object;
        *answer = (struct mr_answer){
            .status = refusal_status(error), .code = error->code, .message = error->message};
    } else {
        *answer = (struct mr_answer){.result = shape != SQS_SHAPE_none ? object : NULL};
    }
}

void channel_answer(struct line *line, struct slice payload)
{
    struct mr_channel *channel = line->channel;
    struct native_header header;
    struct slice body;
    if (!native_header_read(payload, &header, &body)) {
        link_close(line->link);
        return;
    }
    uint32_t slot = header.id & (SLOT_COUNT - 1);
    const struct call_slot *s = &channel->slots[slot];
    if (s->done == NULL || (s->use << SLOT_BITS | slot) != header.id)
        return; /* of a call that has ended */
    struct arena arena = {0};
    struct mr_answer answer;
    if (s->route != NULL && header.ask_node != 0)
        route_hint(channel, s->route, header.ask_node);
    read_answer(&header, body, s->action, &arena, &answer);
    if (s->repeated && (answer.status == STATUS_UNAVAILABLE || answer.status == STATUS_BUSY))
        answer.status = STATUS_CLOSED;
    end_call(channel, slot, &answer);
    arena_free(&arena);
}

/* ---- lines ---- */

/* next_home: another that is ready, or is about to be, else the next one. */
static size_t next_home(const struct mr_channel *channel)
{
    size_t best = (channel->home + 1) % channel->line_count;
    for (size_t i = 0; i < channel->line_count; i++) {
        if (channel->lines[i].state > channel->lines[best].state)
            best = i;
    }
    return best;
}

/* retry_after_ms: until the next broker is tried; the first one behind one that served, at once. */
static uint32_t retry_after_ms(const struct mr_channel *channel, const struct line *lost)
{
    if (lost->why == STATUS_PERMISSION)
        return REFUSED_RETRY_MS;
    return lost->served && channel->line_count > 1 ? 0 : RETRY_MS;
}

void channel_line_lost(struct line *line)
{
    struct mr_channel *channel = line->channel;
    uint8_t lost = (uint8_t)(line - channel->lines);
    if (channel->home == lost) {
        channel->why = line->why;
        memcpy(channel->why_text, line->why_text, sizeof channel->why_text);
        channel->home = next_home(channel);
        channel->retry_at_ms = uv_now(&channel->loop) + retry_after_ms(channel, line);
    }
    again_lost(channel, lost);
    routes_lost(channel, lost);
    end_all(channel, lost);
    again_send(channel);
}

static void connect_home(struct mr_channel *channel)
{
    channel->why = STATUS_OK;
    channel->why_text[0] = '\0';
    line_connect(&channel->lines[channel->home]);
}

static enum line_state home_state(const struct mr_channel *channel)
{
    return channel->lines[channel->home].state;
}

/* ---- running ---- */

static void on_timer(uv_timer_t *timer)
{
    (void)timer; /* has made uv_run return */
}

static bool retry_due(const struct mr_channel *channel)
{
    return home_state(channel) == LINE_IDLE && uv_now(&channel->loop) >= channel->retry_at_ms;
}

/* turn: one turn of the loop, which may sleep until `until_ms`. */
static void turn(struct mr_channel *channel, uint64_t until_ms)
{
    uint64_t now = uv_now(&channel->loop);
    if (retry_due(channel))
        connect_home(channel);
    again_send(channel);
    again_expire(channel);
    if (channel->called_back > 0)
        until_ms = 0;
    if (home_state(channel) == LINE_IDLE && channel->retry_at_ms < until_ms)
        until_ms = channel->retry_at_ms;
    if (again_until_ms(channel) < until_ms)
        until_ms = again_until_ms(channel);
    if (until_ms > now) {
        uv_timer_start(&channel->timer, on_timer, until_ms - now, 0);
        uv_run(&channel->loop, UV_RUN_ONCE);
        uv_timer_stop(&channel->timer);
    } else {
        uv_run(&channel->loop, UV_RUN_NOWAIT);
    }
}

uint32_t mr_channel_run(struct mr_channel *channel, uint32_t timeout_ms)
{
    channel->called_back = 0;
    uv_update_time(&channel->loop);
    uint64_t until_ms = uv_now(&channel->loop) + timeout_ms;
    do {
        end_unsent(channel);
        turn(channel, channel->called_back > 0 ? 0 : until_ms);
    } while (channel->called_back == 0 && uv_now(&channel->loop) < until_ms);
    return channel->called_back;
}

/* ---- opening and closing ---- */

static bool take_brokers(struct mr_channel *channel, const char *list)
{
    const char *host;
    uint16_t port;
    while (*list != 0) {
        size_t length = strcspn(list, ",");
        const char *one = arena_text(&channel->arena, slice_make(list, length));
        if (channel->line_count == MR_CHANNEL_BROKERS_MAX ||
            !address_split(one, &channel->arena, &host, &port))
            return false;
        channel->lines[channel->line_count++] = (struct line){.channel = channel, .broker = one};
        list += length + (list[length] == ',');
    }
    return channel->line_count > 0;
}

static void slots_init(struct mr_channel *channel)
{
    channel->slots = calloc(SLOT_COUNT, sizeof *channel->slots);
    ASSERT(channel->slots != NULL);
    for (uint32_t i = 0; i < SLOT_COUNT; i++)
        channel->slots[i].next = i + 1;
    channel->unsent = channel->again = (struct slot_list){SLOT_COUNT, SLOT_COUNT};
}

/* Each broker once. */
static enum status connect_first(struct mr_channel *channel)
{
    for (size_t tried = 0; tried < channel->line_count; tried++) {
        connect_home(channel);
        while (home_state(channel) != LINE_READY && home_state(channel) != LINE_IDLE)
            uv_run(&channel->loop, UV_RUN_ONCE);
        if (home_state(channel) == LINE_READY)
            return STATUS_OK;
    }
    return channel->why;
}

static void take_key(struct mr_channel *channel, const struct mr_channel_options *options)
{
    if (options->access_key_id == NULL || options->secret_access_key == NULL)
        return;
    const char *region = options->region != NULL ? options->region : REGION_DEFAULT;
    channel->access_key_id = arena_text(&channel->arena, slice_of(options->access_key_id));
    channel->region = arena_text(&channel->arena, slice_of(region));
    channel->secret = strdup(options->secret_access_key);
    ASSERT(channel->secret != NULL);
}

static enum status take_tls(struct mr_channel *channel, const struct mr_channel_options *options)
{
    struct tls_error error;
    if (options->certificate_file == NULL || options->key_file == NULL || options->ca_file == NULL)
        return STATUS_OK;
    struct tls_settings settings = {.use = TLS_MUTUAL,
                                    .certificate_file = options->certificate_file,
                                    .key_file = options->key_file,
                                    .ca_file = options->ca_file,
                                    .peer_role = TLS_ROLE_BROKER};
    enum status status = tls_context_open(&channel->tls, &channel->loop, &settings, &error);
    if (status != STATUS_OK)
        snprintf(channel->why_text, sizeof channel->why_text, "%s", error.text);
    return status;
}

static enum status take_options(struct mr_channel *channel,
                                const struct mr_channel_options *options)
{
    channel->timeout_ms = options->timeout_ms;
    channel->repeat_ms = options->repeat_ms > 0 ? options->repeat_ms : MR_REPEAT_MS;
    channel->repeat_sends = options->repeat_sends;
    take_key(channel, options);
    if (take_brokers(channel, options->brokers))
        return take_tls(channel, options);
    snprintf(channel->why_text, sizeof channel->why_text, "brokers are HOST:PORT,HOST:PORT");
    return STATUS_INVALID;
}

enum status mr_channel_open(struct mr_channel **out, const struct mr_channel_options *options,
                            char why[MR_WHY_BYTES])
{
    *out = NULL;
    struct mr_channel *channel = calloc(1, sizeof *channel);
    ASSERT(channel != NULL);
    int rc = uv_loop_init(&channel->loop);
    ASSERT(rc == 0);
    uv_timer_init(&channel->loop, &channel->timer);
    slots_init(channel);
    enum status status = take_options(channel, options);
    if (status == STATUS_OK)
        status = connect_first(channel);
    if (status != STATUS_OK) {
        if (why != NULL)
            memcpy(why, channel->why_text, MR_WHY_BYTES);
        mr_channel_close(channel);
    } else {
        *out = channel;
    }
    return status;
}

void mr_channel_close(struct mr_channel *channel)
{
    if (channel == NULL)
        return;
    channel->closing = true;
    routes_close(channel);
    for (size_t i = 0; i < channel->line_count; i++) {
        if (channel->lines[i].link != NULL)
            link_close(channel->lines[i].link);
    }
    uv_close((uv_handle_t *)&channel->timer, NULL);
    if (channel->tls != NULL)
        tls_context_close(channel->tls, NULL, NULL);
    uv_run(&channel->loop, UV_RUN_DEFAULT);
    again_close(channel);
    end_unsent(channel);
    routes_free(channel);
    int rc = uv_loop_close(&channel->loop);
    ASSERT(rc == 0);
    if (channel->secret != NULL)
        hash_wipe(channel->secret, strlen(channel->secret));
    free(channel->secret);
    free(channel->slots);
    arena_free(&channel->arena);
    free(channel);
}

int mr_channel_fd(const struct mr_channel *channel)
{
    return uv_backend_fd(&channel->loop);
}

uint32_t mr_channel_calls(const struct mr_channel *channel)
{
    return channel->call_count;
}

bool mr_channel_connected(const struct mr_channel *channel)
{
    return home_state(channel) == LINE_READY;
}

const char *mr_channel_why(const struct mr_channel *channel)
{
    return channel->why_text;
}

const char *mr_channel_broker(const struct mr_channel *channel)
{
    return channel->lines[channel->home].broker;
}
