/* SPDX-License-Identifier: Apache-2.0 */
/* The family of /admin/backup: the files of a consistent copy, for `millrace backup`. Signed like
 * /admin/keys (service "millrace"), one action for all: millrace:Backup. Who may do this may read
 * every message and every secret of the cluster.
 *
 *     POST   /admin/backup                     begin with {"Shard": K}: {"Backup": ID, "ShardId",
 *                                              "Shards": how many there are, "Index", "Term",
 *                                              "ClusterId", "NodeId", "Version", "TimeMs",
 *                                              "Files": [{"Name", "Bytes"}]}
 *     GET    /admin/backup/ID/NAME?offset=N    the next bytes of a file, 4 MiB at most
 *     DELETE /admin/backup/ID                  it has been read
 *
 * Only the shard's leader gives one: another node answers 409 with the leader's endpoint. */
#include "broker/replication/backup.h"
#include "broker/api/access.h"
#include "broker/api/admin_answer.h"
#include "broker/api/internal.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>

#define PREFIX         "/admin/backup"
#define SERVICE        "millrace"
#define ACTION         "millrace:Backup"
#define BODY_BYTES_MAX 4096
#define ID_DIGITS      16

struct backup_call {
    struct api *api;
    struct http_request *request; /* NULL: the client has gone */
    struct arena arena;
    uint64_t started_ns;
    bool beginning;
    uint32_t shard_id;
    struct shard_backup_begin begin;
    struct log_backup_read read;
};

/* ---- answers ---- */

static struct admin_answer answer_of(const struct backup_call *call)
{
    return (struct admin_answer){.api = call->api,
                                 .request = call->request,
                                 .family = "backup",
                                 .action = ACTION,
                                 .started_ns = call->started_ns};
}

static void call_free(struct backup_call *call)
{
    arena_free(&call->arena);
    free(call);
}

static void respond(struct backup_call *call, int status, const char *code, json_t *json)
{
    const struct admin_answer answer = answer_of(call);
    admin_answer_json(&answer, status, code, json);
    call_free(call);
}

static void fail(struct backup_call *call, int status, const char *code, const char *message)
{
    respond(call, status, code, admin_error(status, message));
}

static struct shard *shard_of(const struct backup_call *call)
{
    return shards_here(api_shards(call->api), call->shard_id);
}

static uint64_t leader_of(const struct backup_call *call)
{
    return shard_of(call) != NULL ? shard_leader(shard_of(call))
                                  : shards_leader(api_shards(call->api), call->shard_id);
}

static void fail_not_leader(struct backup_call *call)
{
    uint64_t leader = leader_of(call);
    const char *endpoint = api_node_endpoint(call->api, leader, &call->arena);
    const char *message =
        leader != 0 ? arena_printf(&call->arena, "Node %" PRIu64 " leads: ask it.", leader)
                    : "No node leads at the moment. Try again.";
    respond(call, leader != 0 ? 409 : 503, "NotLeaderException",
            json_pack("{s:s, s:s, s:I, s:s}", "Type", "User", "Message", message, "Leader",
                      (json_int_t)leader, "LeaderEndpoint", endpoint));
}

/* ---- beginning ---- */

static json_t *render(struct backup_call *call)
{
    const struct log_backup_view *view = &call->begin.view;
    uint8_t cluster_id[UUID_BYTES] = {0};
    uint8_t secret[32];
    char cluster[UUID_TEXT_LENGTH + 1] = "";
    char id[ID_DIGITS + 1];
    json_t *files = json_array();
    for (size_t i = 0; i < view->file_count; i++)
        json_array_append_new(files, json_pack("{s:s, s:I}", "Name", view->files[i].name, "Bytes",
                                               (json_int_t)view->files[i].bytes));
    if (core_bootstrapped(shard_core(shard_of(call)), cluster_id, secret))
        uuid_text(cluster_id, cluster);
    snprintf(id, sizeof id, "%016" PRIx64, call->begin.number);
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:I, s:s, s:I, s:o}", "Backup", id, "ShardId",
                     (json_int_t)call->shard_id, "Shards",
                     (json_int_t)shards_total(api_shards(call->api)), "Index",
                     (json_int_t)view->index, "Term", (json_int_t)view->term, "ClusterId", cluster,
                     "NodeId", (json_int_t)api_config(call->api)->node_id, "Version",
                     api_config(call->api)->version, "TimeMs",
                     (json_int_t)shard_now_ms(shard_of(call)), "Files", files);
}

