/* SPDX-License-Identifier: Apache-2.0 */
/* millrace-broker: options in, exit code out. What the broker does is in node.c. */
#include "broker/core/place.h"
#include "broker/node.h"
#include "broker/shards/placement.h"
#include "proto/base/assert.h"
#include "proto/base/options.h"
#include "proto/base/trace.h"

#include <malloc.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>

#define MAPPED_FROM_BYTES (4 << 20)
#define KEPT_FREE_BYTES   (64 << 20)

#define AT(member)        offsetof(struct node_options, member)

static const struct option_row rows[] = {
    {.name = "node-id",
     .type = OPTION_NUMBER,
     .placeholder = "N",
     .default_text = "1",
     .min = 1,
     .max = UINT32_MAX,
     .offset = AT(node_id),
     .help = "This node's number in the cluster."},
    {.name = "data-dir",
     .type = OPTION_TEXT,
     .placeholder = "DIR",
     .required = true,
     .offset = AT(data_dir),
     .help = "Where everything is kept; made if it is missing."},
    {.name = "http",
     .type = OPTION_ADDRESS,
     .placeholder = "HOST:PORT",
     .default_text = "127.0.0.1:9324",
     .offset = AT(http),
     .help = "The public port: SQS and Lambda APIs, /metrics, /health."},
    {.name = "rpc",
     .type = OPTION_ADDRESS,
     .placeholder = "HOST:PORT",
     .default_text = "127.0.0.1:9325",
     .offset = AT(rpc),
     .help = "The port for workers."},
    {.name = "peer",
     .type = OPTION_ADDRESS,
     .placeholder = "HOST:PORT",
     .default_text = "127.0.0.1:9326",
     .offset = AT(peer),
     .help = "The port for other brokers."},
    {.name = "cluster",
     .type = OPTION_TEXT,
     .placeholder = "1=HOST:PORT,...",
     .offset = AT(cluster),
     .help = "The members of a new cluster with their --peer addresses, this node among them; the "
             "same on all. Default: this node alone."},
    {.name = "join",
     .type = OPTION_TEXT,
     .placeholder = "1=HOST:PORT,...",
     .offset = AT(join),
     .help = "Members of a cluster that this new node is to become a member of."},
    {.name = "shards",
     .type = OPTION_NUMBER,
     .placeholder = "N",
     .default_text = "4",
     .min = 0,
     .max = QUEUE_SHARDS_MAX,
     .offset = AT(queue_shards),
     .help = "Raft groups over which a new cluster spreads its queues; fixed from then on."},
    {.name = "replicas",
     .type = OPTION_NUMBER,
     .placeholder = "N",
     .default_text = "3",
     .min = 1,
     .max = REPLICATION_MAX,
     .offset = AT(replicas),
     .help = "Nodes on which a new cluster keeps each of these groups, or all while there are "
             "fewer; fixed from then on."},
    {.name = "move-rate",
     .type = OPTION_NUMBER,
     .placeholder = "MB",
     .default_text = "64",
     .min = 0,
     .max = 100000,
     .offset = AT(move_rate_mb),
     .help = "MB a second that this node takes of a shard that it is new to, or far behind in; 0: "
             "no limit."},
    {.name = "advertise-peer",
     .type = OPTION_ADDRESS,
     .placeholder = "HOST:PORT",
     .offset = AT(advertise_peer),
     .help = "Where other brokers dial this one; default: as in --cluster, else --peer."},
    {.name = "advertise-http",
     .type = OPTION_ADDRESS,
     .placeholder = "HOST:PORT",
     .offset = AT(advertise_http),
     .help = "Where others reach this broker's --http; default: from --http and "
             "--advertise-peer."},
    {.name = "advertise-rpc",
     .type = OPTION_ADDRESS,
     .placeholder = "HOST:PORT",
     .offset = AT(advertise_rpc),
     .help = "Where workers reach this broker's --rpc; default: from --rpc and --advertise-peer."},
    {.name = "region",
     .type = OPTION_TEXT,
     .placeholder = "NAME",
     .default_text = "us-east-1",
     .offset = AT(region),
     .help = "The region in ARNs."},
    {.name = "regions",
     .type = OPTION_TEXT,
     .placeholder = "same|separate",
     .default_text = "same",
     .offset = AT(regions),
     .help = "Requests signed for another region find the same queues, or those of their region."},
    {.name = "account-id",
     .type = OPTION_TEXT,
     .placeholder = "DIGITS",
     .default_text = "000000000000",
     .offset = AT(account_id),
     .help = "The account in ARNs and queue URLs."},
    {.name = "public-url",
     .type = OPTION_TEXT,
     .placeholder = "URL",
     .offset = AT(public_url),
     .help = "How clients reach this broker, for queue URLs; default: as each request did."},
    {.name = "auth",
     .type = OPTION_TEXT,
     .placeholder = "MODE",
     .default_text = "auto",
     .offset = AT(auth),
     .help = "Check signatures and policies: required, off, or auto (required unless --http is a "
             "loopback address)."},
    {.name = "root-access-key-id",
     .type = OPTION_TEXT,
     .placeholder = "ID",
     .offset = AT(root_access_key_id),
     .help = "An access key that may do everything; it is stored in the catalog at start."},
    {.name = "root-secret-access-key",
     .type = OPTION_TEXT,
     .placeholder = "SECRET",
     .offset = AT(root_secret_access_key),
     .help = "Its secret. Better given by the environment or the --config file than in the command "
             "line, which others can see."},
    {.name = "aws-cooldowns",
     .type = OPTION_TEXT,
     .placeholder = "on|off",
     .default_text = "on",
     .offset = AT(aws_cooldowns),
     .help = "A queue's name is free 60 s after its deletion and a purge is allowed once a minute, "
             "as on AWS."},
    {.name = "tls-cert",
     .type = OPTION_TEXT,
     .placeholder = "FILE",
     .offset = AT(tls_cert),
     .help = "Speak HTTPS on the public port, with this certificate and its chain (PEM); files are "
             "loaded again when they change."},
    {.name = "tls-key",
     .type = OPTION_TEXT,
     .placeholder = "FILE",
     .offset = AT(tls_key),
     .help = "The private key of --tls-cert (PEM, not encrypted)."},
    {.name = "tls-client-ca",
     .type = OPTION_TEXT,
     .placeholder = "FILE",
     .offset = AT(tls_client_ca),
     .help =
         "Serve only clients with a certificate that one of these authorities has signed (PEM)."},
    {.name = "tls-dir",
     .type = OPTION_TEXT,
     .placeholder = "DIR",
     .offset = AT(tls_dir),
     .help = "Speak TLS with workers and other brokers, with ca.pem, cert.pem and key.pem of this "
             "folder; see millrace tls init."},
    {.name = "http-keepalive-timeout",
     .type = OPTION_NUMBER,
     .placeholder = "SECONDS",
     .default_text = "75",
     .min = 1,
     .max = 86400,
     .offset = AT(http_keepalive_timeout_s),
     .help = "How long a client's connection may be idle before it is closed."},
    {.name = "http-keepalive-requests",
     .type = OPTION_NUMBER,
     .placeholder = "N",
     .default_text = "0",
     .max = UINT32_MAX,
     .offset = AT(http_keepalive_requests),
     .help = "Requests that one connection may have before it is closed, so that clients spread "
             "over brokers that were added; 0: no limit."},
    {.name = "metrics-queues-max",
     .type = OPTION_NUMBER,
     .placeholder = "N",
     .default_text = "500",
     .min = 0,
     .max = 1000000,
     .offset = AT(metrics_queues_max),
     .help = "Queues that /metrics shows, the first by name; it also says how many it left out."},
    {.name = "metrics-auth",
     .type = OPTION_TEXT,
     .placeholder = "MODE",
     .default_text = "auto",
     .offset = AT(metrics_auth),
     .help = "Let read /metrics and /status only who shows the token of --metrics-token-file or "
             "signs with a key that may: required, off, or auto (required with a token file)."},
    {.name = "metrics-token-file",
     .type = OPTION_TEXT,
     .placeholder = "FILE",
     .offset = AT(metrics_token_file),
     .help = "The token for /metrics and /status, sent as Authorization: Bearer TOKEN; the file is "
             "read again when it changes."},
    {.name = "log-level",
     .type = OPTION_TEXT,
     .placeholder = "LEVEL",
     .default_text = "info",
     .offset = AT(log_level),
     .help = "debug, info, warn or error."},
    {.name = "log-format",
     .type = OPTION_TEXT,
     .placeholder = "text|json",
     .default_text = "text",
     .offset = AT(log_format),
     .help = "How diagnostics are written to stderr."},
};

