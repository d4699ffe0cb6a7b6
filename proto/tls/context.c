/* SPDX-License-Identifier: Apache-2.0 */
/* What a set of PEM files says, and noticing that they have changed.
 *
 * The files are looked at by their marks (device, inode, size, time of change), not watched by
 * inotify: a renewed certificate comes as a rename here, as a rewritten file there, and as a
 * symbolic link somewhere above that now points elsewhere in a mounted secret. A look is three
 * stat() calls.
 *
 *     same as loaded --changed--> seen once --changed again--> seen once
 *           ^                        |
 *           +------ load() <---------+ the same at the next look
 *
 * load() makes a whole new SSL_CTX or fails; the old one lives as long as streams use it. A new one
 * has new keys for session tickets, so a renewed authority is asked about everybody again. */
#include "proto/base/assert.h"
#include "proto/base/trace.h"
#include "proto/tls/internal.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILES 3

/* TLS 1.2 only with forward secrecy and authenticated encryption. */
static const char ciphers_1_2[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const unsigned char alpn_http[] = "\x08http/1.1";
static const unsigned char session_context[] = "millrace";

struct mark {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct marks {
    struct mark of[FILES];
};

struct tls_context {
    struct tls_settings settings;
    char *names[FILES]; /* certificate, key, authorities; NULL: none */
    char *peer_roles[2];
    SSL_CTX *library;
    struct tls_context_stats stats;
    struct marks loaded;
    struct marks seen;
    unsigned users; /* streams, and 1 for the owner until the timer is closed */
    uv_timer_t timer;
    void (*closed)(void *data);
    void *closed_data;
};

/* Loading. */

const char *tls_library_error(void)
{
    unsigned long first = ERR_peek_error(); /* of the system, if a file was not to be had */
    const char *text = ERR_SYSTEM_ERROR(first) ? strerror(ERR_GET_REASON(first))
                                               : ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return text != NULL ? text : "unknown error";
}

/* An encrypted key must not make the program ask at a terminal. */
static int no_passphrase(char *out, int size, int writing, void *data)
{
    (void)out, (void)size, (void)writing, (void)data;
    return -1;
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                           const unsigned char *in, unsigned in_length, void *data)
{
    (void)ssl, (void)data;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_length, alpn_http, sizeof alpn_http - 1, in,
                              in_length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static bool set_protocol(SSL_CTX *library, enum tls_use use)
{
    SSL_CTX_set_options(library, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* An idle connection keeps no record buffers (34 kB). The chain is what the file says, without
     * an authority's certificate that the other end must have anyway. */
    SSL_CTX_set_mode(library,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(library, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_passwd_cb(library, no_passphrase);
    if (use == TLS_MUTUAL) {
        SSL_CTX_set_options(library, SSL_OP_NO_TICKET);
        return SSL_CTX_set_min_proto_version(library, TLS1_3_VERSION) == 1 &&
               SSL_CTX_set_num_tickets(library, 0) == 1;
    }
    SSL_CTX_set_alpn_select_cb(library, choose_protocol, NULL);
    return SSL_CTX_set_min_proto_version(library, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(library, ciphers_1_2) == 1 &&
           SSL_CTX_set_num_tickets(library, 1) == 1 &&
           SSL_CTX_set_session_id_context(library, session_context, sizeof session_context - 1) ==
               1;
}

static bool load_authorities(SSL_CTX *library, const char *file)
{
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);
    if (names == NULL)
        return false;
    SSL_CTX_set_client_CA_list(library, names);
    SSL_CTX_set_verify(library, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       tls_stream_verify);
    return SSL_CTX_load_verify_file(library, file) == 1;
}

/* NULL, or the name of the file that is to blame; "" if none is. */
static const char *load_files(SSL_CTX *library, const struct tls_context *context)
{
    if (!set_protocol(library, context->settings.use))
        return "";
    if (SSL_CTX_use_certificate_chain_file(library, context->names[0]) != 1)
        return context->names[0];
    if (SSL_CTX_use_PrivateKey_file(library, context->names[1], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(library) != 1)
        return context->names[1];
    if (context->names[2] != NULL && !load_authorities(library, context->names[2]))
        return context->names[2];
    return NULL;
}

static int64_t expiry(const SSL_CTX *library)
{
    struct tm end = {0};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(SSL_CTX_get0_certificate(library)), &end) != 1)
        return 0;
    return (int64_t)timegm(&end);
}

static enum status load(struct tls_context *context, struct tls_error *error)
{
    ERR_clear_error();
    SSL_CTX *library = SSL_CTX_new(TLS_method());
    ASSERT(library != NULL);
    const char *blamed = load_files(library, context);
    if (blamed != NULL) {
        context->stats.refusals++;
        snprintf(error->text, sizeof error->text, "%s: %s", blamed, tls_library_error());
        SSL_CTX_free(library);
        return STATUS_INVALID;
    }
    SSL_CTX_free(context->library); /* this owner's count of it */
    context->library = library;
    context->stats.loads++;
    context->stats.expires_s = expiry(library);
    return STATUS_OK;
}

/* Looking. */

static struct marks look(const struct tls_context *context)
{
    struct marks marks;
    memset(&marks, 0, sizeof marks);
    for (unsigned i = 0; i < FILES; i++) {
        struct stat about;
        if (context->names[i] == NULL || stat(context->names[i], &about) != 0)
            continue;
        marks.of[i].device = about.st_dev;
        marks.of[i].inode = about.st_ino;
        marks.of[i].size = about.st_size;
        marks.of[i].changed = about.st_ctim;
    }
    return marks;
}

static bool same(const struct marks *a, const struct marks *b)
{
    for (unsigned i = 0; i < FILES; i++) {
        const struct mark *x = &a->of[i];
        const struct mark *y = &b->of[i];
        if (x->device != y->device || x->inode != y->inode || x->size != y->size ||
            x->changed.tv_sec != y->changed.tv_sec || x->changed.tv_nsec != y->changed.tv_nsec)
            return false;
    }
    return true;
}

static void timer_fired(uv_timer_t *timer)
{
    struct tls_context *context = timer->data;
    struct marks now = look(context);
    bool settled = same(&now, &context->seen);
    context->seen = now;
    if (!settled || same(&now, &context->loaded))
        return;
    struct tls_error error;
    context->loaded = now; /* also if they are of no use: that is said once */
    if (load(context, &error) == STATUS_OK)
        trace_info("tls", "reloaded", "cert=\"%s\" expires=%lld", context->names[0],
                   (long long)context->stats.expires_s);
    else
        trace_warn("tls", "reload_failed",
                   "why=\"%s\" note=\"the files loaded before stay in use\"", error.text);
}

/* Life. */

static void context_free(struct tls_context *context)
{
    SSL_CTX_free(context->library);
    for (unsigned i = 0; i < FILES; i++)
        free(context->names[i]);
    free(context->peer_roles[0]);
    free(context->peer_roles[1]);
    free(context);
}

SSL_CTX *tls_context_ref(struct tls_context *context)
{
    context->users++;
    return context->library;
}

void tls_context_unref(struct tls_context *context)
{
    ASSERT(context->users > 0);
    if (--context->users == 0)
        context_free(context);
}

void tls_context_count(struct tls_context *context, bool established)
{
    if (established)
        context->stats.handshakes++;
    else
        context->stats.failures++;
}

const char *tls_context_peer_role(const struct tls_context *context, unsigned index)
{
    return context->peer_roles[index];
}

struct tls_context_stats tls_context_stats(const struct tls_context *context)
{
    return context->stats;
}

static char *copy_of(const char *text)
{
    char *copy = text != NULL ? strdup(text) : NULL;
    ASSERT((copy == NULL) == (text == NULL));
    return copy;
}

enum status tls_context_open(struct tls_context **out, uv_loop_t *loop,
                             const struct tls_settings *settings, struct tls_error *error)
{
    ASSERT(settings->certificate_file != NULL && settings->key_file != NULL);
    ASSERT(settings->use != TLS_MUTUAL ||
           (settings->ca_file != NULL && settings->peer_role != NULL));
    struct tls_context *context = calloc(1, sizeof *context);
    ASSERT(context != NULL);
    context->settings = *settings;
    context->names[0] = copy_of(settings->certificate_file);
    context->names[1] = copy_of(settings->key_file);
    context->names[2] = copy_of(settings->ca_file);
    context->peer_roles[0] = copy_of(settings->peer_role);
    context->peer_roles[1] = copy_of(settings->peer_role_too);
    context->loaded = context->seen = look(context); /* before reading: no change is missed */
    if (load(context, error) != STATUS_OK) {
        context_free(context);
        return STATUS_INVALID;
    }
    context->users = 1;
    uv_timer_init(loop, &context->timer);
    context->timer.data = context;
    if (settings->poll_ms > 0) {
        int rc = uv_timer_start(&context->timer, timer_fired, settings->poll_ms, settings->poll_ms);
        ASSERT(rc == 0);
    }
    *out = context;
    return STATUS_OK;
}

static void timer_closed(uv_handle_t *handle)
{
    struct tls_context *context = handle->data;
    void (*closed)(void *data) = context->closed;
    void *data = context->closed_data;
    tls_context_unref(context);
    if (closed != NULL)
        closed(data);
}

void tls_context_close(struct tls_context *context, void (*closed)(void *data), void *data)
{
    context->closed = closed;
    context->closed_data = data;
    uv_close((uv_handle_t *)&context->timer, timer_closed);
}
