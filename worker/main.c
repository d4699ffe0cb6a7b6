/* SPDX-License-Identifier: Apache-2.0 */
/* millrace-worker: runs functions for a Millrace cluster.
 *
 * The order at the start matters: options, the isolation probes (they fork), the interpreters (they
 * run programs), the launcher (forked while there is one thread and nothing secret is open), and
 * only then the loop. SIGTERM and SIGINT drain: nothing new, what runs may end; a second one stops
 * it. */
#include "proto/base/options.h"
#include "proto/base/trace.h"
#include "worker/worker.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define ADDRESSES_MAX   64
#define MEMORY_MIN      (128ull << 20)
#define MEMORY_MAX      (1ull << 44)
#define SLOT_BYTES      (128ull << 20)
#define CONCURRENCY_MAX 64u /* of the default; the option may ask for more */

struct settings {
    const char *brokers;
    const char *data_dir;
    uint64_t memory_bytes;
    uint64_t concurrency;
    uint64_t keep_alive_s;
    uint64_t grace_s;
    uint64_t code_cache_bytes;
    const char *tls_dir;
    const char *log_level;
};

#define FIELD(name) offsetof(struct settings, name)
static const struct option_row rows[] = {
    {.name = "brokers",
     .type = OPTION_TEXT,
     .placeholder = "HOST:PORT,...",
     .required = true,
     .offset = FIELD(brokers),
     .help = "RPC addresses of the brokers; any one that answers is used."},
    {.name = "data-dir",
     .type = OPTION_TEXT,
     .placeholder = "DIR",
     .required = true,
     .offset = FIELD(data_dir),
     .help = "Folder for code and function output; made if needed."},
    {.name = "memory",
     .type = OPTION_BYTES,
     .placeholder = "BYTES",
     .min = MEMORY_MIN,
     .max = MEMORY_MAX,
     .offset = FIELD(memory_bytes),
     .help = "Memory for functions in all, such as 4GiB. Default: half of the machine's."},
    {.name = "concurrency",
     .type = OPTION_NUMBER,
     .placeholder = "N",
     .min = 1,
     .max = ENVIRONMENTS_MAX,
     .offset = FIELD(concurrency),
     .help = "Functions run at once. Default: one for each 128 MiB of memory, at most 64."},
    {.name = "keep-alive",
     .type = OPTION_NUMBER,
     .placeholder = "SECONDS",
     .default_text = "60",
     .min = 1,
     .max = 86400,
     .offset = FIELD(keep_alive_s),
     .help = "How long an idle environment is kept warm."},
    {.name = "grace",
     .type = OPTION_NUMBER,
     .placeholder = "SECONDS",
     .default_text = "30",
     .min = 0,
     .max = 900,
     .offset = FIELD(grace_s),
     .help = "How long running functions may go on after SIGTERM."},
    {.name = "code-cache",
     .type = OPTION_BYTES,
     .placeholder = "BYTES",
     .default_text = "2GiB",
     .min = 0,
     .max = MEMORY_MAX,
     .offset = FIELD(code_cache_bytes),
     .help = "Unpacked code kept on disk for functions that do not run now."},
    {.name = "tls-dir",
     .type = OPTION_TEXT,
     .placeholder = "DIR",
     .offset = FIELD(tls_dir),
     .help = "Speak TLS with the brokers, with ca.pem, cert.pem and key.pem of this folder; see "
             "millrace tls init."},
    {.name = "log-level",
     .type = OPTION_TEXT,
     .placeholder = "LEVEL",
     .default_text = "info",
     .offset = FIELD(log_level),
     .help = "debug, info, warn or error."},
};

struct program {
    struct worker *worker;
    struct tls_context *tls;
    uint32_t grace_ms;
    bool stopping;
    uv_signal_t signals[2];
};

