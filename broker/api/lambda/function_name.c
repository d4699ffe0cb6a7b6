/* SPDX-License-Identifier: Apache-2.0 */
/* Lambda takes a function's name in four forms (API reference, CreateFunction, FunctionName):
 *
 *     [arn:PARTITION:lambda:][REGION:][ACCOUNT:][function:]NAME[:QUALIFIER]
 *
 * AWS defines them by one regular expression with optional parts. It is read here part by part,
 * from the left: a part that can be the optional one is taken as it, unless nothing would be left
 * to be the name. There are no versions and aliases yet, so $LATEST is the only qualifier that
 * exists. */
#include "broker/api/lambda/function_name.h"

#include <ctype.h>

#define PARTS_MAX 8
#define PATTERN                                                                                    \
    "(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?"    \
    "(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?"

static bool all_of(struct slice s, int (*good)(int))
{
    for (size_t i = 0; i < s.length; i++) {
        if (!good(s.data[i])) {
            return false;
        }
    }
    return s.length > 0;
}

static int name_byte(int c)
{
    return (c < 0x80 && isalnum(c)) || c == '-' || c == '_';
}

static int digit_byte(int c)
{
    return c >= '0' && c <= '9';
}

static int region_byte(int c)
{
    return (c >= 'a' && c <= 'z') || c == '-';
}

/* "us-east-1": lower case letters and dashes, at least two dashes, one digit at the end. */
static bool is_region(struct slice s)
{
    size_t dashes = 0;
    for (size_t i = 0; i < s.length; i++) {
        dashes += s.data[i] == '-';
    }
    return s.length >= 8 && dashes >= 2 && digit_byte(s.data[s.length - 1]) &&
           s.data[s.length - 2] == '-' && all_of(slice_make(s.data, s.length - 1), region_byte);
}

static bool is_account(struct slice s)
{
    return s.length == 12 && all_of(s, digit_byte);
}

static bool is_qualifier(struct slice s)
{
    return slice_is(s, "$LATEST") || all_of(s, name_byte);
}

/* Count of the parts between colons, or 0 when there are more than any form has. */
static size_t split(struct slice text, struct slice parts[PARTS_MAX])
{
    size_t count = 0;
    for (;;) {
        if (count == PARTS_MAX) {
            return 0;
        }
        ptrdiff_t colon = slice_find(text, ':');
        if (colon < 0) {
            parts[count++] = text;
            return count;
        }
        parts[count++] = slice_make(text.data, (size_t)colon);
        text = slice_sub(text, (size_t)colon + 1);
    }
}

bool function_name_parse(struct slice text, struct function_name *out)
{
    struct slice parts[PARTS_MAX];
    *out = (struct function_name){0};
    size_t count = text.length <= FUNCTION_ARN_BYTES_MAX ? split(text, parts) : 0;
    size_t at = 0;
    if (count > 3 && slice_is(parts[0], "arn") && slice_starts_with(parts[1], "aws") &&
        slice_is(parts[2], "lambda")) {
        at = 3;
    }
    if (at + 1 < count && is_region(parts[at])) {
        out->region = parts[at++];
    }
    if (at + 1 < count && is_account(parts[at])) {
        out->account = parts[at++];
    }
    if (at + 1 < count && slice_is(parts[at], "function")) {
        at++;
    }
    if (at >= count || count - at > 2) {
        return false;
    }
    out->name = parts[at];
    if (at + 1 < count) {
        out->qualifier = parts[at + 1];
    }
    return out->name.length <= FUNCTION_NAME_BYTES_MAX && all_of(out->name, name_byte) &&
           (out->qualifier.data == NULL || is_qualifier(out->qualifier));
}

bool function_name_refuse(struct slice text, struct arena *arena, struct failure *failure)
{
    if (text.data == NULL) {
        return failure_set(failure, arena, LAMBDA_VALIDATION,
                           "1 validation error detected: Value null at 'functionName' failed to "
                           "satisfy constraint: Member must not be null");
    }
    size_t limit = slice_find(text, ':') < 0 ? FUNCTION_NAME_BYTES_MAX : 140;
    if (text.length > limit) {
        return failure_set(failure, arena, LAMBDA_VALIDATION,
                           "1 validation error detected: Value '%.*s' at 'functionName' failed to "
                           "satisfy constraint: Member must have length less than or equal to %zu",
                           SHOWN(text), limit);
    }
    return failure_set(failure, arena, LAMBDA_VALIDATION,
                       "1 validation error detected: Value '%.*s' at 'functionName' failed to "
                       "satisfy constraint: Member must satisfy regular expression pattern: "
                       "" PATTERN,
                       SHOWN(text));
}

static bool check_qualifier(struct slice given, struct function_name *out, struct arena *arena,
                            struct failure *failure)
{
    if (given.length == 0) {
        return true;
    }
    if (given.length > 128 || !is_qualifier(given)) {
        return failure_set(failure, arena, LAMBDA_VALIDATION,
                           "1 validation error detected: Value '%.*s' at 'qualifier' failed to "
                           "satisfy constraint: Member must satisfy regular expression pattern: "
                           "\\$(LATEST(\\.PUBLISHED)?)|[a-zA-Z0-9-_$]+",
                           SHOWN(given));
    }
    if (out->qualifier.data != NULL && !slice_equal(out->qualifier, given)) {
        return failure_set(failure, arena, LAMBDA_PARAMETER,
                           "The derived qualifier from the function name does not match the "
                           "specified qualifier.");
    }
    out->qualifier = given;
    return true;
}

bool function_name_read(struct slice text, struct slice qualifier, const char *region,
                        const char *account, struct arena *arena, struct failure *failure,
                        struct function_name *out)
{
    if (!function_name_parse(text, out)) {
        return function_name_refuse(text, arena, failure);
    }
    if (!check_qualifier(qualifier, out, arena, failure)) {
        return false;
    }
    if (out->region.data != NULL && !slice_is(out->region, region)) {
        return failure_set(failure, arena, LAMBDA_NOT_FOUND,
                           "Functions from '%.*s' are not reachable in this region ('%s')",
                           SHOWN(out->region), region);
    }
    bool here = out->account.data == NULL || slice_is(out->account, account);
    if (here && (out->qualifier.data == NULL || slice_is(out->qualifier, "$LATEST"))) {
        return true;
    }
    struct slice owner = here ? slice_of(account) : out->account;
    return failure_set(failure, arena, LAMBDA_NOT_FOUND,
                       "Function not found: arn:aws:lambda:%s:%.*s:function:%.*s%s%.*s", region,
                       SHOWN(owner), SHOWN(out->name), out->qualifier.data != NULL ? ":" : "",
                       SHOWN(out->qualifier));
}
