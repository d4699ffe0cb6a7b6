/* SPDX-License-Identifier: Apache-2.0 */
/* Who holds the other end of a loopback connection: asked of the kernel's socket diagnosis (the
 * netlink family that ss(8) uses), which finds one socket by its addresses without walking all of
 * them as /proc/net/tcp would. */
#include "worker/socket_owner.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct question {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
};

static bool ask(int fd, const struct question *question, uid_t *owner)
{
    union {
        struct nlmsghdr header;
        char bytes[4096];
    } answer;
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    if (sendto(fd, question, sizeof *question, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0)
        return false;
    ssize_t length = recv(fd, &answer, sizeof answer, 0);
    if (length < (ssize_t)NLMSG_LENGTH(sizeof(struct inet_diag_msg)) ||
        answer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY)
        return false;
    const struct inet_diag_msg *message = NLMSG_DATA(&answer.header);
    *owner = message->idiag_uid;
    return true;
}

bool socket_owner_is(const char *peer, uint16_t port, uid_t uid)
{
    static const char loopback[] = "127.0.0.1:";
    uid_t owner = 0;
    if (strncmp(peer, loopback, strlen(loopback)) != 0)
        return false;
    unsigned long peer_port = strtoul(peer + strlen(loopback), NULL, 10);
    /* The peer's socket: from its side, its own port is the source. */
    struct question question = {
        .header = {.nlmsg_len = sizeof question,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST},
        .body = {.sdiag_family = AF_INET,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_states = ~0u,
                 .id = {.idiag_sport = htons((uint16_t)peer_port),
                        .idiag_dport = htons(port),
                        .idiag_src = {htonl(INADDR_LOOPBACK)},
                        .idiag_dst = {htonl(INADDR_LOOPBACK)},
                        .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}}};
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0)
        return false;
    bool known = ask(fd, &question, &owner);
    close(fd);
    return known && owner == uid;
}
