/* SPDX-License-Identifier: Apache-2.0 */
/* Both wire codecs of SQS: requests into the structs of shapes.h, results and errors out of them.
 * Any bytes are read safely; what is decoded is well-formed UTF-8 and lives in the arena.
 * thread: any. */
#ifndef PROTO_SQS_CODEC_H
#define PROTO_SQS_CODEC_H

#include "proto/base/buffer.h"
#include "proto/base/status.h"
#include "proto/sqs/errors.h"

#define SQS_BODY_BYTES_MAX  (8u << 20) /* a 1 MiB message may be written with 6 bytes for each */
#define SQS_JSON_TOKENS_MAX 20000      /* values in one request */
#define SQS_FORM_PAIRS_MAX  5000

/* sqs_json_decode: fill `out`, a zeroed struct of `shape`. An empty body stands for {}. Members
 * that the shape lacks are skipped; null is as good as absent. errors: SERIALIZATION, with the
 * sentence; `out` is then half filled and to be dropped */
MUST_CHECK bool sqs_json_decode(struct slice body, enum sqs_shape shape, struct arena *arena,
                                void *out, struct sqs_error *error);

/* The name=value pairs of a form or query string, percent-decoded, sorted by name. */
struct sqs_form {
    struct sqs_pair *pairs;
    size_t count;
};

/* sqs_form_parse: read `query` and then `body`; of equal names the first counts. error:
 * MALFORMED_QUERY. */
MUST_CHECK bool sqs_form_parse(struct slice query, struct slice body, struct arena *arena,
                               struct sqs_form *out, struct sqs_error *error);

/* sqs_form_get: the value of `name`; absent if there is none. */
struct slice sqs_form_get(const struct sqs_form *form, const char *name);

/* sqs_form_decode: as sqs_json_decode. errors: INVALID_PARAMETER */
MUST_CHECK bool sqs_form_decode(const struct sqs_form *form, enum sqs_shape shape,
                                struct arena *arena, void *out, struct sqs_error *error);

/* sqs_result_encode: append the answer of `action`; `result` is a struct of its result shape, or
 * NULL when it has none. `request_id` is repeated in XML. */
void sqs_result_encode(struct buffer *out, enum sqs_protocol protocol, enum sqs_action action,
                       const void *result, const char *request_id);

/* sqs_error_encode: append the body of an error answer. */
void sqs_error_encode(struct buffer *out, enum sqs_protocol protocol, const struct sqs_error *error,
                      const char *request_id);

/* The two writers of a struct, for the functions above and the tests. */
void sqs_json_write(struct buffer *out, enum sqs_shape shape, const void *object);
void sqs_xml_write(struct buffer *out, enum sqs_shape shape, const void *object);

/* sqs_json_write_text: a JSON string with its quotes. `text` is UTF-8. */
void sqs_json_write_text(struct buffer *out, struct slice text);
/* sqs_xml_write_text: escaped character data. What XML cannot carry becomes U+FFFD. */
void sqs_xml_write_text(struct buffer *out, struct slice text);

#endif
