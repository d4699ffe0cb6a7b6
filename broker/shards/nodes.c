/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/shards/nodes.h"

#include "proto/base/assert.h"

#include <inttypes.h>
#include <stdio.h>

#define NAME_PREFIX    "cluster/node/"
#define ADDRESS_PREFIX "cluster/address/"

static const char *const names[] = {
    [NODE_ACTIVE] = "active", [NODE_DRAINED] = "drained", [NODE_LEAVING] = "leaving"};

const char *node_duty_name(enum node_duty duty)
{
    return names[duty];
}

enum node_duty node_duty(const struct core *catalog, uint64_t node_id)
{
    struct document_view view;
    char name[sizeof NAME_PREFIX + 20];
    snprintf(name, sizeof name, NAME_PREFIX "%" PRIu64, node_id);
    if (!core_document_get(catalog, slice_of(name), &view))
        return NODE_ACTIVE;
    return slice_is(view.content, names[NODE_LEAVING]) ? NODE_LEAVING : NODE_DRAINED;
}

struct command node_duty_command(const struct core *catalog, uint64_t node_id, enum node_duty duty,
                                 struct buffer *out)
{
    struct document_view view;
    struct command command = {.type = COMMAND_DOCUMENT_DELETE};
    buffer_printf(out, NAME_PREFIX "%" PRIu64, node_id);
    struct slice name = buffer_slice(out);
    bool there = core_document_get(catalog, name, &view);
    if (duty == NODE_ACTIVE) {
        command.document_delete = (struct command_document_delete){.name = name};
        return command;
    }
    command.type = COMMAND_DOCUMENT_PUT;
    command.document_put = (struct command_document_put){
        .name = name, .version = there ? view.version : 0, .content = slice_of(names[duty])};
    return command;
}

struct slice node_address(const struct core *catalog, uint64_t node_id)
{
    struct document_view view;
    char name[sizeof ADDRESS_PREFIX + 20];
    snprintf(name, sizeof name, ADDRESS_PREFIX "%" PRIu64, node_id);
    return core_document_get(catalog, slice_of(name), &view) ? view.content : slice_of(NULL);
}

struct command node_address_command(const struct core *catalog, uint64_t node_id,
                                    struct slice address, struct buffer *out)
{
    struct document_view view;
    struct command command = {.type = COMMAND_DOCUMENT_PUT};
    buffer_printf(out, ADDRESS_PREFIX "%" PRIu64, node_id);
    struct slice name = buffer_slice(out);
    bool there = core_document_get(catalog, name, &view);
    command.document_put = (struct command_document_put){
        .name = name, .version = there ? view.version : 0, .content = address};
    return command;
}
