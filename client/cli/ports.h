/* SPDX-License-Identifier: Apache-2.0 */
/* Free TCP ports, looked at before a program that needs them is started. thread: any. */
#ifndef CLIENT_CLI_PORTS_H
#define CLIENT_CLI_PORTS_H

#include "proto/base/status.h"

#include <stdint.h>

/* port_probe: whether `port` of `host` can be listened on now; 0 asks the kernel for any, and
 * `*found` says which. Nothing is kept: another process may take it a moment later.
 *   errors: EXISTS (taken), INVALID (no such host here), PERMISSION, IO_ERROR */
MUST_CHECK enum status port_probe(const char *host, uint16_t port, uint16_t *found);

#endif
