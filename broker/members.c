/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/members.h"

#include "proto/base/bytes.h"
#include "proto/base/encode.h"
#include "proto/base/options.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define ADDRESS_BYTES_MAX 255u

static const char form[] = "must look like 1=host:port,2=host:port";

static const char *parse_one(struct slice item, struct arena *arena, struct member *out)
{
    const char *text = arena_text(arena, item);
    char *rest;
    errno = 0;
    unsigned long long id = strtoull(text, &rest, 10);
    const char *host;
    uint16_t port;
    if (errno != 0 || !isdigit((unsigned char)text[0]) || *rest != '=' ||
        !address_split(rest + 1, arena, &host, &port))
        return form;
    if (id == 0 || id > UINT32_MAX)
        return "has a node id that is not between 1 and 4294967295";
    if (port == 0)
        return "has a port 0: the other nodes need the real one";
    *out = (struct member){.id = id, .address = rest + 1};
    return strlen(out->address) <= ADDRESS_BYTES_MAX ? NULL : "has an address that is too long";
}

/* Keep them ascending. Ids are the members' names; an address can only be one node's. */
static const char *insert(struct member *members, size_t *count, const struct member *one)
{
    size_t at = 0;
    for (size_t i = 0; i < *count; i++) {
        if (members[i].id == one->id)
            return "has a node id twice";
        if (strcmp(members[i].address, one->address) == 0)
            return "has an address twice";
        at += members[i].id < one->id;
    }
    memmove(members + at + 1, members + at, (*count - at) * sizeof *members);
    members[at] = *one;
    (*count)++;
    return NULL;
}

const char *members_parse(const char *text, struct arena *arena, struct member out[MEMBERS_MAX],
                          size_t *count)
{
    struct slice rest = slice_of(text);
    *count = 0;
    for (bool more = true; more;) {
        ptrdiff_t comma = slice_find(rest, ',');
        struct slice item = comma >= 0 ? slice_make(rest.data, (size_t)comma) : rest;
        more = comma >= 0;
        rest = more ? slice_sub(rest, (size_t)comma + 1) : rest;
        struct member one;
        const char *error = parse_one(item, arena, &one);
        if (error == NULL && *count == MEMBERS_MAX)
            error = "has too many members";
        if (error == NULL)
            error = insert(out, count, &one);
        if (error != NULL)
            return error;
    }
    return NULL;
}

const struct member *members_find(const struct member *members, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].id == id)
            return &members[i];
    }
    return NULL;
}

uint64_t members_digest(const struct member *members, size_t count)
{
    struct buffer text = {0};
    uint8_t digest[SHA256_BYTES];
    for (size_t i = 0; i < count; i++)
        buffer_printf(&text, "%" PRIu64 "=%s\n", members[i].id, members[i].address);
    digest_sha256(buffer_slice(&text), digest);
    buffer_free(&text);
    uint64_t short_digest = bytes_get_u64(digest);
    return short_digest != 0 ? short_digest : 1;
}
