/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: the status line, the headers that every answer has, the handler's own, the body.
 *
 * The framing headers are the server's business: a handler that passes on headers from elsewhere (a
 * function's answer, say) cannot set Content-Length, Transfer-Encoding, Connection, Date and the
 * like. Nor can it break out of a line: control bytes in a value become blanks, and a header whose
 * name is no token is left out. */
#include "proto/http/connection.h"

#include "proto/base/assert.h"
#include "proto/base/blocks.h"
#include "proto/base/clock.h"
#include "proto/base/scan.h"

#include <time.h>

#define BODY_BYTES_SMALL 1024 /* goes out behind its head, in one piece */

static const struct slice reserved_names[] = {SLICE_LITERAL("Content-Length"),
                                              SLICE_LITERAL("Transfer-Encoding"),
                                              SLICE_LITERAL("Connection"),
                                              SLICE_LITERAL("Keep-Alive"),
                                              SLICE_LITERAL("Upgrade"),
                                              SLICE_LITERAL("Trailer"),
                                              SLICE_LITERAL("Date")};

/* RFC 9110 5.6.2 */
static const bool token_bytes[256] = {
    ['0' ... '9'] = true,  ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['!'] = true,
    ['#' ... '\''] = true, ['*'] = true,         ['+'] = true,         ['-'] = true,
    ['.'] = true,          ['^'] = true,         ['_'] = true,         ['`'] = true,
    ['|'] = true,          ['~'] = true};

static const struct scan_plain plain_text = {.low = 0x20, .high = 0xff, .but = {0x7f, 0x7f, 0x7f}};

static bool name_allowed(struct slice name)
{
    for (size_t i = 0; i < name.length; i++) {
        if (!token_bytes[name.data[i]])
            return false;
    }
    for (size_t i = 0; i < ARRAY_COUNT(reserved_names); i++) {
        if (slice_equal_nocase(name, reserved_names[i]))
            return false;
    }
    return name.length > 0;
}

static void add_header(struct buffer *out, const struct http_header *header)
{
    if (!name_allowed(header->name))
        return;
    buffer_add_slice(out, header->name);
    buffer_add(out, ": ", 2);
    size_t start = out->length + scan_run(plain_text, header->value);
    buffer_add_slice(out, header->value);
    for (size_t i = start; i < out->length; i++) {
        uint8_t c = out->data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            out->data[i] = ' ';
    }
    buffer_add(out, "\r\n", 2);
}

/* RFC 9110 5.6.7; locale does not matter because the C locale is never left. */
static const char *date_text(struct http_server *server)
{
    if (server->date_loop_ms == uv_now(server->loop) && server->date_second > 0)
        return server->date; /* one look at the clock serves all answers of a turn */
    server->date_loop_ms = uv_now(server->loop);
    uint64_t second = clock_now_ms() / 1000;
    if (second != server->date_second) {
        time_t now = (time_t)second;
        struct tm utc;
        gmtime_r(&now, &utc);
        strftime(server->date, sizeof server->date, "%a, %d %b %Y %H:%M:%S GMT", &utc);
        server->date_second = second;
    }
    return server->date;
}

static void add_head(struct http_connection *c, int status, const struct http_header *headers,
                     unsigned header_count, size_t body_length)
{
    struct buffer *out = &c->out_head;
    buffer_clear(out);
    (void)buffer_reserve(out, BLOCK_BYTES_MIN); /* room for a small body too */
    buffer_add_text(out, "HTTP/1.1 ");
    buffer_add_decimal(out, (uint64_t)status);
    buffer_add_byte(out, ' ');
    buffer_add_text(out, http_status_text(status));
    buffer_add_text(out, "\r\nDate: ");
    buffer_add(out, date_text(c->server), DATE_TEXT_LENGTH);
    buffer_add_text(out, "\r\n");
    for (unsigned i = 0; i < header_count; i++)
        add_header(out, &headers[i]);
    /* RFC 9110 8.6: no length where there can be no body. */
    if (status != 204 && status != 304) {
        buffer_add_text(out, "Content-Length: ");
        buffer_add_decimal(out, body_length);
        buffer_add_text(out, "\r\n");
    }
    buffer_add_text(out, c->close_after ? "Connection: close\r\n\r\n"
                                        : "Connection: keep-alive\r\n\r\n");
}

/* add_body: it is moved; a small one behind the head, so that one piece of memory is written. */
static void add_body(struct http_connection *c, struct buffer *body)
{
    if (body->length <= BODY_BYTES_SMALL) {
        buffer_add_slice(&c->out_head, buffer_slice(body));
        buffer_free(body);
    }
    c->out_body = *body;
    *body = (struct buffer){0};
}

void http_respond(struct http_request *request, int status, const struct http_header *headers,
                  unsigned header_count, struct buffer *body)
{
    struct http_connection *c = request->connection;
    ASSERT(c->state == CONNECTION_HANDLING);
    if (status < 200 || status > 599)
        status = 502; /* a number that came from elsewhere */
    connection_answered(c);
    struct buffer none = {0};
    if (body == NULL)
        body = &none;
    add_head(c, status, headers, header_count, body->length);
    if (c->head_only || status == 204 || status == 304)
        buffer_free(body);
    add_body(c, body);
    reader_reset(&c->reader);
    connection_send(c);
}

void respond_plain(struct http_connection *c, int status, const char *text)
{
    c->close_after = true;
    if (text != NULL)
        buffer_add_text(&c->out_body, text);
    add_head(c, status, NULL, 0, c->out_body.length);
    connection_send(c);
}
