/* SPDX-License-Identifier: Apache-2.0 */
/* What one environment prints: read from a pipe, cleaned, kept as a tail and in the log file. */
#ifndef WORKER_OUTPUT_H
#define WORKER_OUTPUT_H

#include "proto/base/buffer.h"
#include "worker/log_file.h"

#include <uv.h>

#define OUTPUT_TAIL_BYTES       4096u
#define OUTPUT_INVOCATION_BYTES 1048576u /* more is thrown away, after one line that says so */

struct output {
    uv_poll_t poll;
    int read_fd;
    struct log_file *log; /* borrowed */
    struct buffer tail;
    size_t budget; /* bytes that this invocation may still print */
    bool mid_line;
    void (*closed)(void *data);
    void *data;
};

/* output_open: make the pipe and begin to read it. `write_fd` is the caller's, to give to the
 * environment and close.  errors: IO_ERROR and others of pipe */
MUST_CHECK enum status output_open(struct output *output, uv_loop_t *loop, struct log_file *log,
                                   int *write_fd);
void output_close(struct output *output, void (*closed)(void *data), void *data);

/* output_drain: take what is in the pipe now, but no more than a pipe holds. */
void output_drain(struct output *output);

/* output_line: a line of our own (START, END, REPORT); begins a new line if needed. */
void output_line(struct output *output, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* output_renew: a new invocation: a full budget, and unless `keep_tail`, an empty tail. */
void output_renew(struct output *output, bool keep_tail);

/* output_tail: the last OUTPUT_TAIL_BYTES; borrowed until more is printed. */
struct slice output_tail(const struct output *output);

#endif
