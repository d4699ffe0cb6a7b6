/* SPDX-License-Identifier: Apache-2.0 */
/* Random commands for the simulation: mostly sensible, some stale, some wrong. */
#ifndef TESTS_SIM_GENERATE_H
#define TESTS_SIM_GENERATE_H

#include "tests/sim/model.h"

#define LEASES_KEPT 64

struct random {
    uint64_t state;
};
uint64_t random_next(struct random *random);
/* random_below: 0..bound-1. random_chance: true with `percent` in 100. */
uint32_t random_below(struct random *random, uint32_t bound);
bool random_chance(struct random *random, uint32_t percent);

struct generator {
    struct random random;
    /* Few queues, one large group, long leases: so that a group takes more than its share. */
    bool crowded;
    const struct model *model; /* the state that commands refer to */
    struct known_lease {
        uint64_t queue_id;
        struct core_lease lease;
    } leases[LEASES_KEPT]; /* the latest ones handed out */
    size_t lease_count;
    uint8_t bytes[256]; /* of the last record or piece */
    char texts[4][MODEL_TEXT];
    size_t text_next;
};

/* generate_command: its slices are valid until the next one. */
void generate_command(struct generator *generator, struct command *out);

/* generate_time_step_ms: mostly small, at times past every lease, seldom past every retention;
 * often exactly to the next deadline. */
uint64_t generate_time_step_ms(struct generator *generator);

/* generate_remember: leases that were handed out, to settle later. */
void generate_remember(struct generator *generator, uint64_t queue_id,
                       const struct core_result *result);

#endif
