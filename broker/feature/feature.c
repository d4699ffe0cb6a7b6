/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/feature/feature.h"

#include "proto/base/assert.h"

#ifndef FEATURE_LEVEL_SAID
#define FEATURE_LEVEL_SAID FEATURE_LEVEL
#endif

static const struct {
    const char *name;
    uint32_t level;
} features[] = {
#define FEATURE(NAME, level, text) [FEATURE_##NAME] = {#NAME, level},
#include "broker/feature/feature.def"
#undef FEATURE
};

uint32_t feature_level(void)
{
    return FEATURE_LEVEL_SAID;
}

uint32_t feature_level_min(void)
{
    return FEATURE_LEVEL_SAID > FEATURE_LEVEL_FIRST ? FEATURE_LEVEL_SAID - 1 : FEATURE_LEVEL_FIRST;
}

uint32_t feature_came_with(enum feature feature)
{
    ASSERT(feature < FEATURE_COUNT);
    return features[feature].level;
}

bool feature_in(uint32_t level, enum feature feature)
{
    return feature_came_with(feature) <= level;
}

const char *feature_name(enum feature feature)
{
    ASSERT(feature < FEATURE_COUNT);
    return features[feature].name;
}

void feature_level_write(struct buffer *out, uint32_t level)
{
    ASSERT(level >= FEATURE_LEVEL_FIRST);
    buffer_printf(out, "%u", level);
}

bool feature_level_read(struct slice content, uint32_t *level)
{
    uint32_t value = 0;
    for (size_t i = 0; i < content.length; i++) {
        if (content.data[i] < '0' || content.data[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(content.data[i] - '0');
    }
    *level = value;
    return content.length <= 9 && value >= FEATURE_LEVEL_FIRST;
}
