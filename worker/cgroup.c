/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups without a library: they are folders and small files.
 *
 * The worker makes `millrace-PID` in the group that it runs in itself, so that whatever limits the
 * operator or the container set on the worker hold for all its functions together, and in there
 * one folder an environment. Three machines are met in practice:
 *
 *   version 2   one tree. A group with processes may not give controllers to its children, so the
 *               worker moves itself to `millrace-PID-worker` next to the environments first.
 *   version 1   the memory and the pids controller are two trees (hybrid systems are the same for
 *               us: their version 2 tree has no memory controller).
 *   none        a container with a read-only tree, or a plain user. The launcher's resource limits
 *               and the pool's memory watch stand in.
 *
 * A version 1 group kills one process when memory is out, version 2 is told to kill all
 * (memory.oom.group). Either way the environment's first process is what memory is charged to most,
 * and its end ends the others. */
#include "worker/cgroup.h"

#include "proto/base/trace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_PREFIX "millrace-"

static enum status write_file(const char *dir, const char *name, const char *text)
{
    char path[CGROUP_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return status_from_errno(errno);
    size_t length = strlen(text);
    enum status status =
        write(fd, text, length) == (ssize_t)length ? STATUS_OK : status_from_errno(errno);
    close(fd);
    return status;
}

static uint64_t read_number(const char *dir, const char *name)
{
    char path[CGROUP_PATH_MAX + 64];
    char text[32];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    return strtoull(text, NULL, 10);
}

/* own_path: the path of this process in the hierarchy with `controller` ("" is version 2). */
static bool own_path(const char *controller, char *out, size_t size)
{
    char line[1024];
    bool found = false;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':');
        char *path = names != NULL ? strchr(names + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        if (strcmp(names + 1, controller) == 0) {
            snprintf(out, size, "%s", strcmp(path, "/") == 0 ? "" : path);
            found = true;
        }
    }
    if (file != NULL)
        fclose(file);
    return found;
}

/* mount_of: where the hierarchy is mounted; `option` is a word of its super options. */
static bool mount_of(const char *type, const char *option, char *out, size_t size)
{
    char line[2048];
    bool found = false;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        char target[CGROUP_PATH_MAX], kind[64], source[256], options[512];
        char *tail = strstr(line, " - ");
        if (tail == NULL || sscanf(line, "%*s %*s %*s %*s %511s", target) != 1 ||
            sscanf(tail + 3, "%63s %255s %511s", kind, source, options) != 3)
            continue;
        bool has = option == NULL;
        for (char *save = NULL, *word = strtok_r(options, ",", &save); word != NULL && !has;
             word = strtok_r(NULL, ",", &save))
            has = strcmp(word, option) == 0;
        if (strcmp(kind, type) == 0 && has) {
            snprintf(out, size, "%s", target);
            found = true;
        }
    }
    if (file != NULL)
        fclose(file);
    return found;
}

/* remove_folder: and the groups of environments in it. rmdir refuses groups with processes. */
static void remove_folder(const char *path)
{
    DIR *inner = opendir(path);
    for (struct dirent *group; inner != NULL && (group = readdir(inner)) != NULL;)
        if (group->d_type == DT_DIR && group->d_name[0] != '.')
            unlinkat(dirfd(inner), group->d_name, AT_REMOVEDIR);
    if (inner != NULL)
        closedir(inner);
    rmdir(path);
}

/* clean_up: remove the folders of workers that are dead. */
static void clean_up(const char *dir)
{
    DIR *folder = opendir(dir);
    if (folder == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        long pid = strncmp(entry->d_name, FOLDER_PREFIX, strlen(FOLDER_PREFIX)) == 0
                       ? strtol(entry->d_name + strlen(FOLDER_PREFIX), NULL, 10)
                       : 0;
        if (pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH)
            continue;
        char path[CGROUP_PATH_MAX + 300];
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        remove_folder(path);
    }
    closedir(folder);
}

/* make_folder: `millrace-PID` in our own group, or, when a cgroup namespace hides that path, at the
 * top of what we see. */
