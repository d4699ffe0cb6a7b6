/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/trace.h"

#include "proto/base/assert.h"
#include "proto/base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DETAIL_BYTES_MAX 2048

static enum trace_level lowest_level = TRACE_INFO;
static bool as_json;

static const char *const level_names[] = {
    [TRACE_DEBUG] = "debug", [TRACE_INFO] = "info", [TRACE_WARN] = "warn", [TRACE_ERROR] = "error"};

void trace_configure(enum trace_level lowest, bool json)
{
    lowest_level = lowest;
    as_json = json;
}

bool trace_level_parse(const char *text, enum trace_level *out)
{
    for (size_t i = 0; i < ARRAY_COUNT(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *out = (enum trace_level)i;
            return true;
        }
    }
    return false;
}

/* Control bytes become \xNN, so that no value can start a line of its own. */
static void add_safe(struct buffer *line, const char *text, bool in_json_string)
{
    for (const char *at = text; *at != 0; at++) {
        unsigned char c = (unsigned char)*at;
        if (c < 0x20 || c == 0x7f)
            buffer_printf(line, in_json_string ? "\\u%04x" : "\\x%02x", c);
        else if (in_json_string && (c == '"' || c == '\\'))
            buffer_printf(line, "\\%c", c);
        else
            buffer_add_byte(line, c);
    }
}

void trace_event(enum trace_level level, const char *area, const char *event, const char *format,
                 ...)
{
    if (level < lowest_level)
        return;
    char detail[DETAIL_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);

    struct timespec now;
    struct tm utc;
    char stamp[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);

    struct buffer line = {0};
    int ms = (int)(now.tv_nsec / 1000000);
    if (as_json) {
        buffer_printf(&line,
                      "{\"ts\":\"%s.%03dZ\",\"level\":\"%s\",\"area\":\"%s\",\"event\":\"%s\"",
                      stamp, ms, level_names[level], area, event);
        buffer_add_text(&line, ",\"detail\":\"");
        add_safe(&line, detail, true);
        buffer_add_text(&line, "\"}\n");
    } else {
        buffer_printf(&line, "ts=%s.%03dZ level=%s area=%s event=%s ", stamp, ms,
                      level_names[level], area, event);
        add_safe(&line, detail, false);
        buffer_add_byte(&line, '\n');
    }
    /* One write a line: lines of several threads and processes do not mix. A full or closed
     * stderr must not stop a broker, so the result is not looked at. */
    ssize_t written = write(STDERR_FILENO, line.data, line.length);
    (void)written;
    buffer_free(&line);
}
