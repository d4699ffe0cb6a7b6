/* SPDX-License-Identifier: Apache-2.0 */
/* Taking over a snapshot is one step: whichever write, sync or rename fails first, the log is what
 * it was or what it will be, at once and after a restart, and a start that is cut short itself goes
 * on with what was decided. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/log/two_logs.h"

static void folder_of(struct bench *b, const char *name, char out[256])
{
    snprintf(out, 256, "%s/%s", b->dir, name);
}

static bool is_decided(struct bench *b)
{
    char path[256];
    folder_of(b, "install", path);
    return access(path, F_OK) == 0;
}

/* start_over: the one that lags as it was made first. */
static void start_over(struct pair *p, const char *pristine)
{
    bench_remove(p->lag->dir);
    bench_copy_tree(pristine, p->lag->dir);
    p->lag->fail_from = 0;
    p->lag->fatal[0] = '\0';
}

/* run_until: a transfer of which this call to the disk and all later ones fail. */
static enum status run_until(struct pair *p, int64_t fail_from)
{
    bench_open(p->lag);
    p->from = 0;
    p->lag->fail_from = p->lag->calls + fail_from;
    enum status status = transfer(p, KEEP);
    bool decided = is_decided(p->lag);
    if (p->lag->fatal[0] == '\0' && status != STATUS_OK) {
        assert_false(decided);
        p->lag->fail_from = 0;
        assert_before(p); /* and it goes on with what it had */
        append_from(p->lag, OWN_LAST + 1, 99);
        log_truncate(p->lag->log, OWN_LAST + 1);
    }
    if (p->lag->fatal[0] != '\0')
        assert_int_equal(status, STATUS_IO_ERROR);
    p->lag->fail_from = 0;
    pair_close_lag(p);
    return status;
}

/* assert_either: after a start. */
static bool assert_either(struct pair *p)
{
    bool installed = log_last_index(p->lag->log) == SNAPSHOT;
    if (installed)
        assert_installed(p, KEEP);
    else
        assert_before(p);
    assert_no_folder(p->lag);
    return installed;
}

/* start_in_pieces: starts that fail at the first, the second ... call, until one gets through. */
static void start_in_pieces(struct pair *p)
{
    const char *error = NULL;
    for (int64_t m = 1;; m++) {
        p->lag->fail_from = m;
        p->lag->fatal[0] = '\0';
        enum status status = bench_try_open(p->lag, &error);
        p->lag->fail_from = 0;
        if (status == STATUS_OK)
            break;
        assert_non_null(strstr(error, p->lag->dir));
        assert_int_equal(uv_run(&p->lag->loop, UV_RUN_DEFAULT), 0);
    }
}

static void at_every_call(void **state)
{
    struct pair *p = *state;
    char pristine[160];
    int before = 0;
    int after = 0;
    int fatal = 0;
    p->piece = 1u << 20; /* as few calls as can be */
    p->limit = 1u << 20;
    pair_close_lag(p);
    snprintf(pristine, sizeof pristine, "%s-pristine", p->lag->dir);
    bench_copy_tree(p->lag->dir, pristine);
    enum status status = STATUS_IO_ERROR;
    for (int64_t n = 1; status != STATUS_OK; n++) {
        start_over(p, pristine);
        status = run_until(p, n);
        fatal += p->lag->fatal[0] != '\0' ? 1 : 0;
        if (is_decided(p->lag))
            start_in_pieces(p);
        else
            bench_open(p->lag);
        bool installed = assert_either(p);
        assert_true(installed || status != STATUS_OK);
        before += installed ? 0 : 1;
        after += installed ? 1 : 0;
        if (installed) { /* and then it serves */
            append_from(p->lag, SNAPSHOT + 3, 0);
            pair_close_lag(p);
            bench_open(p->lag);
            assert_int_equal(log_last_index(p->lag->log), SNAPSHOT + 3);
        }
        pair_close_lag(p);
    }
    print_message("as it was: %d, as it will be: %d, of these ended the process: %d\n", before,
                  after, fatal);
    assert_true(before > 20);
    assert_true(after > 10);
    assert_true(fatal > 10 && fatal < after);
    bench_remove(pristine);
    bench_open(p->lag);
}

/* decide_only: as after a crash right behind the step. */
static void decide_only(struct pair *p)
{
    for (int64_t n = 10;; n++) {
        char pristine[160];
        snprintf(pristine, sizeof pristine, "%s-pristine", p->lag->dir);
        pair_close_lag(p);
        bench_copy_tree(p->lag->dir, pristine);
        run_until(p, n);
        bool decided = is_decided(p->lag);
        if (!decided)
            start_over(p, pristine);
        bench_remove(pristine);
        if (decided)
            return;
        bench_open(p->lag);
    }
}

static void a_damaged_plan_is_refused(void **state)
{
    struct pair *p = *state;
    const char *error = NULL;
    char path[256];
    decide_only(p);
    folder_of(p->lag, "install/plan", path);
    assert_int_equal(access(path, F_OK), 0);
    bench_flip(path, 8);
    assert_int_equal(bench_try_open(p->lag, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error, "the plan for taking over a snapshot is damaged"));
    assert_non_null(strstr(error, p->lag->dir));
    bench_flip(path, 8);
    bench_open(p->lag);
    assert_installed(p, KEEP);
}

static void leftovers_go_at_start(void **state)
{
    struct pair *p = *state;
    char path[256];
    pair_close_lag(p);
    folder_of(p->lag, "incoming-3", path);
    assert_int_equal(mkdir(path, 0700), 0);
    folder_of(p->lag, "incoming-3/00000000000000000140.snap", path);
    bench_write_at(path, 0, "half", 4);
    folder_of(p->lag, "incoming-3/plan", path);
    bench_write_at(path, 0, "half", 4);
    bench_open(p->lag);
    assert_no_folder(p->lag);
    assert_before(p);
}

/* The first segment behind what was taken over is cut whole, and nothing of another: it alone says
 * that the log has reached there. Wherever that stops, the log ends there, or where it ended
 * before.
 */
static void a_log_whose_first_segment_is_cut_keeps_its_end(void **state)
{
    struct pair *p = *state;
    char pristine[160];
    int stopped = 0;
    assert_int_equal(transfer(p, KEEP), STATUS_OK);
    append_from(p->lag, SNAPSHOT + 3, 0);
    pair_close_lag(p);
    snprintf(pristine, sizeof pristine, "%s-pristine", p->lag->dir);
    bench_copy_tree(p->lag->dir, pristine);
    for (bool cut = false; !cut;) {
        start_over(p, pristine);
        bench_open(p->lag);
        p->lag->fail_from = p->lag->calls + ++stopped;
        log_truncate(p->lag->log, SNAPSHOT + 1);
        bench_run_ms(p->lag, 0);
        cut = p->lag->fatal[0] == '\0';
        p->lag->fail_from = 0;
        pair_close_lag(p);
        bench_open(p->lag);
        uint64_t last = log_last_index(p->lag->log);
        assert_true(last == SNAPSHOT || (!cut && last == SNAPSHOT + 3));
        append_from(p->lag, SNAPSHOT + 5, 0);
        pair_close_lag(p);
    }
    assert_true(stopped > 3);
    bench_remove(pristine);
    bench_open(p->lag);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)
    const struct CMUnitTest tests[] = {
        TEST(at_every_call),
        TEST(a_damaged_plan_is_refused),
        TEST(leftovers_go_at_start),
        TEST(a_log_whose_first_segment_is_cut_keeps_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