static void on_begun(struct shard_backup_begin *begin, enum status status)
{
    struct backup_call *call = begin->data;
    call->beginning = false;
    switch (status) {
    case STATUS_OK:
        respond(call, 201, NULL, render(call));
        break;
    case STATUS_NOT_LEADER:
        fail_not_leader(call);
        break;
    case STATUS_EXISTS:
        fail(call, 409, "ResourceConflictException",
             "Another backup is under way. One that was given up ends ten minutes after its "
             "last read.");
        break;
    default:
        fail(call, 503, "ServiceException",
             arena_printf(&call->arena, "The backup cannot begin: %s. Try again.",
                          status_text(status)));
        break;
    }
}

/* {"Shard": K}, or nothing: the catalog. */
static bool read_shard(struct backup_call *call)
{
    struct slice body = call->request->body;
    json_t *json = json_loadb((const char *)body.data, body.length, JSON_REJECT_DUPLICATES, NULL);
    const json_t *shard = json_object_get(json, "Shard");
    json_int_t id = json_integer_value(shard);
    bool good =
        body.length == 0 || (json_is_object(json) && (shard == NULL || json_is_integer(shard)));
    json_decref(json);
    if (!good)
        fail(call, 400, "ValidationException", "The body must be an object of Shard, a number.");
    else if (id < 0 || id >= shards_total(api_shards(call->api)))
        fail(call, 404, "ResourceNotFoundException", "There is no such shard.");
    call->shard_id = (uint32_t)id;
    return good && id >= 0 && id < shards_total(api_shards(call->api));
}

static void run_begin(struct backup_call *call)
{
    if (!read_shard(call))
        return;
    if (shard_of(call) == NULL) {
        fail_not_leader(call);
        return;
    }
    call->beginning = true;
    call->begin = (struct shard_backup_begin){.done = on_begun, .data = call};
    shard_backup_begin(shard_of(call), &call->begin);
}

/* ---- reading and ending ---- */

static void fail_gone(struct backup_call *call)
{
    fail(call, 404, "ResourceNotFoundException",
         "There is no such backup or file: it was ended, was not read for ten minutes, or the "
         "leader "
         "has changed. Begin again.");
}

static void on_read(struct log_backup_read *read, enum status status)
{
    struct backup_call *call = read->data;
    struct buffer bytes = read->out;
    read->out = (struct buffer){0};
    if (status == STATUS_OK) {
        const struct admin_answer answer = answer_of(call);
        admin_answer_bytes(&answer, 200, "application/octet-stream", NULL, &bytes);
        call_free(call);
        return;
    }
    buffer_free(&bytes);
    fail(call, 500, "ServiceException", "The file cannot be read; the broker's disk is at fault.");
}

static bool number_of(struct slice text, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(text.data[i] - '0');
    }
    return text.length > 0 && text.length < 19;
}

static void run_read(struct backup_call *call, uint64_t id, struct slice name)
{
    uint64_t offset;
    if (!number_of(http_query_get(call->request, "offset"), &offset)) {
        fail(call, 400, "ValidationException", "The offset must be a number of bytes.");
        return;
    }
    call->read = (struct log_backup_read){
        .offset = offset, .length = LOG_BACKUP_READ_MAX, .done = on_read, .data = call};
    enum status status = STATUS_NOT_FOUND;
    for (uint32_t i = 0; i < shards_total(api_shards(call->api)) && status != STATUS_OK; i++) {
        struct shard *shard = shards_here(api_shards(call->api), i);
        if (shard != NULL)
            status = shard_backup_read(shard, id, name, &call->read);
    }
    if (status != STATUS_OK)
        fail_gone(call);
}

