/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace tls init`: an authority of one's own, and a folder for each program that needs a
 * certificate of it.
 *
 *     DIR/ca.pem, DIR/ca-key.pem     the authority; its key belongs on no server
 *     DIR/HOST/                      a broker on HOST: ca.pem, cert.pem, key.pem for its --tls-dir
 *     DIR/worker/                    the workers
 *     DIR/client/                    clients, where a broker asks them for a certificate
 *
 * What is there already is kept, so that the same command with one more host adds that host.
 * --renew makes new certificates, never a new authority. */
#include "client/cli/cli.h"

#include "proto/base/assert.h"
#include "proto/tls/issue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOSTS_MAX       16 /* names and addresses of one broker */
#define DAYS_DEFAULT    825
#define DAYS_MAX        3650
#define AUTHORITY_DAYS  7300
#define AUTHORITY_NAME  "Millrace private authority"
#define FOLDER_NAME_MAX 64

/* A folder to be: its name, and what its certificate says. */
struct plan {
    const char *name;
    const char *role;
    const char *hosts[HOSTS_MAX];
    size_t host_count;
};

struct work {
    struct cli *cli;
    struct tls_authority authority;
    json_t *done; /* one object for each folder */
};

static const char *below(struct cli *cli, const char *folder, const char *name)
{
    return arena_printf(&cli->arena, "%s/%s/%s", cli->options.dir, folder, name);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static int make_folder(struct cli *cli, const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    return cli_error(cli, "cannot make %s: %s", path, strerror(errno));
}

static int make_authority(struct work *w)
{
    struct tls_error error;
    bool certificate = exists(w->authority.certificate_file);
    bool key = exists(w->authority.key_file);
    if (certificate && key)
        return 0;
    if (certificate || key)
        return cli_error(w->cli, "%s is there without %s; put it back, or remove both",
                         certificate ? w->authority.certificate_file : w->authority.key_file,
                         certificate ? w->authority.key_file : w->authority.certificate_file);
    if (tls_authority_make(&w->authority, AUTHORITY_NAME, AUTHORITY_DAYS, &error) != STATUS_OK)
        return cli_error(w->cli, "cannot make the authority: %s", error.text);
    return 0;
}

static void note(struct work *w, const struct plan *plan, const char *certificate, bool made)
{
    json_t *hosts = json_array();
    for (size_t i = 0; i < plan->host_count; i++)
        json_array_append_new(hosts, json_string(plan->hosts[i]));
    json_array_append_new(w->done, json_pack("{s:s, s:s, s:o, s:b}", "certificate", certificate,
                                             "role", plan->role, "hosts", hosts, "made", made));
}

static int make_certificate(struct work *w, const struct plan *plan)
{
    struct cli *cli = w->cli;
    struct tls_error error;
    uint64_t days = cli->options.days;
    struct tls_request request = {.name = plan->name,
                                  .role = plan->role,
                                  .hosts = plan->hosts,
                                  .host_count = plan->host_count,
                                  .days = days == CLI_NOT_GIVEN ? DAYS_DEFAULT : (unsigned)days,
                                  .certificate_file = below(cli, plan->name, TLS_DIR_CERTIFICATE),
                                  .key_file = below(cli, plan->name, TLS_DIR_KEY)};
    int failed = make_folder(cli, arena_printf(&cli->arena, "%s/%s", cli->options.dir, plan->name));
    if (failed != 0)
        return failed;
    enum status status =
        tls_authority_copy(&w->authority, below(cli, plan->name, TLS_DIR_CA), &error);
    bool kept = !cli->options.renew && exists(request.certificate_file) && exists(request.key_file);
    if (status == STATUS_OK && !kept)
        status = tls_issue(&w->authority, &request, &error);
    if (status != STATUS_OK)
        return cli_error(cli, "cannot make a certificate for %s: %s", plan->name, error.text);
    note(w, plan, request.certificate_file, !kept);
    return 0;
}

/* "a+10.0.0.1" into a plan; the first is the folder's name. */
static int plan_host(struct cli *cli, char *text, struct plan *plan)
{
    char *save = NULL;
    *plan = (struct plan){.role = TLS_ROLE_BROKER};
    for (char *word = strtok_r(text, "+", &save); word != NULL; word = strtok_r(NULL, "+", &save)) {
        if (plan->host_count == HOSTS_MAX)
            return cli_misuse(cli, "a broker may have %d names and addresses at most", HOSTS_MAX);
        plan->hosts[plan->host_count++] = word;
    }
    plan->name = plan->hosts[0];
    if (plan->host_count == 0 || plan->name[0] == '.' || strchr(plan->name, '/') != NULL ||
        strlen(plan->name) > FOLDER_NAME_MAX)
        return cli_misuse(cli, "--hosts must look like a,b or a.example+10.0.0.1,b.example");
    if (strcmp(plan->name, "worker") == 0 || strcmp(plan->name, "client") == 0)
        return cli_misuse(cli, "a broker cannot be called '%s' here: that folder has another use",
                          plan->name);
    return 0;
}

static int make_all(struct work *w)
{
    struct cli *cli = w->cli;
    static const struct plan others[] = {{.name = "worker", .role = TLS_ROLE_WORKER},
                                         {.name = "client", .role = TLS_ROLE_CLIENT}};
    char *copy = (char *)(uintptr_t)arena_text(&cli->arena, slice_of(cli->options.hosts));
    char *save = NULL;
    int failed = make_authority(w);
    for (char *word = strtok_r(copy, ",", &save); word != NULL && failed == 0;
         word = strtok_r(NULL, ",", &save)) {
        struct plan plan;
        failed = plan_host(cli, word, &plan);
        if (failed == 0)
            failed = make_certificate(w, &plan);
    }
    for (size_t i = 0; i < ARRAY_COUNT(others) && failed == 0; i++)
        failed = make_certificate(w, &others[i]);
    return failed;
}

static void print_done(struct work *w)
{
    struct buffer *out = w->cli->out;
    size_t i;
    json_t *item;
    buffer_printf(out, "authority    %s (keep %s off the servers)\n", w->authority.certificate_file,
                  w->authority.key_file);
    json_array_foreach(w->done, i, item)
    {
        bool made = json_is_true(json_object_get(item, "made"));
        buffer_printf(out, "%s %s (%s)\n", made ? "made        " : "kept        ",
                      cli_text(item, "certificate", ""), cli_text(item, "role", ""));
    }
    buffer_printf(out,
                  "\nCopy each folder to its machine, then:\n"
                  "  millrace-broker --tls-dir FOLDER ...\n"
                  "  millrace-worker --tls-dir FOLDER ...\n"
                  "HTTPS for clients, with the same certificate or one that they trust already:\n"
                  "  millrace-broker --tls-cert FOLDER/cert.pem --tls-key FOLDER/key.pem ...\n");
}

static int tls_init(struct cli *cli)
{
    struct work w = {.cli = cli,
                     .authority = {arena_printf(&cli->arena, "%s/ca.pem", cli->options.dir),
                                   arena_printf(&cli->arena, "%s/ca-key.pem", cli->options.dir)},
                     .done = json_array()};
    if (cli->options.hosts[0] == '\0')
        return cli_misuse(cli, "--hosts must name a broker");
    int failed = make_folder(cli, cli->options.dir);
    if (failed == 0)
        failed = make_all(&w);
    if (failed == 0 && cli->options.json)
        return cli_json(cli, json_pack("{s:s, s:o}", "authority", w.authority.certificate_file,
                                       "certificates", w.done));
    if (failed == 0)
        print_done(&w);
    json_decref(w.done);
    return failed;
}

static const struct option_row rows[] = {
    CLI_ROW("dir", TEXT, "DIR", dir, .required = true,
            .help = "Where the authority and the folders are, or will be."),
    CLI_ROW("hosts", TEXT, "HOST,...", hosts, .required = true,
            .help = "The brokers' names or addresses, as others dial them; several of one broker "
                    "joined with '+'."),
    CLI_ROW("days", NUMBER, "N", days, .min = 1, .max = DAYS_MAX,
            .help = "How long the certificates are valid; 825 without it."),
    CLI_ROW("renew", FLAG, NULL, renew,
            .help = "Make new certificates where there are some; the authority stays."),
};

const struct cli_command cli_tls_commands[] = {
    {.words = "tls init",
     .usage = "",
     .summary = "Make a private authority, and certificates for brokers and workers.",
     .examples = "  millrace tls init --dir ./tls --hosts a.example,b.example,c.example\n"
                 "  millrace tls init --dir ./tls --hosts a.example+10.0.0.1 --renew\n",
     .rows = rows,
     .row_count = ARRAY_COUNT(rows),
     .no_client = true,
     .run = tls_init},
};
const size_t cli_tls_command_count = ARRAY_COUNT(cli_tls_commands);
