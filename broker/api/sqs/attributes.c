/* SPDX-License-Identifier: Apache-2.0 */
/* Queue attributes, one row each (sqs_attributes.def): how its text is checked and stored, and how
 * it is shown again. Numbers that the core acts on are fields of queue_settings. What is only
 * stored and echoed (policies, encryption) is in settings.extras, a JSON object from name to text.
 * The redrive policies are in redrive.c.
 *
 * CreateQueue's comparison with an existing queue needs no second set of rules: a given attribute
 * differs when setting it would change what reading it shows. */
#include "broker/api/sqs/attributes.h"

#include "broker/api/sqs/redrive.h"
#include "proto/base/assert.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#define POLICY_BYTES_MAX    20480 /* of a Policy, as at IAM */
#define KMS_REUSE_MIN_S     60
#define KMS_REUSE_MAX_S     86400
#define KMS_REUSE_DEFAULT_S 300 /* not shown without a key, also when it was set */
#define KMS_KEY_BYTES_MAX   2048

const struct queue_settings attributes_default = {
    .delay_s = 0,
    .message_bytes_max = 1048576,
    .retention_s = 345600,
    .receive_wait_s = 0,
    .visibility_s = 30,
};

struct change {
    struct sqs_call *call;
    struct slice queue_name;
    bool creating;
    struct queue_settings *settings;
    json_t *extras; /* what settings->extras holds */
    struct sqs_error *error;
};

struct view {
    struct sqs_call *call;
    const struct queue_view *queue;
    json_t *extras;
};

struct row {
    const char *name;
    bool (*set)(struct change *change, const struct row *row, struct slice value);
    struct slice (*get)(struct view *view, const struct row *row); /* absent: has no value */
    size_t offset;
    uint32_t minimum;
    uint32_t maximum;
    const char *off; /* of a flag */
    const char *on;
    bool unknown_on_standard;
};

/* ---- setting ---- */

static bool bad_value(struct change *change, const struct row *row)
{
    *change->error = sqs_error_make(change->call, SQS_ERROR_INVALID_ATTRIBUTE_VALUE,
                                    "Invalid value for the parameter %s.", row->name);
    return false;
}

static bool bad_name(struct change *change, const struct row *row)
{
    *change->error = sqs_error_make(change->call, SQS_ERROR_INVALID_ATTRIBUTE_NAME,
                                    "Unknown Attribute %s.", row->name);
    return false;
}

static bool parse_number(struct slice text, uint32_t *out)
{
    uint64_t number = 0;
    if (text.length == 0 || text.length > 10)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    }
    *out = (uint32_t)number;
    return number <= UINT32_MAX;
}

static bool set_number(struct change *change, const struct row *row, struct slice value)
{
    uint32_t number;
    if (!parse_number(value, &number) || number < row->minimum || number > row->maximum)
        return bad_value(change, row);
    *(uint32_t *)(void *)((char *)change->settings + row->offset) = number;
    return true;
}

static bool set_read_only(struct change *change, const struct row *row, struct slice value)
{
    (void)value;
    return bad_name(change, row);
}

static void extras_set(struct change *change, const char *name, struct slice value)
{
    if (value.length == 0)
        json_object_del(change->extras, name);
    else
        json_object_set_new(change->extras, name,
                            json_stringn((const char *)value.data, value.length));
}

/* Kept as it was written; empty removes it. What the evaluator does not understand is refused here,
 * or it could only guess later. */
static bool set_json(struct change *change, const struct row *row, struct slice value)
{
    if (value.length > POLICY_BYTES_MAX)
        return bad_value(change, row);
    if (value.length > 0) {
        json_t *policy = json_loadb((const char *)value.data, value.length, 0, NULL);
        bool object = json_is_object(policy);
        json_decref(policy);
        if (!object)
            return bad_value(change, row);
        const char *wrong = auth_policy_check(value, true);
        if (wrong != NULL) {
            *change->error =
                sqs_error_make(change->call, SQS_ERROR_INVALID_ATTRIBUTE_VALUE,
                               "Invalid value for the parameter Policy. Reason: %s", wrong);
            return false;
        }
    }
    extras_set(change, row->name, value);
    return true;
}

static bool set_kms_key(struct change *change, const struct row *row, struct slice value)
{
    if (value.length > KMS_KEY_BYTES_MAX)
        return bad_value(change, row);
    extras_set(change, row->name, value);
    if (value.length > 0)
        extras_set(change, "SqsManagedSseEnabled", SLICE_LITERAL("false"));
    return true;
}

