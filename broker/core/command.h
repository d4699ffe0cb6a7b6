/* SPDX-License-Identifier: Apache-2.0 */
/* Commands: what a Raft entry carries, as structs and as bytes.
 *
 * An entry is a header and `count` commands, all integers little-endian:
 *     OFFSET SIZE  MEANING
 *     0      1     format version, 2
 *     1      3     zero
 *     4      4     count of commands
 *     8      8     now_ms: the leader's clock when the batch was closed
 *     16     ...   commands: u32 payload length, u16 number (command.def), u16 zero, payload
 * The payload of each command is documented in command.c beside its encoder. The bytes of a message
 * record or code piece stand last in their payload and are referenced in place (struct body_ref).
 *
 * All slices in a decoded command borrow from the entry. Decoding accepts any bytes safely.
 * thread: any; no function here calls back. */
#ifndef BROKER_CORE_COMMAND_H
#define BROKER_CORE_COMMAND_H

#include "broker/core/types.h"
#include "proto/base/buffer.h"
#include "proto/base/bytes.h"
#include "proto/base/encode.h"
#include "proto/base/status.h"

#define ENTRY_HEADER_BYTES      16
#define COMMAND_HEADER_BYTES    8
#define COMMAND_BYTES_MAX       (2u << 20) /* a 1 MiB message with attributes, or code */
#define BLOB_PIECE_BYTES_MAX    (512u << 10)
#define ATTEMPT_ID_BYTES_MAX    128
#define DOCUMENT_NAME_BYTES_MAX 512
#define DOCUMENT_BYTES_MAX      (64u << 10)

enum command_type {
#define COMMAND(NAME, number, type, doc) COMMAND_##NAME = number,
#include "broker/core/command.def"
#undef COMMAND
};

struct command_tick {
    uint8_t unused;
};
struct command_rehearse {
    uint8_t unused;
};
struct command_bootstrap {
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32]; /* keys receipt handles */
};
/* What is restored from a backup is another cluster than the one that goes on. */
struct command_cluster_rename {
    uint8_t cluster_id[UUID_BYTES];
};
/* Changes nothing in the state. count 0: at the head of an entry, who built it; else: the next
 * `count` commands were sent by `node_id`, which finds its call by (boot, seq).
 * docs/replication.md. */
