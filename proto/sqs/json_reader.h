/* SPDX-License-Identifier: Apache-2.0 */
/* A reader that walks a JSON document (RFC 8259) once, without building a tree. Private to
 * proto/sqs. thread: any. */
#ifndef PROTO_SQS_JSON_READER_H
#define PROTO_SQS_JSON_READER_H

#include "proto/base/slice.h"

/* By the first character of a value; its name in errors is that of AWS's parser. */
enum json_kind {
    JSON_KIND_NONE, /* no value is here: the document is broken */
    JSON_KIND_OBJECT,
    JSON_KIND_ARRAY,
    JSON_KIND_TEXT,
    JSON_KIND_INTEGER,
    JSON_KIND_DECIMAL,
    JSON_KIND_TRUE,
    JSON_KIND_FALSE,
    JSON_KIND_NULL
};

enum json_fault { JSON_FINE, JSON_MALFORMED, JSON_TOO_MANY };

struct json_reader {
    uint8_t *begin; /* the document; texts are unescaped in place */
    uint8_t *at;
    const uint8_t *end;
    uint32_t values_left; /* JSON_TOO_MANY beyond */
    uint32_t depth;
    enum json_fault fault; /* sticky: nothing can be read after one */
};

struct json_reader json_reader_of(uint8_t *document, size_t length, uint32_t values_max);

/* json_read_peek: what comes next. Reads nothing but blanks. */
enum json_kind json_read_peek(struct json_reader *r);

/* json_read_text, json_read_integer: the value that json_read_peek saw. The text borrows from the
 * document and is well-formed UTF-8. An integer beyond int64_t is INT64_MAX or INT64_MIN. False:
 * fault. */
bool json_read_text(struct json_reader *r, struct slice *out);
bool json_read_integer(struct json_reader *r, int64_t *out);

/* json_read_enter: into the object or array that json_read_peek saw. json_read_member,
 * json_read_element: go to the next one and stand before its value, which must be read or skipped;
 * false at the end, and with a fault. */
void json_read_enter(struct json_reader *r);
bool json_read_member(struct json_reader *r, bool first, struct slice *key);
bool json_read_element(struct json_reader *r, bool first);

/* json_read_skip: over any value. False: fault. */
bool json_read_skip(struct json_reader *r);

/* json_read_end: nothing but blanks is left; else a fault. */
bool json_read_end(struct json_reader *r);

/* json_read_where: line and column of where the reader stands, from 1. */
void json_read_where(const struct json_reader *r, unsigned *line, unsigned *column);

#endif
