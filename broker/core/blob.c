/* SPDX-License-Identifier: Apache-2.0 */
/* Function code: blobs named by their SHA-256, in pieces that stay in the Raft log like message
 * records. Whoever proposes a blob has computed the digest; the core does not see the bytes again.
 *
 * A blob is unused until the first function refers to it, for an hour at most; then it lives as
 * long as a function uses it. Unused blobs are listed in order of creation, the next to go first.
 */
#include "broker/core/limits.h"
#include "broker/core/state.h"

#include <stdlib.h>

struct blob *blob_find(const struct core *core, const uint8_t sha256[SHA256_BYTES])
{
    struct blob *blob;
    HASH_FIND(hh, core->blobs, sha256, SHA256_BYTES, blob);
    return blob;
}

struct blob *blob_add(struct core *core, const uint8_t sha256[SHA256_BYTES], uint64_t total_bytes,
                      uint64_t created_ms)
{
    struct blob *blob = calloc(1, sizeof *blob);
    ASSERT(blob != NULL);
    memcpy(blob->sha256, sha256, SHA256_BYTES);
    blob->total_bytes = total_bytes;
    blob->created_ms = created_ms;
    HASH_ADD(hh, core->blobs, sha256, SHA256_BYTES, blob);
    DL_APPEND(core->unused_blobs, blob);
    return blob;
}

void blob_append(struct core *core, struct blob *blob, struct body_ref piece)
{
    ASSERT(piece.length <= blob->total_bytes - blob->stored_bytes);
    if (blob->piece_count == blob->piece_capacity) {
        blob->piece_capacity = blob->piece_capacity == 0 ? 8 : blob->piece_capacity * 2;
        blob->pieces = realloc(blob->pieces, blob->piece_capacity * sizeof blob->pieces[0]);
        ASSERT(blob->pieces != NULL);
    }
    blob->pieces[blob->piece_count++] = piece;
    blob->stored_bytes += piece.length;
    body_hold(core, piece);
}

void blob_free(struct blob *blob)
{
    free(blob->pieces);
    free(blob);
}

void blob_drop(struct core *core, struct blob *blob)
{
    ASSERT(blob->references == 0);
    for (uint32_t i = 0; i < blob->piece_count; i++)
        body_release(core, blob->pieces[i]);
    DL_DELETE(core->unused_blobs, blob);
    HASH_DELETE(hh, core->blobs, blob);
    blob_free(blob);
}

void blob_ref(struct core *core, struct blob *blob)
{
    if (blob->references++ == 0)
        DL_DELETE(core->unused_blobs, blob);
}

void blob_unref(struct core *core, struct blob *blob)
{
    ASSERT(blob->references > 0);
    if (--blob->references > 0)
        return;
    DL_PREPEND(core->unused_blobs, blob); /* where blob_drop looks for it */
    blob_drop(core, blob);
}

void blob_put(struct core *core, const struct command *command, struct slice entry,
              struct core_result *result)
{
    const struct command_blob_put *put = &command->blob_put;
    struct blob *blob = blob_find(core, put->sha256);
    uint64_t stored_bytes = blob != NULL ? blob->stored_bytes : 0;
    uint64_t total_bytes = blob != NULL ? blob->total_bytes : put->total_bytes;
    result->code = CORE_INVALID;
    if (put->piece.length == 0 || put->total_bytes != total_bytes || total_bytes > BLOB_BYTES_MAX)
        return;
    if (put->offset > total_bytes || put->piece.length > total_bytes - put->offset)
        return;
    if (put->offset + put->piece.length <= stored_bytes) {
        result->code = CORE_OK; /* stored already */
        return;
    }
    if (put->offset != stored_bytes)
        return;
    ASSERT(put->piece.data >= entry.data);
    ASSERT(put->piece.data + put->piece.length <= entry.data + entry.length);
    if (blob == NULL)
        blob = blob_add(core, put->sha256, total_bytes, core->now_ms);
    blob_append(core, blob,
                (struct body_ref){core->applied_index, (uint32_t)(put->piece.data - entry.data),
                                  (uint32_t)put->piece.length});
    result->code = CORE_OK;
}

bool core_blob_piece(const struct core *core, const uint8_t sha256[SHA256_BYTES], size_t n,
                     struct body_ref *out)
{
    const struct blob *blob = blob_find(core, sha256);
    if (blob == NULL || n >= blob->piece_count)
        return false;
    *out = blob->pieces[n];
    return true;
}

bool core_blob_complete(const struct core *core, const uint8_t sha256[SHA256_BYTES])
{
    const struct blob *blob = blob_find(core, sha256);
    return blob != NULL && blob->stored_bytes == blob->total_bytes;
}
