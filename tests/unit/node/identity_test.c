/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of members, and the file that says whose data a directory holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/identity.h"
#include "broker/members.h"
#include "proto/base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- lists ---- */

static void test_list(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct member members[MEMBERS_MAX];
    size_t count;
    assert_null(
        members_parse("3=c.example:9326,1=10.0.0.1:1,20=[::1]:65535", &arena, members, &count));
    assert_int_equal(count, 3);
    assert_int_equal(members[0].id, 1);
    assert_string_equal(members[0].address, "10.0.0.1:1");
    assert_int_equal(members[1].id, 3);
    assert_string_equal(members[1].address, "c.example:9326");
    assert_string_equal(members[2].address, "[::1]:65535");
    assert_ptr_equal(members_find(members, count, 3), &members[1]);
    assert_null(members_find(members, count, 2));
    arena_free(&arena);
}

static uint64_t digest(const char *list)
{
    struct arena arena = {0};
    struct member members[MEMBERS_MAX];
    size_t count;
    assert_null(members_parse(list, &arena, members, &count));
    uint64_t value = members_digest(members, count);
    arena_free(&arena);
    return value;
}

static void test_digest(void **state)
{
    (void)state;
    assert_true(digest("1=a:1,2=b:2") == digest("2=b:2,1=a:1"));
    assert_true(digest("1=a:1,2=b:2") != digest("1=a:1,2=b:3"));
    assert_true(digest("1=a:1,2=b:2") != digest("1=a:1"));
    assert_true(digest("1=a:1") != 0);
}

static void test_bad_lists(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "",
        "1",
        "1=",
        "=a:1",
        "1=a",
        "1=a:1,",
        ",1=a:1",
        "1=a:1,,2=b:2",
        "0=a:1",
        "-1=a:1",
        "1 =a:1",
        "4294967296=a:1",
        "1=a:0",
        "1=a:99999",
        "1=a:1,1=b:1",
        "1=a:1,2=a:1",
        "x=a:1",
        "99999999999999999999=a:1",
    };
    struct member members[MEMBERS_MAX];
    struct arena arena = {0};
    size_t count;
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        if (members_parse(lists[i], &arena, members, &count) == NULL)
            fail_msg("accepted: \"%s\"", lists[i]);
    }
    struct buffer many = {0};
    for (unsigned i = 1; i <= MEMBERS_MAX + 1; i++)
        buffer_printf(&many, "%s%u=a:%u", i > 1 ? "," : "", i, i);
    assert_non_null(members_parse(buffer_c_string(&many), &arena, members, &count));
    buffer_free(&many);
    arena_free(&arena);
}

/* ---- the file ---- */

static char dir[64];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s/millrace-identity-XXXXXX",
             getenv("TMPDIR") != NULL && strlen(getenv("TMPDIR")) < 30 ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static void remove_file(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    (void)unlink(path);
}

static int teardown(void **state)
{
    (void)state;
    remove_file("node.json");
    remove_file("node.json.new");
    return rmdir(dir);
}

static struct identity sample(void)
{
    struct identity identity = {.node_id = 7,
                                .data_id = {1, 2},
                                .cluster_id = {3, 4},
                                .founders = UINT64_MAX - 1,
                                .restored_from = {9},
                                .shards_begun = 0x8000000000000005u,
                                .shards = 64,
                                .feature_level = 3};
    static const uint8_t one[UUID_BYTES] = {5}, two[UUID_BYTES] = {6};
    assert_true(identity_learn(&identity, 1, one));
    assert_true(identity_learn(&identity, 4000000000u, two));
    assert_false(identity_learn(&identity, 1, two));
    return identity;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct identity in = sample(), out;
    assert_int_equal(identity_load(dir, &out), STATUS_NOT_FOUND);
    assert_int_equal(identity_store(dir, &in), STATUS_OK);
    assert_int_equal(identity_load(dir, &out), STATUS_OK);
    assert_memory_equal(&in, &out, sizeof in);
    memset(in.cluster_id, 0, sizeof in.cluster_id);
    in.shards_begun = UINT64_MAX;
    in.node_count = 0;
    memset(in.nodes, 0, sizeof in.nodes);
    assert_int_equal(identity_store(dir, &in), STATUS_OK); /* over the old one */
    assert_int_equal(identity_load(dir, &out), STATUS_OK);
    assert_memory_equal(&in, &out, sizeof in);
}

static void write_text(const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/node.json", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_bad_files(void **state)
{
    (void)state;
#define DATA "\"data_id\":\"00000000-0000-4000-8000-000000000001\""
#define REST "\"founders\":\"00000000000000ff\",\"cluster_id\":\"\",\"nodes\":{}"
    static const struct {
        const char *text;
        enum status status;
    } rows[] = {
        {"{\"format\":1,\"node_id\":1," DATA "," REST "}", STATUS_OK},
        {"{\"format\":1,\"node_id\":1,\"shards_begun\":[1,64]," DATA "," REST "}", STATUS_OK},
        {"{\"format\":1,\"node_id\":1,\"shards_begun\":[0]," DATA "," REST "}", STATUS_CORRUPT},
        {"{\"format\":1,\"node_id\":1,\"shards_begun\":{}," DATA "," REST "}", STATUS_CORRUPT},
        {"{\"format\":1,\"node_id\":1,\"feature_level\":-1," DATA "," REST "}", STATUS_CORRUPT},
        {"", STATUS_CORRUPT},
        {"[]", STATUS_CORRUPT},
        {"{\"format\":1", STATUS_CORRUPT},
        {"{}", STATUS_CORRUPT},
        {"{\"format\":2,\"node_id\":1}", STATUS_UNSUPPORTED},
        {"{\"format\":1,\"node_id\":0," DATA "," REST "}", STATUS_CORRUPT},
        {"{\"format\":1,\"node_id\":1,\"data_id\":\"x\"," REST "}", STATUS_CORRUPT},
        {"{\"format\":1,\"node_id\":1," DATA ",\"founders\":\"\",\"cluster_id\":\"\"}",
         STATUS_CORRUPT},
        {"{\"format\":1,\"node_id\":1," DATA ",\"founders\":\"00000000000000ff\","
         "\"cluster_id\":\"\",\"nodes\":{\"x\":\"00000000-0000-4000-8000-000000000001\"}}",
         STATUS_CORRUPT},
    };
    struct identity out;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        write_text(rows[i].text);
        assert_int_equal(identity_load(dir, &out), rows[i].status);
    }
}

/* A file that cannot be written leaves the old one. */
static void test_failed_write(void **state)
{
    (void)state;
    struct identity in = sample(), out;
    assert_int_equal(identity_store(dir, &in), STATUS_OK);
    char path[128];
    snprintf(path, sizeof path, "%s/node.json.new", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    in.founders = 1;
    assert_int_not_equal(identity_store(dir, &in), STATUS_OK);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(identity_load(dir, &out), STATUS_OK);
    assert_true(out.founders == UINT64_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_bad_lists),
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_write, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
