/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side of the launcher: orders out, reports in, over one SOCK_SEQPACKET pair. Packets
 * are small and whole; the socket never blocks. A launcher that does not take orders makes launches
 * fail with BUSY, which the broker sees as "run it elsewhere", instead of stopping the loop. */
#include "worker/launcher.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct launcher {
    pid_t pid;
    int socket_fd;
    uv_poll_t poll;
    launcher_report_cb on_report;
    void (*on_lost)(void *data);
    void (*detached)(void *data);
    void *data;
    void *detached_data;
};

enum status launcher_start(struct launcher **out, const struct isolation *isolation)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return status_from_errno(errno);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        launcher_process_run(pair[1], parent, &isolation->filter);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return status_from_errno(errno);
    }
    (void)!fcntl(pair[0], F_SETFL,
                 O_NONBLOCK); /* ours only: the other end is another description */
    struct launcher *launcher = calloc(1, sizeof *launcher);
    ASSERT(launcher != NULL);
    launcher->pid = pid;
    launcher->socket_fd = pair[0];
    *out = launcher;
    return STATUS_OK;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct launcher *launcher = poll->data;
    (void)status;
    (void)events;
    /* The callback may detach, so that is looked at before each read. */
    while (uv_is_active((uv_handle_t *)poll)) {
        struct sandbox_report packet;
        ssize_t length = recv(launcher->socket_fd, &packet, sizeof packet, MSG_DONTWAIT);
        if (length == (ssize_t)sizeof packet) {
            launcher->on_report(launcher->data, &packet);
        } else if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR)) {
            uv_poll_stop(poll);
            launcher->on_lost(launcher->data);
        } else if (length < 0 && errno == EAGAIN) {
            return;
        }
    }
}

enum status launcher_attach(struct launcher *launcher, uv_loop_t *loop,
                            launcher_report_cb on_report, void (*on_lost)(void *data), void *data)
{
    int error = uv_poll_init(loop, &launcher->poll, launcher->socket_fd);
    if (error != 0)
        return status_from_errno(error);
    launcher->poll.data = launcher;
    launcher->on_report = on_report;
    launcher->on_lost = on_lost;
    launcher->data = data;
    error = uv_poll_start(&launcher->poll, UV_READABLE, on_readable);
    ASSERT(error == 0);
    return STATUS_OK;
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct launcher *launcher = handle->data;
    launcher->detached(launcher->detached_data);
}

void launcher_detach(struct launcher *launcher, void (*detached)(void *data), void *data)
{
    launcher->detached = detached;
    launcher->detached_data = data;
    uv_poll_stop(&launcher->poll);
    uv_close((uv_handle_t *)&launcher->poll, on_poll_closed);
}

static enum status send_order(struct launcher *launcher, const struct launcher_order *order,
                              const int *fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec vector = {(void *)order, sizeof *order};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (fds != NULL) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(2 * sizeof(int));
        memcpy(CMSG_DATA(header), fds, 2 * sizeof(int));
    }
    if (sendmsg(launcher->socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
        return STATUS_OK;
    return errno == EAGAIN || errno == ENOBUFS ? STATUS_BUSY : status_from_errno(errno);
}

static enum status write_all(int fd, struct slice bytes)
{
    while (bytes.length > 0) {
        ssize_t length = write(fd, bytes.data, bytes.length);
        if (length <= 0)
            return status_from_errno(errno);
        bytes = slice_sub(bytes, (size_t)length);
    }
    return STATUS_OK;
}

enum status launcher_launch(struct launcher *launcher, uint32_t id, const struct sandbox_spec *spec,
                            int output_fd)
{
    int memory_fd = memfd_create("order", MFD_CLOEXEC);
    if (memory_fd < 0)
        return status_from_errno(errno);
    struct buffer bytes = {0};
    sandbox_spec_encode(&bytes, spec);
    enum status status = write_all(memory_fd, buffer_slice(&bytes));
    buffer_free(&bytes);
    if (status == STATUS_OK) {
        struct launcher_order order = {LAUNCHER_LAUNCH, id, spec->namespaces};
        int fds[2] = {memory_fd, output_fd};
        status = send_order(launcher, &order, fds);
    }
    close(memory_fd);
    return status;
}

enum status launcher_kill(struct launcher *launcher, uint32_t id)
{
    struct launcher_order order = {.kind = LAUNCHER_KILL, .id = id};
    return send_order(launcher, &order, NULL);
}

void launcher_stop(struct launcher *launcher)
{
    /* It ends at the end of the socket, and its children get their death signal. */
    close(launcher->socket_fd);
    while (waitpid(launcher->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    free(launcher);
}
