/* SPDX-License-Identifier: Apache-2.0 */
/* Conditions: a key of the request against values of the policy.
 *
 *     several values     the positive operators want one to compare, the negated ones none
 *     key is missing     positive: false; negated: true; ...IfExists: true; Null says which
 *     ForAllValues       true for a missing key; else as without, since no key here has many values
 *     ForAnyValue        false for a missing key; else as without
 *
 * ArnEquals and ArnLike are the same, as the AWS documentation says. A number, date or address in
 * the policy that is none is refused when the policy is set; one in the request compares with
 * nothing. */
#include "broker/auth/condition.h"

#include "proto/base/assert.h"
#include "proto/sigv4/moment.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define NUMBER_BYTES_MAX  40
#define ADDRESS_BYTES_MAX 64
#define FOR_ALL           "ForAllValues:"
#define FOR_ANY           "ForAnyValue:"
#define IF_EXISTS         "IfExists"

/* Does the request's text compare with one value of the policy? */
typedef bool (*compare_fn)(const struct pattern *value, struct slice text,
                           const struct policy_values *values);

/* ---- texts ---- */

static bool string_equals(const struct pattern *value, struct slice text,
                          const struct policy_values *values)
{
    return pattern_matches(value, text, false, values);
}

static bool string_equals_nocase(const struct pattern *value, struct slice text,
                                 const struct policy_values *values)
{
    return pattern_matches(value, text, true, values);
}

/* The wildcards are in the pattern: it was compiled with them. */
static bool string_like(const struct pattern *value, struct slice text,
                        const struct policy_values *values)
{
    return pattern_matches(value, text, false, values);
}

static bool boolean(const struct pattern *value, struct slice text,
                    const struct policy_values *values)
{
    return pattern_matches(value, text, true, values);
}

/* "Null": {"key": "true"} wants it to be missing; condition_holds knows. */
static bool null(const struct pattern *value, struct slice text, const struct policy_values *values)
{
    return pattern_matches(value, text, true, values);
}

/* ---- numbers and dates ---- */

static bool number_read(struct slice text, double *out)
{
    char copy[NUMBER_BYTES_MAX + 1];
    char *end;
    if (text.length == 0 || text.length > NUMBER_BYTES_MAX)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] == '\0' || strchr("0123456789+-.eE", text.data[i]) == NULL)
            return false;
    }
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    *out = strtod(copy, &end);
    return *end == '\0';
}

/* ISO 8601 or seconds since the epoch. */
static bool date_read(struct slice text, double *out)
{
    uint64_t seconds;
    if (!moment_parse_iso(text, &seconds))
        return number_read(text, out);
    *out = (double)seconds;
    return true;
}

typedef bool (*read_fn)(struct slice text, double *out);

/* The order of the request's value to the policy's: -1, 0, 1; 2 if one of them is none. */
static int order_of(const struct pattern *value, struct slice text,
                    const struct policy_values *values, read_fn read)
{
    double left;
    double right;
    struct buffer expanded = {0};
    bool good = pattern_text(value, values, &expanded) && read(buffer_slice(&expanded), &right) &&
                read(text, &left);
    buffer_free(&expanded);
    return good ? (left > right) - (left < right) : 2;
}

#define ORDERED(name, read, condition)                                                             \
    static bool name(const struct pattern *value, struct slice text,                               \
                     const struct policy_values *values)                                           \
    {                                                                                              \
        int order = order_of(value, text, values, read);                                           \
        return order != 2 && (condition);                                                          \
    }
ORDERED(number_equal, number_read, order == 0)
ORDERED(number_less, number_read, order < 0)
ORDERED(number_less_equal, number_read, order <= 0)
ORDERED(number_greater, number_read, order > 0)
ORDERED(number_greater_equal, number_read, order >= 0)
ORDERED(date_equal, date_read, order == 0)
ORDERED(date_less, date_read, order < 0)
ORDERED(date_less_equal, date_read, order <= 0)
ORDERED(date_greater, date_read, order > 0)
ORDERED(date_greater_equal, date_read, order >= 0)
#undef ORDERED

/* ---- addresses ---- */

/* A block of addresses; one address is a block of all its bits. */
struct block {
    int family;
    uint8_t bytes[16];
    unsigned bits;
};

