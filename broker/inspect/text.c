/* SPDX-License-Identifier: Apache-2.0 */
/* The report as text for people. It says nothing that the JSON does not. */
#include "broker/inspect/inspect.h"

#include <inttypes.h>

static int64_t number(const json_t *row, const char *name)
{
    return (int64_t)json_integer_value(json_object_get(row, name));
}

static const char *string(const json_t *row, const char *name)
{
    const char *value = json_string_value(json_object_get(row, name));
    return value != NULL ? value : "";
}

static bool truth(const json_t *row, const char *name)
{
    return json_is_true(json_object_get(row, name));
}

static bool has(const json_t *row, const char *name)
{
    return json_object_get(row, name) != NULL;
}

static void print_meta(const json_t *shard, struct buffer *out)
{
    const json_t *meta = json_object_get(shard, "meta");
    const json_t *files = json_object_get(shard, "meta_files");
    if (meta != NULL)
        buffer_printf(out,
                      "  node %" PRId64 ", shard %" PRId64 ", term %" PRId64 ", vote %" PRId64
                      " (write %" PRId64 ")",
                      number(meta, "node_id"), number(meta, "shard_id"), number(meta, "term"),
                      number(meta, "vote"), number(meta, "sequence"));
    else
        buffer_add_text(out, "  term and vote unknown");
    buffer_printf(out, "; meta-1 %s, meta-2 %s\n", string(files, "meta-1"),
                  string(files, "meta-2"));
}

static void print_snapshot(const json_t *row, struct buffer *out)
{
    buffer_printf(out, "  %s  %" PRId64 " bytes", string(row, "file"), number(row, "file_bytes"));
    if (has(row, "index"))
        buffer_printf(out, ", after entry %" PRId64 " of term %" PRId64 ", %" PRId64 " unpacked",
                      number(row, "index"), number(row, "term"), number(row, "data_bytes"));
    if (has(row, "digest"))
        buffer_printf(out,
                      "; %" PRId64 " queues, %" PRId64 " messages, %" PRId64 " functions, %" PRId64
                      " mappings, digest %s",
                      number(row, "queue_count"), number(row, "message_count"),
                      number(row, "function_count"), number(row, "mapping_count"),
                      string(row, "digest"));
    buffer_add_text(out, "\n");
}

static void print_segment(const json_t *row, struct buffer *out)
{
    buffer_printf(out, "  %s  %" PRId64 " bytes", string(row, "file"), number(row, "file_bytes"));
    if (has(row, "frames"))
        buffer_printf(
            out, ", entries %" PRId64 " to %" PRId64 ", %" PRId64 " frames up to %" PRId64 ", %s",
            number(row, "first_index"), number(row, "last_index"), number(row, "frames"),
            number(row, "frames_end"), truth(row, "sealed") ? "sealed" : "open");
    if (truth(row, "rewritten"))
        buffer_add_text(out, ", rewritten");
    if (truth(row, "leftovers"))
        buffer_add_text(out, ", leftovers behind the end");
    buffer_add_text(out, "\n");
}

static void print_command(const json_t *row, struct buffer *out)
{
    buffer_printf(out, "      %s, %" PRId64 " bytes", string(row, "command"), number(row, "bytes"));
    if (has(row, "queue_id"))
        buffer_printf(out, ", queue %" PRId64, number(row, "queue_id"));
    if (has(row, "queue"))
        buffer_printf(out, " \"%s\"", string(row, "queue"));
    if (has(row, "function"))
        buffer_printf(out, " \"%s\"", string(row, "function"));
    buffer_add_text(out, "\n");
}

