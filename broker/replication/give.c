/* SPDX-License-Identifier: Apache-2.0 */
/* The other side of catch_up.c: pieces of a stored snapshot, and bodies, for nodes that lack them.
 * Any node gives what it has, whether it leads or not.
 *
 * Each node that takes one has a giver here, which keeps the snapshot's file readable although
 * newer ones are stored. It goes when the node is gone or has been silent for IDLE_MS. One request
 * of a node is served at a time; a second one is dropped, and asked again. */
#include "broker/log/transfer.h"
#include "broker/replication/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>

#define IDLE_MS   60000u
#define PIECE_MAX (4u << 20)
#define REF_BYTES 16u

struct giver {
    struct giver *next;
    struct shard *shard;
    uint64_t node_id;
    struct log_export *export;
    uint64_t index;
    uint64_t used_ms;
    uint64_t number; /* of the request being served */
    bool busy;
    bool gone; /* free it when it is not busy any more */
    struct log_export_read read;
    struct log_export_bodies bodies;
    struct body_ref *refs;
};

static void drop_export(struct giver *giver)
{
    if (giver->export != NULL)
        log_export_close(giver->export);
    giver->export = NULL;
}

static void forget(struct shard *shard, struct giver *giver)
{
    struct giver **at = &shard->givers;
    drop_export(giver);
    giver->gone = true;
    if (giver->busy)
        return; /* reply() comes again */
    while (*at != giver)
        at = &(*at)->next;
    *at = giver->next;
    free(giver->refs);
    free(giver);
}

static struct giver *find(struct shard *shard, uint64_t node_id)
{
    for (struct giver *giver = shard->givers; giver != NULL; giver = giver->next) {
        if (giver->node_id == node_id && !giver->gone)
            return giver;
    }
    return NULL;
}

static struct giver *find_or_make(struct shard *shard, uint64_t node_id)
{
    struct giver *giver = find(shard, node_id);
    if (giver == NULL) {
        giver = calloc(1, sizeof *giver);
        ASSERT(giver != NULL);
        giver->shard = shard;
        giver->node_id = node_id;
        giver->next = shard->givers;
        shard->givers = giver;
    }
    giver->used_ms = uv_now(shard->options.loop);
    return giver;
}

static void reply(struct giver *giver, struct wire *wire, enum status status, struct slice bytes)
{
    struct shard *shard = giver->shard;
    struct link *link = links_find(shard, giver->node_id);
    struct buffer out = {0};
    giver->busy = false;
    if (giver->gone) {
        forget(shard, giver);
        return;
    }
    if (link == NULL || !link->up || shard->stage == STAGE_CLOSING)
        return;
    wire->term = shard->raft.current_term;
    wire->a = giver->number;
    wire->flags = (uint16_t)status;
    wire_encode(&out, wire);
    if (status == STATUS_OK)
        buffer_add_slice(&out, bytes);
    links_send(shard, link, &out);
    shard_wake(shard);
}

/* ---- pieces of the file ---- */

static void on_read(struct log_export_read *read, enum status status)
{
    struct giver *giver = read->data;
    struct log_export_about about = {0};
    struct buffer bytes = read->out;
    struct wire wire = {.type = WIRE_PIECE, .b = read->offset};
    if (giver->export != NULL)
        log_export_about(giver->export, &about);
    wire.c = about.bytes;
    read->out = (struct buffer){0};
    reply(giver, &wire, status, buffer_slice(&bytes));
    buffer_free(&bytes);
}

static void give_piece(struct giver *giver, const struct wire *wire)
{
    enum status status = STATUS_OK;
    if (giver->export != NULL && giver->index != wire->b)
        drop_export(giver);
    if (giver->export == NULL) {
        status = log_export_open(giver->shard->log, wire->b, &giver->export);
        giver->export = status == STATUS_OK ? giver->export : NULL;
        giver->index = wire->b;
    }
    if (status != STATUS_OK || wire->d == 0 || wire->d > PIECE_MAX) {
        struct wire refusal = {.type = WIRE_PIECE, .b = wire->c};
        reply(giver, &refusal, status != STATUS_OK ? status : STATUS_INVALID, slice_make(NULL, 0));
        return;
    }
    giver->read = (struct log_export_read){
        .offset = wire->c, .length = (size_t)wire->d, .done = on_read, .data = giver};
    giver->busy = true;
    log_export_read(giver->export, &giver->read);
}

