/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace key ...`: access keys, through /admin/keys. The secret of a new key is shown once; it
 * cannot be read again. */
#include "client/cli/cli.h"
#include "client/cli/table.h"

#include "proto/base/assert.h"
#include "proto/base/encode.h"

#include <stdlib.h>

#define KEYS_PATH        "/admin/keys"
#define POLICY_BYTES_MAX 20480

/* "/admin/keys/ID" and what follows. */
static const char *path_of(struct cli *cli, const char *id, const char *more)
{
    struct buffer encoded = {0};
    encode_percent(&encoded, slice_of(id), false);
    const char *path =
        arena_printf(&cli->arena, KEYS_PATH "/%.*s%s", SLICE_ARGS(buffer_slice(&encoded)), more);
    buffer_free(&encoded);
    return path;
}

/* The policy in a file, as JSON; NULL: cli_error has been called and *exit_status set. */
static json_t *read_policy(struct cli *cli, const char *path, int *exit_status)
{
    struct buffer text = {0};
    json_error_t error;
    json_t *policy = NULL;
    enum status status = cli_read_input(path, POLICY_BYTES_MAX, &text);
    if (status != STATUS_OK) {
        *exit_status = cli_error(cli, "cannot read the policy %s: %s", path, status_text(status));
    } else {
        policy = json_loadb((const char *)text.data, text.length, JSON_REJECT_DUPLICATES, &error);
        if (policy == NULL)
            *exit_status = cli_error(cli, "%s:%d: the policy is not valid JSON: %s", path,
                                     error.line, error.text);
    }
    buffer_free(&text);
    return policy;
}

static void print_key(struct cli *cli, const json_t *key)
{
    buffer_printf(cli->out, "key      %s\nname     %s\naccount  %s\nstatus   %s%s\ncreated  %s\n",
                  cli_text(key, "AccessKeyId", "?"), cli_text(key, "Name", "?"),
                  cli_text(key, "AccountId", "?"), cli_text(key, "Status", "?"),
                  json_is_true(json_object_get(key, "Root")) ? " (root: may do everything)" : "",
                  cli_text(key, "CreateDate", "?"));
}

static void print_policy(struct cli *cli, const json_t *key)
{
    const json_t *policy = json_object_get(key, "Policy");
    if (json_is_object(policy)) {
        char *text = json_dumps(policy, JSON_INDENT(2));
        buffer_printf(cli->out, "policy\n%s\n", text != NULL ? text : "?");
        free(text);
    } else if (!json_is_true(json_object_get(key, "Root"))) {
        buffer_add_text(cli->out, "policy   none: only the policies of queues allow it anything\n");
    }
}

static int key_create(struct cli *cli)
{
    int exit_status = 0;
    json_t *key;
    json_t *policy = NULL;
    if (cli->options.policy != NULL) {
        policy = read_policy(cli, cli->options.policy, &exit_status);
        if (policy == NULL)
            return exit_status;
    }
    json_t *input = json_pack("{s:s*, s:s*, s:o*}", "Name", cli->options.name, "AccountId",
                              cli->options.account_id, "Policy", policy);
    if (mr_rest_call(cli->client, "POST", KEYS_PATH, input, &key) != STATUS_OK)
        return cli_fail(cli, "create an access key");
    if (cli->options.json)
        return cli_json(cli, key);
    print_key(cli, key);
    print_policy(cli, key);
    buffer_printf(cli->out,
                  "\nThe secret is shown this once:\n"
                  "export AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\n",
                  cli_text(key, "AccessKeyId", "?"), cli_text(key, "SecretAccessKey", "?"));
    json_decref(key);
    return 0;
}

static int key_list(struct cli *cli)
{
    static const char *const titles[] = {"KEY", "NAME", "ACCOUNT", "STATUS", "POLICY", "CREATED"};
    json_t *reply;
    if (mr_rest_call(cli->client, "GET", KEYS_PATH, NULL, &reply) != STATUS_OK)
        return cli_fail(cli, "list the access keys");
    json_t *keys = json_object_get(reply, "Keys");
    if (cli->options.json) {
        json_incref(keys);
        json_decref(reply);
        return cli_json(cli, keys);
    }
    struct table table = {.titles = titles, .columns = ARRAY_COUNT(titles)};
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const json_t *key = json_array_get(keys, i);
        bool root = json_is_true(json_object_get(key, "Root"));
        bool policy = json_is_object(json_object_get(key, "Policy"));
        table_cell(&table, cli_text(key, "AccessKeyId", NULL));
        table_cell(&table, cli_text(key, "Name", NULL));
        table_cell(&table, cli_text(key, "AccountId", NULL));
        table_cell(&table, cli_text(key, "Status", NULL));
        table_cell(&table, root ? "root" : policy ? "yes" : "none");
        table_cell(&table, cli_text(key, "CreateDate", NULL));
    }
    if (json_array_size(keys) == 0)
        buffer_add_text(cli->out, "No access keys.\n");
    else
        table_print(&table, cli->out);
    json_decref(reply);
    return 0;
}

static int key_show(struct cli *cli)
{
    json_t *key;
    const char *id = cli->arguments[0];
    if (mr_rest_call(cli->client, "GET", path_of(cli, id, ""), NULL, &key) != STATUS_OK)
        return cli_fail(cli, "show the access key '%s'", id);
    if (cli->options.json)
        return cli_json(cli, key);
    print_key(cli, key);
    print_policy(cli, key);
    json_decref(key);
    return 0;
}

static int set_status(struct cli *cli, const char *status, const char *verb)
{
    const char *id = cli->arguments[0];
    json_t *input = json_pack("{s:s}", "Status", status);
    if (mr_rest_call(cli->client, "PUT", path_of(cli, id, ""), input, NULL) != STATUS_OK)
        return cli_fail(cli, "%s the access key '%s'", verb, id);
    return 0;
}

static int key_disable(struct cli *cli)
{
    return set_status(cli, "Inactive", "disable");
}

static int key_enable(struct cli *cli)
{
    return set_status(cli, "Active", "enable");
}

static int key_delete(struct cli *cli)
{
    const char *id = cli->arguments[0];
    if (mr_rest_call(cli->client, "DELETE", path_of(cli, id, ""), NULL, NULL) != STATUS_OK)
        return cli_fail(cli, "delete the access key '%s'", id);
    return 0;
}

static int key_policy(struct cli *cli)
{
    int exit_status = 0;
    const char *id = cli->arguments[0];
    json_t *policy = read_policy(cli, cli->arguments[1], &exit_status);
    if (policy == NULL)
        return exit_status;
    if (mr_rest_call(cli->client, "PUT", path_of(cli, id, "/policy"), policy, NULL) != STATUS_OK)
        return cli_fail(cli, "set the policy of the access key '%s'", id);
    return 0;
}

static const struct option_row create_rows[] = {
    CLI_ROW("name", TEXT, "NAME", name, .help = "Whose key it is; the key's id if not given."),
    CLI_ROW("policy", TEXT, "FILE", policy,
            .help = "What it may do: an IAM policy in JSON; - is stdin. Without one it may do "
                    "nothing but what policies of queues allow it."),
    CLI_ROW("account-id", TEXT, "DIGITS", account_id,
            .help = "The account it belongs to; the broker's own if not given."),
};

const struct cli_command cli_key_commands[] = {
    {.words = "key create",
     .usage = "",
     .summary = "Make an access key, and show its secret once.",
     .examples = "  millrace key create --name shop --policy shop.json\n",
     .rows = create_rows,
     .row_count = ARRAY_COUNT(create_rows),
     .run = key_create},
    {.words = "key list",
     .usage = "",
     .summary = "List the access keys.",
     .examples = "  millrace key list\n",
     .run = key_list},
    {.words = "key show",
     .usage = "ID",
     .summary = "Show an access key and its policy.",
     .examples = "  millrace key show MRAKEXAMPLE --json\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = key_show},
    {.words = "key disable",
     .usage = "ID",
     .summary = "Refuse requests signed with the key, until it is enabled.",
     .examples = "  millrace key disable MRAKEXAMPLE\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = key_disable},
    {.words = "key enable",
     .usage = "ID",
     .summary = "Take requests signed with the key again.",
     .examples = "  millrace key enable MRAKEXAMPLE\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = key_enable},
    {.words = "key policy",
     .usage = "ID FILE",
     .summary = "Replace the policy of a key.",
     .examples = "  millrace key policy MRAKEXAMPLE shop.json\n",
     .arguments_min = 2,
     .arguments_max = 2,
     .run = key_policy},
    {.words = "key delete",
     .usage = "ID",
     .summary = "Delete an access key for good.",
     .examples = "  millrace key delete MRAKEXAMPLE\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = key_delete},
};
const size_t cli_key_command_count = ARRAY_COUNT(cli_key_commands);
