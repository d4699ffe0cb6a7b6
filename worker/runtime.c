/* SPDX-License-Identifier: Apache-2.0 */
/* Which runtimes can run here: a table of identifiers, interpreter candidates and the oldest
 * version that will do. A runtime whose interpreter is missing is not announced to the broker, so
 * that it is never asked for here; a new runtime is a new row and a bootstrap.
 *
 * The bootstraps are part of the program, not of its installation: they are written to the data
 * folder at every start, so that program and bootstrap are always of one version. */
#include "worker/runtime.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANDIDATES_MAX 4

static const struct known_runtime {
    const char *id;
    const char *execution_env;
    const char *candidates[CANDIDATES_MAX]; /* absolute, below /usr: visible in the sandbox */
    const char *version_form;               /* of `INTERPRETER --version` */
    int oldest_major, oldest_minor;
    const char *script;
} known[] = {
    {"python3.11",
     "AWS_Lambda_python3.11",
     {"/usr/bin/python3.11", "/usr/local/bin/python3.11", "/usr/bin/python3"},
     "Python %d.%d",
     3,
     9,
     "boot.py"},
    {"nodejs20.x",
     "AWS_Lambda_nodejs20.x",
     {"/usr/bin/node", "/usr/bin/nodejs", "/usr/local/bin/node"},
     "v%d.%d",
     18,
     0,
     "boot.cjs"},
    {"provided.al2023", "AWS_Lambda_provided.al2023", {NULL}, NULL, 0, 0, NULL},
};

/* first_line: of `PROGRAM --version`; false unless it ended well. */
static bool first_line(const char *program, char *line, size_t size)
{
    char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t) "--version", NULL};
    char *envp[] = {NULL};
    posix_spawn_file_actions_t actions;
    int fds[2], wstatus = 0;
    pid_t pid = 0;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    bool spawned = posix_spawn(&pid, program, &actions, NULL, argv, envp) == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    ssize_t length = spawned ? read(fds[0], line, size - 1) : 0;
    close(fds[0]);
    line[length > 0 ? length : 0] = '\0';
    return spawned && waitpid(pid, &wstatus, 0) == pid && wstatus == 0 && length > 0;
}

static bool new_enough(const char *program, const struct known_runtime *row)
{
    char line[128];
    int major = 0, minor = 0;
    if (access(program, X_OK) != 0 || !first_line(program, line, sizeof line))
        return false;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    bool parsed = sscanf(line, row->version_form, &major, &minor) == 2;
#pragma GCC diagnostic pop
    return parsed && (major > row->oldest_major ||
                      (major == row->oldest_major && minor >= row->oldest_minor));
}

static const char *find_interpreter(const struct known_runtime *row)
{
    for (unsigned i = 0; i < CANDIDATES_MAX && row->candidates[i] != NULL; i++)
        if (new_enough(row->candidates[i], row))
            return row->candidates[i];
    return NULL;
}

void runtimes_find(struct runtimes *out)
{
    _Static_assert(ARRAY_COUNT(known) <= RUNTIMES_MAX, "room for every known runtime");
    *out = (struct runtimes){0};
    for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
        const char *interpreter = find_interpreter(&known[i]);
        if (known[i].script != NULL && interpreter == NULL) {
            trace_warn("runtime", "missing", "runtime=%s", known[i].id);
            continue;
        }
        out->rows[out->count++] =
            (struct runtime){known[i].id, known[i].execution_env, interpreter, known[i].script};
        trace_info("runtime", "found", "runtime=%s interpreter=%s", known[i].id,
                   interpreter != NULL ? interpreter : "bootstrap");
    }
}

static enum status write_whole(int dir_fd, const struct runtime_file *file)
{
    int fd =
        openat(dir_fd, file->name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return status_from_errno(errno);
    enum status status = STATUS_OK;
    if (write(fd, file->data, file->bytes) != (ssize_t)file->bytes || fchmod(fd, 0644) != 0)
        status = status_from_errno(errno);
    close(fd);
    return status;
}

enum status runtimes_install(const char *dir)
{
    if (mkdir(dir, 0755) != 0 && errno != EEXIST)
        return status_from_errno(errno);
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir_fd < 0)
        return status_from_errno(errno);
    enum status status = fchmod(dir_fd, 0755) == 0 ? STATUS_OK : status_from_errno(errno);
    for (size_t i = 0; i < runtime_file_count && status == STATUS_OK; i++)
        status = write_whole(dir_fd, &runtime_files[i]);
    close(dir_fd);
    return status;
}

const struct runtime *runtime_get(const struct runtimes *runtimes, const char *id)
{
    for (unsigned i = 0; i < runtimes->count; i++)
        if (strcmp(runtimes->rows[i].id, id) == 0)
            return &runtimes->rows[i];
    return NULL;
}

const char **runtime_argv(const struct runtime *runtime, const char *task_root,
                          const char *runtime_root, struct arena *arena)
{
    const char **argv = arena_alloc(arena, 3 * sizeof *argv);
    if (runtime->interpreter == NULL) {
        argv[0] = arena_printf(arena, "%s/bootstrap", task_root);
    } else {
        argv[0] = runtime->interpreter;
        argv[1] = arena_printf(arena, "%s/%s", runtime_root, runtime->script);
    }
    return argv;
}
