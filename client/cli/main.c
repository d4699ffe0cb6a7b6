/* SPDX-License-Identifier: Apache-2.0 */
/* The `millrace` program: what a command gathered goes to stdout and stderr, whole or not at all.
 */
#include "client/cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static bool write_all(int fd, const struct buffer *b)
{
    size_t done = 0;
    while (done < b->length) {
        ssize_t wrote = write(fd, b->data + done, b->length - done);
        if (wrote < 0 && errno != EINTR)
            return false;
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    return true;
}

int main(int argc, char *argv[])
{
    struct buffer out = {0}, err = {0};
    signal(SIGPIPE, SIG_IGN);
    int exit_status = cli_run(argc, argv, &out, &err);
    fflush(stdout);
    write_all(STDERR_FILENO, &err);
    /* `millrace queue list | head -1` is no failure; a full disk behind stdout is. */
    if (!write_all(STDOUT_FILENO, &out) && errno != EPIPE && exit_status == 0) {
        perror("millrace: cannot write to stdout");
        exit_status = CLI_EXIT_FAILED;
    }
    buffer_free(&out);
    buffer_free(&err);
    return exit_status;
}
