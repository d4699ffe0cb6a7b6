/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds that the core itself keeps, apart from those in command.h. Private to broker/core. */
#ifndef BROKER_CORE_LIMITS_H
#define BROKER_CORE_LIMITS_H

#include <stdint.h>

#define SECOND_MS 1000u

/* Later than any honest clock, and small enough that no sum of a time and a duration overflows. */
#define TIME_MS_MAX      ((UINT64_C(1) << 48) - 1)

#define DELAY_S_MAX      900u
#define VISIBILITY_S_MAX 43200u
#define RETENTION_S_MIN  60u
#define RETENTION_S_MAX  1209600u

/* A lease, with all its extensions, counted from its receive. */
#define LEASE_MS_MAX (VISIBILITY_S_MAX * SECOND_MS)

/* Per queue; a receive beyond it is refused (SQS: OverLimit). */
#define IN_FLIGHT_MAX 120000u

/* FIFO queues: how long a dedup id or a receive attempt id counts, and how much longer it may be
 * kept so that many are dropped at once. */
#define DEDUP_WINDOW_MS (300u * SECOND_MS)
#define DEDUP_SLACK_MS  (10u * SECOND_MS)

/* Attempt ids kept per queue; the oldest goes first. */
#define ATTEMPTS_MAX 1000u

/* Fair queues: a group with this many messages in flight and more than a tenth of the queue's is
 * served after the others. */
#define NOISY_IN_FLIGHT_MIN 30u
#define NOISY_SHARE         10u

/* Messages that one entry drops of purged or deleted queues, expires, shows when they are due, or
 * that one receive redrives: so that no entry takes long. */
#define STEP_MESSAGES 10000u
#define GRAVES_A_SEND 2u /* dropped by each, while there are any: grave.c, I3 */

/* Messages that a move takes at a time, moves remembered per queue. */
#define MOVE_STEP_MESSAGES 1000u
#define MOVES_KEPT         10u

/* Transfers to another shard carry numbers that follow core time in these units of a millisecond
 * (outbox.c), so they fit 63 bits. */
#define TRANSFER_SHIFT      15
#define TRANSFER_NUMBER_MAX (UINT64_MAX / 2)

/* Messages that wait for another shard to take them: beyond the first none is redriven there,
 * beyond the second moves wait. */
#define OUTBOX_REDRIVE_MAX 100000u
#define OUTBOX_MOVE_MAX    10000u

/* How long code may wait for the function that is going to use it. */
#define BLOB_UNUSED_MS (3600u * SECOND_MS)
#define BLOB_BYTES_MAX (256u << 20)

#endif
