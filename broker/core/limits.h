/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds that the core itself keeps, apart from those in command.h. Private to broker/core. */
#ifndef BROKER_CORE_LIMITS_H
#define BROKER_CORE_LIMITS_H

#include <stdint.h>

#define SECOND_MS 1000u

/* Later than any honest clock, and small enough that no sum of a time and a duration overflows. */
#define TIME_MS_MAX      (UINT64_C(1) << 48)

#define DELAY_S_MAX      900u
#define VISIBILITY_S_MAX 43200u
#define RETENTION_S_MIN  60u
#define RETENTION_S_MAX  1209600u

/* A lease, with all its extensions, counted from its receive. */
#define LEASE_MS_MAX (VISIBILITY_S_MAX * SECOND_MS)

/* Per queue; a receive beyond it is refused (SQS: OverLimit). */
#define IN_FLIGHT_MAX 120000u

/* How long code may wait for the function that is going to use it. */
#define BLOB_UNUSED_MS (3600u * SECOND_MS)
#define BLOB_BYTES_MAX (256u << 20)

#endif
