/* SPDX-License-Identifier: Apache-2.0 */
/* A function may print as much as it likes; it costs the worker a bounded effort.
 *
 * The pipe is always drained, so the function never blocks on a full one; a wake-up reads a bounded
 * amount, so a flood never holds the loop; past OUTPUT_INVOCATION_BYTES an invocation's output is
 * read and thrown away. Control bytes except tab and newline are dropped, so that output cannot
 * play with the terminal of whoever reads the log. */
#include "worker/output.h"

#include "proto/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define READ_BYTES     65536
#define READS_PER_WAKE 4
#define READS_PER_DRAIN                                                                            \
    16 /* what a pipe holds at its default size, and some that was in flight                       \
        */

static const char truncated[] = "[output truncated]\n";

static void keep(struct output *output, struct slice bytes)
{
    if (bytes.length == 0)
        return;
    output->mid_line = bytes.data[bytes.length - 1] != '\n';
    log_file_add(output->log, bytes);
    if (bytes.length > OUTPUT_TAIL_BYTES)
        bytes = slice_sub(bytes, bytes.length - OUTPUT_TAIL_BYTES);
    buffer_add_slice(&output->tail, bytes);
    /* Twice the tail is kept before the front is cut, so that the move is seldom. */
    if (output->tail.length > 2 * OUTPUT_TAIL_BYTES) {
        memmove(output->tail.data, output->tail.data + output->tail.length - OUTPUT_TAIL_BYTES,
                OUTPUT_TAIL_BYTES);
        output->tail.length = OUTPUT_TAIL_BYTES;
    }
}

static void take(struct output *output, uint8_t *bytes, size_t length)
{
    if (output->budget == 0)
        return;
    size_t kept = 0;
    for (size_t i = 0; i < length; i++)
        if (bytes[i] == '\n' || bytes[i] == '\t' || (bytes[i] >= 0x20 && bytes[i] != 0x7f))
            bytes[kept++] = bytes[i];
    bool last = kept >= output->budget;
    if (last)
        kept = output->budget;
    output->budget -= kept;
    keep(output, slice_make(bytes, kept));
    if (last) {
        if (output->mid_line)
            keep(output, SLICE_LITERAL("\n"));
        keep(output, slice_of(truncated));
    }
}

/* read_some: false when there is nothing more now, or ever. */
static bool read_some(struct output *output)
{
    uint8_t bytes[READ_BYTES];
    ssize_t length = read(output->read_fd, bytes, sizeof bytes);
    if (length > 0)
        take(output, bytes, (size_t)length);
    if (length == 0)
        uv_poll_stop(&output->poll); /* every writer has closed it */
    return length > 0 || (length < 0 && errno == EINTR);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct output *output = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < READS_PER_WAKE && read_some(output); i++)
        ;
}

enum status output_open(struct output *output, uv_loop_t *loop, struct log_file *log, int *write_fd)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return status_from_errno(errno);
    /* Only our end must not block: a function's writes are ordinary ones. */
    int error = fcntl(fds[0], F_SETFL, O_NONBLOCK);
    if (error == 0)
        error = uv_poll_init(loop, &output->poll, fds[0]);
    if (error != 0) {
        close(fds[0]);
        close(fds[1]);
        return STATUS_IO_ERROR;
    }
    output->read_fd = fds[0];
    output->log = log;
    output->tail = (struct buffer){0};
    output->budget = OUTPUT_INVOCATION_BYTES;
    output->mid_line = false;
    output->poll.data = output;
    error = uv_poll_start(&output->poll, UV_READABLE, on_readable);
    ASSERT(error == 0);
    *write_fd = fds[1];
    return STATUS_OK;
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct output *output = handle->data;
    close(output->read_fd);
    buffer_free(&output->tail);
    output->closed(output->data);
}

void output_close(struct output *output, void (*closed)(void *data), void *data)
{
    output->closed = closed;
    output->data = data;
    uv_close((uv_handle_t *)&output->poll, on_poll_closed);
}

void output_drain(struct output *output)
{
    for (int i = 0; i < READS_PER_DRAIN && read_some(output); i++)
        ;
}

void output_line(struct output *output, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (length < 0)
        return;
    size_t end = (size_t)length < sizeof line - 1 ? (size_t)length : sizeof line - 2;
    line[end++] = '\n';
    if (output->mid_line)
        keep(output, SLICE_LITERAL("\n"));
    keep(output, slice_make(line, end));
}

void output_renew(struct output *output, bool keep_tail)
{
    output->budget = OUTPUT_INVOCATION_BYTES;
    if (!keep_tail)
        buffer_clear(&output->tail);
}

struct slice output_tail(const struct output *output)
{
    struct slice tail = buffer_slice(&output->tail);
    return tail.length > OUTPUT_TAIL_BYTES ? slice_sub(tail, tail.length - OUTPUT_TAIL_BYTES)
                                           : tail;
}
