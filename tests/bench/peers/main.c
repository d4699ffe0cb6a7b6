/* SPDX-License-Identifier: Apache-2.0 */
/* peer_bench: millrace's bench against another broker. */
#include "client/bench/bench.h"
#include "proto/base/assert.h"
#include "proto/base/options.h"
#include "tests/bench/peers/peer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

struct peer_options {
    const char *peer, *hosts, *mode, *server_pids;
    uint64_t messages, seconds, size, inflight, rate, replicas;
};

#define ROW(flag, kind, value, field, ...)                                                         \
    {                                                                                              \
        .name = (flag), .type = OPTION_##kind, .placeholder = (value),                             \
        .offset = offsetof(struct peer_options, field), __VA_ARGS__                                \
    }

static const struct option_row rows[] = {
    ROW("peer", TEXT, "NAME", peer, .required = true, .help = "rabbit, nats or redis."),
    ROW("hosts", TEXT, "HOST:PORT,...", hosts, .required = true, .help = "Its nodes."),
    ROW("mode", TEXT, "MODE", mode, .default_text = "cycle", .help = "As of millrace bench."),
    ROW("messages", NUMBER, "N", messages, .default_text = "0", .max = UINT32_MAX, .help = "Same."),
    ROW("seconds", NUMBER, "S", seconds, .default_text = "0", .max = 86400, .help = "Same."),
    ROW("size", BYTES, "BYTES", size, .default_text = "1024", .max = 1048576, .help = "Same."),
    ROW("inflight", NUMBER, "N", inflight, .default_text = "256", .max = 16384, .help = "Same."),
    ROW("rate", NUMBER, "R", rate, .default_text = "0", .max = 10000000, .help = "Same."),
    ROW("replicas", NUMBER, "N", replicas, .default_text = "1", .max = 5, .help = "Of NATS."),
    ROW("server-pids", TEXT, "PID,...", server_pids, .help = "Same."),
};

static struct port *open_peer(const struct peer_options *o)
{
    if (strcmp(o->peer, "rabbit") == 0)
        return rabbit_port(o->hosts);
    if (strcmp(o->peer, "nats") == 0)
        return nats_port(o->hosts, (unsigned)o->replicas);
    if (strcmp(o->peer, "redis") == 0)
        return redis_port(o->hosts);
    return NULL;
}

static int run(const struct peer_options *o)
{
    char why[256];
    struct bench_plan plan = {.mode = o->mode,
                              .protocol = "native",
                              .server_pids = o->server_pids,
                              .messages = o->messages,
                              .seconds = o->seconds,
                              .size = o->size,
                              .inflight = o->inflight,
                              .rate = o->rate,
                              .batch = 1};
    const char *wrong = bench_plan_check(&plan);
    if (wrong != NULL) {
        fprintf(stderr, "peer_bench: %s\n", wrong);
        return EX_USAGE;
    }
    plan.protocol = o->peer; /* for the result */
    struct port *port = open_peer(o);
    if (port == NULL) {
        fprintf(stderr, "peer_bench: cannot reach %s at %s\n", o->peer, o->hosts);
        return EX_UNAVAILABLE;
    }
    json_t *result = bench_run(&plan, port, why);
    if (result == NULL) {
        fprintf(stderr, "peer_bench: %s\n", why);
        return EX_UNAVAILABLE;
    }
    json_dumpf(result, stdout, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));
    printf("\n");
    json_decref(result);
    return 0;
}

int main(int argc, char *argv[])
{
    struct peer_options options = {0};
    struct arena arena = {0};
    struct options_result result;
    const struct options_spec spec = {.program = "peer_bench",
                                      .summary = "The bench of Millrace, for other brokers.",
                                      .rows = rows,
                                      .row_count = ARRAY_COUNT(rows)};
    int code = EX_USAGE;
    signal(SIGPIPE, SIG_IGN);
    if (options_read(&spec, argc, argv, &options, &arena, &result) != STATUS_OK)
        fprintf(stderr, "peer_bench: %s\n", result.error);
    else
        code = result.exit_now ? 0 : run(&options);
    arena_free(&arena);
    return code;
}
