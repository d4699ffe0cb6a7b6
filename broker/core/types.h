/* SPDX-License-Identifier: Apache-2.0 */
/* The values that the core and everything above it share. */
#ifndef BROKER_CORE_TYPES_H
#define BROKER_CORE_TYPES_H

#include "proto/base/slice.h"

/* Where the bytes of a message or of a piece of function code are: in the payload of the Raft entry
 * `index`, `length` bytes from `offset`. Written once, never copied into a second store. */
struct body_ref {
    uint64_t index;
    uint32_t offset;
    uint32_t length;
};

/* "Not given", for fields where 0 means something. */
#define CORE_DEFAULT UINT32_MAX

/* What the core itself acts on; everything else that a user sets is in `extras`. */
struct queue_settings {
    uint32_t delay_s;           /* 0..900 */
    uint32_t message_bytes_max; /* 1024..1048576 */
    uint32_t retention_s;       /* 60..1209600 */
    uint32_t receive_wait_s;    /* 0..20; kept here, used by the API */
    uint32_t visibility_s;      /* 0..43200 */
    uint32_t receive_count_max; /* of the redrive policy; 0 = none */
    bool fifo;                  /* fixed when the queue is created */
    bool content_based_dedup;   /* kept here, used by the API, which makes the dedup ids */
    bool dedup_per_group;       /* a dedup id is one of its message group, not of the queue */
    bool throughput_per_group;  /* only stored: nothing is throttled */
    struct slice dead_letter;   /* name of the dead-letter queue; empty = none */
    struct slice extras;        /* attributes that are only stored and echoed: a JSON object */
};

/* One leased message, as a receive hands it out. */
struct core_message {
    struct body_ref body; /* the record (broker/core/record.h) */
    uint64_t seq;         /* identity within the queue, never reused */
    uint64_t sent_ms;     /* original enqueue time, kept across a redrive */
    uint64_t first_receive_ms;
    uint64_t visible_at_ms;   /* when the lease ends */
    uint32_t receive_count;   /* in this queue: with `seq` it names the lease */
    uint32_t received_before; /* how often in the queues that it was redriven from */
    uint64_t source_queue_id; /* the queue that it was redriven from; 0 = none */
};

/* Identifies one lease of one message: what a receipt handle carries. */
struct core_lease {
    uint64_t seq;
    uint32_t receive_count; /* of the receive that made it; a later receive makes it stale */
};

/* Counters of a function, in its own units; deltas travel in commands, totals live in the core. */
struct usage {
    uint64_t invocations;
    uint64_t errors; /* handled and unhandled errors, timeouts and crashes */
    uint64_t timeouts;
    uint64_t throttles;
    uint64_t cold_starts;
    uint64_t duration_us;
    uint64_t billed_ms;
    uint64_t billed_mb_ms; /* memory size x billed duration: GB-seconds = this / 1024 / 1000 */
};

/* What one function used for the queues of one shard. */
struct tally {
    uint64_t function_id; /* core_function_id */
    struct usage usage;
};

#endif
