/* SPDX-License-Identifier: Apache-2.0 */
/* Walking a zip that came from a stranger. Private to proto/package. */
#ifndef PROTO_PACKAGE_WALK_H
#define PROTO_PACKAGE_WALK_H

#include "proto/package/package.h"

#include <locale.h>

/* Where entries go. `path` is clean: relative, "/" between parts, no part empty, "." or "..".
 * No file comes twice, nor as a file and a folder both. Each may refuse by a status and a `why`. */
struct walk_sink {
    enum status (*folder)(void *data, const char *path, const char **why);
    enum status (*file_begin)(void *data, const char *path, bool executable, const char **why);
    enum status (*file_data)(void *data, struct slice bytes, const char **why);
    enum status (*file_end)(void *data, const char **why);
};

/* zip_walk: read all of `zip`; `sink` may be NULL. Whatever is refused, and the limits, are the
 * same with and without one, so that a package which was checked can be unpacked. */
MUST_CHECK enum status zip_walk(struct slice zip, const struct walk_sink *sink, void *data,
                                struct package_facts *facts, const char **why);

/* utf8_begin: until utf8_end this thread converts names as UTF-8. libarchive asks the locale, and a
 * program that never calls setlocale is in "C", where names beyond ASCII are lost. */
struct utf8_scope {
    locale_t locale;
    locale_t before;
};
struct utf8_scope utf8_begin(void);
void utf8_end(struct utf8_scope *scope);

#endif
