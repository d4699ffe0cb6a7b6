/* SPDX-License-Identifier: Apache-2.0 */
/* What may be done to a queue once a minute only: purging, and creating one just deleted. Kept in
 * this node's memory, and only used when the broker imitates AWS in this (--aws-cooldowns).
 * thread: loop. */
#ifndef BROKER_API_SQS_COOLDOWN_H
#define BROKER_API_SQS_COOLDOWN_H

#include "proto/base/slice.h"

#define COOLDOWN_MS 60000

enum cooldown_kind { COOLDOWN_PURGE = 1, COOLDOWN_DELETE };

struct cooldowns;
struct cooldowns *cooldowns_new(void);
void cooldowns_free(struct cooldowns *cooldowns);

/* cooldowns_begin: from now on, for a minute. cooldowns_active: is it so? A name is a queue's key,
 * 1..113 bytes. */
void cooldowns_begin(struct cooldowns *cooldowns, enum cooldown_kind kind, struct slice name,
                     uint64_t now_ms);
bool cooldowns_active(const struct cooldowns *cooldowns, enum cooldown_kind kind, struct slice name,
                      uint64_t now_ms);

#endif
