/* SPDX-License-Identifier: Apache-2.0 */
/* Names, addresses and ARNs of queues. Clients write a queue's address in many ways (the URL that
 * CreateQueue answered, one made by hand, one for another host after a move, the bare name); all of
 * them end in the name, and only the name counts. A name cannot hold a slash, so the broker's own
 * queues, whose names begin with one, cannot be reached from outside. */
#include "broker/api/sqs/queue_name.h"

bool sqs_name_valid(struct slice name)
{
    if (name.length == 0 || name.length > QUEUE_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.length; i++) {
        uint8_t c = name.data[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_';
        if (!good)
            return false;
    }
    return true;
}

bool account_id_valid(struct slice account)
{
    for (size_t i = 0; i < account.length; i++) {
        if (account.data[i] < '0' || account.data[i] > '9')
            return false;
    }
    return account.length == ACCOUNT_DIGITS;
}

bool queue_name_is_fifo(struct slice name)
{
    return name.length >= 5 && memcmp(name.data + name.length - 5, ".fifo", 5) == 0;
}

bool queue_name_valid(struct slice name)
{
    if (!queue_name_is_fifo(name))
        return sqs_name_valid(name);
    return name.length <= QUEUE_NAME_BYTES_MAX &&
           sqs_name_valid(slice_make(name.data, name.length - 5));
}

static struct slice after_last(struct slice text, char separator)
{
    const uint8_t *at = text.length > 0 ? memrchr(text.data, separator, text.length) : NULL;
    return at != NULL ? slice_sub(text, (size_t)(at - text.data) + 1) : text;
}

struct slice queue_name_of_url(struct slice url)
{
    if (url.length > 0 && url.data[url.length - 1] == '/')
        url.length--;
    struct slice name = after_last(url, '/');
    /* "http://host" has slashes, but no name. */
    bool only_host = name.length < url.length && name.length + 2 <= url.length &&
                     name.data[-1] == '/' && name.data[-2] == '/';
    return only_host ? (struct slice){0} : name;
}

bool region_valid(struct slice region)
{
    for (size_t i = 0; i < region.length; i++) {
        uint8_t c = region.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
            return false;
    }
    return region.length > 0 && region.length <= QUEUE_REGION_BYTES_MAX;
}

static struct slice next_segment(struct slice *path)
{
    if (path->length == 0 || path->data[0] != '/')
        return (struct slice){0};
    *path = slice_sub(*path, 1);
    ptrdiff_t end = slice_find(*path, '/');
    struct slice segment = slice_make(path->data, end >= 0 ? (size_t)end : path->length);
    *path = slice_sub(*path, segment.length);
    return segment;
}

static bool digits_only(struct slice text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    }
    return text.length > 0;
}

static bool at_end(struct slice path)
{
    return path.length == 0 || (path.length == 1 && path.data[0] == '/');
}

bool queue_path_match(struct slice path)
{
    struct slice account = next_segment(&path);
    struct slice name = next_segment(&path);
    if (slice_is(account, "queue")) {
        if (at_end(path)) /* /queue/NAME */
            return name.length > 0;
        account = next_segment(&path);
        name = next_segment(&path);
    }
    return digits_only(account) && name.length > 0 && at_end(path);
}

/* The host of "//HOST/…", without a port, and what follows it. */
static struct slice take_host(struct slice *url)
{
    const uint8_t *at = url->length > 2 ? memmem(url->data, url->length, "//", 2) : NULL;
    if (at == NULL)
        return (struct slice){0};
    struct slice host = slice_sub(*url, (size_t)(at - url->data) + 2);
    ptrdiff_t slash = slice_find(host, '/');
    *url = slash >= 0 ? slice_sub(host, (size_t)slash) : (struct slice){0};
    return slice_make(host.data, slash >= 0 ? (size_t)slash : host.length);
}

static struct slice take_label(struct slice *host)
{
    ptrdiff_t dot = slice_find(*host, '.');
    struct slice label = slice_make(host->data, dot >= 0 ? (size_t)dot : host->length);
    *host = dot >= 0 ? slice_sub(*host, (size_t)dot + 1) : (struct slice){0};
    return label;
}

struct slice queue_region_of_url(struct slice url)
{
    struct slice host = take_host(&url);
    struct slice first = take_label(&host);
    struct slice second = take_label(&host);
    struct slice region = {0};
    if (slice_is(first, "sqs") && host.length > 0)
        region = second;
    else if (slice_is(second, "queue") && host.length > 0)
        region = first;
    if (slice_starts_with(url, "/queue/") && queue_path_match(url)) {
        (void)next_segment(&url);
        struct slice segment = next_segment(&url);
        if (!at_end(url))
            region = segment;
    }
    return region_valid(region) ? region : (struct slice){0};
}

struct slice queue_name_of_arn(struct slice arn)
{
    if (!slice_starts_with(arn, "arn:aws:sqs:") && !slice_starts_with(arn, "arn:aws-cn:sqs:") &&
        !slice_starts_with(arn, "arn:aws-us-gov:sqs:"))
        return (struct slice){0};
    size_t colons = 0;
    for (size_t i = 0; i < arn.length; i++)
        colons += arn.data[i] == ':';
    struct slice name = after_last(arn, ':');
    return colons == 5 && queue_name_valid(name) ? name : (struct slice){0};
}

struct slice queue_region_of_arn(struct slice arn)
{
    for (int i = 0; i < 3; i++)
        arn = slice_sub(arn, (size_t)slice_find(arn, ':') + 1);
    return slice_make(arn.data, (size_t)slice_find(arn, ':'));
}

struct slice queue_key_name(struct slice key)
{
    return after_last(key, ':');
}

struct slice queue_key_region(struct slice key)
{
    ptrdiff_t colon = slice_find(key, ':');
    return colon >= 0 ? slice_make(key.data, (size_t)colon) : (struct slice){0};
}
