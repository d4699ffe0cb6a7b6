/* SPDX-License-Identifier: Apache-2.0 */
/* What the three batch actions share, and their single forms too: a single action is a batch of one
 * whose error is the call's. thread: loop. */
#ifndef BROKER_API_SQS_BATCH_H
#define BROKER_API_SQS_BATCH_H

#include "broker/api/sqs/call.h"
#include "broker/core/record.h"

struct batch_entry {
    struct slice id;
    struct sqs_error error; /* code SQS_OK: no error so far */
    uint32_t command;       /* its place among the call's commands, if there is no error */
};

struct batch {
    struct batch_entry *entries; /* in the call's arena */
    uint32_t count;
    bool single;
};

/* batch_begin: check the entries' number and ids, and begin a batch of them. `list` holds structs
 * whose first field is the id; `entry_name` is their name in errors. False: the call was answered.
 */
MUST_CHECK bool batch_begin(struct sqs_call *call, const struct sqs_list *list, size_t entry_bytes,
                            const char *entry_name, struct batch *batch);

/* batch_single: a batch of one without an id. */
void batch_single(struct sqs_call *call, struct batch *batch);

/* batch_add_command: the command of entry `i`. */
void batch_add_command(struct sqs_call *call, struct batch *batch, uint32_t i,
                       const struct command *command);

/* batch_add_send: likewise, a SEND and its record (shard_call_send). */
void batch_add_send(struct sqs_call *call, struct batch *batch, uint32_t i,
                    const struct command *send, struct record *record);

/* batch_failed: the entries with an error, as a result's list of struct sqs_failed_entry. */
void batch_failed(struct sqs_call *call, const struct batch *batch, struct sqs_list *out);

#endif
