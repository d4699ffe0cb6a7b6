/* SPDX-License-Identifier: Apache-2.0 */
/* Code is taken as a zip in the request itself. S3 and container images are other doors that AWS
 * has; they are refused by name. The whole zip is read once here, before anything is stored, so
 * that what the catalog holds can be unpacked by every worker. */
#include "broker/api/lambda/package_input.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"
#include "proto/package/package.h"

static bool refuse(struct input *in, const char *text)
{
    return failure_set(in->failure, in->arena, LAMBDA_PARAMETER, "%s", text);
}

static bool has(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value != NULL && !json_is_null(value);
}

static bool check_zip(struct input *in, const struct package_input *package)
{
    struct package_facts facts;
    const char *why = "";
    if (package->zip.length == 0) {
        return refuse(in, "Uploaded file must be a non-empty zip");
    }
    if (package->zip.length > PACKAGE_ZIPPED_BYTES_MAX) {
        return refuse(in, "Zipped size must be smaller than 52428800 bytes");
    }
    enum status status = package_check(buffer_slice(&package->zip), &facts, &why);
    if (status == STATUS_OK) {
        return true;
    }
    trace_info("lambda", "package_refused", "why=\"%s\"", why);
    if (status == STATUS_TOO_LARGE) {
        return refuse(in, "Unzipped size must be smaller than 262144000 bytes");
    }
    return refuse(in, "Could not unzip uploaded file. Please check your file, then try to upload "
                      "again.");
}

bool package_input_read(struct input *in, json_t *object, struct package_input *out)
{
    struct slice text;
    *out = (struct package_input){0};
    if (has(object, "ImageUri")) {
        return refuse(in, "Please don't provide ImageUri when updating a function with packageType "
                          "Zip.");
    }
    if (has(object, "S3Bucket") || has(object, "S3Key")) {
        return refuse(in, "Code from S3 is not supported by this version of Millrace: give the "
                          "package as ZipFile.");
    }
    if (!input_text(in, object, "ZipFile", &text)) {
        return in->failure->error == LAMBDA_OK
                   ? refuse(in, "Please provide a source for function code.")
                   : false;
    }
    enum status status = decode_base64(&out->zip, text);
    json_object_del(object, "ZipFile");
    if (status != STATUS_OK) {
        return failure_set(in->failure, in->arena, LAMBDA_SERIALIZATION,
                           "The member ZipFile is not base64");
    }
    digest_sha256(buffer_slice(&out->zip), out->sha256);
    return check_zip(in, out);
}

void package_input_free(struct package_input *package)
{
    buffer_free(&package->zip);
}
