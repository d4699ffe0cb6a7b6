/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration in a snapshot file, little-endian:
 *     u32 count of servers, at most 64; each: u64 id, u8 role (raft.h), u16 length of address,
 * address */
#include "broker/replication/configuration.h"

#include "proto/base/bytes.h"

#define SERVERS_MAX       64u
#define ADDRESS_BYTES_MAX 512u

void configuration_encode(struct buffer *out, const struct raft_configuration *in)
{
    buffer_add_u32(out, in->n);
    for (unsigned i = 0; i < in->n; i++) {
        struct slice address = slice_of(in->servers[i].address);
        buffer_add_u64(out, in->servers[i].id);
        buffer_add_byte(out, (uint8_t)in->servers[i].role);
        buffer_add_u16(out, (uint16_t)address.length);
        buffer_add_slice(out, address);
    }
}

static bool decode_server(struct cursor *in, struct raft_configuration *out)
{
    char text[ADDRESS_BYTES_MAX + 1];
    uint64_t id = cursor_u64(in);
    int role = cursor_u8(in);
    struct slice address = cursor_take(in, cursor_u16(in));
    if (in->bad || id == 0 || role > RAFT_SPARE || address.length > ADDRESS_BYTES_MAX)
        return false;
    if (address.length > 0)
        memcpy(text, address.data, address.length);
    text[address.length] = '\0';
    return raft_configuration_add(out, id, text, role) == 0;
}

enum status configuration_decode(struct slice in, struct raft_configuration *out)
{
    struct cursor cursor = cursor_of(in);
    uint32_t count = cursor_u32(&cursor);
    raft_configuration_init(out);
    bool good = !cursor.bad && count <= SERVERS_MAX;
    for (uint32_t i = 0; i < count && good; i++)
        good = decode_server(&cursor, out);
    if (good && cursor_left(&cursor) == 0)
        return STATUS_OK;
    raft_configuration_close(out);
    raft_configuration_init(out);
    return STATUS_INVALID;
}
