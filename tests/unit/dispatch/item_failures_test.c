/* SPDX-License-Identifier: Apache-2.0 */
/* Partial batch responses: the rules of ReportBatchItemFailures as a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/dispatch/item_failures.h"

#include <stdlib.h>

#define ID_A "11111111-1111-4111-8111-111111111111"
#define ID_B "22222222-2222-4222-8222-222222222222"
#define ID_C "33333333-3333-4333-8333-333333333333"

static const struct {
    const char *answer;
    bool valid;
    const char *failed; /* of A, B, C */
} rows[] = {
    {"", true, "..."},
    {"null", true, "..."},
    {"{}", true, "..."},
    {" {\"other\":1} ", true, "..."},
    {"{\"batchItemFailures\":null}", true, "..."},
    {"{\"batchItemFailures\":[]}", true, "..."},
    {"{\"batchItemFailures\":[{\"itemIdentifier\":\"" ID_B "\"}]}", true, ".F."},
    {"{\"batchItemFailures\":[{\"itemIdentifier\":\"" ID_C "\"},{\"itemIdentifier\":\"" ID_A
     "\"},{\"itemIdentifier\":\"" ID_A "\"}]}",
     true, "F.F"},
    {"not json", false, "FFF"},
    {"{\"batchItemFailures\":[", false, "FFF"},
    {"\"text\"", false, "FFF"},
    {"5", false, "FFF"},
    {"[]", false, "FFF"},
    {"{\"batchItemFailures\":{}}", false, "FFF"},
    {"{\"batchItemFailures\":\"" ID_A "\"}", false, "FFF"},
    {"{\"batchItemFailures\":[\"" ID_A "\"]}", false, "FFF"},
    {"{\"batchItemFailures\":[{}]}", false, "FFF"},
    {"{\"batchItemFailures\":[{\"id\":\"" ID_A "\"}]}", false, "FFF"},
    {"{\"batchItemFailures\":[{\"itemIdentifier\":\"\"}]}", false, "FFF"},
    {"{\"batchItemFailures\":[{\"itemIdentifier\":null}]}", false, "FFF"},
    {"{\"batchItemFailures\":[{\"itemIdentifier\":7}]}", false, "FFF"},
    {"{\"batchItemFailures\":[{\"itemIdentifier\":\"44444444-4444-4444-8444-444444444444\"}]}",
     false, "FFF"},
    {"{\"batchItemFailures\":[{\"itemIdentifier\":\"" ID_A "\"},{}]}", false, "FFF"},
    {"\xff\xfe", false, "FFF"},
};

static void test_table(void **state)
{
    (void)state;
    uint8_t ids[3][UUID_BYTES];
    assert_true(uuid_parse(slice_of(ID_A), ids[0]));
    assert_true(uuid_parse(slice_of(ID_B), ids[1]));
    assert_true(uuid_parse(slice_of(ID_C), ids[2]));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool failed[3] = {true, false, true};
        bool valid = item_failures_read(slice_of(rows[i].answer), (const uint8_t(*)[UUID_BYTES])ids,
                                        3, failed);
        if (valid != rows[i].valid)
            fail_msg("row %zu: %s", i, rows[i].answer);
        for (size_t j = 0; j < 3; j++)
            if (failed[j] != (rows[i].failed[j] == 'F'))
                fail_msg("row %zu, message %zu: %s", i, j, rows[i].answer);
    }
}

/* A batch at the limit, all of it named. */
static void test_ten_thousand(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    uint8_t(*ids)[UUID_BYTES] = calloc(COUNT, sizeof *ids);
    bool *failed = calloc(COUNT, sizeof *failed);
    struct buffer answer = {0};
    buffer_add_text(&answer, "{\"batchItemFailures\":[");
    for (unsigned i = 0; i < COUNT; i++) {
        char text[UUID_TEXT_LENGTH + 1];
        uuid_random(ids[i]);
        uuid_text(ids[i], text);
        buffer_printf(&answer, "%s{\"itemIdentifier\":\"%s\"}", i == 0 ? "" : ",", text);
    }
    buffer_add_text(&answer, "]}");
    assert_true(item_failures_read(buffer_slice(&answer), (const uint8_t(*)[UUID_BYTES])ids, COUNT,
                                   failed));
    for (unsigned i = 0; i < COUNT; i++)
        assert_true(failed[i]);
    buffer_free(&answer);
    free(ids);
    free(failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_ten_thousand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
