/* SPDX-License-Identifier: Apache-2.0 */
/* A broker that ended while it took over a snapshot of another node: the report shows the state
 * that its next start comes to, whichever of the files are in their place already. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/inspect/inspect.h"
#include "broker/log/transfer.h"
#include "tests/unit/inspect/sample.h"
#include "tests/unit/log/tool.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>

#define KEEP 2u
#define LAST 3u /* of its own; goes */

struct scene {
    char base[128];
    uv_loop_t loop;
    struct log *full;
    struct log *lag;
    int renames_left; /* from the step on; then the process "ends" */
    bool decided;
    bool done;
    enum status status;
    struct buffer refs;
};

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* ---- a disk that stops after some renames ---- */

static bool is_over(const struct scene *s)
{
    errno = EIO;
    return s->decided && s->renames_left <= 0;
}

static ssize_t scene_write(void *data, int fd, const struct iovec *parts, int count, off_t offset)
{
    return is_over(data) ? -1 : log_disk_real.write(NULL, fd, parts, count, offset);
}

static int scene_sync(void *data, int fd, bool whole)
{
    return is_over(data) ? -1 : log_disk_real.sync(NULL, fd, whole);
}

static int scene_rename(void *data, int from_fd, const char *from, int to_fd, const char *to)
{
    struct scene *s = data;
    if (is_over(s))
        return -1;
    if (strcmp(to, "install") == 0)
        s->decided = true;
    s->renames_left -= s->decided ? 1 : 0;
    return log_disk_real.rename(NULL, from_fd, from, to_fd, to);
}

static void on_fatal(void *data, const char *sentence)
{
    (void)data;
    (void)sentence;
}

/* ---- a transfer ---- */

static void open_one(struct scene *s, const char *name, const struct log_disk *disk,
                     struct log **out)
{
    char dir[256];
    const char *error = NULL;
    snprintf(dir, sizeof dir, "%s/%s", s->base, name);
    assert_true(mkdir(dir, 0700) == 0 || errno == EEXIST);
    snprintf(dir, sizeof dir, "%s/%s/shard-0", s->base, name);
    struct log_options options = {.loop = &s->loop,
                                  .dir = dir,
                                  .node_id = 1,
                                  .segment_bytes = 20480,
                                  .disk = disk,
                                  .fatal = on_fatal};
    if (log_open(out, &options, &error) != STATUS_OK)
        fail_msg("%s", error);
}

static void on_closed(void *data)
{
    (void)data;
}

