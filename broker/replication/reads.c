/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies, read from memory or from the log. */
#include "broker/replication/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>

bool shard_read_now(struct shard *shard, struct body_ref ref, struct buffer *out)
{
    return snapshots_hot(shard, ref, out) ||
           (shard->log != NULL && log_read_now(shard->log, ref, out));
}

static void on_read(struct log_read *done, enum status status)
{
    struct shard_read *read = done->data;
    read->out = done->out;
    read->private_state = NULL;
    free(done);
    read->done(read, status);
}

static void begin_read(struct shard *shard, struct shard_read *read)
{
    struct log_read *inner = calloc(1, sizeof *inner);
    ASSERT(inner != NULL);
    ASSERT(shard->log != NULL);
    inner->refs = read->refs;
    inner->count = read->count;
    inner->out = read->out;
    inner->done = on_read;
    inner->data = read;
    read->private_state = inner;
    log_read(shard->log, inner);
}

/* is_late: an entry may be committed, and applied, before it is on this disk. */
static bool is_late(const struct shard *shard, const struct shard_read *read)
{
    for (size_t i = 0; i < read->count; i++) {
        if (read->refs[i].index > log_durable_index(shard->log) &&
            read->refs[i].index <= log_last_index(shard->log))
            return true;
    }
    return false;
}

void shard_read(struct shard *shard, struct shard_read *read)
{
    ASSERT(shard->log != NULL);
    if (!is_late(shard, read)) {
        begin_read(shard, read);
        return;
    }
    read->next = shard->late_reads;
    shard->late_reads = read;
}

void reads_begin_late(struct shard *shard)
{
    struct shard_read *list = shard->late_reads;
    shard->late_reads = NULL;
    while (list != NULL) {
        struct shard_read *read = list;
        list = list->next;
        shard_read(shard, read);
    }
}

void reads_fail_late(struct shard *shard)
{
    struct shard_read *list = shard->late_reads;
    shard->late_reads = NULL;
    while (list != NULL) {
        struct shard_read *read = list;
        list = list->next;
        read->done(read, STATUS_CLOSED);
    }
}
