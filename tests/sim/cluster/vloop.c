/* SPDX-License-Identifier: Apache-2.0 */
/* As much of libuv as a shard uses, on simulated time: each node has one loop and a pool of four.
 *
 * A turn has the order of libuv's: what has arrived, check, closing, then (the next turn's) timers,
 * idle, prepare. A piece of work for the pool runs at one instant, a little after it was queued,
 * and is over when the time that its disk operations took has passed. */
#include "tests/sim/cluster/world.h"

#include "broker/log/write_thread.h"
#include "proto/base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define HANDLES_MAX 64
#define POOL_SIZE   4u
#define ACTIVE      4u /* of uv_handle_t.flags, as in libuv */
#define CLOSING     1u

struct item {
    void (*fn)(void *data);
    void *data;
};

struct work {
    struct work *next;
    uv_work_t *request;
    struct vloop *loop;
};

struct vloop {
    uv_loop_t uv;
    struct node *node;
    uint64_t now_ms;
    uv_handle_t *handles[HANDLES_MAX]; /* active ones, in the order in which they were started */
    size_t handle_count;
    uv_handle_t *closing[HANDLES_MAX];
    size_t closing_count;
    struct item *ready;
    size_t ready_count;
    size_t ready_capacity;
    struct work *waiting;
    struct work *waiting_last;
    unsigned running;
    uint64_t timers_started;
};

static struct vloop *loop_of(const uv_loop_t *uv)
{
    return CONTAINER_OF(uv, struct vloop, uv);
}

struct vloop *vloop_new(struct node *node)
{
    struct vloop *loop = calloc(1, sizeof *loop);
    ASSERT(loop != NULL);
    loop->node = node;
    return loop;
}

uv_loop_t *vloop_uv(struct vloop *loop)
{
    return &loop->uv;
}

/* ---- handles ---- */

static void init_handle(uv_loop_t *uv, void *memory, uv_handle_type type)
{
    uv_handle_t *handle = memory;
    handle->loop = uv;
    handle->type = type;
    handle->flags = 0;
}

static bool is_active(const uv_handle_t *handle)
{
    return (handle->flags & ACTIVE) != 0;
}

static void activate(uv_handle_t *handle)
{
    struct vloop *loop = loop_of(handle->loop);
    ASSERT((handle->flags & CLOSING) == 0);
    if (is_active(handle))
        return;
    ASSERT(loop->handle_count < HANDLES_MAX);
    loop->handles[loop->handle_count++] = handle;
    handle->flags |= ACTIVE;
}

static void deactivate(uv_handle_t *handle)
{
    struct vloop *loop = loop_of(handle->loop);
    if (!is_active(handle))
        return;
    size_t at = 0;
    while (loop->handles[at] != handle)
        at++;
    memmove(&loop->handles[at], &loop->handles[at + 1],
            (loop->handle_count - at - 1) * sizeof loop->handles[0]);
    loop->handle_count--;
    handle->flags &= ~ACTIVE;
}

int uv_is_active(const uv_handle_t *handle)
{
    return is_active(handle);
}

int uv_is_closing(const uv_handle_t *handle)
{
    return (handle->flags & CLOSING) != 0;
}

void uv_close(uv_handle_t *handle, uv_close_cb close_cb)
{
    struct vloop *loop = loop_of(handle->loop);
    ASSERT((handle->flags & CLOSING) == 0);
    deactivate(handle);
    handle->flags |= CLOSING;
    handle->close_cb = close_cb;
    ASSERT(loop->closing_count < HANDLES_MAX);
    loop->closing[loop->closing_count++] = handle;
}

void uv_ref(uv_handle_t *handle)
{
    (void)handle; /* the world decides when a loop ends */
}

void uv_unref(uv_handle_t *handle)
{
    (void)handle;
}

#define PHASE(type, cb_type, field, TYPE)                                                          \
    int uv_##type##_init(uv_loop_t *loop, uv_##type##_t *handle)                                   \
    {                                                                                              \
        init_handle(loop, handle, TYPE);                                                           \
        return 0;                                                                                  \
    }                                                                                              \
    int uv_##type##_start(uv_##type##_t *handle, cb_type cb)                                       \
    {                                                                                              \
        handle->field = cb;                                                                        \
        activate((uv_handle_t *)handle);                                                           \
        return 0;                                                                                  \
    }                                                                                              \
    int uv_##type##_stop(uv_##type##_t *handle)                                                    \
    {                                                                                              \
        deactivate((uv_handle_t *)handle);                                                         \
        return 0;                                                                                  \
    }
PHASE(prepare, uv_prepare_cb, prepare_cb, UV_PREPARE)
PHASE(check, uv_check_cb, check_cb, UV_CHECK)
PHASE(idle, uv_idle_cb, idle_cb, UV_IDLE)

/* ---- time ---- */

uint64_t uv_now(const uv_loop_t *uv)
{
    return loop_of(uv)->now_ms;
}

