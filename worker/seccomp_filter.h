/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls that no function may make. */
#ifndef WORKER_SECCOMP_FILTER_H
#define WORKER_SECCOMP_FILTER_H

#include "proto/base/status.h"

#include <linux/filter.h>

/* seccomp_filter_build: compile the deny-list to BPF; owned, seccomp_filter_free ends it.
 *   errors: UNSUPPORTED (libseccomp or the kernel cannot); `out` is then empty */
MUST_CHECK enum status seccomp_filter_build(struct sock_fprog *out);
void seccomp_filter_free(struct sock_fprog *filter);

#endif
