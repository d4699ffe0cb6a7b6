/* SPDX-License-Identifier: Apache-2.0 */
/* Claims of this worker: a short list, as an assignment is an environment.
 *
 *     claims_add ──> running ──result sent──> forgotten
 *                       └──no session──> ended, result kept ──shown and sent, or too old──>
 * forgotten
 *
 * I1  kept_bytes is the sum of the kept results, at most CLAIMS_RESULT_BYTES_MAX */
#include "worker/claims.h"

#include "proto/base/assert.h"
#include "proto/base/buffer.h"

#include <stdlib.h>

struct held {
    struct held *next;
    Millrace__Running running; /* owns its function and its claim */
    uint64_t began_ms;
    struct buffer result; /* packed; empty: it runs */
    uint64_t ended_ms;
};

struct claims {
    struct held *first;
    size_t kept_bytes;
};

struct claims *claims_new(void)
{
    struct claims *claims = calloc(1, sizeof *claims);
    ASSERT(claims != NULL);
    return claims;
}

static struct held **find(const struct claims *claims, uint64_t lease_id)
{
    struct held **at = (struct held **)(uintptr_t)&claims->first;
    while (*at != NULL && (*at)->running.lease_id != lease_id)
        at = &(*at)->next;
    return at;
}

static void forget(struct claims *claims, struct held **at)
{
    struct held *held = *at;
    *at = held->next;
    claims->kept_bytes -= held->result.length;
    buffer_free(&held->result);
    free(held->running.function);
    free(held->running.claim.data);
    free(held);
}

void claims_free(struct claims *claims)
{
    while (claims->first != NULL)
        forget(claims, &claims->first);
    free(claims);
}

void claims_add(struct claims *claims, const Millrace__Assign *order, uint64_t now_ms)
{
    if (order->claim.len == 0 || order->function == NULL || claims_has(claims, order->lease_id))
        return;
    struct held *held = calloc(1, sizeof *held);
    ASSERT(held != NULL);
    millrace__running__init(&held->running);
    held->running.lease_id = order->lease_id;
    held->running.function = strdup(order->function->name);
    held->running.revision = order->function->revision;
    held->running.claim.len = order->claim.len;
    held->running.claim.data = malloc(order->claim.len);
    ASSERT(held->running.claim.data != NULL);
    memcpy(held->running.claim.data, order->claim.data, order->claim.len);
    held->began_ms = now_ms;
    held->next = claims->first;
    claims->first = held;
}

bool claims_has(const struct claims *claims, uint64_t lease_id)
{
    return *find(claims, lease_id) != NULL;
}

void claims_sent(struct claims *claims, uint64_t lease_id)
{
    struct held **at = find(claims, lease_id);
    if (*at != NULL)
        forget(claims, at);
}

static void forget_old(struct claims *claims, uint64_t now_ms)
{
    for (struct held **at = &claims->first; *at != NULL;) {
        if ((*at)->result.length > 0 && now_ms - (*at)->ended_ms > CLAIMS_KEEP_MS)
            forget(claims, at);
        else
            at = &(*at)->next;
    }
}

bool claims_keep(struct claims *claims, const Millrace__Result *result, uint64_t now_ms)
{
    forget_old(claims, now_ms);
    struct held **at = find(claims, result->lease_id);
    size_t bytes = millrace__result__get_packed_size(result);
    if (*at == NULL || (*at)->result.length > 0)
        return false;
    if (bytes == 0 || claims->kept_bytes + bytes > CLAIMS_RESULT_BYTES_MAX) { /* I1 */
        forget(claims, at);
        return false;
    }
    struct held *held = *at;
    millrace__result__pack(result, buffer_reserve(&held->result, bytes));
    buffer_added(&held->result, bytes);
    held->ended_ms = now_ms;
    claims->kept_bytes += bytes;
    return true;
}

static bool send_kept(const struct held *held,
                      bool (*send)(void *data, uint16_t type, const ProtobufCMessage *message),
                      void *data)
{
    Millrace__Result *result =
        millrace__result__unpack(NULL, held->result.length, held->result.data);
    ASSERT(result != NULL); /* it was packed here */
    bool sent = send(data, MILLRACE__TYPE__TYPE_RESULT, &result->base);
    millrace__result__free_unpacked(result, NULL);
    return sent;
}

void claims_show(struct claims *claims, uint64_t now_ms,
                 bool (*send)(void *data, uint16_t type, const ProtobufCMessage *message),
                 void *data)
{
    forget_old(claims, now_ms);
    for (struct held **at = &claims->first; *at != NULL;) {
        struct held *held = *at;
        held->running.elapsed_ms = now_ms - held->began_ms;
        if (!send(data, MILLRACE__TYPE__TYPE_RUNNING, &held->running.base))
            return;
        if (held->result.length > 0) {
            if (!send_kept(held, send, data))
                return;
            forget(claims, at);
        } else {
            at = &held->next;
        }
    }
}
