/* SPDX-License-Identifier: Apache-2.0 */
/* One end of one TLS connection. The library reads from and writes to a BIO of ours that has no
 * buffer: during a call it stands on the caller's bytes and the caller's buffer. So nothing is kept
 * twice, and an idle stream costs what the library keeps of it.
 *
 * Invariants:
 * I1  `in` and `out` point to the caller's memory during a call of tls_stream_receive, _send or
 *     _end, and to nothing otherwise: the library moves bytes only then.
 * I2  tls_stream_receive takes everything: it ends when the library wants more, or has failed.
 * I3  After a failure the library is not called any more. */
#include "proto/base/assert.h"
#include "proto/tls/internal.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define RECORD_BYTES 16384 /* of plaintext in one record at most: RFC 8446 5.1 */

struct tls_stream {
    struct tls_context *context;
    SSL *library;
    struct slice in;
    struct buffer *out;
    enum status failed; /* what every later call answers */
    bool established;   /* the handshake is over; stays true during what TLS 1.3 sends later */
    bool is_http;
    bool wrong_role;
    char error[128];
    GENERAL_NAMES *peer_names; /* NULL until asked for */
};

/* Alerts of a peer, and a complaint of ours, that are about certificates. */
static const int refusals[] = {
    SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE,
    SSL_R_SSLV3_ALERT_BAD_CERTIFICATE,
    SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE,
    SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED,
    SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED,
    SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN,
    SSL_R_TLSV1_ALERT_UNKNOWN_CA,
    SSL_R_TLSV1_ALERT_ACCESS_DENIED,
    SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED,
};

/* The BIO. */

static int bytes_out(BIO *bio, const char *data, size_t length, size_t *done)
{
    struct tls_stream *stream = BIO_get_data(bio);
    ASSERT(stream->out != NULL); /* I1 */
    buffer_add(stream->out, data, length);
    *done = length;
    return 1;
}

static int bytes_in(BIO *bio, char *data, size_t size, size_t *done)
{
    struct tls_stream *stream = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t length = size < stream->in.length ? size : stream->in.length;
    if (length == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(data, stream->in.data, length);
    stream->in = slice_sub(stream->in, length);
    *done = length;
    return 1;
}

static long control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH; /* there is no buffer to flush; all else is not offered */
}

static BIO_METHOD *method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;

static void method_make(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "millrace stream");
    ASSERT(method != NULL);
    BIO_meth_set_write_ex(method, bytes_out);
    BIO_meth_set_read_ex(method, bytes_in);
    BIO_meth_set_ctrl(method, control);
}

/* Certificates. */

static struct slice text_of(const ASN1_STRING *text)
{
    return slice_make(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
}

static bool names_have_uri(const GENERAL_NAMES *names, const char *uri)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_URI && slice_is(text_of(name->d.uniformResourceIdentifier), uri))
            return true;
    }
    return false;
}

bool tls_certificate_has_uri(const X509 *certificate, const char *uri)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool has = names_have_uri(names, uri);
    GENERAL_NAMES_free(names);
    return has;
}

int tls_stream_verify(int good, X509_STORE_CTX *store)
{
    SSL *library = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_stream *stream = SSL_get_app_data(library);
    const char *role = tls_context_peer_role(stream->context, 0);
    const char *other = tls_context_peer_role(stream->context, 1);
    const X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    if (!good || role == NULL || X509_STORE_CTX_get_error_depth(store) != 0)
        return good;
    if (tls_certificate_has_uri(certificate, role) ||
        (other != NULL && tls_certificate_has_uri(certificate, other)))
        return 1;
    stream->wrong_role = true;
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED); /* alert: bad certificate */
    return 0;
}

/* Life. */

/* The server's certificate must be for the name or the address that was dialled. */
static void expect_host(SSL *library, const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    bool is_address =
        inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    int rc = is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(library), host)
                        : SSL_set1_host(library, host);
    ASSERT(rc == 1);
    if (!is_address)
        rc = (int)SSL_set_tlsext_host_name(library, host);
    ASSERT(rc == 1);
}

struct tls_stream *tls_stream_new(struct tls_context *context, enum tls_end end, const char *host)
{
    pthread_once(&method_once, method_make);
    struct tls_stream *stream = calloc(1, sizeof *stream);
    ASSERT(stream != NULL);
    stream->context = context;
    stream->library = SSL_new(tls_context_ref(context));
    BIO *bio = BIO_new(method);
    ASSERT(stream->library != NULL && bio != NULL);
    BIO_set_data(bio, stream);
    BIO_set_init(bio, 1);
    SSL_set_bio(stream->library, bio, bio);
    SSL_set_app_data(stream->library, stream);
    if (end == TLS_SERVER) {
        SSL_set_accept_state(stream->library);
    } else {
        expect_host(stream->library, host);
        SSL_set_connect_state(stream->library);
    }
    return stream;
}

void tls_stream_free(struct tls_stream *stream)
{
    if (stream == NULL)
        return;
    GENERAL_NAMES_free(stream->peer_names);
    SSL_free(stream->library);
    tls_context_unref(stream->context);
    free(stream);
}

