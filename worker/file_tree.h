/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WORKER_FILE_TREE_H
#define WORKER_FILE_TREE_H

#include "proto/base/status.h"

#include <stdint.h>

/* file_tree_remove: `path` and everything below, following no link and leaving no other file
 * system. What is not there is fine.  thread: pool, or before the loop (blocking) */
MUST_CHECK enum status file_tree_remove(const char *path);

/* file_tree_bytes: the bytes in all files below `path`. thread: as above */
uint64_t file_tree_bytes(const char *path);

#endif
