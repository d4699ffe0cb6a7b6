/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of a function, built from nothing: the worker's own environment may hold secrets,
 * and even harmless parts of it cost (NODE_EXTRA_CA_CERTS makes every node start 50 ms slower).
 *
 * Three kinds, as in AWS Lambda: reserved ones, which a function's configuration cannot set;
 * defaults, which it can; and its own. The credentials are placeholders, because an SDK refuses to
 * work without any, and an endpoint that checks no signatures takes them; for one that does, the
 * function's configuration has a key of its own (AWS reserves these names, since there every
 * function has a role). There is no session token, because SDKs would send it. */
#include "worker/variables.h"

#include "proto/base/assert.h"

#include <ctype.h>

enum source {
    FROM_TEXT,
    FROM_HANDLER,
    FROM_NAME,
    FROM_VERSION,
    FROM_MEMORY,
    FROM_EXECUTION_ENV,
    FROM_TASK_ROOT,
    FROM_RUNTIME_ROOT,
    FROM_HOME,
    FROM_RUNTIME_API,
    FROM_LOG_GROUP,
    FROM_LOG_STREAM,
    FROM_ENDPOINT,
    FROM_REGION,
    FROM_LIBRARIES,
    FROM_NODE_PATH,
};

static const struct variable {
    const char *name;
    bool reserved;
    enum source source;
    const char *text;
} variables[] = {
    {"_HANDLER", true, FROM_HANDLER, NULL},
    {"LAMBDA_TASK_ROOT", true, FROM_TASK_ROOT, NULL},
    {"LAMBDA_RUNTIME_DIR", true, FROM_RUNTIME_ROOT, NULL},
    {"AWS_LAMBDA_RUNTIME_API", true, FROM_RUNTIME_API, NULL},
    {"AWS_LAMBDA_FUNCTION_NAME", true, FROM_NAME, NULL},
    {"AWS_LAMBDA_FUNCTION_VERSION", true, FROM_VERSION, NULL},
    {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", true, FROM_MEMORY, NULL},
    {"AWS_LAMBDA_LOG_GROUP_NAME", true, FROM_LOG_GROUP, NULL},
    {"AWS_LAMBDA_LOG_STREAM_NAME", true, FROM_LOG_STREAM, NULL},
    {"AWS_LAMBDA_INITIALIZATION_TYPE", true, FROM_TEXT, "on-demand"},
    {"AWS_EXECUTION_ENV", true, FROM_EXECUTION_ENV, NULL},
    {"AWS_REGION", true, FROM_REGION, NULL},
    {"AWS_DEFAULT_REGION", true, FROM_REGION, NULL},
    {"AWS_ACCESS_KEY_ID", false, FROM_TEXT, "millrace"},
    {"AWS_SECRET_ACCESS_KEY", false, FROM_TEXT, "millrace"},
    {"AWS_SESSION_TOKEN", true, FROM_TEXT, NULL},
    {"_X_AMZN_TRACE_ID", true, FROM_TEXT, NULL},
    {"AWS_ENDPOINT_URL", false, FROM_ENDPOINT, NULL},
    {"AWS_ENDPOINT_URL_SQS", false, FROM_ENDPOINT, NULL},
    {"AWS_ENDPOINT_URL_LAMBDA", false, FROM_ENDPOINT, NULL},
    /* There is no metadata service to ask, and asking costs an SDK seconds. */
    {"AWS_EC2_METADATA_DISABLED", false, FROM_TEXT, "true"},
    {"TZ", false, FROM_TEXT, ":UTC"},
    {"LANG", false, FROM_TEXT, "C.UTF-8"},
    {"PATH", false, FROM_TEXT, "/usr/local/bin:/usr/bin:/bin:/opt/bin"},
    {"LD_LIBRARY_PATH", false, FROM_LIBRARIES, NULL},
    {"PYTHONPATH", false, FROM_RUNTIME_ROOT, NULL},
    {"PYTHONDONTWRITEBYTECODE", false, FROM_TEXT, "1"},
    {"NODE_PATH", false, FROM_NODE_PATH, NULL},
    {"HOME", false, FROM_HOME, NULL},
    {"TMPDIR", false, FROM_HOME, NULL},
};

bool variables_reserved(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(variables); i++)
        if (variables[i].reserved && strcmp(variables[i].name, name) == 0)
            return true;
    return strncmp(name, "AWS_LAMBDA_", 11) == 0;
}

static const char *value_of(const struct variable *variable, const struct variables_input *in,
                            struct arena *arena)
{
    switch (variable->source) {
    case FROM_TEXT:
        return variable->text;
    case FROM_HANDLER:
        return in->function->handler;
    case FROM_NAME:
        return in->function->name;
    case FROM_VERSION:
        return in->function->version;
    case FROM_MEMORY:
        return arena_printf(arena, "%u", in->function->memory_mb);
    case FROM_EXECUTION_ENV:
        return in->execution_env;
    case FROM_TASK_ROOT:
        return in->task_root;
    case FROM_RUNTIME_ROOT:
        return in->runtime_root;
    case FROM_HOME:
        return in->home;
    case FROM_RUNTIME_API:
        return in->runtime_api;
    case FROM_LOG_GROUP:
        return arena_printf(arena, "/aws/lambda/%s", in->function->name);
    case FROM_LOG_STREAM:
        return in->log_stream;
    case FROM_ENDPOINT:
        return in->endpoint[0] != '\0' ? in->endpoint : NULL;
    case FROM_REGION:
        return in->region[0] != '\0' ? in->region : "us-east-1";
    case FROM_LIBRARIES:
        return arena_printf(arena, "%s:%s/lib:/opt/lib", in->task_root, in->task_root);
    case FROM_NODE_PATH:
        /* Debian's own modules last, as its node would find them. */
        return arena_printf(arena, "%s/node_modules:/opt/nodejs/node_modules:%s", in->task_root,
                            "/usr/share/nodejs:/usr/lib/nodejs");
    }
    return NULL;
}

/* [a-zA-Z][a-zA-Z0-9_]*: anything else would not be a variable. */
static bool valid_name(const char *name)
{
    if (!isalpha((unsigned char)name[0]))
        return false;
    for (const char *at = name; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && *at != '_')
            return false;
    return true;
}

static const char *own_value(const Millrace__Function *function, const char *name)
{
    for (size_t i = 0; i < function->n_environment; i++)
        if (strcmp(function->environment[i]->key, name) == 0)
            return function->environment[i]->value;
    return NULL;
}

static bool is_default(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(variables); i++)
        if (strcmp(variables[i].name, name) == 0)
            return true;
    return false;
}

const char **variables_build(const struct variables_input *in, struct arena *arena)
{
    size_t most = ARRAY_COUNT(variables) + in->function->n_environment + 1;
    const char **out = arena_alloc(arena, most * sizeof *out);
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_COUNT(variables); i++) {
        const struct variable *row = &variables[i];
        const char *own = row->reserved ? NULL : own_value(in->function, row->name);
        const char *value = own != NULL ? own : value_of(row, in, arena);
        if (value != NULL)
            out[count++] = arena_printf(arena, "%s=%s", row->name, value);
    }
    for (size_t i = 0; i < in->function->n_environment; i++) {
        const Millrace__KeyValue *pair = in->function->environment[i];
        if (valid_name(pair->key) && !variables_reserved(pair->key) && !is_default(pair->key))
            out[count++] = arena_printf(arena, "%s=%s", pair->key, pair->value);
    }
    return out;
}
