/* SPDX-License-Identifier: Apache-2.0 */
/* One remembered send as bytes in memory (dedup.c); never on a disk or a wire.
 *
 *     SIZE  MEANING
 *     2     bit 15: a gap, nothing is remembered here; bits 14, 13: form of the dedup id;
 *           bit 12: the key begins with a scope other than 0, which is stored; bits 0 to 8: n
 *     16    message id
 *     1-10  seq less the base's, 7 bits a byte, low ones first; bit 7: more follow
 *     1-10  sent_ms less the base's, likewise
 *     n     scope, group id (both as the key has them, or none), dedup id in its form
 *           a byte of padding if needed: entries are of even size
 * Forms of the dedup id: 0, as it is; 1, lower-case hexadecimal digits, an even number of them, two
 * in a byte (content-based ids are 64 of these); 2, a UUID in lower case, without its dashes. An id
 * has one form only, so nothing is lost or confused. */
#ifndef BROKER_CORE_DEDUP_ENTRY_H
#define BROKER_CORE_DEDUP_ENTRY_H

#include "broker/core/dedup.h"

#define DEDUP_ENTRY_BYTES_MAX (2 + UUID_BYTES + 10 + 10 + DEDUP_KEY_BYTES_MAX + 1)

struct dedup_base {
    uint64_t seq;
    uint64_t sent_ms;
};

/* dedup_entry_write: of what->key, at most DEDUP_KEY_BYTES_MAX; returns how many bytes of `out` it
 * took, an even number of at most DEDUP_ENTRY_BYTES_MAX. dedup_entry_bytes: the same of one that
 * was written. dedup_entry_read: `key` gets the bytes of out->key; returns the same as
 * dedup_entry_bytes. dedup_entry_sent_ms: of all,
 * only that. */
uint32_t dedup_entry_write(uint8_t out[DEDUP_ENTRY_BYTES_MAX], const struct dedup_base *base,
                           const struct dedup *what);
uint32_t dedup_entry_bytes(const uint8_t *entry);
uint32_t dedup_entry_read(const uint8_t *entry, const struct dedup_base *base, struct dedup *out,
                          uint8_t key[DEDUP_KEY_BYTES_MAX]);
uint64_t dedup_entry_sent_ms(const uint8_t *entry, const struct dedup_base *base);

/* dedup_entry_empty: make it a gap. */
void dedup_entry_empty(uint8_t *entry);
bool dedup_entry_is_gap(const uint8_t *entry);

#endif
