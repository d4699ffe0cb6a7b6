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

static void print_nodes(struct cli *cli, struct table *table, const json_t *shard)
{
    struct buffer text = {0};
    const json_t *replicas = json_object_get(shard, "Replicas");
    const json_t *leaving = json_object_get(shard, "Leaving");
    for (size_t i = 0; i < json_array_size(replicas); i++)
        buffer_printf(&text, "%s%lld", i > 0 ? " " : "",
                      (long long)json_integer_value(json_array_get(replicas, i)));
    for (size_t i = 0; i < json_array_size(leaving); i++)
        buffer_printf(&text, " -%lld", (long long)json_integer_value(json_array_get(leaving, i)));
    table_cell(table, arena_text(&cli->arena, buffer_slice(&text)));
    buffer_free(&text);
}

/* A number where the broker knows it: not all is known of a shard that it has no replica of. */
static void print_known(struct table *table, const json_t *shard, const char *member)
{
    if (cli_integer(shard, member) != 0)
        table_number(table, cli_integer(shard, member));
    else
        table_cell(table, NULL);
}

/* An older broker has one and does not name it. */
static void print_shards(struct cli *cli, const json_t *shards)
{
    static const char *const titles[] = {">SHARD", "HOLDS",  ">LEADER",      "NODES",
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
        print_nodes(cli, &table, shard);
        print_known(&table, shard, "Term");
        print_known(&table, shard, "LastIndex");
        print_known(&table, shard, "AppliedIndex");
    }
    if (count > 0) {
        buffer_add_text(cli->out, "\n");
        table_print(&table, cli->out);
    }
}

static const json_t *member_of(const json_t *shard, long long id)
{
    size_t i;
    json_t *member;
    json_array_foreach(json_object_get(shard, "Members"), i, member)
    {
        if (cli_integer(member, "NodeId") == id)
            return member;
    }
    return NULL;
}

/* What is under way in this shard, as lines; they say nothing where all is done. */
static void print_moves(struct buffer *out, const json_t *shard)
{
    size_t i;
    json_t *node;
    long long number = cli_integer(shard, "ShardId");
    if (json_array_size(json_object_get(shard, "Members")) == 0)
        return; /* not known */
    json_array_foreach(json_object_get(shard, "Replicas"), i, node)
    {
        long long id = json_integer_value(node);
        const json_t *member = member_of(shard, id);
        if (member == NULL)
            buffer_printf(out, "shard %lld: to node %lld, not begun\n", number, id);
        else if (strcmp(cli_text(member, "Role", ""), "voter") != 0)
            buffer_printf(out, "shard %lld: to node %lld, which lacks %lld entries\n", number, id,
                          cli_integer(member, "Lag"));
    }
    json_array_foreach(json_object_get(shard, "Leaving"), i, node) buffer_printf(
        out, "shard %lld: from node %lld, %s\n", number, (long long)json_integer_value(node),
        member_of(shard, json_integer_value(node)) != NULL
            ? "which keeps it until the others have it"
            : "which is removing it");
}

