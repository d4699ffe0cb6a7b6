/* SPDX-License-Identifier: Apache-2.0 */
/* core_sim: the state machine against a slow model, under random entries.
 *
 *     core_sim [--seed N] [--steps M] [--promises-only 1] [--mutate NAME]
 *
 * Each step is one Raft entry of one to six random commands. The leader's core applies them one by
 * one, and every result, event and view is compared with the model. Half way a second core is
 * restored from a snapshot of the first and follows as a replica; its digest must stay equal. At
 * the end all entries are replayed in a third. The same seed gives the same run on every machine.
 *
 * A run is a child process, so a failed assertion of the core is a failure like any other; the
 * parent looks for the shortest prefix of the steps that still fails, and shows that one.
 *
 * A mutation falsifies what the core is fed or what is observed of it. Each must make the run fail,
 * or the comparison is blind to that kind of error. */
#include "tests/sim/checker.h"
#include "tests/sim/compare.h"
#include "tests/sim/generate.h"

#include "proto/base/assert.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS_DEFAULT   5000
#define SEEDS_DEFAULT   4
#define COMMANDS_MAX    6
#define CHECK_EVERY     20
#define EXIT_DIFFERENCE 1
#define EXIT_USAGE      2

enum mutation {
    MUTATE_NOTHING,
    MUTATE_DROP_DELETE,
    MUTATE_ALTER_RESULT,
    MUTATE_LONGER_LEASE,
    MUTATE_LOSE_RELEASE,
    MUTATE_SKIP_ENTRY,
    MUTATE_LOSE_MOVE,
    MUTATE_DROP_DEDUP,
    MUTATE_DELIVER_BLOCKED,
    MUTATE_REORDER_GROUP,
    MUTATE_EARLY_AGAIN,
    MUTATE_LOSE_ARRIVAL,
    MUTATE_LOSE_REFUSAL
};
static const struct {
    const char *name;
    enum mutation mutation;
} mutations[] = {
    {"drop-delete", MUTATE_DROP_DELETE},   /* the core never sees one DELETE */
    {"alter-result", MUTATE_ALTER_RESULT}, /* one received message shows another count */
    {"longer-lease", MUTATE_LONGER_LEASE}, /* one RECEIVE leases for a second longer */
    {"lose-release", MUTATE_LOSE_RELEASE}, /* one body_release is not seen */
    {"skip-entry", MUTATE_SKIP_ENTRY},     /* the replica misses the commands of one entry */
    {"lose-move", MUTATE_LOSE_MOVE},       /* the core never sees one MOVE_START */
    {"drop-dedup", MUTATE_DROP_DEDUP},     /* one duplicate is sent under another id */
    /* the core forgets what a FIFO queue has in flight before a receive */
    {"deliver-blocked", MUTATE_DELIVER_BLOCKED},
    {"reorder-group", MUTATE_REORDER_GROUP}, /* two messages of a group change places */
    {"lose-arrival", MUTATE_LOSE_ARRIVAL},   /* the core never sees one ARRIVE; and one REFUSED */
    {"lose-refusal", MUTATE_LOSE_REFUSAL},
    {"early-again", MUTATE_EARLY_AGAIN}, /* what is in flight becomes visible before a receive */
};

struct options {
    uint64_t seed;
    uint32_t steps;
    enum mutation mutation;
    bool promises_only; /* the model does not judge */
};

struct sim {
    struct options options;
    uint32_t step;
    struct model *model;
    struct checker *checker;
    struct generator generator;
    struct observed observed;
    struct core *leader;
    struct core *replica;  /* NULL in the first half */
    struct buffer entries; /* all of them; each after its u32 length */
    struct random random;
    bool mutated;
};

__attribute__((noreturn)) static void fail(const struct sim *sim, const char *what)
{
    fprintf(stderr, "seed %llu, step %u: %s\n", (unsigned long long)sim->options.seed, sim->step,
            what);
    exit(EXIT_DIFFERENCE);
}

