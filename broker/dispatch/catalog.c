/* SPDX-License-Identifier: Apache-2.0 */
/* The dispatcher's view of the catalog: functions and event sources, parsed once per version.
 *
 * The core keeps configurations as opaque JSON. Parsing that for each batch would cost more than
 * the batch, so it is done when the catalog changes, and only for what has another version than
 * before. Entries outlive the catalog's records while work refers to them: a deleted function's
 * runs finish, no new ones start.
 *
 *   I1  functions are found by name, mappings by uuid, a function's events through the function
 *   I2  an entry that is not `present` is freed when its last reference goes
 *   I3  every source holds a reference to its function, every batch one to its source
 */
#include "broker/dispatch/internal.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <utlist.h>

static struct function_entry *function_find(struct dispatch *dispatch, struct slice name)
{
    struct function_entry *function = NULL;
    HASH_FIND(hh, dispatch->functions, name.data, name.length, function);
    return function;
}

void function_ref(struct function_entry *function)
{
    function->refs++;
}

void function_unref(struct dispatch *dispatch, struct function_entry *function)
{
    ASSERT(function->refs > 0);
    if (--function->refs > 0 || function->present)
        return;
    HASH_DELETE(hh, dispatch->functions, function); /* I2 */
    arena_free(&function->arena);
    free(function->name);
    free(function->arn);
    free(function);
}

static struct function_entry *function_new(struct dispatch *dispatch, struct slice name)
{
    struct function_entry *function = memory_new(1, sizeof *function);
    struct buffer arn = {0};
    buffer_printf(&arn, "arn:aws:lambda:%s:%s:function:%.*s", dispatch->region,
                  dispatch->account_id, SLICE_ARGS(name));
    function->name = text_new(name);
    function->arn = text_new(buffer_slice(&arn));
    buffer_free(&arn);
    HASH_ADD_KEYPTR(hh, dispatch->functions, function->name, name.length, function);
    return function;
}

static void function_parse(struct function_entry *function, const struct function_view *view,
                           uint64_t id)
{
    function->present = true;
    function->id = id;
    if (function->revision == view->version)
        return;
    function->revision = view->version;
    function->code_bytes = view->code_bytes;
    memcpy(function->code_sha256, view->code_sha256, SHA256_BYTES);
    arena_free(&function->arena);
    memset(&function->config, 0, sizeof function->config);
    function->usable =
        function_config_decode(view->config, &function->arena, &function->config) == STATUS_OK;
    if (!function->usable)
        trace_error("dispatch", "function_unreadable", "function=%s revision=%" PRIu64,
                    function->name, function->revision);
}

/* ---- sources ---- */

static uint32_t shard_of_name(const struct dispatch *dispatch, struct slice queue_name)
{
    uint32_t shard;
    uint32_t queue_shards;
    core_place(shard_core(dispatch->catalog), &shard, &queue_shards);
    return shard_of_queue_name(queue_name, queue_shards);
}

static struct source *source_new(struct dispatch *dispatch, enum source_kind kind,
                                 struct function_entry *function, struct slice queue_name)
{
    struct source *source = memory_new(1, sizeof *source);
    struct buffer arn = {0};
    buffer_printf(&arn, "arn:aws:sqs:%s:%s:%.*s", dispatch->region, dispatch->account_id,
                  SLICE_ARGS(queue_name));
    source->dispatch = dispatch;
    source->kind = kind;
    source->function = function;
    source->queue_name = text_new(queue_name);
    source->queue_arn = text_new(buffer_slice(&arn));
    source->shard_id = shard_of_name(dispatch, queue_name);
    source->batch_size = 1;
    source->last_result = "No records processed";
    source->refs = 1; /* the list's own */
    buffer_free(&arn);
    scaling_init(&source->scaling, 1);
    function_ref(function); /* I3 */
    DL_APPEND(dispatch->sources, source);
    return source;
}

void source_unref(struct source *source)
{
    ASSERT(source->refs > 0);
    if (--source->refs > 0)
        return;
    function_unref(source->dispatch, source->function);
    free(source->queue_name);
    free(source->queue_arn);
    free(source);
}

static void source_drop(struct source *source)
{
    DL_DELETE(source->dispatch->sources, source);
    if (source->kind == SOURCE_MAPPING)
        HASH_DELETE(hh, source->dispatch->mappings, source);
    else
        source->function->async = NULL;
    source->enabled = source->present = false;
    source_unref(source);
}

