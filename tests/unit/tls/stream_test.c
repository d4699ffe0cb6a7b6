/* SPDX-License-Identifier: Apache-2.0 */
/* proto/tls/stream.c: two ends in one process; who is let in and who is not; broken bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/tls/fixture.h"

#include <openssl/ssl.h>

#define WHOLE SIZE_MAX

/* A broker's context and a worker's, as they trust each other. */
struct two {
    struct tls_context *broker;
    struct tls_context *worker;
    struct end client;
    struct end server;
};

static struct two two_new(struct world *w, const char *host)
{
    struct two t = {.broker = open_context(w, mutual(w, "node", TLS_ROLE_WORKER)),
                    .worker = open_context(w, mutual(w, "worker", TLS_ROLE_BROKER))};
    t.client = end_new(t.worker, TLS_CLIENT, host);
    t.server = end_new(t.broker, TLS_SERVER, NULL);
    return t;
}

static void two_free(struct two *t)
{
    end_free(&t->client);
    end_free(&t->server);
    tls_context_close(t->broker, NULL, NULL);
    tls_context_close(t->worker, NULL, NULL);
}

static void test_carries_bytes_both_ways(void **state)
{
    static const size_t pieces[] = {1, 7, WHOLE};
    for (size_t i = 0; i < 3; i++) {
        struct two t = two_new(*state, "node.example");
        shake(&t.client, &t.server, pieces[i]);
        assert_true(tls_stream_established(t.client.stream));
        assert_true(tls_stream_established(t.server.stream));
        end_send(&t.client, SLICE_LITERAL("to the server"));
        end_send(&t.server, SLICE_LITERAL("to the client"));
        carry(&t.client, &t.server, pieces[i]);
        assert_true(slice_is(buffer_slice(&t.server.plain), "to the server"));
        assert_true(slice_is(buffer_slice(&t.client.plain), "to the client"));
        assert_int_equal(t.client.status, STATUS_OK);
        assert_int_equal(t.server.status, STATUS_OK);
        two_free(&t);
    }
}

static void test_carries_more_than_a_record(void **state)
{
    struct two t = two_new(*state, "node.example");
    shake(&t.client, &t.server, WHOLE);
    struct buffer big = {0};
    for (unsigned i = 0; i < 100000; i++)
        buffer_add_u32(&big, i);
    end_send(&t.client, buffer_slice(&big));
    assert_true(t.client.out.length <= big.length + 22 * (big.length / 16384 + 1));
    carry(&t.client, &t.server, 1000);
    assert_true(slice_equal(buffer_slice(&t.server.plain), buffer_slice(&big)));
    buffer_free(&big);
    two_free(&t);
}

static void test_ends_in_order(void **state)
{
    struct two t = two_new(*state, "node.example");
    tls_stream_end(t.client.stream, &t.client.out); /* too early: says nothing */
    assert_int_equal(t.client.out.length, 0);
    shake(&t.client, &t.server, WHOLE);
    end_send(&t.client, SLICE_LITERAL("last words"));
    tls_stream_end(t.client.stream, &t.client.out);
    carry(&t.client, &t.server, WHOLE);
    assert_int_equal(t.server.status, STATUS_CLOSED);
    assert_true(slice_is(buffer_slice(&t.server.plain), "last words"));
    end_send(&t.server, SLICE_LITERAL("an answer")); /* the other half is open still */
    carry(&t.client, &t.server, WHOLE);
    assert_true(slice_is(buffer_slice(&t.client.plain), "an answer"));
    two_free(&t);
}

static void test_knows_the_peer(void **state)
{
    struct two t = two_new(*state, "127.0.0.1");
    shake(&t.client, &t.server, WHOLE);
    assert_int_equal(t.client.status, STATUS_OK);
    assert_true(slice_is(tls_stream_peer_dns(t.client.stream, 0), "node.example"));
    assert_null(tls_stream_peer_dns(t.client.stream, 1).data);
    assert_true(slice_is(tls_stream_peer_name(t.client.stream), "node"));
    assert_true(slice_is(tls_stream_peer_name(t.server.stream), "worker"));
    assert_null(tls_stream_peer_dns(t.server.stream, 0).data);
    assert_true(tls_stream_peer_has_role(t.server.stream, TLS_ROLE_WORKER));
    assert_false(tls_stream_peer_has_role(t.server.stream, TLS_ROLE_BROKER));
    assert_true(tls_stream_peer_has_role(t.client.stream, TLS_ROLE_BROKER));
    two_free(&t);
}

