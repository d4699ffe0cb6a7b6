/* SPDX-License-Identifier: Apache-2.0 */
/* What the unit tests of the core share: a core with counted events, and one call per command.
 * After every command the core checks itself. */
#ifndef TESTS_UNIT_CORE_FIXTURE_H
#define TESTS_UNIT_CORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/core/core.h"
#include "broker/core/place.h"
#include "proto/base/assert.h"

#include <stdlib.h>

struct fixture {
    struct core *core;
    uint64_t index;
    uint64_t now_ms;
    struct buffer entry; /* the last one */
    uint64_t held;
    uint64_t held_bytes;
    uint32_t ready; /* queue_ready since the last command began */
    uint64_t ready_queue_id;
    uint32_t gone;
    uint32_t changed;
    uint32_t documents_changed;
    uint32_t departs;
    bool
        buries_late; /* what purges leave is dropped when the test says so; else after each entry */
};

static inline void fixture_hold(void *data, struct body_ref ref)
{
    struct fixture *f = data;
    f->held++;
    f->held_bytes += ref.length;
}
static inline void fixture_release(void *data, struct body_ref ref)
{
    struct fixture *f = data;
    f->held--;
    f->held_bytes -= ref.length;
}
static inline void fixture_ready(void *data, uint64_t queue_id)
{
    struct fixture *f = data;
    f->ready++;
    f->ready_queue_id = queue_id;
}
static inline void fixture_gone(void *data, uint64_t queue_id)
{
    (void)queue_id;
    ((struct fixture *)data)->gone++;
}
static inline void fixture_changed(void *data)
{
    ((struct fixture *)data)->changed++;
}

static inline void fixture_document(void *data, struct slice name)
{
    assert_true(name.length > 0);
    ((struct fixture *)data)->documents_changed++;
}

static inline void fixture_departs(void *data, uint32_t shard)
{
    assert_true(shard <= QUEUE_SHARDS_MAX);
    ((struct fixture *)data)->departs++;
}

static inline struct core_events fixture_events(struct fixture *f)
{
    return (struct core_events){f,
                                fixture_hold,
                                fixture_release,
                                fixture_ready,
                                fixture_gone,
                                fixture_changed,
                                fixture_document,
                                fixture_departs};
}

static inline int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    ASSERT(f != NULL);
    struct core_events events = fixture_events(f);
    f->core = core_new(&events);
    f->now_ms = 1000000;
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    core_free(f->core);
    buffer_free(&f->entry);
    free(f);
    return 0;
}

/* One entry with one command, at f->now_ms. */
static inline struct core_result apply(struct fixture *f, const struct command *command)
{
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    struct command decoded;
    struct core_result result;
    buffer_clear(&f->entry);
    entry_begin(&f->entry);
    command_encode(&f->entry, command);
    entry_finish(&f->entry, 1, f->now_ms);
    struct slice entry = buffer_slice(&f->entry);
    assert_int_equal(entry_open(entry, &in, &count, &now_ms), STATUS_OK);
    assert_int_equal(command_decode(&in, &decoded), STATUS_OK);
    f->ready = 0;
    core_begin(f->core, ++f->index, now_ms);
    core_apply(f->core, &decoded, entry, &result);
    if (!f->buries_late)
        core_bury(f->core, UINT64_MAX);
    core_check(f->core);
    return result;
}

static inline void tick(struct fixture *f, uint64_t step_ms)
{
    f->now_ms += step_ms;
    apply(f, &(struct command){.type = COMMAND_TICK});
}

static inline struct queue_settings settings_default(void)
{
    return (struct queue_settings){
        .message_bytes_max = 1048576, .retention_s = 345600, .visibility_s = 30};
}

static inline struct core_result create(struct fixture *f, const char *name,
                                        struct queue_settings settings)
{
    struct command command = {.type = COMMAND_QUEUE_CREATE};
    command.queue_create.name = slice_of(name);
    command.queue_create.settings = settings;
    command.queue_create.tags = SLICE_LITERAL("{}");
    return apply(f, &command);
}

static inline uint64_t create_default(struct fixture *f, const char *name)
{
    struct core_result result = create(f, name, settings_default());
    assert_int_equal(result.code, CORE_OK);
    return result.queue_id;
}

