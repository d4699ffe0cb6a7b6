/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of a policy that stand for many texts: '*' for any run of bytes, '?' for any one, and
 * "${aws:username}" for what the request has under that key. thread: any. */
#ifndef BROKER_AUTH_PATTERN_H
#define BROKER_AUTH_PATTERN_H

#include "proto/base/arena.h"
#include "proto/base/buffer.h"

#define PATTERN_BYTES_MAX 2048

/* Compiled: wildcards and variables are marked by bytes that no UTF-8 text has, so that what a
 * variable brings in is never taken for one. */
struct pattern {
    struct slice code;
    bool variables;
};

/* Where variables and condition keys get their values. False: the request has no such key. Keys
 * are compared without case; `out` is borrowed until the evaluation ends. */
struct policy_values {
    bool (*get)(void *data, struct slice key, struct slice *out);
    void *data;
};

struct pattern_rules {
    bool wildcards; /* '*' and '?' are special */
    bool variables; /* "${...}" is special: version 2012-10-17 */
};

/* pattern_compile: valid UTF-8 only. NULL, or a sentence that says what is wrong. */
const char *pattern_compile(struct slice text, struct pattern_rules rules, struct arena *arena,
                            struct pattern *out);

/* pattern_matches: the whole of `text`. A pattern with a variable that has no value matches
 * nothing. */
bool pattern_matches(const struct pattern *pattern, struct slice text, bool ignore_case,
                     const struct policy_values *values);

/* pattern_known: do all its variables have values? */
bool pattern_known(const struct pattern *pattern, const struct policy_values *values);

/* pattern_text: the text of a pattern without wildcards, its variables replaced, appended to `out`.
 * False if one has no value. */
bool pattern_text(const struct pattern *pattern, const struct policy_values *values,
                  struct buffer *out);

#endif
