/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over the bytes: what is between the values of interest is checked and stepped over.
 * Texts are most of a document, so what needs no closer look in them is passed over (scan.h).
 *
 * I1  after a fault `at` does not move: it is where the document broke
 * I2  values_left and depth bound the work and the stack that a hostile document can ask for */
#include "proto/sqs/json_reader.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"
#include "proto/base/scan.h"

#define DEPTH_MAX        2048
#define SURROGATE_FIRST  0xd800u
#define SURROGATE_SECOND 0xdc00u
#define SURROGATE_END    0xe000u

struct json_reader json_reader_of(uint8_t *document, size_t length, uint32_t values_max)
{
    return (struct json_reader){
        .begin = document, .at = document, .end = document + length, .values_left = values_max};
}

static bool broken(struct json_reader *r, enum json_fault fault)
{
    if (r->fault == JSON_FINE)
        r->fault = fault;
    return false;
}

static void skip_blanks(struct json_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* ---- numbers and words ---- */

/* The end of the number at `at`: NULL if it is none. `decimal`: it has a fraction or exponent. */
static uint8_t *number_end(const struct json_reader *r, bool *decimal)
{
    uint8_t *at = r->at;
    *decimal = false;
    at += at < r->end && *at == '-';
    if (at == r->end || !is_digit(*at))
        return NULL;
    if (*at == '0')
        at++;
    else
        while (at < r->end && is_digit(*at))
            at++;
    if (at < r->end && *at == '.') {
        *decimal = true;
        if (++at == r->end || !is_digit(*at))
            return NULL;
        while (at < r->end && is_digit(*at))
            at++;
    }
    if (at < r->end && (*at == 'e' || *at == 'E')) {
        *decimal = true;
        at++;
        at += at < r->end && (*at == '+' || *at == '-');
        if (at == r->end || !is_digit(*at))
            return NULL;
        while (at < r->end && is_digit(*at))
            at++;
    }
    return at;
}

static enum json_kind number_kind(const struct json_reader *r)
{
    bool decimal;
    if (number_end(r, &decimal) == NULL)
        return JSON_KIND_NONE;
    return decimal ? JSON_KIND_DECIMAL : JSON_KIND_INTEGER;
}

static const char *const words[] = {
    [JSON_KIND_TRUE] = "true", [JSON_KIND_FALSE] = "false", [JSON_KIND_NULL] = "null"};

static enum json_kind word_kind(const struct json_reader *r, enum json_kind kind)
{
    struct slice rest = slice_make(r->at, (size_t)(r->end - r->at));
    return slice_starts_with(rest, words[kind]) ? kind : JSON_KIND_NONE;
}

enum json_kind json_read_peek(struct json_reader *r)
{
    if (r->fault != JSON_FINE)
        return JSON_KIND_NONE;
    skip_blanks(r);
    if (r->at == r->end)
        return JSON_KIND_NONE;
    switch (*r->at) {
    case '{':
        return JSON_KIND_OBJECT;
    case '[':
        return JSON_KIND_ARRAY;
    case '"':
        return JSON_KIND_TEXT;
    case 't':
        return word_kind(r, JSON_KIND_TRUE);
    case 'f':
        return word_kind(r, JSON_KIND_FALSE);
    case 'n':
        return word_kind(r, JSON_KIND_NULL);
    default:
        return number_kind(r);
    }
}

bool json_read_integer(struct json_reader *r, int64_t *out)
{
    bool decimal;
    uint8_t *end = number_end(r, &decimal);
    ASSERT(end != NULL);
    ASSERT(!decimal);
    bool negative = *r->at == '-';
    *out = 0;
    for (const uint8_t *at = r->at + negative; at < end; at++) {
        int digit = negative ? -(*at - '0') : *at - '0';
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, digit, out)) {
            *out = negative ? INT64_MIN : INT64_MAX;
            break;
        }
    }
    r->at = end;
    return true;
}

/* ---- texts ---- */

static const struct scan_plain plain_text = {.low = 0x20, .high = 0xff, .but = {'"', '\\', '\\'}};
static const struct scan_plain plain_ascii = {.low = 0x20, .high = 0x7f, .but = {'"', '\\', '\\'}};

/* Four hex digits; -1 if they are none. */
static int32_t read_unit(const uint8_t *at, const uint8_t *end)
{
    int32_t unit = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        uint8_t c = at[i] | 0x20;
        bool letter = c >= 'a' && c <= 'f';
        if (!is_digit(at[i]) && !letter)
            return -1;
        unit = unit << 4 | (letter ? c - 'a' + 10 : at[i] - '0');
    }
    return unit;
}

