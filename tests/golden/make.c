/* SPDX-License-Identifier: Apache-2.0 */
/* golden_make DIR: write a data directory with one of everything in the format of this version, for
 * tests/golden (see its README.md). DIR must be empty. */
#include "tests/unit/inspect/sample.h"

#include <sysexits.h>

int main(int argc, char *argv[])
{
    if (argc != 2) {
        fprintf(stderr, "usage: golden_make DIR\n");
        return EX_USAGE;
    }
    sample_make(argv[1]);
    return EX_OK;
}