static void close_one(struct scene *s, struct log *log)
{
    log_close(log, on_closed, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
}

static void on_done(void *data, enum status status)
{
    struct scene *s = data;
    s->status = status;
    s->done = true;
}

static void on_read(struct log_export_read *read, enum status status)
{
    on_done(read->data, status);
}

static void on_bodies(struct log_export_bodies *bodies, enum status status)
{
    on_done(bodies->data, status);
}

static enum status wait_for(struct scene *s)
{
    while (!s->done)
        uv_run(&s->loop, UV_RUN_ONCE);
    s->done = false;
    return s->status;
}

static void add_ref(void *data, struct body_ref ref)
{
    buffer_add(data, &ref, sizeof ref);
}

static int by_place(const void *a, const void *b)
{
    const struct body_ref *x = a;
    const struct body_ref *y = b;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* find_refs: which bodies the state refers to. */
static void find_refs(struct scene *s, const struct log_snapshot *snapshot)
{
    struct core_events events = {.data = &s->refs, .body_hold = add_ref};
    struct core *core = core_new(&events);
    assert_int_equal(core_restore(core, buffer_slice(&snapshot->data)), STATUS_OK);
    core_free(core);
    qsort(s->refs.data, s->refs.length / sizeof(struct body_ref), sizeof(struct body_ref),
          by_place);
}

static void give_snapshot(struct scene *s, struct log_incoming **incoming)
{
    struct log_export *export;
    struct log_export_about about;
    struct log_export_read read = {.length = SIZE_MAX, .done = on_read, .data = s};
    struct log_snapshot snapshot;
    assert_int_equal(log_export_open(s->full, 0, &export), STATUS_OK);
    log_export_about(export, &about);
    struct log_offer offer = {KEEP, about.index, about.term, about.bytes};
    assert_int_equal(log_incoming_begin(s->lag, &offer, incoming), STATUS_OK);
    log_export_read(export, &read);
    assert_int_equal(wait_for(s), STATUS_OK);
    log_incoming_snapshot(*incoming, 0, buffer_slice(&read.out), on_done, s);
    assert_int_equal(wait_for(s), STATUS_OK);
    log_incoming_restore(*incoming, &snapshot, on_done, s);
    assert_int_equal(wait_for(s), STATUS_OK);
    find_refs(s, &snapshot);
    log_snapshot_free(&snapshot);
    buffer_free(&read.out);
    log_export_close(export);
}

static void give_bodies(struct scene *s, struct log_incoming *incoming)
{
    struct log_export_bodies bodies = {.refs = (const struct body_ref *)(void *)s->refs.data,
                                       .count = s->refs.length / sizeof(struct body_ref),
                                       .limit = 1u << 30,
                                       .done = on_bodies,
                                       .data = s};
    assert_true(bodies.count >= SAMPLE_SLOW_COUNT);
    log_export_bodies(s->full, &bodies);
    assert_int_equal(wait_for(s), STATUS_OK);
    assert_int_equal(bodies.covered, bodies.count);
    assert_int_equal(bodies.gone + bodies.damaged, 0);
    log_incoming_bodies(incoming, buffer_slice(&bodies.out), on_done, s);
    assert_int_equal(wait_for(s), STATUS_OK);
    buffer_free(&bodies.out);
}

/* interrupted: BASE/lag as a process left it that ended after `renames`. false: it came through. */
static bool interrupted(struct scene *s, int renames)
{
    struct log_disk disk = {s, scene_write, scene_sync, scene_rename};
    struct log_incoming *incoming;
    struct log_entry entries[LAST] = {{1, 1, 2, {0}}, {2, 1, 2, {0}}, {3, 1, 2, {0}}};
    s->decided = false;
    s->renames_left = renames;
    s->refs = (struct buffer){0};
    open_one(s, "full", NULL, &s->full);
    open_one(s, "lag", &disk, &s->lag);
    assert_int_equal(log_append_now(s->lag, entries, LAST), STATUS_OK);
    give_snapshot(s, &incoming);
    give_bodies(s, incoming);
    log_incoming_commit(incoming, on_done, s);
    enum status status = wait_for(s);
    buffer_free(&s->refs);
    close_one(s, s->full);
    close_one(s, s->lag);
    return status != STATUS_OK;
}

/* ---- looking ---- */

static json_t *look(struct scene *s, json_t **shard)
{
    char dir[160];
    const char *error = NULL;
    json_t *report = NULL;
    snprintf(dir, sizeof dir, "%s/lag", s->base);
    struct inspect_options options = {.dir = dir, .verify = true, .from = 1, .to = 400};
    if (inspect_directory(&options, &report, &error) != STATUS_OK)
        fail_msg("%s", error);
    *shard = json_array_get(json_object_get(report, "shards"), 0);
    return report;
}

static int64_t number(const json_t *row, const char *name)
{
    return (int64_t)json_integer_value(json_object_get(row, name));
}

static json_t *good_state(json_t *report, json_t *shard)
{
    json_t *state = json_object_get(shard, "state");
    if (!inspect_good(report)) {
        char *text = json_dumps(json_object_get(report, "problems"), JSON_INDENT(1));
        print_error("%s\n", text);
        free(text);
    }
    assert_true(inspect_good(report));
    assert_non_null(state);
    assert_int_equal(number(state, "bodies_missing"), 0);
    assert_true(number(state, "bodies") >= SAMPLE_SLOW_COUNT);
    assert_int_equal(number(state, "last_index"), number(state, "applied_index"));
    return state;
}

static void assert_text_says(json_t *report, const char *words)
{
    struct buffer text = {0};
    inspect_text(report, &text);
    assert_non_null(strstr(buffer_c_string(&text), words));
    buffer_free(&text);
}

static void whatever_is_in_its_place(void **state)
{
    struct scene *s = *state;
    char lag[160];
    int phases[2] = {0};
    snprintf(lag, sizeof lag, "%s/lag", s->base);
    for (int renames = 1; interrupted(s, renames); renames++) {
        json_t *shard;
        json_t *before = look(s, &shard);
        json_t *install = json_object_get(shard, "install");
        assert_non_null(install);
        const char *phase = json_string_value(json_object_get(install, "phase"));
        assert_non_null(phase);
        phases[strcmp(phase, "moving") == 0]++;
        assert_int_equal(number(install, "keep_index"), KEEP);
        assert_text_says(before, "a snapshot of another node is being taken over: after entry ");
        json_t *expected = good_state(before, shard);
        /* A start comes to the same. */
        open_one(s, "lag", NULL, &s->lag);
        close_one(s, s->lag);
        json_t *after = look(s, &shard);
        assert_null(json_object_get(shard, "install"));
        assert_true(json_equal(expected, good_state(after, shard)));
        json_decref(before);
        json_decref(after);
        nftw(lag, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
    assert_int_equal(phases[0], 1);
    assert_true(phases[1] >= 4);
}

static void leftovers_are_listed(void **state)
{
    struct scene *s = *state;
    char path[192];
    json_t *shard;
    assert_false(interrupted(s, 1000));
    snprintf(path, sizeof path, "%s/lag/shard-0/incoming-7", s->base);
    assert_int_equal(mkdir(path, 0700), 0);
    json_t *report = look(s, &shard);
    assert_true(inspect_good(report));
    assert_text_says(report, "incoming-7/");
    json_decref(report);
}

static int setup(void **state)
{
    struct scene *s = calloc(1, sizeof *s);
    char dir[160];
    const char *base = getenv("TMPDIR");
    snprintf(s->base, sizeof s->base, "%s/millrace-inspect-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(s->base) == NULL)
        return -1;
    snprintf(dir, sizeof dir, "%s/full", s->base);
    if (mkdir(dir, 0700) != 0)
        return -1;
    sample_make(dir);
    uv_loop_init(&s->loop);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct scene *s = *state;
    assert_int_equal(uv_loop_close(&s->loop), 0);
    nftw(s->base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(s);
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(whatever_is_in_its_place),
        TEST(leftovers_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
