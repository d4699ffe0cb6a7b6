/* SPDX-License-Identifier: Apache-2.0 */
/* What a run of a function comes to: how long it took, what memory it held, the log's REPORT line,
 * and the result for the broker. */
#include "worker/environment_internal.h"

#include "proto/base/assert.h"
#include "proto/base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* number_in: the first number behind `field` in a file of /proc; 0 if there is none. An empty field
 * is the start of the file. */
static unsigned long long number_in(const char *path, const char *field)
{
    char line[128];
    unsigned long long number = 0;
    size_t length = strlen(field);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, field, length) == 0) {
            number = strtoull(line + length, NULL, 10);
            break;
        }
    if (file != NULL)
        fclose(file);
    return number;
}

/* runtime_bytes: what the runtime has in memory: the supervisor's first child. In a control group
 * only what is its own: shared libraries may be charged to whoever read them first. */
static uint64_t runtime_bytes(const struct environment *e)
{
    char path[80];
    int pid = (int)e->supervisor_pid;
    if (pid == 0)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    unsigned long long runtime = number_in(path, "");
    snprintf(path, sizeof path, "/proc/%llu/status", runtime);
    const char *field = e->cgroup.kind == CGROUP_NONE ? "VmRSS:" : "RssAnon:";
    return runtime != 0 ? number_in(path, field) << 10 : 0;
}

/* What stands in for a control group's peak, and for its limit where a group does
 * not hold (a supervisor of the machine may have moved the process out of it). */
void environment_look_at_memory(struct environment *e)
{
    uint64_t bytes = runtime_bytes(e);
    if (bytes > e->memory_seen)
        e->memory_seen = bytes;
}

static uint64_t memory_max(struct environment *e)
{
    environment_look_at_memory(e);
    uint64_t peak = cgroup_memory_peak(&e->cgroup);
    return peak > e->memory_seen ? peak : e->memory_seen;
}

struct numbers {
    uint64_t duration_us, billed_ms, init_us, memory_bytes;
};

static void measure(struct environment *e, struct numbers *out)
{
    uint64_t now = clock_monotonic_ns();
    bool cold = e->invocations <= 1;
    *out = (struct numbers){0};
    if (e->delivered)
        out->duration_us = (now - e->delivered_ns) / 1000;
    if (cold)
        out->init_us = e->initialised  ? e->init_us
                       : e->started_ns ? (now - e->started_ns) / 1000
                                       : 0;
    if (e->fate == FATE_TIMEOUT)
        out->duration_us = (uint64_t)e->function->timeout_ms * 1000;
    /* As AWS does since August 2025, a cold start's init is billed with its invocation. */
    out->billed_ms = (out->duration_us + out->init_us + 999) / 1000;
    out->memory_bytes = memory_max(e);
}

static void print_report(struct environment *e, const struct numbers *n, const char *status)
{
    const char *request_id = e->assignment->order->request_id;
    char init[64] = "";
    if (n->init_us > 0)
        snprintf(init, sizeof init, "Init Duration: %.2f ms\t", (double)n->init_us / 1000);
    output_line(&e->output, "END RequestId: %.64s", request_id);
    output_line(&e->output,
                "REPORT RequestId: %.64s\tDuration: %.2f ms\tBilled Duration: %" PRIu64
                " ms\tMemory Size: %u MB\tMax Memory Used: %" PRIu64 " MB\t%s%s",
                request_id, (double)n->duration_us / 1000, n->billed_ms, e->function->memory_mb,
                (n->memory_bytes + 1048575) >> 20, init, status);
}

void environment_finish(struct environment *e, Millrace__Outcome outcome, struct slice payload,
                        const char *status)
{
    struct numbers n;
    struct assignment *assignment = e->assignment;
    Millrace__Result result = MILLRACE__RESULT__INIT;
    ASSERT(assignment != NULL);
    measure(e, &n);
    if (e->output_is_open) {
        struct slice tail;
        output_drain(&e->output);
        print_report(e, &n, status);
        tail = output_tail(&e->output);
        result.log_tail = (ProtobufCBinaryData){tail.length, (uint8_t *)(uintptr_t)tail.data};
    }
    result.lease_id = assignment->order->lease_id;
    result.outcome = outcome;
    result.payload = (ProtobufCBinaryData){payload.length, (uint8_t *)(uintptr_t)payload.data};
    result.duration_us = n.duration_us;
    result.billed_ms = n.billed_ms;
    result.init_us = n.init_us;
    result.cold_start = e->invocations <= 1;
    result.memory_max_bytes = n.memory_bytes;
    e->assignment = NULL;
    e->delivered = false;
    e->setup->on_result(e->setup->data, assignment, &result);
}
