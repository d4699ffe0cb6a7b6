/* SPDX-License-Identifier: Apache-2.0 */
/* Functions and mappings as the API shows them. thread: any. */
#ifndef BROKER_API_LAMBDA_RENDER_H
#define BROKER_API_LAMBDA_RENDER_H

#include "broker/api/lambda/function_name.h"
#include "broker/core/core.h"
#include "broker/dispatch/function_config.h"

#include <jansson.h>

struct render_place {
    const char *region;
    const char *account;
};

/* At which moment a function is shown: clients wait for the state to change, so an answer to a
 * change shows the state in which AWS would be at that moment. */
enum render_moment { RENDER_STORED, RENDER_CREATED, RENDER_UPDATED, RENDER_LISTED };

const char *render_function_arn(struct arena *arena, const struct render_place *place,
                                struct slice name);
const char *render_queue_arn(struct arena *arena, const struct render_place *place,
                             struct slice name);

/* render_time: "2026-11-23T18:00:00.000+0000", in the arena. */
struct slice render_time(struct arena *arena, uint64_t epoch_ms);

/* render_function: a FunctionConfiguration; a new reference. */
json_t *render_function(struct arena *arena, const struct render_place *place,
                        const struct function_view *view, const struct function_config *config,
                        bool qualified, enum render_moment moment);

/* render_pairs: {"key": "value", ...}; a new reference. */
json_t *render_pairs(const struct config_pair *pairs, uint32_t count);

/* render_mapping: an EventSourceMappingConfiguration; a new reference. `state` NULL: Enabled or
 * Disabled, as the configuration says. `last_result` may be NULL. */
json_t *render_mapping(struct arena *arena, const struct render_place *place,
                       const struct mapping_view *view, const struct mapping_config *config,
                       const char *state, const char *last_result);

#endif