static bool set_kms_reuse(struct change *change, const struct row *row, struct slice value)
{
    uint32_t number;
    if (!parse_number(value, &number) || number < KMS_REUSE_MIN_S || number > KMS_REUSE_MAX_S)
        return bad_value(change, row);
    extras_set(change, row->name, number == KMS_REUSE_DEFAULT_S ? (struct slice){0} : value);
    return true;
}

static bool set_sse(struct change *change, const struct row *row, struct slice value)
{
    if (!slice_is_nocase(value, "true") && !slice_is_nocase(value, "false"))
        return bad_value(change, row);
    bool on = slice_is_nocase(value, "true");
    extras_set(change, row->name, on ? SLICE_LITERAL("true") : SLICE_LITERAL("false"));
    if (on) {
        extras_set(change, "KmsMasterKeyId", (struct slice){0});
        extras_set(change, "KmsDataKeyReusePeriodSeconds", (struct slice){0});
    }
    return true;
}

static bool set_allow(struct change *change, const struct row *row, struct slice value)
{
    if (!redrive_allow_check(change->call, value, change->error))
        return false;
    extras_set(change, row->name, value);
    return true;
}

static bool set_redrive(struct change *change, const struct row *row, struct slice value)
{
    (void)row;
    return redrive_set(change->call, change->queue_name, value, change->settings, change->error);
}

/* A queue is FIFO from its creation or never; settings->fifo holds by now what it is. */
static bool set_fifo(struct change *change, const struct row *row, struct slice value)
{
    bool on = slice_is_nocase(value, "true");
    if (on && change->settings->fifo)
        return true;
    if (change->creating && !change->settings->fifo && slice_is_nocase(value, "false"))
        return bad_name(change, row);
    if (change->creating && !slice_is_nocase(value, "false"))
        return bad_value(change, row);
    *change->error = sqs_error_make(change->call, SQS_ERROR_INVALID_ATTRIBUTE_VALUE,
                                    "Invalid value for the parameter FifoQueue. Reason: Modifying "
                                    "queue type is not supported.");
    return false;
}

static bool set_flag(struct change *change, const struct row *row, struct slice value)
{
    bool on = slice_is_nocase(value, row->on);
    if (!change->settings->fifo && row->unknown_on_standard)
        return bad_name(change, row);
    if (!change->settings->fifo) {
        *change->error =
            sqs_error_make(change->call, SQS_ERROR_INVALID_ATTRIBUTE_NAME,
                           "You can specify the %s only when FifoQueue is set to true.", row->name);
        return false;
    }
    if (!on && !slice_is_nocase(value, row->off))
        return bad_value(change, row);
    *(bool *)((char *)change->settings + row->offset) = on;
    return true;
}

/* ---- getting ---- */

static struct slice number_text(struct view *view, uint64_t number)
{
    return slice_of(arena_printf(&view->call->arena, "%" PRIu64, number));
}

static struct slice get_number(struct view *view, const struct row *row)
{
    const char *settings = (const char *)&view->queue->settings;
    return number_text(view, *(const uint32_t *)(const void *)(settings + row->offset));
}

static struct slice get_extra(struct view *view, const struct row *row)
{
    const json_t *value = json_object_get(view->extras, row->name);
    if (!json_is_string(value))
        return (struct slice){0};
    return arena_copy(&view->call->arena,
                      slice_make(json_string_value(value), json_string_length(value)));
}

static struct slice get_kms_reuse(struct view *view, const struct row *row)
{
    struct slice value = get_extra(view, row);
    if (value.data == NULL && json_object_get(view->extras, "KmsMasterKeyId") != NULL)
        return number_text(view, KMS_REUSE_DEFAULT_S);
    return value;
}

static struct slice get_sse(struct view *view, const struct row *row)
{
    struct slice value = get_extra(view, row);
    return value.data != NULL ? value : SLICE_LITERAL("true");
}

static struct slice get_visible(struct view *view, const struct row *row)
{
    (void)row;
    return number_text(view, view->queue->visible);
}

static struct slice get_in_flight(struct view *view, const struct row *row)
{
    (void)row;
    return number_text(view, view->queue->in_flight);
}

static struct slice get_delayed(struct view *view, const struct row *row)
{
    (void)row;
    return number_text(view, view->queue->delayed);
}

static struct slice get_created(struct view *view, const struct row *row)
{
    (void)row;
    return number_text(view, view->queue->created_ms / 1000);
}

