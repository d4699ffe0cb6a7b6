/* SPDX-License-Identifier: Apache-2.0 */
/* The file tree that a function sees, built from nothing on a small read-only tmpfs:
 *
 *   /usr /bin /lib ...  the host's programs and libraries, read-only, no set-id
 *   /etc                only what resolvers, TLS and interpreters read (the table below), and a
 *                       passwd and group of its own
 *   /dev                null zero full random urandom, fd, shm
 *   /proc               of the environment's own process namespace
 *   /var/task           the package, read-only;  /var/runtime our bootstraps, read-only
 *   /tmp                private, in memory, tmp_mb large: it counts as the function's memory
 *
 * Nothing else of the host is there: no /var/lib, /home, /root, /run, /sys. Every bind is remounted
 * read-only, nosuid and nodev by itself, because a recursive bind would keep the submounts' flags.
 */
#include "worker/sandbox_root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define READ_ONLY (MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID)

/* Relative to the new root, and absolute with a '/' before it on the host. */
static const char *const top_folders[] = {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"};
static const char *const etc_entries[] = {
    "alternatives", "ca-certificates", "gai.conf",   "host.conf",  "hosts",
    "ld.so.cache",  "localtime",       "mime.types", "networks",   "nsswitch.conf",
    "protocols",    "python3",         "python3.11", "python3.12", "python3.13",
    "resolv.conf",  "services",        "ssl",        "timezone",
};
static const char *const devices[] = {"null", "zero", "full", "random", "urandom"};
static const char *const folders[] = {"dev", "dev/shm", "etc",      "opt",        "proc",
                                      "tmp", "var",     "var/task", "var/runtime"};
static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},
                                       {"/proc/self/fd/0", "dev/stdin"},
                                       {"/proc/self/fd/1", "dev/stdout"},
                                       {"/proc/self/fd/2", "dev/stderr"},
                                       {"/tmp", "var/tmp"}};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int bind_read_only(const char *from, const char *to, unsigned long extra)
{
    if (mount(from, to, NULL, MS_BIND, NULL) != 0 ||
        mount(NULL, to, NULL, READ_ONLY | extra, NULL) != 0)
        return errno;
    return 0;
}

static int make_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno;
    size_t length = strlen(text);
    int error = write(fd, text, length) == (ssize_t)length ? 0 : EIO;
    close(fd);
    return error;
}

/* copy_entry: the host's `host` as `to`, followed if it is a link and `keep_link` is not set. What
 * the host lacks is left out. */
static int copy_entry(const char *host, const char *to, bool keep_link)
{
    struct stat st;
    char target[256];
    if (keep_link && lstat(host, &st) == 0 && S_ISLNK(st.st_mode)) {
        ssize_t length = readlink(host, target, sizeof target - 1);
        if (length < 0)
            return errno;
        target[length] = '\0';
        return symlink(target, to) == 0 ? 0 : errno;
    }
    if (stat(host, &st) != 0)
        return 0;
    if (S_ISDIR(st.st_mode) ? mkdir(to, 0755) != 0 : make_file(to, "") != 0)
        return errno != 0 ? errno : EIO;
    return bind_read_only(host, to, MS_NODEV);
}

static int copy_table(const char *folder, const char *const *names, size_t count, bool keep_link)
{
    for (size_t i = 0; i < count; i++) {
        char host[64];
        snprintf(host, sizeof host, "/%s%s", folder, names[i]);
        int error = copy_entry(host, host + 1, keep_link);
        if (error != 0)
            return error;
    }
    return 0;
}

static int make_accounts(uint32_t uid)
{
    char passwd[256], group[128];
    snprintf(passwd, sizeof passwd,
             "root:x:0:0:root:/root:/usr/sbin/nologin\nsbx_user:x:%u:%u::/tmp:/bin/sh\n", uid, uid);
    snprintf(group, sizeof group, "root:x:0:\nsbx_user:x:%u:\n", uid);
    int error = make_file("etc/passwd", passwd);
    return error != 0 ? error : make_file("etc/group", group);
}

static int make_skeleton(uint32_t uid)
{
    for (size_t i = 0; i < COUNT(folders); i++)
        if (mkdir(folders[i], 0755) != 0)
            return errno;
    for (size_t i = 0; i < COUNT(links); i++)
        if (symlink(links[i][0], links[i][1]) != 0)
            return errno;
    for (size_t i = 0; i < COUNT(devices); i++) {
        char host[32];
        snprintf(host, sizeof host, "/dev/%s", devices[i]);
        if (make_file(host + 1, "") != 0 || mount(host, host + 1, NULL, MS_BIND, NULL) != 0)
            return errno != 0 ? errno : EIO;
    }
    return make_accounts(uid);
}

static int mount_own(const struct sandbox_spec *spec)
{
    char options[96];
    snprintf(options, sizeof options, "size=%um,mode=0700,uid=%u,gid=%u,nr_inodes=65536",
             spec->tmp_mb, spec->uid, spec->uid);
    unsigned long safe = MS_NOSUID | MS_NODEV;
    if (mount("tmpfs", "tmp", "tmpfs", safe, options) != 0 ||
        mount("tmpfs", "dev/shm", "tmpfs", safe | MS_NOEXEC, "size=64m,mode=1777,nr_inodes=4096") !=
            0 ||
        mount("proc", "proc", "proc", safe | MS_NOEXEC, NULL) != 0)
        return errno;
    int error = bind_read_only(spec->task_dir, "var/task", MS_NODEV);
    return error != 0 ? error : bind_read_only(spec->runtime_dir, "var/runtime", MS_NODEV);
}

/* switch_root: pivot_root onto itself needs no folder for the old root. Where the container runtime
 * forbids it, moving the mount and chroot come to the same for a process without capabilities. */
static int switch_root(void)
{
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        if (umount2(".", MNT_DETACH) != 0)
            return errno;
    } else if (mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0) {
        return errno;
    }
    return chdir("/") == 0 ? 0 : errno;
}

int sandbox_root_enter(const struct sandbox_spec *spec)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", spec->root_dir, "tmpfs", MS_NOSUID | MS_NODEV,
              "size=1m,mode=0755,nr_inodes=256") != 0 ||
        chdir(spec->root_dir) != 0)
        return errno;
    umask(0);
    int error = make_skeleton(spec->uid);
    if (error == 0)
        error = copy_table("", top_folders, COUNT(top_folders), true);
    if (error == 0)
        error = copy_table("etc/", etc_entries, COUNT(etc_entries), false);
    if (error == 0)
        error = mount_own(spec);
    if (error == 0 &&
        mount(NULL, ".", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) != 0)
        error = errno;
    return error != 0 ? error : switch_root();
}
