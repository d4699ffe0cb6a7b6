/* SPDX-License-Identifier: Apache-2.0 */
/* The family of /admin/cluster: who the members are, and changing that, for `millrace cluster`.
 * Signed and permitted like /admin/keys (service "millrace"); JSON in and out, errors as there.
 *
 *     GET    /admin/cluster              GetCluster: what this node knows; lags are on the leader
 *     POST   /admin/cluster/members      AddClusterMember: {"NodeId": 4, "Address": "host:port"}
 *     PUT    /admin/cluster/members/ID   PromoteClusterMember: it has caught up, let it vote
 *     DELETE /admin/cluster/members/ID   RemoveClusterMember: for good; 202: queue shards still
 *                                        have it, and let it go one by one: ask again
 *     PUT    /admin/cluster/drained/ID   DrainClusterMember: it is to lead nothing
 *     DELETE /admin/cluster/drained/ID   UndrainClusterMember
 *     POST   /admin/cluster/transfer     TransferLeadership: {"NodeId": 2}, or 0: whoever is fit
 *
 * Only the leader changes anything: another node answers 409 with the leader's id and endpoint. */
#include "broker/api/access.h"
#include "broker/api/admin_answer.h"
#include "broker/api/internal.h"
#include "broker/feature/feature.h"
#include "broker/peer/tcp.h"
#include "broker/shards/nodes.h"
#include "broker/shards/placement.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/options.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

#define PREFIX         "/admin/cluster"
#define SERVICE        "millrace"
#define BODY_BYTES_MAX 4096
#define ADDRESS_MAX    255

struct cluster_call;

struct cluster_action {
    const char *method;
    const char *path; /* behind PREFIX; '#' at its end stands for a node's id */
    const char *name;
    bool changes;
    void (*run)(struct cluster_call *call);
};

struct cluster_call {
    struct api *api;
    struct http_request *request; /* NULL: the client has gone */
    struct arena arena;
    const struct cluster_action *action;
    uint64_t started_ns;
    uint64_t node_id; /* of the path or the body */
    const char *address;
    struct shard_change change;
};

/* ---- answers ---- */

static void respond(struct cluster_call *call, int status, const char *code, json_t *body)
{
    const struct admin_answer answer = {
        .api = call->api,
        .request = call->request,
        .family = "cluster",
        .action = call->action != NULL ? call->action->name : "none",
        .started_ns = call->started_ns,
    };
    struct api *api = call->api;
    admin_answer_json(&answer, status, code, body);
    arena_free(&call->arena);
    free(call);
    api_release(api);
}

static void fail(struct cluster_call *call, int status, const char *code, const char *message)
{
    respond(call, status, code, admin_error(status, message));
}

/* ---- seeing ---- */

static bool about_node(const struct cluster_call *call, uint64_t node_id, struct peer_about *out)
{
    const struct peers *peers = api_peers(call->api);
    *out = (struct peer_about){.peer = "", .http = "", .rpc = "", .version = ""};
    return peers != NULL && node_id != api_config(call->api)->node_id &&
           peers_tcp_node(peers, node_id, out);
}

static const char *endpoint_of(struct cluster_call *call, uint64_t node_id)
{
    return api_node_endpoint(call->api, node_id, &call->arena);
}

static void fail_not_leader(struct cluster_call *call)
{
    uint64_t leader = shard_leader(api_catalog(call->api));
    const char *endpoint = leader != 0 ? endpoint_of(call, leader) : "";
    const char *message = leader != 0
                              ? arena_printf(&call->arena, "Node %" PRIu64 " leads%s%s: ask it.",
                                             leader, endpoint[0] != '\0' ? ", at " : "", endpoint)
                              : "No node leads at the moment. Try again.";
    respond(call, leader != 0 ? 409 : 503, "NotLeaderException",
            json_pack("{s:s, s:s, s:I, s:s}", "Type", "User", "Message", message, "Leader",
                      (json_int_t)leader, "LeaderEndpoint", endpoint));
}

static const char *const role_names[] = {
    [SHARD_LEARNER] = "learner", [SHARD_VOTER] = "voter", [SHARD_SPARE] = "spare"};

static const char *address_of(struct cluster_call *call, const struct shard_member_view *member)
{
    struct slice recorded = node_address(shard_core(api_catalog(call->api)), member->id);
    return recorded.length > 0 ? arena_text(&call->arena, recorded) : member->address;
}

