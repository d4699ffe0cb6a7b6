/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace status`: what a broker knows of itself, its shards, workers, queues, functions and
 * triggers.
 *
 * The answer of GET /status is shown as tables. A member that is missing (an older broker) shows as
 * a dash or a zero; it is never an error. */
#include "client/cli/cli.h"
#include "client/cli/table.h"

#include "proto/base/assert.h"

#include <stdio.h>

enum column_kind { TEXT, INTEGER, REAL, MEBIBYTES, YES_NO };

/* One column: its title and where its value stands in an element of the list. */
struct column {
    const char *title;
    const char *member; /* "usage.errors" looks into an inner object */
    enum column_kind kind;
};

struct section {
    const char *title;
    const char *member; /* of the status */
    const char *none;   /* said instead of an empty table */
    const struct column *columns;
    size_t column_count;
};

static const struct column worker_columns[] = {
    {"WORKER", "id", TEXT},
    {"HOST", "host", TEXT},
    {">RUNNING", "running", INTEGER},
    {">WARM", "warm", INTEGER},
    {">MAX", "concurrency_max", INTEGER},
    {">MEMORY MiB", "memory_bytes", MEBIBYTES},
    {"ISOLATION", "isolation", TEXT},
};
static const struct column shard_columns[] = {
    {">SHARD", "id", INTEGER},         {">LEADER", "leader", INTEGER},
    {"READY", "ready", YES_NO},        {">TERM", "term", INTEGER},
    {">INDEX", "last_index", INTEGER}, {">APPLIED", "applied_index", INTEGER},
};
static const struct column queue_columns[] = {
    {"QUEUE", "name", TEXT},
    {">VISIBLE", "visible", INTEGER},
    {">IN FLIGHT", "in_flight", INTEGER},
    {">DELAYED", "delayed", INTEGER},
    {">SHARD", "shard", INTEGER},
};
static const struct column function_columns[] = {
    {"FUNCTION", "name", TEXT},
    {">RUNNING", "running", INTEGER},
    {">PEAK", "running_peak", INTEGER},
    {">WAITING", "waiting", INTEGER},
    {">INVOCATIONS", "usage.invocations", INTEGER},
    {">ERRORS", "usage.errors", INTEGER},
    {">TIMEOUTS", "usage.timeouts", INTEGER},
    {">COLD", "usage.cold_starts", INTEGER},
    {">GB-SECONDS", "usage.gb_seconds", REAL},
};
static const struct column mapping_columns[] = {
    {"TRIGGER", "queue", TEXT},
    {"FUNCTION", "function", TEXT},
    {"ENABLED", "enabled", YES_NO},
    {">RUNNING", "running", INTEGER},
    {">TARGET", "concurrency_target", INTEGER},
    {"LAST RESULT", "last_result", TEXT},
};

static const struct section sections[] = {
    {"Shards", "shards", "This broker does not tell of its shards.", shard_columns,
     ARRAY_COUNT(shard_columns)},
    {"Workers", "workers", "No worker is connected: functions wait.", worker_columns,
     ARRAY_COUNT(worker_columns)},
    {"Queues", "queues", "No queues.", queue_columns, ARRAY_COUNT(queue_columns)},
    {"Functions", "functions", "No functions.", function_columns, ARRAY_COUNT(function_columns)},
    {"Triggers", "mappings", "No queue triggers a function.", mapping_columns,
     ARRAY_COUNT(mapping_columns)},
};

static const json_t *find_member(const json_t *object, const char *path)
{
    const char *dot = strchr(path, '.');
    if (dot == NULL)
        return json_object_get(object, path);
    return json_object_get(json_object_getn(object, path, (size_t)(dot - path)), dot + 1);
}

static void add_value(struct table *table, const json_t *element, const struct column *column)
{
    const json_t *value = find_member(element, column->member);
    switch (column->kind) {
    case TEXT:
        table_cell(table, json_string_value(value));
        break;
    case INTEGER:
        table_number(table, (long long)json_number_value(value));
        break;
    case REAL:
        table_real(table, json_number_value(value), 3);
        break;
    case MEBIBYTES:
        table_number(table, (long long)(json_number_value(value) / (1 << 20)));
        break;
    case YES_NO:
        table_cell(table, json_is_true(value) ? "yes" : "no");
        break;
    }
}

static void print_section(struct buffer *out, const struct section *section, const json_t *status)
{
    const char *titles[TABLE_COLUMNS_MAX];
    const json_t *list = json_object_get(status, section->member);
    if (json_array_size(list) == 0) {
        buffer_printf(out, "\n%s\n", section->none);
        return;
    }
    for (size_t i = 0; i < section->column_count; i++)
        titles[i] = section->columns[i].title;
    struct table table = {.titles = titles, .columns = section->column_count};
    for (size_t i = 0; i < json_array_size(list); i++) {
        for (size_t j = 0; j < section->column_count; j++)
            add_value(&table, json_array_get(list, i), &section->columns[j]);
    }
    buffer_printf(out, "\n%s\n", section->title);
    table_print(&table, out);
}

static void print_span(struct buffer *out, long long seconds)
{
    if (seconds >= 86400)
        buffer_printf(out, "%lld d %lld h", seconds / 86400, seconds % 86400 / 3600);
    else if (seconds >= 3600)
        buffer_printf(out, "%lld h %lld min", seconds / 3600, seconds % 3600 / 60);
    else if (seconds >= 60)
        buffer_printf(out, "%lld min %lld s", seconds / 60, seconds % 60);
    else
        buffer_printf(out, "%lld s", seconds);
}

/* An identity is a text or a number, as the broker likes. */
static void print_identity(struct buffer *out, const json_t *value)
{
    if (json_is_string(value))
        buffer_add_text(out, json_string_value(value));
    else
        buffer_printf(out, "%lld", (long long)json_integer_value(value));
}

/* Workers, and what runs on them, are known where the broker leads: that one's status is shown. */
static void follow_leader(struct cli *cli, json_t **status)
{
    json_t *other;
    const char *endpoint = cli_text(*status, "leader_endpoint", "");
    if (endpoint[0] == 0)
        return;
    endpoint = arena_printf(&cli->arena, "%s", endpoint);
    if (cli_connect(cli, endpoint) != 0 || mr_status(cli->client, &other) != STATUS_OK)
        return;
    json_decref(*status);
    *status = other;
}

static int status_run(struct cli *cli)
{
    json_t *status;
    if (mr_status(cli->client, &status) != STATUS_OK)
        return cli_fail(cli, "read the status");
    follow_leader(cli, &status);
    if (cli->options.json)
        return cli_json(cli, status);
    bool ready = json_is_true(json_object_get(status, "ready"));
    buffer_printf(cli->out, "Millrace %s at %s: node ", cli_text(status, "version", "?"),
                  mr_client_endpoint(cli->client));
    print_identity(cli->out, json_object_get(status, "node_id"));
    buffer_printf(cli->out, ", %s, up ", ready ? "ready" : "not ready");
    print_span(cli->out, (long long)json_number_value(json_object_get(status, "uptime_s")));
    buffer_add_text(cli->out, "\n");
    for (size_t i = 0; i < ARRAY_COUNT(sections); i++)
        print_section(cli->out, &sections[i], status);
    json_decref(status);
    return 0;
}

static const struct option_row rows[] = {
    CLI_ROW("metrics-token-file", TEXT, "FILE", metrics_token_file,
            .help = "The token to show a broker that has one; without it the key is used."),
};

const struct cli_command cli_status_commands[] = {
    {.words = "status",
     .usage = "",
     .summary = "Show the broker, its shards, workers, queues, functions and triggers.",
     .examples = "  millrace status\n"
                 "  millrace status --json | jq .functions\n",
     .rows = rows,
     .row_count = ARRAY_COUNT(rows),
     .run = status_run},
};
const size_t cli_status_command_count = ARRAY_COUNT(cli_status_commands);
