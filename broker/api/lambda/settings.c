/* SPDX-License-Identifier: Apache-2.0 */
/* What a function may be told, and its limits.
 *
 * Members fall in three groups. Those that Millrace acts on are fields of struct function_config.
 * Those that only matter to AWS's own surroundings (VpcConfig, KMSKeyArn, ...) are stored and
 * echoed
 * ("extras"), because tools compare what they set with what they get. Those that change how a
 * function runs, and that this version cannot do (Layers, DeadLetterConfig, ...), are refused by
 * name: accepting them would be a promise that nobody keeps. Empty ones say nothing and pass.
 *
 * Texts of errors are AWS's, as recorded by test suites of others (docs/lambda.md). */
#include "broker/api/lambda/settings.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

#include <ctype.h>

#define ENVIRONMENT_BYTES_MAX 4096
#define RECORD_BYTES_MAX      (64u << 10)
#define ROLE_PATTERN          "arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+"

/* The runtimes that Millrace's workers run. A new one: here, and a launcher in worker/. */
static const char *const runtimes[] = {"python3.11", "nodejs20.x", "provided.al2023"};

static const char *const architectures[] = {"x86_64", "arm64"};

static const char *const reserved_variables[] = {
    "AWS_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
};

static const struct {
    const char *key;
    json_type type;
} echoed[] = {
    {"KMSKeyArn", JSON_STRING},     {"LoggingConfig", JSON_OBJECT}, {"SnapStart", JSON_OBJECT},
    {"TracingConfig", JSON_OBJECT}, {"VpcConfig", JSON_OBJECT},
};

static const char *const unsupported[] = {
    "CapacityProviderConfig", "CodeSigningConfigArn", "DeadLetterConfig", "DurableConfig",
    "FileSystemConfigs",      "ImageConfig",          "Layers",           "Publish",
    "TenancyConfig",
};

/* ---- small checks ---- */

static bool is_one_of(struct slice text, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_is(text, list[i])) {
            return true;
        }
    }
    return false;
}

static const char *joined(struct arena *arena, const char *const *list, size_t count)
{
    const char *text = list[0];
    for (size_t i = 1; i < count; i++) {
        text = arena_printf(arena, "%s, %s", text, list[i]);
    }
    return text;
}

static size_t characters(struct slice text)
{
    size_t count = 0;
    for (size_t at = 0; at < text.length; count++) {
        utf8_next(text, &at);
    }
    return count;
}

static void check_length(struct input *in, const char *member, struct slice text, size_t max)
{
    if (characters(text) > max) {
        input_violation(in,
                        "Value '%.*s' at '%s' failed to satisfy constraint: Member must have "
                        "length less than or equal to %zu",
                        SHOWN(text), member, max);
    }
}

static bool says_nothing(const json_t *value)
{
    if (value == NULL || json_is_null(value) || json_is_false(value)) {
        return true;
    }
    if (json_is_string(value)) {
        return json_string_length(value) == 0;
    }
    if (json_is_array(value)) {
        return json_array_size(value) == 0;
    }
    if (!json_is_object(value)) {
        return false;
    }
    void *at = json_object_iter((json_t *)(uintptr_t)value);
    for (; at != NULL; at = json_object_iter_next((json_t *)(uintptr_t)value, at)) {
        const json_t *inner = json_object_iter_value(at);
        if (json_is_object(inner) || !says_nothing(inner)) { /* one level: {"TargetArn":""} */
            return false;
        }
    }
    return true;
}

bool settings_refuse_unsupported(struct input *in, const json_t *object)
{
    const json_t *members = object != NULL ? object : in->root;
    for (size_t i = 0; i < ARRAY_COUNT(unsupported); i++) {
        if (!says_nothing(json_object_get(members, unsupported[i]))) {
            return failure_set(in->failure, in->arena, LAMBDA_PARAMETER,
                               "%s is not supported by this version of Millrace.", unsupported[i]);
        }
    }
    return true;
}

/* ---- one member each ---- */