static void test_refuses_another_host(void **state)
{
    static const char *const hosts[] = {"other.example", "127.0.0.2", "example"};
    for (size_t i = 0; i < 3; i++) {
        struct two t = two_new(*state, hosts[i]);
        shake(&t.client, &t.server, WHOLE);
        assert_int_equal(t.client.status, STATUS_PERMISSION);
        assert_false(tls_stream_established(t.client.stream));
        assert_int_equal(t.server.status, STATUS_PERMISSION); /* it was told by an alert */
        two_free(&t);
    }
}

/* Try to come in with the certificate `name`, where `role` is wanted, or `other_role`. */
static enum status come_in_for(struct world *w, const char *name, const char *role,
                               const char *other_role)
{
    struct tls_settings settings = mutual(w, "node", role);
    settings.peer_role_too = other_role;
    struct tls_context *broker = open_context(w, settings);
    struct tls_context *other = open_context(w, mutual(w, name, TLS_ROLE_BROKER));
    struct end client = end_new(other, TLS_CLIENT, "node.example");
    struct end server = end_new(broker, TLS_SERVER, NULL);
    shake(&client, &server, WHOLE);
    enum status status = server.status;
    assert_int_equal(status == STATUS_OK, tls_stream_established(server.stream));
    if (status != STATUS_OK) {
        assert_true(strlen(tls_stream_error(server.stream)) > 10);
        assert_int_equal(client.status, STATUS_PERMISSION);
    }
    end_free(&client);
    end_free(&server);
    tls_context_close(broker, NULL, NULL);
    tls_context_close(other, NULL, NULL);
    return status;
}

static enum status come_in(struct world *w, const char *name, const char *role)
{
    return come_in_for(w, name, role, NULL);
}

static void test_lets_in_by_role(void **state)
{
    struct world *w = *state;
    assert_int_equal(come_in(w, "worker", TLS_ROLE_WORKER), STATUS_OK);
    assert_int_equal(come_in(w, "node", TLS_ROLE_BROKER), STATUS_OK);
    assert_int_equal(come_in(w, "worker", TLS_ROLE_BROKER), STATUS_PERMISSION);
    assert_int_equal(come_in(w, "node", TLS_ROLE_WORKER), STATUS_PERMISSION);
    assert_int_equal(come_in_for(w, "worker", TLS_ROLE_WORKER, TLS_ROLE_CLIENT), STATUS_OK);
    assert_int_equal(come_in_for(w, "worker", TLS_ROLE_CLIENT, TLS_ROLE_WORKER), STATUS_OK);
    assert_int_equal(come_in_for(w, "node", TLS_ROLE_WORKER, TLS_ROLE_CLIENT), STATUS_PERMISSION);
}

static void test_refuses_other_authorities_and_old_certificates(void **state)
{
    struct world *w = *state;
    assert_int_equal(come_in(w, "stranger", TLS_ROLE_BROKER), STATUS_PERMISSION);
    issue_from(w, "ca", "old", TLS_ROLE_WORKER, NULL, 0);
    sleep(1); /* it ended the moment it was made, and X.509 counts in seconds */
    assert_int_equal(come_in(w, "old", TLS_ROLE_WORKER), STATUS_PERMISSION);
}

/* A worker's certificate is for clients: it cannot play the broker even for those who ask for no
 * role. */
static void test_a_worker_is_no_server(void **state)
{
    struct world *w = *state;
    issue_from(w, "ca", "liar", TLS_ROLE_WORKER, "node.example", 10);
    struct tls_context *liar = open_context(w, mutual(w, "liar", TLS_ROLE_WORKER));
    struct tls_context *worker = open_context(w, mutual(w, "worker", TLS_ROLE_WORKER));
    struct end client = end_new(worker, TLS_CLIENT, "node.example");
    struct end server = end_new(liar, TLS_SERVER, NULL);
    shake(&client, &server, WHOLE);
    assert_int_equal(client.status, STATUS_PERMISSION);
    end_free(&client);
    end_free(&server);
    tls_context_close(liar, NULL, NULL);
    tls_context_close(worker, NULL, NULL);
}

/* A client of our own making, with what our contexts never do. */
struct raw {
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out;
    struct buffer got;
};

static struct raw raw_new(int version_max)
{
    struct raw raw = {.context = SSL_CTX_new(TLS_client_method()),
                      .in = BIO_new(BIO_s_mem()),
                      .out = BIO_new(BIO_s_mem())};
    SSL_CTX_set_max_proto_version(raw.context, version_max);
    raw.ssl = SSL_new(raw.context);
    SSL_set_bio(raw.ssl, raw.in, raw.out);
    SSL_set_connect_state(raw.ssl);
    return raw;
}

