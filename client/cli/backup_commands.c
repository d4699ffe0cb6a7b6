/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace backup`: a consistent copy of a running cluster, each shard from the node that leads
 * it, into a folder (docs/format.md, "Backups"). All shards are begun before anything is copied,
 * within SPREAD_MS: a message on its way from one shard to another is in at least one of them then,
 * and counted once after a restore (docs/replication.md, "Between shards"). The manifest is written
 * last: a folder without one is no backup. `millrace restore` and `millrace cluster recover` work
 * on data directories, which is the business of millrace-recover beside this program: they become
 * it. */
#include "client/cli/cli.h"

#include "proto/base/assert.h"
#include "proto/base/crc32c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BACKUP_PATH   "/admin/backup"
#define MANIFEST      "manifest.json"
#define FORMAT        2
#define SHARDS_MAX    65
#define SPREAD_MS     2000u
#define BEGIN_TRIES   50
#define BEGIN_WAIT_US 100000u
#define SAY_EVERY_MS  5000u
#define NAME_MAX_HERE 63

/* One shard, as the broker that leads it began it. */
struct copied_shard {
    unsigned number;
    struct mr_client *client; /* of that broker */
    json_t *about;
    const char *id; /* of the backup there */
    size_t next;    /* file to copy */
};

struct backup {
    struct cli *cli;
    const char *dir;
    int dir_fd;
    bool made_dir;
    struct copied_shard shards[SHARDS_MAX];
    unsigned begun, count;
    struct copied_shard *shard; /* at work on */
    uint64_t bytes_all, bytes;
    size_t files;
    uint64_t began_ms, said_ms;
};

/* ---- the folder ---- */

static int fail_errno(struct backup *b, const char *name)
{
    return cli_error(b->cli, "%s%s%s: %s", b->dir, name[0] != 0 ? "/" : "", name, strerror(errno));
}

static bool is_empty(const char *path)
{
    DIR *dir = opendir(path);
    bool empty = dir != NULL;
    for (struct dirent *at; empty && (at = readdir(dir)) != NULL;)
        empty = strcmp(at->d_name, ".") == 0 || strcmp(at->d_name, "..") == 0;
    if (dir != NULL)
        closedir(dir);
    return empty;
}

static const char *in_shard(struct backup *b, const char *name)
{
    return arena_printf(&b->cli->arena, "shard-%u%s%s", b->shard->number, name[0] != 0 ? "/" : "",
                        name);
}

static bool has(struct backup *b, const char *name)
{
    return faccessat(b->dir_fd, name, F_OK, 0) == 0;
}

/* One that was given up cannot be gone on with: the cluster has changed since. */
static int refuse_folder(struct backup *b)
{
    if (has(b, MANIFEST))
        return cli_error(b->cli, "%s is not an empty folder: it is a backup; give a new one",
                         b->dir);
    if (has(b, "shard-0"))
        return cli_error(b->cli,
                         "%s is not an empty folder: a backup into it was not finished, and "
                         "cannot be gone on with; remove it, or give a new one",
                         b->dir);
    return cli_error(b->cli, "%s is not an empty folder; give a new one", b->dir);
}

static int open_folder(struct backup *b)
{
    b->made_dir = mkdir(b->dir, 0700) == 0;
    if (!b->made_dir && errno != EEXIST)
        return fail_errno(b, "");
    b->dir_fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->dir_fd < 0)
        return fail_errno(b, "");
    return is_empty(b->dir) ? 0 : refuse_folder(b);
}

static int make_shard_folder(struct backup *b)
{
    static const char *const names[] = {"", "segments", "snapshots"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (mkdirat(b->dir_fd, in_shard(b, names[i]), 0700) != 0)
            return fail_errno(b, in_shard(b, names[i]));
    }
    return 0;
}

/* It was not even begun: leave nothing. */
static void close_folder(struct backup *b)
{
    if (b->made_dir)
        rmdir(b->dir);
}

static int sync_folder(struct backup *b, const char *name)
{
    int fd = openat(b->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int exit_status = fd >= 0 && fsync(fd) == 0 ? 0 : fail_errno(b, name);
    if (fd >= 0)
        close(fd);
    return exit_status;
}

static int write_all(struct backup *b, int fd, const char *name, struct slice bytes)
{
    while (bytes.length > 0) {
        ssize_t wrote = write(fd, bytes.data, bytes.length);
        if (wrote < 0 && errno != EINTR)
            return fail_errno(b, name);
        bytes = slice_sub(bytes, wrote > 0 ? (size_t)wrote : 0);
    }
    return 0;
}

/* ---- one file ---- */

/* Only names as the broker's files have them are made into paths. */
static bool name_fits(const char *name)
{
    const char *folder = strncmp(name, "segments/", 9) == 0     ? "segments/"
                         : strncmp(name, "snapshots/", 10) == 0 ? "snapshots/"
                                                                : NULL;
    return folder != NULL && strlen(name) <= NAME_MAX_HERE &&
           strspn(name + strlen(folder), "0123456789.segnap") == strlen(name + strlen(folder)) &&
           strstr(name, "..") == NULL;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void say_progress(struct backup *b, uint64_t at_ms)
{
    if (at_ms - b->said_ms < SAY_EVERY_MS)
        return;
    uint64_t bytes_per_ms = b->bytes / (at_ms - b->began_ms + 1) + 1;
    b->said_ms = at_ms;
    fprintf(stderr, "millrace: backup: %" PRIu64 " of %" PRIu64 " MiB, %" PRIu64 " s to go\n",
            b->bytes >> 20, b->bytes_all >> 20, (b->bytes_all - b->bytes) / bytes_per_ms / 1000);
}

/* --rate: so many bytes may have come by now; wait until it is no more. */
static void keep_rate(struct backup *b, uint64_t at_ms)
{
    uint64_t rate = b->cli->options.rate; /* 10^6 bytes a second; 0: not given */
    uint64_t due_ms = rate > 0 ? b->began_ms + b->bytes / (rate * 1000) : 0;
    if (due_ms <= at_ms)
        return;
    struct timespec wait = {.tv_sec = (time_t)((due_ms - at_ms) / 1000),
                            .tv_nsec = (long)((due_ms - at_ms) % 1000) * 1000000};
    (void)nanosleep(&wait, NULL);
}

static int copy_bytes(struct backup *b, int fd, const char *name, uint64_t bytes, uint32_t *crc)
{
    int exit_status = 0;
    struct mr_response piece = {0};
    for (uint64_t at = 0; at < bytes && exit_status == 0;) {
        const char *path = arena_printf(&b->cli->arena, BACKUP_PATH "/%s/%s?offset=%" PRIu64,
                                        b->shard->id, name, at);
        struct mr_request request = {.method = "GET", .path = path};
        if (mr_http(b->cli->client, &request, &piece) != STATUS_OK) {
            exit_status = cli_fail(b->cli, "read %s of shard %u", name, b->shard->number);
        } else if (piece.body.length == 0 || piece.body.length > bytes - at) {
            exit_status = cli_error(b->cli, "the broker gave another length of %s", name);
        } else {
            exit_status = write_all(b, fd, name, buffer_slice(&piece.body));
            *crc = crc32c(*crc, buffer_slice(&piece.body));
            at += piece.body.length;
            b->bytes += piece.body.length;
            uint64_t at_ms = now_ms();
            say_progress(b, at_ms);
            keep_rate(b, at_ms);
        }
    }
    mr_response_free(&piece);
    return exit_status;
}

static int copy_file(struct backup *b, json_t *file)
{
    const char *name = cli_text(file, "Name", "");
    uint64_t bytes = (uint64_t)cli_integer(file, "Bytes");
    uint32_t crc = 0;
    if (!name_fits(name))
        return cli_error(b->cli, "the broker named a file '%s' that this version does not know",
                         name);
    const char *path = in_shard(b, name);
    int fd = openat(b->dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_errno(b, path);
    int exit_status = copy_bytes(b, fd, name, bytes, &crc);
    if (exit_status == 0 && fsync(fd) != 0)
        exit_status = fail_errno(b, path);
    close(fd);
    json_object_set_new(file, "Crc32c", json_sprintf("%08x", crc));
    return exit_status;
}

/* ---- the manifest ---- */

/* What is of all shards stands outside, what is of one in its member of the list. */
static json_t *manifest(struct backup *b)
{
    static const char *const of_one[] = {"ShardId", "Index", "Term", "NodeId", "TimeMs", "Files"};
    json_t *list = json_array();
    for (unsigned i = 0; i < b->count; i++) {
        json_t *shard = json_object();
        for (size_t k = 0; k < ARRAY_COUNT(of_one); k++)
            json_object_set(shard, of_one[k], json_object_get(b->shards[i].about, of_one[k]));
        json_array_append_new(list, shard);
    }
    const json_t *catalog = b->shards[0].about;
    return json_pack("{s:i, s:s, s:s, s:o}", "Format", FORMAT, "ClusterId",
                     cli_text(catalog, "ClusterId", ""), "Version",
                     cli_text(catalog, "Version", ""), "Shards", list);
}

static int write_manifest(struct backup *b, json_t *about)
{
    char *text = json_dumps(about, JSON_COMPACT | JSON_SORT_KEYS);
    ASSERT(text != NULL);
    json_object_set_new(about, "Checksum", json_sprintf("%08x", crc32c(0, slice_of(text))));
    free(text);
    text = json_dumps(about, JSON_INDENT(1) | JSON_SORT_KEYS);
    ASSERT(text != NULL);
    int fd = openat(b->dir_fd, MANIFEST ".new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int exit_status = fd >= 0 ? write_all(b, fd, MANIFEST, slice_of(text)) : 1;
    free(text);
    bool stored = exit_status == 0 && fsync(fd) == 0 &&
                  renameat(b->dir_fd, MANIFEST ".new", b->dir_fd, MANIFEST) == 0 &&
                  fsync(b->dir_fd) == 0;
    if (!stored)
        exit_status = fail_errno(b, MANIFEST);
    if (fd >= 0)
        close(fd);
    return exit_status;
}

/* ---- beginning ---- */

/* Be connected to the node that leads this shard, as far as the broker at hand knows. */
static void find_leader(struct cli *cli, unsigned shard)
{
    json_t *cluster;
    if (mr_rest_call(cli->client, "GET", "/admin/cluster", NULL, &cluster) != STATUS_OK)
        return; /* the next call says why */
    const json_t *about = json_array_get(json_object_get(cluster, "Shards"), shard);
    const json_t *members = json_object_get(cluster, "Members");
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *member = json_array_get(members, i);
        const char *endpoint = cli_text(member, "Endpoint", "");
        if (cli_integer(member, "NodeId") == cli_integer(about, "Leader") && endpoint[0] != 0 &&
            cli_integer(member, "NodeId") != cli_integer(cluster, "NodeId")) {
            (void)cli_connect(cli, arena_printf(&cli->arena, "%s", endpoint));
            break;
        }
    }
    json_decref(cluster);
}

/* Leaders may just be moving: it is tried for a while. The client stays with the shard, and the
 * next goes on with one of its own, to the same broker. */
static int begin_shard(struct backup *b, unsigned number)
{
    struct cli *cli = b->cli;
    struct copied_shard *shard = &b->shards[number];
    enum status status = STATUS_BUSY;
    shard->number = number;
    for (unsigned tries = 0; tries < BEGIN_TRIES && status != STATUS_OK; tries++) {
        if (tries > 0)
            usleep(BEGIN_WAIT_US);
        find_leader(cli, number);
        json_t *input = json_pack("{s:i}", "Shard", (int)number);
        status = mr_rest_call(cli->client, "POST", BACKUP_PATH, input, &shard->about);
        if (status != STATUS_OK && mr_client_error(cli->client)->http_status != 409 &&
            mr_client_error(cli->client)->http_status != 503)
            break;
    }
    if (status != STATUS_OK)
        return cli_fail(cli, "begin a backup of shard %u", number);
    b->begun++;
    shard->id = cli_text(shard->about, "Backup", "");
    shard->client = cli->client;
    cli->client = NULL;
    return 0;
}

static int begin_all(struct backup *b)
{
    uint64_t since_ms = now_ms();
    int exit_status = begin_shard(b, 0);
    if (exit_status != 0)
        return exit_status;
    b->count = (unsigned)cli_integer(b->shards[0].about, "Shards");
    if (b->count == 0 || b->count > SHARDS_MAX)
        return cli_error(b->cli, "the broker has %u shards, more than this version knows",
                         b->count);
    for (unsigned i = 1; i < b->count && exit_status == 0; i++) {
        exit_status = cli_connect(b->cli, mr_client_endpoint(b->shards[i - 1].client));
        if (exit_status == 0)
            exit_status = begin_shard(b, i);
    }
    if (exit_status == 0 && now_ms() - since_ms > SPREAD_MS)
        return cli_error(b->cli,
                         "the shards could not be begun within %u ms of each other: leaders "
                         "were moving, or the brokers are busy. Try again",
                         SPREAD_MS);
    return exit_status;
}

/* ---- the command ---- */

/* The shard's broker is the one that is talked to. */
static void turn_to(struct backup *b, struct copied_shard *shard)
{
    b->shard = shard;
    b->cli->client = shard->client;
}

static void count_all(struct backup *b)
{
    for (unsigned i = 0; i < b->count; i++) {
        size_t k;
        json_t *file;
        json_t *files = json_object_get(b->shards[i].about, "Files");
        json_array_foreach(files, k, file) b->bytes_all += (uint64_t)cli_integer(file, "Bytes");
        b->files += json_array_size(files);
    }
}

static int end_shard(struct backup *b)
{
    int exit_status = sync_folder(b, in_shard(b, "segments"));
    if (exit_status == 0)
        exit_status = sync_folder(b, in_shard(b, "snapshots"));
    if (exit_status == 0)
        exit_status = sync_folder(b, in_shard(b, ""));
    const char *path = arena_printf(&b->cli->arena, BACKUP_PATH "/%s", b->shard->id);
    if (mr_rest_call(b->cli->client, "DELETE", path, NULL, NULL) != STATUS_OK && exit_status == 0)
        exit_status = cli_fail(b->cli, "end the backup of shard %u", b->shard->number);
    return exit_status;
}

/* A file of each shard in turn: one that nobody reads is given up by its broker. */
static int copy_round(struct backup *b, bool *more)
{
    int exit_status = 0;
    *more = false;
    for (unsigned i = 0; i < b->count && exit_status == 0; i++) {
        turn_to(b, &b->shards[i]);
        json_t *files = json_object_get(b->shard->about, "Files");
        if (b->shard->next > json_array_size(files))
            continue;
        if (b->shard->next == json_array_size(files))
            exit_status = end_shard(b);
        else
            exit_status = copy_file(b, json_array_get(files, b->shard->next));
        b->shard->next++;
        *more = true;
    }
    return exit_status;
}

static int copy_all(struct backup *b)
{
    int exit_status = 0;
    b->began_ms = b->said_ms = now_ms();
    count_all(b);
    for (unsigned i = 0; i < b->count && exit_status == 0; i++) {
        turn_to(b, &b->shards[i]);
        exit_status = make_shard_folder(b);
    }
    for (bool more = true; more && exit_status == 0;)
        exit_status = copy_round(b, &more);
    return exit_status;
}

static int print_done(struct backup *b, json_t *about)
{
    if (b->cli->options.json)
        return cli_json(b->cli, json_incref(about));
    buffer_printf(
        b->cli->out,
        "%s: all %u shards of cluster %s, %" PRIu64
        " MiB in %zu files.\nWhoever can read it can read every message and access key.\n",
        b->dir, b->count, cli_text(about, "ClusterId", "?"), b->bytes >> 20, b->files);
    return 0;
}

static int copy_and_print(struct backup *b)
{
    int exit_status = copy_all(b);
    json_t *about = exit_status == 0 ? manifest(b) : NULL;
    if (exit_status == 0)
        exit_status = write_manifest(b, about);
    if (exit_status == 0)
        exit_status = print_done(b, about);
    else
        cli_error(b->cli, "%s is no backup: remove it, and try again with an empty folder", b->dir);
    json_decref(about);
    return exit_status;
}

/* What was begun and not ended is ended, so that the next can begin. */
static void close_backup(struct backup *b)
{
    if (b->begun < b->count || b->count == 0) /* the last one was kept by no shard */
        mr_client_free(b->cli->client);
    b->cli->client = NULL;
    for (unsigned i = 0; i < b->begun; i++) {
        turn_to(b, &b->shards[i]);
        const char *path = arena_printf(&b->cli->arena, BACKUP_PATH "/%s", b->shard->id);
        if (b->shard->next <= json_array_size(json_object_get(b->shard->about, "Files")))
            (void)!mr_rest_call(b->cli->client, "DELETE", path, NULL, NULL);
        json_decref(b->shard->about);
        mr_client_free(b->shard->client);
        b->cli->client = NULL;
    }
    if (b->dir_fd >= 0)
        close(b->dir_fd);
}

static int backup_run(struct cli *cli)
{
    struct backup b = {.cli = cli, .dir = cli->arguments[0], .dir_fd = -1};
    int exit_status = open_folder(&b);
    if (exit_status == 0 && (exit_status = begin_all(&b)) != 0)
        close_folder(&b);
    else if (exit_status == 0)
        exit_status = copy_and_print(&b);
    close_backup(&b);
    return exit_status;
}

/* ---- what millrace-recover does ---- */

#define ARGS_MAX 16

static void add_option(const char *argv[ARGS_MAX], size_t *count, const char *name,
                       const char *value)
{
    if (value == NULL)
        return;
    argv[(*count)++] = name;
    argv[(*count)++] = value;
    ASSERT(*count < ARGS_MAX);
}

static int become(struct cli *cli, const char *from)
{
    const char *argv[ARGS_MAX] = {NULL};
    size_t count = 1;
    char self[4096];
    const struct cli_options *options = &cli->options;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        return cli_error(cli, "cannot find its own program file");
    self[length] = 0;
    *strrchr(self, '/') = 0;
    argv[0] = arena_printf(&cli->arena, "%s/millrace-recover", self);
    add_option(argv, &count, "--from", from);
    add_option(argv, &count, "--data-dir", options->data_dir);
    add_option(argv, &count, "--peer", options->peer);
    if (options->node_id != CLI_NOT_GIVEN)
        add_option(argv, &count, "--node-id",
                   arena_printf(&cli->arena, "%" PRIu64, options->node_id));
    if (options->yes)
        argv[count++] = "--yes";
    execv(argv[0], (char *const *)(uintptr_t)argv);
    return cli_error(cli, "cannot run %s: %s", argv[0], strerror(errno));
}

static int restore_run(struct cli *cli)
{
    return become(cli, cli->arguments[0]);
}

static int recover_run(struct cli *cli)
{
    return become(cli, NULL);
}

static const struct option_row backup_rows[] = {
    CLI_ROW("rate", NUMBER, "MB", rate, .min = 1, .max = 1000000,
            .help = "Megabytes a second, at most; default: as fast as it goes."),
};

static const struct option_row restore_rows[] = {
    CLI_ROW("data-dir", TEXT, "DIR", data_dir, .required = true,
            .help = "The new broker's data directory: absent or empty."),
    CLI_ROW("node-id", NUMBER, "N", node_id, .required = true, .min = 1, .max = UINT32_MAX,
            .help = "Its number in the new cluster."),
    CLI_ROW("peer", ADDRESS, "HOST:PORT", peer, .required = true,
            .help = "Where other brokers will reach it: its --peer (or --advertise-peer)."),
};

static const struct option_row recover_rows[] = {
    CLI_ROW("data-dir", TEXT, "DIR", data_dir, .required = true,
            .help = "Of the broker that survived; it must be stopped."),
    CLI_ROW("peer", ADDRESS, "HOST:PORT", peer,
            .help = "Where other brokers will reach it, if that has changed."),
    CLI_ROW("yes", FLAG, NULL, yes, .help = "Do it; without this only say what would be lost."),
};

const struct cli_command cli_backup_commands[] = {
    {.words = "backup",
     .usage = "DIR",
     .rows = backup_rows,
     .row_count = ARRAY_COUNT(backup_rows),
     .summary = "Copy a running cluster, as of one moment, to a folder.",
     .examples = "  millrace backup /backups/monday\n"
                 "  millrace backup --rate 20 --endpoint http://10.0.0.2:9324 /backups/monday\n",
     .arguments_min = 1,
     .arguments_max = 1,
     .run = backup_run},
    {.words = "restore",
     .usage = "BACKUP",
     .summary = "Make the data directory of a new cluster, of one broker, from a backup.",
     .examples = "  millrace restore --data-dir /var/lib/millrace/broker --node-id 11 "
                 "--peer 10.0.0.1:9326 /backups/monday\n",
     .rows = restore_rows,
     .row_count = ARRAY_COUNT(restore_rows),
     .arguments_min = 1,
     .arguments_max = 1,
     .no_client = true,
     .run = restore_run},
    {.words = "cluster recover",
     .usage = "",
     .summary = "Where a majority is lost for good: let one broker go on alone.",
     .examples = "  millrace cluster recover --data-dir /var/lib/millrace/broker\n"
                 "  millrace cluster recover --data-dir /var/lib/millrace/broker --yes\n",
     .rows = recover_rows,
     .row_count = ARRAY_COUNT(recover_rows),
     .no_client = true,
     .run = recover_run},
};
const size_t cli_backup_command_count = ARRAY_COUNT(cli_backup_commands);