/* ---- bodies ---- */

static void on_bodies(struct log_export_bodies *bodies, enum status status)
{
    struct giver *giver = bodies->data;
    struct buffer bytes = bodies->out;
    struct wire wire = {.type = WIRE_BODIES, .b = bodies->covered, .c = bodies->next_from};
    bodies->out = (struct buffer){0};
    free(giver->refs);
    giver->refs = NULL;
    const struct log *log =
        giver->shard->log; /* NULL: it is being closed, and nobody is answered */
    uint64_t missing_index;
    bool lacks = bodies->gone > 0 && log != NULL && log_missing(log, &missing_index) > 0;
    if (status == STATUS_OK && (bodies->damaged > 0 || lacks))
        status = STATUS_CORRUPT; /* another node has them whole */
    if (bodies->gone > 0)
        wire.d = giver->shard->raft.last_applied;
    reply(giver, &wire, status, buffer_slice(&bytes));
    buffer_free(&bytes);
}

/* has_bodies: of all that the state at `index` refers to, but for what was released since. */
static bool has_bodies(const struct shard *shard, uint64_t index)
{
    return shard->catch_up == NULL && shard->raft.last_applied >= index &&
           log_durable_index(shard->log) >= index;
}

static void give_bodies(struct giver *giver, const struct wire *wire)
{
    struct cursor in = cursor_of(wire->items);
    if (wire->count == 0 || wire->count > LOG_EXPORT_REFS_MAX || wire->c > PIECE_MAX ||
        wire->items.length != (size_t)wire->count * REF_BYTES)
        return;
    if (!has_bodies(giver->shard, wire->d)) {
        struct wire refusal = {.type = WIRE_BODIES};
        reply(giver, &refusal, STATUS_UNAVAILABLE, slice_make(NULL, 0));
        return;
    }
    giver->refs = calloc(wire->count, sizeof *giver->refs);
    ASSERT(giver->refs != NULL);
    for (uint32_t i = 0; i < wire->count; i++) {
        giver->refs[i].index = cursor_u64(&in);
        giver->refs[i].offset = cursor_u32(&in);
        giver->refs[i].length = cursor_u32(&in);
    }
    giver->bodies = (struct log_export_bodies){.refs = giver->refs,
                                               .count = wire->count,
                                               .from = (uint32_t)wire->b,
                                               .limit = (size_t)wire->c,
                                               .done = on_bodies,
                                               .data = giver};
    giver->busy = true;
    log_export_bodies(giver->shard->log, &giver->bodies);
}

void give_receive(struct shard *shard, struct link *link, const struct wire *wire)
{
    struct giver *giver = find_or_make(shard, link->node_id);
    if (giver->busy)
        return;
    giver->number = wire->a;
    if (wire->type == WIRE_FETCH)
        give_piece(giver, wire);
    else
        give_bodies(giver, wire);
}

/* ---- ends ---- */

void give_gone(struct shard *shard, uint64_t node_id)
{
    struct giver *giver = find(shard, node_id);
    if (giver != NULL)
        forget(shard, giver);
}

void give_tick(struct shard *shard, uint64_t now_ms)
{
    for (struct giver *giver = shard->givers; giver != NULL;) {
        struct giver *next = giver->next;
        if (!giver->gone && now_ms - giver->used_ms >= IDLE_MS)
            forget(shard, giver);
        giver = next;
    }
}

void give_close(struct shard *shard)
{
    for (struct giver *giver = shard->givers; giver != NULL;) {
        struct giver *next = giver->next;
        if (!giver->gone)
            forget(shard, giver);
        giver = next;
    }
}
