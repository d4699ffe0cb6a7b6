/* SPDX-License-Identifier: Apache-2.0 */
/* The list of what is wrong: file, offset, sentence. It is bounded, since a damaged disk can be
 * wrong in every block; the last row then says that there is more. */
#include "broker/inspect/internal.h"

#include <stdio.h>

static void add(struct problems *problems, const char *file, uint64_t offset, const char *what)
{
    bool has_shard = problems->shard[0] != '\0';
    json_array_append_new(problems->list, json_pack("{s:s+++, s:I, s:s}", "file", problems->shard,
                                                    has_shard ? "/" : "", file, "", "offset",
                                                    (json_int_t)offset, "what", what));
}

void problem(struct problems *problems, const char *file, uint64_t offset, const char *format, ...)
{
    char what[256];
    size_t count = json_array_size(problems->list);
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (count + 1 < INSPECT_PROBLEMS_MAX)
        add(problems, file, offset, what);
    else if (count + 1 == INSPECT_PROBLEMS_MAX)
        add(problems, file, offset, "there are more problems than are listed");
}
