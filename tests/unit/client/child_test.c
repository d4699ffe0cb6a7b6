/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/cli/child.h"
#include "client/cli/ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRIES 1000 /* of 10 ms: until something has happened that must happen */

static void pause_10_ms(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

static void await_exit(struct child *child)
{
    for (int i = 0; i < TRIES && !child_reap(child); i++)
        pause_10_ms();
    assert_int_equal(child->pid, 0);
}

static void tells_the_exit_status(void **state)
{
    (void)state;
    char outcome[64];
    static const char *const argv[] = {"/bin/sh", "-c", "exit 7", NULL};
    struct child child = {.name = "one", .argv = argv, .keep_fd = -1};
    assert_int_equal(child_start(&child), STATUS_OK);
    await_exit(&child);
    assert_int_equal(child.exit_status, 7);
    assert_int_equal(child.failures, 1);
    assert_true(child.restart_ns > child.started_ns);
    child_outcome(&child, outcome);
    assert_string_equal(outcome, "exited with status 7");
}

static void tells_the_signal(void **state)
{
    (void)state;
    char outcome[64];
    static const char *const argv[] = {"/bin/sleep", "1000", NULL};
    struct child child = {.name = "one", .argv = argv, .keep_fd = -1};
    assert_int_equal(child_start(&child), STATUS_OK);
    assert_false(child_reap(&child));
    child_signal(&child, SIGKILL);
    await_exit(&child);
    assert_int_equal(child.exit_status, 128 + SIGKILL);
    child_outcome(&child, outcome);
    assert_string_equal(outcome, "was killed by signal 9");
}

static void waits_longer_each_time_it_fails(void **state)
{
    (void)state;
    static const char *const argv[] = {"/bin/false", NULL};
    struct child child = {.name = "one", .argv = argv, .keep_fd = -1};
    uint64_t before_ns = 0;
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(child_start(&child), STATUS_OK);
        uint64_t started_ns = child.started_ns;
        await_exit(&child);
        assert_int_equal(child.failures, i);
        uint64_t wait_ns = child.restart_ns - started_ns;
        assert_true(wait_ns >= before_ns + before_ns / 2);
        before_ns = (uint64_t)200000000 << (i - 1);
        assert_true(wait_ns >= before_ns);
    }
}

static void a_missing_program_is_status_127(void **state)
{
    (void)state;
    static const char *const argv[] = {"/nonexistent/program", NULL};
    struct child child = {.name = "one", .argv = argv, .keep_fd = -1};
    /* Its complaint goes to stderr, where it would look like a failure of this test. */
    int saved = dup(STDERR_FILENO);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(null, STDERR_FILENO);
    assert_int_equal(child_start(&child), STATUS_OK);
    await_exit(&child);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(null);
    assert_int_equal(child.exit_status, 127);
}

/* The parent's signals are blocked, its stdin is open: neither reaches the child. */
static void begins_with_a_clean_slate(void **state)
{
    (void)state;
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    static const char *const argv[] = {"/bin/sh", "-c", "read line && exit 3; exec sleep 1000",
                                       NULL};
    struct child child = {.name = "one", .argv = argv, .keep_fd = -1};
    assert_int_equal(child_start(&child), STATUS_OK);
    for (int i = 0; i < TRIES && getpgid(child.pid) != child.pid; i++)
        pause_10_ms();
    assert_int_equal(getpgid(child.pid), child.pid);
    child_signal(&child, SIGTERM);
    await_exit(&child);
    sigprocmask(SIG_SETMASK, &before, NULL);
    assert_int_equal(child.exit_status, 128 + SIGTERM);
}

/* Runs in a process of its own: starts a child, tells its pid, and waits to be killed. */
static void be_a_parent(int out, int lock_fd)
{
    static const char *const argv[] = {"/bin/sleep", "1000", NULL};
    struct child child = {.name = "one", .argv = argv, .keep_fd = lock_fd};
    if (child_start(&child) != STATUS_OK)
        _exit(1);
    if (write(out, &child.pid, sizeof child.pid) != sizeof child.pid)
        _exit(1);
    for (;;)
        pause();
}

static void dies_with_its_parent_and_frees_its_lock(void **state)
{
    (void)state;
    int ends[2];
    pid_t grandchild = 0;
    char path[] = "/tmp/millrace-child-XXXXXX";
    int lock_fd = mkstemp(path);
    assert_true(lock_fd >= 0);
    fcntl(lock_fd, F_SETFD, FD_CLOEXEC);
    assert_int_equal(flock(lock_fd, LOCK_EX), 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t parent = fork();
    if (parent == 0)
        be_a_parent(ends[1], lock_fd);
    close(lock_fd);
    assert_int_equal(read(ends[0], &grandchild, sizeof grandchild), sizeof grandchild);
    assert_int_equal(kill(grandchild, 0), 0);

    lock_fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(lock_fd, LOCK_EX | LOCK_NB), -1);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    int got = -1;
    for (int i = 0; i < TRIES && got != 0; i++) {
        got = flock(lock_fd, LOCK_EX | LOCK_NB);
        pause_10_ms();
    }
    assert_int_equal(got, 0);
    close(lock_fd);
    close(ends[0]);
    close(ends[1]);
    unlink(path);
}

static void probes_ports(void **state)
{
    (void)state;
    uint16_t free_port = 0, found = 0;
    assert_int_equal(port_probe("127.0.0.1", 0, &free_port), STATUS_OK);
    assert_true(free_port != 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(free_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(port_probe("127.0.0.1", free_port, &found), STATUS_EXISTS);
    close(fd);
    assert_int_equal(port_probe("127.0.0.1", free_port, &found), STATUS_OK);
    assert_int_equal(found, free_port);
    assert_int_equal(port_probe("192.0.2.1", 0, &found), STATUS_INVALID);
    assert_int_equal(port_probe("no such host", 0, &found), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_the_exit_status),
        cmocka_unit_test(tells_the_signal),
        cmocka_unit_test(waits_longer_each_time_it_fails),
        cmocka_unit_test(a_missing_program_is_status_127),
        cmocka_unit_test(begins_with_a_clean_slate),
        cmocka_unit_test(dies_with_its_parent_and_frees_its_lock),
        cmocka_unit_test(probes_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
