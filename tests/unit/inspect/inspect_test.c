/* SPDX-License-Identifier: Apache-2.0 */
/* What millrace-inspect says of a good directory, and of one in which something is wrong: each kind
 * of damage is named with its file and offset, and nothing is changed by looking. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/inspect/inspect.h"
#include "broker/log/frame.h"
#include "broker/log/log.h"
#include "tests/unit/inspect/sample.h"
#include "tests/unit/log/tool.h"

#include <fcntl.h>
#include <ftw.h>
#include <unistd.h>

struct bench {
    char base[128];
    char original[160];
    char dir[160];
    json_t *report;
};

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int make_all(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    const char *base = getenv("TMPDIR");
    snprintf(b->base, sizeof b->base, "%s/millrace-inspect-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(b->base) == NULL)
        return -1;
    snprintf(b->original, sizeof b->original, "%s/original", b->base);
    snprintf(b->dir, sizeof b->dir, "%s/copy", b->base);
    if (mkdir(b->original, 0700) != 0)
        return -1;
    sample_make(b->original);
    *state = b;
    return 0;
}

static int remove_all(void **state)
{
    struct bench *b = *state;
    nftw(b->base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(b);
    return 0;
}

static int copy(void **state)
{
    struct bench *b = *state;
    return tool_run("cp", "-a", b->original, b->dir);
}

static int drop_copy(void **state)
{
    struct bench *b = *state;
    json_decref(b->report);
    b->report = NULL;
    nftw(b->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return 0;
}

static json_t *look(struct bench *b, const char *entries)
{
    struct inspect_options options = {.dir = b->dir, .verify = true};
    const char *error = NULL;
    json_decref(b->report);
    b->report = NULL;
    if (entries != NULL)
        assert_true(inspect_range(entries, &options));
    if (inspect_directory(&options, &b->report, &error) != STATUS_OK)
        fail_msg("%s", error);
    return json_array_get(json_object_get(b->report, "shards"), 0);
}

static int64_t number(const json_t *row, const char *name)
{
    const json_t *value = json_object_get(row, name);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static const char *text(const json_t *row, const char *name)
{
    const char *value = json_string_value(json_object_get(row, name));
    assert_non_null(value);
    return value;
}

/* the_problem: the first row that says so; the test fails if there is none. */
static const json_t *the_problem(struct bench *b, const char *file, const char *what)
{
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(b->report, "problems"), i, row)
    {
        if (strstr(text(row, "file"), file) != NULL && strstr(text(row, "what"), what) != NULL)
            return row;
    }
    char *all = json_dumps(json_object_get(b->report, "problems"), JSON_INDENT(1));
    print_message("%s\n", all);
    free(all);
    fail_msg("no problem \"%s\" in %s", what, file);
    return NULL;
}

/* find_segment: the nth whose flag has this value. */
static const json_t *find_segment(const json_t *shard, const char *flag, bool value, size_t n)
{
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(shard, "segments"), i, row)
    {
        if (json_is_true(json_object_get(row, flag)) == value && n-- == 0)
            return row;
    }
    fail_msg("no segment with %s %d", flag, value);
    return NULL;
}

static void path_of(struct bench *b, const char *file, char out[300])
{
    snprintf(out, 300, "%s/shard-0/%s", b->dir, file);
}