static void read_runtime(struct input *in, struct function_config *config)
{
    if (input_text(in, NULL, "Runtime", &config->runtime) &&
        !is_one_of(config->runtime, runtimes, ARRAY_COUNT(runtimes))) {
        failure_set(in->failure, in->arena, LAMBDA_PARAMETER,
                    "Value %.*s at 'runtime' failed to satisfy constraint: Member must satisfy "
                    "enum value set: [%s] or be a valid ARN",
                    SHOWN(config->runtime), joined(in->arena, runtimes, ARRAY_COUNT(runtimes)));
    }
}

static void read_handler(struct input *in, struct function_config *config)
{
    if (!input_text(in, NULL, "Handler", &config->handler)) {
        return;
    }
    check_length(in, "handler", config->handler, 128);
    for (size_t i = 0; i < config->handler.length; i++) {
        if (config->handler.data[i] <= ' ' || config->handler.data[i] == 0x7f) {
            input_violation(in,
                            "Value '%.*s' at 'handler' failed to satisfy constraint: Member must "
                            "satisfy regular expression pattern: [^\\s]+",
                            SHOWN(config->handler));
            return;
        }
    }
}

/* The pattern of ROLE_PATTERN, by hand. */
static bool is_role(struct slice text)
{
    if (!slice_starts_with(text, "arn:")) {
        return false;
    }
    struct slice rest = slice_sub(text, 4);
    ptrdiff_t colon = slice_find(rest, ':');
    if (colon < 0 || (colon > 0 && !slice_starts_with(rest, "aws"))) {
        return false;
    }
    rest = slice_sub(rest, (size_t)colon);
    if (!slice_starts_with(rest, ":iam::") || rest.length < 24) {
        return false;
    }
    for (size_t i = 6; i < 18; i++) {
        if (!isdigit(rest.data[i])) {
            return false;
        }
    }
    rest = slice_sub(rest, 18);
    if (!slice_starts_with(rest, ":role") || rest.length < 6 ||
        (rest.length == 6 && rest.data[5] == '/')) {
        return false;
    }
    for (size_t i = 5; i < rest.length; i++) {
        int c = rest.data[i];
        if (c >= 0x80 || (!isalnum(c) && strchr("_+=,.@-/", c) == NULL)) {
            return false;
        }
    }
    return true;
}

static void read_role(struct input *in, bool creating, struct function_config *config)
{
    if (!input_text(in, NULL, "Role", &config->role)) {
        if (creating) {
            input_required(in, "role");
        }
        return;
    }
    check_length(in, "role", config->role, 2048);
    if (!is_role(config->role)) {
        input_violation(in,
                        "Value '%.*s' at 'role' failed to satisfy constraint: Member must satisfy "
                        "regular expression pattern: " ROLE_PATTERN,
                        SHOWN(config->role));
    }
}

static void read_number(struct input *in, const json_t *object, const char *key, const char *member,
                        uint32_t min, uint32_t max, uint32_t *out)
{
    int64_t value;
    if (input_integer(in, object, key, &value)) {
        input_between(in, member, value, min, max);
        *out = (uint32_t)value;
    }
}

static void read_numbers(struct input *in, struct function_config *config)
{
    read_number(in, NULL, "Timeout", "timeout", 1, 900, &config->timeout_s);
    read_number(in, NULL, "MemorySize", "memorySize", 128, 10240, &config->memory_mb);
    json_t *storage;
    if (input_object(in, NULL, "EphemeralStorage", &storage)) {
        if (says_nothing(json_object_get(storage, "Size"))) {
            input_required(in, "ephemeralStorage.size");
        }
        read_number(in, storage, "Size", "ephemeralStorage.size", 512, 10240,
                    &config->ephemeral_mb);
    }
}

void settings_architectures(struct input *in, struct function_config *config)
{
    json_t *list;
    if (!input_list(in, NULL, "Architectures", &list) || json_array_size(list) == 0) {
        return;
    }
    if (json_array_size(list) > 1) {
        input_violation(in, "Value at 'architectures' failed to satisfy constraint: Member must "
                            "have length less than or equal to 1");
        return;
    }
    const json_t *first = json_array_get(list, 0);
    struct slice text = slice_make(json_string_value(first), json_string_length(first));
    if (!is_one_of(text, architectures, ARRAY_COUNT(architectures))) {
        input_violation(in,
                        "Value '[%.*s]' at 'architectures' failed to satisfy constraint: Member "
                        "must satisfy constraint: [Member must satisfy enum value set: [%s], "
                        "Member must not be null]",
                        SHOWN(text), joined(in->arena, architectures, ARRAY_COUNT(architectures)));
        return;
    }
    config->architecture = text;
}