void uv_update_time(uv_loop_t *uv)
{
    loop_of(uv)->now_ms = node_monotonic_ns(loop_of(uv)->node) / MS;
}

uint64_t uv_hrtime(void)
{
    ASSERT(current != NULL);
    return node_monotonic_ns(current);
}

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
    init_handle(loop, timer, UV_TIMER);
    timer->repeat = 0;
    return 0;
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
    struct vloop *loop = loop_of(timer->loop);
    if (uv_is_closing((uv_handle_t *)timer) || cb == NULL)
        return UV_EINVAL;
    deactivate((uv_handle_t *)timer);
    timer->timer_cb = cb;
    timer->timeout = loop->now_ms + timeout;
    timer->repeat = repeat;
    timer->start_id = loop->timers_started++;
    activate((uv_handle_t *)timer);
    return 0;
}

int uv_timer_stop(uv_timer_t *timer)
{
    deactivate((uv_handle_t *)timer);
    return 0;
}

uint64_t uv_timer_get_due_in(const uv_timer_t *timer)
{
    uint64_t now_ms = loop_of(timer->loop)->now_ms;
    return timer->timeout > now_ms ? timer->timeout - now_ms : 0;
}

static uv_timer_t *first_timer(const struct vloop *loop)
{
    uv_timer_t *first = NULL;
    for (size_t i = 0; i < loop->handle_count; i++) {
        uv_timer_t *timer = (uv_timer_t *)loop->handles[i];
        if (loop->handles[i]->type == UV_TIMER &&
            (first == NULL || timer->timeout < first->timeout ||
             (timer->timeout == first->timeout && timer->start_id < first->start_id)))
            first = timer;
    }
    return first;
}

static void run_timers(struct vloop *loop)
{
    for (uv_timer_t *timer; (timer = first_timer(loop)) != NULL;) {
        if (timer->timeout > loop->now_ms)
            break;
        deactivate((uv_handle_t *)timer);
        if (timer->repeat > 0)
            uv_timer_start(timer, timer->timer_cb, timer->repeat, timer->repeat);
        timer->timer_cb(timer);
    }
}

/* ---- the pool ---- */

static void start_work(struct vloop *loop);

static void work_over(void *data)
{
    struct work *work = data;
    struct vloop *loop = work->loop;
    uv_work_t *request = work->request;
    free(work);
    loop->running--;
    start_work(loop);
    request->after_work_cb(request, 0);
}

static void in_pool(void *data)
{
    struct work *work = data;
    work->request->work_cb(work->request);
}

static void run_work(void *data)
{
    struct work *work = data;
    struct node *node = work->loop->node;
    uint64_t spent_ns;
    if (node_enter(node, in_pool, work, &spent_ns))
        node_at(node, world.now_ns + spent_ns, work_over, work);
}

/* pool_delay_ns: until a thread is on a processor. */
static uint64_t pool_delay_ns(struct vloop *loop)
{
    struct chance *chance = &loop->node->chance;
    uint64_t delay_ns = chance_between(chance, 1, 50) * US;
    return chance_in(chance, 100) ? delay_ns * 100 : delay_ns;
}

static void start_work(struct vloop *loop)
{
    while (loop->running < POOL_SIZE && loop->waiting != NULL) {
        struct work *work = loop->waiting;
        loop->waiting = work->next;
        loop->running++;
        node_pool_at(loop->node, sim_now_ns() + pool_delay_ns(loop), run_work, work);
    }
}

int uv_queue_work(uv_loop_t *uv, uv_work_t *request, uv_work_cb work_cb, uv_after_work_cb after_cb)
{
    struct vloop *loop = loop_of(uv);
    struct work *work = calloc(1, sizeof *work);
    ASSERT(work != NULL);
    ASSERT(work_cb != NULL);
    request->loop = uv;
    request->work_cb = work_cb;
    request->after_work_cb = after_cb;
    work->request = request;
    work->loop = loop;
    if (loop->waiting == NULL)
        loop->waiting = work;
    else
        loop->waiting_last->next = work;
    loop->waiting_last = work;
    start_work(loop);
    return 0;
}

/* ---- the thread of a log: as the pool, but nothing else is in its way ---- */

struct write_thread {
    struct vloop *loop;
    struct write_task *task; /* NULL: none is under way */
    uv_prepare_t handle;     /* never started: for the callback of uv_close */
    void (*closed)(void *data);
    void *closed_data;
};

struct write_thread *write_thread_open(uv_loop_t *uv)
{
    struct write_thread *thread = calloc(1, sizeof *thread);
    ASSERT(thread != NULL);
    thread->loop = loop_of(uv);
    uv_prepare_init(uv, &thread->handle);
    return thread;
}

static void task_over(void *data)
{
    struct write_thread *thread = data;
    struct write_task *task = thread->task;
    thread->task = NULL;
    task->done(task);
}

static void in_thread(void *data)
{
    struct write_thread *thread = data;
    thread->task->run(thread->task);
}

