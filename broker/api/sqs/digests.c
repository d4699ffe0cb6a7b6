/* SPDX-License-Identifier: Apache-2.0 */
/* Whole calls are put off, not only their digests, so that nothing has been decided for them by
 * then: the loop does other things in between. */
#include "broker/api/sqs/digests.h"

#include "proto/base/assert.h"

#define TOGETHER_MAX 64 /* bodies */

struct sqs_digest_job {
    struct sqs_call *call; /* in whose arena this is */
    struct sqs_digest_job *next;
    uint32_t count;
    struct slice bodies[];
};

/* How many bodies there are, as far as they can be good. */
static uint32_t count_of(const struct sqs_call *call)
{
    const struct sqs_send_message_batch_input *input = call->input;
    if (call->action == SQS_ACTION_SendMessage)
        return 1;
    if (call->action != SQS_ACTION_SendMessageBatch || input->entries.count > SQS_BATCH_MAX)
        return 0;
    return input->entries.count;
}

static void copy_bodies(const struct sqs_call *call, struct sqs_digest_job *job)
{
    if (call->action == SQS_ACTION_SendMessage) {
        job->bodies[0] = ((const struct sqs_send_message_input *)call->input)->body;
        return;
    }
    const struct sqs_send_message_batch_input *input = call->input;
    const struct sqs_send_entry *entries = input->entries.items;
    for (uint32_t i = 0; i < job->count; i++)
        job->bodies[i] = entries[i].body;
}

bool sqs_digest(struct sqs_call *call)
{
    struct sqs_state *state = sqs_state(call);
    uint32_t count = count_of(call);
    if (count == 0)
        return false;
    ASSERT(state != NULL);
    struct sqs_digest_job *job =
        arena_alloc(&call->arena, sizeof *job + count * sizeof job->bodies[0]);
    job->call = call;
    job->count = count;
    copy_bodies(call, job);
    call->md5 = arena_alloc(&call->arena, count * sizeof *call->md5);
    if (state->digest_first == NULL)
        state->digest_first = job;
    else
        state->digest_last->next = job;
    state->digest_last = job;
    api_want_turn_end(call->api);
    return true;
}

/* digest_some: of the first jobs of the list; returns the first that is left. */
static struct sqs_digest_job *digest_some(struct sqs_digest_job *first)
{
    struct slice bodies[TOGETHER_MAX];
    uint8_t digests[TOGETHER_MAX][MD5_BYTES];
    size_t count = 0;
    struct sqs_digest_job *job = first;
    for (; job != NULL && job->count <= TOGETHER_MAX - count; job = job->next) {
        memcpy(bodies + count, job->bodies, job->count * sizeof bodies[0]);
        count += job->count;
    }
    ASSERT(job != first);
    digest_md5_each(bodies, count, digests);
    count = 0;
    for (struct sqs_digest_job *done = first; done != job; done = done->next) {
        memcpy(done->call->md5, digests + count, done->count * sizeof digests[0]);
        count += done->count;
    }
    return job;
}

void sqs_turn_end(struct api *api)
{
    struct sqs_state *state = api_family_state(api, &api_family_sqs);
    struct sqs_digest_job *list = state->digest_first;
    state->digest_first = NULL;
    state->digest_last = NULL;
    for (struct sqs_digest_job *job = list; job != NULL;)
        job = digest_some(job);
    while (list != NULL) {
        struct sqs_call *call = list->call;
        list = list->next; /* it ends with its call */
        if (call->gone)
            sqs_call_free(call);
        else
            sqs_call_run(call, NULL);
    }
}
