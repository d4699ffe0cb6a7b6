/* SPDX-License-Identifier: Apache-2.0 */
/* The root key: how the first one gets in. It is given to the broker by its environment and is kept
 * in the catalog like any other key, so that every node knows it; whoever sets the broker's
 * environment owns the broker, so what is there wins over what is in the catalog. */
#include "broker/auth/internal.h"

#include "proto/base/clock.h"
#include "proto/base/trace.h"

#define ROOT_NAME "root"

static struct key_record wanted(const struct auth *auth)
{
    return (struct key_record){.id = slice_of(auth->options.root_id),
                               .secret = slice_of(auth->options.root_secret),
                               .name = SLICE_LITERAL(ROOT_NAME),
                               .account = slice_of(auth->options.account_id),
                               .root = true,
                               .created_ms = clock_now_ms()};
}

static bool is_in_catalog(struct auth *auth, const struct key_record *record, uint64_t *version)
{
    struct arena arena = {0};
    struct document_view document;
    *version = 0;
    bool there = core_document_get(shard_core(auth->options.shard),
                                   key_document_name(record->id, &arena), &document);
    arena_free(&arena);
    if (!there)
        return false;
    *version = document.version;
    const struct key *key = keys_find(auth, record->id);
    return key != NULL && key->record.root && !key->record.disabled &&
           slice_equal(key->record.secret, record->secret) &&
           slice_equal(key->record.account, record->account);
}

static void on_put(struct shard_call *call, enum status status, const struct core_result *results,
                   uint32_t count)
{
    struct auth *auth = call->data;
    auth->root_under_way = false;
    /* Anything else is tried again at the next step: it will find what there is then. */
    if (status == STATUS_OK && count == 1 && results[0].code == CORE_OK)
        trace_info("auth", "root_key_stored", "id=%s", auth->options.root_id);
}

static void put(struct auth *auth, const struct key_record *record, uint64_t version,
                const uint8_t secret[SEAL_CLUSTER_SECRET_BYTES])
{
    struct arena arena = {0};
    struct buffer content = {0};
    key_record_encode(record, secret, &content);
    struct command command = {.type = COMMAND_DOCUMENT_PUT};
    command.document_put.name = key_document_name(record->id, &arena);
    command.document_put.version = version;
    command.document_put.content = buffer_slice(&content);
    auth->root_call = (struct shard_call){.done = on_put, .data = auth};
    shard_call_add(&auth->root_call, &command);
    buffer_free(&content);
    arena_free(&arena);
    auth->root_under_way = true;
    shard_call(auth->options.shard, &auth->root_call);
}

void root_key_step(struct auth *auth)
{
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[SEAL_CLUSTER_SECRET_BYTES];
    uint64_t version;
    if (auth->root_under_way ||
        !core_bootstrapped(shard_core(auth->options.shard), cluster_id, secret))
        return;
    struct key_record record = wanted(auth);
    auth->root_done = is_in_catalog(auth, &record, &version);
    if (!auth->root_done)
        put(auth, &record, version, secret);
    hash_wipe(secret, sizeof secret);
}
