/* SPDX-License-Identifier: Apache-2.0 */
/* Options: precedence of the four sources, every type's good and bad values, and that each error
 * names its origin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/assert.h"
#include "proto/base/options.h"

#include <stdlib.h>
#include <unistd.h>

struct config {
    const char *data_dir;
    const char *listen;
    bool verbose;
    uint64_t nodes;
    uint64_t cache;
};

static const struct option_row rows[] = {
    {.name = "data-dir",
     .type = OPTION_TEXT,
     .placeholder = "DIR",
     .required = true,
     .offset = offsetof(struct config, data_dir),
     .help = "Where the log is kept."},
    {.name = "listen",
     .type = OPTION_ADDRESS,
     .placeholder = "ADDRESS",
     .default_text = "127.0.0.1:9324",
     .offset = offsetof(struct config, listen),
     .help = "Where to listen."},
    {.name = "verbose",
     .type = OPTION_FLAG,
     .offset = offsetof(struct config, verbose),
     .help = "Say more."},
    {.name = "nodes",
     .type = OPTION_NUMBER,
     .placeholder = "N",
     .default_text = "1",
     .min = 1,
     .max = 7,
     .offset = offsetof(struct config, nodes),
     .help = "How many nodes there are, in a sentence that is long enough to be wrapped over two "
             "lines or more."},
    {.name = "cache",
     .type = OPTION_BYTES,
     .placeholder = "BYTES",
     .default_text = "64MiB",
     .min = 4096,
     .offset = offsetof(struct config, cache),
     .help = "Memory for recent bodies."},
};

static const struct options_spec spec = {.program = "millrace test",
                                         .summary = "A program for the test.",
                                         .usage = "NAME...",
                                         .epilogue = "Examples:\n  millrace test x",
                                         .rows = rows,
                                         .row_count = ARRAY_COUNT(rows),
                                         .takes_arguments = true};

struct fixture {
    struct arena arena;
    struct config config;
    struct options_result result;
    char dir[64];
    char file[96];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/options_test.XXXXXX",
             tmp != NULL && strlen(tmp) < 32 ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->file, sizeof f->file, "%s/conf", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    unsetenv("MILLRACE_DATA_DIR");
    unsetenv("MILLRACE_NODES");
    unsetenv("MILLRACE_VERBOSE");
    unsetenv("MILLRACE_CONFIG");
    unlink(f->file);
    rmdir(f->dir);
    arena_free(&f->arena);
    free(f);
    return 0;
}

static void write_file(struct fixture *f, const char *content, size_t length)
{
    FILE *file = fopen(f->file, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* Reads the words after the program's name, up to NULL. */
static enum status read_words(struct fixture *f, const char *const *words)
{
    static char program[] = "millrace";
    char *argv[16] = {program};
    int argc = 1;
    for (; *words != NULL; words++)
        argv[argc++] = (char *)(uintptr_t)*words;
    f->config = (struct config){0};
    return options_read(&spec, argc, argv, &f->config, &f->arena, &f->result);
}
#define READ(f, ...) read_words(f, (const char *const[]){__VA_ARGS__, NULL})

static void expect_error(struct fixture *f, enum status status, const char *part)
{
    assert_int_equal(status, STATUS_INVALID);
    assert_non_null(f->result.error);
    if (strstr(f->result.error, part) == NULL)
        fail_msg("'%s' does not contain '%s'", f->result.error, part);
}

static void test_defaults(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(READ(f, "--data-dir", "/d"), STATUS_OK);
    assert_string_equal(f->config.data_dir, "/d");
    assert_string_equal(f->config.listen, "127.0.0.1:9324");
    assert_false(f->config.verbose);
    assert_int_equal(f->config.nodes, 1);
    assert_int_equal(f->config.cache, 64 << 20);
    assert_int_equal(f->result.argument_count, 0);
    assert_null(f->result.error);
}

static void test_precedence(void **state)
{
    struct fixture *f = *state;
    static const char conf[] = "# a comment\r\n\n data-dir = /file \nnodes=2\nverbose = true\n"
                               "cache = 1MiB";
    write_file(f, conf, sizeof conf - 1);
    assert_int_equal(READ(f, "--config", f->file), STATUS_OK);
    assert_string_equal(f->config.data_dir, "/file");
    assert_int_equal(f->config.nodes, 2);
    assert_int_equal(f->config.cache, 1 << 20);
    assert_true(f->config.verbose);

    setenv("MILLRACE_NODES", "3", 1);
    setenv("MILLRACE_VERBOSE", "false", 1);
    setenv("MILLRACE_DATA_DIR", "", 1); /* empty: as if unset */
    setenv("MILLRACE_CONFIG", f->file, 1);
    assert_int_equal(READ(f, "a", "--cache=5000"), STATUS_OK);
    assert_string_equal(f->config.data_dir, "/file");
    assert_int_equal(f->config.nodes, 3);
    assert_int_equal(f->config.cache, 5000);
    assert_false(f->config.verbose);

    assert_int_equal(READ(f, "--nodes=4", "--nodes", "5", "--verbose"), STATUS_OK);
    assert_int_equal(f->config.nodes, 5);
    assert_true(f->config.verbose);
}

static void test_arguments(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(READ(f, "one", "--data-dir=x=y", "-", "--", "--nodes", "-h"), STATUS_OK);
    assert_string_equal(f->config.data_dir, "x=y");
    assert_int_equal(f->result.argument_count, 4);
    assert_string_equal(f->result.arguments[0], "one");
    assert_string_equal(f->result.arguments[1], "-");
    assert_string_equal(f->result.arguments[2], "--nodes");
    assert_string_equal(f->result.arguments[3], "-h");

    struct options_spec strict = spec;
    strict.takes_arguments = false;
    char word[] = "word";
    char *argv[] = {word, word};
    enum status status = options_read(&strict, 2, argv, &f->config, &f->arena, &f->result);
    expect_error(f, status, "unexpected argument 'word'");
}

