/* SPDX-License-Identifier: Apache-2.0 */
/* The family of /admin/keys: access keys, as `millrace key` manages them. Requests are signed like
 * all others (service "millrace"); the actions are millrace:CreateKey and so on, so a key can be
 * allowed to make keys, or not. JSON in and out; errors as in the Lambda API, because clients know
 * how to read those.
 *
 *     GET    /admin/keys               ListKeys
 *     POST   /admin/keys               CreateKey: {"Name", "AccountId", "Policy"}, all optional
 *     GET    /admin/keys/ID            GetKey
 *     PUT    /admin/keys/ID            UpdateKey: {"Status": "Active" or "Inactive"}
 *     DELETE /admin/keys/ID            DeleteKey
 *     PUT    /admin/keys/ID/policy     PutKeyPolicy: the policy
 *     DELETE /admin/keys/ID/policy     DeleteKeyPolicy
 *
 * A secret is shown once, in the answer to CreateKey. Changes are made under the version that was
 * read: of two at once one is refused. */
#include "broker/api/access.h"
#include "broker/api/admin_answer.h"
#include "broker/auth/policy.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <stdlib.h>
#include <time.h>

#define PREFIX         "/admin/keys"
#define SERVICE        "millrace"
#define BODY_BYTES_MAX 65536
#define ID_PREFIX      "MRAK"
#define ID_LETTERS     16
#define SECRET_LETTERS 40

struct key_call;
typedef void (*key_run_fn)(struct key_call *call);

struct key_action {
    const char *method;
    const char *name;   /* "millrace:ListKeys" */
    const char *suffix; /* behind the id; NULL: the path has no id */
    key_run_fn run;
};

struct key_call {
    struct api *api;
    struct http_request *request; /* NULL: the client has gone */
    struct arena arena;
    const struct key_action *action;
    uint64_t started_ns;
    struct slice id;
    struct auth_caller caller;
    struct key_record record; /* as read, or as made */
    uint64_t version;         /* of the record as read; 0: it is new */
    struct shard_call proposal;
};

/* ---- answers ---- */

static void call_free(struct key_call *call)
{
    arena_free(&call->arena);
    free(call);
}

static void respond(struct key_call *call, int status, const char *code, json_t *body)
{
    const struct admin_answer answer = {
        .api = call->api,
        .request = call->request,
        .family = "keys",
        .action = call->action != NULL ? call->action->name : "none",
        .started_ns = call->started_ns,
    };
    admin_answer_json(&answer, status, code, body);
    call_free(call);
}

static void fail(struct key_call *call, int status, const char *code, const char *message)
{
    respond(call, status, code, admin_error(status, message));
}

static void fail_missing(struct key_call *call)
{
    fail(call, 404, "ResourceNotFoundException", "There is no access key of this id.");
}

/* ---- rendering ---- */

static const char *time_text(struct key_call *call, uint64_t epoch_ms)
{
    char text[32];
    struct tm parts;
    time_t seconds = (time_t)(epoch_ms / 1000);
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        return "";
    return arena_text(&call->arena, slice_of(text));
}

static json_t *render(struct key_call *call, const struct key_record *record)
{
    json_t *policy = json_loadb((const char *)record->policy.data, record->policy.length, 0, NULL);
    return json_pack("{s:s%, s:s%, s:s%, s:s, s:b, s:s, s:o}", "AccessKeyId", record->id.data,
                     record->id.length, "Name", record->name.data, record->name.length, "AccountId",
                     record->account.data, record->account.length, "Status",
                     record->disabled ? "Inactive" : "Active", "Root", record->root, "CreateDate",
                     time_text(call, record->created_ms), "Policy",
                     policy != NULL ? policy : json_null());
}

/* ---- reading ---- */

static bool cluster_secret(struct key_call *call, uint8_t secret[SEAL_CLUSTER_SECRET_BYTES])
{
    uint8_t cluster_id[UUID_BYTES];
    return core_bootstrapped(shard_core(api_catalog(call->api)), cluster_id, secret);
}

