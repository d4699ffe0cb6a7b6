/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share, and no family outside it sees. thread: loop. */
#ifndef BROKER_API_INTERNAL_H
#define BROKER_API_INTERNAL_H

#include "broker/api/api.h"

#define API_COUNTERS_MAX 1024 /* combinations of family, action and code; a power of two */

/* One row of the request counters. */
struct api_counter {
    const char *family; /* NULL: free */
    const char *action;
    const char *code; /* "" for success */
    uint64_t count;
    uint64_t total_ns;
};

struct api_counters {
    struct api_counter rows[API_COUNTERS_MAX];
    unsigned used;
};

/* api_counters_add: find or make the row. When the table is nearly full (a family that makes up
 * codes) everything new is counted under the code "other". */
void api_counters_add(struct api_counters *counters, const char *family, const char *action,
                      const char *code, uint64_t elapsed_ns);

struct page_guard *api_page_guard(const struct api *api);
const struct api_counters *api_counters(const struct api *api);
uint64_t api_started_ms(const struct api *api);
/* api_ready: requests of every kind would be served (shards_ready). */
bool api_ready(const struct api *api);
/* api_connections: open connections of the public port. */
unsigned api_connections(const struct api *api);
const struct queue_counters *api_queue_counters(const struct api *api);
const struct api_tls *api_tls(const struct api *api);

/* api_node_endpoint: where another node's clients connect, "http://host:port", in the arena; "" for
 * this node, and while it is not known. */
const char *api_node_endpoint(struct api *api, uint64_t node_id, struct arena *arena);

/* metrics_write: the whole of /metrics in Prometheus' text format. */
void metrics_write(struct api *api, struct buffer *out);

/* status_write: the whole of /status as JSON. `elsewhere`: queues of shards that are not here, in
 * name order; at most STATUS_ITEMS_MAX are shown of whatever is listed. */
#define STATUS_ITEMS_MAX 1000
void status_write(struct api *api, const struct queue_view *elsewhere, uint32_t count,
                  struct buffer *out);

#endif