/* `last_index` is the leader's; 0 where lags are not known. */
static json_t *render_member(struct cluster_call *call, const struct shard_member_view *member,
                             uint64_t last_index)
{
    struct peer_about about;
    bool own = member->id == api_config(call->api)->node_id;
    bool known = about_node(call, member->id, &about);
    uint64_t match = own ? last_index : member->match_index;
    json_t *json =
        json_pack("{s:I, s:s, s:s, s:b, s:b, s:s, s:s}", "NodeId", (json_int_t)member->id,
                  "Address", address_of(call, member), "Role", role_names[member->role], "Leads",
                  member->leads, "Connected", own || member->connected, "Endpoint",
                  endpoint_of(call, member->id), "Rpc", about.rpc);
    if (last_index > 0) {
        json_object_set_new(json, "MatchIndex", json_integer((json_int_t)match));
        json_object_set_new(
            json, "Lag", json_integer((json_int_t)(last_index > match ? last_index - match : 0)));
    }
    json_object_set_new(
        json, "Duty",
        json_string(node_duty_name(node_duty(shard_core(api_catalog(call->api)), member->id))));
    if (own || known) {
        json_object_set_new(json, "Version",
                            json_string(own ? api_config(call->api)->version : about.version));
        json_object_set_new(json, "FeatureLevel",
                            json_integer(own ? feature_level() : about.feature_level));
    }
    if (!known)
        return json;
    json_object_set_new(json, "ClockAheadMs", json_integer((json_int_t)about.wall_ahead_ms));
    json_object_set_new(json, "SilentMs", json_integer((json_int_t)about.silent_ms));
    if (about.refused != REFUSAL_NONE)
        json_object_set_new(json, "Refused", json_string(refusal_text(about.refused)));
    return json;
}

static void add_member(json_t *list, uint64_t node_id, enum shard_role role)
{
    json_array_append_new(
        list, json_pack("{s:I, s:s}", "NodeId", (json_int_t)node_id, "Role", role_names[role]));
}

/* As the shard's leader knows them, with what each lacks; else as the replica here does. */
static json_t *render_shard_members(const struct shard *shard, const struct shard_state *state,
                                    bool told)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    size_t count = shard != NULL && !told ? shard_members(shard, members) : 0;
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        add_member(list, members[i].id, members[i].role);
    for (size_t i = 0; i < state->count && told; i++) {
        add_member(list, state->members[i].node_id, state->members[i].role);
        json_object_set_new(json_array_get(list, i), "Lag",
                            json_integer((json_int_t)state->members[i].lag));
    }
    return list;
}

/* What the catalog says: who is to have a replica, the one to lead first; and who lets it go. */
static void add_replicas(json_t *shard, const struct cluster_call *call, uint32_t id)
{
    uint64_t nodes[SHARD_MEMBERS_MAX];
    struct replica_list listed;
    json_t *replicas = json_array();
    json_t *leaving = json_array();
    size_t count = shards_replicas(api_shards(call->api), id, nodes, ARRAY_COUNT(nodes));
    for (size_t i = 0; i < count; i++)
        json_array_append_new(replicas, json_integer((json_int_t)nodes[i]));
    if (replicas_get(shard_core(api_catalog(call->api)), id, &listed)) {
        for (size_t i = 0; i < listed.count; i++) {
            if (listed.at[i].leaving)
                json_array_append_new(leaving, json_integer((json_int_t)listed.at[i].node_id));
        }
    }
    json_object_set_new(shard, "Replicas", replicas);
    json_object_set_new(shard, "Leaving", leaving);
}

static json_t *render_shard(const struct shards *shards, uint32_t id)
{
    struct shard_state state;
    struct shard_stats stats;
    const struct shard *shard = shards_here(shards, id);
    bool told = shards_state(shards, id, &state);
    json_t *json = json_pack("{s:I, s:I, s:b, s:o}", "ShardId", (json_int_t)id, "Leader",
                             (json_int_t)state.leader, "Here", shard != NULL, "Members",
                             render_shard_members(shard, &state, told));
    if (shard == NULL) {
        json_object_set_new(json, "LastIndex", json_integer((json_int_t)state.last_index));
        return json;
    }
    shard_stats(shard, &stats);
    json_object_set_new(json, "Ready", json_boolean(shard_ready(shard)));
    json_object_set_new(json, "Term", json_integer((json_int_t)stats.term));
    json_object_set_new(json, "LastIndex", json_integer((json_int_t)stats.last_index));
    json_object_set_new(json, "AppliedIndex", json_integer((json_int_t)stats.applied_index));
    return json;
}

