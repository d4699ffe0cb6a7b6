/* SPDX-License-Identifier: Apache-2.0 */
/* cp and diff, for tests that need a copy of a directory. */
#ifndef TESTS_UNIT_LOG_TOOL_H
#define TESTS_UNIT_LOG_TOOL_H

#include <spawn.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

/* tool_run: its exit code; -1 if it did not end by itself. */
static inline int tool_run(const char *name, const char *option, const char *from, const char *to)
{
    const char *argv[] = {name, option, from, to, NULL};
    pid_t pid;
    int status;
    if (posix_spawnp(&pid, name, NULL, NULL, (char *const *)(void *)argv, environ) != 0 ||
        waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

#endif