static void print_all_moves(struct cli *cli, const json_t *shards)
{
    size_t i;
    json_t *shard;
    struct buffer text = {0};
    json_array_foreach(shards, i, shard) print_moves(&text, shard);
    if (text.length > 0)
        buffer_printf(cli->out, "\nMoving replicas:\n%.*s", SLICE_ARGS(buffer_slice(&text)));
    buffer_free(&text);
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
    print_all_moves(cli, json_object_get(cluster, "Shards"));
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

#define WAIT_TRIES     2400
#define WAIT_US        250000u
#define SAY_EVERY      12 /* tries */
#define TRIES_IN_DOUBT 40

static bool lists(const json_t *shard, const char *which, long long id)
{
    size_t i;
    json_t *node;
    json_array_foreach(json_object_get(shard, which), i, node)
    {
        if (json_integer_value(node) == id)
            return true;
    }
    return false;
}

static bool is_on(const json_t *shard, long long id)
{
    return lists(shard, "Replicas", id) || lists(shard, "Leaving", id) ||
           member_of(shard, id) != NULL;
}

static bool is_led(const json_t *shard, long long id)
{
    return cli_integer(shard, "Leader") == id;
}

static unsigned count_shards(const json_t *cluster, long long id,
                             bool (*counts)(const json_t *shard, long long id))
{
    size_t i;
    json_t *shard;
    unsigned count = 0;
    json_array_foreach(json_object_get(cluster, "Shards"), i, shard) count += counts(shard, id);
    return count;
}

static unsigned count_queue_shards_on(const json_t *cluster, long long id)
{
    size_t i;
    json_t *shard;
    unsigned count = 0;
    json_array_foreach(json_object_get(cluster, "Shards"), i, shard) count +=
        cli_integer(shard, "ShardId") > 0 && is_on(shard, id);
    return count;
}

static void say_moves(const json_t *cluster)
{
    size_t i;
    json_t *shard;
    struct buffer text = {0};
    json_array_foreach(json_object_get(cluster, "Shards"), i, shard) print_moves(&text, shard);
    fprintf(stderr, "millrace: %s%.*s",
            text.length > 0 ? "moving replicas\n" : "the cluster is planning what to move next\n",
            SLICE_ARGS(buffer_slice(&text)));
    buffer_free(&text);
}

/* No replica is under way and none has to be, and the node leads nothing it should not. Brokers
 * without "Settled" have all shards everywhere. */
static bool is_settled(const json_t *cluster)
{
    const json_t *settled = json_object_get(cluster, "Settled");
    return settled == NULL || json_is_true(settled);
}

/* Until that is so; some lines of progress every few seconds. The brokers go on by themselves,
 * whether this waits or not. */
static int await_moves(struct cli *cli, bool (*done)(const json_t *cluster, long long id),
                       long long id, json_t **cluster)
{
    for (unsigned tries = 0; tries < WAIT_TRIES; tries++) {
        if (done(*cluster, id))
            return 0;
        if (tries % SAY_EVERY == SAY_EVERY - 1)
            say_moves(*cluster);
        usleep(WAIT_US);
        json_decref(*cluster);
        *cluster = NULL;
        if (view_of_leader(cli, cluster) != STATUS_OK)
            return cli_fail(cli, "read the state of the cluster");
    }
    return cli_error(cli, "it is not done yet, and goes on in the background: see `millrace "
                          "cluster status`");
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

static bool is_in(const json_t *cluster, long long id)
{
    (void)id;
    return is_settled(cluster);
}

/* As a learner first, which gets the data of the catalog, and then, when it has caught up, as a
 * voter; then it gets its share of the queue shards. */
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
    exit_status = await_moves(cli, is_in, id, &cluster);
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
        if (member_of(cluster, id) == NULL)
            return show(cli, cluster);
        fprintf(stderr, "millrace: node %lld has %u queue shards yet\n", id,
                count_queue_shards_on(cluster, id));
        if (tries % 2 == 1)
            say_moves(cluster);
        json_decref(cluster);
    }
    return cli_error(cli, "node %lld could not be removed yet; try again", id);
}

static const char *drained_path(struct cli *cli, long long id)
{
    return arena_printf(&cli->arena, CLUSTER_PATH "/drained/%lld", id);
}

/* It leads nothing, and its replicas are where others could take them. */
static bool is_out(const json_t *cluster, long long id)
{
    return count_shards(cluster, id, is_led) == 0 && is_settled(cluster);
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
    exit_status = await_moves(cli, is_out, id, &cluster);
    if (exit_status == 0 && count_queue_shards_on(cluster, id) > 0)
        fprintf(stderr,
                "millrace: node %lld leads nothing, and keeps its replicas: there are not enough "
                "other nodes\n",
                id);
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
     .summary = "Let a node lead nothing, and move its replicas to others where there are enough.",
     .examples = "  millrace cluster drain 2\n"
                 "  millrace cluster undrain 2\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = drain_run},
    {.words = "cluster undrain",
     .usage = "ID",
     .summary = "Let a drained node lead, and have replicas, again.",
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
