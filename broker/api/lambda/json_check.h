/* SPDX-License-Identifier: Apache-2.0 */
/* Is this text JSON? For payloads, which pass through untouched. thread: any. */
#ifndef BROKER_API_LAMBDA_JSON_CHECK_H
#define BROKER_API_LAMBDA_JSON_CHECK_H

#include "proto/base/slice.h"

#define JSON_DEPTH_MAX 1000

/* json_check: one JSON value (RFC 8259) with blanks around it, in UTF-8.
 *   at       where it stops being one: an offset into `text`; untouched if all is well
 *   returns  false also for more than JSON_DEPTH_MAX arrays and objects in one another */
bool json_check(struct slice text, size_t *at);

#endif
