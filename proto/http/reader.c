/* SPDX-License-Identifier: Apache-2.0 */
/* The request reader: llhttp between two gates of our own.
 *
 * The gate in front, scan_head(), looks at the raw bytes of the head. It refuses what HTTP/1.1
 * servers and proxies read differently from each other, which is what request smuggling is made of:
 * NUL, a CR without LF, an LF without CR, lines that begin with a blank (obsolete folding) or with
 * a colon (a header without a name, which llhttp lets pass). It also finds where the head ends, so
 * that the limit on the head is exact, and the parser is given the head and the body apart. The
 * lines behind the last chunk (trailers) pass the same gate: the parser would let one end with an
 * LF alone.
 *
 * The gate behind, `checks`, looks at the parsed head: version, method, Host, the two ways to give
 * a length, expectations. Only a head that passed both reaches the handler, first with the question
 * how large a body it may have, and 100 Continue is wanted only after that answer.
 *
 * Invariants:
 * I1  head holds exactly the bytes that the lengths in request->target and request->headers add up
 *     to, in that order, so the slices can be laid over it once it has stopped growing.
 * I2  body.length <= body_bytes_max.
 * I3  Memory for a body is never more than BODY_AHEAD_BYTES, or half of what has arrived, ahead of
 *     what has arrived: a declared length alone costs nothing.
 * I4  What a chunked body may cost on the wire is bounded by what it delivers (see
 *     overhead_bounded): endless chunk extensions, trailers and one-byte chunks end.
 * I5  The large bodies of all connections together stay within limits->body_bytes_all_max, until
 *     they are answered. Small ones are not counted, so that many uploads at once (or clients that
 *     stall in the middle of one) do not keep others from working. */
#include "proto/http/reader.h"

#include "proto/base/assert.h"
#include "proto/base/blocks.h"
#include "proto/base/scan.h"

#include <stdlib.h>

#define BODY_AHEAD_BYTES    (1u << 20)
#define HEAD_KEPT_BYTES     4096 /* capacity kept between requests of a connection */
#define WIRE_BYTES_PER_BYTE 8    /* of a chunked body */
#define STOP_PARSING        (-1)

/* The parser's callbacks. They only record: handlers run when llhttp_execute has returned. */

static int refuse(struct reader *r, int status)
{
    r->refusal = status;
    return STOP_PARSING;
}

static int on_url(llhttp_t *parser, const char *at, size_t length)
{
    struct reader *r = parser->data;
    buffer_add(&r->head, at, length);
    r->request->target.length += length;
    return 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t length)
{
    struct reader *r = parser->data;
    struct http_request *request = r->request;
    if (r->head_done)
        return 0; /* a trailer: nothing in a request's trailer is of use to anyone here */
    if (r->in_value || request->header_count == 0) {
        if (request->header_count == HTTP_HEADERS_MAX)
            return refuse(r, 431);
        request->headers[request->header_count++] = (struct http_header){0};
        r->in_value = false;
    }
    buffer_add(&r->head, at, length);
    request->headers[request->header_count - 1].name.length += length;
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t length)
{
    struct reader *r = parser->data;
    if (r->head_done)
        return 0;
    r->in_value = true;
    buffer_add(&r->head, at, length);
    r->request->headers[r->request->header_count - 1].value.length += length;
    return 0;
}

/* A value may be empty, and then on_header_value need not be called. */
static int on_header_value_complete(llhttp_t *parser)
{
    struct reader *r = parser->data;
    r->in_value = true;
    return 0;
}

/* Whether a body of `length` may be held beside those of the other connections. */
static bool body_has_room(const struct reader *r, uint64_t length)
{
    size_t max = r->limits->body_bytes_all_max;
    if (r->body_bytes_all == NULL || max == 0 || length <= HTTP_BODY_SMALL_BYTES)
        return true;
    size_t others = *r->body_bytes_all - r->body_counted;
    return others <= max && length <= max - others;
}

static void body_count(struct reader *r, size_t length)
{
    if (r->body_bytes_all == NULL)
        return;
    *r->body_bytes_all += length - r->body_counted;
    r->body_counted = length;
}