static inline uint64_t send(struct fixture *f, uint64_t queue_id, uint32_t delay_s)
{
    struct command command = {.type = COMMAND_SEND};
    command.send.queue_id = queue_id;
    command.send.delay_s = delay_s;
    command.send.record = SLICE_LITERAL("0123456789");
    struct core_result result = apply(f, &command);
    assert_int_equal(result.code, CORE_OK);
    return result.seq;
}

static inline struct core_result receive(struct fixture *f, uint64_t queue_id, uint32_t max,
                                         uint32_t visibility_s)
{
    struct command command = {.type = COMMAND_RECEIVE};
    command.receive.queue_id = queue_id;
    command.receive.max = max;
    command.receive.visibility_s = visibility_s;
    return apply(f, &command);
}

/* Receive exactly one message; its seq must be `seq`. */
static inline struct core_lease receive_one(struct fixture *f, uint64_t queue_id, uint64_t seq)
{
    struct core_result result = receive(f, queue_id, 1, CORE_DEFAULT);
    assert_int_equal(result.code, CORE_OK);
    assert_int_equal(result.message_count, 1);
    assert_int_equal(result.messages[0].seq, seq);
    return (struct core_lease){seq, result.messages[0].receive_count};
}

static inline enum core_code delete_message(struct fixture *f, uint64_t queue_id,
                                            struct core_lease lease, bool exact)
{
    struct command command = {.type = COMMAND_DELETE};
    command.delete.queue_id = queue_id;
    command.delete.lease = lease;
    command.delete.exact = exact;
    return apply(f, &command).code;
}

static inline enum core_code change_visibility(struct fixture *f, uint64_t queue_id,
                                               struct core_lease lease, uint32_t visibility_s)
{
    struct command command = {.type = COMMAND_CHANGE_VISIBILITY};
    command.change_visibility.queue_id = queue_id;
    command.change_visibility.lease = lease;
    command.change_visibility.visibility_s = visibility_s;
    return apply(f, &command).code;
}

static inline struct queue_view view(const struct fixture *f, uint64_t queue_id)
{
    struct queue_view out;
    assert_true(core_queue_by_id(f->core, queue_id, &out));
    return out;
}

static inline struct core_result blob_put(struct fixture *f, uint8_t kind, uint64_t total_bytes,
                                          uint64_t offset, struct slice piece)
{
    struct command command = {.type = COMMAND_BLOB_PUT};
    memset(command.blob_put.sha256, kind, SHA256_BYTES);
    command.blob_put.total_bytes = total_bytes;
    command.blob_put.offset = offset;
    command.blob_put.piece = piece;
    return apply(f, &command);
}

static inline struct core_result function_put(struct fixture *f, const char *name, uint64_t version,
                                              uint8_t kind)
{
    struct command command = {.type = COMMAND_FUNCTION_PUT};
    command.function_put.name = slice_of(name);
    command.function_put.version = version;
    memset(command.function_put.code_sha256, kind, SHA256_BYTES);
    command.function_put.config = SLICE_LITERAL("{\"Handler\":\"h\"}");
    return apply(f, &command);
}

static inline struct core_result mapping_put(struct fixture *f, uint8_t kind, uint64_t version,
                                             const char *function_name)
{
    struct command command = {.type = COMMAND_MAPPING_PUT};
    memset(command.mapping_put.uuid, kind, UUID_BYTES);
    command.mapping_put.version = version;
    command.mapping_put.function_name = slice_of(function_name);
    char queue_name[] = "orders-0"; /* one mapping per function and queue */
    queue_name[7] = (char)('0' + kind);
    command.mapping_put.queue_name = slice_of(queue_name);
    command.mapping_put.config = SLICE_LITERAL("{}");
    return apply(f, &command);
}

static inline struct core_result document_put(struct fixture *f, const char *name, uint64_t version,
                                              const char *content)
{
    struct command command = {.type = COMMAND_DOCUMENT_PUT};
    command.document_put.name = slice_of(name);
    command.document_put.version = version;
    command.document_put.content = slice_of(content);
    return apply(f, &command);
}

#define FIXTURE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif
