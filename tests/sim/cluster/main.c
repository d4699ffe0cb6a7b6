/* SPDX-License-Identifier: Apache-2.0 */
/* cluster_sim: the core, the Raft library and the log of several nodes in one process, on a
 * simulated clock, disk and network; README.md beside this tells how.
 *
 * Each seed is a child process: what it leaks goes with it, and a failed assertion or a fault is a
 * finding like any other. The parent looks for the fewest steps with which a seed still fails. */
#include "tests/sim/cluster/history.h"
#include "tests/sim/cluster/network.h"

#include "proto/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS_DEFAULT 300u
#define RUN_MAX       (1800 * SECOND)
#define SETTLE_MAX    (180 * SECOND)
#define EXIT_USAGE    64
#define SECONDS_MAX   60 /* of processor time, for one run */
#define MUTANT_MAX    5  /* where the engine is wrong: what spins then is not looked at for long */
#define JOBS_MAX      64

/* A node that ends leaves its memory behind, so the leak sanitizer has nothing to say here. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

/* ---- one seed ---- */

static const char *const fault_names[FAULT_COUNT] = {
    [FAULT_KILL] = "kill",           [FAULT_POWER] = "power",       [FAULT_ALL_DOWN] = "all-down",
    [FAULT_STOP] = "stop",           [FAULT_EIO] = "eio",           [FAULT_FULL] = "full",
    [FAULT_SLOW_DISK] = "slow-disk", [FAULT_PAUSE] = "pause",       [FAULT_WALL] = "wall",
    [FAULT_DRIFT] = "drift",         [FAULT_DAMAGE] = "damage",     [FAULT_PARTITION] = "partition",
    [FAULT_LOSS] = "loss",           [FAULT_DISORDER] = "disorder", [FAULT_MEMBERS] = "members",
    [FAULT_RACK] = "rack",           [FAULT_AMBUSH] = "ambush",
};

static void choose_faults(void)
{
    uint64_t bits = chance_next(&world.chance) & chance_next(&world.chance);
    for (int i = 0; i < FAULT_COUNT; i++)
        world.faults[i] =
            ((bits | world.options.always) >> i & 1) != 0 && (world.options.without >> i & 1) == 0;
    /* Who may be damaged, and who lost, is bounded together: one of the two. */
    world.faults[FAULT_DAMAGE] &= !world.faults[FAULT_MEMBERS];
}

static bool never(void)
{
    return false;
}

static bool rested(void)
{
    return members_settled() && clients_drained() && digests_settled() && members_agree(false);
}

static const char *what_is_missing(void)
{
    if (!members_settled())
        return "the change of the members does not end";
    if (!clients_drained())
        return "the queues were not emptied";
    return members_agree(true) ? "the nodes do not agree"
                               : "the nodes do not agree who the members are";
}

static bool anyone_left(void)
{
    for (unsigned i = 1; i <= world.node_count; i++) {
        if (!world.nodes[i].removed)
            return true;
    }
    return false;
}

static void start_all(void)
{
    for (unsigned i = 1; i <= world.founders; i++)
        node_start(&world.nodes[i]);
}

/* Power off everywhere before the end in half of the runs: what was acknowledged must be on disk.
 */
static void last_test(void)
{
    if (!chance_in(&world.chance, 2))
        return;
    for (unsigned i = 1; i <= world.node_count; i++)
        node_end(&world.nodes[i], VDISK_END_POWER);
}

static void run(struct options options)
{
    char summary[200];
    world.options = options;
    world.chance.state = options.seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    choose_faults();
    static const unsigned sizes[] = {1, 3, 3, 5};
    unsigned size = sizes[chance_below(&world.chance, ARRAY_COUNT(sizes))];
    world.snapshot_bytes = UINT64_C(1) << (chance_in(&world.chance, 2) ? 14 : 40);
    if (options.snapshot_bytes > 0)
        world.snapshot_bytes = options.snapshot_bytes;
    world.trailing = options.trailing > 0 ? options.trailing : chance_in(&world.chance, 2);
    network_begin();
    world.founders = options.nodes > 0 ? options.nodes : size;
    nodes_make(world.founders + (world.faults[FAULT_MEMBERS] ? 2 : 0));
    members_begin(world.founders);
    start_all();
    clients_begin();
    world_run(RUN_MAX, clients_done);
    if (!clients_done())
        sim_fail("no progress: the clients did not come to their end");
    nemesis_heal();
    last_test();
    world_run(world.now_ns + 3 * SECOND, never);
    if (!anyone_left())
        return; /* the only node was damaged, and says so */
    sim_say("healed");
    clients_drain_begin();
    world_run(world.now_ns + SETTLE_MAX, rested);
    if (!rested()) {
        digests_tell();
        sim_fail("no progress: %s", what_is_missing());
    }
    history_judge();
    history_summary(summary, sizeof summary);
    sim_say("%s, %.1f s", summary, (double)world.now_ns / 1e9);
}

