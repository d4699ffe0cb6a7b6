/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as Lambda's clients know them.
 *
 * An SDK finds the exception's class in the header x-amzn-ErrorType and its text in the body, in
 * "Message" or "message": which one differs by shape in AWS's model, so it is a column of
 * errors.def. Texts quote what the client sent, and that may be any bytes: a quoted value is cut
 * (SHOWN), and bytes that are no UTF-8 become '?', so that the body is always good JSON. */
#include "broker/api/lambda/failure.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

#include <jansson.h>
#include <stdio.h>

struct error_row {
    const char *code;
    int status;
    const char *fault;
    const char *member;
};
static const struct error_row rows[] = {
    [LAMBDA_OK] = {NULL, 200, NULL, NULL},
#define LAMBDA_ERROR(name, code, status, fault, member)                                            \
    [LAMBDA_##name] = {code, status, fault, member},
#include "broker/api/lambda/errors.def"
#undef LAMBDA_ERROR
};

static void replace_bad_bytes(char *text, size_t length)
{
    if (utf8_valid(slice_make(text, length))) {
        return;
    }
    for (size_t i = 0; i < length; i++) {
        text[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    }
}

bool failure_set(struct failure *failure, struct arena *arena, enum lambda_error error,
                 const char *format, ...)
{
    ASSERT(error != LAMBDA_OK);
    if (failure->error != LAMBDA_OK) {
        return false;
    }
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    ASSERT(length >= 0);
    char *text = arena_alloc(arena, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
    replace_bad_bytes(text, (size_t)length);
    failure->error = error;
    failure->text = text;
    return false;
}

const char *failure_code(enum lambda_error error)
{
    return rows[error].code;
}

int failure_status(enum lambda_error error)
{
    return rows[error].status;
}

void failure_body(struct buffer *out, const struct failure *failure)
{
    const struct error_row *row = &rows[failure->error];
    json_t *body = json_pack("{s:s, s:s, s:s*}", "Type", row->fault, row->member, failure->text,
                             "Reason", failure->reason);
    char *text = json_dumps(body, JSON_COMPACT);
    ASSERT(text != NULL);
    buffer_add_text(out, text);
    free(text);
    json_decref(body);
}
