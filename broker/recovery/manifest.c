/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/recovery/manifest.h"

#include "broker/core/place.h"
#include "proto/base/crc32c.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT       2 /* 1: of one shard, and no frame in its segments is packed */
#define SHARDS_MAX   (1 + QUEUE_SHARDS_MAX)
#define NAME_MAX_LEN 63
#define FILES_MAX    (1u << 20)

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text != NULL ? text : "";
}

static bool number_of(const json_t *object, const char *member, uint64_t *out)
{
    const json_t *value = json_object_get(object, member);
    *out = (uint64_t)json_integer_value(value);
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static bool crc_of(const json_t *object, const char *member, uint32_t *out)
{
    const char *text = text_of(object, member);
    *out = (uint32_t)strtoul(text, NULL, 16);
    return strlen(text) == 8 && strspn(text, "0123456789abcdef") == 8;
}

static bool named(const char *name, const char *folder, const char *ending)
{
    size_t length = strlen(name);
    size_t before = strlen(folder);
    size_t digits = strncmp(name, folder, before) == 0 ? strspn(name + before, "0123456789") : 0;
    return length <= NAME_MAX_LEN && digits > 0 && strcmp(name + before + digits, ending) == 0;
}

static bool decode_file(const json_t *json, struct arena *arena, struct manifest_file *out)
{
    const char *name = text_of(json, "Name");
    if (!named(name, "segments/", ".seg") && !named(name, "snapshots/", ".snap"))
        return false;
    out->name = arena_text(arena, slice_of(name));
    return number_of(json, "Bytes", &out->bytes) && crc_of(json, "Crc32c", &out->crc);
}

static bool decode_files(const json_t *list, struct arena *arena, struct manifest_shard *out)
{
    size_t count = json_array_size(list);
    if (count == 0 || count > FILES_MAX)
        return false;
    out->files = arena_alloc(arena, count * sizeof *out->files);
    out->file_count = count;
    for (size_t i = 0; i < count; i++) {
        if (!decode_file(json_array_get(list, i), arena, &out->files[i]))
            return false;
    }
    return true;
}

static bool decode_shard(const json_t *json, struct arena *arena, struct manifest_shard *out)
{
    return number_of(json, "Index", &out->index) && out->index > 0 &&
           number_of(json, "Term", &out->term) &&
           decode_files(json_object_get(json, "Files"), arena, out);
}

/* Format 2 has a list of them, in order; in format 1 the whole is one. */
static bool decode_shards(const json_t *json, uint64_t format, struct arena *arena,
                          struct manifest *out)
{
    const json_t *list = json_object_get(json, "Shards");
    size_t count = format == 1 ? 1 : json_array_size(list);
    if (count == 0 || count > SHARDS_MAX)
        return false;
    out->shards = arena_alloc(arena, count * sizeof *out->shards);
    out->shard_count = count;
    for (size_t i = 0; i < count; i++) {
        struct manifest_shard *shard = &out->shards[i];
        const json_t *from = format == 1 ? json : json_array_get(list, i);
        uint64_t id = 0;
        if (format > 1 && (!number_of(from, "ShardId", &id) || id != i))
            return false;
        shard->id = (uint32_t)i;
        shard->folder = format == 1 ? "" : arena_printf(arena, "shard-%zu/", i);
        if (!decode_shard(from, arena, shard))
            return false;
    }
    return true;
}

static bool decode(const json_t *json, uint64_t format, struct arena *arena, struct manifest *out)
{
    return uuid_parse(slice_of(text_of(json, "ClusterId")), out->cluster_id) &&
           decode_shards(json, format, arena, out);
}

/* The checksum is of the rest: compact, members in order of their names. */
static bool checksum_fits(json_t *json)
{
    uint32_t expected;
    if (!crc_of(json, "Checksum", &expected))
        return false;
    json_object_del(json, "Checksum");
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
    bool fits = text != NULL && crc32c(0, slice_of(text)) == expected;
    free(text);
    return fits;
}

enum status manifest_decode(struct slice in, struct arena *arena, struct manifest *out,
                            const char **error)
{
    enum status status = STATUS_CORRUPT;
    uint64_t format;
    json_t *json = json_loadb((const char *)in.data, in.length, JSON_REJECT_DUPLICATES, NULL);
    *out = (struct manifest){0};
    if (!json_is_object(json) || !number_of(json, "Format", &format)) {
        *error = "it is not the manifest of a backup";
    } else if (format < 1 || format > FORMAT) {
        *error = "it was written by a later version of this program";
        status = STATUS_UNSUPPORTED;
    } else if (!checksum_fits(json)) {
        *error = "it is damaged: it does not match its checksum";
    } else if (!decode(json, format, arena, out)) {
        *error = "its members make no sense to this version of the program";
    } else {
        status = STATUS_OK;
    }
    json_decref(json);
    return status;
}
