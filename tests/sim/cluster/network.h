/* SPDX-License-Identifier: Apache-2.0 */
/* The network between nodes: struct peers for each of them. One connection for each pair, which
 * carries messages with a delay and at a rate, in order, unless the run is told to be disorderly.
 *
 * Where a direction is cut, messages stay on their way: they arrive when it is mended, or are lost
 * when the connection ends, which both sides notice sooner or later. */
#ifndef TESTS_SIM_CLUSTER_NETWORK_H
#define TESTS_SIM_CLUSTER_NETWORK_H

#include "tests/sim/cluster/world.h"

#include "broker/peer/peers.h"

/* network_begin: choose how fast it is; once. */
void network_begin(void);

/* network_join: a process starts on this machine; its peers, for its life. network_leave: it has
 * ended. */
struct peers *network_join(struct node *node);
void network_leave(struct node *node);

/* network_cut: messages from one machine to another do not arrive, or do again. */
void network_cut(unsigned from, unsigned to, bool cut);
void network_mend_all(void);
/* network_whole_ns: since when the connection of two machines has been there and not been cut; now,
 * if it is not. */
uint64_t network_whole_ns(unsigned a, unsigned b);
/* network_break: the connection of two machines ends. */
void network_break(unsigned a, unsigned b);

#endif
