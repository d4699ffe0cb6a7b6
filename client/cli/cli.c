/* SPDX-License-Identifier: Apache-2.0 */
/* From a command line to a command and back to an exit status.
 *
 * A command is one or two words ("status", "queue create"); the longest match in the tables wins.
 * Options may stand before, between and behind the words' arguments, as the common ones
 * (--endpoint, --json) are the same everywhere. Each command reads its own options from its own
 * rows, so an option of another command is unknown to it and said to be so.
 *
 * Output is gathered and written at the end: a command that fails half way prints no half table.
 * Exit status: 0 done, 1 failed (the reason on stderr), 64 misuse. */
#include "client/cli/cli.h"

#include "proto/base/assert.h"
#include "proto/tls/tls.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ROWS_MAX        32
#define WORDS_MAX       2

#define TOKEN_BYTES_MAX 2048

static const struct option_row common_rows[] = {
    CLI_ROW("endpoint", TEXT, "URL", endpoint,
            .help = "The broker; without it AWS_ENDPOINT_URL, then http://127.0.0.1:9324."),
    CLI_ROW("ca-file", TEXT, "FILE", ca_file,
            .help = "Whom to trust with https (PEM); without it AWS_CA_BUNDLE, then the system."),
    CLI_ROW("tls-dir", TEXT, "DIR", tls_dir,
            .help = "A folder of millrace tls init: its ca.pem, and cert.pem and key.pem to show."),
    CLI_ROW("access-key-id", TEXT, "ID", access_key_id,
            .help = "The key to sign with; without it AWS_ACCESS_KEY_ID, then no signature."),
    CLI_ROW("secret-access-key", TEXT, "SECRET", secret_access_key,
            .help = "Its secret, better given by MILLRACE_SECRET_ACCESS_KEY, AWS_SECRET_ACCESS_KEY "
                    "or --config: others can see a command line."),
    CLI_ROW("json", FLAG, NULL, json, .help = "Print JSON instead of text for people."),
};

#define COMMON_WITHOUT_CLIENT 3 /* the first that a command without a client has, too */

struct command_list {
    const struct cli_command *commands;
    const size_t *count;
};

static const struct command_list lists[] = {
    {cli_queue_commands, &cli_queue_command_count},
    {cli_function_commands, &cli_function_command_count},
    {cli_key_commands, &cli_key_command_count},
    {cli_status_commands, &cli_status_command_count},
    {cli_cluster_commands, &cli_cluster_command_count},
    {cli_local_commands, &cli_local_command_count},
    {cli_bench_commands, &cli_bench_command_count},
    {cli_tls_commands, &cli_tls_command_count},
    {cli_backup_commands, &cli_backup_command_count},
};

__attribute__((format(printf, 3, 0))) static int say(struct cli *cli, int exit_status,
                                                     const char *format, va_list args)
{
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    buffer_printf(cli->err, "millrace: %s\n", text);
    return exit_status;
}

int cli_error(struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int exit_status = say(cli, CLI_EXIT_FAILED, format, args);
    va_end(args);
    return exit_status;
}

int cli_misuse(struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int exit_status = say(cli, CLI_EXIT_MISUSE, format, args);
    va_end(args);
    return exit_status;
}

