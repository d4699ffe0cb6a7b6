/* SPDX-License-Identifier: Apache-2.0 */
/* Packages: honest ones survive the round trip, hostile ones are refused, by the check and by the
 * unpacking alike, and nothing is ever written outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/arena.h"
#include "proto/base/assert.h"
#include "proto/package/package.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct fixture {
    char dir[96]; /* holds `in`, `out` and what must not be there */
    char in[128];
    char out[128];
    struct buffer zip;
};

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/package_test.XXXXXX",
             tmp != NULL && strlen(tmp) < 64 ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->in, sizeof f->in, "%s/in", f->dir);
    snprintf(f->out, sizeof f->out, "%s/out", f->dir);
    assert_int_equal(mkdir(f->in, 0755), 0);
    assert_int_equal(mkdir(f->out, 0755), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    remove_tree(f->dir);
    buffer_free(&f->zip);
    free(f);
    return 0;
}

static void fresh_out(struct fixture *f)
{
    remove_tree(f->out);
    assert_int_equal(mkdir(f->out, 0755), 0);
}

/* Making zips. */

static la_ssize_t to_buffer(struct archive *a, void *data, const void *bytes, size_t length)
{
    (void)a;
    buffer_add(data, bytes, length);
    return (la_ssize_t)length;
}

static struct archive *zip_begin_with(struct buffer *zip, const char *options)
{
    buffer_clear(zip);
    struct archive *a = archive_write_new();
    assert_int_equal(archive_write_set_format_zip(a), ARCHIVE_OK);
    archive_write_set_bytes_per_block(a, 0);
    assert_int_equal(archive_write_set_options(a, options), ARCHIVE_OK);
    archive_write_set_passphrase(a, "secret");
    assert_int_equal(archive_write_open(a, zip, NULL, to_buffer, NULL), ARCHIVE_OK);
    return a;
}

static struct archive *zip_begin(struct buffer *zip)
{
    return zip_begin_with(zip, "");
}

static void zip_end(struct archive *a)
{
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
}

static void zip_header(struct archive *a, const char *name, unsigned type, mode_t mode,
                       const char *link, int64_t size)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, mode);
    if (link != NULL)
        archive_entry_set_symlink(entry, link);
    archive_entry_set_size(entry, size);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    archive_entry_free(entry);
}

static void zip_file(struct archive *a, const char *name, mode_t mode, const char *content)
{
    zip_header(a, name, AE_IFREG, mode, NULL, (int64_t)strlen(content));
    assert_int_equal(archive_write_data(a, content, strlen(content)), strlen(content));
}

/* Looking at the result. */

