/* SPDX-License-Identifier: Apache-2.0 */
/* A worker, whole: session, code, environments. main.c gives it options and signals. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "worker/broker_link.h"
#include "worker/pool.h"

struct worker;

struct worker_options {
    uv_loop_t *loop;
    struct launcher *launcher; /* borrowed, as are all pointers here, until `closed` */
    const struct isolation *isolation;
    const struct runtimes *runtimes;
    const struct broker_address *addresses;
    size_t address_count;
    struct tls_context *tls; /* for the brokers; NULL: plain */
    const char *data_dir;    /* absolute, without links; exists */
    uint64_t memory_bytes;
    uint32_t environments_max;
    uint32_t keep_alive_ms;
    uint32_t init_timeout_ms; /* Lambda's is 10 s */
    uint64_t code_bytes_max;
};

/* worker_open: lock the data folder, make its parts, begin to connect.
 *   errors: LOCKED (another worker has it), PERMISSION, IO_ERROR and others of the file system */
MUST_CHECK enum status worker_open(struct worker **out, const struct worker_options *options);

/* worker_drain: tell the broker to assign nothing more; when nothing runs any more, or after
 * `grace_ms`, close everything and call back. A grace of 0 after an earlier call ends the wait. */
void worker_drain(struct worker *worker, uint32_t grace_ms, void (*closed)(void *data), void *data);

#endif
