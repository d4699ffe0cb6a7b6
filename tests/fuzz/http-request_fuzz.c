/* SPDX-License-Identifier: Apache-2.0 */
/* The request reader. The first byte says in what pieces the rest arrives; the reader must come to
 * the same requests and the same refusal however the bytes are cut. */
#include "proto/base/assert.h"
#include "proto/base/crc32c.h"
#include "proto/http/reader.h"

#include <stdlib.h>

#define BODY_MAX 1000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t body_bytes_max(void *data, struct http_request *request)
{
    (void)data;
    ASSERT(request->method.length > 0);
    ASSERT(request->path.length > 0);
    return BODY_MAX;
}

static void on_request(void *data, struct http_request *request)
{
    (void)data, (void)request;
}

static const struct http_handler handler = {.body_bytes_max = body_bytes_max,
                                            .on_request = on_request};
static const struct http_limits limits = {.header_bytes_max = 512};

/* A piece lies at the end of a block, so that reading past it is seen; one block for all pieces,
 * because allocating one for each was most of the time. */
#define BLOCK_BYTES (1u << 20)

static struct slice at_the_end(struct slice piece)
{
    static uint8_t *block;
    if (block == NULL)
        block = malloc(BLOCK_BYTES);
    ASSERT(block != NULL && piece.length <= BLOCK_BYTES);
    uint8_t *at = block + BLOCK_BYTES - piece.length;
    memcpy(at, piece.data, piece.length);
    return slice_make(at, piece.length);
}

struct outcome {
    unsigned requests;
    uint32_t digest; /* of all that was in them */
    enum reader_result last;
    int refusal;
};

static uint32_t digest_request(uint32_t digest, struct http_request *request)
{
    digest = crc32c(digest, request->method);
    digest = crc32c(digest, request->path);
    digest = crc32c(digest, request->query);
    for (unsigned i = 0; i < request->header_count; i++) {
        ASSERT(request->headers[i].name.length > 0);
        ASSERT(slice_find(request->headers[i].value, 0) < 0);
        ASSERT(slice_find(request->headers[i].value, '\n') < 0);
        digest = crc32c(digest, request->headers[i].name);
        digest = crc32c(digest, request->headers[i].value);
    }
    (void)http_query_get(request, "a");
    return crc32c(digest, request->body);
}

static struct outcome read_all(struct slice in, size_t piece)
{
    struct outcome outcome = {.last = READER_MORE};
    struct reader reader;
    reader_init(&reader, &limits, &handler, NULL, "fuzz");
    while (in.length > 0 && outcome.last == READER_MORE) {
        size_t length = in.length < piece ? in.length : piece;
        size_t used = 0;
        outcome.last = reader_feed(&reader, at_the_end(slice_make(in.data, length)), &used);
        ASSERT(used <= length);
        in = slice_sub(in, used);
        ASSERT(outcome.last != READER_MORE || used > 0);
        ASSERT(reader.body.length <= BODY_MAX);
        if (outcome.last == READER_REQUEST) {
            outcome.requests++;
            outcome.digest = digest_request(outcome.digest, reader.request);
            reader_reset(&reader);
            outcome.last = READER_MORE;
        }
    }
    outcome.refusal = reader.refusal;
    reader_deinit(&reader);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct slice in = slice_make(data + 1, size - 1);
    struct outcome whole = read_all(in, size);
    struct outcome pieces = read_all(in, (size_t)data[0] + 1);
    /* Limits are looked at once a piece, so a flood may be refused earlier or later. */
    bool flood = whole.refusal == 431 || pieces.refusal == 431 || size > limits.header_bytes_max;
    if (!flood) {
        ASSERT(whole.requests == pieces.requests);
        ASSERT(whole.digest == pieces.digest);
        ASSERT(whole.last == pieces.last);
        ASSERT(whole.refusal == pieces.refusal);
    }
    return 0;
}
