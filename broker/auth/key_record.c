/* SPDX-License-Identifier: Apache-2.0 */
/* The content of a key's document, integers little-endian:
 *     SIZE  MEANING
 *     1     format version, 1
 *     1     flags: 1 root, 2 disabled
 *     2     zero
 *     8     created_ms
 *     ...   name, account, policy: u32 length and bytes each
 *     ...   sealed secret: u32 length and bytes (seal.c)
 * The id and all before the secret are authenticated with it, so that a document which was patched
 * or renamed in a file does not open. */
#include "broker/auth/key_record.h"

#include "proto/base/assert.h"
#include "proto/base/bytes.h"

#define RECORD_VERSION 1
#define FLAG_ROOT      1u
#define FLAG_DISABLED  2u

static bool made_of(struct slice text, const char *more)
{
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = text.data[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && (c == '\0' || strchr(more, c) == NULL))
            return false;
    }
    return true;
}

bool key_id_valid(struct slice id)
{
    return id.length >= 4 && id.length <= KEY_ID_BYTES_MAX && made_of(id, "-_.");
}

bool key_secret_valid(struct slice secret)
{
    for (size_t i = 0; i < secret.length; i++) {
        if (secret.data[i] <= ' ' || secret.data[i] > '~')
            return false;
    }
    return secret.length >= KEY_SECRET_BYTES_MIN && secret.length <= KEY_SECRET_BYTES_MAX;
}

bool key_name_valid(struct slice name)
{
    return name.length > 0 && name.length <= KEY_NAME_BYTES_MAX && made_of(name, "+=,.@_-");
}

struct slice key_document_name(struct slice id, struct arena *arena)
{
    return slice_of(arena_printf(arena, KEY_DOCUMENT_PREFIX "%.*s", SLICE_ARGS(id)));
}

struct slice key_document_id(struct slice document_name)
{
    if (!slice_starts_with(document_name, KEY_DOCUMENT_PREFIX))
        return (struct slice){0};
    return slice_sub(document_name, strlen(KEY_DOCUMENT_PREFIX));
}

/* What is authenticated: the id, a zero byte, and the record before the secret. */
static void context_of(struct slice id, struct slice head, struct buffer *out)
{
    buffer_add_slice(out, id);
    buffer_add_byte(out, 0);
    buffer_add_slice(out, head);
}

void key_record_encode(const struct key_record *record,
                       const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES], struct buffer *out)
{
    struct buffer context = {0};
    size_t start = out->length;
    ASSERT(key_id_valid(record->id));
    ASSERT(key_secret_valid(record->secret));
    buffer_add_byte(out, RECORD_VERSION);
    buffer_add_byte(
        out, (uint8_t)((record->root ? FLAG_ROOT : 0) | (record->disabled ? FLAG_DISABLED : 0)));
    buffer_add_u16(out, 0);
    buffer_add_u64(out, record->created_ms);
    buffer_add_bytes(out, record->name);
    buffer_add_bytes(out, record->account);
    buffer_add_bytes(out, record->policy);
    context_of(record->id, slice_sub(buffer_slice(out), start), &context);
    buffer_add_u32(out, (uint32_t)record->secret.length + SEAL_OVERHEAD_BYTES);
    seal_close(cluster_secret, buffer_slice(&context), record->secret, out);
    buffer_free(&context);
}

enum status key_record_decode(struct slice id, struct slice content,
                              const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES],
                              struct arena *arena, struct key_record *out)
{
    struct cursor in = cursor_of(content);
    struct buffer context = {0};
    *out = (struct key_record){.id = id};
    bool version_known = cursor_u8(&in) == RECORD_VERSION;
    uint8_t flags = cursor_u8(&in);
    uint16_t zero = cursor_u16(&in);
    out->root = (flags & FLAG_ROOT) != 0;
    out->disabled = (flags & FLAG_DISABLED) != 0;
    out->created_ms = cursor_u64(&in);
    out->name = cursor_bytes(&in);
    out->account = cursor_bytes(&in);
    out->policy = cursor_bytes(&in);
    struct slice head = slice_make(content.data, (size_t)(in.at - content.data));
    struct slice sealed = cursor_bytes(&in);
    if (in.bad || cursor_left(&in) > 0 || !version_known || zero != 0 || flags > 3)
        return STATUS_CORRUPT;
    context_of(id, head, &context);
    bool good = seal_open(cluster_secret, buffer_slice(&context), sealed, arena, &out->secret);
    buffer_free(&context);
    return good && key_secret_valid(out->secret) ? STATUS_OK : STATUS_CORRUPT;
}