static void run_end(struct backup_call *call, uint64_t id)
{
    enum status status = STATUS_NOT_FOUND;
    for (uint32_t i = 0; i < shards_total(api_shards(call->api)) && status != STATUS_OK; i++) {
        struct shard *shard = shards_here(api_shards(call->api), i);
        if (shard != NULL)
            status = shard_backup_end(shard, id);
    }
    if (status == STATUS_OK)
        respond(call, 204, NULL, NULL);
    else
        fail_gone(call);
}

/* ---- the family ---- */

/* The path behind the prefix: "/ID" or "/ID/NAME". */
static bool parse_path(struct slice path, uint64_t *id, struct slice *name)
{
    *id = 0;
    if (path.length < ID_DIGITS + 1 || path.data[0] != '/')
        return false;
    for (size_t i = 1; i <= ID_DIGITS; i++) {
        uint8_t c = path.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        *id = *id << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *name = slice_sub(path, ID_DIGITS + 1);
    return name->length == 0 || name->data[0] == '/';
}

static bool permitted(struct backup_call *call)
{
    struct auth_failure failure = {0};
    struct auth_caller caller;
    struct auth_question question = {
        .action = ACTION,
        .resource = slice_of(arena_printf(&call->arena, "arn:aws:iam::%s:cluster/*",
                                          api_config(call->api)->account_id))};
    if (access_authenticate(call->api, call->request, SERVICE, NULL, &call->arena, &caller,
                            &failure) &&
        auth_authorize(api_auth(call->api), &caller, &question, &call->arena, &failure))
        return true;
    fail(call, auth_failure_status(failure.code), auth_failure_exception(failure.code),
         failure.message);
    return false;
}

static void run(struct backup_call *call)
{
    struct slice path = slice_sub(call->request->path, strlen(PREFIX));
    struct slice method = call->request->method;
    struct slice name;
    uint64_t id;
    if (path.length == 0 && slice_is(method, "POST"))
        run_begin(call);
    else if (parse_path(path, &id, &name) && name.length > 1 && slice_is(method, "GET"))
        run_read(call, id, slice_sub(name, 1));
    else if (parse_path(path, &id, &name) && name.length == 0 && slice_is(method, "DELETE"))
        run_end(call, id);
    else
        fail(call, 404, "ResourceNotFoundException",
             "There is nothing at this path, or not with this method.");
}

static void backup_handle(struct api *api, struct http_request *request)
{
    struct backup_call *call = calloc(1, sizeof *call);
    ASSERT(call != NULL);
    call->api = api;
    call->request = request;
    call->started_ns = clock_monotonic_ns();
    request->data = call;
    if (permitted(call))
        run(call);
}

static void backup_abort(struct api *api, struct http_request *request)
{
    (void)api;
    struct backup_call *call = request->data;
    if (call == NULL)
        return;
    call->request = NULL; /* what is under way ends the call */
    if (call->beginning) {
        shard_backup_forget(shard_of(call), &call->begin);
        arena_free(&call->arena);
        free(call);
    }
}

static bool backup_matches(const struct http_request *request)
{
    if (!slice_starts_with(request->path, PREFIX))
        return false;
    return request->path.length == strlen(PREFIX) || request->path.data[strlen(PREFIX)] == '/';
}

const struct api_family api_family_backup = {
    .name = "backup",
    .matches = backup_matches,
    .body_bytes_max = BODY_BYTES_MAX,
    .handle = backup_handle,
    .abort = backup_abort,
    .works_unready = true,
};
