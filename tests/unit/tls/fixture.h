/* SPDX-License-Identifier: Apache-2.0 */
/* An authority with certificates of every role in a folder of their own, and two streams whose
 * bytes are carried to and fro, for the tests of proto/tls. */
#ifndef TESTS_UNIT_TLS_FIXTURE_H
#define TESTS_UNIT_TLS_FIXTURE_H

#include "proto/tls/issue.h"
#include "proto/tls/tls.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES 128 /* of a path below `dir` */

struct world {
    uv_loop_t loop;
    char dir[64];
    char files[64][FILE_BYTES]; /* texts that path() has made */
    unsigned file_count;
};

static inline const char *path(struct world *w, const char *name)
{
    char *at = w->files[w->file_count++ % 64];
    snprintf(at, FILE_BYTES, "%s/%s", w->dir, name);
    return at;
}

static inline struct tls_authority authority(struct world *w, const char *name)
{
    char key[40];
    char certificate[40];
    snprintf(certificate, sizeof certificate, "%s.pem", name);
    snprintf(key, sizeof key, "%s-key.pem", name);
    return (struct tls_authority){path(w, certificate), path(w, key)};
}

static inline void issue_from(struct world *w, const char *ca, const char *name, const char *role,
                              const char *host, unsigned days)
{
    struct tls_authority by = authority(w, ca);
    struct tls_authority files = authority(w, name); /* the names follow the same pattern */
    struct tls_error error;
    const char *hosts[] = {host, "127.0.0.1", "::1"};
    struct tls_request request = {.name = name,
                                  .role = role,
                                  .hosts = hosts,
                                  .host_count = host != NULL ? 3 : 0,
                                  .days = days,
                                  .certificate_file = files.certificate_file,
                                  .key_file = files.key_file};
    assert_int_equal(tls_issue(&by, &request, &error), STATUS_OK);
}

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct tls_error error;
    snprintf(w->dir, sizeof w->dir, "/tmp/millrace-tls-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    uv_loop_init(&w->loop);
    struct tls_authority ca = authority(w, "ca");
    struct tls_authority other = authority(w, "other");
    assert_int_equal(tls_authority_make(&ca, "Test authority", 10, &error), STATUS_OK);
    assert_int_equal(tls_authority_make(&other, "Other authority", 10, &error), STATUS_OK);
    issue_from(w, "ca", "node", TLS_ROLE_BROKER, "node.example", 10);
    issue_from(w, "ca", "worker", TLS_ROLE_WORKER, NULL, 10);
    issue_from(w, "other", "stranger", TLS_ROLE_BROKER, "node.example", 10);
    *state = w;
    return 0;
}

static inline int remove_one(const char *name, const struct stat *about, int type, struct FTW *at)
{
    (void)about, (void)type, (void)at;
    return remove(name);
}

/* What a failed test has left open would keep the loop running for ever. */
static inline void close_handle(uv_handle_t *handle, void *data)
{
    (void)data;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    uv_run(&w->loop, UV_RUN_NOWAIT);
    uv_walk(&w->loop, close_handle, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    assert_int_equal(nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    free(w);
    return 0;
}

static inline struct tls_settings mutual(struct world *w, const char *name, const char *peer_role)
{
    struct tls_authority files = authority(w, name);
    return (struct tls_settings){.use = TLS_MUTUAL,
                                 .certificate_file = files.certificate_file,
                                 .key_file = files.key_file,
                                 .ca_file = path(w, "ca.pem"),
                                 .peer_role = peer_role};
}

static inline struct tls_context *open_context(struct world *w, struct tls_settings settings)
{
    struct tls_context *context;
    struct tls_error error = {0};
    enum status status = tls_context_open(&context, &w->loop, &settings, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "%s\n", error.text);
    assert_int_equal(status, STATUS_OK);
    return context;
}

/* One end, with what it has said and not yet been carried. */
struct end {
    struct tls_stream *stream;
    struct buffer plain;
    struct buffer out;
    enum status status;
};

static inline struct end end_new(struct tls_context *context, enum tls_end end, const char *host)
{
    return (struct end){.stream = tls_stream_new(context, end, host)};
}

static inline void end_free(struct end *end)
{
    tls_stream_free(end->stream);
    buffer_free(&end->plain);
    buffer_free(&end->out);
}

/* end_take: give `end` bytes of the other one, `piece` at a time; errors stay. */
static inline void end_take(struct end *end, struct slice in, size_t piece)
{
    do {
        size_t length = in.length < piece ? in.length : piece;
        enum status status =
            tls_stream_receive(end->stream, slice_make(in.data, length), &end->plain, &end->out);
        if (end->status == STATUS_OK)
            end->status = status;
        in = slice_sub(in, length);
    } while (in.length > 0);
}

/* carry: until neither end has anything to say. */
static inline void carry(struct end *a, struct end *b, size_t piece)
{
    while (a->out.length + b->out.length > 0) {
        struct buffer from_a = a->out;
        struct buffer from_b = b->out;
        a->out = b->out = (struct buffer){0};
        end_take(b, buffer_slice(&from_a), piece);
        end_take(a, buffer_slice(&from_b), piece);
        buffer_free(&from_a);
        buffer_free(&from_b);
    }
}

/* shake: the whole handshake. */
static inline void shake(struct end *client, struct end *server, size_t piece)
{
    end_take(client, (struct slice){0}, piece);
    carry(client, server, piece);
}

static inline void end_send(struct end *end, struct slice plain)
{
    assert_int_equal(tls_stream_send(end->stream, plain, &end->out), STATUS_OK);
}

#endif
