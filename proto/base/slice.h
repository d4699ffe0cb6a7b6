/* SPDX-License-Identifier: Apache-2.0 */
/* A borrowed run of bytes: pointer and length, never NUL-terminated, never owned. A slice of length
 * 0 may have a NULL pointer; `data == NULL` means "absent" where a function says so. */
#ifndef PROTO_BASE_SLICE_H
#define PROTO_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct slice {
    const uint8_t *data;
    size_t length;
};

/* printf("%.*s", SLICE_ARGS(s)) */
#define SLICE_ARGS(s)       ((int)(s).length), ((s).data != NULL ? (const char *)(s).data : "")
#define SLICE_LITERAL(text) ((struct slice){(const uint8_t *)(text), sizeof(text) - 1})

static inline struct slice slice_make(const void *data, size_t length)
{
    return (struct slice){(const uint8_t *)data, length};
}

/* slice_of: the bytes of a C string, which may be NULL (an absent slice). */
static inline struct slice slice_of(const char *text)
{
    return (struct slice){(const uint8_t *)text, text != NULL ? strlen(text) : 0};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

static inline bool slice_is(struct slice a, const char *text)
{
    return slice_equal(a, slice_of(text));
}

/* slice_equal_nocase: ASCII case-insensitive, as HTTP header names compare. */
static inline bool slice_equal_nocase(struct slice a, struct slice b)
{
    return a.length == b.length &&
           (a.length == 0 ||
            strncasecmp((const char *)a.data, (const char *)b.data, a.length) == 0);
}

static inline bool slice_is_nocase(struct slice a, const char *text)
{
    return slice_equal_nocase(a, slice_of(text));
}

static inline bool slice_starts_with(struct slice a, const char *prefix)
{
    size_t length = strlen(prefix);
    return a.length >= length && (length == 0 || memcmp(a.data, prefix, length) == 0);
}

static inline bool slice_has_prefix(struct slice a, struct slice prefix)
{
    return a.length >= prefix.length &&
           (prefix.length == 0 || memcmp(a.data, prefix.data, prefix.length) == 0);
}

/* slice_sub: the part from `offset` to the end; offset <= length. */
static inline struct slice slice_sub(struct slice a, size_t offset)
{
    return (struct slice){offset > 0 ? a.data + offset : a.data, a.length - offset};
}

/* slice_find: index of the first `byte`, or -1. */
static inline ptrdiff_t slice_find(struct slice a, char byte)
{
    const uint8_t *at = a.length > 0 ? memchr(a.data, byte, a.length) : NULL;
    return at != NULL ? at - a.data : -1;
}

#endif
