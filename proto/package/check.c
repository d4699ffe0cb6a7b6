/* SPDX-License-Identifier: Apache-2.0 */
/* Checking a package on its way in: the whole walk, with nowhere for the files to go. Reading every
 * byte is the point; a package that passes will unpack on any worker, later, when nobody waits who
 * could be told. */
#include "proto/package/walk.h"

enum status package_check(struct slice zip, struct package_facts *facts, const char **why)
{
    *why = NULL;
    *facts = (struct package_facts){0};
    if (zip.length > PACKAGE_ZIPPED_BYTES_MAX) {
        *why = "the zip is larger than 50 MiB";
        return STATUS_TOO_LARGE;
    }
    return zip_walk(zip, NULL, NULL, facts, why);
}
