/* SPDX-License-Identifier: Apache-2.0 */
/* proto/tls/context.c and issue.c: loading, files that change, files that are of no use, and what
 * `millrace tls init` makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/clock.h"
#include "tests/unit/tls/fixture.h"

#define POLL_MS 20
#define WAIT_MS 10000 /* only a failing test waits this long */

static struct buffer read_file(struct world *w, const char *name)
{
    struct buffer bytes = {0};
    FILE *file = fopen(path(w, name), "r");
    assert_non_null(file);
    buffer_added(&bytes, fread(buffer_reserve(&bytes, 16384), 1, 16384, file));
    fclose(file);
    return bytes;
}

static void copy_file(struct world *w, const char *from, const char *to)
{
    struct buffer bytes = read_file(w, from);
    FILE *file = fopen(path(w, to), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.length, file), bytes.length);
    fclose(file);
    buffer_free(&bytes);
}

static void write_file(struct world *w, const char *name, const char *text)
{
    FILE *file = fopen(path(w, name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static enum status open_files(struct world *w, const char *certificate, const char *key,
                              const char *ca, struct tls_error *error)
{
    struct tls_settings settings = {.use = TLS_HTTP,
                                    .certificate_file = path(w, certificate),
                                    .key_file = path(w, key),
                                    .ca_file = ca != NULL ? path(w, ca) : NULL};
    struct tls_context *context;
    enum status status = tls_context_open(&context, &w->loop, &settings, error);
    if (status == STATUS_OK)
        tls_context_close(context, NULL, NULL);
    return status;
}

static void test_names_the_file_to_blame(void **state)
{
    struct world *w = *state;
    static const char encrypted[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                                    "MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBA=\n"
                                    "-----END ENCRYPTED PRIVATE KEY-----\n";
    write_file(w, "empty.pem", "");
    write_file(w, "encrypted.pem", encrypted);
    static const struct {
        const char *certificate, *key, *ca, *blamed;
    } rows[] = {
        {"none.pem", "node-key.pem", NULL, "none.pem"},
        {"node.pem", "none.pem", NULL, "none.pem"},
        {"node.pem", "node-key.pem", "none.pem", "none.pem"},
        {"empty.pem", "node-key.pem", NULL, "empty.pem"},
        {"node.pem", "empty.pem", NULL, "empty.pem"},
        {"node.pem", "node-key.pem", "empty.pem", "empty.pem"},
        {"node.pem", "worker-key.pem", NULL, "worker-key.pem"}, /* not of this certificate */
        {"node.pem", "encrypted.pem", NULL, "encrypted.pem"},
    };
    struct tls_error error;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memset(&error, 0, sizeof error);
        enum status status = open_files(w, rows[i].certificate, rows[i].key, rows[i].ca, &error);
        assert_int_equal(status, STATUS_INVALID);
        assert_non_null(strstr(error.text, rows[i].blamed));
        assert_null(strstr(error.text, "unknown error"));
    }
    assert_int_equal(open_files(w, "node.pem", "node-key.pem", "ca.pem", &error), STATUS_OK);
}

/* Let time pass until the context has looked often enough to have noticed anything. */
static void let_look(struct world *w)
{
    uint64_t until = clock_monotonic_ns() + 8 * POLL_MS * UINT64_C(1000000);
    while (clock_monotonic_ns() < until) {
        uv_run(&w->loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
}

static void await(struct world *w, const struct tls_context *context, uint64_t loads,
                  uint64_t refusals)
{
    uint64_t until = clock_monotonic_ns() + WAIT_MS * UINT64_C(1000000);
    struct tls_context_stats stats = tls_context_stats(context);
    while ((stats.loads < loads || stats.refusals < refusals) && clock_monotonic_ns() < until) {
        let_look(w);
        stats = tls_context_stats(context);
    }
    assert_int_equal(stats.loads, loads);
    assert_int_equal(stats.refusals, refusals);
}

static struct slice name_seen(struct tls_context *server, struct tls_context *client,
                              struct buffer *name)
{
    struct end a = end_new(client, TLS_CLIENT, "node.example");
    struct end b = end_new(server, TLS_SERVER, NULL);
    shake(&a, &b, SIZE_MAX);
    assert_int_equal(a.status, STATUS_OK);
    buffer_clear(name);
    buffer_add_slice(name, tls_stream_peer_name(a.stream));
    end_free(&a);
    end_free(&b);
    return buffer_slice(name);
}

static void test_takes_renewed_files(void **state)
{
    struct world *w = *state;
    struct buffer name = {0};
    copy_file(w, "node.pem", "live.pem");
    copy_file(w, "node-key.pem", "live-key.pem");
    issue_from(w, "ca", "renewed", TLS_ROLE_BROKER, "node.example", 20);
    struct tls_settings settings = mutual(w, "live", TLS_ROLE_WORKER);
    settings.poll_ms = POLL_MS;
    struct tls_context *server = open_context(w, settings);
    struct tls_context *client = open_context(w, mutual(w, "worker", TLS_ROLE_BROKER));
    int64_t expires_s = tls_context_stats(server).expires_s;
    assert_true(expires_s > (int64_t)(clock_now_ms() / 1000) + 9 * 86400);
    assert_true(slice_is(name_seen(server, client, &name), "node"));
    struct end a = end_new(client, TLS_CLIENT, "node.example");
    struct end b = end_new(server, TLS_SERVER, NULL);
    shake(&a, &b, SIZE_MAX);

    /* Half of the pair: refused once, the old pair serves on. */
    copy_file(w, "renewed.pem", "live.pem");
    await(w, server, 1, 1);
    let_look(w); /* and no more */
    await(w, server, 1, 1);
    assert_true(slice_is(name_seen(server, client, &name), "node"));

    /* The other half, by a rename. */
    copy_file(w, "renewed-key.pem", "next");
    assert_int_equal(rename(path(w, "next"), path(w, "live-key.pem")), 0);
    await(w, server, 2, 1);
    assert_true(slice_is(name_seen(server, client, &name), "renewed"));
    int64_t longer_s = tls_context_stats(server).expires_s - expires_s;
    assert_true(longer_s >= 10 * 86400 && longer_s < 10 * 86400 + 3600);

    /* A stream that was there before goes on. */
    end_send(&a, SLICE_LITERAL("still here"));
    carry(&a, &b, SIZE_MAX);
    assert_true(slice_is(buffer_slice(&b.plain), "still here"));

    /* Files that vanish are refused too. */
    unlink(path(w, "live.pem"));
    await(w, server, 2, 2);
    assert_true(slice_is(name_seen(server, client, &name), "renewed"));
    buffer_free(&name);
    tls_context_close(server, NULL, NULL); /* before its stream: that must be allowed */
    tls_context_close(client, NULL, NULL);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    end_free(&a);
    end_free(&b);
}

/* A mounted secret: the files stay links, what a folder's link points to is switched. */
static void test_follows_links(void **state)
{
    struct world *w = *state;
    mkdir(path(w, "one"), 0700);
    mkdir(path(w, "two"), 0700);
    copy_file(w, "node.pem", "one/node.pem");
    copy_file(w, "node-key.pem", "one/node-key.pem");
    copy_file(w, "worker.pem", "two/node.pem");
    copy_file(w, "worker-key.pem", "two/node-key.pem");
    assert_int_equal(symlink("one", path(w, "data")), 0);
    assert_int_equal(symlink("data/node.pem", path(w, "linked.pem")), 0);
    assert_int_equal(symlink("data/node-key.pem", path(w, "linked-key.pem")), 0);
    struct tls_settings settings = mutual(w, "linked", TLS_ROLE_WORKER);
    settings.poll_ms = POLL_MS;
    struct tls_context *context = open_context(w, settings);
    let_look(w);
    assert_int_equal(tls_context_stats(context).loads, 1);
    assert_int_equal(symlink("two", path(w, "next")), 0);
    assert_int_equal(rename(path(w, "next"), path(w, "data")), 0);
    await(w, context, 2, 0);
    tls_context_close(context, NULL, NULL);
}

static unsigned mode_of(struct world *w, const char *name)
{
    struct stat about;
    assert_int_equal(stat(path(w, name), &about), 0);
    return about.st_mode & 07777;
}

static void test_key_files_are_private(void **state)
{
    struct world *w = *state;
    mode_t old = umask(0);
    issue_from(w, "ca", "open", TLS_ROLE_WORKER, NULL, 1);
    umask(0277);
    issue_from(w, "ca", "shut", TLS_ROLE_WORKER, NULL, 1);
    umask(old);
    assert_int_equal(mode_of(w, "open-key.pem"), 0600);
    assert_int_equal(mode_of(w, "open.pem"), 0644);
    assert_int_equal(mode_of(w, "shut-key.pem"), 0600);
    assert_int_equal(mode_of(w, "shut.pem"), 0644);
    assert_int_equal(mode_of(w, "ca-key.pem"), 0600);
}

static void test_an_authority_is_never_replaced(void **state)
{
    struct world *w = *state;
    struct tls_error error;
    struct tls_authority ca = authority(w, "ca");
    struct buffer before = read_file(w, "ca.pem");
    assert_int_equal(tls_authority_make(&ca, "Again", 1, &error), STATUS_EXISTS);
    assert_non_null(strstr(error.text, "ca-key.pem"));
    struct tls_authority half = {ca.certificate_file, path(w, "half-key.pem")};
    assert_int_equal(tls_authority_make(&half, "Again", 1, &error), STATUS_EXISTS);
    assert_int_equal(access(half.key_file, F_OK), -1);
    struct buffer after = read_file(w, "ca.pem");
    assert_true(slice_equal(buffer_slice(&before), buffer_slice(&after)));
    buffer_free(&before);
    buffer_free(&after);
}

static void test_refuses_bad_hosts(void **state)
{
    struct world *w = *state;
    static const char *const bad[] = {"",     "a b",     "a,DNS:evil", "http://x",
                                      "a/24", "1::2::3", "-",          ".x"};
    struct tls_authority by = authority(w, "ca");
    struct tls_authority files = authority(w, "bad");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tls_error error;
        struct tls_request request = {.name = "bad",
                                      .role = TLS_ROLE_BROKER,
                                      .hosts = &bad[i],
                                      .host_count = 1,
                                      .days = 1,
                                      .certificate_file = files.certificate_file,
                                      .key_file = files.key_file};
        assert_int_equal(tls_issue(&by, &request, &error), STATUS_INVALID);
    }
    assert_int_equal(access(files.key_file, F_OK), -1);
}

static void test_wrong_authority_files(void **state)
{
    struct world *w = *state;
    struct tls_error error;
    struct tls_authority wrong = {path(w, "ca.pem"), path(w, "other-key.pem")};
    struct tls_request request = {.name = "x",
                                  .role = TLS_ROLE_WORKER,
                                  .days = 1,
                                  .certificate_file = path(w, "x.pem"),
                                  .key_file = path(w, "x-key.pem")};
    assert_int_equal(tls_issue(&wrong, &request, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "other-key.pem"));
    wrong.certificate_file = path(w, "missing.pem");
    assert_int_equal(tls_issue(&wrong, &request, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "No such file"));
    struct tls_authority ca = authority(w, "ca");
    request.key_file = path(w, "no-such-folder/x-key.pem");
    assert_int_equal(tls_issue(&ca, &request, &error), STATUS_NOT_FOUND);
    assert_int_equal(access(request.certificate_file, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_the_file_to_blame),
        cmocka_unit_test(test_takes_renewed_files),
        cmocka_unit_test(test_follows_links),
        cmocka_unit_test(test_key_files_are_private),
        cmocka_unit_test(test_an_authority_is_never_replaced),
        cmocka_unit_test(test_refuses_bad_hosts),
        cmocka_unit_test(test_wrong_authority_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
