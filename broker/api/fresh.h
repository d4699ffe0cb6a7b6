/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that read a shard which another node leads wait until this one has seen all that was
 * answered anywhere before they came: so a key that was made through one node is there on the next.
 * While there is no leader they wait for one. thread: loop. */
#ifndef BROKER_API_FRESH_H
#define BROKER_API_FRESH_H

#include "broker/api/api.h"
#include "broker/shards/set.h"

struct fresh;

/* A call has one deadline, whatever it waits for: this time counts from the request's arrival, and
 * so does the shard's for what the family proposes then (since_ms in broker/replication/shard.h).
 *
 * fresh_wait: hand `request` to `go` when this node is up to date in the shards of `set`, or nobody
 * will tell it so: then it is for the family to look at shard_ready. `list` holds those that wait.
 *   returns  false: it need not wait, and is left to the caller */
MUST_CHECK bool fresh_wait(struct fresh **list, struct api *api, const struct shard_set *set,
                           struct http_request *request,
                           void (*go)(struct api *api, struct http_request *request));

/* fresh_abort: the client of a request that waits has gone; false if it does not wait. */
bool fresh_abort(struct fresh *list, const struct http_request *request);

/* fresh_detach: the requests and the api go; the shards still have questions of theirs. */
void fresh_detach(struct fresh **list);

#endif
