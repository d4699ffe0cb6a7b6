/* SPDX-License-Identifier: Apache-2.0 */
/* The feature level in force in this shard (docs/upgrades.md). It is a document of the state, so it
 * has a place in the log: what stands behind the entry that raised it may be of the new level, and
 * nothing before it is. A program that does not know the level must not read on; it ends, and says
 * what to do.
 *
 * A new group begins at the lowest level that its first leader's program works with, in the entry
 * that gives it its id; broker/level.c raises it from there. */
#include "broker/feature/feature.h"
#include "broker/replication/internal.h"
#include "proto/base/trace.h"

#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

static uint32_t level_of(const struct core *core)
{
    struct document_view document;
    uint32_t level = FEATURE_LEVEL_FIRST;
    if (core_document_get(core, slice_of(FEATURE_LEVEL_DOCUMENT), &document) &&
        !feature_level_read(document.content, &level))
        level = UINT32_MAX; /* of a version that writes it in another way */
    return level;
}

/* Nothing is lost: what this node has acknowledged is on its disk, for the right program. */
__attribute__((noreturn)) static void refuse(const struct shard *shard, uint32_t level)
{
    trace_error(
        "shard", "feature_level_too_new",
        "dir=\"%s\" level=%u program=%u why=\"the cluster runs at a feature level that this "
        "program does not know, and does not go back: start the version that ran here "
        "before, or a later one\"",
        shard->options.dir, level, feature_level());
    _exit(EX_CONFIG);
}

void level_look(struct shard *shard, const struct core *core)
{
    uint32_t level = level_of(core);
    if (level > feature_level())
        refuse(shard, level);
    if (core == shard->core)
        shard->level = level;
}

/* level_in: to which an entry raises this state; 0: it does not. */
static uint32_t level_in(struct slice payload)
{
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    struct command command;
    uint32_t level;
    if (entry_open(payload, &in, &count, &now_ms) != STATUS_OK)
        return 0;
    for (; count > 0 && command_decode(&in, &command) == STATUS_OK; count--) {
        if (command.type == COMMAND_DOCUMENT_PUT &&
            slice_equal(command.document_put.name, slice_of(FEATURE_LEVEL_DOCUMENT)) &&
            feature_level_read(command.document_put.content, &level))
            return level;
    }
    return 0;
}

/* level_ahead: the highest of the state and of what stands behind it in the log. After a start
 * nobody knows whether the last entries are committed, and in a shard without traffic the one that
 * raised the level stays the last for long. Should it be gone, then the shard's leader raises the
 * level anew: the catalog's has risen. */
static uint32_t level_ahead(const struct shard *shard)
{
    const struct raft *raft = &shard->raft;
    uint32_t level = shard->level;
    for (uint64_t i = raft->last_applied + 1; i <= guard_last_index(raft); i++) {
        const struct raft_entry *entry = guard_entry(raft, i);
        uint32_t to = entry != NULL && entry->type == RAFT_COMMAND
                          ? level_in(slice_make(entry->buf.base, entry->buf.len))
                          : 0;
        level = to > level ? to : level;
    }
    return level;
}

const char *level_too_old(const struct shard *shard)
{
    static char sentence[256];
    uint8_t cluster_id[UUID_BYTES];
    uint8_t secret[32];
    uint32_t least = feature_level_min();
    if (shard->level >= least || level_ahead(shard) >= least ||
        !core_bootstrapped(shard->core, cluster_id, secret))
        return NULL;
    snprintf(sentence, sizeof sentence,
             "the data are of feature level %u, and this program works with %u and %u only: "
             "versions are upgraded one at a time, start the one between first",
             shard->level, feature_level_min(), feature_level());
    return sentence;
}

void level_first(struct command *command, struct buffer *content)
{
    feature_level_write(content, feature_level_min());
    *command = (struct command){.type = COMMAND_DOCUMENT_PUT,
                                .document_put = {.name = slice_of(FEATURE_LEVEL_DOCUMENT),
                                                 .content = buffer_slice(content)}};
}

/* The document's version guards against two leaders. */
void shard_raise_level(struct shard *shard, struct shard_call *call, uint32_t level)
{
    struct document_view now = {0};
    struct buffer content = {0};
    feature_level_write(&content, level);
    (void)core_document_get(shard->core, slice_of(FEATURE_LEVEL_DOCUMENT), &now);
    struct command command = {.type = COMMAND_DOCUMENT_PUT,
                              .document_put = {.name = slice_of(FEATURE_LEVEL_DOCUMENT),
                                               .version = now.version,
                                               .content = buffer_slice(&content)}};
    shard_call_add(call, &command);
    buffer_free(&content);
    trace_info("shard", "feature_level_rises", "dir=\"%s\" from=%u to=%u", shard->options.dir,
               shard->level, level);
    shard_call(shard, call);
}

bool level_allows(const struct shard *shard, const struct shard_call *call,
                  const struct command *command)
{
    return call->of_other || command_level(command->type) <= shard->level;
}

uint32_t shard_level(const struct shard *shard)
{
    return shard->level;
}
