/* SPDX-License-Identifier: Apache-2.0 */
/* A package may have 50 MB and an entry of the log should stay small, so code is sent to the core
 * in pieces, a few at a time: enough to keep the disk busy, and no more than that is held twice.
 * Pieces are applied in the order in which they were given to the shard. The same code sent twice
 * (two functions, or a second try) is stored once: the core knows it by its SHA-256. */
#include "broker/api/lambda/code_store.h"

#include "proto/base/assert.h"

#define IN_FLIGHT_MAX 4

struct piece {
    struct shard_call commit;
    struct code_upload *upload;
    bool busy;
};
struct code_upload {
    struct lambda_call *call;
    void (*stored)(struct lambda_call *call);
    size_t offset;
    unsigned in_flight;
    enum status status;
    enum core_code code;
    struct piece pieces[IN_FLIGHT_MAX];
};

static void finish(struct code_upload *upload)
{
    struct lambda_call *call = upload->call;
    if (call->request == NULL) {
        return;
    }
    if (upload->status != STATUS_OK) {
        call_status_failure(call, upload->status);
        call_refuse(call);
    } else if (upload->code != CORE_OK) {
        call_fail(call, LAMBDA_INTERNAL, "The function's code could not be stored. Try again.");
    } else {
        upload->stored(call);
    }
}

static void pump(struct code_upload *upload);

static void on_piece(struct shard_call *commit, enum status status,
                     const struct core_result *results, uint32_t count)
{
    struct piece *piece = CONTAINER_OF(commit, struct piece, commit);
    struct code_upload *upload = piece->upload;
    struct lambda_call *call = upload->call;
    ASSERT(status != STATUS_OK || count == 1);
    piece->busy = false;
    upload->in_flight--;
    if (upload->status == STATUS_OK) {
        upload->status = status;
    }
    if (status == STATUS_OK && upload->code == CORE_OK) {
        upload->code = results[0].code;
    }
    pump(upload);
    call_unref(call);
}

static void send_piece(struct code_upload *upload, struct piece *piece)
{
    struct lambda_call *call = upload->call;
    struct slice rest = slice_sub(buffer_slice(&call->package.zip), upload->offset);
    size_t length = rest.length < BLOB_PIECE_BYTES_MAX ? rest.length : BLOB_PIECE_BYTES_MAX;
    struct command command = {.type = COMMAND_BLOB_PUT};
    memcpy(command.blob_put.sha256, call->package.sha256, SHA256_BYTES);
    command.blob_put.total_bytes = call->package.zip.length;
    command.blob_put.offset = upload->offset;
    command.blob_put.piece = slice_make(rest.data, length);
    piece->commit = (struct shard_call){.grows = true, .done = on_piece};
    piece->upload = upload;
    piece->busy = true;
    shard_call_add(&piece->commit, &command);
    upload->offset += length;
    upload->in_flight++;
    call_ref(call);
    shard_call(api_catalog(call->api), &piece->commit);
}

static void pump(struct code_upload *upload)
{
    size_t total = upload->call->package.zip.length;
    bool failed = upload->status != STATUS_OK || upload->code != CORE_OK;
    bool more = !failed && upload->call->request != NULL && upload->offset < total;
    for (size_t i = 0; i < IN_FLIGHT_MAX && more; i++) {
        if (!upload->pieces[i].busy) {
            send_piece(upload, &upload->pieces[i]);
            more = upload->offset < total;
        }
    }
    if (upload->in_flight == 0) {
        finish(upload);
    }
}

void code_store(struct lambda_call *call, void (*stored)(struct lambda_call *call))
{
    if (core_blob_complete(shard_core(api_catalog(call->api)), call->package.sha256)) {
        stored(call);
        return;
    }
    struct code_upload *upload = arena_alloc(&call->arena, sizeof *upload);
    upload->call = call;
    upload->stored = stored;
    pump(upload);
}
