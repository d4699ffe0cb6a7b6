/* SPDX-License-Identifier: Apache-2.0 */
/* Options from flags, environment and file, from one table.
 *
 * Precedence: flag, then environment (MILLRACE_DATA_DIR for --data-dir), then the file given with
 * --config, then the default. The file has one `name = value` a line, '#' comments. --help and
 * --version are built in (both print to stdout and set `exit_now`). An unknown option, a bad value
 * or a missing required one is an error that names the option and where it came from. */
#ifndef PROTO_BASE_OPTIONS_H
#define PROTO_BASE_OPTIONS_H

#include "proto/base/arena.h"
#include "proto/base/status.h"

#include <stdio.h>

enum option_type {
    OPTION_TEXT,
    OPTION_FLAG,    /* no value on the command line; true/false in file and environment */
    OPTION_NUMBER,  /* uint64_t within min..max */
    OPTION_BYTES,   /* uint64_t; 4GiB, 512MiB, 100MB, 4096 */
    OPTION_ADDRESS, /* HOST:PORT, [::1]:PORT; checked, kept as text */
    OPTION_LIST,    /* may be given several times, on the command line only: a struct option_list */
};

struct option_list {
    const char *const *items;
    size_t count;
};

struct option_row {
    const char *name; /* "data-dir" */
    enum option_type type;
    const char *placeholder;  /* "DIR" */
    const char *default_text; /* NULL: none */
    bool required;
    uint64_t min, max; /* OPTION_NUMBER and OPTION_BYTES */
    size_t offset;     /* of the field in the caller's struct: const char *, bool, uint64_t,
                        * struct option_list */
    const char *help;  /* one sentence */
};

struct options_spec {
    const char *program;  /* "millrace-broker" */
    const char *summary;  /* one line */
    const char *usage;    /* after the program's name in the usage line; may be NULL */
    const char *epilogue; /* examples, after the list; may be NULL */
    const struct option_row *rows;
    size_t row_count;
    bool takes_arguments; /* words that are no options are allowed and returned */
};

struct options_result {
    bool exit_now;     /* --help or --version was printed: exit 0 */
    const char *error; /* when status is not OK: a sentence, in the arena */
    const char *const *arguments;
    size_t argument_count;
};

/* options_read: fill `target` (the caller's struct). Texts live in the arena. INVALID: see error.
 * argv[0] is skipped. A field that has no value from anywhere is left as it was; an empty
 * environment variable counts as none. Of a repeated flag the last one holds; "--" ends flags. */
MUST_CHECK enum status options_read(const struct options_spec *spec, int argc, char *const argv[],
                                    void *target, struct arena *arena,
                                    struct options_result *result);

/* options_usage: what --help prints. */
void options_usage(const struct options_spec *spec, FILE *out);

/* address_split: "host:port" or "[v6]:port" into its parts; the host is copied into the arena. */
MUST_CHECK bool address_split(const char *text, struct arena *arena, const char **host,
                              uint16_t *port);

/* bytes_parse: "512MiB" and the like. */
MUST_CHECK bool bytes_parse(const char *text, uint64_t *out);

#endif