static int take_body(struct reader *r, const char *at, size_t length)
{
    if (length > r->body_bytes_max - r->body.length) {
        r->too_large = true;
        return STOP_PARSING;
    }
    if (!body_has_room(r, r->body.length + length))
        return refuse(r, 503);
    buffer_add(&r->body, at, length); /* I2 */
    if (r->body.length > HTTP_BODY_SMALL_BYTES)
        body_count(r, r->body.length); /* I5 */
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t length)
{
    return take_body(parser->data, at, length);
}

static int on_chunk_header(llhttp_t *parser)
{
    struct reader *r = parser->data;
    r->too_large = parser->content_length > r->body_bytes_max - r->body.length;
    if (r->too_large)
        return STOP_PARSING;
    if (parser->content_length > 0)
        return 0;
    /* The last one. Stop here, so that what follows can be looked at first. */
    r->in_trailer = true;
    r->after_cr = false;
    r->line_bytes = 0;
    r->line_count = 1;
    return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *parser)
{
    struct reader *r = parser->data;
    r->complete = true;
    return HPE_PAUSED;
}

/* Checks of a parsed head: 0, or the HTTP status that refuses it. */

static unsigned header_count_of(const struct http_request *request, const char *name)
{
    struct slice wanted = slice_of(name);
    unsigned count = 0;
    for (unsigned i = 0; i < request->header_count; i++)
        count += slice_equal_nocase(request->headers[i].name, wanted);
    return count;
}

static int check_version(struct reader *r)
{
    bool known = llhttp_get_http_major(&r->parser) == 1 && llhttp_get_http_minor(&r->parser) <= 1;
    return known ? 0 : 505;
}

/* Tunnels and HTTP/2 are not spoken here; an Upgrade header is ignored, as RFC 9110 7.8 allows. */
static int check_method(struct reader *r)
{
    r->parser.upgrade = 0;
    uint8_t method = llhttp_get_method(&r->parser);
    return method == HTTP_CONNECT || method == HTTP_PRI ? 501 : 0;
}

static int check_host(struct reader *r)
{
    unsigned count = header_count_of(r->request, "host");
    bool required = llhttp_get_http_minor(&r->parser) == 1;
    return count > 1 || (required && count == 0) ? 400 : 0;
}

static bool all_digits(struct slice s)
{
    for (size_t i = 0; i < s.length; i++) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return false;
    }
    return s.length > 0;
}

static int check_length(struct reader *r)
{
    unsigned lengths = header_count_of(r->request, "content-length");
    unsigned encodings = header_count_of(r->request, "transfer-encoding");
    if (lengths > 1 || encodings > 1 || lengths + encodings > 1)
        return 400;
    if (lengths == 1)
        return all_digits(http_header(r->request, "content-length")) ? 0 : 400;
    if (encodings == 0)
        return 0;
    if (llhttp_get_http_minor(&r->parser) == 0)
        return 400;
    return slice_is_nocase(http_header(r->request, "transfer-encoding"), "chunked") ? 0 : 501;
}

static int check_expect(struct reader *r)
{
    struct slice expect = http_header(r->request, "expect");
    if (expect.data == NULL || llhttp_get_http_minor(&r->parser) == 0)
        return 0;
    r->want_continue = slice_is_nocase(expect, "100-continue");
    return r->want_continue ? 0 : 417;
}

/* "/path?query", or the absolute form "http://host/path?query" that clients send to proxies. */
static int check_target(struct reader *r)
{
    struct http_request *request = r->request;
    struct slice rest = request->target;
    if (slice_starts_with(rest, "http://") || slice_starts_with(rest, "https://")) {
        rest = slice_sub(rest, (size_t)slice_find(rest, '/') + 2);
        ptrdiff_t slash = slice_find(rest, '/');
        if (slash < 1)
            return 400;
        rest = slice_sub(rest, (size_t)slash);
    }
    if (!slice_starts_with(rest, "/") && !slice_is(rest, "*"))
        return 400;
    if (slice_find(rest, '#') >= 0)
        return 400;
    ptrdiff_t mark = slice_find(rest, '?');
    request->path = slice_make(rest.data, mark >= 0 ? (size_t)mark : rest.length);
    request->query = slice_sub(rest, mark >= 0 ? (size_t)mark + 1 : rest.length);
    return 0;
}

static int (*const checks[])(struct reader *r) = {check_version, check_method, check_target,
                                                  check_host,    check_length, check_expect};

