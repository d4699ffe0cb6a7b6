/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher: a small process, forked from the worker before it has threads, that starts and ends
 * execution environments for it. */
#ifndef WORKER_LAUNCHER_H
#define WORKER_LAUNCHER_H

#include "worker/isolation.h"
#include "worker/sandbox.h"

#include <uv.h>

struct launcher;

/* launcher_start: fork the launcher process. Call before any thread exists and before files with
 * secrets are opened. `isolation` is borrowed and must not change.
 *   errors: IO_ERROR and others of socketpair and fork */
MUST_CHECK enum status launcher_start(struct launcher **out, const struct isolation *isolation);

/* launcher_attach: deliver reports on `loop`. `on_lost`: the launcher process is gone, and every
 * environment with it. launcher_detach stops that (`detached` follows); may be attached again. */
typedef void (*launcher_report_cb)(void *data, const struct sandbox_report *report);
MUST_CHECK enum status launcher_attach(struct launcher *launcher, uv_loop_t *loop,
                                       launcher_report_cb on_report, void (*on_lost)(void *data),
                                       void *data);
void launcher_detach(struct launcher *launcher, void (*detached)(void *data), void *data);

/* launcher_launch: start an environment as `spec` says, with output_fd (stays the caller's) as its
 * stdout and stderr. Reports with `id` follow: at last SANDBOX_ENDED, always, if this returned OK.
 *   errors: BUSY (the launcher does not keep up), IO_ERROR. thread: loop */
MUST_CHECK enum status launcher_launch(struct launcher *launcher, uint32_t id,
                                       const struct sandbox_spec *spec, int output_fd);

/* launcher_kill: end every process of environment `id`; SANDBOX_ENDED follows. Unknown ids are
 * ignored: it may have ended meanwhile. BUSY: try again. */
MUST_CHECK enum status launcher_kill(struct launcher *launcher, uint32_t id);

/* launcher_stop: end the launcher process and with it every environment; waits for it. Frees. */
void launcher_stop(struct launcher *launcher);

/* ---- between launcher.c and launcher_process.c ---- */

enum launcher_order_kind { LAUNCHER_LAUNCH, LAUNCHER_KILL };
struct launcher_order {
    uint32_t kind;
    uint32_t id;
    uint32_t namespaces;
};

/* launcher_process_run: the launcher's whole life; the parent's process id guards against a parent
 * that died before the death signal was set. */
_Noreturn void launcher_process_run(int socket_fd, pid_t parent, const struct sock_fprog *filter);

#endif
