/* SPDX-License-Identifier: Apache-2.0 */
#include "client/bench/port.h"

#include <poll.h>

#define US_PER_S  1000000u
#define NS_PER_US 1000
#define CALL_MS   1000u

void port_wait(struct port *port, uint64_t timeout_us)
{
    if (port->ops->run(port, 0) > 0 || timeout_us == 0)
        return;
    struct pollfd fd = {.fd = port->ops->fd(port), .events = POLLIN};
    struct timespec timeout = {.tv_sec = (time_t)(timeout_us / US_PER_S),
                               .tv_nsec = (long)(timeout_us % US_PER_S) * NS_PER_US};
    if (ppoll(&fd, 1, &timeout, NULL) > 0)
        port->ops->run(port, 0);
}

struct waiting {
    bool ended;
};

static void ended(struct port_call *call)
{
    struct waiting *waiting = call->data;
    waiting->ended = true;
}

void port_call_now(struct port *port, struct port_call *call)
{
    struct waiting waiting = {0};
    call->done = ended;
    call->data = &waiting;
    port->ops->call(port, call);
    while (!waiting.ended)
        port->ops->run(port, CALL_MS);
}
