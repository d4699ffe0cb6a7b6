/* SPDX-License-Identifier: Apache-2.0 */
/* The file that says what taking over a snapshot does to the log. thread: any. */
#ifndef BROKER_LOG_PLAN_H
#define BROKER_LOG_PLAN_H

#include "proto/base/slice.h"
#include "proto/base/status.h"

#define INSTALL_NAME    "install"   /* the folder with what is being taken over */
#define INCOMING_PREFIX "incoming-" /* a folder with what is not decided yet */
#define PLAN_BYTES      32u
#define PLAN_NAME       "plan"   /* entries behind keep_index are still to be dropped */
#define PLAN_CUT_NAME   "moving" /* they are gone; the files are being moved */

struct install_plan {
    uint64_t keep_index; /* of the last entry that stays */
    uint64_t index;      /* of the snapshot; > keep_index */
};

void plan_encode(const struct install_plan *plan, uint8_t out[PLAN_BYTES]);
MUST_CHECK bool plan_decode(struct slice in, struct install_plan *out);

#endif
