/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace bench`: from options to a plan (client/bench), and the result to stdout. */
#include "client/bench/bench.h"
#include "client/cli/cli.h"
#include "proto/base/assert.h"

#include <stdlib.h>

#define BROKERS_DEFAULT "127.0.0.1:9325"

static const struct option_row rows[] = {
    CLI_ROW("mode", TEXT, "MODE", mode, .default_text = "cycle",
            .help = "produce, cycle, drain, latency, backlog, queues or failover."),
    CLI_ROW("protocol", TEXT, "NAME", protocol, .default_text = "native",
            .help = "native (RPC port) or http (SQS JSON)."),
    CLI_ROW("brokers", TEXT, "HOST:PORT,...", brokers, .default_text = BROKERS_DEFAULT,
            .help = "RPC addresses, for native; the next is tried when one goes away."),
    CLI_ROW("endpoint", TEXT, "URL,...", endpoint,
            .help = "The same for http; without it AWS_ENDPOINT_URL, then http://127.0.0.1:9324."),
    CLI_ROW("tls-dir", TEXT, "DIR", tls_dir,
            .help = "With native: speak TLS, with the ca.pem, cert.pem and key.pem of this folder "
                    "of millrace tls init."),
    CLI_ROW("messages", NUMBER, "N", messages, .default_text = "0", .max = UINT32_MAX,
            .help = "How many to send; 0: for --seconds."),
    CLI_ROW("seconds", NUMBER, "S", seconds, .default_text = "0", .max = 86400,
            .help = "How long to send; 10 when neither is given."),
    CLI_ROW("size", BYTES, "BYTES", size, .default_text = "1024", .max = 1048576,
            .help = "Of a body, at least 48."),
    CLI_ROW("inflight", NUMBER, "N", inflight, .default_text = "256", .min = 1, .max = 16384,
            .help = "Messages sent and not yet answered, at most."),
    CLI_ROW("batch", NUMBER, "N", batch, .default_text = "1", .min = 1, .max = 10,
            .help = "Messages in one send."),
    CLI_ROW("queues", NUMBER, "N", queues, .default_text = "0", .max = 100000,
            .help = "Queues to spread over; 1, or 100 in mode queues."),
    CLI_ROW("fifo", FLAG, NULL, fifo, .help = "FIFO queues; the order is checked."),
    CLI_ROW("groups", NUMBER, "N", groups, .default_text = "0", .max = 1000000,
            .help = "Message groups, with --fifo; 64 when not given."),
    CLI_ROW("rate", NUMBER, "R", rate, .default_text = "0", .max = 10000000,
            .help = "Messages a second; 0: as fast as it goes (latency, failover: 500)."),
    CLI_ROW("receivers", NUMBER, "N", receivers, .default_text = "0", .max = 8192,
            .help = "Receives that wait at once, of ten messages each; as many as --inflight is of "
                    "messages, at least 16, when not given."),
    CLI_ROW("server-pids", TEXT, "PID,...", server_pids,
            .help = "The brokers' processes, for their CPU time and memory."),
    CLI_ROW("kill-pid", NUMBER, "PID", kill_pid, .default_text = "0", .max = INT32_MAX,
            .help = "Mode failover: kill -9 this process half way."),
};

static void print_real(struct buffer *out, const char *what, const json_t *result, const char *key,
                       const char *unit)
{
    buffer_printf(out, "%-22s %14.1f %s\n", what, json_number_value(json_object_get(result, key)),
                  unit);
}

static void print_result(struct buffer *out, const json_t *result)
{
    print_real(out, "rate", result, "rate", "messages/s");
    print_real(out, "throughput", result, "mb_per_s", "MB/s");
    print_real(out, "latency p50", result, "p50_us", "us");
    print_real(out, "latency p99", result, "p99_us", "us");
    print_real(out, "latency p99.9", result, "p999_us", "us");
    print_real(out, "latency max", result, "max_us", "us");
    print_real(out, "longest gap", result, "longest_gap_ms", "ms without an acknowledgement");
    print_real(out, "client CPU", result, "client_cpu_us_per_msg", "us a message");
    print_real(out, "server CPU", result, "server_cpu_us_per_msg", "us a message");
    print_real(out, "server memory", result, "server_rss_mb", "MB");
    buffer_printf(out,
                  "%lld messages; %lld errors, %lld lost, %lld duplicates, %lld corrupt, %lld "
                  "out of order\n",
                  cli_integer(result, "messages"), cli_integer(result, "errors"),
                  cli_integer(result, "lost"), cli_integer(result, "duplicates"),
                  cli_integer(result, "corrupt"), cli_integer(result, "disordered"));
    if (json_object_get(result, "first_error") != NULL)
        buffer_printf(out, "first error: %s\n", cli_text(result, "first_error", ""));
}

/* A bench that found something lost or damaged has failed, however fast it was. */
static bool is_sound(const json_t *result)
{
    return cli_integer(result, "lost") == 0 && cli_integer(result, "corrupt") == 0 &&
           cli_integer(result, "disordered") == 0;
}

static const char *endpoint_of(const struct cli *cli)
{
    const char *from_aws = getenv("AWS_ENDPOINT_URL");
    if (cli->options.endpoint != NULL)
        return cli->options.endpoint;
    return from_aws != NULL && from_aws[0] != 0 ? from_aws : MR_ENDPOINT_DEFAULT;
}

static int run_bench(struct cli *cli)
{
    const struct cli_options *o = &cli->options;
    char why[256];
    struct bench_plan plan = {
        .mode = o->mode,
        .protocol = o->protocol,
        .brokers = o->brokers,
        .endpoint = endpoint_of(cli),
        .server_pids = o->server_pids,
        .messages = o->messages,
        .seconds = o->seconds,
        .size = o->size,
        .inflight = o->inflight,
        .batch = o->batch,
        .queues = o->queues,
        .groups = o->groups,
        .receivers = o->receivers,
        .rate = o->rate,
        .kill_pid = o->kill_pid,
        .fifo = o->fifo,
    };
    struct cli_access access;
    int exit_status = cli_access(cli, &access);
    if (exit_status != 0)
        return exit_status;
    plan.access =
        (struct port_access){access.access_key_id, access.secret_access_key, access.region,
                             access.ca_file,       access.certificate_file,  access.key_file};
    const char *wrong = bench_plan_check(&plan);
    if (wrong != NULL)
        return cli_misuse(cli, "%s", wrong);
    json_t *result = bench_run(&plan, NULL, why);
    if (result == NULL)
        return cli_error(cli, "%s", why);
    exit_status = is_sound(result) ? 0 : CLI_EXIT_FAILED;
    if (exit_status != 0)
        (void)cli_error(cli, "messages were lost, damaged or out of order: see the result");
    if (!o->json) {
        print_result(cli->out, result);
        json_decref(result);
        return exit_status;
    }
    char *text = json_dumps(result, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));
    buffer_printf(cli->out, "%s\n", text);
    free(text);
    json_decref(result);
    return exit_status;
}

const struct cli_command cli_bench_commands[] = {
    {.words = "bench",
     .usage = "",
     .summary = "Measure a broker, and check that it loses nothing.",
     .examples = "  millrace bench --mode produce --inflight 1024 --batch 10\n"
                 "  millrace bench --mode latency --rate 500 --protocol http --json\n"
                 "  millrace bench --mode failover --brokers a:9325,b:9325,c:9325 --kill-pid 123\n",
     .rows = rows,
     .row_count = ARRAY_COUNT(rows),
     .no_client = true,
     .run = run_bench},
};
const size_t cli_bench_command_count = ARRAY_COUNT(cli_bench_commands);
