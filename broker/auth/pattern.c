/* SPDX-License-Identifier: Apache-2.0 */
/* Matching keeps one place to go back to: the last '*' and how much it had swallowed. That is all
 * a pattern of stars needs, and bounds the work by the product of both lengths, where a recursive
 * matcher would take exponential time for a policy made to that end. */
#include "broker/auth/pattern.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

#define ANY_RUN  0xff
#define ANY_BYTE 0xfe
#define VARIABLE 0xfd /* then the length of the key in one byte, and the key */

/* "${key}" at the start of `text`: append its code; how many bytes it took, 0 for a bad one. */
static size_t compile_variable(struct slice text, struct buffer *out)
{
    ptrdiff_t end = slice_find(text, '}');
    if (end < 3 || end > 200)
        return 0;
    struct slice key = slice_make(text.data + 2, (size_t)end - 2);
    bool escaped = slice_is(key, "*") || slice_is(key, "?") || slice_is(key, "$");
    if (escaped) {
        buffer_add_slice(out, key);
    } else if (slice_find(key, ':') > 0 && slice_find(key, ',') < 0) {
        buffer_add_byte(out, VARIABLE);
        buffer_add_byte(out, (uint8_t)key.length);
        buffer_add_slice(out, key);
    } else {
        return 0;
    }
    return (size_t)end + 1;
}

static const char *compile(struct slice text, struct pattern_rules rules, struct buffer *out,
                           bool *variables)
{
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = text.data[i];
        if (rules.variables && c == '$' && i + 1 < text.length && text.data[i + 1] == '{') {
            size_t taken = compile_variable(slice_sub(text, i), out);
            if (taken == 0)
                return "A policy variable must look like ${prefix:key}, without a default value.";
            *variables = true;
            i += taken - 1;
        } else if (rules.wildcards && (c == '*' || c == '?')) {
            buffer_add_byte(out, c == '*' ? ANY_RUN : ANY_BYTE);
        } else {
            buffer_add_byte(out, c);
        }
    }
    return NULL;
}

const char *pattern_compile(struct slice text, struct pattern_rules rules, struct arena *arena,
                            struct pattern *out)
{
    if (text.length > PATTERN_BYTES_MAX)
        return "A value of the policy is longer than 2048 bytes.";
    if (!utf8_valid(text))
        return "A value of the policy is no valid UTF-8.";
    struct buffer code = {0};
    *out = (struct pattern){0};
    const char *why = compile(text, rules, &code, &out->variables);
    out->code = arena_copy(arena, buffer_slice(&code));
    buffer_free(&code);
    return why;
}

static bool expand(struct slice code, const struct policy_values *values, struct buffer *out)
{
    for (size_t i = 0; i < code.length; i++) {
        if (code.data[i] != VARIABLE) {
            buffer_add_byte(out, code.data[i]);
            continue;
        }
        struct slice value;
        struct slice key = slice_make(code.data + i + 2, code.data[i + 1]);
        if (!values->get(values->data, key, &value) || !utf8_valid(value))
            return false;
        buffer_add_slice(out, value);
        i += 1 + key.length;
    }
    return true;
}

bool pattern_known(const struct pattern *pattern, const struct policy_values *values)
{
    struct buffer ignored = {0};
    bool known = !pattern->variables || expand(pattern->code, values, &ignored);
    buffer_free(&ignored);
    return known;
}

bool pattern_text(const struct pattern *pattern, const struct policy_values *values,
                  struct buffer *out)
{
    if (pattern->variables)
        return expand(pattern->code, values, out);
    buffer_add_slice(out, pattern->code);
    return true;
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static bool same(uint8_t pattern, uint8_t c, bool ignore_case)
{
    return pattern == ANY_BYTE || pattern == c || (ignore_case && lower(pattern) == lower(c));
}

static bool matches(struct slice code, struct slice text, bool ignore_case)
{
    size_t p = 0;
    size_t t = 0;
    size_t star = SIZE_MAX; /* behind the last '*' */
    size_t swallowed = 0;   /* where what follows it was tried last */
    while (t < text.length) {
        if (p < code.length && code.data[p] == ANY_RUN) {
            star = ++p;
            swallowed = t;
        } else if (p < code.length && same(code.data[p], text.data[t], ignore_case)) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star;
            t = ++swallowed;
        } else {
            return false;
        }
    }
    while (p < code.length && code.data[p] == ANY_RUN)
        p++;
    return p == code.length;
}

bool pattern_matches(const struct pattern *pattern, struct slice text, bool ignore_case,
                     const struct policy_values *values)
{
    if (!pattern->variables)
        return matches(pattern->code, text, ignore_case);
    struct buffer code = {0};
    bool good =
        expand(pattern->code, values, &code) && matches(buffer_slice(&code), text, ignore_case);
    buffer_free(&code);
    return good;
}
