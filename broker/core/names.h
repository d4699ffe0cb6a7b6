/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of named objects in name order (bytes, shorter first). Private to broker/core.
 * thread: apply. */
#ifndef BROKER_CORE_NAMES_H
#define BROKER_CORE_NAMES_H

#include "proto/base/slice.h"

struct name_entry {
    struct slice name; /* borrowed from the object */
    void *object;
};

struct names {
    struct name_entry *entries;
    size_t count;
    size_t capacity;
};

void names_deinit(struct names *names);

/* names_get: the object, or NULL. names_after: the first with a greater name, or NULL. names_from:
 * the position in `entries` of the first whose name is not less; `count` without one. names_within:
 * how many begin with `prefix`. */
void *names_get(const struct names *names, struct slice name);
void *names_after(const struct names *names, struct slice name);
size_t names_from(const struct names *names, struct slice name);
size_t names_within(const struct names *names, struct slice prefix);

/* names_add: `name` must be new, and stay where it is until names_remove. */
void names_add(struct names *names, struct slice name, void *object);
void names_remove(struct names *names, struct slice name);

#endif
