/* SPDX-License-Identifier: Apache-2.0 */
/* Greetings: the layout is in handshake.h. Everything here reads foreign bytes, or compares what
 * was read with what this node is. */
#include "broker/peer/handshake.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"

static const uint8_t magic[4] = {'M', 'L', 'R', 'P'};

static void add_text(struct buffer *out, struct slice text, size_t length_max)
{
    ASSERT(text.length <= length_max);
    buffer_add_u16(out, (uint16_t)text.length);
    buffer_add_slice(out, text);
}

void hello_encode(struct buffer *out, const struct hello *hello)
{
    buffer_add(out, magic, sizeof magic);
    buffer_add_u16(out, hello->version_min);
    buffer_add_u16(out, hello->version_max);
    buffer_add_u32(out, hello->feature_level);
    buffer_add_u32(out, hello->feature_level_min);
    buffer_add(out, hello->cluster_id, PEER_ID_BYTES);
    buffer_add(out, hello->data_id, PEER_ID_BYTES);
    buffer_add_u64(out, hello->node_id);
    buffer_add_u64(out, hello->to_node_id);
    buffer_add_u64(out, hello->boot);
    buffer_add_u64(out, hello->wall_ms);
    buffer_add_u64(out, hello->founders);
    add_text(out, hello->peer, HELLO_ADDRESS_MAX);
    add_text(out, hello->http, HELLO_ADDRESS_MAX);
    add_text(out, hello->rpc, HELLO_ADDRESS_MAX);
    add_text(out, hello->version, HELLO_VERSION_MAX);
    buffer_add_u32(out, hello->feature_level_now);
}

static void take_id(struct cursor *c, uint8_t out[PEER_ID_BYTES])
{
    struct slice id = cursor_take(c, PEER_ID_BYTES);
    if (id.data != NULL)
        memcpy(out, id.data, PEER_ID_BYTES);
}

/* Texts end up in traces and in answers to clients, so they are plain. */
static struct slice take_text(struct cursor *c, size_t length_max)
{
    uint16_t length = cursor_u16(c);
    struct slice text = cursor_take(c, length);
    c->bad = c->bad || length > length_max;
    for (size_t i = 0; i < text.length; i++)
        c->bad = c->bad || text.data[i] <= ' ' || text.data[i] > '~' ||
                 strchr("\"'\\<>", text.data[i]) != NULL;
    return text;
}

bool hello_decode(struct slice in, struct hello *out)
{
    struct cursor c = cursor_of(in);
    struct slice start = cursor_take(&c, sizeof magic);
    *out = (struct hello){0};
    if (start.data == NULL || memcmp(start.data, magic, sizeof magic) != 0)
        return false;
    out->version_min = cursor_u16(&c);
    out->version_max = cursor_u16(&c);
    out->feature_level = cursor_u32(&c);
    out->feature_level_min = cursor_u32(&c);
    take_id(&c, out->cluster_id);
    take_id(&c, out->data_id);
    out->node_id = cursor_u64(&c);
    out->to_node_id = cursor_u64(&c);
    out->boot = cursor_u64(&c);
    out->wall_ms = cursor_u64(&c);
    out->founders = cursor_u64(&c);
    out->peer = take_text(&c, HELLO_ADDRESS_MAX);
    out->http = take_text(&c, HELLO_ADDRESS_MAX);
    out->rpc = take_text(&c, HELLO_ADDRESS_MAX);
    if (!c.bad && cursor_left(&c) > 0) {
        out->version = take_text(&c, HELLO_VERSION_MAX);
        out->feature_level_now = cursor_u32(&c);
    }
    return !c.bad && in.length <= HELLO_BYTES_MAX && out->version_min <= out->version_max &&
           out->node_id > 0 && out->to_node_id > 0;
}

bool peer_id_known(const uint8_t id[PEER_ID_BYTES])
{
    static const uint8_t zeros[PEER_ID_BYTES];
    return memcmp(id, zeros, PEER_ID_BYTES) != 0;
}

