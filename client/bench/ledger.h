/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of a run: what became of each message, by its number. From it comes whether anything
 * was lost, delivered twice, or delivered out of its group's order. thread: any, one at a time. */
#ifndef CLIENT_BENCH_LEDGER_H
#define CLIENT_BENCH_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

struct ledger {
    uint8_t *rows; /* by number */
    uint64_t capacity;
    uint64_t sent, acked, received; /* different messages */
    uint64_t duplicates, corrupt, disordered;
    uint64_t
        *group_last; /* 1 + the highest number received, by group; NULL: no order is promised */
    uint32_t group_count;
};

/* ledger_init: `groups` > 0: number modulo groups is a message's group, and each is in order. */
void ledger_init(struct ledger *ledger, uint32_t groups);
void ledger_free(struct ledger *ledger);

/* ledger_send: a number for a new message. ledger_ack: the broker promised to keep it. */
uint64_t ledger_send(struct ledger *ledger);
void ledger_ack(struct ledger *ledger, uint64_t number);

/* ledger_receive: it was delivered. False if it was before (a duplicate). A number that was never
 * sent counts as corrupt. */
bool ledger_receive(struct ledger *ledger, uint64_t number);

/* ledger_lost: promised and not delivered. */
uint64_t ledger_lost(const struct ledger *ledger);

#endif
