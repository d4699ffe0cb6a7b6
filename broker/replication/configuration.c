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

static bool entry_server(struct cursor *in, struct raft_configuration *out)
{
    uint64_t id = cursor_u64(in);
    const char *address = (const char *)in->at;
    size_t length = strnlen(address, cursor_left(in));
    (void)cursor_take(in, length + 1); /* bad, if there is no NUL */
    int role = cursor_u8(in);
    return !in->bad && id > 0 && role <= RAFT_SPARE && length <= ADDRESS_BYTES_MAX &&
           raft_configuration_add(out, id, address, role) == 0;
}

enum status configuration_from_entry(struct slice in, struct raft_configuration *out)
{
    struct cursor cursor = cursor_of(in);
    bool good = cursor_u8(&cursor) == 1;
    uint64_t count = cursor_u64(&cursor);
    raft_configuration_init(out);
    good = good && !cursor.bad && count > 0 && count <= SERVERS_MAX;
    for (uint64_t i = 0; i < count && good; i++)
        good = entry_server(&cursor, out);
    if (good)
        return STATUS_OK;
    raft_configuration_close(out);
    raft_configuration_init(out);
    return STATUS_INVALID;
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
