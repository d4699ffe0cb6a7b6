/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's parts that need no processes: the order's codec, routes, variables, error objects,
 * output and log files, the seccomp filter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/assert.h"
#include "proto/base/trace.h"
#include "worker/error_object.h"
#include "worker/file_tree.h"
#include "worker/output.h"
#include "worker/runtime_api.h"
#include "worker/sandbox.h"
#include "worker/seccomp_filter.h"
#include "worker/socket_owner.h"
#include "worker/variables.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *argv[] = {"/usr/bin/x", "a", NULL};
static const char *envp[] = {"A=1", "B=", NULL};

static void encode_spec(struct buffer *out, uint32_t uid)
{
    struct sandbox_spec spec = {.namespaces = true,
                                .own_uid = true,
                                .uid = uid,
                                .tmp_mb = 512,
                                .processes_max = 1024,
                                .root_dir = "/r",
                                .task_dir = "/t",
                                .runtime_dir = "/run",
                                .group_dirs = {"/g", ""},
                                .argv = argv,
                                .envp = envp};
    sandbox_spec_encode(out, &spec);
}

static void spec_survives_its_codec(void **state)
{
    struct buffer bytes = {0};
    struct arena arena = {0};
    struct sandbox_spec spec;
    (void)state;
    encode_spec(&bytes, 1234);
    assert_int_equal(sandbox_spec_decode(buffer_slice(&bytes), &arena, &spec), STATUS_OK);
    assert_true(spec.namespaces && spec.own_uid);
    assert_int_equal(spec.uid, 1234);
    assert_int_equal(spec.tmp_mb, 512);
    assert_string_equal(spec.task_dir, "/t");
    assert_string_equal(spec.group_dirs[0], "/g");
    assert_string_equal(spec.argv[1], "a");
    assert_null(spec.argv[2]);
    assert_string_equal(spec.envp[1], "B=");
    assert_null(spec.envp[2]);
    arena_free(&arena);
    buffer_free(&bytes);
}

static void damaged_specs_are_refused(void **state)
{
    struct buffer bytes = {0};
    struct arena arena = {0};
    struct sandbox_spec spec;
    (void)state;
    encode_spec(&bytes, 1234);
    for (size_t length = 0; length < bytes.length; length++)
        assert_int_equal(sandbox_spec_decode(slice_make(bytes.data, length), &arena, &spec),
                         STATUS_INVALID);
    buffer_add_byte(&bytes, 0);
    assert_int_equal(sandbox_spec_decode(buffer_slice(&bytes), &arena, &spec), STATUS_INVALID);
    buffer_clear(&bytes);
    encode_spec(&bytes, 0); /* an own user that is root */
    assert_int_equal(sandbox_spec_decode(buffer_slice(&bytes), &arena, &spec), STATUS_INVALID);
    buffer_clear(&bytes);
    encode_spec(&bytes, 1);
    memset(bytes.data + bytes.length - 8, 0xff, 4); /* the last text's length */
    assert_int_equal(sandbox_spec_decode(buffer_slice(&bytes), &arena, &spec), STATUS_INVALID);
    arena_free(&arena);
    buffer_free(&bytes);
}

static void routes_are_told_apart(void **state)
{
    static const struct {
        const char *method, *path, *id;
        enum api_route route;
    } rows[] = {
        {"GET", "/2018-06-01/runtime/invocation/next", "", ROUTE_NEXT},
        {"POST", "/2018-06-01/runtime/invocation/next", "", ROUTE_WRONG_METHOD},
        {"POST", "/2018-06-01/runtime/invocation/abc/response", "abc", ROUTE_RESPONSE},
        {"POST", "/2018-06-01/runtime/invocation/abc/error", "abc", ROUTE_ERROR},
        {"GET", "/2018-06-01/runtime/invocation/abc/error", "abc", ROUTE_WRONG_METHOD},
        {"POST", "/2018-06-01/runtime/init/error", "", ROUTE_INIT_ERROR},
        {"POST", "/2018-06-01/runtime/invocation//response", "", ROUTE_UNKNOWN},
        {"POST", "/2018-06-01/runtime/invocation/abc", "", ROUTE_UNKNOWN},
        {"POST", "/2018-06-01/runtime/invocation/", "", ROUTE_UNKNOWN},
        {"POST", "/2018-06-01/runtime/invocation/abc/other", "abc", ROUTE_UNKNOWN},
        {"GET", "/2018-06-01/runtime", "", ROUTE_UNKNOWN},
        {"GET", "", "", ROUTE_UNKNOWN},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct slice id;
        assert_int_equal(api_route_parse(slice_of(rows[i].method), slice_of(rows[i].path), &id),
                         rows[i].route);
        if (rows[i].id[0] != '\0')
            assert_true(slice_is(id, rows[i].id));
    }
}

static const char *value_in(const char *const *variables, const char *name)
{
    for (size_t i = 0; variables[i] != NULL; i++)
        if (strncmp(variables[i], name, strlen(name)) == 0 && variables[i][strlen(name)] == '=')
            return variables[i] + strlen(name) + 1;
    return NULL;
}

