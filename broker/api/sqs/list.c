/* SPDX-License-Identifier: Apache-2.0 */
/* The two lists of queues: ListQueues, by a prefix of the name, and ListDeadLetterSourceQueues, of
 * those whose redrive policy names a queue. Names of all shards are walked in order; a page ends
 * after MaxResults of them, and its token is the last name in it, so a queue that comes or goes
 * between two pages neither repeats nor hides another. As at AWS there is a token only when
 * MaxResults was given. */
#include "broker/api/sqs/list.h"

#include "broker/api/sqs/queue_name.h"
#include "broker/api/sqs/region.h"
#include "broker/api/sqs/subject.h"
#include "proto/base/encode.h"

#define LIST_MAX 1000

struct page {
    struct slice region;      /* of keys; empty: the node's own */
    struct slice prefix;      /* of keys: it holds the region */
    struct slice dead_letter; /* empty: any */
    struct slice after;
    uint32_t most;
    bool cut; /* MaxResults was given */
    struct sqs_list urls;
    struct slice next_token;
};

static bool read_token(struct sqs_call *call, struct slice region, struct slice token,
                       struct slice *key)
{
    struct buffer bytes = {0};
    bool ok = decode_base64(&bytes, token) == STATUS_OK && queue_name_valid(buffer_slice(&bytes));
    if (ok)
        *key = queue_key(call, region, arena_copy(&call->arena, buffer_slice(&bytes)));
    buffer_free(&bytes);
    return ok;
}

static struct slice make_token(struct sqs_call *call, struct slice key)
{
    struct buffer text = {0};
    encode_base64(&text, queue_key_name(key));
    struct slice token = arena_copy(&call->arena, buffer_slice(&text));
    buffer_free(&text);
    return token;
}

/* What is wrong with it, or NULL. */
static const char *page_begin(struct sqs_call *call, const struct sqs_number *results_max,
                              struct slice token, struct page *page)
{
    if (results_max->given && (results_max->value < 1 || results_max->value > LIST_MAX))
        return "Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer "
               "between 1 and 1000.";
    page->cut = results_max->given;
    page->most = results_max->given ? (uint32_t)results_max->value : LIST_MAX;
    if (token.length > 0 && !read_token(call, page->region, token, &page->after))
        return "Invalid or expired next token.";
    return NULL;
}

static bool belongs(const struct page *page, const struct queue_view *queue)
{
    return queue_name_valid(queue_key_name(queue->name)) &&
           slice_equal(queue_key_region(queue->name), page->region) &&
           (page->dead_letter.length == 0 ||
            slice_equal(page->dead_letter, queue->settings.dead_letter));
}

/* Those with the prefix stand together and begin right after the prefix itself. */
static void page_fill(struct sqs_call *call, struct page *page)
{
    struct slice *items = arena_alloc(&call->arena, page->most * sizeof *items);
    struct slice last = {0};
    struct queue_walk walk;
    struct queue_view queue;
    page->urls = (struct sqs_list){items, 0, true};
    sqs_walk_begin(call, &walk, page->after.length > 0 ? page->after : page->prefix);
    bool found = page->after.length == 0 && page->prefix.length > 0 &&
                 sqs_queue_by_name(call, page->prefix, &queue);
    if (!found)
        found = queue_walk_next(&walk, &queue);
    for (; found && slice_has_prefix(queue.name, page->prefix);
         found = queue_walk_next(&walk, &queue)) {
        if (!belongs(page, &queue))
            continue;
        if (page->urls.count == page->most) {
            if (page->cut)
                page->next_token = make_token(call, last);
            return;
        }
        items[page->urls.count++] = queue_url_text(call, queue.name);
        last = queue.name;
    }
}

/* ---- the two actions ---- */

static const char *queues_page(struct sqs_call *call, struct page *page)
{
    const struct sqs_list_queues_input *input = call->input;
    *page = (struct page){.prefix = queue_key_here(call, input->prefix)};
    page->region = queue_key_region(queue_key_here(call, (struct slice){0}));
    return page_begin(call, &input->results_max, input->next_token, page);
}

static const char *sources_page(struct sqs_call *call, struct slice queue, struct page *page)
{
    const struct sqs_list_sources_input *input = call->input;
    *page = (struct page){.dead_letter = queue, .region = queue_key_region(queue)};
    page->prefix = queue_key(call, page->region, (struct slice){0});
    return page_begin(call, &input->results_max, input->next_token, page);
}

static bool is_wanted(void *data, const struct queue_view *view)
{
    const struct sqs_call *call = data;
    return belongs(call->state, view);
}

void list_look(struct sqs_call *call, struct shard_look *look)
{
    struct page *page = arena_alloc(&call->arena, sizeof *page);
    const char *wrong =
        call->action == SQS_ACTION_ListQueues
            ? queues_page(call, page)
            : sources_page(call, queue_key_of_url(call, sqs_first_member(call)), page);
    if (wrong != NULL)
        return;
    call->state = page;
    look->wanted = is_wanted;
    look->question.run_max = page->most + 1;
    look->question.after = page->after;
    look->question.prefix = page->prefix;
    look->question.dead_letter = page->dead_letter;
}

static void fail(struct sqs_call *call, const char *wrong)
{
    sqs_fail(call, (struct sqs_error){SQS_ERROR_INVALID_PARAMETER, wrong});
}

void handle_list_queues(struct sqs_call *call)
{
    struct page page;
    const char *wrong = queues_page(call, &page);
    if (wrong != NULL) {
        fail(call, wrong);
        return;
    }
    page_fill(call, &page);
    struct sqs_list_queues_result result = {page.urls, page.next_token};
    sqs_reply(call, &result);
}

void handle_list_dead_letter_source_queues(struct sqs_call *call)
{
    const struct sqs_list_sources_input *input = call->input;
    struct page page;
    struct queue_view queue;
    if (!sqs_queue(call, input->queue_url, &queue))
        return;
    const char *wrong = sources_page(call, queue.name, &page);
    if (wrong != NULL) {
        fail(call, wrong);
        return;
    }
    page_fill(call, &page);
    struct sqs_list_sources_result result = {page.urls, page.next_token};
    sqs_reply(call, &result);
}
