/* SPDX-License-Identifier: Apache-2.0 */
/* Access keys as they are used. Decoding one means AES and parsing a policy, so that is done once
 * for each version of its document; what is cached is compared with the catalog's version at every
 * look-up, so it is never stale, whoever changed it and wherever. */
#include "broker/auth/internal.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <stdio.h>
#include <stdlib.h>

static void key_free(struct key *key)
{
    hash_wipe((void *)(uintptr_t)key->record.secret.data, key->record.secret.length);
    hash_wipe(key->signing, sizeof key->signing);
    policy_free(key->policy);
    arena_free(&key->arena);
    free(key);
}

static void forget(struct auth *auth, struct key *key)
{
    HASH_DELETE(hh, auth->keys, key);
    key_free(key);
}

static const char *arn_of(struct key *key)
{
    const struct key_record *record = &key->record;
    return record->root
               ? arena_printf(&key->arena, "arn:aws:iam::%.*s:root", SLICE_ARGS(record->account))
               : arena_printf(&key->arena, "arn:aws:iam::%.*s:user/%.*s",
                              SLICE_ARGS(record->account), SLICE_ARGS(record->name));
}

static enum status decode(struct auth *auth, struct key *key, struct slice id,
                          const struct document_view *document)
{
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[SEAL_CLUSTER_SECRET_BYTES];
    const char *why;
    if (!core_bootstrapped(shard_core(auth->options.shard), cluster_id, secret))
        return STATUS_UNAVAILABLE;
    struct slice own_id = arena_copy(&key->arena, id);
    struct slice content = arena_copy(&key->arena, document->content);
    enum status status = key_record_decode(own_id, content, secret, &key->arena, &key->record);
    hash_wipe(secret, sizeof secret);
    if (status == STATUS_OK && key->record.policy.length > 0)
        status = policy_parse(&key->policy, key->record.policy, POLICY_IDENTITY, &why);
    return status;
}

static struct key *load(struct auth *auth, struct slice id, const struct document_view *document)
{
    struct key *key = calloc(1, sizeof *key);
    ASSERT(key != NULL);
    enum status status = decode(auth, key, id, document);
    if (status != STATUS_OK) {
        trace_error("auth", "key_unreadable", "id=%.*s why=\"%s\"", SLICE_ARGS(id),
                    status_text(status));
        key_free(key);
        return NULL;
    }
    key->version = document->version;
    key->arn = arn_of(key);
    HASH_ADD_KEYPTR(hh, auth->keys, key->record.id.data, key->record.id.length, key);
    return key;
}

struct key *keys_find(struct auth *auth, struct slice id)
{
    struct key *key;
    struct document_view document;
    char name[sizeof KEY_DOCUMENT_PREFIX + KEY_ID_BYTES_MAX];
    if (!key_id_valid(id))
        return NULL;
    int length = snprintf(name, sizeof name, KEY_DOCUMENT_PREFIX "%.*s", SLICE_ARGS(id));
    bool there = core_document_get(shard_core(auth->options.shard),
                                   slice_make(name, (size_t)length), &document);
    HASH_FIND(hh, auth->keys, id.data, id.length, key);
    if (key != NULL && there && key->version == document.version)
        return key;
    if (key != NULL)
        forget(auth, key);
    return there ? load(auth, id, &document) : NULL;
}

bool keys_any(struct auth *auth)
{
    struct document_view document = {.name = SLICE_LITERAL(KEY_DOCUMENT_PREFIX)};
    const struct core *core = shard_core(auth->options.shard);
    while (core_document_next(core, document.name, &document)) {
        struct slice id = key_document_id(document.name);
        if (id.data == NULL)
            return false; /* past the keys: names are in order */
        const struct key *key = keys_find(auth, id);
        if (key != NULL && !key->record.disabled)
            return true;
    }
    return false;
}

void keys_free(struct auth *auth)
{
    struct key *key;
    struct key *next;
    HASH_ITER(hh, auth->keys, key, next)
    {
        forget(auth, key);
    }
}

const struct sigv4_key *keys_signing(struct key *key, const struct sigv4_claim *claim,
                                     struct sigv4_key *scratch)
{
    char scope[SCOPE_BYTES];
    struct slice secret = key->record.secret;
    int length = snprintf(scope, sizeof scope, "%.*s/%.*s/%.*s", SLICE_ARGS(claim->date),
                          SLICE_ARGS(claim->region), SLICE_ARGS(claim->service));
    if (length < 0 || (size_t)length >= sizeof scope) { /* an odd region: not worth a place */
        sigv4_key_init(scratch, secret, claim->date, claim->region, claim->service);
        return scratch;
    }
    for (size_t i = 0; i < SIGNING_KEYS; i++) {
        const struct signing_key *known = &key->signing[i];
        if (known->scope_length == (size_t)length &&
            memcmp(known->scope, scope, known->scope_length) == 0)
            return &known->key;
    }
    struct signing_key *slot = &key->signing[key->signing_next++ % SIGNING_KEYS];
    memcpy(slot->scope, scope, (size_t)length);
    slot->scope_length = (size_t)length;
    sigv4_key_init(&slot->key, secret, claim->date, claim->region, claim->service);
    return &slot->key;
}
