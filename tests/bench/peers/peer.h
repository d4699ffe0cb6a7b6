/* SPDX-License-Identifier: Apache-2.0 */
/* Other brokers behind the bench's port, so that they are measured by the same engine with the same
 * bodies, ledger and histograms. One queue, one connection that sends and one that receives.
 * thread: one. */
#ifndef TESTS_BENCH_PEERS_PEER_H
#define TESTS_BENCH_PEERS_PEER_H

#include "client/bench/port.h"
#include "proto/base/buffer.h"

#define PEER_PREFETCH 512

/* What was delivered and not yet asked for, and the receives that wait for it. */
struct delivery {
    struct delivery *next;
    uint32_t body_bytes;
    uint32_t handle_bytes;
    uint8_t bytes[]; /* body, handle */
};
struct inbox {
    struct delivery *first, *last;
    struct port_call *waiting_first, *waiting_last;
    uint64_t wait_until_ns; /* of those that wait */
};

/* inbox_put: something came. inbox_wait: a RECEIVE call waits. inbox_serve: end the receives that
 * can be served, and those whose time is over; how many. */
void inbox_put(struct inbox *inbox, struct slice body, struct slice handle);
void inbox_wait(struct inbox *inbox, struct port_call *call);
uint32_t inbox_serve(struct inbox *inbox);
void inbox_free(struct inbox *inbox);

/* Sends in the order in which they will be acknowledged, by number from 1. */
struct unacked {
    struct port_call **calls; /* by number & mask */
    uint64_t next, low;
    uint64_t mask;
};
void unacked_init(struct unacked *u);
void unacked_free(struct unacked *u);
uint64_t unacked_add(struct unacked *u, struct port_call *call);
/* unacked_end: the call of `number`, taken out; NULL if it was before. */
struct port_call *unacked_end(struct unacked *u, uint64_t number);

/* peer_done: end a call. */
void peer_done(struct port_call *call, enum port_end end, const char *why);

/* peer_connect: a TCP connection to "HOST:PORT" without delays; -1 if there is none. */
int peer_connect(const char *address);

/* peer_first: the first of "HOST:PORT,HOST:PORT" into `out`. */
void peer_first(const char *hosts, char *out, size_t size);

struct port *rabbit_port(const char *hosts);
struct port *nats_port(const char *hosts, unsigned replicas);
struct port *redis_port(const char *hosts);

#endif