static void expect(const struct sim *sim, const char *wrong)
{
    if (wrong != NULL && !sim->options.promises_only)
        fail(sim, wrong);
}

/* Half of the seeds have backlogs of things due, of purges and of moves. */
static uint32_t step_of(const struct sim *sim)
{
    static const uint32_t steps[] = {10000, 10000, 4, 20};
    return steps[sim->options.seed % ARRAY_COUNT(steps)];
}

/* Half of the seeds are one shard of several. */
static bool has_place(const struct sim *sim)
{
    return sim->options.seed / 2 % 2 == 0;
}

/* ---- mutations ---- */

/* Is it time for `mutation`? Once per run, after the state has grown a little. */
static bool mutate(struct sim *sim, enum mutation mutation)
{
    if (sim->options.mutation != mutation || sim->mutated || sim->step < 100)
        return false;
    sim->mutated = true;
    return true;
}

/* The same, but every time: not every chance will show. */
static bool mutate_for_good(const struct sim *sim, enum mutation mutation)
{
    return sim->options.mutation == mutation && sim->step >= 100;
}

/* What the core is fed instead of `command`. */
static struct command mutate_command(struct sim *sim, struct command command,
                                     const struct core_result *expected)
{
    if (command.type == COMMAND_DELETE && expected->code == CORE_OK &&
        mutate(sim, MUTATE_DROP_DELETE))
        return (struct command){.type = COMMAND_TICK};
    if (command.type == COMMAND_MOVE_START && expected->code == CORE_OK &&
        mutate(sim, MUTATE_LOSE_MOVE))
        return (struct command){.type = COMMAND_TICK};
    if (command.type == COMMAND_ARRIVE && expected->code == CORE_OK &&
        mutate(sim, MUTATE_LOSE_ARRIVAL))
        return (struct command){.type = COMMAND_TICK};
    if (command.type == COMMAND_REFUSED && expected->code == CORE_OK &&
        mutate(sim, MUTATE_LOSE_REFUSAL))
        return (struct command){.type = COMMAND_TICK};
    bool leases = command.type == COMMAND_RECEIVE && expected->message_count > 0;
    if (leases && command.receive.visibility_s < 100 && mutate(sim, MUTATE_LONGER_LEASE))
        command.receive.visibility_s++;
    return command;
}

/* Another dedup id in the bytes of a duplicate. A second call undoes it. */
static void alter_id(const struct command *command)
{
    uint8_t *record = (uint8_t *)(uintptr_t)command->send.record.data;
    record[76 + bytes_get_u32(record + 52) + bytes_get_u32(record + 60)] ^= 1;
}

/* Something that is in flight, if the queue is of this type and there is any. */
static bool with_leases(const struct sim *sim, uint64_t queue_id, bool fifo,
                        struct core_lease *lease)
{
    for (size_t q = 0; q < MODEL_QUEUES; q++) {
        const struct model_queue *queue = &sim->model->queues[q];
        if (!queue->exists || queue->queue_id != queue_id || queue->settings.fifo != fifo)
            continue;
        for (size_t i = 0; i < queue->count; i++) {
            const struct model_message *message = &queue->messages[i];
            if (message->state != MODEL_LEASED || message->due_ms < sim->model->now_ms + 2000)
                continue;
            *lease = (struct core_lease){message->seq, message->receive_count};
            return true;
        }
    }
    return false;
}

