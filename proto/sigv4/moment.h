/* SPDX-License-Identifier: Apache-2.0 */
/* Times as signatures write them, in UTC: 20260131T235959Z. thread: any. */
#ifndef PROTO_SIGV4_MOMENT_H
#define PROTO_SIGV4_MOMENT_H

#include "proto/base/slice.h"

#define MOMENT_LENGTH      16 /* "20260131T235959Z" */
#define MOMENT_DATE_LENGTH 8  /* its first part */

/* moment_parse: to seconds since the epoch; false for what is no time between 1970 and 9999. */
bool moment_parse(struct slice text, uint64_t *seconds);
void moment_format(uint64_t seconds, char out[MOMENT_LENGTH + 1]);

/* moment_parse_iso: "2026-01-31T23:59:59Z", and "2026-01-31", as policies write times. */
bool moment_parse_iso(struct slice text, uint64_t *seconds);

#endif
