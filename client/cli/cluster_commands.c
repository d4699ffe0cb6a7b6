/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace cluster ...`: the members of a cluster, through /admin/cluster.
 *
 * Only the leader changes members and knows how far each has come, so these commands go on there
 * when the broker that was asked names it. */
#include "client/cli/cli.h"
#include "client/cli/table.h"

#include "proto/base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    table_cell(table, cli_text(member, "Version", NULL));
    if (json_object_get(member, "FeatureLevel") != NULL)
        table_number(table, cli_integer(member, "FeatureLevel"));
    else
        table_cell(table, NULL);
    table_cell(table, cli_text(member, "Duty", NULL));
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
    static const char *const titles[] = {">NODE", "ADDRESS", "ROLE",   "LEADER", "CONNECTED",
                                         ">LAG",  "VERSION", ">LEVEL", "DUTY"};
    const json_t *members = json_object_get(cluster, "Members");
    const char *id = cli_text(cluster, "ClusterId", "");
    struct table table = {.titles = titles, .columns = ARRAY_COUNT(titles)};
    buffer_printf(
        cli->out, "Cluster %s, as node %lld sees it: term %lld, index %lld, feature level %lld\n\n",
        id[0] != 0 ? id : "(new)", cli_integer(cluster, "NodeId"), cli_integer(cluster, "Term"),
        cli_integer(cluster, "LastIndex"), cli_integer(cluster, "FeatureLevel"));
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

/* ---- waiting for the queue shards ---- */

#define WAIT_TRIES     1200
#define WAIT_US        250000u
#define SAY_EVERY      20 /* tries */
#define TRIES_IN_DOUBT 40

static const char *role_in(const json_t *shard, long long id)
{
    const json_t *members = json_object_get(shard, "Members");
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *member = json_array_get(members, i);
        if (cli_integer(member, "NodeId") == id)
            return cli_text(member, "Role", "");
    }
    return "";
}

static bool is_voter(const json_t *shard, long long id)
{
    return strcmp(role_in(shard, id), "voter") == 0;
}

static bool is_member(const json_t *shard, long long id)
{
    return role_in(shard, id)[0] != 0;
}

static bool is_led(const json_t *shard, long long id)
{
    return cli_integer(shard, "Leader") == id;
}

static unsigned count_shards(const json_t *cluster, long long id,
                             bool (*counts)(const json_t *shard, long long id))
{
    const json_t *shards = json_object_get(cluster, "Shards");
    unsigned count = 0;
    for (size_t i = 0; i < json_array_size(shards); i++)
        count += counts(json_array_get(shards, i), id);
    return count;
}

/* Until `counts` is true of all shards, or of none; a line of progress every few seconds. The
 * brokers go on by themselves, whether this waits or not. */
static int await_shards(struct cli *cli, long long id, bool all,
                        bool (*counts)(const json_t *shard, long long id), const char *what,
                        json_t **cluster)
{
    for (unsigned tries = 0; tries < WAIT_TRIES; tries++) {
        unsigned shards = (unsigned)json_array_size(json_object_get(*cluster, "Shards"));
        unsigned count = count_shards(*cluster, id, counts);
        if (count == (all ? shards : 0))
            return 0;
        if (tries % SAY_EVERY == SAY_EVERY - 1)
            fprintf(stderr, "millrace: node %lld %s %u of %u shards\n", id, what, count, shards);
        usleep(WAIT_US);
        json_decref(*cluster);
        *cluster = NULL;
        if (view_of_leader(cli, cluster) != STATUS_OK)
            return cli_fail(cli, "read the state of the cluster");
    }
    return cli_error(cli,
                     "node %lld still %s some shards; it goes on in the background: see "
                     "`millrace cluster status`",
                     id, what);
}

/* A change at the leader, wherever that is by now. */
static int change_at_leader(struct cli *cli, const char *method, const char *path, const char *what,
                            long long id, json_t **cluster)
{
    for (unsigned tries = 0; tries < TRIES_IN_DOUBT; tries++) {
        int exit_status = find_leader(cli);
        if (exit_status != 0)
            return exit_status;
        if (mr_rest_call(cli->client, method, path, NULL, cluster) == STATUS_OK)
            return 0;
        if (strcmp(mr_client_error(cli->client)->code, "NotLeaderException") != 0)
            break;
        usleep(WAIT_US);
    }
    return cli_fail(cli, "%s node %lld", what, id);
}

/* As a learner first, which gets the data, and then, when it has caught up, as a voter; the queue
 * shards follow. */
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
    exit_status = await_shards(cli, id, true, is_voter, "votes in", &cluster);
    if (exit_status == 0)
        return show(cli, cluster);
    json_decref(cluster);
    return exit_status;
}

static int change_run(struct cli *cli, const char *method,
                      const char *(*path)(struct cli *cli, long long id), const char *what)
{
    long long id;
    json_t *cluster = NULL;
    if (!read_id(cli->arguments[0], &id))
        return cli_misuse(cli, "'%s' is not a node's id", cli->arguments[0]);
    int exit_status = change_at_leader(cli, method, path(cli, id), what, id, &cluster);
    return exit_status == 0 ? show(cli, cluster) : exit_status;
}

static int promote_run(struct cli *cli)
{
    return change_run(cli, "PUT", member_path, "promote");
}

/* The broker answers every two seconds, with who still has it, until nobody has. */
static int remove_run(struct cli *cli)
{
    long long id;
    json_t *cluster = NULL;
    if (!read_id(cli->arguments[0], &id))
        return cli_misuse(cli, "'%s' is not a node's id", cli->arguments[0]);
    for (unsigned tries = 0; tries < WAIT_TRIES; tries++) {
        int exit_status =
            change_at_leader(cli, "DELETE", member_path(cli, id), "remove", id, &cluster);
        if (exit_status != 0)
            return exit_status;
        unsigned left = count_shards(cluster, id, is_member);
        if (left == 0 && !is_member(cluster, id))
            return show(cli, cluster);
        fprintf(stderr, "millrace: node %lld is a member of %u shards yet\n", id, left);
        json_decref(cluster);
    }
    return cli_error(cli, "node %lld could not be removed yet; try again", id);
}

static const char *drained_path(struct cli *cli, long long id)
{
    return arena_printf(&cli->arena, CLUSTER_PATH "/drained/%lld", id);
}

static int drain_run(struct cli *cli)
{
    long long id;
    json_t *cluster = NULL;
    if (!read_id(cli->arguments[0], &id))
        return cli_misuse(cli, "'%s' is not a node's id", cli->arguments[0]);
    int exit_status = change_at_leader(cli, "PUT", drained_path(cli, id), "drain", id, &cluster);
    if (exit_status != 0)
        return exit_status;
    exit_status = await_shards(cli, id, false, is_led, "leads", &cluster);
    if (exit_status == 0)
        return show(cli, cluster);
    json_decref(cluster);
    return exit_status;
}

static int undrain_run(struct cli *cli)
{
    return change_run(cli, "DELETE", drained_path, "undrain");
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
    {.words = "cluster drain",
     .usage = "ID",
     .summary = "Let a node lead nothing, such as before work on its machine. It keeps its data.",
     .examples = "  millrace cluster drain 2\n"
                 "  millrace cluster undrain 2\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = drain_run},
    {.words = "cluster undrain",
     .usage = "ID",
     .summary = "Let a drained node lead again.",
     .examples = "  millrace cluster undrain 2\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = undrain_run},
    {.words = "cluster transfer",
     .usage = "[ID]",
     .summary = "Let another node lead the catalog, where functions are run from.",
     .examples = "  millrace cluster transfer\n"
                 "  millrace cluster transfer 2\n",
     .arguments_max = 1,
     .run = transfer_run},
};
const size_t cli_cluster_command_count = ARRAY_COUNT(cli_cluster_commands);
