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
#define MODEL_DOCUMENTS 8
#define MODEL_TALLIES   6 /* function ids from 1 */
#define MODEL_PIECES    8
#define MODEL_TEXT      48
#define MODEL_MOVES     10
#define MODEL_GRAVES    4096
#define MODEL_SHARDS    4 /* this one is 1; 0 is one too */
#define MODEL_PARCELS   512

enum model_state { MODEL_DELAYED, MODEL_VISIBLE, MODEL_LEASED };

struct model_text {
    char bytes[MODEL_TEXT];
    size_t length;
};

struct model_message {
    enum model_state state;
    uint64_t seq;
    uint64_t sent_ms;
    uint64_t first_receive_ms;
    uint64_t leased_ms;
    uint64_t due_ms;
    uint32_t receive_count;
    struct body_ref body;
    struct model_text group; /* empty = none */
    uint64_t source_queue_id;
    uint32_t received_before;
    bool stays; /* it came back from another shard, and was not given out since */
};

/* A message on its way to another shard. */
struct model_parcel {
    uint64_t number;
    uint64_t queue_id;
    bool fifo;
    uint64_t destination_id; /* of a move; else 0, and */
    struct model_text destination;
    uint8_t handle[UUID_BYTES];
    struct model_message message;
};

struct model_passage {
    uint64_t number_last;
    struct model_parcel parcels[MODEL_PARCELS];
    size_t count;
    uint64_t accepted;
    uint64_t refused_from;
};

/* A send that is remembered. */
struct model_dedup {
    bool by_group;
    struct model_text group;
    struct model_text id;
    uint8_t message_id[UUID_BYTES];
    uint64_t seq;
    uint64_t sent_ms;
};

/* A receive that is remembered. */
struct model_attempt {
    struct model_text id;
    uint64_t received_ms;
    struct core_message *messages; /* owned */
    uint32_t count;
};

struct model_move {
    struct move_view view;
    uint64_t seq_max;
    uint64_t next_ms;
    uint64_t window_ms;
    uint32_t window_moved;
    uint32_t under_way;
};