static void run_task(void *data)
{
    struct write_thread *thread = data;
    struct node *node = thread->loop->node;
    uint64_t spent_ns;
    if (node_enter(node, in_thread, thread, &spent_ns))
        node_at(node, world.now_ns + spent_ns, task_over, thread);
}

void write_thread_give(struct write_thread *thread, struct write_task *task)
{
    ASSERT(thread->task == NULL);
    thread->task = task;
    node_pool_at(thread->loop->node, sim_now_ns() + pool_delay_ns(thread->loop), run_task, thread);
}

static void thread_closed(uv_handle_t *handle)
{
    struct write_thread *thread = CONTAINER_OF((uv_prepare_t *)handle, struct write_thread, handle);
    void (*closed)(void *data) = thread->closed;
    void *data = thread->closed_data;
    free(thread);
    closed(data);
}

void write_thread_close(struct write_thread *thread, void (*closed)(void *data), void *data)
{
    ASSERT(thread->task == NULL);
    thread->closed = closed;
    thread->closed_data = data;
    uv_close((uv_handle_t *)&thread->handle, thread_closed);
}

static void file_closed(void *data)
{
    uv_fs_t *request = data;
    request->cb(request);
}

int uv_fs_close(uv_loop_t *uv, uv_fs_t *request, uv_file file, uv_fs_cb cb)
{
    struct node *node = loop_of(uv)->node;
    request->loop = uv;
    request->cb = cb;
    request->result = close(file);
    node_at(node, sim_now_ns() + chance_between(&node->chance, 1, 100) * US, file_closed, request);
    return 0;
}

void uv_fs_req_cleanup(uv_fs_t *request)
{
    (void)request;
}

/* A node may not fork here, so it has no child to listen to. */
int uv_poll_init(uv_loop_t *uv, uv_poll_t *poll, int fd)
{
    (void)uv;
    (void)poll;
    (void)fd;
    return UV_ENOSYS;
}

int uv_poll_start(uv_poll_t *poll, int events, uv_poll_cb cb)
{
    (void)poll;
    (void)events;
    (void)cb;
    return UV_ENOSYS;
}

/* ---- turns ---- */

void vloop_ready(struct vloop *loop, void (*fn)(void *data), void *data)
{
    if (loop->ready_count == loop->ready_capacity) {
        loop->ready_capacity = loop->ready_capacity * 2 + 16;
        loop->ready = realloc(loop->ready, loop->ready_capacity * sizeof *loop->ready);
        ASSERT(loop->ready != NULL);
    }
    loop->ready[loop->ready_count++] = (struct item){fn, data};
}

static void run_ready(struct vloop *loop)
{
    struct item *ready = loop->ready;
    size_t count = loop->ready_count;
    loop->ready = NULL;
    loop->ready_count = loop->ready_capacity = 0;
    for (size_t i = 0; i < count; i++)
        ready[i].fn(ready[i].data);
    free(ready);
}

static void run_phase(struct vloop *loop, uv_handle_type type)
{
    uv_handle_t *handles[HANDLES_MAX];
    size_t count = loop->handle_count;
    memcpy(handles, loop->handles, count * sizeof handles[0]);
    for (size_t i = 0; i < count; i++) {
        uv_handle_t *handle = handles[i];
        if (handle->type != type || !is_active(handle))
            continue;
        if (type == UV_CHECK)
            ((uv_check_t *)handle)->check_cb((uv_check_t *)handle);
        else if (type == UV_PREPARE)
            ((uv_prepare_t *)handle)->prepare_cb((uv_prepare_t *)handle);
        else
            ((uv_idle_t *)handle)->idle_cb((uv_idle_t *)handle);
    }
}

static void run_closing(struct vloop *loop)
{
    uv_handle_t *closing[HANDLES_MAX];
    size_t count = loop->closing_count;
    memcpy(closing, loop->closing, count * sizeof closing[0]);
    loop->closing_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (closing[i]->close_cb != NULL)
            closing[i]->close_cb(closing[i]);
    }
}

void vloop_turn(struct vloop *loop)
{
    uv_update_time(&loop->uv);
    run_ready(loop);
    run_phase(loop, UV_CHECK);
    run_closing(loop);
    uv_update_time(&loop->uv);
    run_timers(loop);
    run_phase(loop, UV_IDLE);
    run_phase(loop, UV_PREPARE);
}

static bool has_idle(const struct vloop *loop)
{
    for (size_t i = 0; i < loop->handle_count; i++) {
        if (loop->handles[i]->type == UV_IDLE)
            return true;
    }
    return false;
}

uint64_t vloop_next_ns(const struct vloop *loop)
{
    if (loop->ready_count > 0 || loop->closing_count > 0 || has_idle(loop))
        return 0;
    const uv_timer_t *timer = first_timer(loop);
    return timer != NULL ? node_world_ns(loop->node, timer->timeout * MS) : UINT64_MAX;
}