static void variables_cannot_be_stolen(void **state)
{
    static const char *const own[][2] = {
        {"AWS_LAMBDA_RUNTIME_API", "evil:1"},
        {"AWS_LAMBDA_ANYTHING", "x"},
        {"_HANDLER", "x"},
        {"AWS_SESSION_TOKEN", "x"},
        {"PATH", "/mine"},
        {"1BAD", "x"},
        {"BAD NAME", "x"},
        {"", "x"},
        {"GOOD_1", "kept"},
    };
    Millrace__KeyValue pairs[ARRAY_COUNT(own)];
    Millrace__KeyValue *pointers[ARRAY_COUNT(own)];
    Millrace__Function function = MILLRACE__FUNCTION__INIT;
    struct arena arena = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(own); i++) {
        millrace__key_value__init(&pairs[i]);
        pairs[i].key = (char *)(uintptr_t)own[i][0];
        pairs[i].value = (char *)(uintptr_t)own[i][1];
        pointers[i] = &pairs[i];
    }
    function.name = (char *)(uintptr_t) "f";
    function.handler = (char *)(uintptr_t) "app.handler";
    function.version = (char *)(uintptr_t) "$LATEST";
    function.memory_mb = 128;
    function.n_environment = ARRAY_COUNT(own);
    function.environment = pointers;
    struct variables_input input = {.function = &function,
                                    .execution_env = "AWS_Lambda_python3.11",
                                    .task_root = "/var/task",
                                    .runtime_root = "/var/runtime",
                                    .home = "/tmp",
                                    .runtime_api = "127.0.0.1:9001",
                                    .log_stream = "s",
                                    .endpoint = "",
                                    .region = ""};
    const char **variables = variables_build(&input, &arena);
    assert_string_equal(value_in(variables, "AWS_LAMBDA_RUNTIME_API"), "127.0.0.1:9001");
    assert_string_equal(value_in(variables, "_HANDLER"), "app.handler");
    assert_string_equal(value_in(variables, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), "128");
    assert_string_equal(value_in(variables, "AWS_LAMBDA_LOG_GROUP_NAME"), "/aws/lambda/f");
    assert_string_equal(value_in(variables, "AWS_REGION"), "us-east-1");
    assert_string_equal(value_in(variables, "PATH"), "/mine");
    assert_string_equal(value_in(variables, "GOOD_1"), "kept");
    assert_string_equal(value_in(variables, "TZ"), ":UTC");
    assert_null(value_in(variables, "AWS_LAMBDA_ANYTHING"));
    assert_null(value_in(variables, "AWS_SESSION_TOKEN"));
    assert_null(value_in(variables, "AWS_ENDPOINT_URL"));
    assert_null(value_in(variables, "1BAD"));
    assert_null(value_in(variables, "BAD NAME"));
    /* Built from nothing: what this process has does not show. */
    assert_null(value_in(variables, "USER"));
    arena_free(&arena);
}

