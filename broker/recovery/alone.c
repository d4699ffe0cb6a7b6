/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace cluster recover`: a majority is lost for good, and one node goes on alone.
 *
 * All shards that it has do so; it may have been further in one than in another. Of those that it
 * has no replica of nothing can be had here: they stay as they are, without a leader, and what is
 * asked of their queues is refused.
 *
 * It may lack what the others had committed among themselves: that is lost, and said. The node's
 * data get a new id first, so that members of old that come back with their data refuse to talk to
 * it (broker/peer/refusal.def) rather than overwrite what it has accepted since. Doing it again
 * after a crash in between is harmless. */
#include "broker/replication/alone.h"
#include "broker/core/place.h"
#include "broker/identity.h"
#include "broker/log/log.h"
#include "broker/recovery/recovery.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>

/* When the log was written last, by the times of its files; 0: not known. */
static time_t written_last(const char *dir, struct arena *arena)
{
    time_t last = 0;
    struct stat about;
    DIR *files = opendir(arena_printf(arena, "%s/segments", dir));
    for (struct dirent *at; files != NULL && (at = readdir(files)) != NULL;) {
        if (strstr(at->d_name, ".seg") != NULL &&
            fstatat(dirfd(files), at->d_name, &about, 0) == 0 && about.st_mtime > last)
            last = about.st_mtime;
    }
    if (files != NULL)
        closedir(files);
    return last;
}

static const struct alone_member *member(const struct alone_report *report, uint64_t id)
{
    for (size_t i = 0; i < report->member_count; i++) {
        if (report->members[i].id == id)
            return &report->members[i];
    }
    return NULL;
}

struct recovering {
    const struct recovery_options *options;
    struct arena *arena;
    struct identity identity;
    struct alone_place places[1 + QUEUE_SHARDS_MAX]; /* of the shards */
    size_t count;
    unsigned missing[1 + QUEUE_SHARDS_MAX]; /* shards of the cluster that are not here */
    size_t missing_count;
    const char *address; /* of this node from now on */
};

static void print_shard(const struct alone_report *report, size_t shard, time_t written)
{
    char when[64] = "at an unknown time";
    struct tm parts;
    if (written > 0 && gmtime_r(&written, &parts) != NULL)
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &parts);
    printf("Shard %zu has entries up to %" PRIu64 " (term %" PRIu64
           "), written last %s, %lld seconds ago.\n",
           shard, report->last_index, report->last_term, when,
           written > 0 ? (long long)(time(NULL) - written) : -1);
}

static void print_members(const struct alone_report *report, uint64_t node_id)
{
    printf("Members:\n");
    for (size_t i = 0; i < report->member_count; i++)
        printf("  %" PRIu64 "  %s  %s%s\n", report->members[i].id, report->members[i].address,
               report->members[i].voter ? "voter" : "learner",
               report->members[i].id == node_id ? "  (this node)" : "  removed for good");
    printf("\nWHAT MAY BE LOST: whatever the other members confirmed to clients after these "
           "entries and this\nnode never got: messages sent (gone), deleted (back again), and "
           "changes of queues, functions and\nkeys. If another member's data survive, compare: "
           "recover the one with the highest last terms, then\nthe highest entries. The removed "
           "members must never run again on their old data.\n");
}

static void print_missing(const struct recovering *r)
{
    if (r->missing_count == 0)
        return;
    printf("NO COPY HERE of %s", r->missing_count == 1 ? "shard" : "shards");
    for (size_t i = 0; i < r->missing_count; i++)
        printf("%s %u", i > 0 ? "," : "", r->missing[i]);
    printf(": their queues stay out of reach, with all that is in them. If another\nmember's data "
           "survive that have them, recover that one, or restore a backup.\n");
}

/* ---- looking ---- */

static int find_shards(struct recovering *r)
{
    struct stat about;
    const char *dir = r->options->data_dir;
    enum status status = identity_load(dir, &r->identity);
    for (unsigned id = 0; status == STATUS_OK && id <= QUEUE_SHARDS_MAX; id++) {
        const char *path = arena_printf(r->arena, "%s/shard-%u", dir, id);
        if (stat(path, &about) == 0)
            r->places[r->count++] = (struct alone_place){
                .dir = path, .shard_id = (uint16_t)id, .node_id = r->identity.node_id};
        else if (id <= r->identity.shards)
            r->missing[r->missing_count++] = id;
    }
    if (r->count > 0 && r->places[0].shard_id == 0)
        return EX_OK;
    return recovery_fail(EX_NOINPUT, "%s is not the data directory of a broker: %s", dir,
                         status != STATUS_OK ? "it has no good node.json" : "no shard-0 in it");
}

static int look(struct recovering *r, size_t i, struct alone_report *report)
{
    const char *error = NULL;
    time_t written = written_last(r->places[i].dir, r->arena);
    enum status status = alone_look(&r->places[i], report, &error);
    if (status != STATUS_OK)
        return recovery_fail(EX_DATAERR, "%s: %s", r->places[i].dir,
                             error != NULL ? error : status_text(status));
    print_shard(report, r->places[i].shard_id, written);
    return EX_OK;
}

/* The members are the catalog's: those of the queue shards follow it. */
static int look_at_all(struct recovering *r)
{
    struct alone_report catalog;
    struct alone_report report;
    int code = look(r, 0, &catalog);
    for (size_t i = 1; i < r->count && code == EX_OK; i++)
        code = look(r, i, &report);
    if (code != EX_OK)
        return code;
    const struct alone_member *self = member(&catalog, r->identity.node_id);
    r->address = r->options->peer != NULL ? r->options->peer
                 : self != NULL           ? arena_text(r->arena, slice_of(self->address))
                                          : NULL;
    if (r->address == NULL)
        return recovery_fail(EX_USAGE, "this node is no member by its own log: give --peer, too");
    print_missing(r);
    print_members(&catalog, r->identity.node_id);
    return EX_OK;
}

/* ---- doing ---- */

static int make(struct recovering *r)
{
    const char *error = NULL;
    uuid_random(r->identity.data_id);
    r->identity.node_count = 0;
    if (identity_store(r->options->data_dir, &r->identity) != STATUS_OK)
        return recovery_fail(EX_IOERR, "%s/node.json could not be written", r->options->data_dir);
    for (size_t i = 0; i < r->count; i++) {
        enum status status = alone_make(&r->places[i], r->address, &error);
        if (status != STATUS_OK)
            return recovery_fail(EX_IOERR, "%s: %s", r->places[i].dir,
                                 error != NULL ? error : status_text(status));
    }
    printf(
        "\nDone: node %" PRIu64 " is its own cluster, at %s. Start it as before. Add others with "
        "empty directories\nand ids that were never used: start them with --join, then `millrace "
        "cluster add`.\n",
        r->identity.node_id, r->address);
    return EX_OK;
}

static int recover_locked(const struct recovery_options *options, struct arena *arena)
{
    struct recovering r = {.options = options, .arena = arena};
    int code = find_shards(&r);
    if (code == EX_OK)
        code = look_at_all(&r);
    if (code == EX_OK && !options->yes)
        return recovery_fail(EX_USAGE, "nothing was changed; to do it, say --yes");
    return code == EX_OK ? make(&r) : code;
}

int recover_alone(const struct recovery_options *options, struct arena *arena)
{
    struct node_lock lock;
    struct stat about;
    const char *error;
    if (stat(options->data_dir, &about) != 0)
        return recovery_fail(EX_NOINPUT, "%s: there is no such directory", options->data_dir);
    if (node_lock_take(&lock, options->data_dir, 0, &error) != STATUS_OK)
        return recovery_fail(EX_CANTCREAT, "%s", error);
    int code = recover_locked(options, arena);
    node_lock_drop(&lock);
    return code;
}
