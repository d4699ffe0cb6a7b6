/* SPDX-License-Identifier: Apache-2.0 */
/* Lambda is a REST API: the action is in the method and the path, names are parts of the path.
 *
 * The table is short and is searched from the top; both sides are split at '/', before anything is
 * decoded, so that an escaped slash inside an ARN never splits it. One slash at the end makes no
 * difference: SDKs send "/functions/" and "/functions" for the same action. */
#include "broker/api/lambda/route.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

#include <ctype.h>

static const struct route routes[] = {
#define LAMBDA_ACTION(method, path, action, decode, run, bytes_max)                                \
    {method, path, #action, LAMBDA_ACTION_##action, bytes_max},
#define LAMBDA_MISSING(method, path, action) {method, path, #action, LAMBDA_ACTION_NONE, 1u << 20},
#include "broker/api/lambda/routes.def"
#undef LAMBDA_ACTION
#undef LAMBDA_MISSING
};

static struct slice first_part(struct slice *rest, char separator)
{
    ptrdiff_t at = slice_find(*rest, separator);
    if (at < 0) {
        struct slice part = *rest;
        *rest = (struct slice){0};
        return part;
    }
    struct slice part = slice_make(rest->data, (size_t)at);
    *rest = slice_sub(*rest, (size_t)at + 1);
    return part;
}

static bool path_matches(const char *template, struct slice path,
                         struct slice labels[ROUTE_LABELS_MAX])
{
    struct slice wanted = slice_of(template);
    size_t count = 0;
    while (wanted.data != NULL && path.data != NULL) {
        struct slice want = first_part(&wanted, '/');
        struct slice part = first_part(&path, '/');
        if (slice_is(want, "{}") && part.length > 0) {
            ASSERT(count < ROUTE_LABELS_MAX);
            labels[count++] = part;
        } else if (!slice_equal(want, part)) {
            return false;
        }
    }
    return wanted.data == NULL && path.data == NULL;
}

static enum status decode_labels(struct slice labels[ROUTE_LABELS_MAX], struct arena *arena)
{
    for (size_t i = 0; i < ROUTE_LABELS_MAX && labels[i].data != NULL; i++) {
        struct buffer text = {0};
        enum status status = decode_percent(&text, labels[i], false);
        labels[i] = arena_copy(arena, buffer_slice(&text));
        buffer_free(&text);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status route_find(struct slice method, struct slice path, struct arena *arena,
                       const struct route **out, struct slice labels[ROUTE_LABELS_MAX])
{
    if (path.length > 1 && path.data[path.length - 1] == '/') {
        path.length--;
    }
    *out = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(routes); i++) {
        memset(labels, 0, ROUTE_LABELS_MAX * sizeof *labels);
        if (!path_matches(routes[i].path, path, labels)) {
            continue;
        }
        *out = &routes[i];
        if (slice_is(method, routes[i].method)) {
            return decode_labels(labels, arena);
        }
    }
    return *out != NULL ? STATUS_UNSUPPORTED : STATUS_NOT_FOUND;
}

bool route_is_lambda(struct slice path)
{
    static const char form[] = "/dddd-dd-dd/";
    if (path.length < sizeof form - 1) {
        return false;
    }
    for (size_t i = 0; i < sizeof form - 1; i++) {
        uint8_t byte = path.data[i];
        if (form[i] == 'd' ? byte < '0' || byte > '9' : byte != (uint8_t)form[i]) {
            return false;
        }
    }
    return true;
}

static bool decode_form(struct slice in, struct arena *arena, struct slice *out)
{
    struct buffer text = {0};
    enum status status = decode_percent(&text, in, true);
    *out = arena_copy(arena, buffer_slice(&text));
    buffer_free(&text);
    return status == STATUS_OK;
}

bool query_next(struct slice *query, struct arena *arena, struct slice *name, struct slice *value)
{
    while (query->length > 0) {
        struct slice part = first_part(query, '&');
        struct slice raw_name = first_part(&part, '=');
        if (decode_form(raw_name, arena, name) && decode_form(part, arena, value)) {
            return true;
        }
    }
    return false;
}

struct slice query_get(struct slice query, struct arena *arena, const char *name)
{
    struct slice found;
    struct slice value;
    while (query_next(&query, arena, &found, &value)) {
        if (slice_is(found, name)) {
            return value;
        }
    }
    return (struct slice){0};
}