static bool decode(struct key_call *call, const struct document_view *document, struct slice id,
                   struct key_record *out)
{
    uint8_t secret[SEAL_CLUSTER_SECRET_BYTES];
    struct slice content = arena_copy(&call->arena, document->content);
    return cluster_secret(call, secret) &&
           key_record_decode(id, content, secret, &call->arena, out) == STATUS_OK;
}

/* Read the key that the path names. False: the call was answered. */
static bool load(struct key_call *call)
{
    struct document_view document;
    if (!core_document_get(shard_core(api_catalog(call->api)),
                           key_document_name(call->id, &call->arena), &document)) {
        fail_missing(call);
        return false;
    }
    call->version = document.version;
    if (!decode(call, &document, call->id, &call->record)) {
        fail(call, 500, "ServiceException", "The key cannot be read: it is damaged.");
        return false;
    }
    return true;
}

static void run_list(struct key_call *call)
{
    json_t *list = json_array();
    const struct core *core = shard_core(api_catalog(call->api));
    struct document_view document = {.name = SLICE_LITERAL(KEY_DOCUMENT_PREFIX)};
    while (core_document_next(core, document.name, &document)) {
        struct slice id = key_document_id(document.name);
        struct key_record record;
        if (id.data == NULL)
            break; /* past the keys: names are in order */
        id = arena_copy(&call->arena, id);
        if (decode(call, &document, id, &record))
            json_array_append_new(list, render(call, &record));
    }
    respond(call, 200, NULL, json_pack("{s:o}", "Keys", list));
}

static void run_get(struct key_call *call)
{
    if (load(call))
        respond(call, 200, NULL, render(call, &call->record));
}

/* ---- changing ---- */

static void on_done(struct shard_call *proposal, enum status status,
                    const struct core_result *results, uint32_t count)
{
    struct key_call *call = proposal->data;
    bool deleted = strcmp(call->action->name, "millrace:DeleteKey") == 0;
    bool created = !deleted && call->version == 0;
    if (status != STATUS_OK) {
        fail(call, 503, "ServiceException", "This broker cannot commit changes now. Try again.");
        return;
    }
    ASSERT(count == 1);
    if (results[0].code == CORE_NO_DOCUMENT) {
        fail_missing(call);
    } else if (results[0].code != CORE_OK) {
        fail(call, 409, "ResourceConflictException",
             "The key was changed by someone else meanwhile. Try again.");
    } else if (deleted) {
        respond(call, 204, NULL, NULL);
    } else {
        json_t *body = render(call, &call->record);
        if (created)
            json_object_set_new(
                body, "SecretAccessKey",
                json_stringn((const char *)call->record.secret.data, call->record.secret.length));
        respond(call, created ? 201 : 200, NULL, body);
    }
}

static void propose(struct key_call *call, const struct command *command)
{
    trace_info("auth", "key_change", "action=%s id=%.*s by=%.*s", call->action->name,
               SLICE_ARGS(call->record.id), SLICE_ARGS(call->caller.key_id));
    call->proposal.done = on_done;
    call->proposal.data = call;
    call->proposal.since_ms = call->request->arrived_ms;
    shard_call_add(&call->proposal, command);
    shard_call(api_catalog(call->api), &call->proposal);
}

static void put(struct key_call *call)
{
    uint8_t secret[SEAL_CLUSTER_SECRET_BYTES];
    struct buffer content = {0};
    if (!cluster_secret(call, secret)) {
        fail(call, 503, "ServiceException", "This broker is not ready. Try again.");
        return;
    }
    key_record_encode(&call->record, secret, &content);
    struct command command = {.type = COMMAND_DOCUMENT_PUT};
    command.document_put.name = key_document_name(call->record.id, &call->arena);
    command.document_put.version = call->version;
    command.document_put.content = buffer_slice(&content);
    propose(call, &command);
    buffer_free(&content);
}

/* The letters are those of base 32 and base 64 that need no escape anywhere. */
static struct slice random_text(struct key_call *call, const char *prefix, const char *letters,
                                size_t letter_count, size_t count)
{
    uint8_t random[64];
    struct buffer text = {0};
    ASSERT(count <= sizeof random);
    ASSERT(256 % letter_count == 0); /* all letters are as likely */
    clock_random(random, count);
    buffer_add_text(&text, prefix);
    for (size_t i = 0; i < count; i++)
        buffer_add_byte(&text, (uint8_t)letters[random[i] % letter_count]);
    struct slice copy = arena_copy(&call->arena, buffer_slice(&text));
    buffer_free(&text);
    return copy;
}