static uint8_t *put_utf8(uint8_t *to, uint32_t point)
{
    if (point < 0x80) {
        *to++ = (uint8_t)point;
    } else if (point < 0x800) {
        *to++ = (uint8_t)(0xc0 | point >> 6);
        *to++ = (uint8_t)(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        *to++ = (uint8_t)(0xe0 | point >> 12);
        *to++ = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        *to++ = (uint8_t)(0x80 | (point & 0x3f));
    } else {
        *to++ = (uint8_t)(0xf0 | point >> 18);
        *to++ = (uint8_t)(0x80 | (point >> 12 & 0x3f));
        *to++ = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        *to++ = (uint8_t)(0x80 | (point & 0x3f));
    }
    return to;
}

/* \uXXXX or a pair of them, from behind the 'u'. What it becomes is shorter, so `to` stays behind.
 */
static bool take_unicode(struct json_reader *r, uint8_t **from, uint8_t **to)
{
    int32_t unit = read_unit(*from, r->end);
    if (unit < 0)
        return broken(r, JSON_MALFORMED);
    *from += 4;
    uint32_t point = (uint32_t)unit;
    if (point >= SURROGATE_FIRST && point < SURROGATE_END) {
        bool pair = r->end - *from >= 6 && (*from)[0] == '\\' && (*from)[1] == 'u';
        int32_t second = pair ? read_unit(*from + 2, r->end) : -1;
        if (point >= SURROGATE_SECOND || second < (int32_t)SURROGATE_SECOND ||
            second >= (int32_t)SURROGATE_END)
            return broken(r, JSON_MALFORMED);
        point = 0x10000 + ((point - SURROGATE_FIRST) << 10) + (uint32_t)second - SURROGATE_SECOND;
        *from += 6;
    }
    *to = put_utf8(*to, point);
    return true;
}

/* An escape, from its backslash. */
static bool take_escape(struct json_reader *r, uint8_t **from, uint8_t **to)
{
    static const char codes[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    if (r->end - *from < 2)
        return broken(r, JSON_MALFORMED);
    uint8_t code = (*from)[1];
    *from += 2;
    if (code == 'u')
        return take_unicode(r, from, to);
    const char *known = code != 0 ? strchr(codes, code) : NULL;
    if (known == NULL)
        return broken(r, JSON_MALFORMED);
    *(*to)++ = (uint8_t)meanings[known - codes];
    return true;
}

/* The end of what needs no look; `wide`: some of it is not ASCII. */
static uint8_t *plain_end(uint8_t *from, const uint8_t *end, bool *wide)
{
    if (!*wide)
        from += scan_run(plain_ascii, slice_make(from, (size_t)(end - from)));
    *wide = *wide || (from < end && *from >= 0x80);
    return *wide ? from + scan_run(plain_text, slice_make(from, (size_t)(end - from))) : from;
}

bool json_read_text(struct json_reader *r, struct slice *out)
{
    ASSERT(r->at < r->end);
    ASSERT(*r->at == '"');
    uint8_t *begin = r->at + 1;
    uint8_t *from = begin;
    uint8_t *to = begin;
    bool wide = false;
    for (;;) {
        uint8_t *plain = plain_end(from, r->end, &wide);
        if (to != from)
            memmove(to, from, (size_t)(plain - from));
        to += plain - from;
        from = plain;
        if (from == r->end || *from < 0x20)
            return broken(r, JSON_MALFORMED);
        if (*from == '"')
            break;
        if (!take_escape(r, &from, &to))
            return false;
    }
    *out = slice_make(begin, (size_t)(to - begin));
    if (wide && !utf8_valid(*out))        /* what escapes stand for is valid */
        return broken(r, JSON_MALFORMED); /* I1 */
    r->at = from + 1;
    return true;
}

/* ---- structure ---- */

void json_read_enter(struct json_reader *r)
{
    ASSERT(*r->at == '{' || *r->at == '[');
    if (++r->depth > DEPTH_MAX) /* I2 */
        (void)broken(r, JSON_MALFORMED);
    else
        r->at++;
}

/* next: step over the comma before all but the first item; false at the end or with a fault. */
static bool next(struct json_reader *r, bool first, char close)
{
    if (r->fault != JSON_FINE)
        return false;
    skip_blanks(r);
    if (r->at == r->end)
        return broken(r, JSON_MALFORMED);
    if (*r->at == (uint8_t)close) {
        r->at++;
        r->depth--;
        return false;
    }
    if (!first && *r->at != ',')
        return broken(r, JSON_MALFORMED);
    r->at += !first;
    if (r->values_left-- == 0) /* I2 */
        return broken(r, JSON_TOO_MANY);
    return true;
}

bool json_read_element(struct json_reader *r, bool first)
{
    return next(r, first, ']');
}

bool json_read_member(struct json_reader *r, bool first, struct slice *key)
{
    if (!next(r, first, '}'))
        return false;
    if (json_read_peek(r) != JSON_KIND_TEXT)
        return broken(r, JSON_MALFORMED);
    if (!json_read_text(r, key))
        return false;
    skip_blanks(r);
    bool has_nul = key->length > 0 && memchr(key->data, 0, key->length) != NULL;
    if (has_nul || r->at == r->end || *r->at != ':')
        return broken(r, JSON_MALFORMED);
    r->at++;
    return true;
}

static bool skip_inside(struct json_reader *r, enum json_kind kind)
{
    struct slice key;
    bool first = true;
    json_read_enter(r);
    while (kind == JSON_KIND_OBJECT ? json_read_member(r, first, &key)
                                    : json_read_element(r, first)) {
        first = false;
        if (!json_read_skip(r))
            return false;
    }
    return r->fault == JSON_FINE;
}

bool json_read_skip(struct json_reader *r)
{
    enum json_kind kind = json_read_peek(r);
    struct slice text;
    bool decimal;
    switch (kind) {
    case JSON_KIND_NONE:
        return broken(r, JSON_MALFORMED);
    case JSON_KIND_OBJECT:
    case JSON_KIND_ARRAY:
        return skip_inside(r, kind);
    case JSON_KIND_TEXT:
        return json_read_text(r, &text);
    case JSON_KIND_INTEGER:
    case JSON_KIND_DECIMAL:
        r->at = number_end(r, &decimal);
        return true;
    case JSON_KIND_TRUE:
    case JSON_KIND_FALSE:
    case JSON_KIND_NULL:
        r->at += strlen(words[kind]);
        return true;
    }
    return false;
}

bool json_read_end(struct json_reader *r)
{
    skip_blanks(r);
    return r->at == r->end || broken(r, JSON_MALFORMED);
}

void json_read_where(const struct json_reader *r, unsigned *line, unsigned *column)
{
    *line = 1;
    *column = 1;
    for (const uint8_t *at = r->begin; at < r->at; at++) {
        *column = *at == '\n' ? 1 : *column + 1;
        *line += *at == '\n';
    }
}