static void on_closed(void *data)
{
    struct program *p = data;
    p->worker = NULL;
    if (p->tls != NULL)
        tls_context_close(p->tls, NULL, NULL);
    for (unsigned i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&p->signals[i], NULL);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct program *p = handle->data;
    if (p->worker == NULL)
        return;
    trace_info("worker", p->stopping ? "stopping" : "draining", "signal=%d", number);
    worker_drain(p->worker, p->stopping ? 0 : p->grace_ms, on_closed, p);
    p->stopping = true;
}

static size_t split_addresses(const char *text, struct arena *arena, struct broker_address *out)
{
    size_t count = 0;
    char *copy = (char *)(uintptr_t)arena_text(arena, slice_of(text));
    char *save = NULL;
    for (char *word = strtok_r(copy, ",", &save); word != NULL; word = strtok_r(NULL, ",", &save)) {
        word += strspn(word, " \t");
        word[strcspn(word, " \t")] = '\0';
        if (count == ADDRESSES_MAX ||
            !address_split(word, arena, &out[count].host, &out[count].port)) {
            fprintf(stderr, "millrace-worker: --brokers: \"%s\" is no HOST:PORT\n", word);
            return 0;
        }
        count++;
    }
    if (count == 0)
        fprintf(stderr, "millrace-worker: --brokers names no broker\n");
    return count;
}

/* half_of_memory: a container's limit counts as the machine's memory. */
static uint64_t half_of_memory(void)
{
    uint64_t total = uv_get_total_memory();
    uint64_t limit = uv_get_constrained_memory();
    if (limit > 0 && limit < total)
        total = limit;
    return total / 2 > MEMORY_MIN ? total / 2 : MEMORY_MIN;
}

static void choose_defaults(struct settings *settings)
{
    if (settings->memory_bytes == 0)
        settings->memory_bytes = half_of_memory();
    if (settings->concurrency == 0) {
        uint64_t slots = settings->memory_bytes / SLOT_BYTES;
        settings->concurrency = slots > CONCURRENCY_MAX ? CONCURRENCY_MAX : slots;
    }
}

static const char *make_data_dir(const char *dir, struct arena *arena)
{
    char resolved[PATH_MAX];
    if ((mkdir(dir, 0711) != 0 && errno != EEXIST) || realpath(dir, resolved) == NULL) {
        fprintf(stderr, "millrace-worker: --data-dir %s: %s\n", dir, strerror(errno));
        return NULL;
    }
    return arena_text(arena, slice_of(resolved));
}

static bool functions_reach(const struct isolation *isolation, const char *data_dir)
{
    if (isolation_reaches(isolation, data_dir))
        return true;
    fprintf(stderr,
            "millrace-worker: --data-dir %s: functions run as users of their own here, and may not "
            "pass through the folders above it; give a folder below ones that others may pass "
            "through, such as /var/lib/millrace\n",
            data_dir);
    return false;
}

/* The certificate with which the brokers let this worker in. */
static int open_tls(struct program *p, uv_loop_t *loop, const char *dir)
{
    struct arena arena = {0};
    struct tls_settings settings = {.use = TLS_MUTUAL,
                                    .certificate_file =
                                        arena_printf(&arena, "%s/" TLS_DIR_CERTIFICATE, dir),
                                    .key_file = arena_printf(&arena, "%s/" TLS_DIR_KEY, dir),
                                    .ca_file = arena_printf(&arena, "%s/" TLS_DIR_CA, dir),
                                    .peer_role = TLS_ROLE_BROKER,
                                    .poll_ms = TLS_POLL_MS};
    struct tls_error error;
    enum status status = tls_context_open(&p->tls, loop, &settings, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "millrace-worker: --tls-dir: %s\n", error.text);
    arena_free(&arena);
    return status == STATUS_OK ? EX_OK : EX_CONFIG;
}

