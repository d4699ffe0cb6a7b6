/* SPDX-License-Identifier: Apache-2.0 */
/* The error objects that Invoke returns for failures that the function did not report itself. */
#ifndef WORKER_ERROR_OBJECT_H
#define WORKER_ERROR_OBJECT_H

#include "proto/base/buffer.h"

/* error_object: {"errorType":...,"errorMessage":...}; the texts are escaped. */
void error_object(struct buffer *out, const char *type, const char *message);

/* error_object_exit: how a runtime's end reads to a person: "exit status 3", "signal: killed". */
void error_object_exit(struct buffer *out, const char *request_id, int wstatus);

/* error_object_checked: what a runtime reported, if it is a JSON object, else one that says so. */
void error_object_checked(struct buffer *out, struct slice reported, struct slice type);

#endif