static void error_objects_read_as_awss(void **state)
{
    static const struct {
        int wstatus;
        const char *text;
    } rows[] = {
        {3 << 8, "Runtime exited with error: exit status 3"},
        {SIGKILL, "Runtime exited with error: signal: killed"},
        {SIGSEGV, "Runtime exited with error: signal: segmentation fault"},
        {0, "Runtime exited without providing a reason"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct buffer object = {0};
        char text[256];
        error_object_exit(&object, "ID", rows[i].wstatus);
        snprintf(
            text, sizeof text,
            "{\"errorType\":\"Runtime.ExitError\",\"errorMessage\":\"RequestId: ID Error: %s\"}",
            rows[i].text);
        assert_string_equal(buffer_c_string(&object), text);
        buffer_free(&object);
    }
}

static void reported_errors_are_checked(void **state)
{
    static const struct {
        const char *reported, *type, *expected;
    } rows[] = {
        {"{\"errorType\":\"X\"}", "Y", "{\"errorType\":\"X\"}"},
        {"not json", "Runtime.Odd", "{\"errorType\":\"Runtime.Odd\","},
        {"[1]", "", "{\"errorType\":\"Runtime.Unknown\","},
        {"", "", "{\"errorType\":\"Runtime.Unknown\","},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct buffer object = {0};
        error_object_checked(&object, slice_of(rows[i].reported), slice_of(rows[i].type));
        assert_memory_equal(buffer_c_string(&object), rows[i].expected, strlen(rows[i].expected));
        buffer_free(&object);
    }
    struct buffer object = {0};
    error_object(&object, "T", "a \"quote\"\n");
    assert_string_equal(buffer_c_string(&object),
                        "{\"errorType\":\"T\",\"errorMessage\":\"a \\\"quote\\\"\\n\"}");
    buffer_free(&object);
}

/* ---- output ---- */

static void count(void *data)
{
    (*(int *)data)++;
}

static void turn_until(uv_loop_t *loop, const int *counter, int value)
{
    while (*counter < value)
        uv_run(loop, UV_RUN_ONCE);
}

static void make_dir(char *dir, size_t size)
{
    const char *base = getenv("TMPDIR");
    snprintf(dir, size, "%.40s/millrace-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
}

static void output_is_cleaned_and_kept(void **state)
{
    uv_loop_t loop;
    char dir[64], text[64] = "";
    struct output output;
    int fd = -1, closed = 0;
    (void)state;
    make_dir(dir, sizeof dir);
    assert_int_equal(uv_loop_init(&loop), 0);
    struct log_files *files = log_files_open(&loop, dir);
    struct log_file *file = log_file_get(files, "fn");
    assert_int_equal(output_open(&output, &loop, file, &fd), STATUS_OK);
    assert_int_equal(write(fd, "a\033[1m\tb\r\0c", 10), 10);
    output_drain(&output);
    output_line(&output, "END %d", 1);
    assert_int_equal(output_tail(&output).length, strlen("a[1m\tbc\nEND 1\n"));
    assert_true(slice_is(output_tail(&output), "a[1m\tbc\nEND 1\n"));
    output_renew(&output, false);
    assert_int_equal(output_tail(&output).length, 0);
    close(fd);
    output_close(&output, count, &closed);
    log_file_release(file);
    log_files_close(files, count, &closed);
    turn_until(&loop, &closed, 2);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    char path[128];
    snprintf(path, sizeof path, "%s/fn.log", dir);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    assert_int_equal(fread(text, 1, sizeof text - 1, in), strlen("a[1m\tbc\nEND 1\n"));
    fclose(in);
    assert_string_equal(text, "a[1m\tbc\nEND 1\n");
    assert_int_equal(file_tree_remove(dir), STATUS_OK);
}

static void log_files_rotate(void **state)
{
    uv_loop_t loop;
    char dir[64], path[128];
    int closed = 0;
    struct stat st;
    (void)state;
    make_dir(dir, sizeof dir);
    assert_int_equal(uv_loop_init(&loop), 0);
    struct log_files *files = log_files_open(&loop, dir);
    struct log_file *file = log_file_get(files, "fn");
    assert_ptr_equal(log_file_get(files, "fn"), file); /* shared by two environments */
    log_file_release(file);
    char *block = calloc(1, 1u << 20);
    assert_non_null(block);
    for (int i = 0; i < 25; i++) {
        log_file_add(file, slice_make(block, 1u << 20));
        uv_run(&loop, UV_RUN_DEFAULT);
    }
    free(block);
    log_file_release(file);
    log_files_close(files, count, &closed);
    turn_until(&loop, &closed, 1);
    assert_int_equal(uv_loop_close(&loop), 0);
    snprintf(path, sizeof path, "%s/fn.log", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 5 << 20);
    snprintf(path, sizeof path, "%s/fn.log.1", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 10 << 20);
    assert_int_equal(file_tree_remove(dir), STATUS_OK);
}

/* A disk that takes nothing: what gathers stays bounded. */
static void a_stuck_log_file_drops(void **state)
{
    uv_loop_t loop;
    int closed = 0;
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    trace_configure(TRACE_ERROR, false);
    struct log_files *files = log_files_open(&loop, "/nonexistent");
    struct log_file *file = log_file_get(files, "fn");
    char *block = calloc(1, 1u << 20);
    assert_non_null(block);
    for (int i = 0; i < 100; i++)
        log_file_add(file, slice_make(block, 1u << 20)); /* the loop does not turn meanwhile */
    free(block);
    log_file_release(file);
    log_files_close(files, count, &closed);
    turn_until(&loop, &closed, 1);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void the_filter_compiles(void **state)
{
    struct sock_fprog filter;
    (void)state;
    assert_int_equal(seccomp_filter_build(&filter), STATUS_OK);
    assert_true(filter.len > 50);
    seccomp_filter_free(&filter);
    assert_int_equal(filter.len, 0);
}

static void unknown_sockets_have_no_owner(void **state)
{
    (void)state;
    assert_false(socket_owner_is("127.0.0.1:1", 1, getuid()));
    assert_false(socket_owner_is("[::1]:1", 1, getuid()));
    assert_false(socket_owner_is("", 1, getuid()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spec_survives_its_codec),
        cmocka_unit_test(damaged_specs_are_refused),
        cmocka_unit_test(routes_are_told_apart),
        cmocka_unit_test(variables_cannot_be_stolen),
        cmocka_unit_test(error_objects_read_as_awss),
        cmocka_unit_test(reported_errors_are_checked),
        cmocka_unit_test(output_is_cleaned_and_kept),
        cmocka_unit_test(log_files_rotate),
        cmocka_unit_test(a_stuck_log_file_drops),
        cmocka_unit_test(the_filter_compiles),
        cmocka_unit_test(unknown_sockets_have_no_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
