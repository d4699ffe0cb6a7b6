/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the answer of a function that reports which messages of its batch failed
 * (ReportBatchItemFailures). thread: any. */
#ifndef BROKER_DISPATCH_ITEM_FAILURES_H
#define BROKER_DISPATCH_ITEM_FAILURES_H

#include "proto/base/encode.h"

#include <stdbool.h>

/* item_failures_read: set failed[i] for each message of the batch that the answer names.
 *   ids      the batch's message ids, `count` of them
 *   failed   caller's array of `count`
 *   returns  false when the whole batch counts as failed (every failed[i] is true then): the answer
 *            is no JSON, names an id that is not in the batch, or lacks one */
bool item_failures_read(struct slice answer, const uint8_t (*ids)[UUID_BYTES], uint32_t count,
                        bool *failed);

#endif
