/* SPDX-License-Identifier: Apache-2.0 */
/* What a single option's type cannot say, before anything is opened. */
#include "broker/members.h"
#include "broker/node.h"
#include "broker/page_options.h"
#include "broker/signatures.h"
#include "broker/tls.h"
#include "proto/base/arena.h"

#include <stdio.h>
#include <string.h>

static bool text_of(const char *text, const char *allowed, size_t shortest, size_t longest)
{
    size_t length = strlen(text);
    return length >= shortest && length <= longest && strspn(text, allowed) == length;
}

/* One of the two lists. `self`: this node must be (or must not be) in it. */
static const char *list_check(const struct node_options *options, const char *option,
                              const char *list, bool self)
{
    static char sentence[256];
    struct arena arena = {0};
    struct member members[MEMBERS_MAX];
    size_t count;
    const char *error = members_parse(list, &arena, members, &count);
    bool named = error == NULL && members_find(members, count, options->node_id) != NULL;
    if (error == NULL && named != self)
        error = self ? "does not contain this node's --node-id" : "names this node itself";
    if (error != NULL)
        snprintf(sentence, sizeof sentence, "%s %s", option, error);
    arena_free(&arena);
    return error != NULL ? sentence : NULL;
}

static const char *cluster_check(const struct node_options *options)
{
    if (options->cluster != NULL && options->join != NULL)
        return "--cluster founds a new cluster and --join adds to an old one: give one of them";
    if (options->cluster != NULL)
        return list_check(options, "--cluster", options->cluster, true);
    return options->join != NULL ? list_check(options, "--join", options->join, false) : NULL;
}

static bool url_valid(const char *url)
{
    struct slice text = slice_of(url);
    size_t scheme = slice_starts_with(text, "https://")  ? 8
                    : slice_starts_with(text, "http://") ? 7
                                                         : 0;
    return scheme > 0 && text.length > scheme && text.length < 256 &&
           strpbrk(url + scheme, "/?# \"") == NULL;
}

const char *node_options_check(const struct node_options *options)
{
    const char *wrong = signatures_check(options);
    if (wrong == NULL)
        wrong = page_options_check(options);
    if (wrong != NULL)
        return wrong;
    if (!text_of(options->account_id, "0123456789", 12, 12))
        return "--account-id must be 12 digits";
    if (!text_of(options->region, "abcdefghijklmnopqrstuvwxyz0123456789-", 1, 32))
        return "--region must be 1 to 32 of a-z, 0-9 and '-'";
    if (options->public_url != NULL && !url_valid(options->public_url))
        return "--public-url must look like https://host or https://host:port";
    if (strcmp(options->aws_cooldowns, "on") != 0 && strcmp(options->aws_cooldowns, "off") != 0)
        return "--aws-cooldowns must be on or off";
    if (strcmp(options->regions, "same") != 0 && strcmp(options->regions, "separate") != 0)
        return "--regions must be same or separate";
    if (options->data_dir[0] == '\0')
        return "--data-dir must not be empty";
    const char *error = node_tls_check(options);
    return error != NULL ? error : cluster_check(options);
}
