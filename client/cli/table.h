/* SPDX-License-Identifier: Apache-2.0 */
/* Readable tables: columns as wide as their widest cell, numbers to the right. thread: any. */
#ifndef CLIENT_CLI_TABLE_H
#define CLIENT_CLI_TABLE_H

#include "proto/base/buffer.h"

#define TABLE_COLUMNS_MAX 12

struct table {
    const char *const *titles; /* a title that begins with '>' names a right-aligned column */
    size_t columns;            /* 1..TABLE_COLUMNS_MAX */
    struct buffer cells;       /* NUL-terminated texts, row by row */
    size_t cell_count;
};

/* table_cell...: the next cell of the row; control bytes are shown as '?'. NULL shows as "-". */
void table_cell(struct table *table, const char *text);
void table_number(struct table *table, long long value);
void table_real(struct table *table, double value, int decimals);

/* table_print: titles and rows; every row must be complete. Frees the cells. */
void table_print(struct table *table, struct buffer *out);

#endif