static void raw_free(struct raw *raw)
{
    SSL_free(raw->ssl);
    SSL_CTX_free(raw->context);
    buffer_free(&raw->got);
}

static void raw_carry(struct raw *raw, struct end *server)
{
    for (int i = 0; i < 6; i++) {
        char bytes[65536];
        int count = SSL_read(raw->ssl, bytes, sizeof bytes);
        if (count > 0)
            buffer_add(&raw->got, bytes, (size_t)count);
        count = BIO_read(raw->out, bytes, sizeof bytes);
        if (count > 0)
            end_take(server, slice_make(bytes, (size_t)count), WHOLE);
        BIO_write(raw->in, server->out.data, (int)server->out.length);
        buffer_clear(&server->out);
    }
}

static struct tls_settings public_server(struct world *w, bool ask)
{
    struct tls_authority files = authority(w, "node");
    return (struct tls_settings){.use = TLS_HTTP,
                                 .certificate_file = files.certificate_file,
                                 .key_file = files.key_file,
                                 .ca_file = ask ? path(w, "ca.pem") : NULL};
}

static enum status raw_try(struct world *w, struct tls_settings settings, int version_max)
{
    struct tls_context *context = open_context(w, settings);
    struct end server = end_new(context, TLS_SERVER, NULL);
    struct raw raw = raw_new(version_max);
    raw_carry(&raw, &server);
    enum status status = server.status;
    assert_int_equal(status == STATUS_OK, tls_stream_established(server.stream));
    if (status == STATUS_OK) {
        SSL_write(raw.ssl, "hello", 5);
        raw_carry(&raw, &server);
        assert_true(slice_is(buffer_slice(&server.plain), "hello"));
        assert_false(tls_stream_peer_has_role(server.stream, TLS_ROLE_BROKER));
        assert_null(tls_stream_peer_name(server.stream).data);
    }
    raw_free(&raw);
    end_free(&server);
    tls_context_close(context, NULL, NULL);
    return status;
}

static void test_versions(void **state)
{
    struct world *w = *state;
    struct tls_settings http = public_server(w, false);
    assert_int_equal(raw_try(w, http, TLS1_3_VERSION), STATUS_OK);
    assert_int_equal(raw_try(w, http, TLS1_2_VERSION), STATUS_OK);
    assert_int_equal(raw_try(w, http, TLS1_1_VERSION), STATUS_INVALID);
    assert_int_equal(raw_try(w, mutual(w, "node", TLS_ROLE_WORKER), TLS1_2_VERSION),
                     STATUS_INVALID);
}

static void test_wants_a_certificate(void **state)
{
    struct world *w = *state;
    assert_int_equal(raw_try(w, public_server(w, true), TLS1_3_VERSION), STATUS_PERMISSION);
    assert_int_equal(raw_try(w, public_server(w, true), TLS1_2_VERSION), STATUS_PERMISSION);
    assert_int_equal(raw_try(w, mutual(w, "node", TLS_ROLE_WORKER), TLS1_3_VERSION),
                     STATUS_PERMISSION);
}

static void test_chooses_http_1_1(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *offer;
        enum status status;
    } rows[] = {{"\x02h2\x08http/1.1", STATUS_OK}, {"\x02h2", STATUS_INVALID}};
    for (size_t i = 0; i < 2; i++) {
        struct tls_context *context = open_context(w, public_server(w, false));
        struct end server = end_new(context, TLS_SERVER, NULL);
        struct raw raw = raw_new(TLS1_3_VERSION);
        SSL_set_alpn_protos(raw.ssl, (const unsigned char *)rows[i].offer,
                            (unsigned)strlen(rows[i].offer));
        raw_carry(&raw, &server);
        const unsigned char *chosen = NULL;
        unsigned length = 0;
        SSL_get0_alpn_selected(raw.ssl, &chosen, &length);
        assert_int_equal(server.status, rows[i].status);
        assert_true(i == 1 || slice_is(slice_make(chosen, length), "http/1.1"));
        raw_free(&raw);
        end_free(&server);
        tls_context_close(context, NULL, NULL);
    }
}

