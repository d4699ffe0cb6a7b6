/* SPDX-License-Identifier: Apache-2.0 */
/* AWS refuses a bad body at three stations, and clients see which by the error's code:
 *   1. the text is no JSON object             InvalidRequestContentException
 *   2. a member has the wrong type            SerializationException, the first one only
 *   3. members break limits of the model      ValidationException, all of them in one text:
 *      "2 validation errors detected: Value '...' at 'timeout' failed to satisfy constraint: ...;
 * ..." What depends on other things (does the queue exist) comes after and is not decided here. */
#include "broker/api/lambda/input.h"

#include "proto/base/assert.h"

bool input_open(struct input *in, struct slice body, struct arena *arena, struct failure *failure)
{
    *in = (struct input){.arena = arena, .failure = failure};
    if (body.length == 0) {
        in->root = json_object();
        return true;
    }
    json_error_t error;
    in->root = json_loadb((const char *)body.data, body.length, 0, &error);
    if (in->root == NULL) {
        return failure_set(failure, arena, LAMBDA_CONTENT,
                           "Could not parse request body into json: %s (line %d, column %d)",
                           error.text, error.line, error.column);
    }
    if (!json_is_object(in->root)) {
        return failure_set(failure, arena, LAMBDA_SERIALIZATION, "Unexpected field type");
    }
    return true;
}

void input_close(struct input *in)
{
    json_decref(in->root);
    buffer_free(&in->violations);
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return "STRING_VALUE";
    case JSON_INTEGER:
        return "NUMBER_VALUE";
    case JSON_REAL:
        return "DECIMAL_VALUE";
    case JSON_TRUE:
        return "TRUE_VALUE";
    case JSON_FALSE:
        return "FALSE_VALUE";
    case JSON_ARRAY:
        return "START_ARRAY";
    default:
        return "START_OBJECT";
    }
}

/* The member, if it has the type that `good` says; else NULL, with the failure set if it is there.
 */
static json_t *member(struct input *in, const json_t *object, const char *key, const char *type,
                      bool (*good)(const json_t *))
{
    json_t *value = json_object_get(object != NULL ? object : in->root, key);
    if (value == NULL || json_is_null(value) || in->failure->error != LAMBDA_OK) {
        return NULL;
    }
    if (!good(value)) {
        failure_set(in->failure, in->arena, LAMBDA_SERIALIZATION,
                    "%s can not be converted to %s at '%s'", type_name(value), type, key);
        return NULL;
    }
    return value;
}

static bool is_text(const json_t *value)
{
    return json_is_string(value);
}
static bool is_integer(const json_t *value)
{
    return json_is_integer(value);
}
static bool is_bool(const json_t *value)
{
    return json_is_boolean(value);
}
static bool is_object(const json_t *value)
{
    return json_is_object(value);
}
static bool is_list(const json_t *value)
{
    return json_is_array(value);
}

bool input_text(struct input *in, const json_t *object, const char *key, struct slice *out)
{
    const json_t *value = member(in, object, key, "a String", is_text);
    if (value == NULL) {
        return false;
    }
    *out = slice_make(json_string_value(value), json_string_length(value));
    return true;
}

bool input_integer(struct input *in, const json_t *object, const char *key, int64_t *out)
{
    const json_t *value = member(in, object, key, "an Integer", is_integer);
    if (value == NULL) {
        return false;
    }
    *out = json_integer_value(value);
    return true;
}

bool input_bool(struct input *in, const json_t *object, const char *key, bool *out)
{
    const json_t *value = member(in, object, key, "a Boolean", is_bool);
    if (value == NULL) {
        return false;
    }
    *out = json_is_true(value);
    return true;
}

bool input_object(struct input *in, const json_t *object, const char *key, json_t **out)
{
    *out = member(in, object, key, "an Object", is_object);
    return *out != NULL;
}

bool input_list(struct input *in, const json_t *object, const char *key, json_t **out)
{
    *out = member(in, object, key, "a List", is_list);
    return *out != NULL;
}

void input_violation(struct input *in, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char text[4 * SHOWN_BYTES_MAX];
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    buffer_add_text(&in->violations, in->violation_count > 0 ? "; " : "");
    buffer_add_text(&in->violations, text);
    in->violation_count++;
}

void input_required(struct input *in, const char *name)
{
    input_violation(in, "Value null at '%s' failed to satisfy constraint: Member must not be null",
                    name);
}

void input_between(struct input *in, const char *name, int64_t value, int64_t min, int64_t max)
{
    if (value < min || value > max) {
        input_violation(in,
                        "Value '%lld' at '%s' failed to satisfy constraint: Member must have value "
                        "%s than or equal to %lld",
                        (long long)value, name, value < min ? "greater" : "less",
                        (long long)(value < min ? min : max));
    }
}

bool input_finish(struct input *in)
{
    if (in->failure->error == LAMBDA_OK && in->violation_count > 0) {
        failure_set(in->failure, in->arena, LAMBDA_VALIDATION, "%u validation error%s detected: %s",
                    in->violation_count, in->violation_count > 1 ? "s" : "",
                    buffer_c_string(&in->violations));
    }
    return in->failure->error == LAMBDA_OK;
}
