/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void assert_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "millrace: assertion failed at %s:%d: %s\n", file, line, expr);
    abort();
}
