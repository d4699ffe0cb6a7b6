/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot of another node that was being taken over when the broker ended
 * (broker/log/install.c). A start goes on with it, so what is looked at is the log as it will be
 * then: without the entries that are still to be dropped, and with the files that are still to be
 * moved. */
#include "broker/inspect/internal.h"
#include "broker/log/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* load: false: there is no such file. */
static bool load(struct installing *installing, const char *name, struct problems *problems)
{
    struct buffer file = {0};
    char path[32];
    int error = disk_read_file(installing->fd, name, &file);
    snprintf(path, sizeof path, INSTALL_NAME "/%s", name);
    if (error == 0 && plan_decode(buffer_slice(&file), &installing->plan))
        installing->phase = name;
    else if (error == 0)
        problem(problems, path, 0, "it does not match its checksum");
    else if (error != ENOENT)
        problem(problems, path, 0, "cannot be read: %s", strerror(error));
    buffer_free(&file);
    return error != ENOENT;
}

struct installing installing_open(int dir_fd, struct problems *problems)
{
    struct installing installing = {.keep_index = UINT64_MAX};
    installing.fd = openat(dir_fd, INSTALL_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (installing.fd < 0)
        return installing;
    if (!load(&installing, PLAN_NAME, problems))
        (void)load(&installing, PLAN_CUT_NAME, problems);
    else if (installing.phase != NULL)
        installing.keep_index = installing.plan.keep_index;
    return installing;
}

json_t *installing_describe(const struct installing *installing)
{
    if (installing->phase == NULL)
        return json_pack("{s:[], s:[]}", "snapshots", "segments");
    return json_pack("{s:s, s:I, s:I, s:[], s:[]}", "phase", installing->phase, "keep_index",
                     (json_int_t)installing->plan.keep_index, "index",
                     (json_int_t)installing->plan.index, "snapshots", "segments");
}