/* Bytes. */

static bool is_refusal(unsigned long code)
{
    for (size_t i = 0; i < ARRAY_COUNT(refusals); i++) {
        if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == refusals[i])
            return true;
    }
    return false;
}

static enum status fail(struct tls_stream *stream)
{
    unsigned long code = ERR_peek_last_error();
    long verdict = SSL_get_verify_result(stream->library);
    char *error = stream->error;
    size_t size = sizeof stream->error;
    if (stream->wrong_role)
        snprintf(error, size, "the peer's certificate is not for the role %s",
                 tls_context_peer_role(stream->context, 0));
    else if (verdict != X509_V_OK)
        snprintf(error, size, "the peer's certificate: %s", X509_verify_cert_error_string(verdict));
    else
        snprintf(error, size, "%s", tls_library_error());
    bool refused = stream->wrong_role || verdict != X509_V_OK || is_refusal(code);
    stream->failed = refused ? STATUS_PERMISSION : STATUS_INVALID;
    stream->is_http =
        ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST;
    tls_context_count(stream->context, false);
    ERR_clear_error();
    return stream->failed;
}

/* What the library's refusal to go on means. */
static enum status stopped(struct tls_stream *stream, int result)
{
    switch (SSL_get_error(stream->library, result)) {
    case SSL_ERROR_WANT_READ:
        ASSERT(stream->in.length == 0); /* I2 */
        return STATUS_OK;
    case SSL_ERROR_ZERO_RETURN:
        return STATUS_CLOSED;
    default:
        return fail(stream);
    }
}

static enum status receive(struct tls_stream *stream, struct buffer *plain)
{
    if (!stream->established) {
        int rc = SSL_do_handshake(stream->library);
        if (rc != 1)
            return stopped(stream, rc);
        stream->established = true;
        tls_context_count(stream->context, true);
    }
    for (;;) {
        size_t count;
        uint8_t *room = buffer_reserve(plain, RECORD_BYTES);
        int rc = SSL_read_ex(stream->library, room, RECORD_BYTES, &count);
        if (rc != 1)
            return stopped(stream, rc);
        buffer_added(plain, count);
    }
}

enum status tls_stream_receive(struct tls_stream *stream, struct slice in, struct buffer *plain,
                               struct buffer *out)
{
    if (stream->failed != STATUS_OK) /* I3 */
        return stream->failed;
    ERR_clear_error();
    stream->in = in;
    stream->out = out;
    enum status status = receive(stream, plain);
    stream->in = (struct slice){0};
    stream->out = NULL;
    return status;
}

bool tls_stream_established(const struct tls_stream *stream)
{
    return stream->failed == STATUS_OK && stream->established;
}

enum status tls_stream_send(struct tls_stream *stream, struct slice plain, struct buffer *out)
{
    ASSERT(stream->failed != STATUS_OK || stream->established);
    if (stream->failed != STATUS_OK) /* I3 */
        return STATUS_INVALID;
    if (plain.length == 0)
        return STATUS_OK;
    ERR_clear_error();
    stream->out = out;
    size_t done;
    int rc = SSL_write_ex(stream->library, plain.data, plain.length, &done);
    stream->out = NULL;
    if (rc != 1) {
        (void)fail(stream);
        return STATUS_INVALID;
    }
    ASSERT(done == plain.length); /* the BIO takes everything */
    return STATUS_OK;
}

void tls_stream_end(struct tls_stream *stream, struct buffer *out)
{
    if (!tls_stream_established(stream))
        return;
    ERR_clear_error();
    stream->out = out;
    (void)SSL_shutdown(stream->library); /* 0: said, and not yet heard from the peer */
    stream->out = NULL;
    ERR_clear_error();
}

/* Questions. */

const char *tls_stream_error(const struct tls_stream *stream)
{
    return stream->error;
}

bool tls_stream_is_http(const struct tls_stream *stream)
{
    return stream->is_http;
}

static const GENERAL_NAMES *peer_names(struct tls_stream *stream)
{
    const X509 *peer = SSL_get0_peer_certificate(stream->library);
    if (stream->peer_names == NULL && peer != NULL)
        stream->peer_names = X509_get_ext_d2i(peer, NID_subject_alt_name, NULL, NULL);
    return stream->peer_names;
}

struct slice tls_stream_peer_dns(struct tls_stream *stream, unsigned index)
{
    const GENERAL_NAMES *names = peer_names(stream);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS && index-- == 0)
            return text_of(name->d.dNSName);
    }
    return (struct slice){0};
}

struct slice tls_stream_peer_name(const struct tls_stream *stream)
{
    const X509 *peer = SSL_get0_peer_certificate(stream->library);
    if (peer == NULL)
        return (struct slice){0};
    X509_NAME *subject = X509_get_subject_name(peer);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    return at < 0 ? (struct slice){0}
                  : text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

bool tls_stream_peer_has_role(struct tls_stream *stream, const char *role)
{
    return names_have_uri(peer_names(stream), role);
}