static void print_entry(const json_t *row, struct buffer *out)
{
    size_t i;
    const json_t *command;
    buffer_printf(out, "    entry %" PRId64, number(row, "index"));
    if (truth(row, "damaged"))
        buffer_add_text(out, ", damaged");
    else
        buffer_printf(out, ", term %" PRId64 ", %s, %" PRId64 " bytes", number(row, "term"),
                      string(row, "type"), number(row, "bytes"));
    if (truth(row, "sparse"))
        buffer_add_text(out, ", parts of it are gone");
    if (has(row, "decodes") && !truth(row, "decodes"))
        buffer_add_text(out, ", does not decode");
    if (has(row, "now_ms"))
        buffer_printf(out, ", time %" PRId64, number(row, "now_ms"));
    buffer_printf(out, ", %s:%" PRId64 "\n", string(row, "file"), number(row, "offset"));
    json_array_foreach(json_object_get(row, "commands"), i, command)
    {
        print_command(command, out);
    }
}

static void print_state(const json_t *state, struct buffer *out)
{
    size_t i;
    const json_t *queue;
    if (state == NULL)
        return;
    buffer_printf(
        out,
        "  state after entry %" PRId64 " (entries %" PRId64 " to %" PRId64 "): %" PRId64
        " queues, %" PRId64 " messages, %" PRId64 " functions, %" PRId64 " mappings, digest %s\n",
        number(state, "applied_index"), number(state, "first_index"), number(state, "last_index"),
        number(state, "queue_count"), number(state, "message_count"),
        number(state, "function_count"), number(state, "mapping_count"), string(state, "digest"));
    if (json_object_get(state, "outbox_count") != NULL)
        buffer_printf(out, "    %" PRId64 " messages on their way to other shards\n",
                      number(state, "outbox_count"));
    json_array_foreach(json_object_get(state, "queues"), i, queue)
    {
        buffer_printf(out,
                      "    queue %" PRId64 " \"%s\": %" PRId64 " visible, %" PRId64
                      " in flight, %" PRId64 " delayed\n",
                      number(queue, "queue_id"), string(queue, "name"), number(queue, "visible"),
                      number(queue, "in_flight"), number(queue, "delayed"));
    }
}

static void print_rows(const json_t *rows, void (*print)(const json_t *row, struct buffer *out),
                       struct buffer *out)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        print(row, out);
    }
}

static void print_other(const json_t *name, struct buffer *out)
{
    buffer_printf(out, "  %s\n", json_string_value(name));
}

static void print_install(const json_t *install, struct buffer *out)
{
    if (install == NULL)
        return;
    buffer_add_text(out, "  install  a snapshot of another node is being taken over");
    if (has(install, "phase"))
        buffer_printf(
            out,
            ": after entry %" PRId64 "; of the log before it, entries up to %" PRId64 " stay (%s)",
            number(install, "index"), number(install, "keep_index"), string(install, "phase"));
    buffer_add_text(out, "\n");
    print_rows(json_object_get(install, "snapshots"), print_snapshot, out);
    print_rows(json_object_get(install, "segments"), print_segment, out);
}

static void print_shard(const json_t *shard, struct buffer *out)
{
    buffer_printf(out, "%s\n", string(shard, "name")[0] != '\0' ? string(shard, "name") : ".");
    print_meta(shard, out);
    print_rows(json_object_get(shard, "snapshots"), print_snapshot, out);
    print_rows(json_object_get(shard, "segments"), print_segment, out);
    print_install(json_object_get(shard, "install"), out);
    print_rows(json_object_get(shard, "other_files"), print_other, out);
    print_state(json_object_get(shard, "state"), out);
    print_rows(json_object_get(shard, "entries"), print_entry, out);
}

static void print_problem(const json_t *row, struct buffer *out)
{
    buffer_printf(out, "PROBLEM: %s at byte %" PRId64 ": %s\n", string(row, "file"),
                  number(row, "offset"), string(row, "what"));
}

void inspect_text(const json_t *report, struct buffer *out)
{
    const json_t *problems = json_object_get(report, "problems");
    print_rows(json_object_get(report, "shards"), print_shard, out);
    print_rows(problems, print_problem, out);
    if (json_array_size(problems) > 0)
        buffer_printf(out, "%zu problems found\n", json_array_size(problems));
    else
        buffer_printf(
            out, "no problem found; %s\n",
            truth(report, "verified")
                ? "every entry was read and checked"
                : "entries before the newest snapshot were not read (--verify reads all)");
}
