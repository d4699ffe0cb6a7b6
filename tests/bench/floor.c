/* SPDX-License-Identifier: Apache-2.0 */
/* What no acknowledged message can be faster than on this machine: a write that reaches the disk,
 * and a round trip over loopback. Prints one JSON object, microseconds, medians:
 *
 *     bench_floor --dir DIR [--rounds 1000] [--bytes 1229]
 *
 *     sync_us         pwrite and fdatasync of so many bytes, one behind the other, into a file of
 *                     zeros that has its blocks
 *     dsync_us        the same with one call, pwritev2 and RWF_DSYNC
 *     sync_three_us   of the first of these while two other threads do the same to files of their
 *                     own, all at once, as three brokers on one disk do
 *     round_trip_us   a kilobyte there and 64 bytes back, between two threads, over TCP
 *
 * Nothing of the project is linked: a bound should not share what it bounds. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES   (16u << 20)
#define THERE_BYTES  1024u
#define BACK_BYTES   64u
#define BYTES_MAX    65536u
#define WRITERS      3u
#define FIRST_ROUNDS 16u /* not counted */

struct writer {
    pthread_barrier_t *together; /* NULL: alone */
    int fd;
    size_t bytes;
    size_t rounds;
    int flags; /* of pwritev2; 0: fdatasync follows */
    double *us;
};

static void must(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *us, size_t count)
{
    qsort(us, count, sizeof *us, by_size);
    return us[count / 2];
}

/* ---- the disk ---- */

/* file_of_zeros: without a name when it is open. */
static int file_of_zeros(const char *dir, unsigned number)
{
    static uint8_t zeros[1u << 20];
    char name[4096];
    snprintf(name, sizeof name, "%s/floor-%d-%u", dir, (int)getpid(), number);
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(fd >= 0, name);
    unlink(name);
    for (size_t at = 0; at < FILE_BYTES; at += sizeof zeros)
        must(pwrite(fd, zeros, sizeof zeros, (off_t)at) == (ssize_t)sizeof zeros, "pwrite");
    must(fsync(fd) == 0, "fsync");
    return fd;
}

static void *write_rounds(void *data)
{
    struct writer *w = data;
    uint8_t bytes[BYTES_MAX];
    memset(bytes, 'x', sizeof bytes);
    for (size_t i = 0; i < w->rounds; i++) {
        struct iovec part = {bytes, w->bytes};
        off_t at = (off_t)(i * w->bytes % (FILE_BYTES - w->bytes));
        if (w->together != NULL)
            pthread_barrier_wait(w->together);
        double begun_us = now_us();
        must(pwritev2(w->fd, &part, 1, at, w->flags) == (ssize_t)w->bytes, "pwritev2");
        must(w->flags != 0 || fdatasync(w->fd) == 0, "fdatasync");
        w->us[i] = now_us() - begun_us;
    }
    return NULL;
}

static double writes_us(const struct writer *like, const int *fds, unsigned count)
{
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    pthread_barrier_t together;
    pthread_barrier_init(&together, NULL, count);
    for (unsigned i = 0; i < count; i++) {
        writers[i] = *like;
        writers[i].fd = fds[i];
        writers[i].together = count > 1 ? &together : NULL;
        writers[i].us = calloc(like->rounds, sizeof(double));
        must(writers[i].us != NULL, "calloc");
        must(pthread_create(&threads[i], NULL, write_rounds, &writers[i]) == 0, "pthread_create");
    }
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    double result = median(writers[0].us + FIRST_ROUNDS, like->rounds - FIRST_ROUNDS);
    for (unsigned i = 0; i < count; i++)
        free(writers[i].us);
    pthread_barrier_destroy(&together);
    return result;
}

/* ---- the network ---- */

static int read_all(int fd, uint8_t *out, size_t length)
{
    while (length > 0) {
        ssize_t got = read(fd, out, length);
        if (got <= 0)
            return 0;
        out += got;
        length -= (size_t)got;
    }
    return 1;
}

static void *echo(void *data)
{
    int fd = *(const int *)data;
    uint8_t bytes[THERE_BYTES] = {0};
    while (read_all(fd, bytes, THERE_BYTES))
        must(write(fd, bytes, BACK_BYTES) == BACK_BYTES, "write");
    return NULL;
}

static void connect_pair(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(listener >= 0, "socket");
    must(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    must(listen(listener, 1) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(pair[0] >= 0, "socket");
    must(connect(pair[0], (struct sockaddr *)&address, sizeof address) == 0, "connect");
    pair[1] = accept(listener, NULL, NULL);
    must(pair[1] >= 0, "accept");
    close(listener);
    for (int i = 0; i < 2; i++)
        setsockopt(pair[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static double round_trips_us(size_t rounds)
{
    int pair[2];
    pthread_t thread;
    uint8_t bytes[THERE_BYTES] = {0};
    double *us = calloc(rounds, sizeof *us);
    must(us != NULL, "calloc");
    connect_pair(pair);
    must(pthread_create(&thread, NULL, echo, &pair[1]) == 0, "pthread_create");
    for (size_t i = 0; i < rounds; i++) {
        double begun_us = now_us();
        must(write(pair[0], bytes, THERE_BYTES) == THERE_BYTES, "write");
        must(read_all(pair[0], bytes, BACK_BYTES), "read");
        us[i] = now_us() - begun_us;
    }
    close(pair[0]);
    pthread_join(thread, NULL);
    close(pair[1]);
    double result = median(us + FIRST_ROUNDS, rounds - FIRST_ROUNDS);
    free(us);
    return result;
}

static int usage(FILE *out)
{
    fprintf(out, "usage: bench_floor --dir DIR [--rounds 1000] [--bytes 1229]\n");
    return out == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"rounds", required_argument, NULL, 'r'},
                                            {"bytes", required_argument, NULL, 'b'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *dir = NULL;
    struct writer like = {.bytes = 1229, .rounds = 1000};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd')
            dir = optarg;
        else if (c == 'r')
            like.rounds = strtoul(optarg, NULL, 10);
        else if (c == 'b')
            like.bytes = strtoul(optarg, NULL, 10);
        else
            return usage(c == 'h' ? stdout : stderr);
    }
    if (dir == NULL || like.rounds <= FIRST_ROUNDS || like.bytes == 0 || like.bytes > BYTES_MAX)
        return usage(stderr);
    int fds[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++)
        fds[i] = file_of_zeros(dir, i);
    struct writer dsync = like;
    dsync.flags = RWF_DSYNC;
    printf("{\"bytes\": %zu, \"sync_us\": %.1f, ", like.bytes, writes_us(&like, fds, 1));
    printf("\"dsync_us\": %.1f, ", writes_us(&dsync, fds, 1));
    printf("\"sync_three_us\": %.1f, ", writes_us(&like, fds, WRITERS));
    printf("\"round_trip_us\": %.1f}\n", round_trips_us(like.rounds));
    for (unsigned i = 0; i < WRITERS; i++)
        close(fds[i]);
    return 0;
}
