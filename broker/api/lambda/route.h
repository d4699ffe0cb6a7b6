/* SPDX-License-Identifier: Apache-2.0 */
/* From method and path to an action: routes.def as data. thread: any. */
#ifndef BROKER_API_LAMBDA_ROUTE_H
#define BROKER_API_LAMBDA_ROUTE_H

#include "proto/base/arena.h"
#include "proto/base/status.h"

#define ROUTE_LABELS_MAX 3

enum lambda_action {
    LAMBDA_ACTION_NONE,
#define LAMBDA_ACTION(method, path, action, decode, run, bytes_max) LAMBDA_ACTION_##action,
#define LAMBDA_MISSING(method, path, action)
#include "broker/api/lambda/routes.def"
#undef LAMBDA_ACTION
#undef LAMBDA_MISSING
};

struct route {
    const char *method;
    const char *path;
    const char *name;          /* "CreateFunction" */
    enum lambda_action action; /* LAMBDA_ACTION_NONE: not here yet */
    size_t body_bytes_max;
};

/* route_find: the row for a request.
 *   labels  what stood for each "{}", percent-decoded, in the arena; absent past the last
 *   errors  NOT_FOUND (no such path), UNSUPPORTED (another method would do: *out is such a row),
 *           INVALID (a bad percent escape) */
MUST_CHECK enum status route_find(struct slice method, struct slice path, struct arena *arena,
                                  const struct route **out, struct slice labels[ROUTE_LABELS_MAX]);

/* route_is_lambda: does the path begin with a date, as all of Lambda's do: /2015-03-31/... */
bool route_is_lambda(struct slice path);

/* query_next: walk `query`, moving it on; name and value are percent-decoded into the arena.
 *   returns  false at the end; a part with a bad escape is skipped */
bool query_next(struct slice *query, struct arena *arena, struct slice *name, struct slice *value);

/* query_get: the value of the first parameter of that name; absent if there is none. */
struct slice query_get(struct slice query, struct arena *arena, const char *name);

#endif
