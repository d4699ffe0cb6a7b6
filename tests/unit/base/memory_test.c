/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers, arenas, cursors, statuses, and the lines that trace writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/arena.h"
#include "proto/base/assert.h"
#include "proto/base/blocks.h"
#include "proto/base/buffer.h"
#include "proto/base/bytes.h"
#include "proto/base/status.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <unistd.h>

static void test_buffer(void **state)
{
    (void)state;
    struct buffer b = {0};
    assert_string_equal(buffer_c_string(&b), "");
    assert_int_equal(b.length, 0);
    buffer_add(&b, NULL, 0);
    for (int i = 0; i < 1000; i++)
        buffer_printf(&b, "%d,", i);
    assert_int_equal(b.length, 10 * 2 + 90 * 3 + 900 * 4);
    assert_true(slice_starts_with(buffer_slice(&b), "0,1,2,"));
    assert_string_equal(buffer_c_string(&b) + b.length - 8, "998,999,");
    size_t capacity = b.capacity;
    buffer_clear(&b);
    buffer_add_decimal(&b, 0);
    buffer_add_byte(&b, ' ');
    buffer_add_decimal(&b, 1234567890);
    buffer_add_byte(&b, ' ');
    buffer_add_decimal(&b, UINT64_MAX);
    assert_string_equal(buffer_c_string(&b), "0 1234567890 18446744073709551615");
    buffer_clear(&b);
    assert_int_equal(b.length, 0);
    assert_int_equal(b.capacity, capacity);
    buffer_add_u16(&b, 0x0102);
    buffer_add_u32(&b, 0x03040506);
    buffer_add_u64(&b, 0x0708090a0b0c0d0e);
    static const uint8_t expected[] = {2, 1, 6, 5, 4, 3, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 9, 8, 7};
    assert_int_equal(b.length, sizeof expected);
    assert_memory_equal(b.data, expected, sizeof expected);
    buffer_free(&b);
    assert_null(b.data);
    buffer_free(&b);
}

static void test_cursor(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 0, 3, 0, 0, 0, 'a', 'b', 'c', 5, 0, 0, 0, 'x'};
    struct cursor c = cursor_of(slice_make(bytes, sizeof bytes));
    assert_int_equal(cursor_u8(&c), 1);
    assert_int_equal(cursor_u16(&c), 2);
    assert_true(slice_is(cursor_bytes(&c), "abc"));
    assert_false(c.bad);
    struct slice beyond = cursor_bytes(&c); /* says 5, there is 1 */
    assert_null(beyond.data);
    assert_true(c.bad);
    assert_int_equal(cursor_u8(&c), 0); /* stays bad */
    c = cursor_of(slice_make(NULL, 0));
    assert_int_equal(cursor_left(&c), 0);
    assert_int_equal(cursor_u64(&c), 0);
    assert_true(c.bad);
}

static void test_arena(void **state)
{
    (void)state;
    struct arena arena = {0};
    for (size_t bytes = 0; bytes < 200; bytes++) {
        uint8_t *at = arena_alloc(&arena, bytes);
        assert_non_null(at);
        assert_int_equal((uintptr_t)at % 16, 0);
        for (size_t i = 0; i < bytes; i++)
            assert_int_equal(at[i], 0);
        memset(at, 0xff, bytes); /* must not reach the next one */
    }
    uint8_t *large = arena_alloc(&arena, 1 << 20);
    large[(1 << 20) - 1] = 1;
    assert_string_equal(arena_printf(&arena, "%s-%d", "a", 7), "a-7");
    struct slice copy = arena_copy(&arena, slice_make("a\0b", 3));
    assert_memory_equal(copy.data, "a\0b", 4);
    assert_string_equal(arena_text(&arena, slice_make(NULL, 0)), "");
    arena_free(&arena);
    assert_null(arena.blocks);
    arena_free(&arena);
}

