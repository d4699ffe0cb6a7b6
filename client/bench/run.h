/* SPDX-License-Identifier: Apache-2.0 */
/* One phase of a bench: messages sent, received and deleted over a port, measured and accounted
 * for. thread: one. */
#ifndef CLIENT_BENCH_RUN_H
#define CLIENT_BENCH_RUN_H

#include "client/bench/histogram.h"
#include "client/bench/ledger.h"
#include "client/bench/port.h"
#include "client/bench/process.h"

/* What stays the same over the phases of a bench. */
struct run_setup {
    struct port *port;
    struct ledger *ledger;
    const char *const *queues;
    uint32_t queue_count;
    uint32_t size;      /* of a body */
    uint32_t inflight;  /* messages sent and not answered */
    uint32_t batch;     /* messages in one call, 1..PORT_BATCH_MAX */
    uint32_t receivers; /* receives that wait at once */
    uint32_t groups;    /* > 0: FIFO queues, and so many message groups */
    uint32_t run_id;
    bool resend; /* what was refused or is unknown is sent again */
    struct processes servers;
};

struct phase {
    const char *name; /* for the progress line */
    bool send, receive;
    uint64_t messages_max; /* to send; 0 = no limit */
    uint64_t ns_max;       /* to send for; 0 = no limit */
    uint32_t rate;         /* messages per second, on a schedule; 0 = as fast as it goes */
    int kill_pid;          /* SIGKILL it when half of ns_max is over; 0 = nobody */
};

struct phase_result {
    uint64_t messages;   /* acknowledged sends, or deletes when the phase receives */
    uint64_t elapsed_ns; /* from the first call to the last answer */
    uint64_t errors;     /* calls that did not end well, or items refused */
    uint64_t client_cpu_us, server_cpu_us;
    uint64_t server_rss_bytes;  /* the highest that was seen */
    uint64_t longest_gap_ns;    /* between two acknowledgements of sends */
    struct histogram acked;     /* from when a send was due to its acknowledgement */
    struct histogram delivered; /* from when a send was due to its receipt */
    char why[160];              /* the first error */
};

/* run_phase: run it to its end: everything sent is answered, and, when it receives, everything that
 * was acknowledged was received, or nothing has come for a while. */
void run_phase(const struct run_setup *setup, const struct phase *phase, struct phase_result *out);

#endif
