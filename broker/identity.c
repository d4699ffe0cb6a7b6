/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FORMAT     1
#define BYTES_MAX  65536u
#define FILE_NAME  "node.json"
#define FILE_BEING "node.json.new"

/* ---- reading ---- */

static bool read_uuid(const json_t *value, uint8_t out[UUID_BYTES])
{
    return json_is_string(value) &&
           uuid_parse(slice_make(json_string_value(value), json_string_length(value)), out);
}

/* Numbers above 2^53 do not survive every JSON reader: they are kept as hexadecimal text. */
static bool read_hex(const json_t *value, uint64_t *out)
{
    const char *text = json_string_value(value);
    char *rest = NULL;
    if (text == NULL || strlen(text) != 16)
        return false;
    *out = strtoull(text, &rest, 16);
    return *rest == '\0';
}

static bool read_nodes(json_t *nodes, struct identity *out)
{
    const char *key;
    json_t *value;
    json_object_foreach(nodes, key, value)
    {
        uint8_t data_id[UUID_BYTES];
        char *rest = NULL;
        uint64_t id = strtoull(key, &rest, 10);
        if (id == 0 || *rest != '\0' || !read_uuid(value, data_id) ||
            !identity_learn(out, id, data_id))
            return false;
    }
    return true;
}

static bool read_begun(const json_t *list, uint64_t *out)
{
    size_t i;
    json_t *one;
    *out = json_is_true(list) ? UINT64_MAX : 0;
    json_array_foreach(list, i, one)
    {
        json_int_t shard = json_integer_value(one);
        if (shard < 1 || shard > 64)
            return false;
        *out |= UINT64_C(1) << (shard - 1);
    }
    return list == NULL || json_is_boolean(list) || json_is_array(list);
}

static enum status read_identity(json_t *json, struct identity *out)
{
    *out = (struct identity){0};
    if (!json_is_integer(json_object_get(json, "format")))
        return STATUS_CORRUPT;
    if (json_integer_value(json_object_get(json, "format")) != FORMAT)
        return STATUS_UNSUPPORTED;
    json_int_t node_id = json_integer_value(json_object_get(json, "node_id"));
    json_t *cluster_id = json_object_get(json, "cluster_id");
    bool clusterless = json_is_string(cluster_id) && json_string_length(cluster_id) == 0;
    bool good = node_id > 0 && read_uuid(json_object_get(json, "data_id"), out->data_id) &&
                read_hex(json_object_get(json, "founders"), &out->founders) &&
                (clusterless || read_uuid(cluster_id, out->cluster_id)) &&
                read_nodes(json_object_get(json, "nodes"), out);
    out->node_id = (uint64_t)node_id;
    good = good && read_begun(json_object_get(json, "shards_begun"), &out->shards_begun);
    json_t *restored_from = json_object_get(json, "restored_from");
    good = good && (restored_from == NULL || read_uuid(restored_from, out->restored_from));
    json_int_t shards = json_integer_value(json_object_get(json, "shards"));
    good = good && shards >= 0 && shards <= 64;
    out->shards = (uint32_t)shards;
    json_int_t level = json_integer_value(json_object_get(json, "feature_level"));
    good = good && level >= 0 && level <= UINT32_MAX;
    out->feature_level = (uint32_t)level;
    return good ? STATUS_OK : STATUS_CORRUPT;
}

enum status identity_load(const char *dir, struct identity *out)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/" FILE_NAME, dir) >= (int)sizeof path)
        return STATUS_INVALID;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return status_from_errno(errno);
    char *text = malloc(BYTES_MAX);
    ssize_t length = text != NULL ? read(fd, text, BYTES_MAX) : -1;
    enum status status = length < 0 ? STATUS_IO_ERROR : STATUS_CORRUPT;
    close(fd);
    json_t *json =
        length > 0 ? json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (json_is_object(json))
        status = read_identity(json, out);
    json_decref(json);
    free(text);
    return status;
}

/* ---- writing ---- */

static json_t *write_uuid(const uint8_t id[UUID_BYTES])
{
    char text[UUID_TEXT_LENGTH + 1];
    uuid_text(id, text);
    return json_string(text);
}

static json_t *write_begun(uint64_t begun)
{
    if (begun == UINT64_MAX)
        return json_true();
    json_t *list = json_array();
    for (int shard = 1; shard <= 64; shard++) {
        if ((begun & UINT64_C(1) << (shard - 1)) != 0)
            json_array_append_new(list, json_integer(shard));
    }
    return list;
}

static char *write_identity(const struct identity *identity)
{
    static const uint8_t unknown[UUID_BYTES];
    char founders[17];
    snprintf(founders, sizeof founders, "%016" PRIx64, identity->founders);
    json_t *nodes = json_object();
    for (size_t i = 0; i < identity->node_count; i++) {
        char key[24];
        snprintf(key, sizeof key, "%" PRIu64, identity->nodes[i].id);
        json_object_set_new(nodes, key, write_uuid(identity->nodes[i].data_id));
    }
    bool clusterless = memcmp(identity->cluster_id, unknown, UUID_BYTES) == 0;
    json_t *json = json_pack("{s:i, s:I, s:o, s:s, s:o, s:o, s:I, s:o}", "format", FORMAT,
                             "node_id", (json_int_t)identity->node_id, "data_id",
                             write_uuid(identity->data_id), "founders", founders, "cluster_id",
                             clusterless ? json_string("") : write_uuid(identity->cluster_id),
                             "shards_begun", write_begun(identity->shards_begun), "feature_level",
                             (json_int_t)identity->feature_level, "nodes", nodes);
    if (identity->shards > 0)
        json_object_set_new(json, "shards", json_integer(identity->shards));
    if (memcmp(identity->restored_from, unknown, UUID_BYTES) != 0)
        json_object_set_new(json, "restored_from", write_uuid(identity->restored_from));
    char *text = json_dumps(json, JSON_INDENT(1));
    json_decref(json);
    return text;
}

static int write_file(int dir_fd, const char *text)
{
    int fd = openat(dir_fd, FILE_BEING, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    size_t length = strlen(text);
    int error = write(fd, text, length) == (ssize_t)length ? 0 : errno != 0 ? errno : EIO;
    if (error == 0 && fsync(fd) != 0)
        error = errno;
    close(fd);
    if (error == 0 && renameat(dir_fd, FILE_BEING, dir_fd, FILE_NAME) != 0)
        error = errno;
    if (error == 0 && fsync(dir_fd) != 0)
        error = errno;
    return error;
}

enum status identity_store(const char *dir, const struct identity *identity)
{
    char *text = write_identity(identity);
    if (text == NULL)
        return STATUS_NO_MEMORY;
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = errno;
    if (dir_fd >= 0) {
        errno = 0;
        error = write_file(dir_fd, text);
        close(dir_fd);
    }
    free(text);
    return status_from_errno(error);
}

bool identity_learn(struct identity *identity, uint64_t node_id, const uint8_t data_id[UUID_BYTES])
{
    for (size_t i = 0; i < identity->node_count; i++) {
        if (identity->nodes[i].id == node_id)
            return false;
    }
    if (identity->node_count == IDENTITY_NODES_MAX)
        return false;
    struct identity_node *node = &identity->nodes[identity->node_count++];
    node->id = node_id;
    memcpy(node->data_id, data_id, UUID_BYTES);
    return true;
}