static bool block_read(struct slice text, struct block *out)
{
    char copy[ADDRESS_BYTES_MAX + 1];
    if (text.length == 0 || text.length > ADDRESS_BYTES_MAX)
        return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    char *slash = strchr(copy, '/');
    if (slash != NULL)
        *slash = '\0';
    out->family = strchr(copy, ':') != NULL ? AF_INET6 : AF_INET;
    unsigned bits_max = out->family == AF_INET6 ? 128 : 32;
    out->bits = bits_max;
    if (strlen(copy) + (slash != NULL) > text.length ||
        inet_pton(out->family, copy, out->bytes) != 1)
        return false;
    if (slash == NULL)
        return strlen(copy) == text.length;
    char *end;
    unsigned long bits = strtoul(slash + 1, &end, 10);
    if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || bits > bits_max)
        return false;
    out->bits = (unsigned)bits;
    return end == copy + text.length;
}

static bool address_in(const struct pattern *value, struct slice text,
                       const struct policy_values *values)
{
    struct block block;
    struct block address;
    (void)values;
    if (!block_read(value->code, &block) || !block_read(text, &address) ||
        block.family != address.family)
        return false;
    unsigned whole = block.bits / 8;
    unsigned rest = block.bits % 8;
    uint8_t mask = (uint8_t)(0xff << (8 - rest));
    return memcmp(block.bytes, address.bytes, whole) == 0 &&
           (rest == 0 || ((block.bytes[whole] ^ address.bytes[whole]) & mask) == 0);
}

/* ---- the table ---- */

struct condition_operator {
    const char *name;
    compare_fn compare;
    bool negated;
};

static const struct condition_operator operators[] = {
#define OPERATOR(name, compare, negated) {#name, compare, negated},
#include "broker/auth/operator.def"
#undef OPERATOR
};

static bool ends_with(struct slice text, const char *suffix)
{
    size_t length = strlen(suffix);
    return text.length > length && memcmp(text.data + text.length - length, suffix, length) == 0;
}

bool condition_operator_read(struct slice name, struct condition *out)
{
    out->for_all = slice_starts_with(name, FOR_ALL);
    out->for_any = slice_starts_with(name, FOR_ANY);
    if (out->for_all || out->for_any)
        name = slice_sub(name, strlen(out->for_all ? FOR_ALL : FOR_ANY));
    out->if_exists = ends_with(name, IF_EXISTS);
    if (out->if_exists)
        name.length -= strlen(IF_EXISTS);
    for (size_t i = 0; i < ARRAY_COUNT(operators); i++) {
        if (slice_is(name, operators[i].name)) {
            out->row = &operators[i];
            return operators[i].compare != null || !out->if_exists;
        }
    }
    return false;
}

static const char *check_value(compare_fn compare, struct slice text)
{
    struct block block;
    bool truth = slice_is_nocase(text, "true") || slice_is_nocase(text, "false");
    if (compare == address_in && !block_read(text, &block))
        return "A value of IpAddress or NotIpAddress is no IP address or block of them.";
    if (compare == null && !truth)
        return "A value of Null must be true or false.";
    return NULL;
}

/* A number or date that comes from a variable is read when its value is known. */
static const char *check_order(compare_fn compare, const struct pattern *value)
{
    static const compare_fn numbers[] = {number_equal, number_less, number_less_equal,
                                         number_greater, number_greater_equal};
    static const compare_fn dates[] = {date_equal, date_less, date_less_equal, date_greater,
                                       date_greater_equal};
    double ignored;
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        if (compare == numbers[i] && !value->variables && !number_read(value->code, &ignored))
            return "A value of a Numeric condition is no number.";
        if (compare == dates[i] && !value->variables && !date_read(value->code, &ignored))
            return "A value of a Date condition is no date: 2026-01-31T23:59:59Z.";
    }
    return NULL;
}

const char *condition_value_read(const struct condition *condition, struct slice text,
                                 bool variables, struct arena *arena, struct pattern *out)
{
    compare_fn compare = condition->row->compare;
    bool fixed = compare == address_in || compare == null;
    struct pattern_rules rules = {compare == string_like, variables && !fixed};
    const char *why = check_value(compare, text);
    if (why == NULL)
        why = pattern_compile(text, rules, arena, out);
    return why != NULL ? why : check_order(compare, out);
}

bool condition_holds(const struct condition *condition, const struct policy_values *values,
                     bool unknown)
{
    const struct condition_operator *row = condition->row;
    struct slice text = {0};
    bool there = values->get(values->data, condition->key, &text);
    if (row->compare == null)
        text = there ? SLICE_LITERAL("false") : SLICE_LITERAL("true");
    else if (!there)
        return !condition->for_any && (row->negated || condition->if_exists || condition->for_all);
    for (size_t i = 0; i < condition->value_count; i++) {
        if (row->compare(&condition->values[i], text, values))
            return !row->negated;
        if (row->negated && !pattern_known(&condition->values[i], values))
            return unknown;
    }
    return row->negated;
}
