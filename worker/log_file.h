/* SPDX-License-Identifier: Apache-2.0 */
/* The output of functions on disk: DIR/FUNCTION.log, and DIR/FUNCTION.log.1 when that was full. */
#ifndef WORKER_LOG_FILE_H
#define WORKER_LOG_FILE_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#include <uv.h>

#define LOG_FILE_BYTES_MAX    10485760u
#define LOG_PENDING_BYTES_MAX 4194304u

struct log_files;
struct log_file;

/* log_files_open: in `dir`, which exists; log_files_close: when what is unwritten has been written,
 * `closed` is called. Every log_file must have been released. */
struct log_files *log_files_open(uv_loop_t *loop, const char *dir);
void log_files_close(struct log_files *files, void (*closed)(void *data), void *data);

/* log_file_get: the file of a function, shared by its environments; log_file_release gives it back.
 * The name holds only letters, digits, '-' and '_'. */
struct log_file *log_file_get(struct log_files *files, const char *function);
void log_file_release(struct log_file *file);

/* log_file_add: append, later and off the loop. When the disk does not keep up, what does not fit
 * is dropped, with a line that says so. */
void log_file_add(struct log_file *file, struct slice bytes);

#endif