static const struct options_spec spec = {
    .program = "millrace-broker",
    .summary = "Keeps queues and functions, and speaks the SQS and Lambda APIs.",
    .epilogue = "Example:\n  millrace-broker --data-dir /var/lib/millrace\n",
    .rows = rows,
    .row_count = ARRAY_COUNT(rows),
};

static int misuse(const char *error)
{
    fprintf(stderr, "millrace-broker: %s\n", error);
    return EX_USAGE;
}

static const char *trace_options(const struct node_options *options)
{
    enum trace_level level;
    bool json = strcmp(options->log_format, "json") == 0;
    if (!trace_level_parse(options->log_level, &level))
        return "--log-level must be debug, info, warn or error";
    if (!json && strcmp(options->log_format, "text") != 0)
        return "--log-format must be text or json";
    trace_configure(level, json);
    return NULL;
}

/* Each shard keeps one thread of libuv's pool waiting for the disk; reads of bodies must not wait
 * behind them. */
static void widen_thread_pool(void)
{
    setenv("UV_THREADPOOL_SIZE", "16", 0);
}

/* Each client and each worker is a file descriptor, and the soft limit is often 1024. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        trace_warn("node", "file_limit", "why=\"cannot raise the number of open files\"");
}

/* Entries, and what is read and written, are some hundred kilobytes each, and come and go all the
 * time: each for itself mapped and unmapped, they cost more page faults than copies. */
static void keep_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_FREE_BYTES);
}

int main(int argc, char *argv[])
{
    struct node_options options = {0};
    struct arena arena = {0};
    struct options_result result = {0};
    int code = EX_OK;
    enum status status = options_read(&spec, argc, argv, &options, &arena, &result);
    const char *error = status != STATUS_OK ? result.error : NULL;
    if (error == NULL && !result.exit_now)
        error = trace_options(&options);
    if (error == NULL && !result.exit_now)
        error = node_options_check(&options);
    if (error != NULL) {
        code = misuse(error);
    } else if (!result.exit_now) {
        raise_file_limit();
        widen_thread_pool();
        keep_memory();
        code = node_run(&options);
    }
    arena_free(&arena);
    return code;
}
