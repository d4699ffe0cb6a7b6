/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace function ...`: a folder becomes a function, and a queue its trigger.
 *
 * `deploy` may be given again and again: it makes what is missing and changes what differs. The
 * queue it makes hides a message for six times the function's timeout, as the Lambda documentation
 * advises, so that a batch that is being retried inside the service is not delivered twice. */
#include "client/cli/cli.h"
#include "client/cli/table.h"

#include "proto/base/assert.h"
#include "proto/package/package.h"

#include <stdio.h>
#include <stdlib.h>

#define PAYLOAD_BYTES_MAX    6291556u /* Lambda quota: 6 MB, and what the API adds to it */
#define VISIBILITY_FACTOR    6
#define VISIBILITY_DEFAULT_S 30
#define VISIBILITY_MAX_S     43200

/* ---- deploy --------------------------------------------------------------------------------- */

/* "path/to/resize/" -> "resize"; also for "." (the name of the working directory). */
static const char *folder_name(struct cli *cli, const char *dir)
{
    char *real = realpath(dir, NULL);
    const char *slash = real != NULL ? strrchr(real, '/') : NULL;
    const char *name = slash != NULL ? arena_text(&cli->arena, slice_of(slash + 1)) : "";
    free(real);
    return name;
}

static int pack_folder(struct cli *cli, const char *dir, struct buffer *zip)
{
    const char *why = "";
    enum status status = package_pack(dir, zip, &why);
    if (status != STATUS_OK)
        return cli_error(cli, "cannot pack '%s': %s%s%s", dir, status_text(status),
                         why != NULL && why[0] != 0 ? ": " : "", why != NULL ? why : "");
    if (zip->length > PACKAGE_ZIPPED_BYTES_MAX)
        return cli_error(cli, "cannot deploy '%s': zipped it has %zu bytes, the limit is %u", dir,
                         zip->length, PACKAGE_ZIPPED_BYTES_MAX);
    return 0;
}

static uint32_t given_or_zero(uint64_t value)
{
    return value == CLI_NOT_GIVEN ? 0 : (uint32_t)value;
}

static int put_function(struct cli *cli, const char *name, struct slice zip, json_t **configuration,
                        bool *created)
{
    const struct cli_options *o = &cli->options;
    const char *bad = NULL;
    json_t *environment = cli_assignments(&o->environment, &bad);
    if (environment == NULL)
        return cli_misuse(cli, "--env '%s' is not NAME=VALUE", bad);
    struct mr_function function = {.name = name,
                                   .runtime = o->runtime,
                                   .handler = o->handler,
                                   .memory_mb = given_or_zero(o->memory_mb),
                                   .timeout_s = given_or_zero(o->timeout_s),
                                   .environment = o->environment.count > 0 ? environment : NULL,
                                   .zip = zip};
    enum status status = mr_function_put(cli->client, &function, configuration, created);
    json_decref(environment);
    return status == STATUS_OK ? 0 : cli_fail(cli, "deploy function '%s'", name);
}

static json_t *queue_attributes_for(const json_t *configuration)
{
    long long visibility_s = cli_integer(configuration, "Timeout") * VISIBILITY_FACTOR;
    if (visibility_s < VISIBILITY_DEFAULT_S)
        visibility_s = VISIBILITY_DEFAULT_S;
    if (visibility_s > VISIBILITY_MAX_S)
        visibility_s = VISIBILITY_MAX_S;
    char text[32];
    snprintf(text, sizeof text, "%lld", visibility_s);
    return json_pack("{s:s}", "VisibilityTimeout", text);
}

/* The queue and the mapping; 0, or an exit status. */
static int attach_queue(struct cli *cli, const json_t *configuration, json_t **mapping)
{
    const char *queue = cli->options.queue;
    const char *name = cli_text(configuration, "FunctionName", "");
    char *url;
    bool created;
    enum status status = mr_queue_url(cli->client, queue, &url);
    free(url);
    if (status == STATUS_NOT_FOUND)
        status = mr_queue_create(cli->client, queue, queue_attributes_for(configuration), NULL);
    if (status != STATUS_OK)
        return cli_fail(cli, "find or create queue '%s'", queue);
    uint32_t batch_size = given_or_zero(cli->options.batch_size);
    if (mr_mapping_put(cli->client, name, queue, batch_size, mapping, &created) != STATUS_OK)
        return cli_fail(cli, "let queue '%s' trigger function '%s'", queue, name);
    return 0;
}

static int tell_deployed(struct cli *cli, json_t *configuration, json_t *mapping, bool created)
{
    if (cli->options.json) {
        json_t *told = json_pack("{s:o,s:b}", "Function", configuration, "Created", created);
        json_object_set_new(told, "EventSourceMapping", mapping != NULL ? mapping : json_null());
        return cli_json(cli, told);
    }
    const char *name = cli_text(configuration, "FunctionName", "?");
    buffer_printf(cli->out, "%s function %s: %s, %lld MB, %lld s, %lld bytes of code.\n",
                  created ? "Created" : "Updated", name, cli_text(configuration, "Runtime", "?"),
                  cli_integer(configuration, "MemorySize"), cli_integer(configuration, "Timeout"),
                  cli_integer(configuration, "CodeSize"));
    if (mapping != NULL)
        buffer_printf(cli->out, "Queue %s triggers it in batches of up to %lld.\n",
                      cli->options.queue, cli_integer(mapping, "BatchSize"));
    json_decref(configuration);
    json_decref(mapping);
    return 0;
}

static int deploy_zip(struct cli *cli, const char *name, struct slice zip)
{
    json_t *configuration = NULL, *mapping = NULL;
    bool created = false;
    int exit_status = put_function(cli, name, zip, &configuration, &created);
    if (exit_status == 0 && cli->options.queue != NULL)
        exit_status = attach_queue(cli, configuration, &mapping);
    if (exit_status == 0)
        return tell_deployed(cli, configuration, mapping, created);
    json_decref(configuration);
    return exit_status;
}

static int function_deploy(struct cli *cli)
{
    const char *dir = cli->arguments[0];
    const char *name = cli->options.name;
    struct buffer zip = {0};
    if (cli->options.batch_size != CLI_NOT_GIVEN && cli->options.queue == NULL)
        return cli_misuse(cli, "--batch-size needs --queue");
    if (name == NULL)
        name = folder_name(cli, dir);
    if (name[0] == 0)
        return cli_error(cli, "cannot pack '%s': there is no such folder", dir);
    int exit_status = pack_folder(cli, dir, &zip);
    if (exit_status == 0)
        exit_status = deploy_zip(cli, name, buffer_slice(&zip));
    buffer_free(&zip);
    return exit_status;
}

/* ---- list ----------------------------------------------------------------------------------- */

static int function_list(struct cli *cli)
{
    static const char *const titles[] = {"NAME",       "RUNTIME", "HANDLER", ">MEMORY MB",
                                         ">TIMEOUT S", "STATE",   "MODIFIED"};
    struct table table = {.titles = titles, .columns = ARRAY_COUNT(titles)};
    json_t *functions, *f;
    size_t i;
    if (mr_function_list(cli->client, &functions) != STATUS_OK)
        return cli_fail(cli, "list the functions");
    if (cli->options.json)
        return cli_json(cli, functions);
    json_array_foreach(functions, i, f)
    {
        table_cell(&table, cli_text(f, "FunctionName", NULL));
        table_cell(&table, cli_text(f, "Runtime", NULL));
        table_cell(&table, cli_text(f, "Handler", NULL));
        table_number(&table, cli_integer(f, "MemorySize"));
        table_number(&table, cli_integer(f, "Timeout"));
        /* A list of the API leaves the state out; a function that is listed can be called. */
        table_cell(&table, cli_text(f, "State", "Active"));
        table_cell(&table, cli_text(f, "LastModified", NULL));
    }
    if (json_array_size(functions) > 0)
        table_print(&table, cli->out);
    else
        buffer_add_text(cli->out, "There are no functions; `millrace function deploy DIR` makes "
                                  "one.\n");
    json_decref(functions);
    return 0;
}

/* ---- invoke --------------------------------------------------------------------------------- */

static int read_payload(struct cli *cli, struct buffer *payload)
{
    const struct cli_options *o = &cli->options;
    if (o->payload != NULL && o->file != NULL)
        return cli_misuse(cli, "give the payload either with --payload or with --file");
    if (o->payload != NULL)
        buffer_add_text(payload, o->payload);
    if (o->file == NULL)
        return 0;
    enum status status = cli_read_input(o->file, PAYLOAD_BYTES_MAX, payload);
    return status == STATUS_OK ? 0
                               : cli_error(cli, "cannot read the payload from '%s': %s", o->file,
                                           status_text(status));
}

/* A payload is JSON, but a function's own bytes all the same: what does not parse goes as text. */
static json_t *payload_value(const struct buffer *payload)
{
    const char *text = (const char *)payload->data;
    json_t *value = json_loadb(text, payload->length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (value == NULL && payload->length > 0)
        value = json_stringn(text, payload->length);
    return value != NULL ? value : json_null();
}

static void print_invocation_json(struct cli *cli, const struct mr_invocation *done)
{
    json_t *told = json_pack("{s:i,s:o}", "StatusCode", done->http_status, "Payload",
                             payload_value(&done->payload));
    if (done->version[0] != 0)
        json_object_set_new(told, "ExecutedVersion", json_string(done->version));
    if (done->function_error[0] != 0)
        json_object_set_new(told, "FunctionError", json_string(done->function_error));
    if (done->output.length > 0)
        json_object_set_new(told, "LogResult",
                            json_stringn((const char *)done->output.data, done->output.length));
    cli_json(cli, told);
}

static void print_invocation(struct cli *cli, const struct mr_invocation *done)
{
    buffer_add_slice(cli->err, buffer_slice(&done->output));
    if (cli->options.async)
        buffer_printf(cli->out, "Queued an invocation of %s.\n", cli->arguments[0]);
    buffer_add_slice(cli->out, buffer_slice(&done->payload));
    if (done->payload.length > 0)
        buffer_add_byte(cli->out, '\n');
}

static int tell_invoked(struct cli *cli, const struct mr_invocation *done)
{
    if (cli->options.json)
        print_invocation_json(cli, done);
    else
        print_invocation(cli, done);
    if (done->function_error[0] != 0)
        return cli_error(cli, "function '%s' failed (%s)", cli->arguments[0], done->function_error);
    return 0;
}

static int function_invoke(struct cli *cli)
{
    struct buffer payload = {0};
    struct mr_invocation done = {0};
    if (cli->options.async && cli->options.tail)
        return cli_misuse(cli, "--tail needs an answer, which --async does not wait for");
    int exit_status = read_payload(cli, &payload);
    struct mr_invoke invoke = {
        .payload = buffer_slice(&payload), .async = cli->options.async, .tail = cli->options.tail};
    if (exit_status == 0 &&
        mr_function_invoke(cli->client, cli->arguments[0], &invoke, &done) != STATUS_OK)
        exit_status = cli_fail(cli, "invoke '%s'", cli->arguments[0]);
    else if (exit_status == 0)
        exit_status = tell_invoked(cli, &done);
    mr_invocation_free(&done);
    buffer_free(&payload);
    return exit_status;
}

/* ---- delete --------------------------------------------------------------------------------- */

/* The mappings first: left alone they would point at nothing and keep their queues from others. */
static int delete_mappings(struct cli *cli, const char *function)
{
    json_t *mappings, *mapping;
    size_t i;
    if (mr_mapping_list(cli->client, function, &mappings) != STATUS_OK)
        return cli_fail(cli, "find the triggers of '%s'", function);
    int exit_status = 0;
    json_array_foreach(mappings, i, mapping)
    {
        const char *uuid = cli_text(mapping, "UUID", "");
        enum status status = mr_mapping_delete(cli->client, uuid);
        if (exit_status == 0 && status != STATUS_OK && status != STATUS_NOT_FOUND)
            exit_status = cli_fail(cli, "delete the event source mapping %s", uuid);
    }
    json_decref(mappings);
    return exit_status;
}

static int function_delete(struct cli *cli)
{
    const char *name = cli->arguments[0];
    json_t *configuration;
    if (mr_function_get(cli->client, name, &configuration) != STATUS_OK)
        return cli_fail(cli, "delete function '%s'", name);
    json_decref(configuration);
    int exit_status = delete_mappings(cli, name);
    if (exit_status != 0)
        return exit_status;
    if (mr_function_delete(cli->client, name) != STATUS_OK)
        return cli_fail(cli, "delete function '%s'", name);
    if (cli->options.json)
        return cli_json(cli, json_object());
    buffer_printf(cli->out, "Function %s and its triggers are deleted.\n", name);
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------ */

static const struct option_row deploy_rows[] = {
    CLI_ROW("runtime", TEXT, "R", runtime, .required = true,
            .help = "python3.11, nodejs20.x or provided.al2023 (an executable named bootstrap)."),
    CLI_ROW("handler", TEXT, "H", handler, .required = true,
            .help = "What to call, as the runtime names it: file.function."),
    CLI_ROW("name", TEXT, "NAME", name, .help = "The function's name; the folder's if not given."),
    CLI_ROW("queue", TEXT, "NAME", queue,
            .help = "The queue that triggers it; made if it is missing."),
    CLI_ROW("batch-size", NUMBER, "N", batch_size, .min = 1, .max = 10000,
            .help = "Messages in one invocation at most; the API's default is 10."),
    CLI_ROW("memory", NUMBER, "MB", memory_mb, .min = 128, .max = 10240,
            .help = "Memory in MB, 128 to 10240; the API's default is 128."),
    CLI_ROW("timeout", NUMBER, "S", timeout_s, .min = 1, .max = 900,
            .help = "Seconds an invocation may take, 1 to 900; the API's default is 3."),
    CLI_ROW("env", LIST, "NAME=VALUE", environment,
            .help = "A variable of the function's environment; all of them are replaced."),
};

static const struct option_row invoke_rows[] = {
    CLI_ROW("payload", TEXT, "JSON", payload, .help = "The event."),
    CLI_ROW("file", TEXT, "FILE", file, .help = "Read the event from this file (- for stdin)."),
    CLI_ROW("async", FLAG, NULL, async, .help = "Queue the event and do not wait."),
    CLI_ROW("tail", FLAG, NULL, tail, .help = "Show the end of the function's output on stderr."),
};

const struct cli_command cli_function_commands[] = {
    {.words = "function deploy",
     .usage = "DIR --runtime R --handler H",
     .summary = "Create or update a function from a folder.",
     .examples =
         "  millrace function deploy ./resize --runtime python3.11 --handler app.handler\n"
         "  millrace function deploy ./resize --runtime python3.11 --handler app.handler \\\n"
         "      --queue pictures --timeout 30 --env SIZE=640 --env QUALITY=80\n",
     .rows = deploy_rows,
     .row_count = ARRAY_COUNT(deploy_rows),
     .arguments_min = 1,
     .arguments_max = 1,
     .run = function_deploy},
    {.words = "function list",
     .usage = "",
     .summary = "List functions.",
     .examples = "  millrace function list --json\n",
     .run = function_list},
    {.words = "function invoke",
     .usage = "NAME",
     .summary = "Call a function and print its answer.",
     .examples = "  millrace function invoke resize --payload '{\"key\": \"cat.png\"}' --tail\n"
                 "  millrace function invoke resize --file event.json --async\n",
     .rows = invoke_rows,
     .row_count = ARRAY_COUNT(invoke_rows),
     .arguments_min = 1,
     .arguments_max = 1,
     .run = function_invoke},
    {.words = "function delete",
     .usage = "NAME",
     .summary = "Delete a function and its triggers.",
     .examples = "  millrace function delete resize\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = function_delete},
};
const size_t cli_function_command_count = ARRAY_COUNT(cli_function_commands);
