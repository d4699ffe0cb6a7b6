/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog's JSON about functions and event source mappings.
 *
 * A record is one flat JSON object. Keys that a table below names are fields of the struct; every
 * other key goes into `extras` as it stands and comes out of it again when the record is written.
 * So what is only stored and echoed (VpcConfig, KMSKeyArn, ...) and what a later version wrote are
 * one and the same case, and neither is lost when this version rewrites a record.
 *
 *     function   Runtime Handler Role Description Timeout MemorySize EphemeralStorage
 *                Environment{} Tags{} Architecture LastModified RevisionId    + extras
 *     mapping    Enabled BatchSize MaximumBatchingWindowInSeconds MaximumConcurrency
 *                ReportBatchItemFailures LastModifiedMs                       + extras
 *
 * A missing key has its default, so that fields can be added. A key of the wrong type or a number
 * that no release has ever written makes the record INVALID: the Lambda API validates what it
 * writes, so such a record is not ours, and guessing would run a function with the wrong settings.
 *
 * Invariants: (I1) decode(encode(x)) gives x, with the keys of extras kept, in order.
 * (I2) texts that come out are valid UTF-8 without NUL bytes. */
#include "broker/dispatch/function_config.h"

#include "proto/base/assert.h"

#include <jansson.h>

struct text_field {
    const char *key;
    size_t offset; /* of a struct slice */
};
struct number_field {
    const char *key;
    size_t offset; /* of a uint32_t */
    uint32_t min, max, otherwise;
};

#define TEXT(name, member)                                                                         \
    {                                                                                              \
        name, offsetof(struct function_config, member)                                             \
    }
#define NUMBER(name, type, member, min, max, otherwise)                                            \
    {                                                                                              \
        name, offsetof(struct type, member), min, max, otherwise                                   \
    }

static const struct text_field function_texts[] = {
    TEXT("Runtime", runtime),
    TEXT("Handler", handler),
    TEXT("Role", role),
    TEXT("Description", description),
    TEXT("Architecture", architecture),
    TEXT("LastModified", last_modified),
    TEXT("RevisionId", revision_id),
};
static const struct number_field function_numbers[] = {
    NUMBER("Timeout", function_config, timeout_s, 1, 900, 3),
    NUMBER("MemorySize", function_config, memory_mb, 128, 10240, 128),
    NUMBER("EphemeralStorage", function_config, ephemeral_mb, 512, 10240, 512),
};
static const struct number_field mapping_numbers[] = {
    NUMBER("BatchSize", mapping_config, batch_size, 1, 10000, 10),
    NUMBER("MaximumBatchingWindowInSeconds", mapping_config, batching_window_s, 0, 300, 0),
    NUMBER("MaximumConcurrency", mapping_config, concurrency_max, 0, 1000, 0),
};

/* ---- writing ---- */

static void set_new(json_t *object, const char *key, json_t *value)
{
    int failed = json_object_set_new(object, key, value); /* also for a NULL value: not UTF-8 */
    ASSERT(failed == 0);
}

static json_t *text_json(struct slice text)
{
    return json_stringn(text.data != NULL ? (const char *)text.data : "", text.length);
}

static json_t *pairs_json(const struct config_pair *pairs, uint32_t count)
{
    json_t *object = json_object();
    for (uint32_t i = 0; i < count; i++) {
        int failed = json_object_setn_new(object, (const char *)pairs[i].key.data,
                                          pairs[i].key.length, text_json(pairs[i].value));
        ASSERT(failed == 0);
    }
    return object;
}

static void put_numbers(json_t *root, const void *config, const struct number_field *fields,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t value;
        memcpy(&value, (const char *)config + fields[i].offset, sizeof value);
        set_new(root, fields[i].key, json_integer(value));
    }
}

/* Spread the keys of `extras` into the record; a key that is a field already stays the field. */
static void put_extras(json_t *root, struct slice extras)
{
    if (extras.length == 0) {
        return;
    }
    json_t *object = json_loadb((const char *)extras.data, extras.length, 0, NULL);
    ASSERT(json_is_object(object));
    json_object_update_missing(root, object);
    json_decref(object);
}

static int add_to_buffer(const char *text, size_t length, void *data)
{
    buffer_add(data, text, length);
    return 0;
}

static void write_out(struct buffer *out, json_t *root)
{
    int failed = json_dump_callback(root, add_to_buffer, out, JSON_COMPACT);
    ASSERT(failed == 0);
    json_decref(root);
}

void function_config_encode(struct buffer *out, const struct function_config *config)
{
    json_t *root = json_object();
    for (size_t i = 0; i < ARRAY_COUNT(function_texts); i++) {
        struct slice text;
        memcpy(&text, (const char *)config + function_texts[i].offset, sizeof text);
        set_new(root, function_texts[i].key, text_json(text));
    }
    put_numbers(root, config, function_numbers, ARRAY_COUNT(function_numbers));
    set_new(root, "Environment", pairs_json(config->environment, config->environment_count));
    set_new(root, "Tags", pairs_json(config->tags, config->tag_count));
    put_extras(root, config->extras);
    write_out(out, root);
}

