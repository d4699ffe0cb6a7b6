/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WORKER_SANDBOX_ROOT_H
#define WORKER_SANDBOX_ROOT_H

#include "worker/sandbox.h"

/* sandbox_root_enter: build the environment's file tree on spec->root_dir and make it the root of
 * this process, which has its own mount and process namespaces. Returns 0 or an errno value; then
 * the process must end. */
int sandbox_root_enter(const struct sandbox_spec *spec);

#endif
