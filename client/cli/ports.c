/* SPDX-License-Identifier: Apache-2.0 */
/* A port is free if this process can bind it the way a server would: with SO_REUSEADDR, so that
 * connections of an earlier run that are still fading out do not count. */
#include "client/cli/ports.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static enum status bind_status(int error)
{
    if (error == EADDRINUSE)
        return STATUS_EXISTS;
    return error == EADDRNOTAVAIL ? STATUS_INVALID : status_from_errno(error);
}

static enum status probe_address(const struct addrinfo *address, uint16_t *found)
{
    int on = 1;
    struct sockaddr_storage bound = {0};
    socklen_t length = sizeof bound;
    enum status status = STATUS_OK;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return status_from_errno(errno);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, 1) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &length) != 0)
        status = bind_status(errno);
    else if (bound.ss_family == AF_INET6)
        *found = ntohs(((struct sockaddr_in6 *)&bound)->sin6_port);
    else
        *found = ntohs(((struct sockaddr_in *)&bound)->sin_port);
    close(fd);
    return status;
}

enum status port_probe(const char *host, uint16_t port, uint16_t *found)
{
    char service[8];
    struct addrinfo *address = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    snprintf(service, sizeof service, "%u", port);
    if (getaddrinfo(host, service, &hints, &address) != 0)
        return STATUS_INVALID;
    enum status status = probe_address(address, found);
    freeaddrinfo(address);
    return status;
}
