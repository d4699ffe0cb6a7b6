/* SPDX-License-Identifier: Apache-2.0 */
/* The broker's options about who may read /metrics and /status. thread: loop. */
#ifndef BROKER_PAGE_OPTIONS_H
#define BROKER_PAGE_OPTIONS_H

#include "broker/api/page_guard.h"
#include "broker/node.h"

/* page_options_check: as node_options_check. */
const char *page_options_check(const struct node_options *options);

/* page_options_open: `out` is NULL where everybody may. Returns an exit code, after a trace if it
 * is not 0. */
int page_options_open(const struct node_options *options, const struct auth *auth,
                      struct page_guard **out);

#endif
