/* SPDX-License-Identifier: Apache-2.0 */
/* The actions and shapes of SQS as C types, made from sqs_actions.def and sqs_shapes.def. Handlers
 * see these structs only, never JSON, forms or XML. thread: any. */
#ifndef PROTO_SQS_SHAPES_H
#define PROTO_SQS_SHAPES_H

#include "proto/base/arena.h"
#include "proto/base/slice.h"

enum sqs_protocol {
    SQS_JSON, /* AWS JSON 1.0, chosen by X-Amz-Target */
    SQS_QUERY /* form in, XML out */
};

enum sqs_action {
#define ACTION(Name, name, input, result, again, doc) SQS_ACTION_##Name,
#include "proto/sqs/sqs_actions.def"
#undef ACTION
    SQS_ACTION_COUNT
};

struct sqs_number {
    int32_t value;
    bool given;
};
struct sqs_long {
    int64_t value;
    bool given;
};
struct sqs_pair {
    struct slice key;
    struct slice value;
};
struct sqs_list {
    void *items; /* array in the arena */
    uint32_t count;
    bool given;
};

#define SQS_FIELD_KEY                                              struct slice
#define SQS_FIELD_TEXT                                             struct slice
#define SQS_FIELD_BLOB                                             struct slice
#define SQS_FIELD_NUMBER                                           struct sqs_number
#define SQS_FIELD_LONG                                             struct sqs_long
#define SQS_FIELD_BOOL                                             bool
#define SQS_FIELD_TEXTS                                            struct sqs_list
#define SQS_FIELD_MAP                                              struct sqs_list
#define SQS_FIELD_TAGS                                             struct sqs_list
#define SQS_FIELD_STRUCTS                                          struct sqs_list
#define SQS_FIELD_STRUCT_MAP                                       struct sqs_list

#define SHAPE_BEGIN(name, doc)                                     struct sqs_##name {
#define MEMBER(shape, field, json, query, kind, element, required) SQS_FIELD_##kind field;
#define SHAPE_END(name)                                                                            \
    }                                                                                              \
    ;
#include "proto/sqs/sqs_shapes.def"
#undef SHAPE_BEGIN
#undef MEMBER
#undef SHAPE_END

/* ---- the tables ---- */

enum sqs_shape {
    SQS_SHAPE_none,
#define SHAPE_BEGIN(name, doc) SQS_SHAPE_##name,
#define MEMBER(shape, field, json, query, kind, element, required)
#define SHAPE_END(name)
#include "proto/sqs/sqs_shapes.def"
#undef SHAPE_BEGIN
#undef MEMBER
#undef SHAPE_END
    SQS_SHAPE_COUNT
};

enum sqs_kind {
    SQS_KIND_KEY,
    SQS_KIND_TEXT,
    SQS_KIND_BLOB,
    SQS_KIND_NUMBER,
    SQS_KIND_LONG,
    SQS_KIND_BOOL,
    SQS_KIND_TEXTS,
    SQS_KIND_MAP,
    SQS_KIND_TAGS,
    SQS_KIND_STRUCTS,
    SQS_KIND_STRUCT_MAP
};

struct sqs_member {
    const char *json_name;
    const char *query_name;
    enum sqs_kind kind;
    enum sqs_shape element;
    bool required; /* of a result: written even when it is an empty list */
    size_t offset; /* in the shape's struct */
};
struct sqs_shape_row {
    const struct sqs_member *members;
    size_t member_count;
    size_t bytes; /* of the struct */
};
extern const struct sqs_shape_row sqs_shapes[SQS_SHAPE_COUNT];

/* May it be done once more when nobody knows whether it was done? See sqs_actions.def. */
enum sqs_again { SQS_ONCE, SQS_AGAIN, SQS_IF_FIFO };

struct sqs_action_row {
    const char *name; /* "SendMessage" */
    enum sqs_shape input;
    enum sqs_shape result;
    enum sqs_again again;
};
extern const struct sqs_action_row sqs_actions[SQS_ACTION_COUNT];

/* sqs_action_find: the action of that name (case-sensitive); false if SQS has none. */
bool sqs_action_find(struct slice name, enum sqs_action *out);

/* sqs_given: the request or result in `object` has a value for `member`; a list is given when it
 * was in the request, even if it is empty. */
bool sqs_given(const struct sqs_member *member, const void *object);

/* sqs_field: where `member` is in the struct `object` of its shape. */
static inline void *sqs_field(const struct sqs_member *member, const void *object)
{
    return (char *)(uintptr_t)object + member->offset;
}

/* sqs_missing: the name, as the client knows it, of the first required member that `object` lacks;
 * NULL if there is none. In Query a member of a batch's entry reads
 * "DeleteMessageBatchRequestEntry. 2.Id". The name has static storage or is in the arena. */
const char *sqs_missing(enum sqs_protocol protocol, enum sqs_shape shape, const void *object,
                        struct arena *arena);

#endif
