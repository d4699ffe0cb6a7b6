/* SPDX-License-Identifier: Apache-2.0 */
/* An access key as a document of the core: "key/ID". thread: any. */
#ifndef BROKER_AUTH_KEY_RECORD_H
#define BROKER_AUTH_KEY_RECORD_H

#include "broker/auth/seal.h"
#include "broker/core/core.h"
#include "proto/base/status.h"

#define KEY_DOCUMENT_PREFIX  "key/"
#define KEY_ID_BYTES_MAX     128
#define KEY_SECRET_BYTES_MIN 8
#define KEY_SECRET_BYTES_MAX 256
#define KEY_NAME_BYTES_MAX   64

struct key_record {
    struct slice id;     /* 4..128 of A-Z a-z 0-9 - _ . */
    struct slice secret; /* 8..256 printable ASCII bytes */
    struct slice name;   /* 1..64 of A-Z a-z 0-9 + = , . @ _ -, as IAM's user names */
    struct slice account;
    struct slice policy; /* JSON; empty: none, so nothing is allowed by it */
    bool root;           /* of its account: everything is allowed */
    bool disabled;
    uint64_t created_ms;
};

/* key_id_valid, key_secret_valid, key_name_valid: the ranges above. */
bool key_id_valid(struct slice id);
bool key_secret_valid(struct slice secret);
bool key_name_valid(struct slice name);

/* key_document_name: "key/ID", in the arena. key_document_id: back; absent for another document. */
struct slice key_document_name(struct slice id, struct arena *arena);
struct slice key_document_id(struct slice document_name);

/* key_record_encode: append the document's content. */
void key_record_encode(const struct key_record *record,
                       const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES], struct buffer *out);

/* key_record_decode: slices borrow from `content` and `id`; the secret is in the arena. CORRUPT:
 * another cluster's, or damaged. */
MUST_CHECK enum status key_record_decode(struct slice id, struct slice content,
                                         const uint8_t cluster_secret[SEAL_CLUSTER_SECRET_BYTES],
                                         struct arena *arena, struct key_record *out);

#endif
