/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WORKER_SOCKET_OWNER_H
#define WORKER_SOCKET_OWNER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* socket_owner_is: does the other end of the connection from `peer` ("127.0.0.1:41234", as
 * http_request.peer has it) to our `port` on 127.0.0.1 belong to `uid`? False if it cannot be told.
 * thread: any; asks the kernel, does not wait */
bool socket_owner_is(const char *peer, uint16_t port, uid_t uid);

#endif