static void flip(struct bench *b, const char *file, int64_t offset)
{
    char path[300];
    uint8_t byte;
    path_of(b, file, path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

/* ---- tests ---- */

static void a_good_directory(void **state)
{
    struct bench *b = *state;
    json_t *shard = look(b, NULL);
    const json_t *state_row = json_object_get(shard, "state");
    assert_true(inspect_good(b->report));
    assert_string_equal(text(shard, "name"), "shard-0");
    assert_int_equal(number(json_object_get(shard, "meta"), "node_id"), 1);
    assert_int_equal(number(json_object_get(shard, "meta"), "shard_id"), 0);
    assert_int_equal(json_array_size(json_object_get(shard, "snapshots")), 2);
    assert_int_equal(number(state_row, "queue_count"), 2);
    assert_int_equal(number(state_row, "message_count"), SAMPLE_SLOW_COUNT + 2);
    assert_int_equal(number(state_row, "bodies"), SAMPLE_SLOW_COUNT + 2);
    assert_int_equal(number(state_row, "bodies_missing"), 0);
    const json_t *orders = json_array_get(json_object_get(state_row, "queues"), 0);
    assert_string_equal(text(orders, "name"), "orders");
    assert_int_equal(number(orders, "visible"), 1);
    assert_int_equal(number(orders, "in_flight"), 1);
    assert_true(number(find_segment(shard, "rewritten", true, 0), "frames") > 0);
    find_segment(shard, "sealed", false, 0);
}

static void the_text_says_it_all(void **state)
{
    struct bench *b = *state;
    struct buffer out = {0};
    look(b, "1..5");
    inspect_text(b->report, &out);
    const char *all = buffer_c_string(&out);
    assert_non_null(strstr(all, "\"orders\": 1 visible, 1 in flight, 0 delayed"));
    assert_non_null(strstr(all, ", rewritten\n"));
    assert_non_null(strstr(all, ", open"));
    assert_non_null(strstr(all, "no problem found; every entry was read and checked"));
    buffer_free(&out);
}

static void entries_are_listed(void **state)
{
    struct bench *b = *state;
    char range[64];
    json_t *shard = look(b, NULL);
    int64_t last = number(json_object_get(shard, "state"), "last_index");
    snprintf(range, sizeof range, "%lld..%lld", (long long)last - 2, (long long)last + 10);
    shard = look(b, range);
    const json_t *entries = json_object_get(shard, "entries");
    assert_int_equal(json_array_size(entries), 3);
    const json_t *entry = json_array_get(entries, 2);
    assert_int_equal(number(entry, "index"), last);
    assert_string_equal(text(entry, "type"), "command");
    const json_t *command = json_array_get(json_object_get(entry, "commands"), 0);
    assert_string_equal(text(command, "command"), "ORIGIN");
    command = json_array_get(json_object_get(entry, "commands"), 1);
    assert_string_equal(text(command, "command"), "RECEIVE");
    assert_string_equal(text(command, "queue"), "orders");
    const json_t *send = json_array_get(json_object_get(json_array_get(entries, 0), "commands"), 1);
    assert_string_equal(text(send, "command"), "SEND");
    assert_true(number(send, "bytes") > 5000);
}

static void ranges(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",      "x",     "0",     "1..",       "..2",   "3..2",  "1-2",
        "1..2x", "-1..2", "1...2", "1..100001", " 1..2", "1.. 2", "99999999999999999999"};
    struct inspect_options options = {0};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_false(inspect_range(bad[i], &options));
    assert_true(inspect_range("7", &options));
    assert_int_equal(options.to, 7);
    assert_true(inspect_range("7..100006", &options));
    assert_int_equal(options.from, 7);
}

static void nothing_is_changed(void **state)
{
    struct bench *b = *state;
    look(b, "1..100");
    assert_int_equal(tool_run("diff", "-r", b->original, b->dir), 0);
}

static void a_damaged_entry(void **state)
{
    struct bench *b = *state;
    json_t *shard = look(b, NULL);
    const json_t *segment = find_segment(shard, "sealed", true, 0);
    char file[100];
    snprintf(file, sizeof file, "%s", text(segment, "file"));
    flip(b, file, SEGMENT_HEAD_BYTES + frame_head_bytes(1) + 4);
    look(b, NULL);
    const json_t *row = the_problem(b, file, "does not match its checksum");
    assert_true(number(row, "offset") >= SEGMENT_HEAD_BYTES);
    assert_false(inspect_good(b->report));
    assert_false(json_is_true(json_object_get(b->report, "good")));
}

static void a_damaged_footer_and_header(void **state)
{
    struct bench *b = *state;
    json_t *shard = look(b, NULL);
    char first[100];
    char second[100];
    const json_t *segment = find_segment(shard, "sealed", true, 0);
    snprintf(first, sizeof first, "%s", text(segment, "file"));
    flip(b, first, number(segment, "file_bytes") - 20);
    segment = find_segment(shard, "sealed", true, 1);
    snprintf(second, sizeof second, "%s", text(segment, "file"));
    flip(b, second, 9);
    look(b, NULL);
    the_problem(b, first, "footer is missing or broken");
    the_problem(b, second, "header does not match its checksum");
}

static void a_missing_segment(void **state)
{
    struct bench *b = *state;
    char path[300];
    json_t *shard = look(b, NULL);
    path_of(b, text(find_segment(shard, "rewritten", true, 0), "file"), path);
    assert_int_equal(unlink(path), 0);
    look(b, NULL);
    the_problem(b, "segments", "are in segments that are missing");
}

static void damaged_snapshots(void **state)
{
    struct bench *b = *state;
    json_t *shard = look(b, NULL);
    char first[100];
    char second[100];
    const json_t *rows = json_object_get(shard, "snapshots");
    snprintf(first, sizeof first, "%s", text(json_array_get(rows, 0), "file"));
    snprintf(second, sizeof second, "%s", text(json_array_get(rows, 1), "file"));
    flip(b, second, 100);
    shard = look(b, NULL);
    the_problem(b, second, "does not match its checksums");
    assert_int_equal(number(json_object_get(shard, "state"), "message_count"),
                     SAMPLE_SLOW_COUNT + 2); /* by way of the other one */
    flip(b, first, 100);
    shard = look(b, NULL);
    the_problem(b, "segments", "no good snapshot leads up to them");
    assert_null(json_object_get(shard, "state"));
}

static void missing_and_damaged_meta_files(void **state)
{
    struct bench *b = *state;
    char path[300];
    flip(b, "meta-1", 33);
    json_t *shard = look(b, NULL);
    assert_true(inspect_good(b->report)); /* as after a torn write */
    assert_string_equal(text(json_object_get(shard, "meta_files"), "meta-1"), "damaged");
    path_of(b, "meta-2", path);
    if (unlink(path) != 0)
        assert_int_equal(errno, ENOENT);
    look(b, NULL);
    the_problem(b, "meta-1", "neither meta-1 nor meta-2 is readable and whole");
    path_of(b, "meta-1", path);
    assert_int_equal(unlink(path), 0);
    look(b, NULL);
    the_problem(b, "meta-1", "are missing");
}

static void a_torn_end_is_no_problem(void **state)
{
    struct bench *b = *state;
    json_t *shard = look(b, NULL);
    const json_t *segment = find_segment(shard, "sealed", false, 0);
    char file[100];
    snprintf(file, sizeof file, "%s", text(segment, "file"));
    flip(b, file, number(segment, "frames_end") + 3);
    shard = look(b, NULL);
    assert_true(inspect_good(b->report));
    assert_true(
        json_is_true(json_object_get(find_segment(shard, "sealed", false, 0), "leftovers")));
}

static void garbage_in_every_file(void **state)
{
    struct bench *b = *state;
    json_t *shard = look(b, NULL);
    json_t *files = json_array();
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(shard, "segments"), i, row)
    {
        json_array_append(files, json_object_get(row, "file"));
    }
    json_array_foreach(json_object_get(shard, "snapshots"), i, row)
    {
        json_array_append(files, json_object_get(row, "file"));
    }
    unsigned seed = 7;
    for (int round = 0; round < 60; round++) { /* whatever is flipped: no crash, and no silence */
        const json_t *name = json_array_get(files, (size_t)rand_r(&seed) % json_array_size(files));
        char path[300];
        struct stat info;
        path_of(b, json_string_value(name), path);
        assert_int_equal(stat(path, &info), 0);
        for (int n = 0; n < 8; n++)
            flip(b, json_string_value(name), rand_r(&seed) % info.st_size);
        look(b, "1..100000");
    }
    assert_false(inspect_good(b->report));
    json_decref(files);
}

