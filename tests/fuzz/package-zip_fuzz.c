/* SPDX-License-Identifier: Apache-2.0 */
/* Zips from strangers: the walk that check and unpacking share, and that it hands on clean paths
 * only. */
#include "proto/base/assert.h"
#include "proto/package/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t files;
    uint64_t bytes;
    bool open;
};

static void expect_clean(const char *path)
{
    ASSERT(path[0] != 0);
    while (*path != 0) {
        size_t length = strcspn(path, "/");
        ASSERT(length > 0 && length <= 255);
        ASSERT(!(length == 1 && path[0] == '.'));
        ASSERT(!(length == 2 && path[0] == '.' && path[1] == '.'));
        path += length;
        ASSERT(*path == 0 || path[1] != 0);
        path += *path == '/';
    }
}

static enum status on_folder(void *data, const char *path, const char **why)
{
    (void)data, (void)why;
    expect_clean(path);
    return STATUS_OK;
}

static enum status on_file_begin(void *data, const char *path, bool executable, const char **why)
{
    (void)executable, (void)why;
    struct seen *seen = data;
    ASSERT(!seen->open);
    seen->open = true;
    seen->files++;
    expect_clean(path);
    return STATUS_OK;
}

static enum status on_file_data(void *data, struct slice bytes, const char **why)
{
    (void)why;
    struct seen *seen = data;
    ASSERT(seen->open);
    seen->bytes += bytes.length;
    return STATUS_OK;
}

static enum status on_file_end(void *data, const char **why)
{
    (void)why;
    struct seen *seen = data;
    ASSERT(seen->open);
    seen->open = false;
    return STATUS_OK;
}

static const struct walk_sink sink = {on_folder, on_file_begin, on_file_data, on_file_end};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice zip = slice_make(data, size);
    struct package_facts facts;
    const char *why = NULL;
    enum status checked = package_check(zip, &facts, &why);
    ASSERT((checked == STATUS_OK) == (why == NULL));
    struct seen seen = {0};
    struct package_facts again;
    ASSERT(zip_walk(zip, &sink, &seen, &again, &why) == checked);
    ASSERT(again.files == facts.files);
    ASSERT(again.unpacked_bytes == facts.unpacked_bytes);
    ASSERT(seen.bytes <= PACKAGE_UNPACKED_BYTES_MAX);
    ASSERT(checked != STATUS_OK || (seen.files == facts.files && !seen.open));
    return 0;
}