static struct slice get_modified(struct view *view, const struct row *row)
{
    (void)row;
    return number_text(view, view->queue->modified_ms / 1000);
}

static struct slice get_arn(struct view *view, const struct row *row)
{
    (void)row;
    return slice_of(queue_arn_text(view->call, view->queue->name));
}

static struct slice get_redrive(struct view *view, const struct row *row)
{
    (void)row;
    return redrive_get(view->call, &view->queue->settings);
}

static struct slice get_fifo(struct view *view, const struct row *row)
{
    (void)row;
    return view->queue->settings.fifo ? SLICE_LITERAL("true") : (struct slice){0};
}

static struct slice get_flag(struct view *view, const struct row *row)
{
    const char *settings = (const char *)&view->queue->settings;
    if (!view->queue->settings.fifo)
        return (struct slice){0};
    return slice_of(*(const bool *)(settings + row->offset) ? row->on : row->off);
}

/* ---- the table ---- */

#define set_visible   set_read_only
#define set_in_flight set_read_only
#define set_delayed   set_read_only
#define set_created   set_read_only
#define set_modified  set_read_only
#define set_arn       set_read_only
#define get_json      get_extra
#define get_allow     get_extra
#define get_kms_key   get_extra

static const struct row rows[] = {
#define NUMBER(Name, field, low, high, doc)                                                        \
    {.name = #Name,                                                                                \
     .set = set_number,                                                                            \
     .get = get_number,                                                                            \
     .offset = offsetof(struct queue_settings, field),                                             \
     .minimum = low,                                                                               \
     .maximum = high},
#define FLAG(Name, field, off_text, on_text, unknown, doc)                                         \
    {.name = #Name,                                                                                \
     .set = set_flag,                                                                              \
     .get = get_flag,                                                                              \
     .offset = offsetof(struct queue_settings, field),                                             \
     .off = off_text,                                                                              \
     .on = on_text,                                                                                \
     .unknown_on_standard = unknown},
#define OTHER(Name, kind, doc) {.name = #Name, .set = set_##kind, .get = get_##kind},
#include "broker/api/sqs/sqs_attributes.def"
#undef NUMBER
#undef FLAG
#undef OTHER
};

static const struct row *find_row(struct slice name)
{
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (slice_is(name, rows[i].name))
            return &rows[i];
    }
    return NULL;
}

bool attributes_name_known(struct slice name)
{
    return slice_is(name, "All") || find_row(name) != NULL;
}

static struct sqs_error unknown(struct sqs_call *call, struct slice name)
{
    return sqs_error_make(call, SQS_ERROR_INVALID_ATTRIBUTE_NAME, "Unknown Attribute %s.",
                          sqs_quote(call, name));
}

static json_t *extras_load(struct slice extras)
{
    json_t *object = NULL;
    if (extras.length > 0)
        object = json_loadb((const char *)extras.data, extras.length, 0, NULL);
    return object != NULL ? object : json_object();
}

static struct slice json_text(struct sqs_call *call, const json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    ASSERT(text != NULL);
    struct slice copy = arena_copy(&call->arena, slice_of(text));
    free(text);
    return copy;
}

static const struct sqs_pair *find_given(const struct sqs_list *given, const char *name)
{
    const struct sqs_pair *pairs = given->items;
    for (uint32_t i = 0; i < given->count; i++) {
        if (slice_is(pairs[i].key, name))
            return &pairs[i];
    }
    return NULL;
}

/* Two kinds of encryption at once are a contradiction that no order of setting them resolves. */
static bool encryption_contradicts(const struct sqs_list *given)
{
    const struct sqs_pair *key = find_given(given, "KmsMasterKeyId");
    const struct sqs_pair *sse = find_given(given, "SqsManagedSseEnabled");
    return key != NULL && key->value.length > 0 && sse != NULL &&
           slice_is_nocase(sse->value, "true");
}

bool attributes_ask_fifo(const struct sqs_list *given)
{
    const struct sqs_pair *fifo = find_given(given, "FifoQueue");
    return fifo != NULL && slice_is_nocase(fifo->value, "true");
}

/* Judged when all are set, because the two may be given in any order, or one of them earlier. */
static bool throughput_fits(struct change *change)
{
    if (!change->settings->throughput_per_group || change->settings->dedup_per_group)
        return true;
    *change->error = sqs_error_make(
        change->call, SQS_ERROR_INVALID_ATTRIBUTE_VALUE,
        "Invalid value for the parameter FifoThroughputLimit. Reason: To set FifoThroughputLimit "
        "to perMessageGroupId, the DeduplicationScope must be messageGroup.");
    return false;
}