int cli_fail(struct cli *cli, const char *format, ...)
{
    const struct mr_error *error = mr_client_error(cli->client);
    char what[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (error->code[0] != 0)
        return cli_error(cli, "cannot %s: %s: %s", what, error->code, error->message);
    if (error->http_status != 0)
        return cli_error(cli, "cannot %s: HTTP %d: %s", what, error->http_status, error->message);
    return cli_error(cli, "cannot %s: %s", what, error->message);
}

int cli_json(struct cli *cli, json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    ASSERT(text != NULL);
    buffer_printf(cli->out, "%s\n", text);
    free(text);
    json_decref(value);
    return 0;
}

enum status cli_read_input(const char *path, size_t bytes_max, struct buffer *out)
{
    bool from_stdin = strcmp(path, "-") == 0;
    int fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return status_from_errno(errno);
    enum status status = STATUS_OK;
    for (;;) {
        ssize_t got = read(fd, buffer_reserve(out, 65536), 65536);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            status = status_from_errno(errno);
        if (got <= 0)
            break;
        buffer_added(out, (size_t)got);
        if (out->length > bytes_max) {
            status = STATUS_TOO_LARGE;
            break;
        }
    }
    if (!from_stdin)
        close(fd);
    return status;
}

const char *cli_text(const json_t *object, const char *member, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text != NULL ? text : otherwise;
}

long long cli_integer(const json_t *object, const char *member)
{
    return json_integer_value(json_object_get(object, member));
}

json_t *cli_assignments(const struct option_list *list, const char **bad)
{
    json_t *object = json_object();
    for (size_t i = 0; i < list->count; i++) {
        const char *item = list->items[i];
        const char *equals = strchr(item, '=');
        json_t *value = equals != NULL ? json_string(equals + 1) : NULL;
        if (value == NULL || equals == item) {
            *bad = item;
            json_decref(value);
            json_decref(object);
            return NULL;
        }
        json_object_setn_new(object, item, (size_t)(equals - item), value);
    }
    return object;
}

/* The common option that `word`, "--name" or "--name=value", is; NULL: none of them. */
static const struct option_row *common_row(const char *word)
{
    for (size_t i = 0; i < ARRAY_COUNT(common_rows); i++) {
        size_t length = strlen(common_rows[i].name);
        if (strncmp(word, "--", 2) == 0 && strncmp(word + 2, common_rows[i].name, length) == 0 &&
            (word[2 + length] == '\0' || word[2 + length] == '='))
            return &common_rows[i];
    }
    return NULL;
}

/* Where the words of the command stand in argv: options of both kinds may come first. */
static size_t find_words(int argc, char *const argv[], int at[WORDS_MAX])
{
    size_t count = 0;
    for (int i = 1; i < argc && count < WORDS_MAX; i++) {
        if (argv[i][0] != '-') {
            at[count++] = i;
            continue;
        }
        const struct option_row *row = common_row(argv[i]);
        if (row == NULL)
            break;
        if (row->type != OPTION_FLAG && strchr(argv[i], '=') == NULL)
            i++; /* its value */
    }
    return count;
}

static const struct cli_command *command_named(const char *words)
{
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        for (size_t j = 0; j < *lists[i].count; j++) {
            if (strcmp(lists[i].commands[j].words, words) == 0)
                return &lists[i].commands[j];
        }
    }
    return NULL;
}

/* The command, and how many words it took. */
static const struct cli_command *find_command(struct cli *cli, char *const argv[],
                                              const int at[WORDS_MAX], size_t count, size_t *used)
{
    for (*used = count; *used > 0; (*used)--) {
        const char *words = argv[at[0]];
        if (*used == 2)
            words = arena_printf(&cli->arena, "%s %s", words, argv[at[1]]);
        const struct cli_command *command = command_named(words);
        if (command != NULL)
            return command;
    }
    return NULL;
}

static void print_line(struct buffer *out, const char *left, const char *right)
{
    buffer_printf(out, "  %-20s %s\n", left, right);
}

/* All commands, or those of a group ("queue"); how many there are. */
static size_t print_commands(struct buffer *out, const char *group)
{
    size_t printed = 0;
    size_t length = strlen(group);
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        for (size_t j = 0; j < *lists[i].count; j++) {
            const struct cli_command *command = &lists[i].commands[j];
            bool other = strncmp(command->words, group, length) != 0;
            if (other || (length > 0 && command->words[length] != ' '))
                continue;
            print_line(out, command->words, command->summary);
            printed++;
        }
    }
    return printed;
}

static void print_overview(struct buffer *out, const char *group)
{
    buffer_add_text(out, "Usage: millrace COMMAND [OPTION]... [ARGUMENT]...\n"
                         "Queues and functions of a Millrace broker, and `millrace local` to run "
                         "one here.\n\nCommands:\n");
    if (print_commands(out, group) == 0)
        print_commands(out, "");
    buffer_add_text(out, "\nCommon options:\n");
    for (size_t i = 0; i < ARRAY_COUNT(common_rows); i++) {
        const struct option_row *row = &common_rows[i];
        char left[32];
        snprintf(left, sizeof left, "--%s%s%s", row->name, row->placeholder != NULL ? " " : "",
                 row->placeholder != NULL ? row->placeholder : "");
        print_line(out, left, row->help);
    }
    print_line(out, "--help", "Show this help; `millrace COMMAND --help` shows more.");
    print_line(out, "--version", "Show the version.");
    buffer_add_text(out, "\nStart with: millrace local\n");
}

