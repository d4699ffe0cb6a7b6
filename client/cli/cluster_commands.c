/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace cluster ...`: the members of a cluster, through /admin/cluster.
 *
 * Only the leader changes members and knows how far each has come, so these commands go on there
 * when the broker that was asked names it. */
#include "client/cli/cli.h"
#include "client/cli/table.h"

#include "proto/base/assert.h"

#include <stdlib.h>
#include <string.h>

#define CLUSTER_PATH "/admin/cluster"

static enum status view(struct cli *cli, json_t **cluster)
{
    return mr_rest_call(cli->client, "GET", CLUSTER_PATH, NULL, cluster);
}

/* The view of the leader, or of the broker that was asked if that cannot be had. */
static enum status view_of_leader(struct cli *cli, json_t **cluster)
{
    json_t *other;
    enum status status = view(cli, cluster);
    if (status != STATUS_OK || cli_integer(*cluster, "Leader") == cli_integer(*cluster, "NodeId"))
        return status;
    const char *endpoint = cli_text(*cluster, "LeaderEndpoint", "");
    if (endpoint[0] == 0)
        return STATUS_OK;
    endpoint = arena_printf(&cli->arena, "%s", endpoint);
    if (cli_connect(cli, endpoint) != 0 || view(cli, &other) != STATUS_OK)
        return STATUS_OK;
    json_decref(*cluster);
    *cluster = other;
    return STATUS_OK;
}

static void print_member(struct table *table, const json_t *member)
{
    table_number(table, cli_integer(member, "NodeId"));
    table_cell(table, cli_text(member, "Address", NULL));
    table_cell(table, cli_text(member, "Role", NULL));
    table_cell(table, json_is_true(json_object_get(member, "Leads")) ? "leads" : "");
    table_cell(table, json_is_true(json_object_get(member, "Connected")) ? "yes" : "no");
    if (json_object_get(member, "Lag") != NULL)
        table_number(table, cli_integer(member, "Lag"));
    else
        table_cell(table, NULL);
    if (json_object_get(member, "FeatureLevel") != NULL)
        table_number(table, cli_integer(member, "FeatureLevel"));
    else
        table_cell(table, NULL);
}

/* An older broker has one and does not name it. */
static void print_shards(struct cli *cli, const json_t *shards)
{
    static const char *const titles[] = {">SHARD", "HOLDS",  ">LEADER",
                                         ">TERM",  ">INDEX", ">APPLIED HERE"};
    struct table table = {.titles = titles, .columns = ARRAY_COUNT(titles)};
    size_t count = json_array_size(shards);
    for (size_t i = 0; i < count; i++) {
        const json_t *shard = json_array_get(shards, i);
        table_number(&table, cli_integer(shard, "ShardId"));
        table_cell(&table, count == 1 ? "everything" : i == 0 ? "catalog" : "queues");
        if (cli_integer(shard, "Leader") != 0)
            table_number(&table, cli_integer(shard, "Leader"));
        else
            table_cell(&table, "none");
        table_number(&table, cli_integer(shard, "Term"));
        table_number(&table, cli_integer(shard, "LastIndex"));
        table_number(&table, cli_integer(shard, "AppliedIndex"));
    }
    if (count > 0) {
        buffer_add_text(cli->out, "\n");
        table_print(&table, cli->out);
    }
}

static void print_cluster(struct cli *cli, const json_t *cluster)
{
    static const char *const titles[] = {">NODE",     "ADDRESS", "ROLE",     "LEADER",
                                         "CONNECTED", ">LAG",    ">FEATURES"};
    const json_t *members = json_object_get(cluster, "Members");
    const char *id = cli_text(cluster, "ClusterId", "");
    struct table table = {.titles = titles, .columns = ARRAY_COUNT(titles)};
    buffer_printf(cli->out, "Cluster %s, as node %lld sees it: term %lld, index %lld\n\n",
                  id[0] != 0 ? id : "(new)", cli_integer(cluster, "NodeId"),
                  cli_integer(cluster, "Term"), cli_integer(cluster, "LastIndex"));
    for (size_t i = 0; i < json_array_size(members); i++)
        print_member(&table, json_array_get(members, i));
    table_print(&table, cli->out);
    print_shards(cli, json_object_get(cluster, "Shards"));
    if (cli_integer(cluster, "Leader") == 0)
        buffer_add_text(cli->out, "\nNo node leads: a majority of the voters must be running.\n");
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *member = json_array_get(members, i);
        if (json_object_get(member, "Refused") != NULL)
            buffer_printf(cli->out, "\nNode %lld is refused: %s\n", cli_integer(member, "NodeId"),
                          cli_text(member, "Refused", ""));
    }
}

static int show(struct cli *cli, json_t *cluster)
{
    if (cli->options.json)
        return cli_json(cli, cluster);
    print_cluster(cli, cluster);
    json_decref(cluster);
    return 0;
}

static int status_run(struct cli *cli)
{
    json_t *cluster;
    if (view_of_leader(cli, &cluster) != STATUS_OK)
        return cli_fail(cli, "read the state of the cluster");
    return show(cli, cluster);
}

/* ---- changes ---- */

static bool read_id(const char *text, long long *id)
{
    char *rest;
    *id = strtoll(text, &rest, 10);
    return text[0] >= '1' && text[0] <= '9' && *rest == 0 && *id <= UINT32_MAX;
}

/* Be connected to the leader from now on. */
static int find_leader(struct cli *cli)
{
    json_t *cluster;
    if (view_of_leader(cli, &cluster) != STATUS_OK)
        return cli_fail(cli, "read the state of the cluster");
    json_decref(cluster);
    return 0;
}

static const char *member_path(struct cli *cli, long long id)
{
    return arena_printf(&cli->arena, CLUSTER_PATH "/members/%lld", id);
}

/* As a learner first, which gets the data, and then, when it has caught up, as a voter. */
static int add_run(struct cli *cli)
{
    long long id;
    json_t *cluster = NULL;
    if (!read_id(cli->arguments[0], &id))
        return cli_misuse(cli, "'%s' is not a node's id", cli->arguments[0]);
    int exit_status = find_leader(cli);
    if (exit_status != 0)
        return exit_status;
    json_t *input = json_pack("{s:I, s:s}", "NodeId", (json_int_t)id, "Address", cli->arguments[1]);
    if (mr_rest_call(cli->client, "POST", CLUSTER_PATH "/members", input, &cluster) != STATUS_OK)
        return cli_fail(cli, "add node %lld", id);
    json_decref(cluster);
    if (mr_rest_call(cli->client, "PUT", member_path(cli, id), NULL, &cluster) != STATUS_OK)
        return cli_fail(cli,
                        "let node %lld vote (it is a learner now; when it runs and has caught up, "
                        "use `millrace cluster promote %lld`)",
                        id, id);
    return show(cli, cluster);
}

static int change_run(struct cli *cli, const char *method, const char *what)
{
    long long id;
    json_t *cluster = NULL;
    if (!read_id(cli->arguments[0], &id))
        return cli_misuse(cli, "'%s' is not a node's id", cli->arguments[0]);
    int exit_status = find_leader(cli);
    if (exit_status != 0)
        return exit_status;
    if (mr_rest_call(cli->client, method, member_path(cli, id), NULL, &cluster) != STATUS_OK)
        return cli_fail(cli, "%s node %lld", what, id);
    return show(cli, cluster);
}

static int promote_run(struct cli *cli)
{
    return change_run(cli, "PUT", "promote");
}

static int remove_run(struct cli *cli)
{
    return change_run(cli, "DELETE", "remove");
}

static int transfer_run(struct cli *cli)
{
    long long id = 0;
    json_t *cluster = NULL;
    if (cli->argument_count > 0 && !read_id(cli->arguments[0], &id))
        return cli_misuse(cli, "'%s' is not a node's id", cli->arguments[0]);
    int exit_status = find_leader(cli);
    if (exit_status != 0)
        return exit_status;
    json_t *input = json_pack("{s:I}", "NodeId", (json_int_t)id);
    if (mr_rest_call(cli->client, "POST", CLUSTER_PATH "/transfer", input, &cluster) != STATUS_OK)
        return cli_fail(cli, "let another node lead");
    return show(cli, cluster);
}

const struct cli_command cli_cluster_commands[] = {
    {.words = "cluster status",
     .usage = "",
     .summary = "Show the members of the cluster, who leads, and how far each has come.",
     .examples = "  millrace cluster status\n"
                 "  millrace cluster status --json | jq .Members\n",
     .run = status_run},
    {.words = "cluster add",
     .usage = "ID HOST:PORT",
     .summary = "Add a node that was started with --join, at the address of its --peer.",
     .examples = "  millrace-broker --node-id 4 --join 1=10.0.0.1:9326 --data-dir DIR ...\n"
                 "  millrace cluster add 4 10.0.0.4:9326\n",
     .arguments_min = 2,
     .arguments_max = 2,
     .run = add_run},
    {.words = "cluster promote",
     .usage = "ID",
     .summary = "Let a learner that has caught up vote.",
     .examples = "  millrace cluster promote 4\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = promote_run},
    {.words = "cluster remove",
     .usage = "ID",
     .summary = "Remove a node for good: its id cannot be used again.",
     .examples = "  millrace cluster remove 2\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = remove_run},
    {.words = "cluster transfer",
     .usage = "[ID]",
     .summary = "Let another node lead, such as before the leader is stopped.",
     .examples = "  millrace cluster transfer\n"
                 "  millrace cluster transfer 2\n",
     .arguments_max = 1,
     .run = transfer_run},
};
const size_t cli_cluster_command_count = ARRAY_COUNT(cli_cluster_commands);
