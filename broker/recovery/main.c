/* SPDX-License-Identifier: Apache-2.0 */
/* millrace-recover: options in, exit code out. People call it as `millrace restore` and
 * `millrace cluster recover`. */
#include "broker/recovery/recovery.h"
#include "proto/base/assert.h"
#include "proto/base/options.h"

#include <stddef.h>
#include <stdio.h>
#include <sysexits.h>

#define AT(member) offsetof(struct recovery_options, member)

static const struct option_row rows[] = {
    {.name = "from",
     .type = OPTION_TEXT,
     .placeholder = "BACKUP",
     .offset = AT(from),
     .help = "Restore this backup; without it the data directory's node is made the only one."},
    {.name = "data-dir",
     .type = OPTION_TEXT,
     .placeholder = "DIR",
     .required = true,
     .offset = AT(data_dir),
     .help = "Of the broker; it must be stopped."},
    {.name = "node-id",
     .type = OPTION_NUMBER,
     .placeholder = "N",
     .min = 1,
     .max = UINT32_MAX,
     .offset = AT(node_id),
     .help = "With --from: the number of the new node."},
    {.name = "peer",
     .type = OPTION_ADDRESS,
     .placeholder = "HOST:PORT",
     .offset = AT(peer),
     .help = "Where other brokers will reach it."},
    {.name = "yes", .type = OPTION_FLAG, .offset = AT(yes), .help = "Make the node the only one."},
};

static const struct options_spec spec = {
    .program = "millrace-recover",
    .summary = "Restores a backup, or lets one broker go on alone (see `millrace restore --help` "
               "and `millrace cluster recover --help`).",
    .rows = rows,
    .row_count = ARRAY_COUNT(rows),
};

int main(int argc, char *argv[])
{
    struct recovery_options options = {0};
    struct arena arena = {0};
    struct options_result result = {0};
    int code = EX_OK;
    if (options_read(&spec, argc, argv, &options, &arena, &result) != STATUS_OK)
        code = recovery_fail(EX_USAGE, "%s", result.error);
    else if (!result.exit_now)
        code = options.from != NULL ? restore(&options, &arena) : recover_alone(&options, &arena);
    if (fflush(stdout) != 0 && code == EX_OK)
        code = recovery_fail(EX_IOERR, "cannot write to stdout");
    arena_free(&arena);
    return code;
}
