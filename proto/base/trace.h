/* SPDX-License-Identifier: Apache-2.0 */
/* Diagnostics: one line an event, on stderr, as logfmt (default) or JSON. ("Log" means the Raft log
 * in this tree, so diagnostics are called trace.)
 *
 *     trace_info("http", "listening", "addr=%s port=%d", addr, port);
 *     -> ts=2026-11-23T18:00:00.123Z level=info area=http event=listening addr=127.0.0.1 port=9324
 *
 * The format string holds key=value pairs. Values that come from outside (names, errors) are
 * written in quotes by the caller, key="%s". Control bytes in the finished line are escaped here,
 * so input can never forge a second line. thread: any. */
#ifndef PROTO_BASE_TRACE_H
#define PROTO_BASE_TRACE_H

#include <stdbool.h>

enum trace_level { TRACE_DEBUG, TRACE_INFO, TRACE_WARN, TRACE_ERROR };

/* trace_configure: the lowest level shown, and the form; call before threads start. */
void trace_configure(enum trace_level lowest, bool json);

/* trace_level_parse: "debug", "info", "warn" or "error"; false if it is none of them. */
bool trace_level_parse(const char *text, enum trace_level *out);

void trace_event(enum trace_level level, const char *area, const char *event, const char *format,
                 ...) __attribute__((format(printf, 4, 5)));

#define trace_debug(area, event, ...) trace_event(TRACE_DEBUG, area, event, __VA_ARGS__)
#define trace_info(area, event, ...)  trace_event(TRACE_INFO, area, event, __VA_ARGS__)
#define trace_warn(area, event, ...)  trace_event(TRACE_WARN, area, event, __VA_ARGS__)
#define trace_error(area, event, ...) trace_event(TRACE_ERROR, area, event, __VA_ARGS__)

#endif
