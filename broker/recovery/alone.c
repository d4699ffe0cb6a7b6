/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace cluster recover`: a majority is lost for good, and one node goes on alone.
 *
 * It may lack what the others had committed among themselves: that is lost, and said. The node's
 * data get a new id first, so that members of old that come back with their data refuse to talk to
 * it (broker/peer/refusal.def) rather than overwrite what it has accepted since. Doing it again
 * after a crash in between is harmless. */
#include "broker/replication/alone.h"
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

static void print_report(const struct alone_report *report, uint64_t node_id, time_t written)
{
    char when[64] = "at an unknown time";
    struct tm parts;
    if (written > 0 && gmtime_r(&written, &parts) != NULL)
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &parts);
    printf("Node %" PRIu64 " has entries up to %" PRIu64 " (term %" PRIu64
           "), written last %s, %lld seconds ago.\nMembers:\n",
           node_id, report->last_index, report->last_term, when,
           written > 0 ? (long long)(time(NULL) - written) : -1);
    for (size_t i = 0; i < report->member_count; i++)
        printf("  %" PRIu64 "  %s  %s%s\n", report->members[i].id, report->members[i].address,
               report->members[i].voter ? "voter" : "learner",
               report->members[i].id == node_id ? "  (this node)" : "  removed for good");
    printf(
        "\nWHAT MAY BE LOST: whatever the other members confirmed to clients after entry %" PRIu64
        " and this\nnode never got: messages sent (gone), deleted (back again), and changes of "
        "queues, functions and\nkeys. If another member's data survive, compare: recover the one "
        "with the highest last term, then\nthe highest entry. The removed members must never run "
        "again on their old data.\n",
        report->last_index);
}

static int make(const struct recovery_options *options, struct identity *identity,
                const char *address, const char *dir)
{
    const char *error = NULL;
    uuid_random(identity->data_id);
    identity->node_count = 0;
    if (identity_store(options->data_dir, identity) != STATUS_OK)
        return recovery_fail(EX_IOERR, "%s/node.json could not be written", options->data_dir);
    enum status status = alone_make(dir, identity->node_id, address, &error);
    if (status != STATUS_OK)
        return recovery_fail(EX_IOERR, "%s: %s", dir, error != NULL ? error : status_text(status));
    printf(
        "\nDone: node %" PRIu64 " is its own cluster, at %s. Start it as before. Add others with "
        "empty directories\nand ids that were never used: start them with --join, then `millrace "
        "cluster add`.\n",
        identity->node_id, address);
    return EX_OK;
}

static int recover_locked(const struct recovery_options *options, struct arena *arena)
{
    struct identity identity;
    struct alone_report report;
    const char *error = NULL;
    const char *dir = arena_printf(arena, "%s/shard-0", options->data_dir);
    struct stat about;
    enum status status = identity_load(options->data_dir, &identity);
    if (status != STATUS_OK || stat(dir, &about) != 0)
        return recovery_fail(EX_NOINPUT, "%s is not the data directory of a broker: %s",
                             options->data_dir,
                             status != STATUS_OK ? "it has no good node.json" : "no shard-0 in it");
    time_t written = written_last(dir, arena);
    status = alone_look(dir, identity.node_id, &report, &error);
    if (status != STATUS_OK)
        return recovery_fail(EX_DATAERR, "%s: %s", dir,
                             error != NULL ? error : status_text(status));
    const struct alone_member *self = member(&report, identity.node_id);
    const char *address = options->peer != NULL ? options->peer
                          : self != NULL        ? self->address
                                                : NULL;
    if (address == NULL)
        return recovery_fail(EX_USAGE, "this node is no member by its own log: give --peer, too");
    print_report(&report, identity.node_id, written);
    if (!options->yes)
        return recovery_fail(EX_USAGE, "nothing was changed; to do it, say --yes");
    return make(options, &identity, address, dir);
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
