/* SPDX-License-Identifier: Apache-2.0 */
#include "client/bench/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define US_PER_S UINT64_C(1000000)

static bool read_file(int pid, const char *name, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    size_t got = fread(out, 1, size - 1, file);
    fclose(file);
    out[got] = 0;
    return got > 0;
}

/* Fields 14 and 15 of stat (proc(5)), counted behind the name, which may hold anything. */
static uint64_t cpu_ticks(int pid)
{
    char text[1024];
    if (!read_file(pid, "stat", text, sizeof text))
        return 0;
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 14; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        return 0;
    char *rest;
    uint64_t user = strtoull(at, &rest, 10);
    return user + strtoull(rest, NULL, 10);
}

bool processes_parse(const char *text, struct processes *out)
{
    *out = (struct processes){0};
    while (*text != 0) {
        char *end;
        char stat[8];
        long pid = strtol(text, &end, 10);
        if (end == text || pid <= 0 || pid > INT32_MAX || (*end != 0 && *end != ',') ||
            out->count == PROCESSES_MAX || !read_file((int)pid, "stat", stat, sizeof stat))
            return false;
        out->pids[out->count++] = (int)pid;
        text = *end == ',' ? end + 1 : end;
    }
    return out->count > 0;
}

uint64_t processes_cpu_us(struct processes *processes)
{
    uint64_t sum_us = 0;
    for (uint32_t i = 0; i < processes->count; i++) {
        uint64_t ticks = cpu_ticks(processes->pids[i]);
        if (ticks > 0)
            processes->cpu_us[i] = ticks * US_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);
        sum_us += processes->cpu_us[i];
    }
    return sum_us;
}

uint64_t processes_rss_bytes(const struct processes *processes)
{
    uint64_t pages = 0;
    for (uint32_t i = 0; i < processes->count; i++) {
        char text[128];
        char *rest;
        if (!read_file(processes->pids[i], "statm", text, sizeof text))
            continue;
        (void)strtoull(text, &rest, 10);
        pages += strtoull(rest, NULL, 10);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t own_cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * US_PER_S +
           (uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec;
}