static struct slice trimmed(struct slice s)
{
    while (s.length > 0 && (s.data[s.length - 1] == ' ' || s.data[s.length - 1] == '\t'))
        s.length--;
    return s;
}

/* I1 */
static void lay_slices(struct reader *r)
{
    struct http_request *request = r->request;
    const uint8_t *at = r->head.data;
    if (at == NULL)
        return; /* "CONNECT " and no more: no bytes, and so no slices */
    request->target.data = at;
    at += request->target.length;
    for (unsigned i = 0; i < request->header_count; i++) {
        struct http_header *header = &request->headers[i];
        size_t length = header->value.length;
        header->name.data = at;
        at += header->name.length;
        header->value = trimmed(slice_make(at, header->value.length));
        at += length;
    }
}

static int on_headers_complete(llhttp_t *parser)
{
    struct reader *r = parser->data;
    struct http_request *request = r->request;
    lay_slices(r);
    r->head_done = true;
    for (size_t i = 0; i < ARRAY_COUNT(checks); i++) {
        int status = checks[i](r);
        if (status != 0)
            return refuse(r, status);
    }
    request->method = slice_of(llhttp_method_name((llhttp_method_t)llhttp_get_method(parser)));
    r->is_head = llhttp_get_method(parser) == HTTP_HEAD;
    r->keep_alive = llhttp_should_keep_alive(parser) != 0;
    r->body_bytes_max = r->handler->body_bytes_max(r->handler->data, request);
    bool has_length = http_header(request, "content-length").data != NULL;
    if (has_length && parser->content_length > r->body_bytes_max) {
        r->too_large = true;
        return STOP_PARSING;
    }
    if (has_length && !body_has_room(r, parser->content_length))
        return refuse(r, 503);
    if (has_length && parser->content_length > 0) /* I3 */
        buffer_reserve(&r->body, parser->content_length < BODY_AHEAD_BYTES
                                     ? (size_t)parser->content_length
                                     : BODY_AHEAD_BYTES);
    return 0;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_header = on_chunk_header,
    .on_message_complete = on_message_complete,
};

/* Behind a line's first byte nothing but control characters needs a look. */
static const struct scan_plain plain_text = {.low = 0x20, .high = 0xff};

/* The gate in front. Returns false for a refused byte; else *length is how many bytes of `in`
 * belong to the head, and *ended whether they complete it. */
static bool scan_head(struct reader *r, struct slice in, size_t *length, bool *ended)
{
    for (size_t i = 0; i < in.length; i++) {
        if (r->line_bytes > 0 && !r->after_cr) {
            i += scan_run(plain_text, slice_sub(in, i));
            if (i == in.length)
                break;
        }
        uint8_t c = in.data[i];
        if (c == 0 || r->after_cr != (c == '\n'))
            return false;
        r->after_cr = c == '\r';
        if (c == '\n') {
            /* Empty lines before the request line are tolerated (RFC 9112 2.2). */
            if (r->line_bytes == 0 && r->line_count > 0) {
                *length = i + 1;
                *ended = true;
                return true;
            }
            r->line_count += r->line_bytes > 0;
            r->line_bytes = 0;
        } else if (c != '\r') {
            if (r->line_bytes == 0 && (c == ' ' || c == '\t' || c == ':'))
                return false;
            r->line_bytes = 1;
        }
    }
    *length = in.length;
    *ended = false;
    return true;
}

static enum reader_result fail(struct reader *r)
{
    if (r->too_large && r->refusal == 0)
        return READER_TOO_LARGE;
    if (r->refusal == 0)
        r->refusal = 400;
    return READER_REFUSED;
}

/* Run the parser; *used is how much of `in` it took. */
static enum reader_result parse(struct reader *r, struct slice in, size_t *used)
{
    llhttp_errno_t error = llhttp_execute(&r->parser, (const char *)in.data, in.length);
    *used = in.length;
    if (error == HPE_OK)
        return READER_MORE;
    if (error != HPE_PAUSED)
        return fail(r);
    *used = (size_t)((const uint8_t *)llhttp_get_error_pos(&r->parser) - in.data);
    ASSERT(*used <= in.length);
    if (r->complete)
        return READER_REQUEST;
    llhttp_resume(&r->parser); /* on_chunk_header has stopped it */
    return READER_MORE;
}