/* Who leads each shard and has a replica, as far as this node knows. */
static json_t *render_shards(const struct cluster_call *call)
{
    const struct shards *shards = api_shards(call->api);
    json_t *list = json_array();
    for (uint32_t id = 0; id < shards_total(shards); id++) {
        json_t *one = render_shard(shards, id);
        add_replicas(one, call, id);
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *render(struct cluster_call *call)
{
    struct shard_member_view members[SHARD_MEMBERS_MAX];
    struct shard *shard = api_catalog(call->api);
    struct shard_stats stats;
    uint8_t cluster_id[UUID_BYTES] = {0};
    uint8_t secret[32];
    char text[UUID_TEXT_LENGTH + 1] = "";
    shard_stats(shard, &stats);
    if (core_bootstrapped(shard_core(shard), cluster_id, secret))
        uuid_text(cluster_id, text);
    size_t count = shard_members(shard, members);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(
            list, render_member(call, &members[i], shard_leads(shard) ? stats.last_index : 0));
    return json_pack(
        "{s:s, s:I, s:s, s:b, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:o, s:o}", "ClusterId", text,
        "NodeId", (json_int_t)api_config(call->api)->node_id, "Version",
        api_config(call->api)->version, "Ready", shard_ready(shard), "Leader",
        (json_int_t)shard_leader(shard), "LeaderEndpoint", endpoint_of(call, shard_leader(shard)),
        "Term", (json_int_t)stats.term, "LastIndex", (json_int_t)stats.last_index, "AppliedIndex",
        (json_int_t)stats.applied_index, "FeatureLevel", (json_int_t)shard_level(shard),
        "Replication", (json_int_t)replication_get(shard_core(shard)), "Settled",
        shards_settled(api_shards(call->api)), "Members", list, "Shards", render_shards(call));
}

static void run_get(struct cluster_call *call)
{
    respond(call, 200, NULL, render(call));
}

/* ---- changing ---- */

static void on_changed(struct shard_change *change, enum status status)
{
    struct cluster_call *call = change->data;
    trace_info("cluster", "change_done", "action=%s node=%" PRIu64 " status=%s", call->action->name,
               call->node_id, status_name(status));
    switch (status) {
    case STATUS_OK:
        respond(call, 200, NULL, render(call));
        break;
    case STATUS_NOT_LEADER:
        fail_not_leader(call);
        break;
    case STATUS_NOT_FOUND:
        fail(call, 404, "ResourceNotFoundException", "There is no such member.");
        break;
    case STATUS_EXISTS:
        fail(call, 409, "ResourceConflictException", "This node is a member already.");
        break;
    case STATUS_BUSY:
        fail(call, 409, "ResourceConflictException",
             "Another change of the members is under way. Try again after it.");
        break;
    case STATUS_INVALID:
        fail(call, 400, "ValidationException",
             "This cannot be done with this node, or no other could lead then.");
        break;
    default:
        fail(call, 503, "ServiceException",
             arena_printf(&call->arena, "It was not done in time: %s.", status_text(status)));
        break;
    }
}

static void run_add(struct cluster_call *call)
{
    if (call->node_id == 0 || call->address == NULL)
        fail(call, 400, "ValidationException",
             "NodeId must be a number above 0, and Address HOST:PORT of the node's --peer.");
    else
        shard_member_add(api_catalog(call->api), &call->change, call->node_id, call->address);
}

static void run_promote(struct cluster_call *call)
{
    shard_member_promote(api_catalog(call->api), &call->change, call->node_id);
}

static void on_removed(struct shard_change *change, enum status status)
{
    struct cluster_call *call = change->data;
    if (status == STATUS_TIMEOUT)
        respond(call, 202, NULL, render(call));
    else
        on_changed(change, status);
}

static void run_remove(struct cluster_call *call)
{
    call->change.done = on_removed;
    shards_node_remove(api_shards(call->api), &call->change, call->node_id);
}

static void run_drain(struct cluster_call *call)
{
    shards_node_duty(api_shards(call->api), &call->change, call->node_id, NODE_DRAINED);
}

static void run_undrain(struct cluster_call *call)
{
    shards_node_duty(api_shards(call->api), &call->change, call->node_id, NODE_ACTIVE);
}

static void run_transfer(struct cluster_call *call)
{
    shard_transfer(api_catalog(call->api), &call->change, call->node_id);
}

/* ---- the family ---- */

static const struct cluster_action actions[] = {
    {"GET", "", "millrace:GetCluster", false, run_get},
    {"POST", "/members", "millrace:AddClusterMember", true, run_add},
    {"PUT", "/members/#", "millrace:PromoteClusterMember", true, run_promote},
    {"DELETE", "/members/#", "millrace:RemoveClusterMember", true, run_remove},
    {"PUT", "/drained/#", "millrace:DrainClusterMember", true, run_drain},
    {"DELETE", "/drained/#", "millrace:UndrainClusterMember", true, run_undrain},
    {"POST", "/transfer", "millrace:TransferLeadership", true, run_transfer},
};

static bool read_id(struct slice text, uint64_t *id)
{
    *id = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        *id = *id * 10 + (uint64_t)(text.data[i] - '0');
    }
    return text.length > 0 && text.length <= 10 && *id > 0;
}

static bool path_fits(const struct cluster_action *action, struct slice path, uint64_t *id)
{
    size_t length = strlen(action->path);
    if (length == 0 || action->path[length - 1] != '#')
        return slice_is(path, action->path);
    return path.length > length - 1 && memcmp(path.data, action->path, length - 1) == 0 &&
           read_id(slice_sub(path, length - 1), id);
}

static const struct cluster_action *action_of(const struct http_request *request, uint64_t *id)
{
    struct slice path = slice_sub(request->path, strlen(PREFIX));
    for (size_t i = 0; i < ARRAY_COUNT(actions); i++) {
        if (slice_is(request->method, actions[i].method) && path_fits(&actions[i], path, id))
            return &actions[i];
    }
    return NULL;
}

/* The body, if there is one: {"NodeId", "Address"}. */
static bool read_body(struct cluster_call *call)
{
    struct slice body = call->request->body;
    if (body.length == 0)
        return true;
    json_t *json = json_loadb((const char *)body.data, body.length, JSON_REJECT_DUPLICATES, NULL);
    const json_t *id = json_object_get(json, "NodeId");
    const char *address = json_string_value(json_object_get(json, "Address"));
    const char *host;
    uint16_t port;
    bool good = json_is_object(json) &&
                (id == NULL || (json_is_integer(id) && json_integer_value(id) >= 0 &&
                                json_integer_value(id) <= UINT32_MAX)) &&
                (address == NULL || (strlen(address) <= ADDRESS_MAX &&
                                     address_split(address, &call->arena, &host, &port)));
    if (good && id != NULL)
        call->node_id = (uint64_t)json_integer_value(id);
    if (good && address != NULL)
        call->address = arena_text(&call->arena, slice_of(address));
    json_decref(json);
    if (!good)
        fail(call, 400, "ValidationException",
             "The body must be an object of NodeId, a number, and Address, HOST:PORT.");
    return good;
}

static bool permitted(struct cluster_call *call)
{
    struct auth_failure failure = {0};
    struct auth_caller caller;
    const struct api_config *config = api_config(call->api);
    struct auth_question question = {
        .action = call->action->name,
        .resource =
            slice_of(arena_printf(&call->arena, "arn:aws:iam::%s:cluster/*", config->account_id))};
    if (!access_authenticate(call->api, call->request, SERVICE, NULL, &call->arena, &caller,
                             &failure) ||
        !auth_authorize(api_auth(call->api), &caller, &question, &call->arena, &failure)) {
        fail(call, auth_failure_status(failure.code), auth_failure_exception(failure.code),
             failure.message);
        return false;
    }
    if (call->action->changes)
        trace_info("cluster", "change_asked", "action=%s node=%" PRIu64 " by=%.*s",
                   call->action->name, call->node_id, SLICE_ARGS(caller.key_id));
    return true;
}

static void cluster_handle(struct api *api, struct http_request *request)
{
    struct cluster_call *call = calloc(1, sizeof *call);
    ASSERT(call != NULL);
    call->api = api;
    api_hold(api);
    call->request = request;
    call->started_ns = clock_monotonic_ns();
    call->change = (struct shard_change){.done = on_changed, .data = call};
    request->data = call;
    call->action = action_of(request, &call->node_id);
    if (call->action == NULL)
        fail(call, 404, "ResourceNotFoundException",
             "There is nothing at this path, or not with this method.");
    else if (read_body(call) && permitted(call))
        call->action->run(call);
}

static void cluster_abort(struct api *api, struct http_request *request)
{
    struct cluster_call *call = request->data;
    (void)api;
    if (call != NULL)
        call->request = NULL; /* the change under way ends the call */
}

static bool cluster_matches(const struct http_request *request)
{
    if (!slice_starts_with(request->path, PREFIX))
        return false;
    return request->path.length == strlen(PREFIX) || request->path.data[strlen(PREFIX)] == '/';
}

const struct api_family api_family_cluster = {
    .name = "cluster",
    .matches = cluster_matches,
    .body_bytes_max = BODY_BYTES_MAX,
    .handle = cluster_handle,
    .abort = cluster_abort,
    .works_unready = true,
};