static bool set_all(struct change *change, const struct sqs_list *given)
{
    const struct sqs_pair *pairs = given->items;
    for (uint32_t i = 0; i < given->count; i++) {
        const struct row *row = find_row(pairs[i].key);
        if (row == NULL) {
            *change->error = unknown(change->call, pairs[i].key);
            return false;
        }
        if (!row->set(change, row, pairs[i].value))
            return false;
    }
    return true;
}

bool attributes_set(struct sqs_call *call, struct slice queue_name, bool creating,
                    const struct sqs_list *given, struct queue_settings *settings,
                    struct sqs_error *error)
{
    if (encryption_contradicts(given)) {
        *error = sqs_error_make(call, SQS_ERROR_INVALID_ATTRIBUTE_NAME,
                                "You can use one type of server-side encryption (SSE) at one time. "
                                "You can either enable KMS SSE or SQS SSE.");
        return false;
    }
    if (creating)
        settings->fifo = settings->fifo || attributes_ask_fifo(given);
    struct change change = {call, queue_name, creating, settings, extras_load(settings->extras),
                            error};
    bool ok = set_all(&change, given) && throughput_fits(&change);
    if (ok)
        settings->extras = json_object_size(change.extras) > 0 ? json_text(call, change.extras)
                                                               : (struct slice){0};
    json_decref(change.extras);
    return ok;
}

static void get_row(struct view *view, const struct row *row, struct sqs_list *out)
{
    struct slice value = row->get(view, row);
    struct sqs_pair *pairs = out->items;
    if (value.data != NULL)
        pairs[out->count++] = (struct sqs_pair){slice_of(row->name), value};
}

static bool get_names(struct view *view, const struct sqs_list *names, struct sqs_list *out,
                      struct sqs_error *error)
{
    const struct slice *items = names->items;
    bool wanted[ARRAY_COUNT(rows)] = {false};
    for (uint32_t i = 0; i < names->count; i++) {
        const struct row *row = find_row(items[i]);
        bool all = slice_is(items[i], "All");
        if (row == NULL && !all) {
            *error = unknown(view->call, items[i]);
            return false;
        }
        for (size_t k = 0; k < ARRAY_COUNT(rows); k++)
            wanted[k] = wanted[k] || all || row == &rows[k];
    }
    for (size_t k = 0; k < ARRAY_COUNT(rows); k++) {
        if (wanted[k])
            get_row(view, &rows[k], out);
    }
    return true;
}

bool attributes_get(struct sqs_call *call, const struct queue_view *queue,
                    const struct sqs_list *names, struct sqs_list *out, struct sqs_error *error)
{
    struct view view = {call, queue, extras_load(queue->settings.extras)};
    *out = (struct sqs_list){arena_alloc(&call->arena, ARRAY_COUNT(rows) * sizeof(struct sqs_pair)),
                             0, true};
    bool ok = get_names(&view, names, out, error);
    json_decref(view.extras);
    return ok;
}

/* Policies are equal when they say the same, however they are written. */
static bool same_value(struct slice a, struct slice b)
{
    if (a.data == NULL || b.data == NULL)
        return a.data == b.data;
    if (slice_equal(a, b))
        return true;
    json_t *left = json_loadb((const char *)a.data, a.length, 0, NULL);
    json_t *right = json_loadb((const char *)b.data, b.length, 0, NULL);
    bool same = left != NULL && right != NULL && json_equal(left, right) == 1;
    json_decref(left);
    json_decref(right);
    return same;
}

static struct slice get_one(struct sqs_call *call, const struct queue_view *queue,
                            const struct row *row)
{
    struct view view = {call, queue, extras_load(queue->settings.extras)};
    struct slice value = row->get(&view, row);
    json_decref(view.extras);
    return value;
}

bool attributes_differ(struct sqs_call *call, const struct queue_view *queue,
                       const struct sqs_list *given, const char **different,
                       struct sqs_error *error)
{
    struct queue_view changed = *queue;
    *different = NULL;
    if (!attributes_set(call, queue->name, true, given, &changed.settings, error))
        return false;
    const struct sqs_pair *pairs = given->items;
    for (uint32_t i = 0; i < given->count && *different == NULL; i++) {
        const struct row *row = find_row(pairs[i].key);
        ASSERT(row != NULL);
        if (!same_value(get_one(call, queue, row), get_one(call, &changed, row)))
            *different = row->name;
    }
    return true;
}