static void what_is_no_data_directory(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    json_t *report;
    struct inspect_options options = {.dir = "/nonexistent/millrace"};
    assert_int_equal(inspect_directory(&options, &report, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error, "/nonexistent/millrace: No such file"));
    options.dir = b->base; /* its folders have no segments in them */
    assert_int_equal(inspect_directory(&options, &report, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error, "is no data directory"));
}

static void one_shard_by_its_own_folder(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    char dir[300];
    path_of(b, "", dir);
    struct inspect_options options = {.dir = dir};
    assert_int_equal(inspect_directory(&options, &b->report, &error), STATUS_OK);
    assert_true(inspect_good(b->report));
    assert_int_equal(json_array_size(json_object_get(b->report, "shards")), 1);
}

static void a_held_directory_is_refused(void **state)
{
    struct bench *b = *state;
    const char *error = NULL;
    struct node_lock lock;
    json_t *report;
    struct inspect_options options = {.dir = b->dir};
    assert_int_equal(node_lock_take(&lock, b->dir, 0, &error), STATUS_OK);
    assert_int_equal(inspect_directory(&options, &report, &error), STATUS_LOCKED);
    assert_non_null(strstr(error, "is held by a process, pid "));
    options.force = true;
    assert_int_equal(inspect_directory(&options, &b->report, &error), STATUS_OK);
    assert_true(inspect_good(b->report));
    node_lock_drop(&lock);
    options.force = false;
    json_decref(b->report);
    assert_int_equal(inspect_directory(&options, &b->report, &error), STATUS_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, copy, drop_copy)
    const struct CMUnitTest tests[] = {
        TEST(a_good_directory),
        TEST(the_text_says_it_all),
        TEST(entries_are_listed),
        TEST(ranges),
        TEST(nothing_is_changed),
        TEST(a_damaged_entry),
        TEST(a_damaged_footer_and_header),
        TEST(a_missing_segment),
        TEST(damaged_snapshots),
        TEST(missing_and_damaged_meta_files),
        TEST(a_torn_end_is_no_problem),
        TEST(garbage_in_every_file),
        TEST(what_is_no_data_directory),
        TEST(one_shard_by_its_own_folder),
        TEST(a_held_directory_is_refused),
    };
    return cmocka_run_group_tests(tests, make_all, remove_all);
}
