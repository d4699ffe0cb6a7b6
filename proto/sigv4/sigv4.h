/* SPDX-License-Identifier: Apache-2.0 */
/* AWS Signature Version 4: reading what a request claims, checking it, and signing requests.
 *
 * The algorithm is that of the AWS documentation ("Create a signed AWS API request"), for services
 * other than S3: the path as sent is percent-encoded once more, the query is sorted, and the body's
 * SHA-256 is signed. Stricter than the algorithm asks for, because what is not signed can be
 * changed by whoever is in between:
 *   - "host" and every header x-amz-... that is there must be signed: X-Amz-Target names the
 *     action, X-Amz-Invocation-Type how a function is run;
 *   - dot segments and empty segments of the path are signed as they were sent, not resolved;
 *   - a header or parameter of the signature that is given twice, or one way in the header and one
 *     in the query, is refused rather than chosen from.
 * Requests are read from untrusted bytes. thread: any; nothing calls back. */
#ifndef PROTO_SIGV4_SIGV4_H
#define PROTO_SIGV4_SIGV4_H

#include "proto/base/arena.h"
#include "proto/base/buffer.h"
#include "proto/base/status.h"
#include "proto/sigv4/hash.h"
#include "proto/sigv4/moment.h"

#define SIGV4_ALGORITHM            "AWS4-HMAC-SHA256"
#define SIGV4_HEX_LENGTH           64
#define SIGV4_KEY_ID_LENGTH_MAX    128
#define SIGV4_EXPIRES_S_MAX        604800u /* of a presigned request: seven days */
#define SIGV4_QUERY_PARAMETERS_MAX 2048
#define SIGV4_UNSIGNED_PAYLOAD     "UNSIGNED-PAYLOAD"

struct sigv4_header {
    struct slice name; /* any case */
    struct slice value;
};

/* A request as it is on the wire. All borrowed. */
struct sigv4_request {
    struct slice method;
    struct slice path;  /* percent-encoded, before '?' */
    struct slice query; /* percent-encoded, behind it */
    const struct sigv4_header *headers;
    size_t header_count;
};

/* One query parameter in canonical form: decoded and encoded again. */
struct sigv4_parameter {
    struct slice name;
    struct slice value;
};

/* What a request says of its signature; borrowed from the request or in the arena. */
struct sigv4_claim {
    bool presigned;             /* in the query, not in the Authorization header */
    struct slice access_key_id; /* 1..128 of A-Z a-z 0-9 - _ . */
    struct slice date;          /* of the credential scope: 8 digits, the day of `time` */
    struct slice region;
    struct slice service;
    struct slice time; /* "20260131T235959Z" */
    uint64_t time_s;
    uint32_t expires_s; /* presigned: 1..604800 */
    struct slice signed_headers;
    struct slice signature;                   /* 64 characters of lower-case hex */
    struct slice content_sha256;              /* header x-amz-content-sha256; absent if none */
    struct slice session_token;               /* absent if none */
    const struct sigv4_parameter *parameters; /* sorted, without X-Amz-Signature */
    size_t parameter_count;
};

enum sigv4_reading {
    SIGV4_SIGNED,
    SIGV4_UNSIGNED,  /* says nothing of a signature */
    SIGV4_INCOMPLETE /* says something that is not one; *why is a sentence in static storage */
};

/* sigv4_read: `out` lives as long as the request and the arena. Checks the form of everything, and
 * no secret. */
enum sigv4_reading sigv4_read(const struct sigv4_request *request, struct arena *arena,
                              struct sigv4_claim *out, const char **why);

/* sigv4_canonical: append the canonical request. `payload_hash`: 64 hex digits, or what the claim
 * says instead of them. NULL, or a sentence: what must be signed is not, or a signed header is
 * missing; then `out` is as it was. */
const char *sigv4_canonical(struct buffer *out, const struct sigv4_request *request,
                            const struct sigv4_claim *claim, struct slice payload_hash);

/* The key that signs for one day, region and service. As secret as what it was made from. */
struct sigv4_key {
    struct hash_key key;
};
void sigv4_key_init(struct sigv4_key *key, struct slice secret, struct slice date,
                    struct slice region, struct slice service);

/* sigv4_signature: of a canonical request under the claim's time and scope. */
void sigv4_signature(const struct sigv4_key *key, const struct sigv4_claim *claim,
                     struct slice canonical, char out[SIGV4_HEX_LENGTH]);

/* ---- signing ---- */

struct sigv4_signer {
    struct slice access_key_id;
    struct slice secret;
    struct slice region;
    struct slice service;
    uint64_t now_s;
};

/* sigv4_sign: the value of the Authorization header, in the arena. The request's headers must have
 * Host and X-Amz-Date (moment_format of now_s), and only what shall be signed. `body` is hashed. */
const char *sigv4_sign(const struct sigv4_request *request, const struct sigv4_signer *signer,
                       struct slice body, struct arena *arena);

/* sigv4_presign: a query string, in the arena, that makes the request good for `expires_s`
 * seconds; only `host` is signed of the headers, and an empty body. `request->query` comes first.
 */
const char *sigv4_presign(const struct sigv4_request *request, const struct sigv4_signer *signer,
                          uint32_t expires_s, struct arena *arena);

#endif
