/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for large tables that are read at random: pieces of some KiB, close together in huge
 * pages, which the processor finds without walking page tables. A forked child does not get it
 * (MADV_DONTFORK), since a fork takes huge pages apart: it is only for what such a child never
 * looks at (broker/log/snapshot_child.h; tests/unit/replication/plots_child_test.c sees to it).
 * thread: any. */
#ifndef PROTO_BASE_PLOTS_H
#define PROTO_BASE_PLOTS_H

#include <stddef.h>

#define PLOT_UNIT      512u
#define PLOT_BYTES_MAX (64u << 10)

/* plot_take: `bytes` of zeros, at most PLOT_BYTES_MAX. plot_give: back, with the same size; memory
 * that holds no plot any more goes back to the system. plots_bytes: of the system's memory that is
 * there for plots. */
void *plot_take(size_t bytes);
void plot_give(void *plot, size_t bytes);
size_t plots_bytes(void);

#endif
