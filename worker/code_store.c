/* SPDX-License-Identifier: Apache-2.0 */
/* Code on its way from the broker to a read-only folder.
 *
 *     (absent) --get--> FETCHING --all pieces, digest right--> UNPACKING --renamed--> READY
 *                          |                                      |                     |
 *                          +--missing, wrong, session over--------+--> (absent)  evict--+
 *
 * A package is unpacked by a pool thread into DIR/.new-N and renamed to DIR/SHA256 when it is
 * whole, so a folder with a digest's name is always complete: after a crash nothing has to be
 * checked, and a second worker version finds what the first one fetched. Removing is the same
 * backwards: renamed away first, then deleted by a pool thread. Pieces come one at a time, in
 * order, which keeps the link free for others and needs no reassembly.
 *
 * I1  A code is FETCHING or UNPACKING only while somebody waits or a pool task runs on it.
 * I2  A READY code with references is never removed. */
#include "worker/code_store.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"
#include "proto/package/package.h"
#include "worker/file_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum code_state { CODE_FETCHING, CODE_UNPACKING, CODE_READY };

struct code {
    struct code_store *store;
    struct code *next;
    uint8_t sha256[SHA256_BYTES];
    enum code_state state;
    uint64_t zipped_bytes;
    struct buffer zip;
    struct code_wait *waits;
    unsigned references;
    uint64_t used_at; /* the store's counter at the last release */
    uint64_t bytes;   /* unpacked */
    char *dir;
    char *new_dir;
    uv_work_t work;
    enum status result;
    const char *why;
};

struct removal {
    uv_work_t work;
    struct code_store *store;
    char *path;
};

struct code_store {
    struct code_store_options options;
    char *dir;
    struct code *codes;
    uint64_t counter;
    unsigned tasks; /* pool tasks under way */
    void (*closed)(void *data);
    void *closed_data;
};

static void close_if_done(struct code_store *store)
{
    if (store->closed == NULL || store->tasks > 0)
        return;
    while (store->codes != NULL) {
        struct code *code = store->codes;
        store->codes = code->next;
        free(code->dir);
        free(code->new_dir);
        buffer_free(&code->zip);
        free(code);
    }
    void (*closed)(void *data) = store->closed;
    void *data = store->closed_data;
    free(store->dir);
    free(store);
    closed(data);
}

static char *path_of(const struct code_store *store, const char *prefix, const char *name)
{
    char *path = NULL;
    int length = asprintf(&path, "%s/%s%s", store->dir, prefix, name);
    ASSERT(length > 0);
    return path;
}

static struct code *code_new(struct code_store *store, const uint8_t sha256[SHA256_BYTES])
{
    struct code *code = calloc(1, sizeof *code);
    struct buffer hex = {0};
    ASSERT(code != NULL);
    code->store = store;
    memcpy(code->sha256, sha256, SHA256_BYTES);
    encode_hex(&hex, slice_make(sha256, SHA256_BYTES));
    code->dir = path_of(store, "", buffer_c_string(&hex));
    buffer_free(&hex);
    code->next = store->codes;
    store->codes = code;
    return code;
}

static void unlink_code(struct code *code)
{
    struct code **at = &code->store->codes;
    while (*at != code)
        at = &(*at)->next;
    *at = code->next;
}

static void free_code(struct code *code)
{
    buffer_free(&code->zip);
    free(code->dir);
    free(code->new_dir);
    free(code);
}

/* ---- removing ---- */

/* thread: pool */
static void remove_tree(uv_work_t *work)
{
    struct removal *removal = work->data;
    if (file_tree_remove(removal->path) != STATUS_OK)
        trace_warn("code", "not_removed", "path=\"%s\"", removal->path);
}

static void on_removed(uv_work_t *work, int status)
{
    struct removal *removal = work->data;
    struct code_store *store = removal->store;
    (void)status;
    free(removal->path);
    free(removal);
    store->tasks--;
    close_if_done(store);
}

/* start_removal: takes `path`. */
static void start_removal(struct code_store *store, char *path)
{
    struct removal *removal = calloc(1, sizeof *removal);
    ASSERT(removal != NULL);
    removal->store = store;
    removal->path = path;
    removal->work.data = removal;
    store->tasks++;
    int error = uv_queue_work(store->options.loop, &removal->work, remove_tree, on_removed);
    ASSERT(error == 0);
}

