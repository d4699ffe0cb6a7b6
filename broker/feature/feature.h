/* SPDX-License-Identifier: Apache-2.0 */
/* Feature levels: what this program knows, and what the level of a cluster allows
 * (docs/upgrades.md). Pure; thread: any. */
#ifndef BROKER_FEATURE_FEATURE_H
#define BROKER_FEATURE_FEATURE_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

/* Of this program. FEATURE_LEVEL_SAID pretends another, in programs for tests only. */
#define FEATURE_LEVEL 2u

/* The document of each shard that holds the level in force there: a decimal number. */
#define FEATURE_LEVEL_DOCUMENT "cluster/feature-level"
/* The level of a state without that document. */
#define FEATURE_LEVEL_FIRST 1u

enum feature {
#define FEATURE(NAME, level, text) FEATURE_##NAME,
#include "broker/feature/feature.def"
#undef FEATURE
    FEATURE_COUNT
};

/* feature_level: what this program knows. feature_level_min: the lowest level of a cluster that it
 * works in: one below, so that versions are upgraded one at a time. */
uint32_t feature_level(void);
uint32_t feature_level_min(void);

/* feature_came_with: its level. feature_in: may it be used at this level? feature_name:
 * "REHEARSAL"; static storage. */
uint32_t feature_came_with(enum feature feature);
bool feature_in(uint32_t level, enum feature feature);
const char *feature_name(enum feature feature);

/* feature_level_write, feature_level_read: the content of the document. Read is false for anything
 * else than a level from 1 on. */
void feature_level_write(struct buffer *out, uint32_t level);
MUST_CHECK bool feature_level_read(struct slice content, uint32_t *level);

#endif
