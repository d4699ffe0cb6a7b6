/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace local`: a broker and a worker on this machine, in one command.
 *
 * The two programs stand next to this one. They are started in order (the worker needs a broker),
 * watched, started again when they die, and stopped in the other order. This process holds no
 * state: everything is in the data folder, so killing it is as good as stopping it.
 *
 *     prepare --> broker starts --> worker starts --> running --> worker stops --> broker stops
 *                     |                  |              |  ^
 *                     +--- gives up -----+              +--+ a child died: again, with backoff
 *
 * I1. Nothing of one run is left when the next begins. The kernel kills the children with their
 *     parent (child.c), and all three hold one lock on DIR/lock: flock belongs to the open file,
 *     which the children inherit, so the lock is free when the last of them is gone.
 * I2. The RPC and peer ports are chosen once and kept when a child is started again, so that the
 *     worker finds its broker where it was.
 * I3. A broker that has never been ready and exits ends the program with its exit status; one that
 *     was ready is started again, until it has failed FAILURES_MAX times in a row. A child that
 *     says that another start is of no use (misuse, configuration) is not started again. */
#include "client/cli/child.h"
#include "client/cli/cli.h"
#include "client/cli/local_client.h"
#include "client/cli/ports.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS       1000000ull
#define STEP_MS         100   /* how often readiness is looked at */
#define WAIT_EARLIER_MS 5000  /* for an earlier run on the same data to be gone */
#define WORKER_READY_MS 20000 /* then the summary says that it is still missing */
#define WORKER_STOP_MS  20000 /* functions under way may end */
#define BROKER_STOP_MS  10000
#define FAILURES_MAX    10
#define PORT_TRIES      3
#define ARGS_MAX        48
#define STILL_MS        10000

struct address {
    const char *host;
    uint16_t port;
    bool chosen; /* by us, not by the user */
    const char *text;
};

struct local {
    struct cli *cli;
    struct child broker, worker;
    const char *broker_argv[ARGS_MAX], *worker_argv[ARGS_MAX];
    const char *data_dir;
    struct address http, rpc, peer;
    const char *endpoint;
    sigset_t signals;
    int lock_fd;
    bool stopping;
};

/* ---- the data folder ------------------------------------------------------------------------ */

static const char *default_data_dir(struct arena *arena)
{
    const char *xdg = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    if (geteuid() == 0)
        return "/var/lib/millrace";
    if (xdg != NULL && xdg[0] == '/')
        return arena_printf(arena, "%s/millrace", xdg);
    return home != NULL && home[0] == '/' ? arena_printf(arena, "%s/.local/share/millrace", home)
                                          : NULL;
}

/* mkdir -p; `mode` is of the last folder. */
static enum status make_folders(struct arena *arena, const char *path, mode_t mode)
{
    char *copy = (char *)(uintptr_t)arena_text(arena, slice_of(path));
    for (char *at = copy + 1; *at != 0; at++) {
        if (*at != '/')
            continue;
        *at = 0;
        if (mkdir(copy, 0755) != 0 && errno != EEXIST)
            return status_from_errno(errno);
        *at = '/';
    }
    return mkdir(copy, mode) == 0 || errno == EEXIST ? STATUS_OK : status_from_errno(errno);
}

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)(ms * NS_PER_MS)}, NULL);
}

/* I1. Waits for an earlier run that is just ending. */
static int lock_data(struct local *l)
{
    const char *path = arena_printf(&l->cli->arena, "%s/lock", l->data_dir);
    l->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (l->lock_fd < 0)
        return cli_error(l->cli, "cannot open '%s': %s", path,
                         status_text(status_from_errno(errno)));
    for (unsigned waited_ms = 0; flock(l->lock_fd, LOCK_EX | LOCK_NB) != 0; waited_ms += STEP_MS) {
        if (waited_ms >= WAIT_EARLIER_MS)
            return cli_error(l->cli,
                             "another `millrace local` uses %s; stop it, or give --data-dir",
                             l->data_dir);
        pause_ms(STEP_MS);
    }
    return 0;
}

static int prepare_data(struct local *l)
{
    struct cli *cli = l->cli;
    l->data_dir = cli->options.data_dir;
    if (l->data_dir == NULL)
        l->data_dir = default_data_dir(&cli->arena);
    if (l->data_dir == NULL || l->data_dir[0] == 0)
        return cli_misuse(cli, "there is no home folder for the data; give --data-dir");
    /* Messages are nobody else's business, but functions run as another user below DIR/worker. */
    enum status status = make_folders(&cli->arena, l->data_dir, 0711);
    if (status == STATUS_OK)
        status =
            make_folders(&cli->arena, arena_printf(&cli->arena, "%s/broker", l->data_dir), 0700);
    if (status != STATUS_OK)
        return cli_error(cli, "cannot make the data folder '%s': %s", l->data_dir,
                         status_text(status));
    return lock_data(l);
}

/* ---- ports ---------------------------------------------------------------------------------- */

static void set_port(struct local *l, struct address *address, uint16_t port)
{
    bool v6 = strchr(address->host, ':') != NULL;
    address->port = port;
    address->text = arena_printf(&l->cli->arena, v6 ? "[%s]:%u" : "%s:%u", address->host, port);
}

/* The HTTP port is the one people know: a taken one is theirs to sort out. */
static int prepare_http(struct local *l)
{
    struct address *http = &l->http;
    uint16_t found = 0;
    enum status status = port_probe(http->host, http->port, &found);
    for (unsigned ms = 0; status == STATUS_EXISTS && ms < 2000; ms += STEP_MS) {
        pause_ms(STEP_MS); /* the broker of an earlier run may be just ending */
        status = port_probe(http->host, http->port, &found);
    }
    if (status == STATUS_EXISTS)
        return cli_error(l->cli,
                         "port %u of %s is in use by another program; choose one with --http "
                         "HOST:PORT (port 0: any free one)",
                         http->port, http->host);
    if (status != STATUS_OK)
        return cli_error(l->cli, "cannot listen on --http %s: %s", l->cli->options.http,
                         status_text(status));
    set_port(l, http, found);
    const char *shown = http->text;
    if (strcmp(http->host, "0.0.0.0") == 0)
        shown = arena_printf(&l->cli->arena, "127.0.0.1:%u", found);
    else if (strcmp(http->host, "::") == 0)
        shown = arena_printf(&l->cli->arena, "[::1]:%u", found);
    const char *scheme = l->cli->options.tls_cert != NULL ? "https" : "http";
    l->endpoint = arena_printf(&l->cli->arena, "%s://%s", scheme, shown);
    return 0;
}

/* The others are private to the two programs: any free port will do. */
static int choose_port(struct local *l, struct address *address, const char *flag)
{
    uint16_t found = 0;
    enum status status = STATUS_OK;
    if (!address->chosen)
        return 0;
    do {
        status = port_probe(address->host, 0, &found);
    } while (status == STATUS_OK && (found == l->http.port || found == l->rpc.port));
    if (status != STATUS_OK)
        return cli_error(l->cli, "no free port for --%s: %s", flag, status_text(status));
    set_port(l, address, found);
    return 0;
}

static bool split(struct local *l, const char *text, struct address *out)
{
    bool good = address_split(text, &l->cli->arena, &out->host, &out->port);
    out->chosen = good && out->port == 0;
    out->text = text;
    return good;
}

static int choose_ports(struct local *l)
{
    int exit_status = choose_port(l, &l->rpc, "rpc");
    return exit_status == 0 ? choose_port(l, &l->peer, "peer") : exit_status;
}

/* ---- the programs --------------------------------------------------------------------------- */

static int find_program(struct local *l, const char *name, const char **path)
{
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        return cli_error(l->cli, "cannot find its own program file");
    self[length] = 0;
    char *slash = strrchr(self, '/');
    ASSERT(slash != NULL);
    *path = arena_printf(&l->cli->arena, "%.*s/%s", (int)(slash - self), self, name);
    if (access(*path, X_OK) != 0)
        return cli_error(l->cli, "cannot run %s: %s", *path, status_text(status_from_errno(errno)));
    return 0;
}

static void set_args(const char *argv[ARGS_MAX], const char *const (*args)[2], size_t count)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (args[i][1] == NULL)
            continue; /* an option that was not given */
        ASSERT(used + 3 < ARGS_MAX);
        argv[used + 1] = args[i][0];
        argv[used + 2] = args[i][1];
        used += 2;
    }
    argv[used + 1] = NULL;
}

static const char *number_or_null(struct cli *cli, uint64_t value)
{
    return value == CLI_NOT_GIVEN ? NULL
                                  : arena_printf(&cli->arena, "%llu", (unsigned long long)value);
}

static void set_programs(struct local *l)
{
    struct cli *cli = l->cli;
    const struct cli_options *o = &cli->options;
    const char *const broker[][2] = {
        {"--node-id", "1"},
        {"--data-dir", arena_printf(&cli->arena, "%s/broker", l->data_dir)},
        {"--http", l->http.text},
        {"--rpc", l->rpc.text},
        {"--peer", l->peer.text},
        {"--aws-cooldowns", "off"},
        {"--auth", o->auth},
        {"--region", o->region},
        {"--account-id", o->account_id},
        {"--tls-cert", o->tls_cert},
        {"--tls-key", o->tls_key},
        {"--tls-client-ca", o->tls_client_ca},
        {"--tls-dir", o->tls_dir},
        {"--http-keepalive-timeout", number_or_null(cli, o->keepalive_timeout_s)},
        {"--http-keepalive-requests", number_or_null(cli, o->keepalive_requests)},
        {"--metrics-auth", o->metrics_auth},
        {"--metrics-token-file", o->metrics_token_file},
    };
    const char *const worker[][2] = {
        {"--brokers", l->rpc.text},
        {"--data-dir", arena_printf(&cli->arena, "%s/worker", l->data_dir)},
        {"--memory", number_or_null(cli, o->memory_bytes)},
        {"--concurrency", number_or_null(cli, o->concurrency)},
        {"--tls-dir", o->worker_tls_dir},
    };
    set_args(l->broker_argv, broker, ARRAY_COUNT(broker));
    set_args(l->worker_argv, worker, ARRAY_COUNT(worker));
}

static int prepare_programs(struct local *l)
{
    int exit_status = find_program(l, "millrace-broker", &l->broker_argv[0]);
    if (exit_status == 0)
        exit_status = find_program(l, "millrace-worker", &l->worker_argv[0]);
    l->broker = (struct child){.name = "broker", .argv = l->broker_argv, .keep_fd = l->lock_fd};
    l->worker = (struct child){.name = "worker", .argv = l->worker_argv, .keep_fd = l->lock_fd};
    return exit_status;
}

/* ---- waiting -------------------------------------------------------------------------------- */

/* One signal, or `ms` without any. SIGCHLD only ends the wait. */
static void wait_signal(struct local *l, unsigned ms)
{
    struct timespec span = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000 * NS_PER_MS)};
    int number = sigtimedwait(&l->signals, NULL, &span);
    if (number == SIGTERM || number == SIGINT || number == SIGHUP)
        l->stopping = true;
}

/* Stop one child: politely, then (late, or asked again) not. */
static void stop_child(struct local *l, struct child *child, unsigned grace_ms)
{
    l->stopping = false;
    child_signal(child, SIGTERM);
    for (unsigned ms = 0; child->pid != 0 && !child_reap(child); ms += STEP_MS) {
        if (ms >= grace_ms || l->stopping) {
            trace_warn("local", "killing", "child=%s pid=%d", child->name, (int)child->pid);
            child_signal(child, SIGKILL);
        }
        wait_signal(l, STEP_MS);
    }
    l->stopping = true;
}

static void stop_all(struct local *l)
{
    stop_child(l, &l->worker, WORKER_STOP_MS);
    stop_child(l, &l->broker, BROKER_STOP_MS);
}

static int give_up(struct local *l, const struct child *child)
{
    char outcome[64];
    child_outcome(child, outcome);
    stop_all(l);
    cli_error(l->cli, "gives up: the %s %s", child->name, outcome);
    return child->exit_status != 0 ? child->exit_status : CLI_EXIT_FAILED;
}

/* ---- starting ------------------------------------------------------------------------------- */

static bool ports_stolen(struct local *l)
{
    uint16_t found;
    return (l->rpc.chosen && port_probe(l->rpc.host, l->rpc.port, &found) == STATUS_EXISTS) ||
           (l->peer.chosen && port_probe(l->peer.host, l->peer.port, &found) == STATUS_EXISTS);
}

/* Until the broker takes work, exits, or a stop is asked for. Reading a long log takes its time, so
 * there is no deadline, only a word now and then. */
static bool await_broker(struct local *l)
{
    for (unsigned ms = STEP_MS; !l->stopping; ms += STEP_MS) {
        if (child_reap(&l->broker))
            return false;
        if (mr_ready(l->cli->client) == STATUS_OK)
            return true;
        if (ms % STILL_MS == 0)
            trace_info("local", "broker_not_ready_yet", "waited_s=%u", ms / 1000);
        wait_signal(l, STEP_MS);
    }
    return false;
}

static int start_broker(struct local *l)
{
    for (unsigned tries = 1;; tries++) {
        int exit_status = choose_ports(l);
        if (exit_status != 0)
            return exit_status;
        set_programs(l);
        if (child_start(&l->broker) != STATUS_OK)
            return cli_error(l->cli, "cannot start a process");
        if (await_broker(l) || l->stopping)
            return 0;
        if (tries == PORT_TRIES || !ports_stolen(l))
            return give_up(l, &l->broker);
    }
}

static bool worker_connected(struct local *l)
{
    json_t *status;
    if (mr_status(l->cli->client, &status) != STATUS_OK)
        return false;
    bool connected = json_array_size(json_object_get(status, "workers")) > 0;
    json_decref(status);
    return connected;
}

/* What starting again cannot mend: the command line, or what the machine allows. */
static bool is_final(const struct child *child)
{
    return child->exit_status == EX_USAGE || child->exit_status == EX_CONFIG;
}

/* Start a child again when its time has come; an exit status when it has failed too often or for
 * good, else 0. */
static int keep_running(struct local *l, struct child *child)
{
    char outcome[64];
    if (child_reap(child)) {
        child_outcome(child, outcome);
        trace_warn("local", "child_ended", "child=%s outcome=\"%s\" failures=%u", child->name,
                   outcome, child->failures);
        if (child->failures >= FAILURES_MAX || is_final(child))
            return give_up(l, child);
    }
    if (child->pid == 0 && clock_monotonic_ns() >= child->restart_ns &&
        child_start(child) != STATUS_OK)
        child->restart_ns = clock_monotonic_ns() + 1000 * NS_PER_MS;
    return 0;
}

static int start_worker(struct local *l)
{
    for (unsigned ms = 0; ms < WORKER_READY_MS && !l->stopping; ms += STEP_MS) {
        int exit_status = keep_running(l, &l->worker);
        if (exit_status == 0)
            exit_status = keep_running(l, &l->broker);
        if (exit_status != 0 || worker_connected(l))
            return exit_status;
        wait_signal(l, STEP_MS);
    }
    if (!l->stopping)
        trace_warn("local", "worker_not_connected_yet", "waited_s=%u", WORKER_READY_MS / 1000);
    return 0;
}

/* What a client has to know besides the endpoint. */
static void announce_access(const struct local *l)
{
    const struct cli_options *o = &l->cli->options;
    bool checked = strcmp(o->auth, "off") != 0;
    if (checked)
        printf("  export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...   (a key of this "
               "broker)\n");
    else
        printf("  export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any\n");
    if (o->tls_cert != NULL)
        printf("  export AWS_CA_BUNDLE=...   (who has signed %s)\n", o->tls_cert);
    printf("  export AWS_DEFAULT_REGION=%s AWS_ENDPOINT_URL=%s\n", o->region, l->endpoint);
}

static void announce(struct local *l)
{
    if (l->cli->options.json) {
        json_t *told = json_pack("{s:s,s:s,s:i,s:i,s:i}", "endpoint", l->endpoint, "data_dir",
                                 l->data_dir, "pid", (int)getpid(), "broker_pid",
                                 (int)l->broker.pid, "worker_pid", (int)l->worker.pid);
        char *text = json_dumps(told, JSON_COMPACT);
        printf("%s\n", text != NULL ? text : "{}");
        free(text);
        json_decref(told);
    } else {
        printf("Millrace runs at %s (data in %s). Ctrl-C stops it.\n\n"
               "In another terminal:\n",
               l->endpoint, l->data_dir);
        announce_access(l);
        printf("  aws --endpoint-url $AWS_ENDPOINT_URL sqs create-queue --queue-name hello\n"
               "  aws --endpoint-url $AWS_ENDPOINT_URL sqs list-queues\n"
               "  millrace queue send hello 'first message'\n"
               "  millrace queue receive hello --delete\n"
               "  millrace status\n");
    }
    fflush(stdout);
}

static int watch(struct local *l)
{
    while (!l->stopping) {
        int exit_status = keep_running(l, &l->broker);
        if (exit_status == 0)
            exit_status = keep_running(l, &l->worker);
        if (exit_status != 0)
            return exit_status;
        bool all_run = l->broker.pid != 0 && l->worker.pid != 0;
        wait_signal(l, all_run ? 60000 : STEP_MS);
    }
    stop_all(l);
    return 0;
}

static int run_all(struct local *l)
{
    int exit_status = start_broker(l);
    if (exit_status == 0 && !l->stopping)
        exit_status = start_worker(l);
    if (exit_status == 0 && !l->stopping)
        announce(l);
    return exit_status == 0 ? watch(l) : exit_status;
}

static void block_signals(struct local *l)
{
    struct sigaction hangup;
    sigemptyset(&l->signals);
    sigaddset(&l->signals, SIGTERM);
    sigaddset(&l->signals, SIGINT);
    sigaddset(&l->signals, SIGCHLD);
    /* Under nohup a closed terminal is not a wish to stop. */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(&l->signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &l->signals, NULL);
}

/* Not in the command line, which others can see. */
static void pass_root_key(const struct cli_options *o)
{
    if (o->root_access_key_id == NULL)
        return;
    ASSERT(setenv("MILLRACE_ROOT_ACCESS_KEY_ID", o->root_access_key_id, 1) == 0);
    ASSERT(setenv("MILLRACE_ROOT_SECRET_ACCESS_KEY", o->root_secret_access_key, 1) == 0);
}

static int local_run(struct cli *cli)
{
    struct local l = {.cli = cli, .lock_fd = -1};
    if (local_client_check(cli) != 0)
        return CLI_EXIT_MISUSE;
    pass_root_key(&cli->options);
    if (!split(&l, cli->options.http, &l.http) || !split(&l, cli->options.rpc, &l.rpc) ||
        !split(&l, cli->options.peer, &l.peer))
        return cli_misuse(cli, "an address is HOST:PORT");
    int exit_status = prepare_data(&l);
    if (exit_status == 0)
        exit_status = prepare_http(&l);
    if (exit_status == 0)
        exit_status = prepare_programs(&l);
    if (exit_status == 0)
        exit_status = local_client_open(cli, l.endpoint);
    if (exit_status == 0) {
        block_signals(&l);
        exit_status = run_all(&l);
    }
    if (l.lock_fd >= 0)
        close(l.lock_fd);
    return exit_status;
}

static const struct option_row local_rows[] = {
    CLI_ROW("data-dir", TEXT, "DIR", data_dir,
            .help = "Where everything is kept; ~/.local/share/millrace if not given, as root "
                    "/var/lib/millrace."),
    CLI_ROW("http", ADDRESS, "HOST:PORT", http, .default_text = "127.0.0.1:9324",
            .help = "Where clients connect; port 0 is any free one."),
    CLI_ROW("rpc", ADDRESS, "HOST:PORT", rpc, .default_text = "127.0.0.1:0",
            .help = "Where workers connect; port 0 is any free one."),
    CLI_ROW("peer", ADDRESS, "HOST:PORT", peer, .default_text = "127.0.0.1:0",
            .help = "Where other brokers would connect; port 0 is any free one."),
    CLI_ROW("memory", BYTES, "SIZE", memory_bytes,
            .help = "Memory that functions may use together; the worker decides if not given."),
    CLI_ROW("concurrency", NUMBER, "N", concurrency, .min = 1, .max = 10000,
            .help = "Functions that may run at once; the worker decides if not given."),
    CLI_ROW("region", TEXT, "NAME", region, .default_text = "us-east-1",
            .help = "The region in the names of things."),
    CLI_ROW("account-id", TEXT, "DIGITS", account_id, .default_text = "000000000000",
            .help = "The account in the names of things."),
    CLI_ROW("auth", TEXT, "MODE", auth, .default_text = "off",
            .help =
                "Check signatures: off, required, or auto (required unless --http is a loopback "
                "address). The first key is --root-access-key-id with its secret."),
    CLI_ROW("root-access-key-id", TEXT, "ID", root_access_key_id,
            .help = "An access key that may do everything; it is kept from then on."),
    CLI_ROW("root-secret-access-key", TEXT, "SECRET", root_secret_access_key,
            .help = "Its secret, better given by the environment or --config."),
    CLI_ROW("tls-cert", TEXT, "FILE", tls_cert,
            .help = "Speak HTTPS on the --http port, with this certificate and its chain (PEM)."),
    CLI_ROW("tls-key", TEXT, "FILE", tls_key, .help = "The private key of --tls-cert (PEM)."),
    CLI_ROW("tls-client-ca", TEXT, "FILE", tls_client_ca,
            .help = "Serve only clients with a certificate of these authorities; needs a --tls-dir "
                    "of theirs."),
    CLI_ROW("tls-dir", TEXT, "DIR", tls_dir,
            .help = "Speak TLS on the other ports: the broker's folder of millrace tls init."),
    CLI_ROW("worker-tls-dir", TEXT, "DIR", worker_tls_dir,
            .help = "And the worker's; the broker's certificate must be for the host of --rpc."),
    CLI_ROW("http-keepalive-timeout", NUMBER, "SECONDS", keepalive_timeout_s, .min = 1,
            .max = 86400, .help = "How long a client's connection may be idle; 75 if not given."),
    CLI_ROW("http-keepalive-requests", NUMBER, "N", keepalive_requests, .max = UINT32_MAX,
            .help = "Requests that one connection may have; no limit if not given, or 0."),
    CLI_ROW("metrics-auth", TEXT, "MODE", metrics_auth,
            .help = "Who may read /metrics and /status: required, off or auto, as the broker's."),
    CLI_ROW("metrics-token-file", TEXT, "FILE", metrics_token_file,
            .help = "The token for /metrics and /status."),
};

const struct cli_command cli_local_commands[] = {
    {.words = "local",
     .usage = "",
     .summary = "Run a broker and a worker here, until stopped.",
     .examples = "  millrace local\n"
                 "  millrace local --data-dir /tmp/try --http 127.0.0.1:0\n",
     .rows = local_rows,
     .row_count = ARRAY_COUNT(local_rows),
     .no_client = true,
     .run = local_run},
};
const size_t cli_local_command_count = ARRAY_COUNT(cli_local_commands);
