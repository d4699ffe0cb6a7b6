/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as the manifest of a backup: what decodes names only files inside the backup. */
#include "broker/recovery/manifest.h"
#include "proto/base/assert.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct manifest manifest;
    const char *error = NULL;
    enum status status = manifest_decode(slice_make(data, size), &arena, &manifest, &error);
    ASSERT(status == STATUS_OK || error != NULL);
    for (size_t k = 0; status == STATUS_OK && k < manifest.shard_count; k++) {
        const struct manifest_shard *shard = &manifest.shards[k];
        for (size_t i = 0; i < shard->file_count; i++)
            ASSERT(strstr(shard->files[i].name, "..") == NULL && shard->files[i].name[0] == 's');
    }
    arena_free(&arena);
    return 0;
}
