/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's session with a broker: the one that leads, which any of them names. thread: loop. */
#ifndef WORKER_BROKER_LINK_H
#define WORKER_BROKER_LINK_H

#include "proto/rpc/link.h"
#include "proto/rpc/millrace.pb-c.h"
#include "worker/pool.h"

struct broker_link;

struct broker_address {
    const char *host;
    uint16_t port;
};

struct broker_link_options {
    uv_loop_t *loop;
    const struct broker_address *addresses; /* borrowed */
    size_t address_count;
    struct tls_context *tls;      /* NULL: plain */
    const Millrace__Hello *hello; /* borrowed */
    /* A session has begun: numbers grow, no two are alike. The endpoint, region in it are borrowed.
     */
    void (*on_welcome)(void *data, uint64_t session, const Millrace__Welcome *welcome);
    void (*on_lost)(void *data, uint64_t session);
    void (*on_assign)(void *data, uint64_t session, Millrace__Assign *order); /* takes it */
    void (*on_cancel)(void *data, uint64_t lease_id); /* of this session or an earlier one */
    void (*on_code_piece)(void *data, const Millrace__CodePiece *piece);
    void *data;
};
/* broker_link_open: begin to connect; it goes on for ever, with growing pauses. */
struct broker_link *broker_link_open(const struct broker_link_options *options);
void broker_link_close(struct broker_link *link, void (*closed)(void *data), void *data);

/* broker_link_send: CLOSED when there is no session, or `session` is not it (0: whichever). */
MUST_CHECK enum status broker_link_send(struct broker_link *link, uint64_t session, uint16_t type,
                                        const ProtobufCMessage *message);

#endif