static void test_errors_name_their_origin(void **state)
{
    struct fixture *f = *state;
    expect_error(f, READ(f, "--bogus"), "unknown option '--bogus'");
    expect_error(f, READ(f, "--bogus=1"), "unknown option '--bogus'");
    expect_error(f, READ(f, "-x"), "unknown option '-x'");
    expect_error(f, READ(f, "--nodes"), "--nodes needs a value");
    expect_error(f, READ(f, "--verbose=true"), "--verbose takes no value");
    expect_error(f, READ(f, "--nodes", "1"), "--data-dir is required (or MILLRACE_DATA_DIR");
    expect_error(f, READ(f, "--nodes=8"), "--nodes: '8' is not a whole number, 1 to 7");
    expect_error(f, READ(f, "--cache=1"), "--cache: '1' is not a size");
    setenv("MILLRACE_NODES", "many", 1);
    expect_error(f, READ(f, "--nodes=2"), "MILLRACE_NODES: 'many'");
    unsetenv("MILLRACE_NODES");
    expect_error(f, READ(f, "--config=/nonexistent/file"), "--config: cannot open");
}

static void test_file_errors(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *content;
        size_t length;
        const char *error;
    } cases[] = {
        {"\nnodes = 0\n", 11, "conf:2: nodes: '0'"},
        {"nodes\n", 6, "conf:1: expected `name = value`"},
        {"bogus = 1", 9, "conf:1: unknown option 'bogus'"},
        {"nodes = 1\0\n", 11, "conf:1: expected"},
        {"verbose = yes", 13, "conf:1: verbose: 'yes' is not true or false"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        write_file(f, cases[i].content, cases[i].length);
        expect_error(f, READ(f, "--data-dir=x", "--config", f->file), cases[i].error);
    }
    char *large = malloc((1 << 20) + 1);
    memset(large, '\n', (1 << 20) + 1);
    write_file(f, large, (1 << 20) + 1);
    free(large);
    expect_error(f, READ(f, "--config", f->file), "larger than 1 MiB");
}

static void test_numbers(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "0x1",
                                      "1.5",
                                      "7x",
                                      "99999999999999999999",
                                      "18446744073709551617"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        expect_error(f, READ(f, "--data-dir=x", "--nodes", bad[i]), "--nodes: '");
}

static void test_bytes_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"0", 0},
                {"4096", 4096},
                {"4096B", 4096},
                {"100MB", 100000000},
                {"512MiB", 512ull << 20},
                {"4GiB", 4ull << 30},
                {"1TiB", 1ull << 40},
                {"18446744073709551615", UINT64_MAX}};
    uint64_t value;
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        assert_true(bytes_parse(good[i].text, &value));
        assert_true(value == good[i].value);
    }
    static const char *const bad[] = {
        "", "MiB", "1 MiB", "1mib", "1M", "-1", "1.5GiB", "18446744073709551616", "16777216TiB"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_false(bytes_parse(bad[i], &value));
}

static void test_address_split(void **state)
{
    struct fixture *f = *state;
    const char *host;
    uint16_t port;
    assert_true(address_split("node-1.example:0", &f->arena, &host, &port));
    assert_string_equal(host, "node-1.example");
    assert_int_equal(port, 0);
    assert_true(address_split("[fe80::1%eth0]:65535", &f->arena, &host, &port));
    assert_string_equal(host, "fe80::1%eth0");
    assert_int_equal(port, 65535);
    static const char *const bad[] = {"",
                                      ":1",
                                      "a",
                                      "a:",
                                      "a:65536",
                                      "::1:80",
                                      "[::1]80",
                                      "[::1]",
                                      "[]:1",
                                      "a b:1",
                                      "a/b:1",
                                      "a:1 ",
                                      "a:-1",
                                      "[a]b:1",
                                      "a:+1",
                                      "http://a:1",
                                      "a:99999999999999999999999"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_false(address_split(bad[i], &f->arena, &host, &port));
    char long_host[300];
    memset(long_host, 'a', sizeof long_host);
    snprintf(long_host + 256, sizeof long_host - 256, ":1");
    assert_false(address_split(long_host, &f->arena, &host, &port));
    assert_true(address_split(long_host + 1, &f->arena, &host, &port));
}

static void test_usage(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    options_usage(&spec, out);
    fclose(out);
    static const char *const parts[] = {
        "Usage: millrace test [OPTION]... NAME...\nA program for the test.\n",
        "  --data-dir DIR          Where the log is kept. (required, MILLRACE_DATA_DIR)\n",
        "  --verbose               Say more. (MILLRACE_VERBOSE)\n",
        "(default 64MiB, MILLRACE_CACHE)\n",
        "  --config FILE           Read options",
        "  --help ",
        "\nExamples:\n  millrace test x\n"};
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        if (strstr(text, parts[i]) == NULL)
            fail_msg("'%s' is not in:\n%s", parts[i], text);
    }
    for (const char *line = text; *line != 0; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 100);
    free(text);
}

static void test_help_and_version_come_first(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(READ(f, "--nodes=999", "--help", "--bogus"), STATUS_OK);
    assert_true(f->result.exit_now);
    assert_int_equal(READ(f, "--version"), STATUS_OK);
    assert_true(f->result.exit_now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_precedence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors_name_their_origin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_numbers, setup, teardown),
        cmocka_unit_test(test_bytes_parse),
        cmocka_unit_test_setup_teardown(test_address_split, setup, teardown),
        cmocka_unit_test(test_usage),
        cmocka_unit_test_setup_teardown(test_help_and_version_come_first, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
