/* SPDX-License-Identifier: Apache-2.0 */
/* Packing payloads, when it pays. See packer.h. */
#include "broker/log/packer.h"

#include "proto/base/assert.h"

#include <lz4.h>
#include <stdlib.h>

#define ACCELERATION 4 /* of LZ4: a quarter less time for a tenth more bytes than 1 */

void packer_free(struct packer *packer)
{
    free(packer->state);
    *packer = (struct packer){0};
}

/* worth: what may be left at most of so many bytes. */
static uint32_t worth(uint32_t bytes)
{
    return bytes - bytes / 8;
}

bool packer_wants(struct packer *packer, uint32_t length)
{
    if (length < PACKER_PAYLOAD_MIN || length > UNITS_PAYLOAD_MAX)
        return false;
    if (packer->skip == 0)
        return true;
    packer->skip -= length < packer->skip ? length : packer->skip;
    return false;
}

/* pack_unit: returns its stored length; as it is where that is no gain. */
static uint32_t pack_unit(struct packer *packer, struct slice unit, uint8_t *out)
{
    int stored = LZ4_compress_fast_extState(packer->state, (const char *)unit.data, (char *)out,
                                            (int)unit.length, (int)worth((uint32_t)unit.length),
                                            ACCELERATION);
    packer->tried += unit.length;
    if (stored > 0 && (size_t)stored < unit.length)
        return (uint32_t)stored;
    memcpy(out, unit.data, unit.length);
    return (uint32_t)unit.length;
}

static void disappointed(struct packer *packer)
{
    uint64_t doubled = packer->wait < PACKER_WAIT_MIN ? PACKER_WAIT_MIN : 2 * packer->wait;
    packer->wait = doubled < PACKER_WAIT_MAX ? doubled : PACKER_WAIT_MAX;
    packer->skip = packer->wait;
}

uint32_t packer_pack(struct packer *packer, struct slice payload, uint16_t units[UNITS_MAX],
                     uint8_t *out)
{
    uint32_t length = (uint32_t)payload.length;
    uint32_t at = 0;
    uint32_t seen = 0;
    ASSERT(length > 0 && length <= UNITS_PAYLOAD_MAX);
    if (packer->state == NULL)
        packer->state = malloc((size_t)LZ4_sizeofState());
    ASSERT(packer->state != NULL);
    for (uint32_t i = 0; i < unit_count(length); i++) {
        struct slice unit = {payload.data + seen, unit_bytes(length, i)};
        units[i] = (uint16_t)pack_unit(packer, unit, out + at);
        at += units[i];
        seen += (uint32_t)unit.length;
        if (at > worth(seen)) {
            disappointed(packer);
            return 0;
        }
    }
    packer->wait = 0;
    return at;
}
