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

bool queue_path_match(struct slice path)
{
    struct slice first = next_segment(&path);
    if (slice_is(first, "queue")) {
        (void)next_segment(&path); /* the region */
        first = next_segment(&path);
    }
    struct slice name = next_segment(&path);
    bool ends = path.length == 0 || (path.length == 1 && path.data[0] == '/');
    return digits_only(first) && name.length > 0 && ends;
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
