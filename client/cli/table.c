/* SPDX-License-Identifier: Apache-2.0 */
/* Cells are kept as one run of NUL-terminated texts and measured when they are printed. Widths
 * count code points, not bytes: names are ASCII by the API's rules, and bodies are shown elsewhere.
 * What a stranger put into a cell cannot move the cursor: control bytes are replaced on the way in.
 */
#include "client/cli/table.h"

#include "proto/base/assert.h"

#include <stdio.h>

#define GAP 2

void table_cell(struct table *table, const char *text)
{
    text = text != NULL ? text : "-";
    for (const char *at = text; *at != 0; at++) {
        unsigned char c = (unsigned char)*at;
        buffer_add_byte(&table->cells, c < 0x20 || c == 0x7f ? '?' : c);
    }
    buffer_add_byte(&table->cells, 0);
    table->cell_count++;
}

void table_number(struct table *table, long long value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", value);
    table_cell(table, text);
}

void table_real(struct table *table, double value, int decimals)
{
    char text[64];
    snprintf(text, sizeof text, "%.*f", decimals, value);
    table_cell(table, text);
}

static int width_of(const char *text)
{
    int width = 0;
    for (; *text != 0; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80 ? 1 : 0;
    return width;
}

static bool is_right(const struct table *table, size_t column)
{
    return table->titles[column][0] == '>';
}

static const char *title_of(const struct table *table, size_t column)
{
    return table->titles[column] + (is_right(table, column) ? 1 : 0);
}

static void measure(const struct table *table, int widths[TABLE_COLUMNS_MAX])
{
    for (size_t i = 0; i < table->columns; i++)
        widths[i] = width_of(title_of(table, i));
    const char *cell = (const char *)table->cells.data;
    for (size_t i = 0; i < table->cell_count; i++) {
        int width = width_of(cell);
        if (width > widths[i % table->columns])
            widths[i % table->columns] = width;
        cell += strlen(cell) + 1;
    }
}

static void put(const struct table *table, struct buffer *out, size_t column, const char *text,
                const int widths[TABLE_COLUMNS_MAX])
{
    bool last = column + 1 == table->columns;
    int fill = widths[column] - width_of(text);
    if (is_right(table, column))
        buffer_printf(out, "%*s%s", fill, "", text);
    else
        buffer_printf(out, "%s%*s", text, last ? 0 : fill, "");
    buffer_printf(out, last ? "\n" : "%*s", GAP, "");
}

void table_print(struct table *table, struct buffer *out)
{
    int widths[TABLE_COLUMNS_MAX];
    ASSERT(table->columns > 0 && table->columns <= TABLE_COLUMNS_MAX);
    ASSERT(table->cell_count % table->columns == 0);
    measure(table, widths);
    for (size_t i = 0; i < table->columns; i++)
        put(table, out, i, title_of(table, i), widths);
    const char *cell = (const char *)table->cells.data;
    for (size_t i = 0; i < table->cell_count; i++) {
        put(table, out, i % table->columns, cell, widths);
        cell += strlen(cell) + 1;
    }
    buffer_free(&table->cells);
    table->cell_count = 0;
}
