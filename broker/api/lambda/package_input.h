/* SPDX-License-Identifier: Apache-2.0 */
/* The code that comes with a request: base64 of a zip, decoded, checked and hashed. Slow for large
 * ones: thread: pool. */
#ifndef BROKER_API_LAMBDA_PACKAGE_INPUT_H
#define BROKER_API_LAMBDA_PACKAGE_INPUT_H

#include "broker/api/lambda/input.h"
#include "proto/base/encode.h"

struct package_input {
    struct buffer zip; /* owned: package_input_free */
    uint8_t sha256[SHA256_BYTES];
};

/* package_input_read: from the members of `object` (Code of CreateFunction, or the whole body of
 * UpdateFunctionCode). The text is dropped from the input once it is decoded. On false the failure
 * is set. */
bool package_input_read(struct input *in, json_t *object, struct package_input *out);
void package_input_free(struct package_input *package);

#endif