static bool make_folder(const char *mount, const char *own, char *out, size_t size)
{
    char base[CGROUP_PATH_MAX];
    struct stat st;
    int length = snprintf(base, sizeof base, "%s%s", mount, own);
    if (length < 0 || (size_t)length >= sizeof base || stat(base, &st) != 0)
        snprintf(base, sizeof base, "%s", mount);
    clean_up(base);
    length = snprintf(out, size, "%s/" FOLDER_PREFIX "%ld", base, (long)getpid());
    return length > 0 && (size_t)length + 32 < size && (mkdir(out, 0755) == 0 || errno == EEXIST);
}

static bool open_v1(struct cgroups *out)
{
    char mount[CGROUP_PATH_MAX], own[CGROUP_PATH_MAX];
    if (!mount_of("cgroup", "memory", mount, sizeof mount) ||
        !own_path("memory", own, sizeof own) ||
        !make_folder(mount, own, out->memory_dir, sizeof out->memory_dir))
        return false;
    if (!mount_of("cgroup", "pids", mount, sizeof mount) || !own_path("pids", own, sizeof own) ||
        !make_folder(mount, own, out->pids_dir, sizeof out->pids_dir))
        out->pids_dir[0] = '\0';
    out->kind = CGROUP_V1;
    return true;
}

/* move_self: out of our own group, so that it may give its controllers on. At the root of the tree
 * the rule does not hold, and nothing needs to move. The folder stays: nobody may go back. */
static bool move_self(const char *base)
{
    char leaf[CGROUP_PATH_MAX + 64], pid[32];
    snprintf(leaf, sizeof leaf, "%s/" FOLDER_PREFIX "%ld-worker", base, (long)getpid());
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    return (mkdir(leaf, 0755) == 0 || errno == EEXIST) &&
           write_file(leaf, "cgroup.procs", pid) == STATUS_OK;
}

static bool open_v2(struct cgroups *out)
{
    static const char give[] = "+memory +pids";
    char mount[CGROUP_PATH_MAX], own[CGROUP_PATH_MAX], base[CGROUP_PATH_MAX];
    if (!mount_of("cgroup2", NULL, mount, sizeof mount) || !own_path("", own, sizeof own) ||
        !make_folder(mount, own, out->memory_dir, sizeof out->memory_dir))
        return false;
    snprintf(base, sizeof base, "%s", out->memory_dir);
    *strrchr(base, '/') = '\0';
    enum status given = write_file(base, "cgroup.subtree_control", give);
    /* Not for want of a controller, as in a hybrid system: moving would be for nothing. */
    if (given == STATUS_BUSY && move_self(base))
        given = write_file(base, "cgroup.subtree_control", give);
    if (given != STATUS_OK ||
        write_file(out->memory_dir, "cgroup.subtree_control", give) != STATUS_OK) {
        rmdir(out->memory_dir);
        return false;
    }
    memcpy(out->pids_dir, out->memory_dir, sizeof out->pids_dir);
    out->kind = CGROUP_V2;
    return true;
}

void cgroups_open(struct cgroups *out)
{
    *out = (struct cgroups){0};
    if (open_v2(out))
        return;
    *out = (struct cgroups){0};
    if (!open_v1(out))
        *out = (struct cgroups){0};
}

void cgroups_close(struct cgroups *cgroups)
{
    if (cgroups->kind == CGROUP_NONE)
        return;
    remove_folder(cgroups->memory_dir);
    if (cgroups->kind == CGROUP_V1 && cgroups->pids_dir[0] != '\0')
        remove_folder(cgroups->pids_dir);
    cgroups->kind = CGROUP_NONE;
}

static enum status limit_v1(const struct cgroup *group, const char *memory, const char *processes)
{
    enum status status = write_file(group->memory_dir, "memory.limit_in_bytes", memory);
    if (status != STATUS_OK)
        return status;
    /* Absent when the kernel does not account swap; then there is none to forbid. */
    enum status swap = write_file(group->memory_dir, "memory.memsw.limit_in_bytes", memory);
    if (swap != STATUS_OK && swap != STATUS_NOT_FOUND)
        trace_debug("cgroup", "swap_not_limited", "error=\"%s\"", status_text(swap));
    return group->pids_dir[0] != '\0' ? write_file(group->pids_dir, "pids.max", processes)
                                      : STATUS_OK;
}