/* A client that comes back with its ticket is spared the certificates. */
static void test_resumes_sessions(void **state)
{
    struct world *w = *state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < 2; i++) {
        struct tls_context *context = open_context(w, public_server(w, false));
        struct end server = end_new(context, TLS_SERVER, NULL);
        struct raw raw = raw_new(versions[i]);
        raw_carry(&raw, &server);
        SSL_SESSION *session = SSL_get1_session(raw.ssl);
        SSL_shutdown(raw.ssl);
        raw_free(&raw);
        end_free(&server);
        server = end_new(context, TLS_SERVER, NULL);
        raw = raw_new(versions[i]);
        SSL_set_session(raw.ssl, session);
        raw_carry(&raw, &server);
        assert_true(SSL_session_reused(raw.ssl));
        raw_free(&raw);
        end_free(&server);
        SSL_SESSION_free(session);
        tls_context_close(context, NULL, NULL);
    }
}

/* New keys in the middle of a connection, which TLS 1.3 allows either end. */
static void test_new_keys(void **state)
{
    struct world *w = *state;
    struct tls_context *context = open_context(w, public_server(w, false));
    struct end server = end_new(context, TLS_SERVER, NULL);
    struct raw raw = raw_new(TLS1_3_VERSION);
    raw_carry(&raw, &server);
    for (int i = 0; i < 3; i++) {
        SSL_key_update(raw.ssl, SSL_KEY_UPDATE_REQUESTED);
        SSL_write(raw.ssl, "x", 1);
        raw_carry(&raw, &server);
        end_send(&server, SLICE_LITERAL("y"));
        raw_carry(&raw, &server);
    }
    assert_int_equal(server.status, STATUS_OK);
    assert_true(slice_is(buffer_slice(&server.plain), "xxx"));
    assert_true(slice_is(buffer_slice(&raw.got), "yyy"));
    raw_free(&raw);
    end_free(&server);
    tls_context_close(context, NULL, NULL);
}

static void test_says_that_it_is_http(void **state)
{
    struct world *w = *state;
    static const char *const texts[] = {"GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\n",
                                        "HELLO what is this"};
    for (size_t i = 0; i < 3; i++) {
        struct tls_context *context = open_context(w, public_server(w, false));
        struct end server = end_new(context, TLS_SERVER, NULL);
        end_take(&server, slice_of(texts[i]), WHOLE);
        assert_int_equal(server.status, STATUS_INVALID);
        assert_int_equal(tls_stream_is_http(server.stream), i < 2);
        end_free(&server);
        tls_context_close(context, NULL, NULL);
    }
}

/* Every seventh byte of what the client says, changed: nothing is taken for its words, nothing
 * breaks. */
static void test_changed_bytes(void **state)
{
    struct world *w = *state;
    size_t at = 0;
    for (bool more = true; more; at += 7) {
        struct two t = two_new(w, "node.example");
        shake(&t.client, &t.server, WHOLE);
        end_send(&t.client, SLICE_LITERAL("words that nobody may change"));
        more = at < t.client.out.length;
        if (more)
            t.client.out.data[at] ^= 0x10;
        carry(&t.client, &t.server, WHOLE);
        assert_int_equal(t.server.plain.length > 0, !more);
        assert_true(more || t.server.status == STATUS_OK);
        struct buffer none = {0};
        if (t.server.status != STATUS_OK) /* a longer length is waited for */
            assert_int_equal(tls_stream_send(t.server.stream, SLICE_LITERAL("x"), &none),
                             STATUS_INVALID);
        assert_int_equal(none.length, 0);
        two_free(&t);
    }
}

static void test_changed_hello(void **state)
{
    struct world *w = *state;
    unsigned seed = 7;
    for (int i = 0; i < 100; i++) {
        struct two t = two_new(w, "node.example");
        end_take(&t.client, (struct slice){0}, WHOLE);
        for (int k = 0; k < 3; k++) {
            seed = seed * 1103515245u + 12345u;
            t.client.out.data[(seed >> 8) % t.client.out.length] ^= (uint8_t)(1 + seed % 255);
        }
        carry(&t.client, &t.server, WHOLE);
        assert_false(tls_stream_established(t.server.stream));
        two_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_carries_bytes_both_ways),
        cmocka_unit_test(test_carries_more_than_a_record),
        cmocka_unit_test(test_ends_in_order),
        cmocka_unit_test(test_knows_the_peer),
        cmocka_unit_test(test_refuses_another_host),
        cmocka_unit_test(test_lets_in_by_role),
        cmocka_unit_test(test_refuses_other_authorities_and_old_certificates),
        cmocka_unit_test(test_a_worker_is_no_server),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_wants_a_certificate),
        cmocka_unit_test(test_chooses_http_1_1),
        cmocka_unit_test(test_resumes_sessions),
        cmocka_unit_test(test_new_keys),
        cmocka_unit_test(test_says_that_it_is_http),
        cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_changed_hello),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
