/* SPDX-License-Identifier: Apache-2.0 */
/* Asynchronous events: their queue and what a result means for them. thread: loop. */
#ifndef BROKER_DISPATCH_ASYNC_H
#define BROKER_DISPATCH_ASYNC_H

#include "broker/dispatch/settle.h"

/* async_settle: add the command that follows from the run of one event: delete it, or show it again
 * when its retry is due. */
void async_settle(struct settlement *settlement, const struct batch *batch, bool failed);

#endif
