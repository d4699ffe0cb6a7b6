/* SPDX-License-Identifier: Apache-2.0 */
/* Looking things up in a request, and the names of the status codes. */
#include "proto/http/server.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

struct slice http_header(const struct http_request *request, const char *name)
{
    struct slice wanted = slice_of(name);
    for (unsigned i = 0; i < request->header_count; i++) {
        if (slice_equal_nocase(request->headers[i].name, wanted))
            return request->headers[i].value;
    }
    return (struct slice){NULL, 0};
}

static bool decoded_is(struct buffer *scratch, struct slice encoded, const char *name)
{
    buffer_clear(scratch);
    return decode_percent(scratch, encoded, true) == STATUS_OK &&
           slice_is(buffer_slice(scratch), name);
}

/* The still encoded value of a parameter; absent if there is none of that name. */
static struct slice query_find(struct slice query, const char *name, struct buffer *scratch)
{
    while (query.length > 0) {
        ptrdiff_t ampersand = slice_find(query, '&');
        size_t length = ampersand >= 0 ? (size_t)ampersand : query.length;
        struct slice pair = slice_make(query.data, length);
        query = slice_sub(query, ampersand >= 0 ? length + 1 : length);
        ptrdiff_t equals = slice_find(pair, '=');
        size_t name_length = equals >= 0 ? (size_t)equals : pair.length;
        if (decoded_is(scratch, slice_make(pair.data, name_length), name))
            return slice_sub(pair, equals >= 0 ? name_length + 1 : name_length);
    }
    return (struct slice){NULL, 0};
}

struct slice http_query_get(struct http_request *request, const char *name)
{
    struct buffer scratch = {0};
    struct slice result = query_find(request->query, name, &scratch);
    if (result.data != NULL) {
        buffer_clear(&scratch);
        /* A bad escape is as good as no value. */
        result = decode_percent(&scratch, result, true) == STATUS_OK
                     ? arena_copy(&request->arena, buffer_slice(&scratch))
                     : (struct slice){NULL, 0};
    }
    buffer_free(&scratch);
    return result;
}

static const struct {
    int status;
    const char *text;
} statuses[] = {
    {100, "Continue"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {424, "Failed Dependency"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

const char *http_status_text(int status)
{
    for (size_t i = 0; i < ARRAY_COUNT(statuses); i++) {
        if (statuses[i].status == status)
            return statuses[i].text;
    }
    return "Unknown";
}
