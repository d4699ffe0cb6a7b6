/* SPDX-License-Identifier: Apache-2.0 */
/* How the families below /admin answer: JSON, never to be cached, an error's code in the header
 * that AWS's clients look at. thread: loop. */
#ifndef BROKER_API_ADMIN_ANSWER_H
#define BROKER_API_ADMIN_ANSWER_H

#include "broker/api/api.h"

#include <jansson.h>

/* The request that is answered, and how it is counted. */
struct admin_answer {
    struct api *api;
    struct http_request *request; /* NULL: the client has gone, and nothing is sent or counted */
    const char *family;           /* of api_count */
    const char *action;
    uint64_t started_ns;
};

/* admin_answer_bytes: with a body of another type, which is emptied. admin_answer_json: with
 * `body`, which is given away; NULL: none. `code`: of an error; NULL: it is none.
 * admin_error: {"Type": "User" or "Server", "Message": ...}, as AWS has it. */
void admin_answer_bytes(const struct admin_answer *answer, int status, const char *type,
                        const char *code, struct buffer *body);
void admin_answer_json(const struct admin_answer *answer, int status, const char *code,
                       json_t *body);
json_t *admin_error(int status, const char *message);

#endif
