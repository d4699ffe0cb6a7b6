/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/api/fresh.h"

#include "proto/base/assert.h"

#include <stdlib.h>
#include <utlist.h>

struct fresh {
    struct fresh **list;
    struct api *api;
    struct http_request *request; /* NULL: its client has gone */
    void (*go)(struct api *api, struct http_request *request);
    struct fresh *prev;
    struct fresh *next;
};

static void on_synced(void *data, enum status status)
{
    struct fresh *fresh = data;
    (void)status;
    if (fresh->list != NULL)
        DL_DELETE(*fresh->list, fresh);
    if (fresh->request != NULL)
        fresh->go(fresh->api, fresh->request);
    free(fresh);
}

bool fresh_wait(struct fresh **list, struct api *api, const struct shard_set *set,
                struct http_request *request,
                void (*go)(struct api *api, struct http_request *request))
{
    if (shard_set_led(set, api_shards(api)))
        return false;
    struct fresh *fresh = calloc(1, sizeof *fresh);
    ASSERT(fresh != NULL);
    fresh->list = list;
    fresh->api = api;
    fresh->request = request;
    fresh->go = go;
    if (!shard_set_sync(set, api_shards(api), request->arrived_ms, on_synced, fresh)) {
        free(fresh);
        return false;
    }
    DL_APPEND(*list, fresh);
    return true;
}

bool fresh_abort(struct fresh *list, const struct http_request *request)
{
    struct fresh *fresh;
    DL_FOREACH(list, fresh)
    {
        if (fresh->request == request) {
            fresh->request = NULL;
            return true;
        }
    }
    return false;
}

void fresh_detach(struct fresh **list)
{
    struct fresh *fresh;
    DL_FOREACH(*list, fresh)
    {
        fresh->request = NULL;
        fresh->list = NULL;
    }
    *list = NULL;
}