/* ---- environment variables ---- */

/* [a-zA-Z]([a-zA-Z0-9_])+ */
static bool is_variable_name(struct slice name)
{
    if (name.length < 2 || name.data[0] >= 0x80 || !isalpha(name.data[0])) {
        return false;
    }
    for (size_t i = 1; i < name.length; i++) {
        if (name.data[i] >= 0x80 || (!isalnum(name.data[i]) && name.data[i] != '_')) {
            return false;
        }
    }
    return true;
}

static bool check_environment(struct input *in, const json_t *variables,
                              const struct config_pair *pairs, uint32_t count)
{
    const char *reserved = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_variable_name(pairs[i].key)) {
            input_violation(in,
                            "Value at 'environment.variables' failed to satisfy constraint: Map "
                            "keys must satisfy constraint: [Member must satisfy regular expression "
                            "pattern: [a-zA-Z]([a-zA-Z0-9_])+]");
            return false;
        }
        if (is_one_of(pairs[i].key, reserved_variables, ARRAY_COUNT(reserved_variables))) {
            const char *name = arena_text(in->arena, pairs[i].key);
            reserved = reserved != NULL ? arena_printf(in->arena, "%s, %s", reserved, name) : name;
        }
    }
    if (reserved != NULL) {
        return failure_set(in->failure, in->arena, LAMBDA_PARAMETER,
                           "Lambda was unable to configure your environment variables because the "
                           "environment variables you have provided contains reserved keys that "
                           "are currently not supported for modification. Reserved keys used in "
                           "this request: %s",
                           reserved);
    }
    char *measured = json_dumps(variables, JSON_COMPACT);
    ASSERT(measured != NULL);
    if (strlen(measured) > ENVIRONMENT_BYTES_MAX) {
        failure_set(in->failure, in->arena, LAMBDA_PARAMETER,
                    "Lambda was unable to configure your environment variables because the "
                    "environment variables you have provided exceeded the 4KB limit. String "
                    "measured: %.*s",
                    SHOWN(slice_of(measured)));
    }
    free(measured);
    return in->failure->error == LAMBDA_OK;
}

/* A map of texts as pairs; false (with the failure set) if a value is no text. */
static bool read_pairs(struct input *in, const char *member, json_t *map, struct config_pair **out,
                       uint32_t *count)
{
    *out = arena_alloc(in->arena, (json_object_size(map) + 1) * sizeof **out);
    *count = 0;
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        if (!json_is_string(value)) {
            return failure_set(in->failure, in->arena, LAMBDA_SERIALIZATION,
                               "The values of %s must be strings", member);
        }
        (*out)[(*count)++] = (struct config_pair){
            .key = slice_of(key),
            .value = slice_make(json_string_value(value), json_string_length(value)),
        };
    }
    return true;
}

static void read_environment(struct input *in, struct function_config *config)
{
    json_t *environment;
    json_t *variables;
    if (!input_object(in, NULL, "Environment", &environment)) {
        return;
    }
    config->environment_count = 0;
    if (input_object(in, environment, "Variables", &variables) &&
        read_pairs(in, "Environment.Variables", variables, &config->environment,
                   &config->environment_count)) {
        check_environment(in, variables, config->environment, config->environment_count);
    }
}

/* ---- tags ---- */

static void put_tag(struct function_config *config, struct config_pair tag)
{
    for (uint32_t i = 0; i < config->tag_count; i++) {
        if (slice_equal(config->tags[i].key, tag.key)) {
            config->tags[i].value = tag.value;
            return;
        }
    }
    config->tags[config->tag_count++] = tag;
}