static void mapping_parse(struct source *source, const struct mapping_view *view)
{
    struct arena arena = {0};
    struct mapping_config config;
    source->version = view->version;
    source->enabled = mapping_config_decode(view->config, &arena, &config) == STATUS_OK;
    if (source->enabled) {
        source->enabled = config.enabled;
        if (source->batch_size != config.batch_size)
            scaling_init(&source->scaling, config.batch_size);
        source->batch_size = config.batch_size;
        source->window_ms = config.batching_window_s * 1000ull;
        source->concurrency_max = config.concurrency_max;
        source->report_item_failures = config.report_item_failures;
    } else {
        trace_error("dispatch", "mapping_unreadable", "function=%s queue=\"%s\"",
                    source->function->name, source->queue_name);
    }
    arena_free(&arena);
}

static void catalog_add_mapping(struct dispatch *dispatch, const struct mapping_view *view)
{
    struct function_entry *function = function_find(dispatch, view->function_name);
    if (function == NULL || !function->present)
        return; /* the core deletes a function's mappings with it */
    struct source *source = NULL;
    HASH_FIND(hh, dispatch->mappings, view->uuid, UUID_BYTES, source);
    if (source != NULL &&
        (source->function != function || !slice_is(view->queue_name, source->queue_name))) {
        source_drop(source); /* re-targeted: a new source, nothing learnt carries over */
        source = NULL;
    }
    if (source == NULL) {
        source = source_new(dispatch, SOURCE_MAPPING, function, view->queue_name);
        memcpy(source->uuid, view->uuid, UUID_BYTES);
        HASH_ADD(hh, dispatch->mappings, uuid, UUID_BYTES, source);
    }
    if (source->version != view->version)
        mapping_parse(source, view);
    source->present = source->hinted = true;
}

static void catalog_add_async(struct dispatch *dispatch, struct function_entry *function)
{
    struct source *source = function->async;
    if (source == NULL) {
        struct buffer name = {0};
        buffer_printf(&name, "%s%s", ASYNC_QUEUE_PREFIX, function->name);
        source = source_new(dispatch, SOURCE_ASYNC, function, buffer_slice(&name));
        function->async = source;
        buffer_free(&name);
    }
    source->present = source->hinted = source->enabled = true;
}

static void catalog_sweep(struct dispatch *dispatch)
{
    struct source *source;
    struct source *source_after;
    DL_FOREACH_SAFE(dispatch->sources, source, source_after)
    {
        if (!source->present)
            source_drop(source);
    }
    struct function_entry *function;
    struct function_entry *function_after;
    HASH_ITER(hh, dispatch->functions, function, function_after)
    {
        function_ref(function);
        function_unref(dispatch, function);
    }
}

static void catalog_unmark(struct dispatch *dispatch)
{
    struct source *source;
    DL_FOREACH(dispatch->sources, source)
    {
        source->present = false;
    }
    struct function_entry *function;
    struct function_entry *after;
    HASH_ITER(hh, dispatch->functions, function, after)
    {
        function->present = false;
    }
}

void catalog_refresh(struct dispatch *dispatch)
{
    if (!dispatch->catalog_stale)
        return;
    dispatch->catalog_stale = false;
    catalog_unmark(dispatch);
    const struct core *core = shard_core(dispatch->catalog);
    struct function_view function = {0};
    for (struct slice after = {0}; core_function_next(core, after, &function);
         after = function.name) {
        struct function_entry *entry = function_find(dispatch, function.name);
        entry = entry != NULL ? entry : function_new(dispatch, function.name);
        function_parse(entry, &function, core_function_id(core, function.name));
        catalog_add_async(dispatch, entry);
    }
    struct mapping_view mapping;
    for (size_t position = 0; core_mapping_next(core, &position, &mapping);)
        catalog_add_mapping(dispatch, &mapping);
    catalog_sweep(dispatch);
}

struct function_entry *catalog_function(struct dispatch *dispatch, struct slice name)
{
    catalog_refresh(dispatch);
    struct function_entry *function = function_find(dispatch, name);
    return function != NULL && function->present ? function : NULL;
}

void catalog_free(struct dispatch *dispatch)
{
    catalog_unmark(dispatch);
    catalog_sweep(dispatch);
    ASSERT(dispatch->sources == NULL && dispatch->mappings == NULL);
    ASSERT(dispatch->functions == NULL);
}