static struct slice text_member(struct key_call *call, const json_t *input, const char *name,
                                struct slice or_else)
{
    const json_t *value = json_object_get(input, name);
    if (!json_is_string(value))
        return or_else;
    return arena_copy(&call->arena,
                      slice_make(json_string_value(value), json_string_length(value)));
}

static bool set_policy(struct key_call *call, struct slice json)
{
    const char *wrong = auth_policy_check(json, false);
    if (wrong != NULL) {
        fail(call, 400, "MalformedPolicyDocumentException", wrong);
        return false;
    }
    call->record.policy = arena_copy(&call->arena, json);
    return true;
}

/* The policy may be an object, or a text that holds one, as IAM's API has it. */
static bool read_policy(struct key_call *call, const json_t *policy)
{
    if (policy == NULL || json_is_null(policy))
        return true;
    if (json_is_string(policy))
        return set_policy(call, slice_make(json_string_value(policy), json_string_length(policy)));
    char *text = json_dumps(policy, JSON_COMPACT | JSON_ENCODE_ANY);
    bool good = set_policy(call, slice_of(text));
    free(text);
    return good;
}

static bool account_valid(struct slice account)
{
    for (size_t i = 0; i < account.length; i++) {
        if (account.data[i] < '0' || account.data[i] > '9')
            return false;
    }
    return account.length == 12;
}

static json_t *read_input(struct key_call *call)
{
    struct slice body = call->request->body;
    json_t *input = body.length > 0 ? json_loadb((const char *)body.data, body.length,
                                                 JSON_REJECT_DUPLICATES, NULL)
                                    : json_object();
    if (json_is_object(input))
        return input;
    json_decref(input);
    fail(call, 400, "SerializationException", "The body must be a JSON object.");
    return NULL;
}

static void create(struct key_call *call, const json_t *input)
{
    static const char id_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    struct slice account = slice_of(api_config(call->api)->account_id);
    struct key_record *record = &call->record;
    record->id = random_text(call, ID_PREFIX, id_letters, sizeof id_letters - 1, ID_LETTERS);
    record->secret = random_text(call, "", letters, sizeof letters - 1, SECRET_LETTERS);
    record->name = text_member(call, input, "Name", record->id);
    record->account = text_member(call, input, "AccountId", account);
    record->created_ms = clock_now_ms();
    if (!key_name_valid(record->name))
        fail(call, 400, "ValidationException",
             "Name must be 1 to 64 of A-Z a-z 0-9 + = , . @ _ and -.");
    else if (!account_valid(record->account))
        fail(call, 400, "ValidationException", "AccountId must be 12 digits.");
    else if (read_policy(call, json_object_get(input, "Policy")))
        put(call);
}

static void run_create(struct key_call *call)
{
    json_t *input = read_input(call);
    if (input == NULL)
        return;
    create(call, input);
    json_decref(input);
}

static void run_update(struct key_call *call)
{
    json_t *input = read_input(call);
    if (input == NULL)
        return;
    struct slice status = text_member(call, input, "Status", (struct slice){0});
    json_decref(input);
    if (!slice_is(status, "Active") && !slice_is(status, "Inactive")) {
        fail(call, 400, "ValidationException", "Status must be Active or Inactive.");
    } else if (load(call)) {
        call->record.disabled = slice_is(status, "Inactive");
        put(call);
    }
}

static void run_put_policy(struct key_call *call)
{
    struct slice json = call->request->body;
    if (load(call) && set_policy(call, json))
        put(call);
}

static void run_delete_policy(struct key_call *call)
{
    if (!load(call))
        return;
    call->record.policy = (struct slice){0};
    put(call);
}

static void run_delete(struct key_call *call)
{
    struct command command = {.type = COMMAND_DOCUMENT_DELETE};
    call->record.id = call->id;
    command.document_delete.name = key_document_name(call->id, &call->arena);
    propose(call, &command);
}

