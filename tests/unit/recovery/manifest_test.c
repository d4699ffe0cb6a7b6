/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest of a backup: what is whole decodes; anything else is refused with a reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/recovery/manifest.h"
#include "proto/base/crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID "\"ClusterId\":\"00000000-0000-4000-8000-00000000000a\""
#define FILE1                                                                                      \
    "{\"Bytes\":70,\"Crc32c\":\"0000beef\",\"Name\":\"segments/00000000000000000001.seg\"}"
#define REST "\"Format\":1,\"Index\":7,\"Term\":2,\"TimeMs\":5"
#define GOOD "{" ID ",\"Files\":[" FILE1 "]," REST "}"

/* sealed: `text`, which is compact and in order, with its checksum. */
static char *sealed(const char *text)
{
    char *out = NULL;
    uint32_t crc = crc32c(0, slice_of(text));
    assert_true(asprintf(&out, "%.*s,\"Checksum\":\"%08x\"}", (int)strlen(text) - 1, text, crc) >
                0);
    return out;
}

static enum status decode(const char *text, struct arena *arena, struct manifest *out)
{
    const char *error = NULL;
    enum status status = manifest_decode(slice_of(text), arena, out, &error);
    assert_true(status == STATUS_OK || error != NULL);
    return status;
}

static void a_good_one(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct manifest manifest;
    char *text = sealed(GOOD);
    assert_int_equal(decode(text, &arena, &manifest), STATUS_OK);
    assert_int_equal(manifest.index, 7);
    assert_int_equal(manifest.term, 2);
    assert_int_equal(manifest.cluster_id[15], 10);
    assert_int_equal(manifest.file_count, 1);
    assert_string_equal(manifest.files[0].name, "segments/00000000000000000001.seg");
    assert_int_equal(manifest.files[0].bytes, 70);
    assert_int_equal(manifest.files[0].crc, 0xbeef);
    free(text);
    arena_free(&arena);
}

/* Each byte changed: it is noticed, unless it is only about how the JSON is written. */
static void each_changed_byte_is_noticed(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct manifest manifest;
    char *text = sealed(GOOD);
    for (size_t i = 0; i < strlen(text); i++) {
        text[i] ^= 1;
        assert_int_not_equal(decode(text, &arena, &manifest), STATUS_OK);
        text[i] ^= 1;
    }
    free(text);
    arena_free(&arena);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{" ID ",\"Files\":[]," REST "}",
        "{" ID
        ",\"Files\":[{\"Bytes\":70,\"Crc32c\":\"0000beef\",\"Name\":\"segments/../1.seg\"}]," REST
        "}",
        "{" ID ",\"Files\":[{\"Bytes\":70,\"Crc32c\":\"0000beef\",\"Name\":\"/etc/passwd\"}]," REST
        "}",
        "{" ID
        ",\"Files\":[{\"Bytes\":-1,\"Crc32c\":\"0000beef\",\"Name\":\"segments/1.seg\"}]," REST "}",
        "{" ID ",\"Files\":[{\"Bytes\":70,\"Crc32c\":\"beef\",\"Name\":\"segments/1.seg\"}]," REST
        "}",
        "{" ID ",\"Files\":[" FILE1 "],\"Format\":1,\"Index\":0,\"Term\":2,\"TimeMs\":5}",
        "{\"ClusterId\":\"\",\"Files\":[" FILE1 "]," REST "}",
    };
    struct arena arena = {0};
    struct manifest manifest;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *text = sealed(bad[i]);
        assert_int_equal(decode(text, &arena, &manifest), STATUS_CORRUPT);
        free(text);
    }
    assert_int_equal(decode(GOOD, &arena, &manifest), STATUS_CORRUPT); /* no checksum */
    assert_int_equal(decode("", &arena, &manifest), STATUS_CORRUPT);
    assert_int_equal(decode("{\"Format\":3}", &arena, &manifest), STATUS_UNSUPPORTED);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_one),
        cmocka_unit_test(each_changed_byte_is_noticed),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
