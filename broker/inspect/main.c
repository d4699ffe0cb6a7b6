/* SPDX-License-Identifier: Apache-2.0 */
/* millrace-inspect: options in, report out. Exit code 0: no problem was found; 1: there are some;
 * 64 and above (sysexits.h): it could not look. */
#include "broker/inspect/inspect.h"
#include "proto/base/assert.h"
#include "proto/base/options.h"

#include <stddef.h>
#include <stdlib.h>
#include <sysexits.h>

#define EXIT_PROBLEMS 1

struct flags {
    bool verify;
    bool json;
    bool force;
    const char *entries;
};

#define AT(member) offsetof(struct flags, member)

static const struct option_row rows[] = {
    {.name = "verify",
     .type = OPTION_FLAG,
     .offset = AT(verify),
     .help = "Read everything and check every checksum."},
    {.name = "entries",
     .type = OPTION_TEXT,
     .placeholder = "FROM..TO",
     .offset = AT(entries),
     .help = "List these entries of the log with their commands; at most 100000."},
    {.name = "json", .type = OPTION_FLAG, .offset = AT(json), .help = "Print the report as JSON."},
    {.name = "force",
     .type = OPTION_FLAG,
     .offset = AT(force),
     .help = "Look even if a process holds the directory."},
};

static const struct options_spec spec = {
    .program = "millrace-inspect",
    .summary = "Shows and checks the data directory of a broker that is not running.",
    .usage = "DIR",
    .epilogue = "Exit code: 0 no problem found, 1 problems found, 64 and above could not look.\n"
                "Examples:\n"
                "  millrace-inspect --verify /var/lib/millrace\n"
                "  millrace-inspect --entries 100..120 --json /var/lib/millrace\n",
    .rows = rows,
    .row_count = ARRAY_COUNT(rows),
    .takes_arguments = true,
};

static int fail(int code, const char *error)
{
    fprintf(stderr, "millrace-inspect: %s\n", error);
    return code;
}

static int exit_code(enum status status)
{
    static const struct {
        enum status status;
        int code;
    } table[] = {{STATUS_LOCKED, EX_TEMPFAIL},
                 {STATUS_NOT_FOUND, EX_NOINPUT},
                 {STATUS_PERMISSION, EX_NOPERM}};
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        if (table[i].status == status)
            return table[i].code;
    }
    return EX_IOERR;
}

static void make_output(const json_t *report, bool as_json, struct buffer *out)
{
    if (!as_json) {
        inspect_text(report, out);
        return;
    }
    char *text = json_dumps(report, JSON_INDENT(1));
    ASSERT(text != NULL);
    buffer_add_text(out, text);
    buffer_add_text(out, "\n");
    free(text);
}

static int run(const struct flags *flags, const char *dir)
{
    struct inspect_options options = {.dir = dir, .verify = flags->verify, .force = flags->force};
    const char *error = NULL;
    json_t *report;
    struct buffer out = {0};
    if (flags->entries != NULL && !inspect_range(flags->entries, &options))
        return fail(EX_USAGE, "--entries must be FROM..TO, of at most 100000 entries");
    enum status status = inspect_directory(&options, &report, &error);
    if (status != STATUS_OK)
        return fail(exit_code(status), error);
    make_output(report, flags->json, &out);
    bool written = fwrite(out.data, 1, out.length, stdout) == out.length && fflush(stdout) == 0;
    int code = inspect_good(report) ? EX_OK : EXIT_PROBLEMS;
    buffer_free(&out);
    json_decref(report);
    return written ? code : fail(EX_IOERR, "cannot write the report");
}

int main(int argc, char *argv[])
{
    struct flags flags = {0};
    struct arena arena = {0};
    struct options_result result = {0};
    int code = EX_OK;
    if (options_read(&spec, argc, argv, &flags, &arena, &result) != STATUS_OK)
        code = fail(EX_USAGE, result.error);
    else if (!result.exit_now && result.argument_count != 1)
        code = fail(EX_USAGE, "give one data directory; --help says more");
    else if (!result.exit_now)
        code = run(&flags, result.arguments[0]);
    arena_free(&arena);
    return code;
}
