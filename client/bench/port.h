/* SPDX-License-Identifier: Apache-2.0 */
/* A port: how the bench talks to brokers, natively or over HTTP, with the same few calls.
 * thread: one. Callbacks come from `run` only. */
#ifndef CLIENT_BENCH_PORT_H
#define CLIENT_BENCH_PORT_H

#include "proto/base/slice.h"
#include "proto/base/status.h"

#define PORT_BATCH_MAX    10
#define PORT_HANDLE_BYTES 256
#define PORT_WHY_BYTES    512

enum port_kind { PORT_CREATE, PORT_DESTROY, PORT_COUNT, PORT_SEND, PORT_RECEIVE, PORT_DELETE };

enum port_end {
    PORT_DONE,
    PORT_REFUSED, /* not done, for certain */
    PORT_UNKNOWN, /* perhaps done: the connection ended first */
};

struct port_item {
    struct slice body;   /* SEND: borrowed until done; RECEIVE: valid during the callback */
    struct slice handle; /* DELETE and RECEIVE likewise */
    struct slice group_id, deduplication_id; /* SEND to a FIFO queue; else absent */
};

/* The caller's memory, alive until `done` runs. */
struct port_call {
    enum port_kind kind;
    const char *queue;
    bool fifo;               /* CREATE */
    uint32_t count;          /* of items sent or deleted; RECEIVE: at most, then as many as came */
    uint32_t wait_s;         /* RECEIVE */
    struct slice attempt_id; /* RECEIVE from a FIFO queue: what finds it again; else absent */
    struct port_item items[PORT_BATCH_MAX];
    void (*done)(struct port_call *call);
    void *data;
    /* how it ended */
    enum port_end end;
    uint32_t failed;        /* SEND and DELETE that are DONE: bit i is set if item i was refused */
    uint64_t visible;       /* COUNT */
    char why[160];          /* of a refusal */
    struct port_call *next; /* the port's */
};

struct port;
struct port_ops {
    void (*call)(struct port *port, struct port_call *call);
    /* send, receive and call back; returns when something was called back or the time is over */
    uint32_t (*run)(struct port *port, uint32_t timeout_ms);
    int (*fd)(const struct port *port); /* readable when run(0) has something to do */
    void (*close)(struct port *port);
};
struct port {
    const struct port_ops *ops;
};

/* Whose calls they are, and how brokers are to be trusted; as in client/channel.h. HTTP is signed
 * and not encrypted. */
struct port_access {
    const char *access_key_id, *secret_access_key, *region;
    const char *ca_file, *certificate_file, *key_file;
};

/* port_native: `brokers` are RPC addresses. port_http: `endpoints` are http:// URLs, both separated
 * by commas; HTTP uses `connections`, with one call at a time on each. `access` is borrowed.
 * errors: INVALID (no such list), else why it cannot be reached, in words in `why` */
MUST_CHECK enum status port_native(struct port **out, const char *brokers,
                                   const struct port_access *access, char why[PORT_WHY_BYTES]);
MUST_CHECK enum status port_http(struct port **out, const char *endpoints, uint32_t connections,
                                 const struct port_access *access, char why[PORT_WHY_BYTES]);

/* port_wait: run with a finer clock: return after a callback or `timeout_us`. */
void port_wait(struct port *port, uint64_t timeout_us);

/* port_call_now: make one call and run the port until it has ended. */
void port_call_now(struct port *port, struct port_call *call);

#endif