static enum status limit_v2(const struct cgroup *group, const char *memory, const char *processes)
{
    enum status status = write_file(group->memory_dir, "memory.max", memory);
    if (status == STATUS_OK)
        status = write_file(group->memory_dir, "pids.max", processes);
    if (status != STATUS_OK)
        return status;
    enum status soft = write_file(group->memory_dir, "memory.swap.max", "0");
    if (soft == STATUS_OK)
        soft = write_file(group->memory_dir, "memory.oom.group", "1");
    if (soft != STATUS_OK)
        trace_debug("cgroup", "swap_not_limited", "error=\"%s\"", status_text(soft));
    return STATUS_OK;
}

enum status cgroup_make(const struct cgroups *cgroups, uint32_t id, uint64_t memory_bytes,
                        uint32_t processes_max, struct cgroup *out)
{
    *out = (struct cgroup){.kind = cgroups->kind};
    if (cgroups->kind == CGROUP_NONE)
        return STATUS_OK;
    bool two = cgroups->kind == CGROUP_V1 && cgroups->pids_dir[0] != '\0';
    char memory[32], processes[32];
    snprintf(memory, sizeof memory, "%llu", (unsigned long long)memory_bytes);
    snprintf(processes, sizeof processes, "%u", processes_max);
    snprintf(out->memory_dir, sizeof out->memory_dir, "%.*s/env-%u", CGROUP_PATH_MAX - 32,
             cgroups->memory_dir, id);
    if (two)
        snprintf(out->pids_dir, sizeof out->pids_dir, "%.*s/env-%u", CGROUP_PATH_MAX - 32,
                 cgroups->pids_dir, id);
    enum status status = STATUS_OK;
    if (mkdir(out->memory_dir, 0755) != 0 || (two && mkdir(out->pids_dir, 0755) != 0))
        status = status_from_errno(errno);
    if (status == STATUS_OK)
        status = cgroups->kind == CGROUP_V1 ? limit_v1(out, memory, processes)
                                            : limit_v2(out, memory, processes);
    if (status != STATUS_OK) {
        rmdir(out->memory_dir);
        if (two)
            rmdir(out->pids_dir);
        out->kind = CGROUP_NONE;
    }
    return status;
}

uint64_t cgroup_memory_peak(const struct cgroup *cgroup)
{
    if (cgroup->kind == CGROUP_NONE)
        return 0;
    if (cgroup->kind == CGROUP_V1)
        return read_number(cgroup->memory_dir, "memory.max_usage_in_bytes");
    uint64_t peak = read_number(cgroup->memory_dir, "memory.peak");
    return peak != 0 ? peak : read_number(cgroup->memory_dir, "memory.current");
}

void cgroup_memory_reset(const struct cgroup *cgroup)
{
    enum status status = STATUS_OK;
    if (cgroup->kind == CGROUP_V1)
        status = write_file(cgroup->memory_dir, "memory.max_usage_in_bytes", "0");
    else if (cgroup->kind == CGROUP_V2)
        status = write_file(cgroup->memory_dir, "memory.peak", "0");
    /* Kernels before 6.12 cannot reset version 2's peak: it is then that of the whole life. */
    if (status != STATUS_OK)
        trace_debug("cgroup", "peak_not_reset", "error=\"%s\"", status_text(status));
}

enum status cgroup_remove(struct cgroup *cgroup)
{
    if (cgroup->kind == CGROUP_NONE)
        return STATUS_OK;
    if (rmdir(cgroup->memory_dir) != 0 && errno == EBUSY)
        return STATUS_BUSY;
    if (cgroup->pids_dir[0] != '\0' && rmdir(cgroup->pids_dir) != 0 && errno == EBUSY)
        return STATUS_BUSY;
    cgroup->kind = CGROUP_NONE;
    return STATUS_OK;
}
