/* SPDX-License-Identifier: Apache-2.0 */
/* The loop wakes the thread by a semaphore, the thread wakes the loop by an eventfd.
 *
 * I1  A task is the loop's until write_thread_give, the thread's until it is in `finished`, and the
 *     loop's again then: so there is one owner at any time, and no lock.
 * I2  `finished` is set before the eventfd is written to, and read after it was read: no task is
 *     missed. */
#include "broker/log/write_thread.h"

#include "proto/base/assert.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_BYTES (512u << 10)

struct write_thread {
    uv_thread_t id;
    sem_t given;
    struct write_task *task; /* NULL: the thread is to end */
    _Atomic(struct write_task *) finished;
    int event_fd;
    uv_poll_t poll;
    bool busy;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- in the thread ---- */

static void run(void *data)
{
    struct write_thread *thread = data;
    (void)pthread_setname_np(pthread_self(), "log");
    for (;;) {
        while (sem_wait(&thread->given) != 0)
            ASSERT(errno == EINTR);
        struct write_task *task = thread->task;
        if (task == NULL)
            return;
        task->run(task);
        atomic_store(&thread->finished, task);
        uint64_t one = 1;
        ssize_t written;
        do
            written = write(thread->event_fd, &one, sizeof one);
        while (written < 0 && errno == EINTR);
        ASSERT(written == sizeof one);
    }
}

/* ---- on the loop ---- */

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct write_thread *thread = CONTAINER_OF(poll, struct write_thread, poll);
    uint64_t count;
    (void)events;
    ASSERT(status == 0);
    if (read(thread->event_fd, &count, sizeof count) < 0)
        return; /* there is nothing in it yet */
    struct write_task *task = atomic_exchange(&thread->finished, NULL);
    ASSERT(task != NULL); /* I2 */
    thread->busy = false;
    uv_unref((uv_handle_t *)poll);
    task->done(task);
}

struct write_thread *write_thread_open(uv_loop_t *loop)
{
    struct write_thread *thread = calloc(1, sizeof *thread);
    uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_BYTES};
    ASSERT(thread != NULL);
    thread->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT(thread->event_fd >= 0);
    int error = sem_init(&thread->given, 0, 0);
    ASSERT(error == 0);
    error = uv_poll_init(loop, &thread->poll, thread->event_fd);
    ASSERT(error == 0);
    error = uv_poll_start(&thread->poll, UV_READABLE, on_event);
    ASSERT(error == 0);
    uv_unref((uv_handle_t *)&thread->poll);
    error = uv_thread_create_ex(&thread->id, &options, run, thread);
    ASSERT(error == 0);
    return thread;
}

static void wake(struct write_thread *thread, struct write_task *task)
{
    ASSERT(!thread->busy); /* I1 */
    thread->task = task;
    int error = sem_post(&thread->given);
    ASSERT(error == 0);
}

void write_thread_give(struct write_thread *thread, struct write_task *task)
{
    wake(thread, task);
    thread->busy = true;
    uv_ref((uv_handle_t *)&thread->poll);
}

static void on_closed(uv_handle_t *handle)
{
    struct write_thread *thread = CONTAINER_OF((uv_poll_t *)handle, struct write_thread, poll);
    void (*closed)(void *data) = thread->closed;
    void *data = thread->closed_data;
    close(thread->event_fd);
    sem_destroy(&thread->given);
    free(thread);
    closed(data);
}

void write_thread_close(struct write_thread *thread, void (*closed)(void *data), void *data)
{
    thread->closed = closed;
    thread->closed_data = data;
    wake(thread, NULL);
    int error = uv_thread_join(&thread->id);
    ASSERT(error == 0);
    uv_close((uv_handle_t *)&thread->poll, on_closed);
}
