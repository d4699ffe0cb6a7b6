/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that does a log's writing: one task at a time, given by the loop and given back to it.
 *
 * Why not libuv's pool: each entry of a log waits for it. In the pool it would stand behind reads
 * and snapshots of other logs, take a lock that four threads fight for, and come back through
 * uv_async, whose loop spins while the thread that woke it is not on a processor. Here a task costs
 * one wake-up each way.
 *
 * thread: loop, but for `run`. */
#ifndef BROKER_LOG_WRITE_THREAD_H
#define BROKER_LOG_WRITE_THREAD_H

#include <uv.h>

struct write_thread;

/* The giver's memory until `done`, and the thread's while it runs. */
struct write_task {
    void (*run)(struct write_task *task);  /* thread: the log's own */
    void (*done)(struct write_task *task); /* may give the next task, or close the thread */
};

/* write_thread_open: never fails but for want of memory or descriptors, which ends the process. */
struct write_thread *write_thread_open(uv_loop_t *loop);
/* write_thread_give: not before the task before it is done. Keeps the loop alive until then. */
void write_thread_give(struct write_thread *thread, struct write_task *task);
/* write_thread_close: no task is under way. The thread has ended when this returns; its memory goes
 * with `closed`, called by the loop later. */
void write_thread_close(struct write_thread *thread, void (*closed)(void *data), void *data);

#endif