void mapping_config_encode(struct buffer *out, const struct mapping_config *config)
{
    json_t *root = json_object();
    put_numbers(root, config, mapping_numbers, ARRAY_COUNT(mapping_numbers));
    set_new(root, "Enabled", json_boolean(config->enabled));
    set_new(root, "ReportBatchItemFailures", json_boolean(config->report_item_failures));
    set_new(root, "LastModifiedMs", json_integer((json_int_t)config->last_modified_ms));
    put_extras(root, config->extras);
    write_out(out, root);
}

/* ---- reading ----
 * Each take_... removes its key from the record, so that what is left at the end is the extras. */

static json_t *load_object(struct slice json)
{
    json_t *root = json_loadb(json.data != NULL ? (const char *)json.data : "", json.length,
                              JSON_REJECT_DUPLICATES, NULL);
    if (root != NULL && !json_is_object(root)) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static struct slice copy_text(const json_t *text, struct arena *arena)
{
    return arena_copy(arena, slice_make(json_string_value(text), json_string_length(text)));
}

static bool take_text(json_t *root, const char *key, struct arena *arena, struct slice *out)
{
    const json_t *value = json_object_get(root, key);
    if (value == NULL) {
        *out = SLICE_LITERAL("");
        return true;
    }
    if (!json_is_string(value)) {
        return false;
    }
    *out = copy_text(value, arena);
    json_object_del(root, key);
    return true;
}

static bool take_integer(json_t *root, const char *key, json_int_t max, json_int_t *number)
{
    const json_t *value = json_object_get(root, key);
    if (value == NULL) {
        return true;
    }
    *number = json_integer_value(value);
    bool good = json_is_integer(value) && *number >= 0 && *number <= max;
    json_object_del(root, key);
    return good;
}

static bool take_bool(json_t *root, const char *key, bool *out)
{
    const json_t *value = json_object_get(root, key);
    if (value == NULL) {
        return true;
    }
    *out = json_is_true(value);
    bool good = json_is_boolean(value);
    json_object_del(root, key);
    return good;
}

static bool take_numbers(json_t *root, void *config, const struct number_field *fields,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_int_t number = fields[i].otherwise;
        if (!take_integer(root, fields[i].key, fields[i].max, &number) || number < fields[i].min) {
            return false;
        }
        uint32_t value = (uint32_t)number;
        memcpy((char *)config + fields[i].offset, &value, sizeof value);
    }
    return true;
}

static bool take_pairs(json_t *root, const char *key, struct arena *arena,
                       struct config_pair **pairs, uint32_t *count)
{
    json_t *object = json_object_get(root, key);
    *pairs = NULL;
    *count = 0;
    if (object == NULL) {
        return true;
    }
    if (!json_is_object(object)) {
        return false;
    }
    *pairs = arena_alloc(arena, (json_object_size(object) + 1) * sizeof **pairs);
    const char *name;
    const json_t *value;
    json_object_foreach(object, name, value)
    {
        if (!json_is_string(value)) {
            return false;
        }
        (*pairs)[(*count)++] = (struct config_pair){
            .key = arena_copy(arena, slice_of(name)),
            .value = copy_text(value, arena),
        };
    }
    json_object_del(root, key);
    return true;
}

static struct slice take_rest(const json_t *root, struct arena *arena)
{
    struct buffer text = {0};
    int failed = json_dump_callback(root, add_to_buffer, &text, JSON_COMPACT);
    ASSERT(failed == 0);
    struct slice rest = arena_copy(arena, buffer_slice(&text));
    buffer_free(&text);
    return rest;
}

static bool take_function(json_t *root, struct arena *arena, struct function_config *out)
{
    for (size_t i = 0; i < ARRAY_COUNT(function_texts); i++) {
        struct slice text;
        if (!take_text(root, function_texts[i].key, arena, &text)) {
            return false;
        }
        memcpy((char *)out + function_texts[i].offset, &text, sizeof text);
    }
    return take_numbers(root, out, function_numbers, ARRAY_COUNT(function_numbers)) &&
           take_pairs(root, "Environment", arena, &out->environment, &out->environment_count) &&
           take_pairs(root, "Tags", arena, &out->tags, &out->tag_count);
}

enum status function_config_decode(struct slice json, struct arena *arena,
                                   struct function_config *out)
{
    *out = (struct function_config){0};
    json_t *root = load_object(json);
    bool good = root != NULL && take_function(root, arena, out);
    if (good) {
        if (out->architecture.length == 0) {
            out->architecture = SLICE_LITERAL("x86_64");
        }
        out->extras = take_rest(root, arena);
    }
    json_decref(root);
    return good ? STATUS_OK : STATUS_INVALID;
}

enum status mapping_config_decode(struct slice json, struct arena *arena,
                                  struct mapping_config *out)
{
    *out = (struct mapping_config){.enabled = true};
    json_t *root = load_object(json);
    json_int_t modified = 0;
    bool good = root != NULL &&
                take_numbers(root, out, mapping_numbers, ARRAY_COUNT(mapping_numbers)) &&
                take_bool(root, "Enabled", &out->enabled) &&
                take_bool(root, "ReportBatchItemFailures", &out->report_item_failures) &&
                take_integer(root, "LastModifiedMs", INT64_MAX, &modified);
    if (good) {
        out->last_modified_ms = (uint64_t)modified;
        out->extras = take_rest(root, arena);
    }
    json_decref(root);
    return good ? STATUS_OK : STATUS_INVALID;
}