/* ---- children ---- */

pid_t __real_fork(void);

/* limit: of processor time, since the machine may have other things to do; and no huge pages, which
 * are cleared whole for the little that a run uses of them. */
static void limit(bool mutant)
{
    struct itimerval most = {.it_value = {.tv_sec = mutant ? MUTANT_MAX : SECONDS_MAX}};
    if (setitimer(ITIMER_PROF, &most, NULL) != 0 || prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0)
        exit(EXIT_USAGE);
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 1 << 20);
}

static pid_t begin(struct options options, bool loud)
{
    fflush(NULL);
    pid_t pid = __real_fork();
    if (pid == 0) {
        if (!loud && freopen("/dev/null", "w", stderr) == NULL)
            exit(EXIT_USAGE);
        limit(options.mutation != NULL);
        run(options);
        exit(0);
    }
    if (pid < 0)
        abort();
    return pid;
}

/* is_good: a mutant that spins was not caught for what it is: other seeds are to tell. */
static bool is_good(uint64_t seed, int status, const struct options *options, bool loud)
{
    if (options->mutation != NULL && WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF)
        return true;
    if (WIFSIGNALED(status) && loud)
        fprintf(stderr, "seed %" PRIu64 ": ended by signal %d\n", seed, WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool run_one(struct options options, bool loud)
{
    int status = 0;
    pid_t pid = begin(options, loud);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return is_good(options.seed, status, &options, loud);
}

/* shrink: by halves; a run of fewer steps is another run, so this finds a short one, not always the
 * shortest. */
static void shrink(struct options options)
{
    uint32_t good = 0;
    while (good + 1 < options.steps) {
        struct options tried = options;
        tried.steps = good + (options.steps - good) / 2;
        if (run_one(tried, false))
            good = tried.steps;
        else
            options.steps = tried.steps;
    }
    fprintf(stderr, "to see it: cluster_sim --seed %" PRIu64 " --steps %u", options.seed,
            options.steps);
    if (options.nodes > 0)
        fprintf(stderr, " --nodes %u", options.nodes);
    fprintf(stderr, " --verbose\n");
}

/* ---- many seeds ---- */

struct plan {
    struct options options;
    uint64_t first;
    uint64_t last;
    unsigned jobs;
    bool forever;
    uint64_t shrinks; /* of so many findings a short run is looked for */
};

struct job {
    pid_t pid;
    uint64_t seed;
};

static size_t wait_for_one(struct job *jobs, size_t count, int *status)
{
    for (;;) {
        pid_t pid = waitpid(-1, status, 0);
        for (size_t i = 0; i < count; i++) {
            if (jobs[i].pid == pid)
                return i;
        }
    }
}

/* run_all: how many seeds failed; stops at the first one where a mutation is to be caught. */
static uint64_t run_all(const struct plan *plan)
{
    struct job jobs[JOBS_MAX];
    size_t count = 0;
    uint64_t failed = 0;
    struct options options = plan->options;
    uint64_t next = plan->first;
    while (count > 0 || next <= plan->last) {
        bool enough = failed > 0 && plan->options.mutation != NULL;
        if (enough && count == 0)
            break;
        if (!enough && count < plan->jobs && next <= plan->last) {
            options.seed = next++;
            jobs[count++] = (struct job){begin(options, true), options.seed};
            continue;
        }
        int status;
        size_t i = wait_for_one(jobs, count, &status);
        options.seed = jobs[i].seed;
        jobs[i] = jobs[--count];
        if (is_good(options.seed, status, &options, true))
            continue;
        failed++;
        if (failed <= plan->shrinks)
            shrink(options);
    }
    return failed;
}

__attribute__((noreturn)) static void run_forever(struct plan plan)
{
    const uint64_t each = 1000;
    for (;; plan.first += each) {
        plan.last = plan.first + each - 1;
        uint64_t failed = run_all(&plan);
        printf("seeds %" PRIu64 " to %" PRIu64 ": %" PRIu64 " failed\n", plan.first, plan.last,
               failed);
    }
}

/* ---- command line ---- */

static int usage(void)
{
    fprintf(stderr,
            "usage: cluster_sim [--seed N | --seeds A..B] [--nodes 1|3|5] [--steps N]\n"
            "                   [--jobs N] [--shrinks N] [--forever] [--verbose] [--mutate NAME]\n"
            "                   [--no FAULT]...\n"
            "With --mutate: does some seed notice the mutation? See README.md for the names.\n"
            "Faults:");
    for (int i = 0; i < FAULT_COUNT; i++)
        fprintf(stderr, " %s", fault_names[i]);
    fprintf(stderr, "\n");
    return EXIT_USAGE;
}

static bool number(const char *text, uint64_t most, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *out <= most;
}

static bool range(const char *text, struct plan *plan)
{
    char *end;
    plan->first = strtoull(text, &end, 10);
    return end != text && strncmp(end, "..", 2) == 0 && number(end + 2, UINT64_MAX, &plan->last) &&
           plan->first <= plan->last;
}

/* fault_bits: of names with commas between them; 0: one is unknown. */
static uint32_t fault_bits(const char *names)
{
    uint32_t bits = 0;
    for (size_t length; *names != '\0'; names += length + (names[length] == ',')) {
        length = strcspn(names, ",");
        int i = 0;
        while (i < FAULT_COUNT &&
               (strlen(fault_names[i]) != length || strncmp(fault_names[i], names, length) != 0))
            i++;
        if (i == FAULT_COUNT)
            return 0;
        bits |= 1u << i;
    }
    return bits;
}

static bool choose(struct options *options, const char *how, const char *names)
{
    uint32_t bits = fault_bits(names);
    if (strcmp(how, "--no") == 0)
        options->without |= bits;
    else
        options->always |= bits;
    if (strcmp(how, "--only") == 0)
        options->without = ~bits;
    return bits != 0;
}

static bool take(struct plan *plan, const char *name, const char *value)
{
    uint64_t n = 0;
    if (strcmp(name, "--mutate") == 0) {
        plan->options.mutation = value;
        return true;
    }
    if (strcmp(name, "--seeds") == 0)
        return range(value, plan);
    if (strcmp(name, "--no") == 0 || strcmp(name, "--with") == 0 || strcmp(name, "--only") == 0)
        return choose(&plan->options, name, value);
    if (!number(value, UINT64_MAX, &n))
        return false;
    if (strcmp(name, "--seed") == 0)
        plan->first = plan->last = n;
    else if (strcmp(name, "--nodes") == 0 && n > 0 && n <= NODES_MAX)
        plan->options.nodes = (unsigned)n;
    else if (strcmp(name, "--steps") == 0 && n <= 10000000)
        plan->options.steps = (uint32_t)n;
    else if (strcmp(name, "--pace") == 0 && n > 0)
        plan->options.pace_ms = n;
    else if (strcmp(name, "--plan-pace") == 0 && n > 0)
        plan->options.plan_ms = n;
    else if (strcmp(name, "--trailing") == 0 && n > 0 && n <= UINT16_MAX)
        plan->options.trailing = (unsigned)n;
    else if (strcmp(name, "--voters") == 0 && n > 0)
        plan->options.voters_max = (unsigned)n;
    else if (strcmp(name, "--snapshot-bytes") == 0 && n > 0)
        plan->options.snapshot_bytes = n;
    else if (strcmp(name, "--shrinks") == 0)
        plan->shrinks = n;
    else if (strcmp(name, "--jobs") == 0 && n > 0 && n <= JOBS_MAX)
        plan->jobs = (unsigned)n;
    else
        return false;
    return true;
}

static bool parse(int argc, char **argv, struct plan *plan)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0)
            plan->options.verbose = true;
        else if (strcmp(argv[i], "--forever") == 0)
            plan->forever = true;
        else if (i + 1 == argc || !take(plan, argv[i], argv[i + 1]))
            return false;
        else
            i++;
    }
    return true;
}

int main(int argc, char **argv)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct plan plan = {.options = {.steps = STEPS_DEFAULT, .voters_max = NODES_MAX},
                        .first = 1,
                        .last = 100,
                        .jobs = cores > 0 && cores < JOBS_MAX ? (unsigned)cores : 1,
                        .shrinks = 2};
    if (!parse(argc, argv, &plan))
        return usage();
    bool one = plan.first == plan.last && !plan.forever;
    if (plan.options.verbose || plan.options.mutation != NULL)
        plan.shrinks = 0;
    if (plan.forever)
        run_forever(plan);
    uint64_t failed = run_all(&plan);
    if (plan.options.mutation != NULL) {
        printf("mutation %s: %s\n", plan.options.mutation, failed > 0 ? "caught" : "NOT CAUGHT");
        return failed > 0 ? 0 : 1;
    }
    if (!one || failed > 0)
        printf("seeds %" PRIu64 " to %" PRIu64 ": %" PRIu64 " failed\n", plan.first, plan.last,
               failed);
    return failed > 0 ? 1 : 0;
}
