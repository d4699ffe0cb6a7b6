/* SPDX-License-Identifier: Apache-2.0 */
/* A payload must be JSON, and must reach the function byte for byte as it was sent: numbers beyond
 * any machine type, duplicate keys, odd blanks and all. jansson would build a tree of up to 6 MB of
 * text and refuses numbers that it cannot represent, so the text is only walked here.
 *
 * Depth is kept as one byte per open bracket, so hostile nesting costs no stack. */
#include "broker/api/lambda/json_check.h"

#include "proto/base/encode.h"

struct reader {
    const uint8_t *begin, *at, *end;
    uint8_t open[JSON_DEPTH_MAX]; /* '[' or '{' */
    size_t depth;
};

static int peek(const struct reader *in)
{
    return in->at < in->end ? *in->at : -1;
}

static bool take(struct reader *in, char byte)
{
    if (peek(in) != byte) {
        return false;
    }
    in->at++;
    return true;
}

static void blanks(struct reader *in)
{
    while (peek(in) == ' ' || peek(in) == '\t' || peek(in) == '\n' || peek(in) == '\r') {
        in->at++;
    }
}

static bool word(struct reader *in, const char *text)
{
    for (; *text != 0; text++) {
        if (!take(in, *text)) {
            return false;
        }
    }
    return true;
}

static bool digits(struct reader *in)
{
    const uint8_t *first = in->at;
    while (peek(in) >= '0' && peek(in) <= '9') {
        in->at++;
    }
    return in->at > first;
}

static bool number(struct reader *in)
{
    take(in, '-');
    if (!take(in, '0') && !digits(in)) {
        return false;
    }
    if (take(in, '.') && !digits(in)) {
        return false;
    }
    if (take(in, 'e') || take(in, 'E')) {
        if (!take(in, '+')) {
            take(in, '-');
        }
        return digits(in);
    }
    return true;
}

static bool hex4(struct reader *in)
{
    for (int i = 0; i < 4; i++, in->at++) {
        int c = peek(in) | 0x20;
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
    }
    return true;
}

static bool escape(struct reader *in)
{
    if (take(in, 'u')) {
        return hex4(in);
    }
    if (peek(in) < 0 || strchr("\"\\/bfnrt", peek(in)) == NULL || peek(in) == 0) {
        return false;
    }
    in->at++;
    return true;
}

static bool string(struct reader *in)
{
    if (!take(in, '"')) {
        return false;
    }
    for (;;) {
        int c = peek(in);
        if (c < 0x20) {
            return false; /* also the end of the text */
        }
        in->at++;
        if (c == '"') {
            return true;
        }
        if (c == '\\' && !escape(in)) {
            return false;
        }
    }
}

static bool scalar(struct reader *in)
{
    switch (peek(in)) {
    case '"':
        return string(in);
    case 't':
        return word(in, "true");
    case 'f':
        return word(in, "false");
    case 'n':
        return word(in, "null");
    default:
        return number(in);
    }
}

static bool key(struct reader *in)
{
    blanks(in);
    if (!string(in)) {
        return false;
    }
    blanks(in);
    return take(in, ':');
}

/* Go into an array or object that is not empty; *closed: it was, and is done. */
static bool enter(struct reader *in, bool *closed)
{
    uint8_t bracket = *in->at++;
    blanks(in);
    *closed = take(in, bracket == '[' ? ']' : '}');
    if (*closed) {
        return true;
    }
    if (in->depth == JSON_DEPTH_MAX) {
        return false;
    }
    in->open[in->depth++] = bracket;
    return bracket == '[' || key(in);
}

/* After a value: closing brackets, then a comma if a value follows; *done at the end of all. */
static bool leave(struct reader *in, bool *done)
{
    *done = false;
    while (in->depth > 0) {
        uint8_t bracket = in->open[in->depth - 1];
        blanks(in);
        if (take(in, ',')) {
            return bracket == '[' || key(in);
        }
        if (!take(in, bracket == '[' ? ']' : '}')) {
            return false;
        }
        in->depth--;
    }
    *done = true;
    return true;
}

static bool walk(struct reader *in)
{
    for (bool done = false; !done;) {
        blanks(in);
        bool ended = true;
        bool nests = peek(in) == '[' || peek(in) == '{';
        if (nests ? !enter(in, &ended) : !scalar(in)) {
            return false;
        }
        if (ended && !leave(in, &done)) {
            return false;
        }
    }
    blanks(in);
    return in->at == in->end;
}

bool json_check(struct slice text, size_t *at)
{
    if (text.length == 0) {
        *at = 0;
        return false;
    }
    struct reader in = {.begin = text.data, .at = text.data, .end = text.data + text.length};
    if (!walk(&in)) {
        *at = (size_t)(in.at - in.begin);
        return false;
    }
    if (!utf8_valid(text)) {
        *at = 0;
        return false;
    }
    return true;
}
