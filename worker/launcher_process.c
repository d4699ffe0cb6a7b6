/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher's own process.
 *
 * Why a process: starting an environment means doing many things between fork and exec (mounts,
 * identity, limits), and after a fork of the worker, which has pool threads, only async-signal-safe
 * calls are legal. This process is forked before the first thread, stays single-threaded and small,
 * so its children may call anything; and it costs no exec, which a helper program would.
 *
 * Orders come as packets on a socket, LAUNCH with two descriptors: the order's bytes as a memory
 * file, and the pipe for output. The memory file is read by the child only.
 *
 * I1  When this process dies, all supervisors die (PR_SET_PDEATHSIG), and when the worker dies,
 * this process does. I2  SANDBOX_ENDED is sent only after the supervisor has been reaped: for a
 * process namespace the kernel lets that happen only after every other process in it is gone. */
#include "worker/launcher.h"

#include "proto/base/assert.h"

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct running {
    pid_t pid; /* of the supervisor; 0: a free place */
    uint32_t id;
    bool namespaces;
};

struct process {
    int socket_fd;
    const struct sock_fprog *filter;
    struct running running[ENVIRONMENTS_MAX];
};

static void report_ended(const struct process *p, uint32_t id)
{
    struct sandbox_report packet = {.kind = SANDBOX_ENDED, .id = id};
    if (send(p->socket_fd, &packet, sizeof packet, MSG_NOSIGNAL) < 0)
        _exit(0); /* the worker is gone */
}

static void report_spawned(const struct process *p, uint32_t id, pid_t pid)
{
    struct sandbox_report packet = {.kind = SANDBOX_SPAWNED, .id = id, .value = pid};
    (void)!send(p->socket_fd, &packet, sizeof packet, MSG_NOSIGNAL);
}

static void report_failed(const struct process *p, uint32_t id, uint32_t step, int error)
{
    struct sandbox_report packet = {.kind = SANDBOX_FAILED, .id = id, .value = error, .step = step};
    (void)!send(p->socket_fd, &packet, sizeof packet, MSG_NOSIGNAL);
}

/* run_child: in the new process. */
static _Noreturn void run_child(const struct process *p, uint32_t id, int order_fd, int output_fd)
{
    struct stat st;
    struct arena arena = {0};
    struct sandbox_spec spec;
    void *bytes = MAP_FAILED;
    if (fstat(order_fd, &st) == 0 && st.st_size > 0)
        bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, order_fd, 0);
    if (bytes == MAP_FAILED ||
        sandbox_spec_decode(slice_make(bytes, (size_t)st.st_size), &arena, &spec) != STATUS_OK) {
        report_failed(p, id, SANDBOX_STEP_SPEC, EINVAL);
        _exit(127);
    }
    sandbox_supervise(&spec, p->filter, id, output_fd, p->socket_fd);
}

static void launch(struct process *p, const struct launcher_order *order, int order_fd,
                   int output_fd)
{
    struct running *place = NULL;
    for (unsigned i = 0; i < ENVIRONMENTS_MAX && place == NULL; i++)
        if (p->running[i].pid == 0)
            place = &p->running[i];
    unsigned long flags = SIGCHLD;
    if (order->namespaces)
        flags |= CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
    long pid = place != NULL ? syscall(SYS_clone, flags, 0, 0, 0, 0) : -1;
    if (pid == 0)
        run_child(p, order->id, order_fd, output_fd);
    if (pid < 0) {
        report_failed(p, order->id, SANDBOX_STEP_FORK, place != NULL ? errno : EAGAIN);
        report_ended(p, order->id);
        return;
    }
    *place = (struct running){(pid_t)pid, order->id, order->namespaces != 0};
    report_spawned(p, order->id, (pid_t)pid);
}

static void end_one(const struct process *p, uint32_t id)
{
    for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++)
        if (p->running[i].pid != 0 && p->running[i].id == id)
            kill(p->running[i].pid, p->running[i].namespaces ? SIGKILL : SIGTERM);
}

static void reap(struct process *p)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        for (unsigned i = 0; i < ENVIRONMENTS_MAX; i++)
            if (p->running[i].pid == pid) {
                p->running[i].pid = 0;
                report_ended(p, p->running[i].id); /* I2 */
            }
}

static void take_order(struct process *p)
{
    struct launcher_order order;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec vector = {&order, sizeof order};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t length = recvmsg(p->socket_fd, &message, MSG_CMSG_CLOEXEC);
    if (length == 0 || (length < 0 && errno != EINTR && errno != EAGAIN))
        _exit(0); /* I1: the worker closed the socket or died */
    int fds[2] = {-1, -1};
    struct cmsghdr *header = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof fds))
        memcpy(fds, CMSG_DATA(header), sizeof fds);
    if (length == (ssize_t)sizeof order) {
        if (order.kind == LAUNCHER_LAUNCH && fds[1] >= 0)
            launch(p, &order, fds[0], fds[1]);
        else if (order.kind == LAUNCHER_KILL)
            end_one(p, order.id);
    }
    for (unsigned i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

_Noreturn void launcher_process_run(int socket_fd, pid_t parent, const struct sock_fprog *filter)
{
    struct process p = {.filter = filter};
    sigset_t mask;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    prctl(PR_SET_NAME, "millrace-launch");
    setsid(); /* Ctrl-C in the terminal is the worker's to handle: it drains first. */
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    /* Nothing that the worker's parent had open may leak into functions. */
    p.socket_fd = dup3(socket_fd, 3, O_CLOEXEC) == 3 || socket_fd == 3 ? 3 : socket_fd;
    if (p.socket_fd == 3)
        (void)!close_range(4, ~0u, 0);
    int signal_fd = signalfd(-1, &mask, SFD_CLOEXEC);
    ASSERT(signal_fd >= 0);
    for (;;) {
        struct pollfd fds[2] = {{.fd = p.socket_fd, .events = POLLIN},
                                {.fd = signal_fd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[1].revents != 0) {
            struct signalfd_siginfo info;
            (void)!read(signal_fd, &info, sizeof info);
            reap(&p);
        }
        if (fds[0].revents != 0)
            take_order(&p);
    }
}
