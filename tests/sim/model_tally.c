/* SPDX-License-Identifier: Apache-2.0 */
/* Tallies, in a small array. */
#include "tests/sim/model.h"

#include "proto/base/assert.h"

static struct model_tally *find(struct model *model, uint64_t function_id)
{
    for (size_t i = 0; i < MODEL_TALLIES; i++) {
        if (model->tallies[i].exists && model->tallies[i].function_id == function_id)
            return &model->tallies[i];
    }
    return NULL;
}

/* struct usage is eight counters. */
void model_usage_sum(struct usage *total, const struct usage *delta)
{
    for (size_t i = 0; i < sizeof *total / sizeof(uint64_t); i++)
        ((uint64_t *)total)[i] += ((const uint64_t *)delta)[i];
}

void model_usage_add(struct model *model, const struct command_usage_add *add)
{
    struct model_tally *tally = find(model, add->function_id);
    for (size_t i = 0; tally == NULL; i++) {
        ASSERT(i < MODEL_TALLIES);
        if (model->tallies[i].exists)
            continue;
        tally = &model->tallies[i];
        *tally = (struct model_tally){.exists = true, .function_id = add->function_id};
    }
    model_usage_sum(&tally->usage, &add->delta);
}

void model_usage_drop(struct model *model, const struct command_usage_drop *drop,
                      struct core_result *result)
{
    struct model_tally *tally = find(model, drop->function_id);
    if (tally == NULL)
        result->code = CORE_NO_FUNCTION;
    else
        tally->exists = false;
}