static bool clusters_differ(const struct hello *a, const struct hello *b)
{
    return peer_id_known(a->cluster_id) && peer_id_known(b->cluster_id) &&
           memcmp(a->cluster_id, b->cluster_id, PEER_ID_BYTES) != 0;
}

uint32_t hello_level_needed(const struct hello *hello)
{
    return hello->feature_level_now > hello->feature_level_min ? hello->feature_level_now
                                                               : hello->feature_level_min;
}

/* Can the program of one work in the cluster of the other, and with its program? One that is at
 * home in the cluster itself bears with another that has not heard yet that the level was raised.
 */
static bool features_fit(const struct hello *one, const struct hello *other)
{
    bool home = one->feature_level_now >= one->feature_level_min;
    bool too_new =
        !home && other->feature_level_now != 0 && other->feature_level_now < one->feature_level_min;
    return one->feature_level >= hello_level_needed(other) && !too_new;
}

/* They are to begin a cluster together: its first leader writes by what its own program knows.
 * Where one is begun already its level says who fits. */
static bool beginnings_differ(const struct hello *a, const struct hello *b)
{
    return a->founders != 0 && a->founders == b->founders && !peer_id_known(a->cluster_id) &&
           !peer_id_known(b->cluster_id) && a->feature_level != b->feature_level;
}

enum refusal hello_judge(const struct hello *own, const struct hello *theirs, uint64_t meant)
{
    if (theirs->version_min > own->version_max || own->version_min > theirs->version_max)
        return REFUSAL_VERSION;
    if (clusters_differ(own, theirs))
        return REFUSAL_CLUSTER;
    if (own->founders != 0 && theirs->founders != 0 && own->founders != theirs->founders)
        return REFUSAL_FOUNDERS;
    if (theirs->node_id == own->node_id)
        return REFUSAL_SELF;
    if (theirs->to_node_id != own->node_id || (meant != 0 && theirs->node_id != meant))
        return REFUSAL_NODE;
    if (!features_fit(own, theirs) || !features_fit(theirs, own))
        return REFUSAL_FEATURES;
    if (beginnings_differ(own, theirs))
        return REFUSAL_BEGINNING;
    return REFUSAL_NONE;
}

uint16_t hello_version(const struct hello *own, const struct hello *theirs)
{
    ASSERT(theirs->version_min <= own->version_max);
    ASSERT(own->version_min <= theirs->version_max);
    return theirs->version_max < own->version_max ? theirs->version_max : own->version_max;
}

void refused_encode(struct buffer *out, const struct refused *refused)
{
    buffer_add_byte(out, (uint8_t)refused->why);
    buffer_add_u64(out, refused->node_id);
    buffer_add_u32(out, refused->feature_level);
    buffer_add_u32(out, refused->feature_level_min);
}

bool refused_decode(struct slice in, struct refused *out)
{
    struct cursor c = cursor_of(in);
    *out = (struct refused){.why = (enum refusal)cursor_u8(&c)};
    out->node_id = cursor_u64(&c);
    if (!c.bad && cursor_left(&c) > 0) {
        out->feature_level = cursor_u32(&c);
        out->feature_level_min = cursor_u32(&c);
    }
    return !c.bad && out->why != REFUSAL_NONE;
}

static const struct {
    const char *name;
    const char *text;
} rows[] = {
#define REFUSAL(name, number, text) [number] = {#name, text},
#include "broker/peer/refusal.def"
#undef REFUSAL
};

const char *refusal_name(enum refusal why)
{
    return (size_t)why < ARRAY_COUNT(rows) ? rows[why].name : "OTHER";
}

const char *refusal_text(enum refusal why)
{
    return (size_t)why < ARRAY_COUNT(rows) ? rows[why].text
                                           : "a reason that this version does not know";
}