struct command_origin {
    uint64_t node_id;
    uint64_t boot; /* random, of the node's process */
    uint64_t seq;
    uint64_t term;   /* in which the entry was proposed */
    uint64_t commit; /* everything up to here was committed then */
    uint32_t count;
};
/* Stands behind BOOTSTRAP. A shard that never had one is 0 and holds everything. */
struct command_place {
    uint32_t shard;        /* 0: the catalog */
    uint32_t queue_shards; /* 1 to this: they hold the queues (broker/core/place.h) */
};
struct command_queue_create {
    struct slice name; /* validated by the API; the core only refuses a taken one */
    struct queue_settings settings;
    struct slice tags; /* JSON object, stored and echoed */
};
struct command_queue_update {
    uint64_t queue_id;
    uint64_t version; /* of the queue when the caller read it; else the result is CONFLICT */
    struct queue_settings settings;
};
struct command_queue_delete {
    uint64_t queue_id;
};
struct command_queue_purge {
    uint64_t queue_id;
};
struct command_queue_tag {
    uint64_t queue_id;
    uint64_t version;  /* as in queue_update */
    struct slice tags; /* all of them */
};
struct command_send {
    uint64_t queue_id;
    uint32_t delay_s;    /* CORE_DEFAULT: the queue's */
    struct slice record; /* broker/core/record.h; its group and dedup ids are acted on */
};
struct command_receive {
    uint64_t queue_id;
    uint32_t max;          /* 1..10000 */
    uint32_t visibility_s; /* CORE_DEFAULT: the queue's */
    uint64_t bytes_max;    /* stop before the records exceed this (but give one); 0 = no limit */
    /* FIFO queues: ReceiveRequestAttemptId. A receive with the id of an earlier one gives the same
     * leases again, for five minutes, while none of them has changed. Empty = none. */
    struct slice attempt_id;
};
struct command_delete {
    uint64_t queue_id;
    struct core_lease lease;
    bool exact; /* only if no later receive has handed it out (a worker's settlement) */
};
struct command_change_visibility {
    uint64_t queue_id;
    struct core_lease lease;
    uint32_t visibility_s; /* 0: visible at once */
};
struct command_move_start {
    uint8_t handle[UUID_BYTES]; /* names the move; made by the API */
    uint64_t source_queue_id;
    uint64_t destination_queue_id; /* 0: each message goes back to where it came from */
    uint32_t per_second_max;       /* 0: no limit */
};
struct command_move_cancel {
    uint8_t handle[UUID_BYTES];
    uint64_t source_queue_id;
};
/* The next three are between shards, from broker/shards/courier.c: see outbox.c and arrive.c. */
struct command_arrive {
    uint32_t source_shard;
    uint64_t number;  /* of the transfer; grows from one to the next */
    uint64_t after;   /* number of the transfer before it in the source's outbox, if it is there */
    uint64_t settled; /* all transfers up to it are over for the source */
    bool fifo;        /* type of the queue that it comes from, and has to go to */
    uint64_t destination_queue_id; /* 0: by its name */
    struct slice destination_name;
    uint64_t source_queue_id; /* that it shows as its source; 0 = none */
    uint32_t received_before; /* how often, until it left there */
    uint64_t sent_ms;         /* 0: when it arrives */
    struct slice record;      /* as in send */
};
struct command_departed {
    uint32_t destination_shard;
    uint64_t number; /* and all before it */
};
struct command_refused {
    uint32_t destination_shard;
    uint64_t first; /* the first number that was refused; all before it have departed */
    uint64_t last;
};
struct command_blob_put {
    uint8_t sha256[SHA256_BYTES]; /* of the whole */
    uint64_t total_bytes;
    uint64_t offset; /* pieces come in order; one that is stored already is ignored */
    struct slice piece;
};
struct command_function_put {
    struct slice name;
    uint64_t version; /* 0: must not exist yet; else must be the current version, or CONFLICT */
    uint8_t code_sha256[SHA256_BYTES]; /* a complete blob, or the result is NOT_FOUND */
    struct slice config;               /* opaque to the core: JSON, written by the Lambda API */
};
struct command_function_delete {
    struct slice name;
};
struct command_function_usage {
    struct slice name;
    struct usage delta;
};
/* In the shard of the queue that it worked on, where the function itself is not. */
struct command_usage_add {
    uint64_t function_id; /* core_function_id of the catalog */
    struct usage delta;
};
struct command_usage_drop {
    uint64_t function_id;
};
struct command_mapping_put {
    uint8_t uuid[UUID_BYTES];
    uint64_t version; /* as in function_put */
    struct slice function_name;
    struct slice queue_name;
    struct slice config; /* opaque: JSON */
};
struct command_mapping_delete {
    uint8_t uuid[UUID_BYTES];
};
struct command_document_put {
    struct slice name;    /* "kind/name", by convention */
    uint64_t version;     /* as in function_put */
    struct slice content; /* opaque to the core */
};
struct command_document_delete {
    struct slice name;
    uint64_t version; /* 0: whatever it is; else must be the current version, or CONFLICT */
};

struct command {
    enum command_type type;
    union {
#define COMMAND(NAME, number, type, doc) struct command_##type type;
#include "broker/core/command.def"
#undef COMMAND
    };
    const struct send_hashes *hashes; /* of a SEND; not encoded. NULL: not known yet (foresee.h) */
};

/* command_encode: append one command (header and payload) to `out`. The ranges that command_decode
 * checks are asserted here: an entry that no replica can read must not reach the log. */
void command_encode(struct buffer *out, const struct command *command);

/* command_open, command_close: the same for a command whose last field is a slice, empty in
 * `command`, of `bytes` bytes or so, which are appended to `out` between the two. */
struct command_open {
    size_t start; /* in `out`: of the command, and of the slice's bytes */
    size_t bytes_at;
};
struct command_open command_open(struct buffer *out, const struct command *command, size_t bytes);
void command_close(struct buffer *out, struct command_open open);

/* command_decode: read one command and move the cursor past it. INVALID for anything malformed:
 * unknown number (or one of a later level than the program's), short or long payload, out-of-range
 * value. */
MUST_CHECK enum status command_decode(struct cursor *in, struct command *out);

/* entry_begin: append an entry header with count 0 and now_ms 0; entry_finish fills both in, when
 * the batch is closed. `out` must hold nothing else. */
void entry_begin(struct buffer *out);
void entry_finish(struct buffer *out, uint32_t count, uint64_t now_ms);

/* entry_open: check the header, set `in` to the first command. */
MUST_CHECK enum status entry_open(struct slice entry, struct cursor *in, uint32_t *count,
                                  uint64_t *now_ms);

/* command_level: the feature level that must be in force before it is proposed. */
uint32_t command_level(enum command_type type);

/* command_name: "SEND" etc., "?" for a number that is not in the table. */
const char *command_name(enum command_type type);

#endif
