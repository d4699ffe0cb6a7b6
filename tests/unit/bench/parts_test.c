/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the bench that its figures and its verdicts rest on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/bench/body.h"
#include "client/bench/histogram.h"
#include "client/bench/ledger.h"
#include "client/bench/process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void small_values_are_exact(void **state)
{
    (void)state;
    struct histogram *h = calloc(1, sizeof *h);
    assert_int_equal(histogram_at(h, 0.5), 0);
    for (uint64_t i = 1; i <= 100; i++)
        histogram_add(h, i);
    assert_int_equal(histogram_at(h, 0), 1);
    assert_int_equal(histogram_at(h, 0.5), 50);
    assert_int_equal(histogram_at(h, 0.99), 99);
    assert_int_equal(histogram_at(h, 1), 100);
    free(h);
}

/* Never understated, and by less than 1/128 overstated, over the whole range. */
static void large_values_are_close(void **state)
{
    (void)state;
    for (uint64_t value = 1; value < UINT64_C(1) << 33; value += value / 3 + 1) {
        struct histogram *h = calloc(1, sizeof *h);
        histogram_add(h, value);
        histogram_add(h, UINT64_MAX);
        uint64_t told = histogram_at(h, 0.25);
        assert_true(told >= value);
        assert_true(told - value <= value / 128);
        assert_true(h->max == UINT64_MAX);
        assert_true(histogram_at(h, 1) == UINT64_MAX || histogram_at(h, 1) >= UINT64_C(1) << 33);
        free(h);
    }
}

static void a_body_tells_its_facts(void **state)
{
    (void)state;
    const size_t sizes[] = {BODY_BYTES_MIN, 49, 112, 1024, 262144};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t *bytes = malloc(sizes[i]);
        struct body_facts out;
        struct body_facts in = {.number = 12345678901 + i, .due_ns = UINT64_MAX - i, .run = 0xabcd};
        body_write(bytes, sizes[i], &in);
        assert_true(body_read(slice_make(bytes, sizes[i]), &out));
        assert_true(out.number == in.number);
        assert_true(out.due_ns == in.due_ns);
        assert_int_equal(out.run, in.run);
        for (size_t at = 0; at < sizes[i]; at++)
            assert_true(bytes[at] > ' ' && bytes[at] < 127 && bytes[at] != '"' &&
                        bytes[at] != '\\');
        bytes[sizes[i] - 1] ^= 1; /* any change is seen */
        assert_false(body_read(slice_make(bytes, sizes[i]), &out));
        bytes[sizes[i] - 1] ^= 1;
        assert_false(body_read(slice_make(bytes, sizes[i] - 1), &out));
        assert_false(body_read(slice_make(bytes, BODY_BYTES_MIN - 1), &out));
        free(bytes);
    }
}

static void the_ledger_finds_what_is_wrong(void **state)
{
    (void)state;
    struct ledger l;
    ledger_init(&l, 0);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(ledger_send(&l), i);
    for (uint64_t i = 0; i < 10; i++)
        ledger_ack(&l, i);
    ledger_ack(&l, 3); /* told twice is promised once */
    assert_int_equal(l.acked, 10);
    assert_int_equal(ledger_lost(&l), 10);
    for (uint64_t i = 0; i < 9; i++)
        assert_true(ledger_receive(&l, i));
    assert_false(ledger_receive(&l, 4));
    assert_true(ledger_receive(&l, 500)); /* not promised, and yet kept: nothing wrong */
    assert_false(ledger_receive(&l, 100000));
    assert_int_equal(ledger_lost(&l), 1);
    assert_int_equal(l.duplicates, 1);
    assert_int_equal(l.corrupt, 1);
    assert_int_equal(l.received, 10);
    ledger_free(&l);
}

static void the_ledger_watches_the_order_of_groups(void **state)
{
    (void)state;
    struct ledger l;
    ledger_init(&l, 2);
    for (int i = 0; i < 10; i++)
        (void)ledger_send(&l);
    (void)ledger_receive(&l, 0);
    (void)ledger_receive(&l, 3); /* the other group: no matter */
    (void)ledger_receive(&l, 4);
    assert_int_equal(l.disordered, 0);
    (void)ledger_receive(&l, 2); /* behind 4, of the same group */
    assert_int_equal(l.disordered, 1);
    (void)ledger_receive(&l, 1);
    assert_int_equal(l.disordered, 2);
    ledger_free(&l);
}

static void processes_are_read(void **state)
{
    (void)state;
    struct processes p;
    char text[64];
    assert_false(processes_parse("", &p));
    assert_false(processes_parse("x", &p));
    assert_false(processes_parse("1;2", &p));
    assert_false(processes_parse("999999999", &p));
    snprintf(text, sizeof text, "%d,%d", getpid(), getppid());
    assert_true(processes_parse(text, &p));
    assert_int_equal(p.count, 2);
    assert_true(processes_rss_bytes(&p) > 4096);
}

/* A server that was killed keeps the time that it took. */
static void an_ended_process_is_remembered(void **state)
{
    (void)state;
    struct processes p;
    char text[16];
    pid_t pid = fork();
    if (pid == 0) {
        for (;;)
            continue;
    }
    snprintf(text, sizeof text, "%d", pid);
    assert_true(processes_parse(text, &p));
    while (processes_cpu_us(&p) == 0)
        usleep(10000);
    uint64_t before = processes_cpu_us(&p);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_true(processes_cpu_us(&p) == before);
    assert_int_equal(processes_rss_bytes(&p), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(large_values_are_close),
        cmocka_unit_test(a_body_tells_its_facts),
        cmocka_unit_test(the_ledger_finds_what_is_wrong),
        cmocka_unit_test(the_ledger_watches_the_order_of_groups),
        cmocka_unit_test(processes_are_read),
        cmocka_unit_test(an_ended_process_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