static void evict(struct code *code)
{
    ASSERT(code->references == 0 && code->state == CODE_READY); /* I2 */
    char name[32];
    snprintf(name, sizeof name, "%llu", (unsigned long long)++code->store->counter);
    char *old = path_of(code->store, ".old-", name);
    unlink_code(code);
    if (rename(code->dir, old) == 0)
        start_removal(code->store, old);
    else
        free(old);
    free_code(code);
}

static void make_room(struct code_store *store)
{
    for (;;) {
        uint64_t bytes = 0;
        struct code *oldest = NULL;
        for (struct code *code = store->codes; code != NULL; code = code->next) {
            if (code->state != CODE_READY || code->references > 0)
                continue;
            bytes += code->bytes;
            if (oldest == NULL || code->used_at < oldest->used_at)
                oldest = code;
        }
        if (oldest == NULL || bytes <= store->options.bytes_max)
            return;
        evict(oldest);
    }
}

/* ---- fetching and unpacking ---- */

static void finish_waits(struct code *code, enum status status)
{
    struct code_wait *waits = code->waits;
    code->waits = NULL;
    /* All references first: a callback may release and so evict. */
    for (struct code_wait *wait = waits; wait != NULL; wait = wait->next) {
        wait->code = NULL;
        if (status == STATUS_OK)
            code->references++;
    }
    while (waits != NULL) {
        struct code_wait *wait = waits;
        waits = wait->next;
        wait->done(wait->data, status, status == STATUS_OK ? code : NULL);
    }
}

/* fail: forget the code; its waits end with `status`. */
static void fail(struct code *code, enum status status, const char *why)
{
    trace_warn("code", "failed", "dir=\"%s\" error=\"%s\" why=\"%s\"", code->dir,
               status_text(status), why != NULL ? why : "");
    unlink_code(code);
    finish_waits(code, status);
    free_code(code);
}

/* thread: pool */
static void unpack(uv_work_t *work)
{
    struct code *code = work->data;
    uint8_t digest[SHA256_BYTES];
    digest_sha256(buffer_slice(&code->zip), digest);
    if (memcmp(digest, code->sha256, sizeof digest) != 0) {
        code->result = STATUS_INVALID;
        code->why = "wrong digest";
        return;
    }
    code->result = mkdir(code->new_dir, 0755) == 0 ? STATUS_OK : status_from_errno(errno);
    if (code->result == STATUS_OK)
        code->result = package_unpack(buffer_slice(&code->zip), code->new_dir, &code->why);
    if (code->result == STATUS_OK && rename(code->new_dir, code->dir) != 0)
        code->result = status_from_errno(errno);
    if (code->result == STATUS_OK)
        code->bytes = file_tree_bytes(code->dir);
    else if (file_tree_remove(code->new_dir) != STATUS_OK)
        trace_warn("code", "not_removed", "path=\"%s\"", code->new_dir);
}

static void on_unpacked(uv_work_t *work, int status)
{
    struct code *code = work->data;
    struct code_store *store = code->store;
    (void)status;
    store->tasks--;
    buffer_free(&code->zip);
    if (code->result == STATUS_OK) {
        code->state = CODE_READY;
        code->used_at = ++store->counter;
        finish_waits(code, STATUS_OK);
        make_room(store);
    } else {
        fail(code, code->result, code->why);
    }
    close_if_done(store);
}

static void start_unpacking(struct code *code)
{
    char name[32];
    snprintf(name, sizeof name, "%llu", (unsigned long long)++code->store->counter);
    code->new_dir = path_of(code->store, ".new-", name);
    code->state = CODE_UNPACKING;
    code->work.data = code;
    code->store->tasks++;
    int error = uv_queue_work(code->store->options.loop, &code->work, unpack, on_unpacked);
    ASSERT(error == 0);
}

static void request_next(struct code *code)
{
    const struct code_store_options *options = &code->store->options;
    if (!options->request(options->data, code->sha256, code->zip.length))
        fail(code, STATUS_CLOSED, "no broker");
}

static struct code *find(struct code_store *store, struct slice sha256)
{
    for (struct code *code = store->codes; code != NULL; code = code->next)
        if (slice_equal(sha256, slice_make(code->sha256, SHA256_BYTES)))
            return code;
    return NULL;
}