/* What begins small goes on as any other. */
static void test_arena_small(void **state)
{
    (void)state;
    struct arena arena = {0};
    arena_begin_small(&arena);
    const void *first = arena.blocks;
    for (size_t used = 0; used < BLOCK_BYTES_MIN / 2; used += 64)
        memset(arena_alloc(&arena, 64), 0xff, 64);
    assert_ptr_equal(arena.blocks, first);
    for (size_t used = 0; used < BLOCK_BYTES_MAX; used += 64)
        memset(arena_alloc(&arena, 64), 0xff, 64);
    assert_ptr_not_equal(arena.blocks, first);
    arena_free(&arena);
    assert_null(arena.blocks);
}

static void test_slice(void **state)
{
    (void)state;
    assert_true(slice_equal(slice_make(NULL, 0), SLICE_LITERAL("")));
    assert_true(slice_is_nocase(SLICE_LITERAL("HoSt"), "hOsT"));
    assert_false(slice_is_nocase(SLICE_LITERAL("host1"), "host"));
    assert_true(slice_starts_with(slice_make(NULL, 0), ""));
    assert_false(slice_starts_with(SLICE_LITERAL("ab"), "abc"));
    assert_int_equal(slice_find(SLICE_LITERAL("abcb"), 'b'), 1);
    assert_int_equal(slice_find(slice_make(NULL, 0), 'b'), -1);
    assert_int_equal(slice_sub(slice_make(NULL, 0), 0).length, 0);
}

static void test_status(void **state)
{
    (void)state;
    assert_string_equal(status_name(STATUS_DISK_FULL), "DISK_FULL");
    assert_string_equal(status_text(STATUS_OK), "ok");
    assert_int_equal(status_from_errno(0), STATUS_OK);
    assert_int_equal(status_from_errno(ENOSPC), STATUS_DISK_FULL);
    assert_int_equal(status_from_errno(-ENOENT), STATUS_NOT_FOUND);
    assert_int_equal(status_from_errno(ENOTTY), STATUS_IO_ERROR);
}

/* What trace_event writes to stderr while `run` runs. */
static void capture(void (*run)(void), char *out, size_t size)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    int before = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    run();
    dup2(before, STDERR_FILENO);
    close(before);
    close(fds[1]);
    size_t length = 0;
    ssize_t got;
    while ((got = read(fds[0], out + length, size - 1 - length)) > 0)
        length += (size_t)got;
    close(fds[0]);
    out[length] = 0;
}

static void say_evil(void)
{
    trace_info("area", "event", "name=\"%s\"", "a\nts=forged\r\x1b[31m\x7f\"");
    trace_debug("area", "hidden", "x=%d", 1);
}

static void say_long(void)
{
    char text[5000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    trace_error("area", "long", "name=%s", text);
}

static void test_trace_escapes(void **state)
{
    (void)state;
    char line[8192];
    capture(say_evil, line, sizeof line);
    assert_non_null(strstr(line, " level=info area=area event=event name=\"a\\x0ats=forged\\x0d"
                                 "\\x1b[31m\\x7f\"\"\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1); /* one line */
    assert_true(strncmp(line, "ts=20", 5) == 0);
    trace_configure(TRACE_INFO, true);
    capture(say_evil, line, sizeof line);
    trace_configure(TRACE_INFO, false);
    assert_non_null(strstr(line,
                           ",\"level\":\"info\",\"area\":\"area\",\"event\":\"event\",\"detail\":"
                           "\"name=\\\"a\\u000ats=forged\\u000d\\u001b[31m\\u007f\\\"\\\"\"}"
                           "\n"));
    capture(say_long, line, sizeof line);
    assert_true(strlen(line) < 2300);
    assert_int_equal(line[strlen(line) - 1], '\n');
    enum trace_level level;
    assert_true(trace_level_parse("warn", &level));
    assert_int_equal(level, TRACE_WARN);
    assert_false(trace_level_parse("loud", &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffer),        cmocka_unit_test(test_cursor),
        cmocka_unit_test(test_arena),         cmocka_unit_test(test_arena_small),
        cmocka_unit_test(test_slice),         cmocka_unit_test(test_status),
        cmocka_unit_test(test_trace_escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
