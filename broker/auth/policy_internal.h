/* SPDX-License-Identifier: Apache-2.0 */
/* A parsed policy. Private to policy_parse.c, which makes it, and policy.c, which asks it. */
#ifndef BROKER_AUTH_POLICY_INTERNAL_H
#define BROKER_AUTH_POLICY_INTERNAL_H

#include "broker/auth/condition.h"
#include "broker/auth/policy.h"

#define ACCOUNT_DIGITS 12

enum principal_kind {
    PRINCIPAL_ANYONE,
    PRINCIPAL_ACCOUNT, /* text: its digits */
    PRINCIPAL_ARN,
    PRINCIPAL_OTHER /* a service and the like: nobody who can call here */
};
struct principal {
    enum principal_kind kind;
    struct slice text;
};

struct pattern_list {
    struct pattern *items;
    size_t count;
};

struct statement {
    bool denies;
    bool not_principals;
    bool not_actions;
    bool not_resources;
    struct principal *principals; /* of resource policies */
    size_t principal_count;
    struct pattern_list actions;
    struct pattern_list resources; /* empty: whatever the policy is attached to */
    struct condition *conditions;
    size_t condition_count;
};

/* All of it is in the arena. */
struct policy {
    struct arena arena;
    struct statement *statements;
    size_t count;
};

#endif
