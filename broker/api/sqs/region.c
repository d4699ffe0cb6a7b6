/* SPDX-License-Identifier: Apache-2.0 */
/* Regions. A request says its region in the scope of its signature,
 *
 *     Credential=KEY/DATE/REGION/sqs/aws4_request
 *
 * in the header Authorization, or as X-Amz-Credential in the query, where a slash reads %2F. The
 * queues of the node's own region keep their bare names in the core, whatever --regions says, so
 * that nothing moves when it is changed; those of others are "REGION:NAME", which no name can be.
 */
#include "broker/api/sqs/region.h"

#include "broker/api/sqs/queue_name.h"

#include <strings.h>

static bool separate(struct sqs_call *call)
{
    return api_config(call->api)->regions_separate;
}

/* Cut `text` after the next slash, in either spelling. False: there is none. */
static bool skip_slash(struct slice *text, size_t *before)
{
    for (size_t i = 0; i < text->length; i++) {
        bool encoded =
            text->length - i >= 3 && strncasecmp((const char *)text->data + i, "%2f", 3) == 0;
        if (text->data[i] != '/' && !encoded)
            continue;
        *before = i;
        *text = slice_sub(*text, i + (encoded ? 3 : 1));
        return true;
    }
    return false;
}

/* The third part of the scope after `mark`. */
static struct slice scope_region(struct slice text, const char *mark)
{
    const uint8_t *at = text.length > 0 ? memmem(text.data, text.length, mark, strlen(mark)) : NULL;
    if (at == NULL)
        return (struct slice){0};
    struct slice rest = slice_sub(text, (size_t)(at - text.data) + strlen(mark));
    size_t length = 0;
    if (!skip_slash(&rest, &length) || !skip_slash(&rest, &length))
        return (struct slice){0};
    const uint8_t *region = rest.data;
    if (!skip_slash(&rest, &length))
        return (struct slice){0};
    return slice_make(region, length);
}

struct slice region_of_request(struct sqs_call *call, const struct http_request *request)
{
    if (!separate(call))
        return (struct slice){0};
    struct slice region = scope_region(http_header(request, "Authorization"), "Credential=");
    if (region.length == 0)
        region = scope_region(request->query, "X-Amz-Credential=");
    return region_valid(region) ? arena_copy(&call->arena, region) : (struct slice){0};
}

struct slice queue_key(struct sqs_call *call, struct slice region, struct slice name)
{
    if (!separate(call) || region.length == 0 || slice_is(region, api_config(call->api)->region))
        return name;
    return slice_of(arena_printf(&call->arena, "%.*s:%.*s", SLICE_ARGS(region), SLICE_ARGS(name)));
}

struct slice queue_key_here(struct sqs_call *call, struct slice name)
{
    return queue_key(call, call->region, name);
}

struct slice queue_key_of_url(struct sqs_call *call, struct slice url)
{
    if (!separate(call))
        return queue_name_of_url(url);
    struct slice region = queue_region_of_url(url);
    return queue_key(call, region.length > 0 ? region : call->region, queue_name_of_url(url));
}

struct slice queue_key_of_arn(struct sqs_call *call, struct slice arn)
{
    struct slice name = queue_name_of_arn(arn);
    return name.length > 0 ? queue_key(call, queue_region_of_arn(arn), name) : name;
}
