/* SPDX-License-Identifier: Apache-2.0 */
/* What two nodes tell each other before anything else, and what they refuse. Pure: no sockets.
 *
 * The payload of a HELLO frame, all integers little-endian:
 *     OFFSET SIZE  MEANING
 *     0      4     "MLRP"
 *     4      2     lowest protocol version that the sender speaks
 *     6      2     highest
 *     8      4     feature level of the sender's program
 *     12     4     lowest feature level that it can work with
 *     16     16    cluster id; zeros: none yet (a node that joins)
 *     32     16    data id: random, made with the data directory; zeros: not told
 *     48     8     node id, > 0
 *     56     8     id of the node that is meant, > 0
 *     64     8     boot: random, of this run of the process
 *     72     8     wall clock, milliseconds since 1970
 *     80     8     founders: digest of the members that the cluster was to begin with, as the
 *                  sender was told; 0: it joined later
 *     88     2+n   the address that other nodes dial, HOST:PORT
 *            2+n   the address for clients (HTTP), empty: not told
 *            2+n   the address for workers (RPC), empty: not told
 *            2+n   the version of the program, for people; this and the next may be missing
 *            4     feature level in force in the cluster; 0: not known
 * Later versions add fields at the end; what is not known there is skipped. The payload of a
 * REFUSED frame:
 *     0      1     the number in refusal.def
 *     1      8     id of the node that refuses
 *     9      4     its feature level; this and the next may be missing
 *     13     4     lowest feature level that it can work with */
#ifndef BROKER_PEER_HANDSHAKE_H
#define BROKER_PEER_HANDSHAKE_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#define HELLO_BYTES_MAX   1024u
#define HELLO_ADDRESS_MAX 255u
#define HELLO_VERSION_MAX 64u
#define REFUSED_BYTES     17u
#define PEER_ID_BYTES     16u
#define PEER_VERSION_MIN  1u
#define PEER_VERSION_MAX  1u

enum refusal {
#define REFUSAL(name, number, text) REFUSAL_##name = (number),
#include "broker/peer/refusal.def"
#undef REFUSAL
};

struct hello {
    uint16_t version_min, version_max;
    uint32_t feature_level, feature_level_min;
    uint8_t cluster_id[PEER_ID_BYTES];
    uint8_t data_id[PEER_ID_BYTES];
    uint64_t node_id;
    uint64_t to_node_id;
    uint64_t boot;
    uint64_t wall_ms;
    uint64_t founders;
    struct slice peer, http, rpc; /* at most HELLO_ADDRESS_MAX bytes each; borrowed */
    struct slice version;         /* at most HELLO_VERSION_MAX bytes; borrowed */
    uint32_t feature_level_now;
};

struct refused {
    enum refusal why;
    uint64_t node_id;
    uint32_t feature_level, feature_level_min; /* 0: not told */
};

void hello_encode(struct buffer *out, const struct hello *hello);

/* hello_decode: false unless it is one, with sane ids and printable addresses. The addresses are
 * borrowed from `in`. */
MUST_CHECK bool hello_decode(struct slice in, struct hello *out);

/* hello_judge: may these two talk? `meant`: who the connection was made for, 0 if it was accepted.
 * A cluster id of zeros goes with any, and so do founders of 0; but founders that have not begun
 * their cluster yet know the same feature level. The same answer on both sides, but for `meant`. */
enum refusal hello_judge(const struct hello *own, const struct hello *theirs, uint64_t meant);

/* hello_level_needed: the level that another must know to be let in. */
uint32_t hello_level_needed(const struct hello *hello);

/* hello_version: the highest version that both speak; they have one (hello_judge). */
uint16_t hello_version(const struct hello *own, const struct hello *theirs);

void refused_encode(struct buffer *out, const struct refused *refused);
MUST_CHECK bool refused_decode(struct slice in, struct refused *out);

/* peer_id_known: not all zeros. */
bool peer_id_known(const uint8_t id[PEER_ID_BYTES]);

/* refusal_name, refusal_text: "CLUSTER", and a sentence for an operator; static storage. A number
 * of a later version is "OTHER". */
const char *refusal_name(enum refusal why);
const char *refusal_text(enum refusal why);

#endif