void settings_tags(struct input *in, struct function_config *config)
{
    json_t *map;
    struct config_pair *pairs;
    uint32_t count;
    if (!input_object(in, NULL, "Tags", &map) || !read_pairs(in, "Tags", map, &pairs, &count)) {
        return;
    }
    struct config_pair *all = arena_alloc(in->arena, (config->tag_count + count + 1) * sizeof *all);
    for (uint32_t i = 0; i < config->tag_count; i++) {
        all[i] = config->tags[i];
    }
    config->tags = all;
    for (uint32_t i = 0; i < count; i++) {
        bool reserved = slice_starts_with(pairs[i].key, "aws:");
        if (pairs[i].key.length == 0 || reserved || characters(pairs[i].key) > 128 ||
            characters(pairs[i].value) > 256) {
            failure_set(in->failure, in->arena, LAMBDA_PARAMETER,
                        "The tag '%.*s' is not valid: keys have 1 to 128 characters and do not "
                        "begin with aws:, values have up to 256.",
                        SHOWN(pairs[i].key));
            return;
        }
        put_tag(config, pairs[i]);
    }
    if (config->tag_count > TAGS_MAX) {
        failure_set(in->failure, in->arena, LAMBDA_PARAMETER,
                    "Number of tags exceeds resource tag limit.");
    }
}

/* ---- what is only echoed ---- */

static void read_extras(struct input *in, struct function_config *config)
{
    json_t *extras = config->extras.length > 0 ? json_loadb((const char *)config->extras.data,
                                                            config->extras.length, 0, NULL)
                                               : json_object();
    ASSERT(json_is_object(extras));
    for (size_t i = 0; i < ARRAY_COUNT(echoed); i++) {
        json_t *value = json_object_get(in->root, echoed[i].key);
        if (value == NULL || json_is_null(value)) {
            continue;
        }
        if (json_typeof(value) != echoed[i].type) {
            failure_set(in->failure, in->arena, LAMBDA_SERIALIZATION,
                        "The member %s has the wrong type", echoed[i].key);
            break;
        }
        json_object_set(extras, echoed[i].key, value);
    }
    char *text = json_dumps(extras, JSON_COMPACT);
    ASSERT(text != NULL);
    config->extras = arena_copy(in->arena, slice_of(text));
    free(text);
    json_decref(extras);
}

/* ---- all together ---- */

static void read_package_type(struct input *in)
{
    struct slice type;
    if (input_text(in, NULL, "PackageType", &type) && !slice_is(type, "Zip")) {
        failure_set(in->failure, in->arena, LAMBDA_PARAMETER,
                    "PackageType '%.*s' is not supported by this version of Millrace: it must be "
                    "Zip.",
                    SHOWN(type));
    }
}

bool settings_small_enough(struct input *in, const struct function_config *config)
{
    struct buffer record = {0};
    function_config_encode(&record, config);
    size_t length = record.length;
    buffer_free(&record);
    return length <= RECORD_BYTES_MAX ||
           failure_set(in->failure, in->arena, LAMBDA_PARAMETER,
                       "The function's settings must be smaller than %u bytes in all.",
                       RECORD_BYTES_MAX);
}

void settings_default(struct function_config *config)
{
    *config = (struct function_config){
        .timeout_s = 3,
        .memory_mb = 128,
        .ephemeral_mb = 512,
        .architecture = SLICE_LITERAL("x86_64"),
    };
}

bool settings_read(struct input *in, bool creating, struct function_config *config)
{
    read_package_type(in);
    read_role(in, creating, config);
    read_handler(in, config);
    read_numbers(in, config);
    if (input_text(in, NULL, "Description", &config->description)) {
        check_length(in, "description", config->description, 256);
    }
    read_environment(in, config);
    read_extras(in, config);
    if (creating) {
        settings_architectures(in, config);
        settings_tags(in, config);
    }
    if (!input_finish(in)) {
        return false;
    }
    read_runtime(in, config);
    if (in->failure->error == LAMBDA_OK &&
        (config->runtime.length == 0 || config->handler.length == 0)) {
        failure_set(in->failure, in->arena, LAMBDA_PARAMETER,
                    "Runtime and Handler are mandatory parameters for functions created with "
                    "deployment packages.");
    }
    return in->failure->error == LAMBDA_OK && settings_refuse_unsupported(in, NULL) &&
           settings_small_enough(in, config);
}