struct model_queue {
    bool exists;
    bool ready; /* a message became visible in this step */
    uint64_t queue_id;
    uint64_t version;
    uint64_t created_ms;
    uint64_t modified_ms;
    uint64_t seq_last;
    uint64_t purged_seq;
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
    struct model_dedup *dedups; /* the oldest first */
    size_t dedup_count;
    size_t dedup_capacity;
    struct model_attempt *attempts; /* the oldest first */
    size_t attempt_count;
    size_t attempt_capacity;
    struct model_move moves[MODEL_MOVES]; /* the latest first */
    size_t move_count;
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

struct model_document {
    bool exists;
    struct model_text name;
    struct model_text content;
    uint64_t version;
};

struct model_tally {
    bool exists;
    uint64_t function_id;
    struct usage usage;
};

struct model {
    uint64_t now_ms;
    uint64_t index;
    uint64_t version_last;
    uint64_t queue_id_last;
    uint32_t shard;
    uint32_t queue_shards;
    struct model_passage passages[MODEL_SHARDS];
    uint64_t departures; /* events since the beginning */
    bool bootstrapped;
    struct command_bootstrap bootstrap;
    struct model_queue queues[MODEL_QUEUES];
    struct model_blob blobs[MODEL_BLOBS];
    struct model_function functions[MODEL_FUNCTIONS];
    struct model_mapping mappings[MODEL_MAPPINGS];
    struct model_document documents[MODEL_DOCUMENTS];
    struct model_tally tallies[MODEL_TALLIES];
    struct core_message *received;
    uint32_t step; /* as core_set_step; and what is left of it in this entry */
    uint32_t retention_left;
    uint32_t deadlines_left;
    uint32_t graves_left;
    struct model_grave {
        uint64_t messages;
        uint64_t dedups;
    } graves[MODEL_GRAVES]; /* what is still to be dropped of purged and deleted queues */
    size_t grave_count;
    uint64_t queues_gone; /* events since the beginning */
    uint64_t catalog_changes;
    uint64_t document_changes;
};

struct model *model_new(uint32_t step);
void model_free(struct model *model);

/* model_begin, model_apply: as core_begin and core_apply. `body` says where the bytes of a SEND or
 * BLOB_PUT are. The ready flags tell about the last of these calls. */
void model_begin(struct model *model, uint64_t index, uint64_t now_ms);
void model_apply(struct model *model, const struct command *command, struct body_ref body,
                 struct core_result *result);

/* model_grave_messages: how many messages of purged and deleted queues are still held. */
uint64_t model_grave_messages(const struct model *model);

uint64_t model_next_deadline_ms(const struct model *model);
uint64_t model_blob_bytes(const struct model_blob *blob);

/* ---- what the parts of the model share ---- */

#define MODEL_NONE SIZE_MAX

void model_text_set(struct model_text *text, struct slice s);
bool model_text_is(const struct model_text *text, struct slice s);
bool model_text_same(const struct model_text *a, const struct model_text *b);
struct model_queue *model_by_id(struct model *model, uint64_t queue_id);
struct model_queue *model_by_name(struct model *model, struct slice name);
struct model_message *model_message_add(struct model_queue *queue);
void model_message_remove(struct model_queue *queue, size_t i);
void model_message_show(struct model_queue *queue, struct model_message *message);

/* model_fifo.c: which message is next, MODEL_NONE = none; of a standard queue `fair` puts quiet
 * groups first. model_take: a receive's messages into model->received. */
size_t model_next(const struct model_queue *queue, bool fair);
bool model_overdue(const struct model *model, const struct model_queue *queue);
uint32_t model_take(struct model *model, struct model_queue *queue,
                    const struct command_receive *receive, uint32_t visibility_s);
bool model_replay(struct model *model, struct model_queue *queue,
                  const struct command_receive *receive, uint32_t visibility_s, uint32_t *count);
void model_attempt_keep(struct model *model, struct model_queue *queue, struct slice id,
                        uint32_t count);
/* model_place: a new message, visible unless an earlier one of its FIFO group is delayed. */
void model_place(struct model_queue *to, struct body_ref body, const struct model_text *group,
                 uint64_t sent_ms, uint64_t source_queue_id, uint32_t received_before);
void model_transfer(struct model_queue *from, size_t i, struct model_queue *to, uint64_t sent_ms,
                    uint64_t source_queue_id, uint32_t received_before);

/* model_dedup.c: one send. */
void model_send(struct model *model, struct model_queue *queue, const struct command_send *send,
                struct body_ref body, struct core_result *result);

/* model_tally.c */
void model_usage_sum(struct usage *total, const struct usage *delta);
void model_usage_add(struct model *model, const struct command_usage_add *add);
void model_usage_drop(struct model *model, const struct command_usage_drop *drop,
                      struct core_result *result);

/* model_dedup.c: the group of a record; empty for none. */
struct model_text model_group_of(struct slice record);

/* model_outbox.c */
bool model_is_away(const struct model *model, uint32_t shard);
void model_depart(struct model *model, struct model_queue *queue, size_t i, uint32_t shard,
                  uint64_t destination_id, const uint8_t *handle);
void model_arrive(struct model *model, const struct command_arrive *arrive, struct body_ref body,
                  struct core_result *result);
void model_departed(struct model *model, const struct command_departed *departed);
void model_refused(struct model *model, const struct command_refused *refused,
                   struct core_result *result);

/* model_document.c */
void model_document_put(struct model *model, const struct command_document_put *put,
                        struct core_result *result);
void model_document_delete(struct model *model, const struct command_document_delete *delete,
                           struct core_result *result);

/* model_move.c */
void model_move_start(struct model *model, const struct command_move_start *start,
                      struct core_result *result);
void model_move_cancel(struct model *model, const struct command_move_cancel *cancel,
                       struct core_result *result);
void model_move_settled(struct model *model, struct model_queue *queue, const uint8_t *handle,
                        bool arrived);
void model_chores(struct model *model);
uint64_t model_chore_ms(const struct model_queue *queue);

#endif
