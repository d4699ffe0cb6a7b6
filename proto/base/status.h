/* SPDX-License-Identifier: Apache-2.0 */
/* Operating errors. STATUS_OK is 0. errno, uv and raft codes are translated into these by the file
 * that touches them, so that no other file has to know those numbers. */
#ifndef PROTO_BASE_STATUS_H
#define PROTO_BASE_STATUS_H

enum status {
#define STATUS(name, text) STATUS_##name,
#include "proto/base/status.def"
#undef STATUS
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* status_text: a sentence for a person; static storage. thread: any. */
const char *status_text(enum status status);

/* status_name: the bare name, such as "DISK_FULL"; static storage. thread: any. */
const char *status_name(enum status status);

/* status_from_errno: the nearest status for an errno value, or for a negated one as uv gives it. */
enum status status_from_errno(int error);

#endif
