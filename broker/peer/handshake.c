/* SPDX-License-Identifier: Apache-2.0 */
/* Greetings: the layout is in handshake.h. Everything here reads foreign bytes, or compares what
 * was read with what this node is. */
#include "broker/peer/handshake.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"

static const uint8_t magic[4] = {'M', 'L', 'R', 'P'};

static void add_address(struct buffer *out, struct slice address)
{
    ASSERT(address.length <= HELLO_ADDRESS_MAX);
    buffer_add_u16(out, (uint16_t)address.length);
    buffer_add_slice(out, address);
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
    add_address(out, hello->peer);
    add_address(out, hello->http);
    add_address(out, hello->rpc);
}

static void take_id(struct cursor *c, uint8_t out[PEER_ID_BYTES])
{
    struct slice id = cursor_take(c, PEER_ID_BYTES);
    if (id.data != NULL)
        memcpy(out, id.data, PEER_ID_BYTES);
}

/* Addresses end up in traces and in answers to clients, so they are plain. */
static struct slice take_address(struct cursor *c)
{
    uint16_t length = cursor_u16(c);
    struct slice address = cursor_take(c, length);
    c->bad = c->bad || length > HELLO_ADDRESS_MAX;
    for (size_t i = 0; i < address.length; i++)
        c->bad = c->bad || address.data[i] <= ' ' || address.data[i] > '~' ||
                 strchr("\"'\\<>", address.data[i]) != NULL;
    return address;
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
    out->peer = take_address(&c);
    out->http = take_address(&c);
    out->rpc = take_address(&c);
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
    if (own->feature_level < theirs->feature_level_min ||
        theirs->feature_level < own->feature_level_min)
        return REFUSAL_FEATURES;
    return REFUSAL_NONE;
}

uint16_t hello_version(const struct hello *own, const struct hello *theirs)
{
    ASSERT(theirs->version_min <= own->version_max);
    ASSERT(own->version_min <= theirs->version_max);
    return theirs->version_max < own->version_max ? theirs->version_max : own->version_max;
}

void refused_encode(struct buffer *out, enum refusal why, uint64_t node_id)
{
    buffer_add_byte(out, (uint8_t)why);
    buffer_add_u64(out, node_id);
}

bool refused_decode(struct slice in, enum refusal *why, uint64_t *node_id)
{
    struct cursor c = cursor_of(in);
    *why = (enum refusal)cursor_u8(&c);
    *node_id = cursor_u64(&c);
    return !c.bad && *why != REFUSAL_NONE;
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
