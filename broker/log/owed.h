/* SPDX-License-Identifier: Apache-2.0 */
/* What a snapshot that was taken over still lacks: bodies that were gone where it came from, since
 * a later entry releases them. Until that entry is here they are missing for a reason; `owed` says
 * up to which index that may be. Written before the snapshot is taken over. */
#ifndef BROKER_LOG_OWED_H
#define BROKER_LOG_OWED_H

#include "broker/log/disk.h"

#define OWED_BYTES 32u

void owed_encode(uint64_t index, uint8_t out[OWED_BYTES]);
MUST_CHECK bool owed_decode(struct slice in, uint64_t *index);

/* owed_load: 0: nothing is owed, or what the file says makes no sense: then what is missing is a
 * fault, as it was before. owed_store: durable with the next change of the folder that is.
 * Blocking. */
uint64_t owed_load(int dir_fd);
MUST_CHECK int owed_store(const struct log_disk *disk, int dir_fd, uint64_t index);

#endif
