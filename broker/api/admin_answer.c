/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/api/admin_answer.h"

#include <stdlib.h>

void admin_answer_bytes(const struct admin_answer *answer, int status, const char *type,
                        const char *code, struct buffer *body)
{
    const struct http_header headers[] = {
        {SLICE_LITERAL("Content-Type"), slice_of(type)},
        {SLICE_LITERAL("Cache-Control"), SLICE_LITERAL("no-store")},
        {SLICE_LITERAL("x-amzn-ErrorType"), slice_of(code)},
    };
    if (answer->request != NULL) {
        api_count(answer->api, answer->family, answer->action, code, answer->started_ns);
        answer->request->data = NULL;
        http_respond(answer->request, status, headers, code != NULL ? 3 : 2, body);
    }
    buffer_free(body);
}

void admin_answer_json(const struct admin_answer *answer, int status, const char *code,
                       json_t *body)
{
    struct buffer text = {0};
    char *json = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    if (json != NULL)
        buffer_add_text(&text, json);
    free(json);
    json_decref(body);
    admin_answer_bytes(answer, status, "application/json", code, &text);
}

json_t *admin_error(int status, const char *message)
{
    return json_pack("{s:s, s:s}", "Type", status < 500 ? "User" : "Server", "Message", message);
}
