/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on a node that does not lead wait until it has seen all that was answered anywhere
 * before they came: so a queue that was created through one node is there on the next. While there
 * is no leader they wait for one. thread: loop. */
#ifndef BROKER_API_FRESH_H
#define BROKER_API_FRESH_H

#include "broker/api/api.h"

struct fresh;

/* fresh_wait: hand `request` to `go` when this node is up to date, or nobody will tell it so: then
 * it is for the family to look at shard_ready. `list` holds those that wait. */
void fresh_wait(struct fresh **list, struct api *api, struct http_request *request,
                void (*go)(struct api *api, struct http_request *request));

/* fresh_abort: the client of a request that waits has gone; false if it does not wait. */
bool fresh_abort(struct fresh *list, const struct http_request *request);

/* fresh_detach: the requests and the api go; the shard still has questions of theirs. */
void fresh_detach(struct fresh **list);

#endif
