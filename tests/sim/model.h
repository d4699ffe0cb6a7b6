/* SPDX-License-Identifier: Apache-2.0 */
/* A slow and obvious model of the core, written from core.h and from what SQS documents, to compare
 * the core with. It shares no code with it, only the structs of commands and results. */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include "broker/core/core.h"

#define MODEL_QUEUES    64
#define MODEL_FUNCTIONS 16
#define MODEL_MAPPINGS  32
#define MODEL_BLOBS     64
#define MODEL_PIECES    8
#define MODEL_TEXT      48

enum model_state { MODEL_DELAYED, MODEL_VISIBLE, MODEL_LEASED };

struct model_message {
    enum model_state state;
    uint64_t seq;
    uint64_t sent_ms;
    uint64_t first_receive_ms;
    uint64_t leased_ms;
    uint64_t due_ms;
    uint32_t receive_count;
    struct body_ref body;
};

struct model_text {
    char bytes[MODEL_TEXT];
    size_t length;
};

struct model_queue {
    bool exists;
    bool ready; /* a message became visible in this step */
    uint64_t queue_id;
    uint64_t version;
    uint64_t created_ms;
    uint64_t modified_ms;
    uint64_t seq_last;
    uint64_t sent_total;
    uint64_t received_total;
    uint64_t deleted_total;
    uint64_t empty_receives_total;
    struct model_text name;
    struct model_text tags;
    struct model_text extras;
    struct model_text dead_letter;
    struct queue_settings settings; /* its slices are the texts above */
    struct model_message *messages; /* in order of seq */
    size_t count;
    size_t capacity;
};

struct model_blob {
    bool exists;
    uint8_t sha256[SHA256_BYTES];
    uint64_t total_bytes;
    uint64_t created_ms;
    struct body_ref pieces[MODEL_PIECES];
    size_t piece_count;
};

struct model_function {
    bool exists;
    struct model_text name;
    struct model_text config;
    uint64_t version;
    uint8_t code_sha256[SHA256_BYTES];
    struct usage usage;
};

struct model_mapping {
    bool exists;
    uint8_t uuid[UUID_BYTES];
    uint64_t version;
    struct model_text function_name;
    struct model_text queue_name;
    struct model_text config;
};

struct model {
    uint64_t now_ms;
    uint64_t index;
    uint64_t version_last;
    uint64_t queue_id_last;
    bool bootstrapped;
    struct command_bootstrap bootstrap;
    struct model_queue queues[MODEL_QUEUES];
    struct model_blob blobs[MODEL_BLOBS];
    struct model_function functions[MODEL_FUNCTIONS];
    struct model_mapping mappings[MODEL_MAPPINGS];
    struct core_message *received;
    uint64_t queues_gone; /* events since the beginning */
    uint64_t catalog_changes;
};

struct model *model_new(void);
void model_free(struct model *model);

/* model_begin, model_apply: as core_begin and core_apply. `body` says where the bytes of a SEND or
 * BLOB_PUT are. The ready flags tell about the last of these calls. */
void model_begin(struct model *model, uint64_t index, uint64_t now_ms);
void model_apply(struct model *model, const struct command *command, struct body_ref body,
                 struct core_result *result);

uint64_t model_next_deadline_ms(const struct model *model);
uint64_t model_blob_bytes(const struct model_blob *blob);

#endif
