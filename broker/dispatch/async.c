/* SPDX-License-Identifier: Apache-2.0 */
/* Asynchronous invocation ("Event").
 *
 * An event is a message in a hidden queue of its function, "/async/NAME". The queue gives it what
 * it needs without further code: it is on disk before the caller has its 202, it survives the
 * broker, it is leased while it runs, and its receive count is the number of attempts. A failed
 * attempt shows the message again after the retry delay; the last one deletes it, with a trace. An
 * attempt that a lost worker or a restart cut short counts as one.
 *
 * AWS's defaults ("Asynchronous invocation": two retries, after one and two minutes; events are
 * kept for six hours at most).
 */
#include "broker/dispatch/async.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

static const uint32_t async_retry_s[] = {60, 120};

#define ASYNC_EVENT_AGE_S   21600u
#define ASYNC_MESSAGE_BYTES 1048576u
#define ASYNC_VISIBILITY_S  960u /* only if a lease names none: the longest timeout and a minute */

void async_queue_settings(struct queue_settings *out)
{
    *out = (struct queue_settings){.message_bytes_max = ASYNC_MESSAGE_BYTES,
                                   .retention_s = ASYNC_EVENT_AGE_S,
                                   .visibility_s = ASYNC_VISIBILITY_S,
                                   .extras = SLICE_LITERAL("{}")};
}

void async_settle(struct settlement *settlement, const struct batch *batch, bool failed)
{
    ASSERT(batch->count == 1);
    uint32_t attempt = batch->messages[0].receive_count;
    if (failed && attempt >= 1 && attempt <= ARRAY_COUNT(async_retry_s)) {
        settlement_show(settlement, batch, 0, async_retry_s[attempt - 1]);
        return;
    }
    if (failed) {
        char id[UUID_TEXT_LENGTH + 1];
        uuid_text(batch->ids[0], id);
        trace_warn("dispatch", "event_dropped", "function=%s request=%s attempts=%u",
                   batch->source->function->name, id, attempt);
    }
    settlement_delete(settlement, batch, 0);
}