static enum reader_result feed_head(struct reader *r, struct slice in, size_t *used)
{
    size_t length = 0;
    bool ended = false;
    if (!scan_head(r, in, &length, &ended))
        return fail(r);
    r->head_bytes += length;
    if (r->head_bytes > r->limits->header_bytes_max) {
        r->refusal = 431;
        return READER_REFUSED;
    }
    size_t parsed;
    enum reader_result result = parse(r, slice_make(in.data, length), &parsed);
    *used = length;
    /* The parser and the scan must agree on where the head ends. */
    if ((result == READER_MORE || result == READER_REQUEST) && r->head_done != ended)
        return fail(r);
    return result;
}

/* Behind the last chunk: lines up to an empty one. */
static enum reader_result feed_trailer(struct reader *r, struct slice in, size_t *used)
{
    size_t length = 0;
    bool ended = false;
    if (!scan_head(r, in, &length, &ended))
        return fail(r);
    enum reader_result result = parse(r, slice_make(in.data, length), used);
    if ((result == READER_MORE || result == READER_REQUEST) && r->complete != ended)
        return fail(r);
    return result;
}

/* I4 */
static bool overhead_bounded(const struct reader *r)
{
    return r->wire_bytes <= 2 * r->limits->header_bytes_max + WIRE_BYTES_PER_BYTE * r->body.length;
}

/* Most of the room for headers stays unused: on_header_field clears what it takes of it. */
_Static_assert(HTTP_HEADERS_MAX * sizeof(struct http_header) <= BLOCK_BYTES_MAX,
               "they are a block");

static void request_begin(struct reader *r)
{
    r->request = calloc(1, sizeof *r->request);
    ASSERT(r->request != NULL);
    r->request->connection = r->connection;
    r->request->peer = r->peer;
    r->request->headers = block_take(BLOCK_BYTES_MAX);
}

/* Everything that belongs to the request but itself. */
static void contents_free(struct reader *r)
{
    struct http_request *request = r->request;
    arena_free(&request->arena);
    if (request->headers != NULL)
        block_give(request->headers, BLOCK_BYTES_MAX);
    request->headers = NULL;
    buffer_free(&r->body);
    body_count(r, 0);
}

enum reader_result reader_feed(struct reader *r, struct slice in, size_t *used)
{
    ASSERT(!r->complete && r->refusal == 0 && !r->too_large);
    *used = 0;
    if (in.length == 0)
        return READER_MORE;
    if (r->request == NULL)
        request_begin(r);
    enum reader_result result;
    if (!r->head_done) {
        result = feed_head(r, in, used);
    } else {
        result = r->in_trailer ? feed_trailer(r, in, used) : parse(r, in, used);
        r->wire_bytes += *used;
        if (result == READER_MORE && !overhead_bounded(r))
            result = fail(r);
    }
    if (result == READER_REQUEST)
        r->request->body = buffer_slice(&r->body);
    return result;
}

void reader_init(struct reader *r, const struct http_limits *limits,
                 const struct http_handler *handler, struct http_connection *connection,
                 const char *peer)
{
    *r = (struct reader){
        .limits = limits, .handler = handler, .connection = connection, .peer = peer};
    llhttp_init(&r->parser, HTTP_REQUEST, &settings);
    r->parser.data = r;
}

void reader_park(struct reader *r)
{
    struct http_request *request = r->request;
    ASSERT(r->complete);
    contents_free(r);
    buffer_free(&r->head);
    *request = (struct http_request){.data = request->data,
                                     .route = request->route,
                                     .connection = request->connection,
                                     .arrived_ms = request->arrived_ms,
                                     .peer = request->peer};
}

void reader_reset(struct reader *r)
{
    if (r->request != NULL)
        contents_free(r);
    free(r->request);
    size_t *body_bytes_all = r->body_bytes_all;
    struct buffer head = r->head;
    if (head.capacity > HEAD_KEPT_BYTES)
        buffer_free(&head);
    buffer_clear(&head);
    reader_init(r, r->limits, r->handler, r->connection, r->peer);
    r->head = head;
    r->body_bytes_all = body_bytes_all;
}

void reader_deinit(struct reader *r)
{
    reader_reset(r);
    buffer_free(&r->head);
}