void code_store_piece(struct code_store *store, struct slice sha256, uint64_t offset,
                      struct slice data, uint64_t total_bytes, bool missing)
{
    struct code *code = find(store, sha256);
    if (code == NULL || code->state != CODE_FETCHING || (offset != code->zip.length && !missing))
        return; /* an answer to a request of an earlier session, or to none */
    if (missing) {
        fail(code, STATUS_NOT_FOUND, "the broker has no such code");
    } else if (total_bytes > PACKAGE_ZIPPED_BYTES_MAX || total_bytes != code->zipped_bytes ||
               data.length == 0 || data.length > total_bytes - code->zip.length) {
        fail(code, STATUS_INVALID, "wrong size");
    } else {
        buffer_add_slice(&code->zip, data);
        if (code->zip.length == total_bytes)
            start_unpacking(code);
        else
            request_next(code);
    }
}

void code_store_session_ended(struct code_store *store)
{
    for (struct code *code = store->codes, *next; code != NULL; code = next) {
        next = code->next;
        if (code->state == CODE_FETCHING) {
            fail(code, STATUS_CLOSED, "session ended");
            next = store->codes; /* the callbacks may have changed the list */
        }
    }
}

void code_store_get(struct code_store *store, const uint8_t sha256[SHA256_BYTES],
                    uint64_t zipped_bytes, struct code_wait *wait)
{
    struct code *code = find(store, slice_make(sha256, SHA256_BYTES));
    if (code != NULL && code->state == CODE_READY) {
        code->references++;
        wait->code = NULL;
        wait->done(wait->data, STATUS_OK, code);
        return;
    }
    bool fresh = code == NULL;
    if (fresh) {
        code = code_new(store, sha256);
        code->state = CODE_FETCHING;
        code->zipped_bytes = zipped_bytes;
    }
    wait->code = code;
    wait->next = code->waits;
    code->waits = wait;
    if (fresh)
        request_next(code);
}

void code_wait_cancel(struct code_wait *wait)
{
    struct code *code = wait->code;
    if (code == NULL)
        return;
    struct code_wait **at = &code->waits;
    while (*at != wait)
        at = &(*at)->next;
    *at = wait->next;
    wait->code = NULL;
}

const char *code_dir(const struct code *code)
{
    return code->dir;
}

void code_release(struct code *code)
{
    ASSERT(code->references > 0);
    code->references--;
    code->used_at = ++code->store->counter;
    make_room(code->store);
}

/* ---- opening ---- */

static bool parse_digest(const char *name, uint8_t out[SHA256_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    if (strlen(name) != 2 * SHA256_BYTES)
        return false;
    for (unsigned i = 0; i < 2 * SHA256_BYTES; i++) {
        const char *digit = strchr(digits, name[i]);
        if (digit == NULL)
            return false;
        unsigned value = (unsigned)(digit - digits);
        out[i / 2] = (uint8_t)(i % 2 == 0 ? value << 4 : out[i / 2] | value);
    }
    return true;
}

/* take_entry: a folder from an earlier run is ours if it has a digest's name, else it is half done.
 */
static void take_entry(struct code_store *store, const char *name)
{
    uint8_t sha256[SHA256_BYTES];
    if (parse_digest(name, sha256)) {
        struct code *code = code_new(store, sha256);
        code->state = CODE_READY;
        code->bytes = file_tree_bytes(code->dir);
    } else if (strncmp(name, ".new-", 5) == 0 || strncmp(name, ".old-", 5) == 0) {
        char *path = path_of(store, "", name);
        if (file_tree_remove(path) != STATUS_OK)
            trace_warn("code", "not_removed", "path=\"%s\"", path);
        free(path);
    }
}

enum status code_store_open(struct code_store **out, const struct code_store_options *options)
{
    if (mkdir(options->dir, 0711) != 0 && errno != EEXIST)
        return status_from_errno(errno);
    DIR *folder = opendir(options->dir);
    if (folder == NULL)
        return status_from_errno(errno);
    struct code_store *store = calloc(1, sizeof *store);
    ASSERT(store != NULL);
    store->options = *options;
    store->dir = strdup(options->dir);
    ASSERT(store->dir != NULL);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        take_entry(store, entry->d_name);
    closedir(folder);
    make_room(store);
    *out = store;
    return STATUS_OK;
}

void code_store_close(struct code_store *store, void (*closed)(void *data), void *data)
{
    store->closed = closed;
    store->closed_data = data;
    for (struct code *code = store->codes; code != NULL; code = code->next)
        ASSERT(code->waits == NULL && code->references == 0);
    close_if_done(store);
}