/* What is in flight is deleted (FIFO: its group goes on) or made visible behind everyone's back. */
static void mutate_lease(struct sim *sim, const struct command *command, struct slice entry)
{
    bool fifo = sim->options.mutation == MUTATE_DELIVER_BLOCKED;
    struct command change = {.type = fifo ? COMMAND_DELETE : COMMAND_CHANGE_VISIBILITY};
    struct core_lease lease;
    struct core_result ignored;
    if (command->type != COMMAND_RECEIVE || command->receive.attempt_id.length > 0 ||
        !with_leases(sim, command->receive.queue_id, fifo, &lease) ||
        !mutate_for_good(sim, fifo ? MUTATE_DELIVER_BLOCKED : MUTATE_EARLY_AGAIN))
        return;
    if (fifo)
        change.delete = (struct command_delete){command->receive.queue_id, lease, false};
    else
        change.change_visibility =
            (struct command_change_visibility){command->receive.queue_id, lease, 0};
    core_apply(sim->leader, &change, entry, &ignored);
}

/* What is seen instead of the core's result. */
static void mutate_result(struct sim *sim, const struct core_result *result,
                          struct core_result *seen)
{
    static struct core_message altered[10000];
    *seen = *result;
    if (result->message_count == 0)
        return;
    memcpy(altered, result->messages, result->message_count * sizeof altered[0]);
    seen->messages = altered;
    if (mutate(sim, MUTATE_ALTER_RESULT))
        altered[0].receive_count++;
    /* Three in a row: of a FIFO queue, two of them are of one group. */
    if (result->message_count >= 3 && altered[0].receive_count == 1 &&
        altered[1].receive_count == 1 && altered[2].receive_count == 1 &&
        mutate_for_good(sim, MUTATE_REORDER_GROUP)) {
        struct core_message first = altered[0];
        altered[0] = altered[2];
        altered[2] = first;
    }
}

/* ---- a step ---- */

static struct body_ref body_of(const struct sim *sim, const struct command *command,
                               struct slice entry)
{
    struct slice bytes = {0};
    if (command->type == COMMAND_SEND)
        bytes = command->send.record;
    else if (command->type == COMMAND_ARRIVE)
        bytes = command->arrive.record;
    else if (command->type == COMMAND_BLOB_PUT)
        bytes = command->blob_put.piece;
    else
        return (struct body_ref){0};
    return (struct body_ref){sim->model->index, (uint32_t)(bytes.data - entry.data),
                             (uint32_t)bytes.length};
}

/* The commands of an entry are generated against the state before it. */
static void make_entry(struct sim *sim, struct buffer *out)
{
    uint32_t count = 1 + random_below(&sim->random, COMMANDS_MAX);
    entry_begin(out);
    for (uint32_t i = 0; i < count; i++) {
        struct command command;
        if (sim->step == 0 && i == 0 && has_place(sim))
            command = (struct command){.type = COMMAND_PLACE, .place = {1, MODEL_SHARDS - 1}};
        else
            generate_command(&sim->generator, &command);
        command_encode(out, &command);
    }
    uint64_t now_ms = sim->model->now_ms + generate_time_step_ms(&sim->generator);
    now_ms += now_ms == 0; /* 0 means "none" in some views */
    /* A new leader's clock may be behind. */
    if (random_chance(&sim->random, 2) && now_ms > 5000)
        now_ms -= random_below(&sim->random, 5000);
    entry_finish(out, count, now_ms);
}

static void apply_one(struct sim *sim, const struct command *command, struct slice entry)
{
    struct core_result expected;
    struct core_result result;
    struct core_result seen;
    mutate_lease(sim, command, entry);
    model_apply(sim->model, command, body_of(sim, command, entry), &expected);
    bool altered =
        command->type == COMMAND_SEND && expected.duplicate && mutate(sim, MUTATE_DROP_DEDUP);
    if (altered)
        alter_id(command);
    struct command fed = mutate_command(sim, *command, &expected);
    if (mutate(sim, MUTATE_LOSE_RELEASE))
        sim->observed.lose_release = true;
    sim->observed.ready_count = 0;
    core_apply(sim->leader, &fed, entry, &result);
    if (altered)
        alter_id(command);
    mutate_result(sim, &result, &seen);
    const char *broken = checker_see(sim->checker, command, body_of(sim, command, entry), &seen,
                                     core_now_ms(sim->leader));
    if (broken != NULL)
        fail(sim, broken);
    expect(sim, compare_result(&seen, &expected));
    expect(sim, compare_ready(&sim->observed, sim->model));
    if (command->type == COMMAND_RECEIVE)
        generate_remember(&sim->generator, command->receive.queue_id, &expected);
}

