/* SPDX-License-Identifier: Apache-2.0 */
/* Looking into a data directory without a broker: what is in the files, and whether they hold.
 * Reads only; nothing is repaired. The report is JSON; text is made from it. thread: one. */
#ifndef BROKER_INSPECT_INSPECT_H
#define BROKER_INSPECT_INSPECT_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"

#include <jansson.h>

#define INSPECT_ENTRIES_MAX  100000u
#define INSPECT_PROBLEMS_MAX 1000u

struct inspect_options {
    const char *dir; /* a broker's data directory, or the folder of one shard */
    bool verify;     /* read and check every byte, not only headers and footers */
    bool force;      /* also while a process holds the directory */
    uint64_t from;   /* entries to list; 0: none */
    uint64_t to;
};

/* inspect_range: "FROM..TO", or "N". False for anything else, or for too many. */
MUST_CHECK bool inspect_range(const char *text, struct inspect_options *out);

/* inspect_directory: *report is the caller's, to json_decref. Problems in the files are in
 * report.problems; they are no failure of this call.
 *   errors: LOCKED, NOT_FOUND, PERMISSION, IO_ERROR: *error is a sentence, valid until this
 * thread's next refusal */
MUST_CHECK enum status inspect_directory(const struct inspect_options *options, json_t **report,
                                         const char **error);

/* inspect_good: no problem was found. inspect_text: the report for people, appended to `out`. */
bool inspect_good(const json_t *report);
void inspect_text(const json_t *report, struct buffer *out);

#endif