static int without_command(struct cli *cli, int argc, char *const argv[], const int at[WORDS_MAX],
                           size_t count)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--version") == 0) {
            buffer_add_text(cli->out, "millrace " MILLRACE_VERSION "\n");
            return 0;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_overview(cli->out, count > 0 ? argv[at[0]] : "");
            return 0;
        }
    }
    if (count == 0 && argc > 1)
        return cli_misuse(cli, "'%s' is no command; millrace --help lists them", argv[argc - 1]);
    if (count == 0) {
        print_overview(cli->err, "");
        return CLI_EXIT_MISUSE;
    }
    return cli_misuse(cli, "'%s%s%s' is no command; millrace --help lists them", argv[at[0]],
                      count > 1 ? " " : "", count > 1 ? argv[at[1]] : "");
}

/* The command's options and arguments; the words themselves are left out. */
static enum status read_options(struct cli *cli, int argc, char *const argv[], const int *at,
                                size_t used, struct options_result *result)
{
    const struct cli_command *command = cli->command;
    struct option_row rows[ROWS_MAX];
    size_t row_count = 0;
    ASSERT(command->row_count + ARRAY_COUNT(common_rows) <= ROWS_MAX);
    for (size_t i = 0; i < command->row_count; i++)
        rows[row_count++] = command->rows[i];
    for (size_t i = command->no_client ? COMMON_WITHOUT_CLIENT : 0; i < ARRAY_COUNT(common_rows);
         i++)
        rows[row_count++] = common_rows[i];

    char **words = arena_alloc(&cli->arena, sizeof *words * (size_t)(argc + 1));
    int word_count = 0;
    for (int i = 0; i < argc; i++) {
        bool is_command = i == at[0] || (used == 2 && i == at[1]);
        if (!is_command)
            words[word_count++] = argv[i];
    }
    struct options_spec spec = {
        .program = arena_printf(&cli->arena, "millrace %s", command->words),
        .summary = command->summary,
        .usage = command->usage[0] != 0 ? command->usage : NULL,
        .epilogue = arena_printf(&cli->arena, "Examples:\n%s", command->examples),
        .rows = rows,
        .row_count = row_count,
        .takes_arguments = true,
    };
    return options_read(&spec, word_count, words, &cli->options, &cli->arena, result);
}

static int check_arguments(struct cli *cli)
{
    const struct cli_command *command = cli->command;
    if (cli->argument_count >= command->arguments_min &&
        cli->argument_count <= command->arguments_max)
        return 0;
    const char *wrong = cli->argument_count < command->arguments_min ? "missing" : "unexpected";
    return cli_misuse(cli, "%s argument; usage: millrace %s [OPTION]...%s%s", wrong, command->words,
                      command->usage[0] != 0 ? " " : "", command->usage);
}

static const char *from_environment(const char *given, const char *name)
{
    const char *value = given != NULL ? given : getenv(name);
    return value != NULL && value[0] != 0 ? value : NULL;
}

/* Both halves of the key, or neither: half a key is a mistake that would show as a denied call. */
static int take_key(struct cli *cli, struct cli_access *out)
{
    const char *region = from_environment(getenv("AWS_REGION"), "AWS_DEFAULT_REGION");
    out->access_key_id = from_environment(cli->options.access_key_id, "AWS_ACCESS_KEY_ID");
    out->secret_access_key =
        from_environment(cli->options.secret_access_key, "AWS_SECRET_ACCESS_KEY");
    out->region = region != NULL ? region : "us-east-1";
    if ((out->access_key_id == NULL) != (out->secret_access_key == NULL))
        return cli_misuse(cli, "an access key needs both its id and its secret; the %s is missing",
                          out->access_key_id == NULL ? "id" : "secret");
    return 0;
}

static void take_tls(struct cli *cli, struct cli_access *out)
{
    const char *dir = cli->options.tls_dir;
    out->ca_file = cli->options.ca_file;
    if (out->ca_file == NULL && dir != NULL)
        out->ca_file = arena_printf(&cli->arena, "%s/" TLS_DIR_CA, dir);
    out->ca_file = from_environment(out->ca_file, "AWS_CA_BUNDLE");
    if (dir == NULL)
        return;
    out->certificate_file = arena_printf(&cli->arena, "%s/" TLS_DIR_CERTIFICATE, dir);
    out->key_file = arena_printf(&cli->arena, "%s/" TLS_DIR_KEY, dir);
}

