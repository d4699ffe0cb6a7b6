/* SPDX-License-Identifier: Apache-2.0 */
/* Compares what a core shows with what the model says. Each returns NULL, or what differs. */
#ifndef TESTS_SIM_COMPARE_H
#define TESTS_SIM_COMPARE_H

#include "tests/sim/model.h"

/* What a core has told its owner. */
struct observed {
    uint64_t held_count;          /* bodies held less released */
    uint64_t held_digest;         /* sum of a hash of each */
    uint64_t ready[MODEL_QUEUES]; /* queue ids, since the last clear */
    size_t ready_count;
    uint64_t queues_gone;
    uint64_t catalog_changes;
    uint64_t document_changes;
    uint64_t departures;
    bool lose_release; /* mutation: the next release is not seen */
};

/* observed_events: events that write into `observed`. */
struct core_events observed_events(struct observed *observed);

const char *compare_result(const struct core_result *core, const struct core_result *model);
const char *compare_ready(const struct observed *observed, const struct model *model);
const char *compare_state(const struct core *core, const struct observed *observed,
                          const struct model *model);

#endif
