/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/recovery/recovery.h"

#include <stdarg.h>
#include <stdio.h>

int recovery_fail(int code, const char *format, ...)
{
    va_list args;
    fflush(stdout);
    fputs("millrace-recover: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return code;
}
