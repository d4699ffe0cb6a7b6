/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacked function packages on disk, by SHA-256: fetched from the broker once, shared by all
 * environments of that code, removed when room is needed. thread: loop. */
#ifndef WORKER_CODE_STORE_H
#define WORKER_CODE_STORE_H

#include "proto/base/encode.h"
#include "proto/base/status.h"

#include <uv.h>

struct code_store;
struct code;

struct code_store_options {
    uv_loop_t *loop;
    const char *dir;    /* exists, or its parent does */
    uint64_t bytes_max; /* of unpacked code that nobody uses; more is removed, oldest first */
    /* Ask the broker for a piece; the answer comes to code_store_piece. False: no session. */
    bool (*request)(void *data, const uint8_t sha256[SHA256_BYTES], uint64_t offset);
    void *data;
};
/* code_store_open: find what is there from earlier, remove what was left half done. */
MUST_CHECK enum status code_store_open(struct code_store **out,
                                       const struct code_store_options *options);
/* code_store_close: every wait must be over and every code released. */
void code_store_close(struct code_store *store, void (*closed)(void *data), void *data);

/* One wait for a code; the caller's memory until `done` has run, or code_wait_cancel. */
struct code_wait {
    struct code_wait *next;
    struct code *code;
    /* OK: `code` is the caller's until code_release. NOT_FOUND: the broker has no such code.
     * INVALID: its bytes are wrong or no package. CLOSED: the session ended. Others: this machine's
     * trouble. */
    void (*done)(void *data, enum status status, struct code *code);
    void *data;
};
/* code_store_get: may call `done` before it returns, if the code is here. */
void code_store_get(struct code_store *store, const uint8_t sha256[SHA256_BYTES],
                    uint64_t zipped_bytes, struct code_wait *wait);
void code_wait_cancel(struct code_wait *wait);
const char *code_dir(const struct code *code);
void code_release(struct code *code);

/* code_store_piece: a piece has come. code_store_session_ended: none will come any more. */
void code_store_piece(struct code_store *store, struct slice sha256, uint64_t offset,
                      struct slice data, uint64_t total_bytes, bool missing);
void code_store_session_ended(struct code_store *store);

#endif
