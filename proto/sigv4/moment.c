/* SPDX-License-Identifier: Apache-2.0 */
/* Reading is strict: each part in its range, nothing before or behind. The calendar is the C
 * library's (timegm, gmtime_r), which knows no time zone here. */
#include "proto/sigv4/moment.h"

#include "proto/base/assert.h"

#include <stdio.h>
#include <time.h>

static bool digits(struct slice text, size_t at, size_t count, int low, int high, int *out)
{
    int number = 0;
    for (size_t i = at; i < at + count; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        number = number * 10 + (text.data[i] - '0');
    }
    *out = number;
    return number >= low && number <= high;
}

static bool seconds_of(const struct tm *parts, uint64_t *seconds)
{
    struct tm copy = *parts;
    copy.tm_year -= 1900;
    copy.tm_mon -= 1;
    time_t time = timegm(&copy);
    *seconds = (uint64_t)time;
    return time >= 0 && copy.tm_mday == parts->tm_mday; /* no 31st of June */
}

bool moment_parse(struct slice text, uint64_t *seconds)
{
    struct tm parts = {0};
    return text.length == MOMENT_LENGTH && text.data[8] == 'T' && text.data[15] == 'Z' &&
           digits(text, 0, 4, 1970, 9999, &parts.tm_year) &&
           digits(text, 4, 2, 1, 12, &parts.tm_mon) && digits(text, 6, 2, 1, 31, &parts.tm_mday) &&
           digits(text, 9, 2, 0, 23, &parts.tm_hour) && digits(text, 11, 2, 0, 59, &parts.tm_min) &&
           digits(text, 13, 2, 0, 59, &parts.tm_sec) && seconds_of(&parts, seconds);
}

bool moment_parse_iso(struct slice text, uint64_t *seconds)
{
    struct tm parts = {0};
    bool with_time = text.length == 20;
    if (!with_time && text.length != 10)
        return false;
    if (text.data[4] != '-' || text.data[7] != '-' ||
        !digits(text, 0, 4, 1970, 9999, &parts.tm_year) ||
        !digits(text, 5, 2, 1, 12, &parts.tm_mon) || !digits(text, 8, 2, 1, 31, &parts.tm_mday))
        return false;
    if (with_time &&
        (text.data[10] != 'T' || text.data[13] != ':' || text.data[16] != ':' ||
         text.data[19] != 'Z' || !digits(text, 11, 2, 0, 23, &parts.tm_hour) ||
         !digits(text, 14, 2, 0, 59, &parts.tm_min) || !digits(text, 17, 2, 0, 59, &parts.tm_sec)))
        return false;
    return seconds_of(&parts, seconds);
}

void moment_format(uint64_t seconds, char out[MOMENT_LENGTH + 1])
{
    struct tm parts;
    time_t time = (time_t)seconds;
    ASSERT(gmtime_r(&time, &parts) != NULL);
    size_t length = strftime(out, MOMENT_LENGTH + 1, "%Y%m%dT%H%M%SZ", &parts);
    ASSERT(length == MOMENT_LENGTH);
}
