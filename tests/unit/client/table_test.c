/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/cli/table.h"

static void prints_aligned_columns(void **state)
{
    (void)state;
    static const char *const titles[] = {"NAME", ">COUNT", "URL"};
    struct table table = {.titles = titles, .columns = 3};
    struct buffer out = {0};
    table_cell(&table, "a-long-name");
    table_number(&table, 7);
    table_cell(&table, "http://x");
    table_cell(&table, "b");
    table_number(&table, 1234567);
    table_cell(&table, NULL);
    table_print(&table, &out);
    assert_string_equal(buffer_c_string(&out), "NAME           COUNT  URL\n"
                                               "a-long-name        7  http://x\n"
                                               "b            1234567  -\n");
    buffer_free(&out);
}

static void counts_code_points_not_bytes(void **state)
{
    (void)state;
    static const char *const titles[] = {"NAME", "X"};
    struct table table = {.titles = titles, .columns = 2};
    struct buffer out = {0};
    table_cell(&table, "Mühle");
    table_cell(&table, "1");
    table_cell(&table, "Mills");
    table_cell(&table, "2");
    table_print(&table, &out);
    assert_string_equal(buffer_c_string(&out), "NAME   X\nMühle  1\nMills  2\n");
    buffer_free(&out);
}

static void control_bytes_cannot_reach_the_terminal(void **state)
{
    (void)state;
    static const char *const titles[] = {"NAME"};
    struct table table = {.titles = titles, .columns = 1};
    struct buffer out = {0};
    table_cell(&table, "a\x1b[2Jb\nc\x7f");
    table_print(&table, &out);
    assert_string_equal(buffer_c_string(&out), "NAME\na?[2Jb?c?\n");
    buffer_free(&out);
}

static void prints_titles_when_empty(void **state)
{
    (void)state;
    static const char *const titles[] = {"NAME", ">N"};
    struct table table = {.titles = titles, .columns = 2};
    struct buffer out = {0};
    table_print(&table, &out);
    assert_string_equal(buffer_c_string(&out), "NAME  N\n");
    buffer_free(&out);
}

static void shows_reals_with_their_decimals(void **state)
{
    (void)state;
    static const char *const titles[] = {">X"};
    struct table table = {.titles = titles, .columns = 1};
    struct buffer out = {0};
    table_real(&table, 1.23456, 3);
    table_print(&table, &out);
    assert_string_equal(buffer_c_string(&out), "    X\n1.235\n");
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_aligned_columns),
        cmocka_unit_test(counts_code_points_not_bytes),
        cmocka_unit_test(control_bytes_cannot_reach_the_terminal),
        cmocka_unit_test(prints_titles_when_empty),
        cmocka_unit_test(shows_reals_with_their_decimals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
