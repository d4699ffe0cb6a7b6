/* SPDX-License-Identifier: Apache-2.0 */
/* Settlements: commands that follow from a result, proposed until the shard takes them.
 * thread: loop. */
#ifndef BROKER_DISPATCH_SETTLE_H
#define BROKER_DISPATCH_SETTLE_H

#include "broker/dispatch/internal.h"

/* Built on the stack; ends in settlement_submit. */
struct settlement {
    struct dispatch *dispatch;
    uint32_t shard_id;
    bool once;                /* not worth trying again when the shard does not take it */
    struct settle_call *open; /* private */
};

/* settlement_add: one more command, which does no harm when it is done twice. More than
 * SETTLE_COMMANDS_MAX go out in several calls. settlement_submit: propose what was added. What was
 * not done is tried again on later ticks; when the shard cannot take it at all, messages become
 * visible again by their deadline. */
void settlement_add(struct settlement *settlement, const struct command *command);
void settlement_submit(struct settlement *settlement);

/* settlement_count: one more that must not be done twice, nor the call that it is in. */
void settlement_count(struct settlement *settlement, const struct command *command);

/* settlement_delete, settlement_show: delete a message if its lease still is the current one; make
 * it visible again after `after_s` seconds if its lease has not run out. */
void settlement_delete(struct settlement *settlement, const struct batch *batch, uint32_t i);
void settlement_show(struct settlement *settlement, const struct batch *batch, uint32_t i,
                     uint32_t after_s);

/* settlement_run: count the run that ended so (usage.c). */
void settlement_run(struct settlement *settlement, const struct assignment *assignment,
                    const Millrace__Result *result);

#endif
