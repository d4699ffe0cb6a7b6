/* SPDX-License-Identifier: Apache-2.0 */
/* A broker of canned answers: listens on a free port of 127.0.0.1, keeps what it was asked, and
 * answers each request with the next row of a script. One thread; requests one at a time. Included
 * by the one file of each test program. */
#ifndef TESTS_UNIT_CLIENT_FAKE_BROKER_H
#define TESTS_UNIT_CLIENT_FAKE_BROKER_H

#include "proto/base/assert.h"
#include "proto/base/buffer.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAKE_REQUESTS_MAX 16

struct fake_answer {
    int status;
    const char *headers; /* "Name: value\r\n"...; may be NULL */
    const char *body;
    const char *raw; /* instead of all this: these bytes, then the connection is closed */
};

struct fake_broker {
    const struct fake_answer *script;
    size_t script_count;
    int fd;
    char endpoint[64];
    pthread_t thread;
    char *requests[FAKE_REQUESTS_MAX]; /* head and body as they came */
    size_t request_count;
};

/* One whole request; NULL when the client has closed. */
static char *fake_read_request(int fd)
{
    struct buffer b = {0};
    for (;;) {
        const char *text = buffer_c_string(&b);
        const char *end = strstr(text, "\r\n\r\n");
        const char *length = strcasestr(text, "\r\nContent-Length: ");
        size_t body = length != NULL ? strtoul(length + 18, NULL, 10) : 0;
        if (end != NULL && b.length >= (size_t)(end + 4 - text) + body)
            return (char *)b.data;
        ssize_t got = read(fd, buffer_reserve(&b, 65536), 65535);
        if (got <= 0)
            break;
        buffer_added(&b, (size_t)got);
    }
    buffer_free(&b);
    return NULL;
}

static void fake_write(int fd, const struct fake_answer *answer)
{
    struct buffer b = {0};
    if (answer->raw != NULL)
        buffer_add_text(&b, answer->raw);
    else
        buffer_printf(&b, "HTTP/1.1 %d Whatever\r\n%sContent-Length: %zu\r\n\r\n%s", answer->status,
                      answer->headers != NULL ? answer->headers : "", strlen(answer->body),
                      answer->body);
    ssize_t written = write(fd, b.data, b.length);
    ASSERT(written == (ssize_t)b.length);
    buffer_free(&b);
}

static void *fake_serve(void *opaque)
{
    struct fake_broker *broker = opaque;
    while (broker->request_count < broker->script_count) {
        int fd = accept(broker->fd, NULL, NULL);
        if (fd < 0)
            break;
        while (broker->request_count < broker->script_count) {
            char *request = fake_read_request(fd);
            if (request == NULL)
                break;
            const struct fake_answer *answer = &broker->script[broker->request_count];
            broker->requests[broker->request_count++] = request;
            fake_write(fd, answer);
            if (answer->raw != NULL)
                break;
        }
        close(fd);
    }
    return NULL;
}

static void fake_begin(struct fake_broker *broker, const struct fake_answer *script, size_t count)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    ASSERT(count <= FAKE_REQUESTS_MAX);
    *broker = (struct fake_broker){.script = script, .script_count = count};
    broker->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT(bind(broker->fd, (struct sockaddr *)&address, length) == 0);
    ASSERT(listen(broker->fd, 8) == 0);
    ASSERT(getsockname(broker->fd, (struct sockaddr *)&address, &length) == 0);
    snprintf(broker->endpoint, sizeof broker->endpoint, "http://127.0.0.1:%d",
             ntohs(address.sin_port));
    ASSERT(pthread_create(&broker->thread, NULL, fake_serve, broker) == 0);
}

/* Stop listening; the requests stay for the test to look at, until fake_free. */
static void fake_end(struct fake_broker *broker)
{
    shutdown(broker->fd, SHUT_RDWR);
    pthread_join(broker->thread, NULL);
    close(broker->fd);
}

static void fake_free(struct fake_broker *broker)
{
    for (size_t i = 0; i < broker->request_count; i++)
        free(broker->requests[i]);
}

#endif