static const char *path_in(const char *dir, const char *name)
{
    static char path[2048];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void expect_file(const char *dir, const char *name, const char *content, mode_t mode)
{
    char found[256] = {0};
    struct stat info;
    assert_int_equal(lstat(path_in(dir, name), &info), 0);
    assert_true(S_ISREG(info.st_mode));
    assert_int_equal(info.st_mode & 07777, mode);
    FILE *file = fopen(path_in(dir, name), "re");
    assert_non_null(file);
    assert_int_equal(fread(found, 1, sizeof found - 1, file), strlen(content));
    fclose(file);
    assert_string_equal(found, content);
}

static void write_file(const char *dir, const char *name, const char *content, mode_t mode)
{
    FILE *file = fopen(path_in(dir, name), "we");
    assert_non_null(file);
    fputs(content, file);
    assert_int_equal(fchmod(fileno(file), mode), 0);
    fclose(file);
}

/* The names in the fixture's own folder: `in` and `out` and nothing that escaped. */
static void expect_nothing_outside(struct fixture *f)
{
    struct stat info;
    assert_int_equal(lstat(f->dir, &info), 0);
    assert_int_equal(info.st_nlink, 4); /* itself, its entry, in/.. and out/.. */
    assert_int_not_equal(access(path_in(f->dir, "evil"), F_OK), 0);
}

static void expect_refused(struct fixture *f, enum status status, const char *part)
{
    const char *why = NULL;
    struct package_facts facts;
    assert_int_equal(package_check(buffer_slice(&f->zip), &facts, &why), status);
    assert_non_null(why);
    if (strstr(why, part) == NULL)
        fail_msg("'%s' does not contain '%s'", why, part);
    fresh_out(f);
    why = NULL;
    assert_int_equal(package_unpack(buffer_slice(&f->zip), f->out, &why), status);
    assert_non_null(strstr(why, part));
    expect_nothing_outside(f);
}

static void test_honest(void **state)
{
    struct fixture *f = *state;
    struct archive *a = zip_begin(&f->zip);
    zip_file(a, "bootstrap", 04755, "#!/bin/sh\n");
    zip_file(a, "./lib//deep/x.py", 0600, "x = 1\n");
    zip_header(a, "empty/", AE_IFDIR, 0700, NULL, 0);
    zip_header(a, "lib/", AE_IFDIR, 0700, NULL, 0);
    zip_file(a, "n\xc3\xa4me", 0640, "");
    zip_file(a, "..data", 0644, "dots");
    zip_end(a);
    struct package_facts facts;
    const char *why;
    assert_int_equal(package_check(buffer_slice(&f->zip), &facts, &why), STATUS_OK);
    assert_null(why);
    assert_int_equal(facts.files, 4);
    assert_int_equal(facts.unpacked_bytes, 10 + 6 + 4);
    mode_t mask = umask(077);
    assert_int_equal(package_unpack(buffer_slice(&f->zip), f->out, &why), STATUS_OK);
    umask(mask);
    expect_file(f->out, "bootstrap", "#!/bin/sh\n", 0755);
    expect_file(f->out, "lib/deep/x.py", "x = 1\n", 0644);
    expect_file(f->out, "n\xc3\xa4me", "", 0644);
    expect_file(f->out, "..data", "dots", 0644);
    struct stat info;
    assert_int_equal(stat(path_in(f->out, "empty"), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0755);
    assert_int_equal(stat(path_in(f->out, "lib/deep"), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0755);
    expect_nothing_outside(f);
}

static void test_evil_names(void **state)
{
    struct fixture *f = *state;
    char part[300];
    memset(part, 'x', sizeof part);
    part[256] = 0;
    char deep[400] = {0};
    for (size_t i = 0; i < 65; i++)
        memcpy(deep + i * 2, "d/", 3);
    char wide[1200] = {0};
    for (size_t i = 0; i < 6; i++)
        snprintf(wide + strlen(wide), sizeof wide - strlen(wide), "%.180s/", part);
    memcpy(deep + 130, "f", 2);
    memcpy(wide + strlen(wide), "f", 2);
    const struct {
        const char *name;
        const char *why;
    } cases[] = {
        {"../evil", "\"..\""},
        {"a/../../evil", "\"..\""},
        {"a/..", "\"..\""},
        {"/evil", "absolute"},
        {"//evil", "absolute"},
        {"a\\..\\..\\evil", ""}, /* libarchive may read it as "a/../../evil" */
        {"a/b\\c", "backslash"},
        {"a\nb", "control character"},
        {"a/\x7f", "control character"},
        {part, "too long"},
        {deep, "too long"},
        {wide, "too long"},
        {".", "no usable name"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct archive *a = zip_begin(&f->zip);
        zip_file(a, "good", 0644, "x");
        zip_file(a, cases[i].name, 0644, "x");
        zip_end(a);
        expect_refused(f, STATUS_INVALID, cases[i].why);
    }
}

static void test_links(void **state)
{
    struct fixture *f = *state;
    static const char *const targets[] = {"/etc/passwd", "../evil", "good"};
    for (size_t i = 0; i < ARRAY_COUNT(targets); i++) {
        struct archive *a = zip_begin(&f->zip);
        zip_file(a, "good", 0644, "x");
        zip_header(a, "link", AE_IFLNK, 0777, targets[i], 0);
        zip_end(a);
        expect_refused(f, STATUS_INVALID, "link");
    }
}

static void test_same_names(void **state)
{
    struct fixture *f = *state;
    static const char *const pairs[][2] = {
        {"a", "a"}, {"a", "./a"}, {"a/b", "a//b"}, {"a", "a/b"}, {"a/b", "a"}};
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++) {
        struct archive *a = zip_begin(&f->zip);
        zip_file(a, pairs[i][0], 0644, "first");
        zip_file(a, pairs[i][1], 0644, "second");
        zip_end(a);
        expect_refused(f, STATUS_INVALID, "same name");
    }
}

static void test_bomb(void **state)
{
    struct fixture *f = *state;
    char *zeros = calloc(1, 1 << 20);
    struct archive *a = zip_begin(&f->zip);
    zip_header(a, "bomb", AE_IFREG, 0644, NULL, 251 << 20);
    for (int i = 0; i < 251; i++)
        assert_int_equal(archive_write_data(a, zeros, 1 << 20), 1 << 20);
    zip_end(a);
    free(zeros);
    assert_true(f->zip.length < 1 << 20);
    struct package_facts facts;
    const char *why;
    assert_int_equal(package_check(buffer_slice(&f->zip), &facts, &why), STATUS_TOO_LARGE);
    assert_true(facts.unpacked_bytes <= PACKAGE_UNPACKED_BYTES_MAX + 65536);
    assert_non_null(strstr(why, "250 MiB"));
}

static void test_too_many_files(void **state)
{
    struct fixture *f = *state;
    for (unsigned extra = 0; extra <= 1; extra++) {
        struct archive *a = zip_begin(&f->zip);
        for (unsigned i = 0; i < PACKAGE_FILES_MAX + extra; i++) {
            char name[16];
            snprintf(name, sizeof name, "%u", i);
            zip_header(a, name, AE_IFREG, 0644, NULL, 0);
        }
        zip_end(a);
        struct package_facts facts;
        const char *why;
        assert_int_equal(package_check(buffer_slice(&f->zip), &facts, &why),
                         extra == 0 ? STATUS_OK : STATUS_TOO_LARGE);
    }
}

static void test_encrypted(void **state)
{
    struct fixture *f = *state;
    struct archive *a = zip_begin_with(&f->zip, "zip:encryption=zipcrypt");
    zip_file(a, "file", 0644, "content");
    zip_end(a);
    expect_refused(f, STATUS_INVALID, "encrypted");
}

static void test_no_zip(void **state)
{
    struct fixture *f = *state;
    expect_refused(f, STATUS_INVALID, "");
    buffer_add_text(&f->zip, "This is no zip at all, but a text of some length.");
    expect_refused(f, STATUS_INVALID, "");
    zip_end(zip_begin(&f->zip)); /* no entries at all */
    expect_refused(f, STATUS_INVALID, "");
    struct archive *a = zip_begin(&f->zip);
    zip_header(a, "folder/", AE_IFDIR, 0755, NULL, 0);
    zip_end(a);
    expect_refused(f, STATUS_INVALID, "no files");
    buffer_clear(&f->zip);
    memset(buffer_reserve(&f->zip, PACKAGE_ZIPPED_BYTES_MAX + 1), 0, PACKAGE_ZIPPED_BYTES_MAX + 1);
    buffer_added(&f->zip, PACKAGE_ZIPPED_BYTES_MAX + 1);
    struct package_facts facts;
    const char *why;
    assert_int_equal(package_check(buffer_slice(&f->zip), &facts, &why), STATUS_TOO_LARGE);
}

/* Whatever a damaged zip is taken for, check and unpacking agree, and nothing escapes. */
static void test_damage(void **state)
{
    struct fixture *f = *state;
    struct archive *a = zip_begin(&f->zip);
    zip_file(a, "dir/file", 0644, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    zip_file(a, "evi_/evil", 0755, "some other content");
    zip_end(a);
    static const uint8_t masks[] = {0x01, 0x71 /* '_' -> '.' */, 0xff};
    struct package_facts facts;
    const char *why;
    for (size_t length = 0; length < f->zip.length; length++) {
        struct slice cut = slice_make(f->zip.data, length);
        assert_int_not_equal(package_check(cut, &facts, &why), STATUS_OK);
    }
    for (size_t i = 0; i < f->zip.length * ARRAY_COUNT(masks); i++) {
        uint8_t *byte = &f->zip.data[i / ARRAY_COUNT(masks)];
        uint8_t before = *byte;
        *byte ^= masks[i % ARRAY_COUNT(masks)];
        enum status checked = package_check(buffer_slice(&f->zip), &facts, &why);
        fresh_out(f);
        assert_int_equal(package_unpack(buffer_slice(&f->zip), f->out, &why), checked);
        expect_nothing_outside(f);
        *byte = before;
    }
}

/* The content is damaged but the lengths agree: only the checksum tells. */
static void test_checksum(void **state)
{
    struct fixture *f = *state;
    struct archive *a = zip_begin_with(&f->zip, "zip:compression=store");
    zip_file(a, "file", 0644, "DATA-DATA-DATA");
    zip_end(a);
    uint8_t *at = memmem(f->zip.data, f->zip.length, "DATA-", 5);
    assert_non_null(at);
    at[0] = 'X';
    expect_refused(f, STATUS_INVALID, "damaged");
}

static void test_unpack_needs_an_empty_folder(void **state)
{
    struct fixture *f = *state;
    struct archive *a = zip_begin(&f->zip);
    zip_file(a, "dir/file", 0644, "x");
    zip_end(a);
    const char *why;
    assert_int_equal(package_unpack(buffer_slice(&f->zip), path_in(f->dir, "none"), &why),
                     STATUS_NOT_FOUND);
    /* A link in the way is not followed. */
    assert_int_equal(symlink(f->in, path_in(f->out, "dir")), 0);
    assert_int_equal(package_unpack(buffer_slice(&f->zip), f->out, &why), STATUS_EXISTS);
    assert_int_not_equal(access(path_in(f->in, "file"), F_OK), 0);
    fresh_out(f);
    assert_int_equal(mkdir(path_in(f->out, "dir"), 0755), 0);
    write_file(f->out, "dir/file", "mine", 0644);
    assert_int_equal(package_unpack(buffer_slice(&f->zip), f->out, &why), STATUS_EXISTS);
    expect_file(f->out, "dir/file", "mine", 0644);
}

static void test_pack_round_trip(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir(path_in(f->in, "b"), 0700), 0);
    write_file(f->in, "b/module.py", "m", 0600);
    write_file(f->in, "a.py", "main", 0755);
    write_file(f->in, "n\xc3\xa4me", "utf-8", 0644);
    assert_int_equal(symlink("b/module.py", path_in(f->in, "link.py")), 0);
    assert_int_equal(symlink("b", path_in(f->in, "c")), 0);
    const char *why;
    assert_int_equal(package_pack(f->in, &f->zip, &why), STATUS_OK);
    assert_null(why);
    struct package_facts facts;
    assert_int_equal(package_check(buffer_slice(&f->zip), &facts, &why), STATUS_OK);
    assert_int_equal(facts.files, 5);
    assert_int_equal(package_unpack(buffer_slice(&f->zip), f->out, &why), STATUS_OK);
    expect_file(f->out, "a.py", "main", 0755);
    expect_file(f->out, "b/module.py", "m", 0644);
    expect_file(f->out, "c/module.py", "m", 0644);
    expect_file(f->out, "link.py", "m", 0644);
    expect_file(f->out, "n\xc3\xa4me", "utf-8", 0644);
    expect_nothing_outside(f);

    /* The same again, made in another order, at another time, in another place. */
    struct buffer again = {0};
    assert_int_equal(setenv("TZ", "Asia/Tokyo", 1), 0);
    tzset();
    assert_int_equal(unlink(path_in(f->in, "a.py")), 0);
    write_file(f->in, "a.py", "main", 0700);
    assert_int_equal(package_pack(f->in, &again, &why), STATUS_OK);
    unsetenv("TZ");
    tzset();
    assert_true(slice_equal(buffer_slice(&again), buffer_slice(&f->zip)));
    buffer_free(&again);
}

static void test_pack_refusals(void **state)
{
    struct fixture *f = *state;
    const char *why;
    buffer_add_text(&f->zip, "before");
    assert_int_equal(package_pack(path_in(f->dir, "none"), &f->zip, &why), STATUS_NOT_FOUND);
    assert_int_equal(package_pack(f->in, &f->zip, &why), STATUS_INVALID);
    assert_non_null(strstr(why, "no files"));
    write_file(f->in, "file", "x", 0644);
    static const char *const targets[] = {"/etc/passwd", "../out", "nowhere", "..", "."};
    for (size_t i = 0; i < ARRAY_COUNT(targets); i++) {
        assert_int_equal(symlink(targets[i], path_in(f->in, "link")), 0);
        assert_int_equal(package_pack(f->in, &f->zip, &why), STATUS_INVALID);
        assert_non_null(why);
        assert_int_equal(unlink(path_in(f->in, "link")), 0);
    }
    assert_int_equal(mkfifo(path_in(f->in, "fifo"), 0600), 0);
    assert_int_equal(package_pack(f->in, &f->zip, &why), STATUS_INVALID);
    assert_int_equal(unlink(path_in(f->in, "fifo")), 0);
    int fd = open(path_in(f->in, "sparse"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, PACKAGE_UNPACKED_BYTES_MAX), 0);
    close(fd);
    assert_int_equal(package_pack(f->in, &f->zip, &why), STATUS_TOO_LARGE);
    assert_true(slice_is(buffer_slice(&f->zip), "before"));
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_honest),
        WITH(test_evil_names),
        WITH(test_links),
        WITH(test_same_names),
        WITH(test_bomb),
        WITH(test_too_many_files),
        WITH(test_encrypted),
        WITH(test_no_zip),
        WITH(test_damage),
        WITH(test_checksum),
        WITH(test_unpack_needs_an_empty_folder),
        WITH(test_pack_round_trip),
        WITH(test_pack_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
