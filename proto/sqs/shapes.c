/* SPDX-License-Identifier: Apache-2.0 */
/* The tables behind the codecs. Everything that is particular to an action or a shape is a row of
 * sqs_actions.def or sqs_shapes.def; the codecs walk the rows and know no action by name. Adding an
 * action takes rows there and one handler in broker/api/sqs.
 *
 * Values are not judged here: ranges, names and sizes are the handlers' business, because their
 * errors depend on the queue. The one rule that is the same everywhere, "this must be given", is
 * sqs_missing, called apart from decoding because a Query request may name its queue by the path.
 *
 * I1  the KEY of an element shape is its first field, at offset 0 */
#include "proto/sqs/shapes.h"

#include "proto/base/assert.h"

#define REQUIRED               true
#define OPTIONAL               false

#define SHAPE_BEGIN(name, doc) static const struct sqs_member members_##name[] = {
#define MEMBER(shape, field, json, query, kind, element, required)                                 \
    {json,                                                                                         \
     query,                                                                                        \
     SQS_KIND_##kind,                                                                              \
     SQS_SHAPE_##element,                                                                          \
     required,                                                                                     \
     offsetof(struct sqs_##shape, field)},
#define SHAPE_END(name)                                                                            \
    }                                                                                              \
    ;
#include "proto/sqs/sqs_shapes.def"
#undef SHAPE_BEGIN
#undef MEMBER
#undef SHAPE_END

const struct sqs_shape_row sqs_shapes[SQS_SHAPE_COUNT] = {
#define SHAPE_BEGIN(name, doc)                                                                     \
    [SQS_SHAPE_##name] = {members_##name, ARRAY_COUNT(members_##name), sizeof(struct sqs_##name)},
#define MEMBER(shape, field, json, query, kind, element, required)
#define SHAPE_END(name)
#include "proto/sqs/sqs_shapes.def"
#undef SHAPE_BEGIN
#undef MEMBER
#undef SHAPE_END
};

const struct sqs_action_row sqs_actions[SQS_ACTION_COUNT] = {
#define ACTION(Name, name, input, result, again, doc)                                              \
    [SQS_ACTION_##Name] = {#Name, SQS_SHAPE_##input, SQS_SHAPE_##result, SQS_##again},
#include "proto/sqs/sqs_actions.def"
#undef ACTION
};

_Static_assert(offsetof(struct sqs_message_attribute, name) == 0, "I1");

bool sqs_action_find(struct slice name, enum sqs_action *out)
{
    for (size_t i = 0; i < SQS_ACTION_COUNT; i++) {
        if (slice_is(name, sqs_actions[i].name)) {
            *out = (enum sqs_action)i;
            return true;
        }
    }
    return false;
}

bool sqs_given(const struct sqs_member *member, const void *object)
{
    const void *field = sqs_field(member, object);
    switch (member->kind) {
    case SQS_KIND_KEY:
    case SQS_KIND_TEXT:
    case SQS_KIND_BLOB:
        return ((const struct slice *)field)->data != NULL;
    case SQS_KIND_NUMBER:
        return ((const struct sqs_number *)field)->given;
    case SQS_KIND_LONG:
        return ((const struct sqs_long *)field)->given;
    case SQS_KIND_BOOL:
        return true;
    case SQS_KIND_TEXTS:
    case SQS_KIND_MAP:
    case SQS_KIND_TAGS:
    case SQS_KIND_STRUCTS:
    case SQS_KIND_STRUCT_MAP:
        return ((const struct sqs_list *)field)->given;
    }
    return false;
}

static const char *missing_in_entries(enum sqs_protocol protocol, const struct sqs_member *member,
                                      const struct sqs_list *list, struct arena *arena)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const char *entry = (const char *)list->items + i * sqs_shapes[member->element].bytes;
        const char *name = sqs_missing(protocol, member->element, entry, arena);
        if (name != NULL && protocol == SQS_QUERY)
            name = arena_printf(arena, "%s.%u.%s", member->query_name, i + 1, name);
        if (name != NULL)
            return name;
    }
    return NULL;
}

const char *sqs_missing(enum sqs_protocol protocol, enum sqs_shape shape, const void *object,
                        struct arena *arena)
{
    ASSERT(shape < SQS_SHAPE_COUNT);
    const struct sqs_shape_row *row = &sqs_shapes[shape];
    for (size_t i = 0; i < row->member_count; i++) {
        const struct sqs_member *member = &row->members[i];
        if (member->required && !sqs_given(member, object))
            return protocol == SQS_JSON ? member->json_name : member->query_name;
    }
    for (size_t i = 0; i < row->member_count; i++) {
        const struct sqs_member *member = &row->members[i];
        if (member->kind != SQS_KIND_STRUCTS)
            continue;
        const char *name = missing_in_entries(protocol, member, sqs_field(member, object), arena);
        if (name != NULL)
            return name;
    }
    return NULL;
}
