/* SPDX-License-Identifier: Apache-2.0 */
/* Error objects, with AWS Lambda's texts: people's alarms match on them. */
#include "worker/error_object.h"

#include "proto/base/assert.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define TEXT_MAX 1024

void error_object(struct buffer *out, const char *type, const char *message)
{
    json_t *object = json_pack("{s:s, s:s}", "errorType", type, "errorMessage", message);
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    /* Only text that is no UTF-8 fails; it can come from a broken request id. */
    buffer_add_text(out, text != NULL ? text : "{\"errorType\":\"Runtime.Unknown\"}");
    free(text);
    json_decref(object);
}

void error_object_exit(struct buffer *out, const char *request_id, int wstatus)
{
    char how[128], message[TEXT_MAX];
    if (WIFSIGNALED(wstatus)) {
        snprintf(how, sizeof how, "Runtime exited with error: signal: %s",
                 strsignal(WTERMSIG(wstatus)));
        for (char *at = strrchr(how, ':'); *at != '\0'; at++)
            *at = (char)tolower((unsigned char)*at);
    } else if (WEXITSTATUS(wstatus) != 0) {
        snprintf(how, sizeof how, "Runtime exited with error: exit status %d",
                 WEXITSTATUS(wstatus));
    } else {
        snprintf(how, sizeof how, "Runtime exited without providing a reason");
    }
    snprintf(message, sizeof message, "RequestId: %s Error: %s", request_id, how);
    error_object(out, "Runtime.ExitError", message);
}

void error_object_checked(struct buffer *out, struct slice reported, struct slice type)
{
    json_error_t error;
    json_t *object = reported.length > 0
                         ? json_loadb((const char *)reported.data, reported.length, 0, &error)
                         : NULL;
    if (json_is_object(object)) {
        buffer_add_slice(out, reported);
    } else {
        char name[128];
        snprintf(name, sizeof name, "%.*s", type.length < 100 ? (int)type.length : 100,
                 type.length > 0 ? (const char *)type.data : "");
        error_object(out, name[0] != '\0' ? name : "Runtime.Unknown",
                     "The runtime reported an error that is not a JSON object.");
    }
    json_decref(object);
}