int cli_access(struct cli *cli, struct cli_access *out)
{
    *out = (struct cli_access){0};
    take_tls(cli, out);
    return take_key(cli, out);
}

int cli_take_token(struct cli *cli)
{
    const char *file = cli->options.metrics_token_file;
    struct buffer token = {0};
    if (file == NULL)
        return 0;
    enum status status = cli_read_input(file, TOKEN_BYTES_MAX, &token);
    while (token.length > 0 && isspace(token.data[token.length - 1]))
        token.length--;
    if (status == STATUS_OK)
        status = mr_client_set_token(cli->client, buffer_c_string(&token));
    buffer_free(&token);
    return status == STATUS_OK ? 0
                               : cli_error(cli, "cannot read --metrics-token-file %s: %s", file,
                                           status_text(status));
}

int cli_connect(struct cli *cli, const char *endpoint)
{
    if (cli->client != NULL)
        mr_client_free(cli->client);
    cli->client = NULL;
    struct cli_access access;
    int exit_status = cli_access(cli, &access);
    if (exit_status != 0)
        return exit_status;
    enum status status = mr_client_new(&cli->client, endpoint);
    if (status == STATUS_INVALID)
        return cli_misuse(cli, "the endpoint '%s' is not an http:// or https:// URL", endpoint);
    if (status == STATUS_OK)
        status =
            mr_client_tls(cli->client, access.ca_file, access.certificate_file, access.key_file);
    if (status == STATUS_OK && access.access_key_id != NULL)
        status = mr_client_set_key(cli->client, access.access_key_id, access.secret_access_key,
                                   access.region);
    if (status != STATUS_OK)
        return cli_error(cli, "%s", status_text(status));
    return cli_take_token(cli);
}

static int open_client(struct cli *cli)
{
    const char *endpoint = cli->options.endpoint;
    const char *from_aws = getenv("AWS_ENDPOINT_URL");
    if (endpoint == NULL)
        endpoint = from_aws != NULL && from_aws[0] != 0 ? from_aws : MR_ENDPOINT_DEFAULT;
    return cli_connect(cli, endpoint);
}

static int run_command(struct cli *cli, int argc, char *const argv[], const int *at, size_t used)
{
    struct options_result result;
    if (read_options(cli, argc, argv, at, used, &result) != STATUS_OK)
        return cli_misuse(cli, "%s", result.error);
    if (result.exit_now)
        return 0;
    cli->arguments = result.arguments;
    cli->argument_count = result.argument_count;
    int exit_status = check_arguments(cli);
    if (exit_status == 0 && !cli->command->no_client)
        exit_status = open_client(cli);
    return exit_status == 0 ? cli->command->run(cli) : exit_status;
}

static const struct cli_options nothing_given = {
    .visibility_s = CLI_NOT_GIVEN,
    .delay_s = CLI_NOT_GIVEN,
    .retention_s = CLI_NOT_GIVEN,
    .receives_max = CLI_NOT_GIVEN,
    .count_max = CLI_NOT_GIVEN,
    .wait_s = CLI_NOT_GIVEN,
    .memory_mb = CLI_NOT_GIVEN,
    .timeout_s = CLI_NOT_GIVEN,
    .batch_size = CLI_NOT_GIVEN,
    .memory_bytes = CLI_NOT_GIVEN,
    .concurrency = CLI_NOT_GIVEN,
    .days = CLI_NOT_GIVEN,
    .node_id = CLI_NOT_GIVEN,
    .keepalive_timeout_s = CLI_NOT_GIVEN,
    .keepalive_requests = CLI_NOT_GIVEN,
};

int cli_run(int argc, char *const argv[], struct buffer *out, struct buffer *err)
{
    struct cli cli = {.options = nothing_given, .out = out, .err = err};
    int at[WORDS_MAX] = {0};
    size_t used = 0;
    size_t count = find_words(argc, argv, at);
    cli.command = find_command(&cli, argv, at, count, &used);
    int exit_status = cli.command != NULL ? run_command(&cli, argc, argv, at, used)
                                          : without_command(&cli, argc, argv, at, count);
    mr_client_free(cli.client);
    arena_free(&cli.arena);
    return exit_status;
}
