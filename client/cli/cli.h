/* SPDX-License-Identifier: Apache-2.0 */
/* The `millrace` program: a table of commands, and what every command is given. */
#ifndef CLIENT_CLI_CLI_H
#define CLIENT_CLI_CLI_H

#include "client/millrace.h"
#include "proto/base/options.h"

#define CLI_EXIT_FAILED 1
#define CLI_EXIT_MISUSE 64 /* EX_USAGE of sysexits.h */

#define CLI_NOT_GIVEN   UINT64_MAX

/* The options of all commands; each command's rows name the fields it takes. Numbers start as
 * CLI_NOT_GIVEN, texts as NULL. */
struct cli_options {
    const char *endpoint;
    const char *ca_file, *tls_dir;
    const char *access_key_id, *secret_access_key;
    bool json;
    /* queues */
    uint64_t visibility_s, delay_s, retention_s, receives_max, count_max, wait_s;
    const char *dead_letter, *prefix, *file;
    bool delete_received;
    struct option_list attributes;
    /* functions */
    const char *runtime, *handler, *name, *queue, *payload;
    uint64_t memory_mb, timeout_s, batch_size;
    struct option_list environment;
    bool async, tail;
    /* keys */
    const char *policy;
    /* local */
    const char *data_dir, *http, *rpc, *peer, *region, *account_id, *auth;
    const char *metrics_auth, *metrics_token_file;
    const char *tls_cert, *tls_key, *tls_client_ca, *worker_tls_dir;
    const char *root_access_key_id, *root_secret_access_key;
    uint64_t keepalive_timeout_s, keepalive_requests;
    uint64_t memory_bytes, concurrency;
    /* bench */
    const char *mode, *protocol, *brokers, *server_pids;
    uint64_t messages, seconds, size, inflight, batch, queues, groups, rate, receivers, kill_pid;
    bool fifo;
    /* tls */
    const char *dir, *hosts;
    uint64_t days;
    bool renew;
    /* recovery */
    uint64_t node_id;
    bool yes;
};

#define CLI_ROW(flag, kind, value, field, ...)                                                     \
    {                                                                                              \
        .name = (flag), .type = OPTION_##kind, .placeholder = (value),                             \
        .offset = offsetof(struct cli_options, field), __VA_ARGS__                                 \
    }

struct cli;

struct cli_command {
    const char *words;   /* "queue create" */
    const char *usage;   /* the arguments: "NAME" */
    const char *summary; /* one line, for both helps */
    const char *examples;
    const struct option_row *rows;
    size_t row_count;
    size_t arguments_min, arguments_max;
    bool no_client; /* does not talk to an endpoint that is given */
    int (*run)(struct cli *cli);
};

extern const struct cli_command cli_queue_commands[];
extern const size_t cli_queue_command_count;
extern const struct cli_command cli_function_commands[];
extern const size_t cli_function_command_count;
extern const struct cli_command cli_key_commands[];
extern const struct cli_command cli_cluster_commands[];
extern const size_t cli_cluster_command_count;
extern const size_t cli_key_command_count;
extern const struct cli_command cli_status_commands[];
extern const size_t cli_status_command_count;
extern const struct cli_command cli_local_commands[];
extern const size_t cli_local_command_count;
extern const struct cli_command cli_bench_commands[];
extern const size_t cli_bench_command_count;
extern const struct cli_command cli_tls_commands[];
extern const size_t cli_tls_command_count;
extern const struct cli_command cli_backup_commands[];
extern const size_t cli_backup_command_count;

struct cli {
    const struct cli_command *command;
    struct cli_options options;
    const char *const *arguments;
    size_t argument_count;
    struct mr_client *client;
    struct arena arena;
    struct buffer *out; /* for stdout */
    struct buffer *err; /* for stderr */
};

/* cli_run: one command line; the exit status. What is to be printed is added to `out` and `err`
 * (but --help, --version and `millrace local` print on their own). thread: main */
int cli_run(int argc, char *const argv[], struct buffer *out, struct buffer *err);

/* cli_connect: from now on the client is one of this broker, with the same key and authorities.
 * Returns an exit status. */
int cli_connect(struct cli *cli, const char *endpoint);

/* cli_access: the key to sign with and the files for TLS, from options and environment, in the
 * command's arena; all NULL where there is none. An exit status. */
struct cli_access {
    const char *access_key_id, *secret_access_key, *region;
    const char *ca_file, *certificate_file, *key_file;
};
int cli_access(struct cli *cli, struct cli_access *out);

/* cli_take_token: give the client what --metrics-token-file has, if it was given; an exit status.
 */
int cli_take_token(struct cli *cli);

/* cli_fail: "millrace: cannot WHAT: why", from the client's last error; CLI_EXIT_FAILED. */
int cli_fail(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* cli_error, cli_misuse: "millrace: SENTENCE" on stderr; CLI_EXIT_FAILED, CLI_EXIT_MISUSE. */
int cli_error(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_misuse(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* cli_json: print `value` (moved) as JSON, one object or array; 0. */
int cli_json(struct cli *cli, json_t *value);

/* cli_read_input: the file `path`, or stdin for "-", up to `bytes_max`.
 *   errors: TOO_LARGE, NOT_FOUND, PERMISSION, IO_ERROR */
MUST_CHECK enum status cli_read_input(const char *path, size_t bytes_max, struct buffer *out);

/* cli_text: a member of a JSON object as text, or `otherwise`. */
const char *cli_text(const json_t *object, const char *member, const char *otherwise);

/* cli_integer: a member of a JSON object as a number, 0 when absent. */
long long cli_integer(const json_t *object, const char *member);

/* cli_assignments: "NAME=VALUE" items into an object of strings, NULL if one is malformed (`bad`
 * names it). */
json_t *cli_assignments(const struct option_list *list, const char **bad);

#endif
