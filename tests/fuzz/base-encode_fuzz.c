/* SPDX-License-Identifier: Apache-2.0 */
/* Every text decoder of proto/base on the same bytes; what decodes must survive the round trip. */
#include "proto/base/assert.h"
#include "proto/base/encode.h"
#include "proto/base/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_base64(struct slice in)
{
    struct buffer decoded = {0};
    struct buffer encoded = {0};
    if (decode_base64(&decoded, in) == STATUS_OK) {
        encode_base64(&encoded, buffer_slice(&decoded));
        ASSERT(encoded.length == in.length);
    } else {
        ASSERT(decoded.length == 0);
    }
    buffer_clear(&decoded);
    buffer_clear(&encoded);
    encode_base64(&encoded, in);
    ASSERT(decode_base64(&decoded, buffer_slice(&encoded)) == STATUS_OK);
    ASSERT(slice_equal(buffer_slice(&decoded), in));
    buffer_free(&decoded);
    buffer_free(&encoded);
}

static void try_percent(struct slice in, bool flag)
{
    struct buffer decoded = {0};
    struct buffer encoded = {0};
    encode_percent(&encoded, in, flag);
    ASSERT(decode_percent(&decoded, buffer_slice(&encoded), !flag) == STATUS_OK);
    ASSERT(slice_equal(buffer_slice(&decoded), in));
    buffer_clear(&decoded);
    enum status status = decode_percent(&decoded, in, flag);
    ASSERT(status == STATUS_OK || decoded.length == 0);
    ASSERT(decoded.length <= in.length);
    buffer_free(&decoded);
    buffer_free(&encoded);
}

static void try_utf8(struct slice in)
{
    if (!utf8_valid(in))
        return;
    size_t offset = 0;
    while (offset < in.length) {
        uint32_t point = utf8_next(in, &offset);
        ASSERT(point <= 0x10ffff && (point < 0xd800 || point > 0xdfff));
    }
    ASSERT(offset == in.length);
}

static void try_options(struct slice in)
{
    struct arena arena = {0};
    const char *text = arena_text(&arena, in);
    const char *host;
    uint16_t port;
    uint64_t bytes;
    if (address_split(text, &arena, &host, &port))
        ASSERT(host[0] != 0);
    if (bytes_parse(text, &bytes))
        ASSERT(text[0] >= '0' && text[0] <= '9');
    uint8_t id[UUID_BYTES];
    char id_text[UUID_TEXT_LENGTH + 1];
    if (uuid_parse(in, id)) {
        uuid_text(id, id_text);
        ASSERT(slice_is_nocase(in, id_text));
    }
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct slice in = slice_make(data + 1, size - 1);
    try_base64(in);
    try_percent(in, (data[0] & 1) != 0);
    try_utf8(in);
    try_options(in);
    return 0;
}