static void lead_entry(struct sim *sim, uint64_t index, struct slice entry)
{
    struct cursor in;
    uint32_t count;
    uint64_t now_ms;
    if (entry_open(entry, &in, &count, &now_ms) != STATUS_OK)
        fail(sim, "the entry does not open");
    sim->observed.ready_count = 0;
    model_begin(sim->model, index, now_ms);
    core_begin(sim->leader, index, now_ms);
    expect(sim, compare_ready(&sim->observed, sim->model));
    for (uint32_t i = 0; i < count; i++) {
        struct command command;
        if (command_decode(&in, &command) != STATUS_OK)
            fail(sim, "the command does not decode");
        apply_one(sim, &command, entry);
    }
}

static void follow_entry(struct sim *sim, uint64_t index, struct slice entry)
{
    if (sim->replica == NULL)
        return;
    struct buffer nothing = {0};
    if (mutate(sim, MUTATE_SKIP_ENTRY)) {
        entry_begin(&nothing);
        entry_finish(&nothing, 0, sim->model->now_ms);
        entry = buffer_slice(&nothing);
    }
    if (core_apply_entry(sim->replica, index, entry) != STATUS_OK)
        fail(sim, "the replica refused an entry");
    buffer_free(&nothing);
    if (core_digest(sim->replica) != core_digest(sim->leader))
        expect(sim, "the replica's digest differs");
}

static void replica_begin(struct sim *sim)
{
    struct buffer snapshot = {0};
    core_snapshot(sim->leader, &snapshot);
    sim->replica = core_new(NULL);
    core_set_step(sim->replica, step_of(sim));
    if (core_restore(sim->replica, buffer_slice(&snapshot)) != STATUS_OK)
        fail(sim, "the snapshot was not restored");
    buffer_free(&snapshot);
    core_check(sim->replica);
    if (core_digest(sim->replica) != core_digest(sim->leader))
        expect(sim, "the restored core's digest differs");
}

/* bury_some: of what purges have left: a little, or all of it. Each replica at its own pace. */
static void bury_some(struct sim *sim, struct core *core)
{
    static const uint64_t pieces[] = {0, 1, 5, UINT64_MAX};
    if (core != NULL)
        core_bury(core, pieces[random_below(&sim->random, ARRAY_COUNT(pieces))]);
}

static void run_step(struct sim *sim)
{
    struct buffer entry = {0};
    uint64_t index = sim->step + 1;
    make_entry(sim, &entry);
    lead_entry(sim, index, buffer_slice(&entry));
    expect(sim, compare_state(sim->leader, &sim->observed, sim->model));
    follow_entry(sim, index, buffer_slice(&entry));
    bury_some(sim, sim->leader);
    bury_some(sim, sim->replica);
    if (sim->step % CHECK_EVERY == 0)
        core_check(sim->leader);
    buffer_add_u32(&sim->entries, (uint32_t)entry.length);
    buffer_add_slice(&sim->entries, buffer_slice(&entry));
    buffer_free(&entry);
}

static void replay_all(struct sim *sim)
{
    struct core *core = core_new(NULL);
    core_set_step(core, step_of(sim));
    struct cursor in = cursor_of(buffer_slice(&sim->entries));
    for (uint64_t index = 1; cursor_left(&in) > 0; index++) {
        if (core_apply_entry(core, index, cursor_bytes(&in)) != STATUS_OK)
            fail(sim, "an entry was refused when replayed");
    }
    core_check(core);
    if (core_digest(core) != core_digest(sim->leader))
        expect(sim, "the replayed core's digest differs");
    core_free(core);
}

/* ---- runs ---- */

