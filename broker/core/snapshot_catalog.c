/* SPDX-License-Identifier: Apache-2.0 */
/* The part of a snapshot with function code, functions, mappings, documents and tallies. */
#include "broker/core/limits.h"
#include "broker/core/snapshot.h"
#include "broker/core/state.h"

#define PIECE_BYTES 16

static const struct field blob_fields[] = {
    FIELD(BYTES32, struct blob, sha256),
    FIELD_IN(U64, struct blob, total_bytes, 1, BLOB_BYTES_MAX),
    FIELD(U64, struct blob, created_ms),
};

static const struct field function_fields[] = {
    FIELD_IN(SLICE, struct function_view, name, 1, UINT32_MAX),
    FIELD(U64, struct function_view, version),
    FIELD(SLICE, struct function_view, config),
    FIELD(BYTES32, struct function_view, code_sha256),
    FIELDS_USAGE(struct function_view, usage),
};

static const struct field tally_fields[] = {
    FIELD_IN(U64, struct tally, function_id, 1, QUEUE_ID_MAX),
    FIELDS_USAGE(struct tally, usage),
};

static const struct field mapping_fields[] = {
    FIELD(BYTES16, struct mapping_view, uuid),        FIELD(U64, struct mapping_view, version),
    FIELD(SLICE, struct mapping_view, function_name), FIELD(SLICE, struct mapping_view, queue_name),
    FIELD(SLICE, struct mapping_view, config),
};

static const struct field document_fields[] = {
    FIELD_IN(SLICE, struct document_view, name, 1, DOCUMENT_NAME_BYTES_MAX),
    FIELD(U64, struct document_view, version),
    FIELD_IN(SLICE, struct document_view, content, 0, DOCUMENT_BYTES_MAX),
};

/* ---- writing ---- */

static void encode_blob(const struct blob *blob, struct buffer *out)
{
    ENCODE(out, blob_fields, blob);
    buffer_add_u32(out, blob->piece_count);
    for (uint32_t i = 0; i < blob->piece_count; i++) {
        buffer_add_u64(out, blob->pieces[i].index);
        buffer_add_u32(out, blob->pieces[i].offset);
        buffer_add_u32(out, blob->pieces[i].length);
    }
}

void snapshot_write_catalog(const struct core *core, struct buffer *out)
{
    buffer_add_u32(out, HASH_COUNT(core->blobs));
    for (const struct blob *blob = core->blobs; blob != NULL; blob = blob->hh.next)
        encode_blob(blob, out);
    buffer_add_u32(out, (uint32_t)core->function_names.count);
    for (size_t i = 0; i < core->function_names.count; i++) {
        const struct function *function = core->function_names.entries[i].object;
        ENCODE(out, function_fields, &function->view);
    }
    buffer_add_u32(out, (uint32_t)core->mapping_count);
    for (size_t i = 0; i < core->mapping_count; i++)
        ENCODE(out, mapping_fields, &core->mappings[i]->view);
    buffer_add_u32(out, (uint32_t)core->document_names.count);
    for (size_t i = 0; i < core->document_names.count; i++) {
        const struct document *document = core->document_names.entries[i].object;
        ENCODE(out, document_fields, &document->view);
    }
    buffer_add_u32(out, (uint32_t)core->tally_count);
    for (size_t i = 0; i < core->tally_count; i++)
        ENCODE(out, tally_fields, &core->tallies[i]);
}

/* ---- reading ---- */

static bool decode_piece(struct core *core, struct cursor *in, struct blob *blob)
{
    struct body_ref piece;
    piece.index = cursor_u64(in);
    piece.offset = cursor_u32(in);
    piece.length = cursor_u32(in);
    if (piece.length == 0 || piece.length > BLOB_PIECE_BYTES_MAX || piece.index == 0 ||
        piece.index > core->applied_index)
        return false;
    if (piece.length > blob->total_bytes - blob->stored_bytes)
        return false;
    blob_append(core, blob, piece);
    return true;
}

static bool decode_blob(struct core *core, struct cursor *in)
{
    struct blob read = {0};
    uint32_t count;
    DECODE(in, blob_fields, &read);
    if (in->bad || !snapshot_count(in, PIECE_BYTES, &count) || count == 0)
        return false;
    if (read.created_ms > core->now_ms || blob_find(core, read.sha256) != NULL)
        return false;
    /* In order of creation, or they would not be dropped in order. */
    if (core->unused_blobs != NULL && core->unused_blobs->prev->created_ms > read.created_ms)
        return false;
    struct blob *blob = blob_add(core, read.sha256, read.total_bytes, read.created_ms);
    for (uint32_t i = 0; i < count; i++) {
        if (!decode_piece(core, in, blob))
            return false;
    }
    return true;
}

static bool decode_function(struct core *core, struct cursor *in)
{
    struct function_view view = {0};
    DECODE(in, function_fields, &view);
    if (in->bad || !snapshot_version_ok(core, view.version) ||
        names_get(&core->function_names, view.name) != NULL)
        return false;
    struct blob *blob = blob_find(core, view.code_sha256);
    if (blob == NULL || blob->stored_bytes != blob->total_bytes)
        return false;
    view.code_bytes = blob->total_bytes;
    function_add(core, &view, blob);
    return true;
}

static bool decode_mapping(struct core *core, struct cursor *in)
{
    struct mapping_view view = {0};
    struct mapping_view other;
    DECODE(in, mapping_fields, &view);
    if (in->bad || !snapshot_version_ok(core, view.version) ||
        core_mapping_get(core, view.uuid, &other) ||
        names_get(&core->function_names, view.function_name) == NULL)
        return false;
    mapping_add(core, &view);
    return true;
}

static bool decode_document(struct core *core, struct cursor *in)
{
    struct document_view view = {0};
    DECODE(in, document_fields, &view);
    if (in->bad || !snapshot_version_ok(core, view.version) ||
        names_get(&core->document_names, view.name) != NULL)
        return false;
    document_add(core, &view);
    return true;
}

static bool decode_tally(struct core *core, struct cursor *in)
{
    struct tally read = {0};
    DECODE(in, tally_fields, &read);
    return !in->bad && tally_add(core, &read);
}

bool snapshot_read_catalog(struct core *core, struct cursor *in, uint32_t version)
{
    return snapshot_decode_all(core, in, decode_blob) &&
           snapshot_decode_all(core, in, decode_function) &&
           snapshot_decode_all(core, in, decode_mapping) &&
           (version <= VERSION_WITHOUT_DOCUMENTS ||
            snapshot_decode_all(core, in, decode_document)) &&
           (version <= VERSION_WITHOUT_PLACE || snapshot_decode_all(core, in, decode_tally));
}
