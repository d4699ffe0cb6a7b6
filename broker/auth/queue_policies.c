/* SPDX-License-Identifier: Apache-2.0 */
/* Policies of queues, parsed once for each version of a queue. A queue's policy is a text among the
 * attributes that the core only stores (settings.extras). Most queues have none, which is seen
 * without parsing anything. */
#include "broker/auth/internal.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <jansson.h>
#include <stdlib.h>

#define QUEUES_MAX 10000 /* kept; then all are forgotten */

static void entry_free(struct auth *auth, struct queue_policy *entry)
{
    HASH_DELETE(hh, auth->queues, entry);
    policy_free(entry->policy);
    free(entry);
}

void queue_policies_free(struct auth *auth)
{
    struct queue_policy *entry;
    struct queue_policy *next;
    HASH_ITER(hh, auth->queues, entry, next)
    {
        entry_free(auth, entry);
    }
}

/* A version that took any JSON object for a policy may have stored one that says nothing known. */
static void read_policy(struct queue_policy *entry, const struct queue_view *queue)
{
    const char *why = "the attributes are no JSON";
    struct slice extras = queue->settings.extras;
    json_t *object = json_loadb((const char *)extras.data, extras.length, 0, NULL);
    const json_t *text = json_object_get(object, "Policy");
    struct slice json = slice_make(json_string_value(text), json_string_length(text));
    if (object == NULL ||
        (text != NULL && policy_parse(&entry->policy, json, POLICY_RESOURCE, &why) != STATUS_OK)) {
        entry->unreadable = true;
        trace_warn("auth", "queue_policy_unreadable", "queue=%.*s why=\"%s\"",
                   SLICE_ARGS(queue->name), why);
    }
    json_decref(object);
}

const struct queue_policy *queue_policy_of(struct auth *auth, const struct queue_view *queue)
{
    struct slice extras = queue->settings.extras;
    struct queue_policy *entry;
    if (extras.length == 0 || memmem(extras.data, extras.length, "\"Policy\"", 8) == NULL)
        return NULL;
    HASH_FIND(hh, auth->queues, &queue->queue_id, sizeof queue->queue_id, entry);
    if (entry != NULL && entry->version == queue->version)
        return entry;
    if (entry != NULL)
        entry_free(auth, entry);
    if (HASH_COUNT(auth->queues) >= QUEUES_MAX)
        queue_policies_free(auth);
    entry = calloc(1, sizeof *entry);
    ASSERT(entry != NULL);
    entry->queue_id = queue->queue_id;
    entry->version = queue->version;
    read_policy(entry, queue);
    HASH_ADD(hh, auth->queues, queue_id, sizeof entry->queue_id, entry);
    return entry;
}
