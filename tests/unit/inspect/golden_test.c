/* SPDX-License-Identifier: Apache-2.0 */
/* Every data directory that an earlier version wrote (tests/golden) is read as it was then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/inspect/inspect.h"
#include "broker/log/meta.h"
#include "broker/replication/shard.h"
#include "tests/unit/log/tool.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static json_t *look(const char *dir)
{
    struct inspect_options options = {.dir = dir, .verify = true, .from = 1, .to = 400};
    const char *error = NULL;
    json_t *report = NULL;
    if (inspect_directory(&options, &report, &error) != STATUS_OK)
        fail_msg("%s", error);
    return report;
}

static json_t *state_of(json_t *report)
{
    json_t *shard = json_array_get(json_object_get(report, "shards"), 0);
    return json_object_get(shard, "state");
}

/* says: whatever `expected` says, `got` says, too; a later version may say more. Not compared are
 * where the directory is, and the digest, which is no part of the format. */
static bool says(const json_t *got, const json_t *expected)
{
    const char *name;
    json_t *value;
    size_t i;
    if (json_is_object(expected)) {
        json_object_foreach((json_t *)(uintptr_t)expected, name, value)
        {
            bool skipped = strcmp(name, "directory") == 0 || strcmp(name, "digest") == 0;
            if (!skipped && !says(json_object_get(got, name), value)) {
                print_message("\"%s\" is another\n", name);
                return false;
            }
        }
        return json_is_object(got);
    }
    if (!json_is_array(expected))
        return json_equal(got, expected);
    json_array_foreach(expected, i, value)
    {
        if (!says(json_array_get(got, i), value))
            return false;
    }
    return json_array_size(got) == json_array_size(expected);
}

static void same_report(const json_t *report, const char *path)
{
    json_error_t error;
    json_t *expected = json_load_file(path, 0, &error);
    if (expected == NULL)
        fail_msg("%s: %s", path, error.text);
    if (!says(report, expected))
        fail_msg("the report is another than in %s", path);
    json_decref(expected);
}

static void on_closed(void *data)
{
    (void)data;
}

/* serve: open it as a broker would, until it is ready. */
static void serve(const char *dir)
{
    char shard_dir[256];
    uv_loop_t loop;
    struct shard *shard;
    const char *error = NULL;
    snprintf(shard_dir, sizeof shard_dir, "%s/shard-0", dir);
    uv_loop_init(&loop);
    struct shard_options options = {.loop = &loop,
                                    .dir = shard_dir,
                                    .node_id = 1,
                                    .address = "127.0.0.1:9326",
                                    .disk_reserve_bytes = 1};
    if (shard_open(&shard, &options, &error) != STATUS_OK)
        fail_msg("%s", error);
    while (!shard_ready(shard))
        uv_run(&loop, UV_RUN_ONCE);
    shard_close(shard, on_closed, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void check_version(int version)
{
    char golden[512];
    char dir[160];
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/millrace-golden-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(rmdir(dir), 0);
    snprintf(golden, sizeof golden, "%s/golden/v%d", TESTS_DIR, version);
    assert_int_equal(tool_run("cp", "-a", golden, dir), 0);
    json_t *before = look(dir);
    assert_true(inspect_good(before));
    snprintf(golden, sizeof golden, "%s/golden/v%d.json", TESTS_DIR, version);
    same_report(before, golden);
    serve(dir);
    json_t *after = look(dir);
    assert_true(inspect_good(after));
    json_t *shard = json_array_get(json_object_get(after, "shards"), 0);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(shard, "meta"), "format")),
                     META_FORMAT);
    /* The messages may have passed their retention by now; the queues stay. */
    assert_true(json_equal(json_object_get(state_of(before), "queue_count"),
                           json_object_get(state_of(after), "queue_count")));
    json_decref(before);
    json_decref(after);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static bool has_version(int version)
{
    char path[512];
    struct stat info;
    snprintf(path, sizeof path, "%s/golden/v%d", TESTS_DIR, version);
    return stat(path, &info) == 0;
}

static void every_version_is_read(void **state)
{
    (void)state;
    int version = 1;
    for (; has_version(version); version++)
        check_version(version);
    assert_true(version > 1); /* at least the first one is there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_version_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
