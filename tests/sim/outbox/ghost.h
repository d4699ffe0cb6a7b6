/* SPDX-License-Identifier: Apache-2.0 */
/* The judge of messages between shards. It follows every message by the number in its record, and
 * sees what the cores hold, what their outboxes show, what commands did and what consumers got:
 *
 *   X1  a message is in one place: a queue, or an outbox whose other side has not taken it
 *   X2  it arrives once for each time that it left
 *   X3  messages of a FIFO group that went from one queue to another got there in order
 *   X4  nothing is lost; that nothing is stuck shows in the drain at the end (outbox_sim.c)
 *
 * It knows nothing of numbers of transfers, of refusals or of what a courier thinks. */
#ifndef TESTS_SIM_OUTBOX_GHOST_H
#define TESTS_SIM_OUTBOX_GHOST_H

#include "broker/core/core.h"

#define SHARDS 3u /* 1 to SHARDS */

struct ghost;

struct ghost *ghost_new(void);
void ghost_free(struct ghost *ghost);

/* ghost_entry: the next entry of `shard`, which is about to be applied; copied. ghost_payload: one
 * of them again. ghost_body: the bytes of a body. */
void ghost_entry(struct ghost *ghost, uint32_t shard, struct slice payload);
struct slice ghost_payload(const struct ghost *ghost, uint32_t shard, uint64_t index);
struct slice ghost_body(const struct ghost *ghost, uint32_t shard, struct body_ref ref);

/* ghost_events: for the core of `shard`. ghost_restart, ghost_restarted: around its restoring. */
struct core_events ghost_events(struct ghost *ghost, uint32_t shard);
void ghost_restart(struct ghost *ghost, uint32_t shard);
void ghost_restarted(struct ghost *ghost, uint32_t shard);

/* ghost_before, ghost_after: around each command of `shard`, and around core_begin, where `command`
 * is a TICK. */
void ghost_before(struct ghost *ghost, uint32_t shard, const struct core *core,
                  const struct command *command);
void ghost_after(struct ghost *ghost, uint32_t shard, const struct core *core,
                 const struct command *command, const struct core_result *result);

/* ghost_alive: messages that are somewhere. ghost_hops: arrivals so far. */
uint64_t ghost_alive(const struct ghost *ghost);
uint64_t ghost_hops(const struct ghost *ghost);

/* sim_fail: say what is broken, with the seed, and end the process with 1 (outbox_sim.c). */
__attribute__((noreturn, format(printf, 1, 2))) void sim_fail(const char *format, ...);

#endif