static int run_loop(uv_loop_t *loop, struct program *p, struct worker_options *options,
                    const char *tls_dir)
{
    static const int numbers[2] = {SIGTERM, SIGINT};
    if (tls_dir != NULL && open_tls(p, loop, tls_dir) != EX_OK)
        return EX_CONFIG;
    options->tls = p->tls;
    enum status status = worker_open(&p->worker, options);
    if (status != STATUS_OK) {
        fprintf(stderr, "millrace-worker: --data-dir %s: %s\n", options->data_dir,
                status_text(status));
        return EX_CANTCREAT;
    }
    for (unsigned i = 0; i < 2; i++) {
        uv_signal_init(loop, &p->signals[i]);
        p->signals[i].data = p;
        uv_signal_start(&p->signals[i], on_signal, numbers[i]);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return EX_OK;
}

static int run_isolated(const struct settings *settings, const char *data_dir,
                        const struct isolation *isolation, const struct runtimes *runtimes,
                        const struct broker_address *addresses, size_t address_count)
{
    struct launcher *launcher = NULL;
    struct program program = {.grace_ms = (uint32_t)settings->grace_s * 1000};
    if (!functions_reach(isolation, data_dir))
        return EX_CONFIG;
    enum status status = launcher_start(&launcher, isolation);
    if (status != STATUS_OK) {
        fprintf(stderr, "millrace-worker: cannot start the launcher: %s\n", status_text(status));
        return EX_OSERR;
    }
    int code = EX_OSERR;
    uv_loop_t loop;
    if (uv_loop_init(&loop) == 0) {
        struct worker_options options = {.loop = &loop,
                                         .launcher = launcher,
                                         .isolation = isolation,
                                         .runtimes = runtimes,
                                         .addresses = addresses,
                                         .address_count = address_count,
                                         .data_dir = data_dir,
                                         .memory_bytes = settings->memory_bytes,
                                         .environments_max = (uint32_t)settings->concurrency,
                                         .keep_alive_ms = (uint32_t)settings->keep_alive_s * 1000,
                                         .init_timeout_ms = 10000,
                                         .code_bytes_max = settings->code_cache_bytes};
        code = run_loop(&loop, &program, &options, settings->tls_dir);
    }
    launcher_stop(launcher);
    return code;
}

static int run(const struct settings *settings, struct arena *arena)
{
    struct broker_address addresses[ADDRESSES_MAX];
    struct isolation isolation;
    struct runtimes runtimes;
    size_t address_count = split_addresses(settings->brokers, arena, addresses);
    if (address_count == 0)
        return EX_USAGE;
    const char *data_dir = make_data_dir(settings->data_dir, arena);
    if (data_dir == NULL)
        return EX_CANTCREAT;
    prctl(PR_SET_DUMPABLE, 0); /* no core file and no tracing of a process that sees all events */
    runtimes_find(&runtimes);
    isolation_probe(&isolation);
    int code = run_isolated(settings, data_dir, &isolation, &runtimes, addresses, address_count);
    isolation_deinit(&isolation);
    return code;
}

int main(int argc, char *argv[])
{
    struct arena arena = {0};
    struct settings settings = {0};
    struct options_result result = {0};
    struct options_spec spec = {.program = "millrace-worker",
                                .summary = "Runs functions for Millrace brokers.",
                                .rows = rows,
                                .row_count = sizeof rows / sizeof rows[0]};
    enum trace_level level = TRACE_INFO;
    int code = EX_USAGE;
    if (options_read(&spec, argc, argv, &settings, &arena, &result) != STATUS_OK) {
        fprintf(stderr, "millrace-worker: %s\n", result.error);
    } else if (result.exit_now) {
        code = EX_OK;
    } else if (!trace_level_parse(settings.log_level, &level)) {
        fprintf(stderr,
                "millrace-worker: --log-level: \"%s\" is none of debug, info, warn, error\n",
                settings.log_level);
    } else {
        signal(SIGPIPE, SIG_IGN);
        trace_configure(level, false);
        choose_defaults(&settings);
        code = run(&settings, &arena);
    }
    arena_free(&arena);
    return code;
}
