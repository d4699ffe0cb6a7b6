/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted array. Lookups are a binary search, walks in name order are free, and a queue or
 * function is made so rarely that moving pointers aside costs nothing that anyone will notice:
 * 100,000 queues are 2.4 MB of entries. */
#include "broker/core/names.h"

#include "proto/base/assert.h"

#include <stdlib.h>

static int compare(struct slice a, struct slice b)
{
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = shorter > 0 ? memcmp(a.data, b.data, shorter) : 0;
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

size_t names_from(const struct names *names, struct slice name)
{
    size_t low = 0;
    size_t high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(names->entries[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Those with the prefix stand together, from the first that is not less than it on. */
size_t names_within(const struct names *names, struct slice prefix)
{
    size_t first = names_from(names, prefix);
    size_t low = first;
    size_t high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slice_has_prefix(names->entries[middle].name, prefix))
            low = middle + 1;
        else
            high = middle;
    }
    return low - first;
}

static bool is_at(const struct names *names, size_t position, struct slice name)
{
    return position < names->count && slice_equal(names->entries[position].name, name);
}

void names_deinit(struct names *names)
{
    free(names->entries);
    *names = (struct names){0};
}

void *names_get(const struct names *names, struct slice name)
{
    size_t position = names_from(names, name);
    return is_at(names, position, name) ? names->entries[position].object : NULL;
}

void *names_after(const struct names *names, struct slice name)
{
    size_t position = names_from(names, name);
    if (is_at(names, position, name))
        position++;
    return position < names->count ? names->entries[position].object : NULL;
}

static void grow(struct names *names)
{
    names->capacity = names->capacity == 0 ? 16 : names->capacity * 2;
    names->entries = realloc(names->entries, names->capacity * sizeof names->entries[0]);
    ASSERT(names->entries != NULL);
}

void names_add(struct names *names, struct slice name, void *object)
{
    if (names->count == names->capacity)
        grow(names);
    size_t position = names_from(names, name);
    ASSERT(!is_at(names, position, name));
    struct name_entry *at = &names->entries[position];
    memmove(at + 1, at, (names->count - position) * sizeof *at);
    *at = (struct name_entry){name, object};
    names->count++;
}

void names_remove(struct names *names, struct slice name)
{
    size_t position = names_from(names, name);
    ASSERT(is_at(names, position, name));
    struct name_entry *at = &names->entries[position];
    names->count--;
    memmove(at, at + 1, (names->count - position) * sizeof *at);
}
