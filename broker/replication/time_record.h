/* SPDX-License-Identifier: Apache-2.0 */
/* What a node knew of cluster time, for the next process on it: file `clock` of the shard's folder.
 * It counts from the steady clock, so it is good for one start of the machine, and needs no sync:
 * what a process has written the kernel keeps when that process ends. thread: loop (blocking, but
 * for the disk). */
#ifndef BROKER_REPLICATION_TIME_RECORD_H
#define BROKER_REPLICATION_TIME_RECORD_H

#include "proto/base/clock.h"
#include "proto/base/slice.h"
#include "proto/base/status.h"

#define TIME_RECORD_BYTES 64u

struct time_record {
    char boot_id[BOOT_ID_BYTES];
    uint64_t term;     /* whose leader's clock it is */
    int64_t offset_ms; /* cluster time less steady time */
};

void time_record_encode(const struct time_record *record, uint8_t out[TIME_RECORD_BYTES]);
MUST_CHECK bool time_record_decode(struct slice in, struct time_record *out);

/* time_record_load: false: there is none, or it is of another start of the machine.
 * time_record_save: a failure is traced only: should this process end, time begins anew here. */
MUST_CHECK bool time_record_load(const char *dir, struct time_record *out);
void time_record_save(const char *dir, const struct time_record *record);

#endif
