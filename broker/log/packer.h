/* SPDX-License-Identifier: Apache-2.0 */
/* Deciding which payloads are packed (unit.h), and packing them.
 *
 * A payload is packed when that makes it smaller by an eighth at least, which the first unit has to
 * promise already. Where it does not, as with what is compressed or encrypted, payloads go by
 * untried: 64 KiB of them, and twice as many with every further disappointment, up to 1 MiB; so
 * such data cost one look at a unit in each MiB. thread: one at a time. */
#ifndef BROKER_LOG_PACKER_H
#define BROKER_LOG_PACKER_H

#include "broker/log/unit.h"

#define PACKER_PAYLOAD_MIN 512u
#define PACKER_WAIT_MIN    (64u << 10)
#define PACKER_WAIT_MAX    (1u << 20)

/* Zero-initialise to begin; packer_free to end. */
struct packer {
    void *state; /* of liblz4 */
    uint64_t skip;
    uint64_t wait;
    uint64_t tried; /* bytes that were given to the compressor */
};
void packer_free(struct packer *packer);

/* packer_wants: is the payload to be tried? It counts as seen, so ask once. */
MUST_CHECK bool packer_wants(struct packer *packer, uint32_t length);

/* packer_pack: the packed payload goes to `out`, which has room for payload.length, and the stored
 * length of each unit to `units`. Returns the bytes at `out`; 0: packing does not pay. */
MUST_CHECK uint32_t packer_pack(struct packer *packer, struct slice payload,
                                uint16_t units[UNITS_MAX], uint8_t *out);

#endif