/* ---- the family ---- */

static const struct key_action actions[] = {
    {"GET", "millrace:ListKeys", NULL, run_list},
    {"POST", "millrace:CreateKey", NULL, run_create},
    {"GET", "millrace:GetKey", "", run_get},
    {"PUT", "millrace:UpdateKey", "", run_update},
    {"DELETE", "millrace:DeleteKey", "", run_delete},
    {"PUT", "millrace:PutKeyPolicy", "/policy", run_put_policy},
    {"DELETE", "millrace:DeleteKeyPolicy", "/policy", run_delete_policy},
};

/* Split "/admin/keys/ID/policy". */
static bool read_path(struct slice path, struct slice *id, struct slice *suffix)
{
    path = slice_sub(path, strlen(PREFIX));
    *id = *suffix = (struct slice){0};
    if (path.length <= 1)
        return true;
    *id = slice_sub(path, 1);
    ptrdiff_t slash = slice_find(*id, '/');
    *suffix = SLICE_LITERAL("");
    if (slash >= 0) {
        *suffix = slice_sub(*id, (size_t)slash);
        id->length = (size_t)slash;
    }
    return key_id_valid(*id);
}

static const struct key_action *action_of(const struct http_request *request, struct slice suffix)
{
    for (size_t i = 0; i < ARRAY_COUNT(actions); i++) {
        bool same = actions[i].suffix == NULL
                        ? suffix.data == NULL
                        : suffix.data != NULL && slice_is(suffix, actions[i].suffix);
        if (same && slice_is(request->method, actions[i].method))
            return &actions[i];
    }
    return NULL;
}

static bool permitted(struct key_call *call)
{
    struct auth_failure failure = {0};
    const struct api_config *config = api_config(call->api);
    struct slice id = call->id.data != NULL ? call->id : SLICE_LITERAL("*");
    struct auth_question question = {
        .action = call->action->name,
        .resource = slice_of(arena_printf(&call->arena, "arn:aws:iam::%s:access-key/%.*s",
                                          config->account_id, SLICE_ARGS(id)))};
    if (access_authenticate(call->api, call->request, SERVICE, NULL, &call->arena, &call->caller,
                            &failure) &&
        auth_authorize(api_auth(call->api), &call->caller, &question, &call->arena, &failure))
        return true;
    fail(call, auth_failure_status(failure.code), auth_failure_exception(failure.code),
         failure.message);
    return false;
}

static struct key_call *call_new(struct api *api, struct http_request *request)
{
    struct key_call *call = calloc(1, sizeof *call);
    ASSERT(call != NULL);
    call->api = api;
    call->request = request;
    call->started_ns = clock_monotonic_ns();
    request->data = call;
    return call;
}

static void keys_handle(struct api *api, struct http_request *request)
{
    struct key_call *call = call_new(api, request);
    struct slice id;
    struct slice suffix;
    bool known = read_path(request->path, &id, &suffix);
    call->action = known ? action_of(request, suffix) : NULL;
    if (call->action == NULL) {
        fail(call, 404, "ResourceNotFoundException",
             "There is nothing at this path, or not with this method.");
        return;
    }
    if (id.data != NULL)
        call->id = arena_copy(&call->arena, id);
    if (permitted(call))
        call->action->run(call);
}

static void keys_abort(struct api *api, struct http_request *request)
{
    struct key_call *call = request->data;
    (void)api;
    if (call != NULL)
        call->request = NULL; /* the command under way ends the call */
}

static bool keys_matches(const struct http_request *request)
{
    if (!slice_starts_with(request->path, PREFIX))
        return false;
    return request->path.length == strlen(PREFIX) || request->path.data[strlen(PREFIX)] == '/';
}

static enum api_reads keys_reads(const struct http_request *request)
{
    (void)request;
    return API_READS_CATALOG;
}

const struct api_family api_family_keys = {
    .name = "keys",
    .matches = keys_matches,
    .body_bytes_max = BODY_BYTES_MAX,
    .handle = keys_handle,
    .abort = keys_abort,
    .reads = keys_reads,
};
