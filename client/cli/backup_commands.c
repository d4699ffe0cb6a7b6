/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace backup`: a consistent copy of a running cluster, from the node that leads, into a
 * folder (docs/format.md, "Backups"). The manifest is written last: a folder without one is no
 * backup. `millrace restore` and `millrace cluster recover` work on data directories, which is
 * the business of millrace-recover beside this program: they become it. */
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
#define FORMAT        1
#define SAY_EVERY_S   5
#define NAME_MAX_HERE 63

struct backup {
    struct cli *cli;
    const char *dir;
    int dir_fd;
    bool made_dir;
    json_t *about; /* as the broker began it */
    const char *id;
    uint64_t bytes_all, bytes;
    time_t said;
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

static int open_folder(struct backup *b)
{
    b->made_dir = mkdir(b->dir, 0700) == 0;
    if (!b->made_dir && errno != EEXIST)
        return fail_errno(b, "");
    if (!is_empty(b->dir))
        return cli_error(b->cli, "%s is not an empty folder; give a new one", b->dir);
    b->dir_fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->dir_fd < 0 || mkdirat(b->dir_fd, "segments", 0700) != 0 ||
        mkdirat(b->dir_fd, "snapshots", 0700) != 0)
        return fail_errno(b, "");
    return 0;
}

/* It was not even begun: leave nothing. */
static void close_folder(struct backup *b)
{
    unlinkat(b->dir_fd, "segments", AT_REMOVEDIR);
    unlinkat(b->dir_fd, "snapshots", AT_REMOVEDIR);
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

static void say_progress(struct backup *b)
{
    time_t now = time(NULL);
    if (now - b->said < SAY_EVERY_S)
        return;
    b->said = now;
    fprintf(stderr, "millrace: backup: %" PRIu64 " of %" PRIu64 " MiB\n", b->bytes >> 20,
            b->bytes_all >> 20);
}

static int copy_bytes(struct backup *b, int fd, const char *name, uint64_t bytes, uint32_t *crc)
{
    int exit_status = 0;
    struct mr_response piece = {0};
    for (uint64_t at = 0; at < bytes && exit_status == 0;) {
        const char *path =
            arena_printf(&b->cli->arena, BACKUP_PATH "/%s/%s?offset=%" PRIu64, b->id, name, at);
        struct mr_request request = {.method = "GET", .path = path};
        if (mr_http(b->cli->client, &request, &piece) != STATUS_OK) {
            exit_status = cli_fail(b->cli, "read %s of the broker", name);
        } else if (piece.body.length == 0 || piece.body.length > bytes - at) {
            exit_status = cli_error(b->cli, "the broker gave another length of %s", name);
        } else {
            exit_status = write_all(b, fd, name, buffer_slice(&piece.body));
            *crc = crc32c(*crc, buffer_slice(&piece.body));
            at += piece.body.length;
            b->bytes += piece.body.length;
            say_progress(b);
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
    int fd = openat(b->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_errno(b, name);
    int exit_status = copy_bytes(b, fd, name, bytes, &crc);
    if (exit_status == 0 && fsync(fd) != 0)
        exit_status = fail_errno(b, name);
    close(fd);
    json_object_set_new(file, "Crc32c", json_sprintf("%08x", crc));
    return exit_status;
}

/* ---- the manifest ---- */

static int write_manifest(struct backup *b)
{
    json_object_del(b->about, "Backup");
    json_object_set_new(b->about, "Format", json_integer(FORMAT));
    char *text = json_dumps(b->about, JSON_COMPACT | JSON_SORT_KEYS);
    ASSERT(text != NULL);
    json_object_set_new(b->about, "Checksum", json_sprintf("%08x", crc32c(0, slice_of(text))));
    free(text);
    text = json_dumps(b->about, JSON_INDENT(1) | JSON_SORT_KEYS);
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

/* ---- the command ---- */

/* The node that leads has all that was answered: go on there. */
static void follow_leader(struct cli *cli)
{
    json_t *status;
    if (mr_status(cli->client, &status) != STATUS_OK)
        return; /* the next call says why */
    const char *endpoint = cli_text(status, "leader_endpoint", "");
    if (endpoint[0] != 0)
        (void)cli_connect(cli, arena_printf(&cli->arena, "%s", endpoint));
    json_decref(status);
}

static int copy_all(struct backup *b)
{
    size_t i;
    json_t *file;
    json_t *files = json_object_get(b->about, "Files");
    int exit_status = 0;
    b->id = cli_text(b->about, "Backup", "");
    b->said = time(NULL);
    json_array_foreach(files, i, file) b->bytes_all += (uint64_t)cli_integer(file, "Bytes");
    json_array_foreach(files, i, file)
    {
        if (exit_status == 0)
            exit_status = copy_file(b, file);
    }
    if (exit_status == 0)
        exit_status = sync_folder(b, "segments");
    if (exit_status == 0)
        exit_status = sync_folder(b, "snapshots");
    const char *path = arena_printf(&b->cli->arena, BACKUP_PATH "/%s", b->id);
    if (mr_rest_call(b->cli->client, "DELETE", path, NULL, NULL) != STATUS_OK && exit_status == 0)
        exit_status = cli_fail(b->cli, "end the backup");
    return exit_status == 0 ? write_manifest(b) : exit_status;
}

static int print_done(struct backup *b)
{
    if (b->cli->options.json)
        return cli_json(b->cli, json_incref(b->about));
    buffer_printf(
        b->cli->out,
        "%s: everything up to entry %lld of cluster %s, %" PRIu64
        " MiB in %zu files.\nWhoever can read it can read every message and access key.\n",
        b->dir, cli_integer(b->about, "Index"), cli_text(b->about, "ClusterId", "?"),
        b->bytes >> 20, json_array_size(json_object_get(b->about, "Files")));
    return 0;
}

static int backup_run(struct cli *cli)
{
    struct backup b = {.cli = cli, .dir = cli->arguments[0], .dir_fd = -1};
    int exit_status = open_folder(&b);
    if (exit_status == 0) {
        follow_leader(cli);
        if (mr_rest_call(cli->client, "POST", BACKUP_PATH, NULL, &b.about) != STATUS_OK) {
            exit_status = cli_fail(cli, "begin a backup");
            close_folder(&b);
        } else if ((exit_status = copy_all(&b)) == 0) {
            exit_status = print_done(&b);
        } else {
            cli_error(cli, "%s is no backup: remove it, and try again with an empty folder", b.dir);
        }
    }
    json_decref(b.about);
    if (b.dir_fd >= 0)
        close(b.dir_fd);
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

static const struct option_row restore_rows[] = {
    CLI_ROW("data-dir", TEXT, "DIR", data_dir, .required = true,
            .help = "The new broker's data directory: absent or empty."),
    CLI_ROW("node-id", NUMBER, "N", node_id, .required = true, .min = 1, .max = UINT32_MAX,
            .help = "Its number; best one that the old cluster never used."),
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
     .summary = "Copy a running cluster, as of one moment, to a folder.",
     .examples = "  millrace backup /backups/monday\n"
                 "  millrace backup --endpoint http://10.0.0.2:9324 /backups/monday\n",
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
