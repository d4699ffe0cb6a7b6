/* SPDX-License-Identifier: Apache-2.0 */
/* What the catalog stores, as JSON, about a function and about an event source mapping: written by
 * the Lambda API, read by the dispatcher. Opaque to the core. Fields that this version does not
 * know are kept when a record is read and written again. thread: any; results live in the arena. */
#ifndef BROKER_DISPATCH_FUNCTION_CONFIG_H
#define BROKER_DISPATCH_FUNCTION_CONFIG_H

#include "proto/base/arena.h"
#include "proto/base/buffer.h"
#include "proto/base/status.h"

struct config_pair {
    struct slice key;
    struct slice value;
};

struct function_config {
    struct slice runtime; /* "python3.11" */
    struct slice handler;
    struct slice role;
    struct slice description;
    uint32_t timeout_s;    /* 1..900, default 3 */
    uint32_t memory_mb;    /* 128..10240, default 128 */
    uint32_t ephemeral_mb; /* 512..10240, default 512 */
    struct config_pair *environment;
    uint32_t environment_count;
    struct config_pair *tags;
    uint32_t tag_count;
    struct slice architecture;  /* "x86_64" or "arm64" */
    struct slice last_modified; /* "2026-11-23T18:00:00.000+0000" */
    struct slice revision_id;   /* UUID */
    struct slice extras;        /* JSON object: what is only stored and echoed (VpcConfig, ...) */
};
void function_config_encode(struct buffer *out, const struct function_config *config);
MUST_CHECK enum status function_config_decode(struct slice json, struct arena *arena,
                                              struct function_config *out);

struct mapping_config {
    bool enabled;
    uint32_t batch_size;        /* 1..10000, default 10 */
    uint32_t batching_window_s; /* 0..300 */
    uint32_t concurrency_max;   /* 2..1000; 0 = not set */
    bool report_item_failures;  /* FunctionResponseTypes has ReportBatchItemFailures */
    uint64_t last_modified_ms;
    struct slice extras; /* JSON object: what is only stored and echoed */
};
void mapping_config_encode(struct buffer *out, const struct mapping_config *config);
MUST_CHECK enum status mapping_config_decode(struct slice json, struct arena *arena,
                                             struct mapping_config *out);

#endif
