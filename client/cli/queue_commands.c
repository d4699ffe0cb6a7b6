/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace queue ...`: queues by name.
 *
 * Bodies are shown as they are when stdout is a file or a pipe, because a program reads them then;
 * on a terminal their control bytes are replaced, because a message comes from anyone. */
#include "client/cli/cli.h"
#include "client/cli/table.h"

#include "proto/base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BODY_BYTES_MAX (1u << 20) /* SQS quota */

/* ---- create --------------------------------------------------------------------------------- */

static void set_seconds(json_t *attributes, const char *name, uint64_t value)
{
    char text[32];
    if (value == CLI_NOT_GIVEN)
        return;
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    json_object_set_new(attributes, name, json_string(text));
}

/* {"deadLetterTargetArn": ..., "maxReceiveCount": n} as the text the API wants. */
static enum status set_redrive(struct cli *cli, json_t *attributes)
{
    json_t *target;
    if (cli->options.dead_letter == NULL)
        return STATUS_OK;
    enum status status = mr_queue_attributes(cli->client, cli->options.dead_letter, &target);
    if (status != STATUS_OK)
        return status;
    uint64_t receives = cli->options.receives_max;
    json_t *policy = json_pack("{s:s,s:i}", "deadLetterTargetArn", cli_text(target, "QueueArn", ""),
                               "maxReceiveCount", receives == CLI_NOT_GIVEN ? 3 : (int)receives);
    char *text = json_dumps(policy, JSON_COMPACT);
    json_object_set_new(attributes, "RedrivePolicy", json_string(text));
    free(text);
    json_decref(policy);
    json_decref(target);
    return STATUS_OK;
}

static int queue_create(struct cli *cli)
{
    const char *name = cli->arguments[0];
    const struct cli_options *o = &cli->options;
    if (o->receives_max != CLI_NOT_GIVEN && o->dead_letter == NULL)
        return cli_misuse(cli, "--max-receives needs --dead-letter");
    json_t *reply, *attributes = json_object();
    set_seconds(attributes, "VisibilityTimeout", o->visibility_s);
    set_seconds(attributes, "DelaySeconds", o->delay_s);
    set_seconds(attributes, "MessageRetentionPeriod", o->retention_s);
    if (set_redrive(cli, attributes) != STATUS_OK) {
        json_decref(attributes);
        return cli_fail(cli, "use '%s' as the dead-letter queue", o->dead_letter);
    }
    if (mr_queue_create(cli->client, name, attributes, &reply) != STATUS_OK)
        return cli_fail(cli, "create queue '%s'", name);
    if (o->json)
        return cli_json(cli, reply);
    buffer_printf(cli->out, "Queue %s is there: %s\n", name, cli_text(reply, "QueueUrl", "?"));
    json_decref(reply);
    return 0;
}

/* ---- list and attributes -------------------------------------------------------------------- */

static const char *last_part(const char *url)
{
    const char *slash = strrchr(url, '/');
    return slash != NULL ? slash + 1 : url;
}

static void add_queue_row(struct cli *cli, struct table *table, const char *url)
{
    const char *name = last_part(url);
    json_t *attributes;
    if (mr_queue_attributes(cli->client, name, &attributes) != STATUS_OK)
        attributes = NULL; /* deleted meanwhile: its row shows dashes */
    table_cell(table, name);
    table_cell(table, cli_text(attributes, "ApproximateNumberOfMessages", NULL));
    table_cell(table, cli_text(attributes, "ApproximateNumberOfMessagesNotVisible", NULL));
    table_cell(table, cli_text(attributes, "ApproximateNumberOfMessagesDelayed", NULL));
    table_cell(table, url);
    json_decref(attributes);
}

static int queue_list(struct cli *cli)
{
    static const char *const titles[] = {"NAME", ">VISIBLE", ">IN FLIGHT", ">DELAYED", "URL"};
    struct table table = {.titles = titles, .columns = ARRAY_COUNT(titles)};
    json_t *urls, *url;
    size_t i;
    if (mr_queue_list(cli->client, cli->options.prefix, &urls) != STATUS_OK)
        return cli_fail(cli, "list the queues");
    if (cli->options.json)
        return cli_json(cli, urls);
    if (json_array_size(urls) == 0)
        buffer_add_text(cli->out, "There are no queues; `millrace queue create NAME` makes one.\n");
    json_array_foreach(urls, i, url)
        add_queue_row(cli, &table, json_string_length(url) > 0 ? json_string_value(url) : "?");
    if (json_array_size(urls) > 0)
        table_print(&table, cli->out);
    json_decref(urls);
    return 0;
}

static int queue_attributes(struct cli *cli)
{
    static const char *const titles[] = {"ATTRIBUTE", "VALUE"};
    struct table table = {.titles = titles, .columns = ARRAY_COUNT(titles)};
    json_t *attributes, *value;
    const char *name;
    if (mr_queue_attributes(cli->client, cli->arguments[0], &attributes) != STATUS_OK)
        return cli_fail(cli, "read the attributes of '%s'", cli->arguments[0]);
    if (cli->options.json)
        return cli_json(cli, attributes);
    json_object_foreach(attributes, name, value)
    {
        table_cell(&table, name);
        table_cell(&table, json_string_value(value));
    }
    table_print(&table, cli->out);
    json_decref(attributes);
    return 0;
}

/* ---- send ----------------------------------------------------------------------------------- */

/* The body from the argument, the file or stdin; 0, or an exit status. */
static int read_body(struct cli *cli, struct buffer *body)
{
    const char *argument = cli->argument_count > 1 ? cli->arguments[1] : NULL;
    const char *file = cli->options.file;
    if ((argument != NULL) == (file != NULL))
        return cli_misuse(cli, "give the message either as BODY (- for stdin) or with --file");
    if (argument != NULL && strcmp(argument, "-") != 0) {
        buffer_add_text(body, argument);
        return 0;
    }
    const char *path = file != NULL ? file : "-";
    enum status status = cli_read_input(path, BODY_BYTES_MAX, body);
    return status == STATUS_OK
               ? 0
               : cli_error(cli, "cannot read the message from '%s': %s", path, status_text(status));
}

static json_t *message_attributes(const struct option_list *list, const char **bad)
{
    json_t *plain = cli_assignments(list, bad);
    json_t *typed = plain != NULL ? json_object() : NULL;
    const char *name;
    json_t *value;
    json_object_foreach(plain, name, value)
    {
        json_object_set_new(typed, name,
                            json_pack("{s:s,s:O}", "DataType", "String", "StringValue", value));
    }
    json_decref(plain);
    return typed;
}

static int send_body(struct cli *cli, struct slice body)
{
    const char *bad = NULL;
    const struct cli_options *o = &cli->options;
    json_t *reply, *attributes = message_attributes(&o->attributes, &bad);
    if (attributes == NULL)
        return cli_misuse(cli, "--attribute '%s' is not NAME=VALUE", bad);
    uint64_t delay_s = o->delay_s;
    struct mr_send send = {.body = body,
                           .delay_s =
                               delay_s == CLI_NOT_GIVEN ? MR_DELAY_OF_QUEUE : (uint32_t)delay_s,
                           .attributes = attributes};
    if (mr_queue_send(cli->client, cli->arguments[0], &send, &reply) != STATUS_OK)
        return cli_fail(cli, "send to '%s'", cli->arguments[0]);
    if (o->json)
        return cli_json(cli, reply);
    buffer_printf(cli->out, "Sent %s\n", cli_text(reply, "MessageId", "?"));
    json_decref(reply);
    return 0;
}

static int queue_send(struct cli *cli)
{
    struct buffer body = {0};
    int exit_status = read_body(cli, &body);
    if (exit_status == 0)
        exit_status = send_body(cli, buffer_slice(&body));
    buffer_free(&body);
    return exit_status;
}

/* ---- receive -------------------------------------------------------------------------------- */

static void add_body(struct buffer *out, const char *body)
{
    bool safe = isatty(STDOUT_FILENO) == 1;
    for (; *body != 0; body++) {
        unsigned char c = (unsigned char)*body;
        bool control = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
        buffer_add_byte(out, safe && control ? '?' : c);
    }
    buffer_add_byte(out, '\n');
}

static void print_message(struct cli *cli, const json_t *message)
{
    const json_t *system = json_object_get(message, "Attributes");
    buffer_printf(cli->out, "message %s, received %s times\n", cli_text(message, "MessageId", "?"),
                  cli_text(system, "ApproximateReceiveCount", "?"));
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(message, "MessageAttributes"), name, value)
    {
        buffer_printf(cli->out, "attribute %s (%s) = %s\n", name, cli_text(value, "DataType", "?"),
                      cli_text(value, "StringValue", cli_text(value, "BinaryValue", "")));
    }
    if (!cli->options.delete_received)
        buffer_printf(cli->out, "receipt %s\n", cli_text(message, "ReceiptHandle", "?"));
    add_body(cli->out, cli_text(message, "Body", ""));
}

static int delete_all(struct cli *cli, const json_t *messages)
{
    size_t i;
    json_t *message;
    json_array_foreach(messages, i, message)
    {
        const char *handle = cli_text(message, "ReceiptHandle", "");
        if (mr_queue_delete_message(cli->client, cli->arguments[0], handle) != STATUS_OK)
            return cli_fail(cli, "delete message %s", cli_text(message, "MessageId", "?"));
    }
    return 0;
}

static int queue_receive(struct cli *cli)
{
    const struct cli_options *o = &cli->options;
    const char *name = cli->arguments[0];
    struct mr_receive receive = {
        .count_max = o->count_max == CLI_NOT_GIVEN ? 1 : (uint32_t)o->count_max,
        .wait_s = o->wait_s == CLI_NOT_GIVEN ? 0 : (uint32_t)o->wait_s,
        .visibility_s =
            o->visibility_s == CLI_NOT_GIVEN ? MR_VISIBILITY_OF_QUEUE : (uint32_t)o->visibility_s};
    json_t *messages, *message;
    size_t i;
    if (mr_queue_receive(cli->client, name, &receive, &messages) != STATUS_OK)
        return cli_fail(cli, "receive from '%s'", name);
    /* A message that cannot be deleted has been received all the same: show it in any case. */
    int exit_status = o->delete_received ? delete_all(cli, messages) : 0;
    if (o->json) {
        cli_json(cli, messages);
        return exit_status;
    }
    if (json_array_size(messages) == 0)
        buffer_printf(cli->out, "No message is visible in %s.\n", name);
    json_array_foreach(messages, i, message) print_message(cli, message);
    json_decref(messages);
    return exit_status;
}

/* ---- purge and delete ----------------------------------------------------------------------- */

static int done(struct cli *cli, const char *sentence)
{
    if (cli->options.json)
        return cli_json(cli, json_object());
    buffer_printf(cli->out, "%s\n", sentence);
    return 0;
}

static int queue_purge(struct cli *cli)
{
    const char *name = cli->arguments[0];
    if (mr_queue_purge(cli->client, name) != STATUS_OK)
        return cli_fail(cli, "purge '%s'", name);
    return done(cli, arena_printf(&cli->arena, "Queue %s is empty.", name));
}

static int queue_delete(struct cli *cli)
{
    const char *name = cli->arguments[0];
    if (mr_queue_delete(cli->client, name) != STATUS_OK)
        return cli_fail(cli, "delete queue '%s'", name);
    return done(cli, arena_printf(&cli->arena, "Queue %s is deleted.", name));
}

/* ---- the table ------------------------------------------------------------------------------ */

static const struct option_row create_rows[] = {
    CLI_ROW("visibility", NUMBER, "S", visibility_s, .max = 43200,
            .help =
                "Seconds a received message stays hidden, up to 43200; the API's default is 30."),
    CLI_ROW("delay", NUMBER, "S", delay_s, .max = 900,
            .help = "Seconds before a new message can be received, up to 900."),
    CLI_ROW("retention", NUMBER, "S", retention_s, .min = 60, .max = 1209600,
            .help = "Seconds a message is kept, 60 to 1209600; the API's default is 4 days."),
    CLI_ROW("dead-letter", TEXT, "NAME", dead_letter,
            .help = "The queue that takes messages received too often."),
    CLI_ROW("max-receives", NUMBER, "N", receives_max, .min = 1, .max = 1000,
            .help = "How often a message is received before that; 3 if not given."),
};

static const struct option_row list_rows[] = {
    CLI_ROW("prefix", TEXT, "TEXT", prefix, .help = "Only queues whose names begin so."),
};

static const struct option_row send_rows[] = {
    CLI_ROW("file", TEXT, "FILE", file, .help = "Send what this file holds, at most 1 MiB."),
    CLI_ROW("delay", NUMBER, "S", delay_s, .max = 900,
            .help = "Seconds before the message can be received."),
    CLI_ROW("attribute", LIST, "NAME=VALUE", attributes, .help = "A message attribute (String)."),
};

static const struct option_row receive_rows[] = {
    CLI_ROW("max", NUMBER, "N", count_max, .min = 1, .max = MR_QUEUE_BATCH_MAX,
            .help = "Messages at most, 1 to 10; 1 if not given."),
    CLI_ROW("wait", NUMBER, "S", wait_s, .max = 20,
            .help = "Seconds to wait for a message, up to 20."),
    CLI_ROW("visibility", NUMBER, "S", visibility_s, .max = 43200,
            .help = "Seconds the messages stay hidden; as the queue has it if not given."),
    CLI_ROW("delete", FLAG, NULL, delete_received, .help = "Delete what was received."),
};

const struct cli_command cli_queue_commands[] = {
    {.words = "queue create",
     .usage = "NAME",
     .summary = "Create a queue, or check that it is there.",
     .examples = "  millrace queue create orders-failed\n"
                 "  millrace queue create orders --visibility 60 --dead-letter orders-failed\n",
     .rows = create_rows,
     .row_count = ARRAY_COUNT(create_rows),
     .arguments_min = 1,
     .arguments_max = 1,
     .run = queue_create},
    {.words = "queue list",
     .usage = "",
     .summary = "List queues and how many messages they hold.",
     .examples = "  millrace queue list --prefix orders\n",
     .rows = list_rows,
     .row_count = ARRAY_COUNT(list_rows),
     .run = queue_list},
    {.words = "queue attributes",
     .usage = "NAME",
     .summary = "Show all attributes of a queue.",
     .examples = "  millrace queue attributes orders --json\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = queue_attributes},
    {.words = "queue send",
     .usage = "NAME [BODY]",
     .summary = "Send a message.",
     .examples = "  millrace queue send orders '{\"id\": 1}' --attribute source=shop\n"
                 "  millrace queue send orders --file order.json\n"
                 "  date | millrace queue send orders -\n",
     .rows = send_rows,
     .row_count = ARRAY_COUNT(send_rows),
     .arguments_min = 1,
     .arguments_max = 2,
     .run = queue_send},
    {.words = "queue receive",
     .usage = "NAME",
     .summary = "Receive messages.",
     .examples = "  millrace queue receive orders --max 10 --wait 5\n"
                 "  millrace queue receive orders --delete --json\n",
     .rows = receive_rows,
     .row_count = ARRAY_COUNT(receive_rows),
     .arguments_min = 1,
     .arguments_max = 1,
     .run = queue_receive},
    {.words = "queue purge",
     .usage = "NAME",
     .summary = "Delete all messages of a queue.",
     .examples = "  millrace queue purge orders\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = queue_purge},
    {.words = "queue delete",
     .usage = "NAME",
     .summary = "Delete a queue with its messages.",
     .examples = "  millrace queue delete orders\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = queue_delete},
};
const size_t cli_queue_command_count = ARRAY_COUNT(cli_queue_commands);