/* In the child: returns only if all is well. */
static void run(struct options options)
{
    struct sim sim = {.options = options, .random = {options.seed}};
    struct core_events events = observed_events(&sim.observed);
    sim.model = model_new(step_of(&sim));
    sim.checker = checker_new();
    sim.generator = (struct generator){
        .random = {~options.seed}, .model = sim.model, .crowded = options.seed % 4 == 3};
    sim.leader = core_new(&events);
    core_set_step(sim.leader, step_of(&sim));
    /* Where the replica begins must not depend on the number of steps, or prefixes would differ. */
    uint32_t replica_at = 200 + random_below(&sim.random, 500);
    for (; sim.step < options.steps; sim.step++) {
        if (sim.step == replica_at)
            replica_begin(&sim);
        run_step(&sim);
    }
    replay_all(&sim);
    core_free(sim.leader);
    core_free(sim.replica);
    model_free(sim.model);
    checker_free(sim.checker);
    buffer_free(&sim.entries);
}

/* Does a run of `options` succeed? Without `loud` its complaint is not shown. */
static bool run_in_child(struct options options, bool loud)
{
    fflush(NULL);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        int null = loud ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (null >= 0)
            dup2(null, STDERR_FILENO);
        run(options);
        exit(0);
    }
    int status = 0;
    ASSERT(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* options.steps fail; the least number of steps that does is shown. */
static void shrink(struct options options)
{
    uint32_t good = 0;
    while (good + 1 < options.steps) {
        struct options tried = options;
        tried.steps = good + (options.steps - good) / 2;
        if (run_in_child(tried, false))
            good = tried.steps;
        else
            options.steps = tried.steps;
    }
    fprintf(stderr, "the shortest failing run: --seed %llu --steps %u\n",
            (unsigned long long)options.seed, options.steps);
    run_in_child(options, true);
}

static bool run_seed(struct options options)
{
    printf("core_sim: seed %llu, %u steps\n", (unsigned long long)options.seed, options.steps);
    bool good = run_in_child(options, true);
    if (!good)
        shrink(options);
    return good;
}

/* ---- command line ---- */

static bool parse_number(const char *text, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == 0;
}

static bool parse_mutation(const char *name, enum mutation *out)
{
    for (size_t i = 0; i < ARRAY_COUNT(mutations); i++) {
        if (strcmp(name, mutations[i].name) == 0) {
            *out = mutations[i].mutation;
            return true;
        }
    }
    return false;
}

static bool parse(int argc, char **argv, struct options *options, bool *seeded)
{
    uint64_t number;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            return false;
        if (strcmp(argv[i], "--seed") == 0 && parse_number(argv[i + 1], &options->seed))
            *seeded = true;
        else if (strcmp(argv[i], "--steps") == 0 && parse_number(argv[i + 1], &number) &&
                 number <= 100000000)
            options->steps = (uint32_t)number;
        else if (strcmp(argv[i], "--promises-only") == 0 && parse_number(argv[i + 1], &number))
            options->promises_only = number != 0;
        else if (strcmp(argv[i], "--mutate") != 0 ||
                 !parse_mutation(argv[i + 1], &options->mutation))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options options = {.seed = 1, .steps = STEPS_DEFAULT};
    bool seeded = false;
    if (!parse(argc, argv, &options, &seeded)) {
        fprintf(stderr, "usage: core_sim [--seed N] [--steps M] [--promises-only 1] "
                        "[--mutate NAME]\nmutations:");
        for (size_t i = 0; i < ARRAY_COUNT(mutations); i++)
            fprintf(stderr, " %s", mutations[i].name);
        fprintf(stderr, "\n");
        return EXIT_USAGE;
    }
    bool good = true;
    for (uint32_t i = 0; i < (seeded ? 1 : SEEDS_DEFAULT); i++, options.seed++)
        good = run_seed(options) && good;
    return good ? 0 : EXIT_DIFFERENCE;
}
