/* SPDX-License-Identifier: Apache-2.0 */
/* Policies in the IAM JSON language: what a key may do (identity policies) and who may use a queue
 * (resource policies). One parser and one evaluator serve both.
 *
 * The rules are those of "IAM JSON policy reference" and "Policy evaluation logic" in the AWS
 * documentation; docs/security.md lists what is understood. What is not understood is refused when
 * the policy is set, never skipped. thread: any; a parsed policy never changes. */
#ifndef BROKER_AUTH_POLICY_H
#define BROKER_AUTH_POLICY_H

#include "broker/auth/pattern.h"
#include "proto/base/status.h"

#define POLICY_BYTES_MAX 20480

enum policy_kind {
    POLICY_IDENTITY, /* of a key: has Resource, no Principal */
    POLICY_RESOURCE  /* of a queue: has Principal */
};

struct policy;

/* policy_parse: INVALID, and *why a sentence in static storage. */
MUST_CHECK enum status policy_parse(struct policy **out, struct slice json, enum policy_kind kind,
                                    const char **why);
void policy_free(struct policy *policy);

struct policy_request {
    struct slice account;       /* of who asks, 12 digits; absent: nobody known */
    struct slice principal_arn; /* absent likewise */
    struct slice action;        /* "sqs:SendMessage" */
    struct slice resource;      /* ARN */
    struct policy_values values;
};

/* What one policy says, the strongest last. */
enum policy_effect {
    POLICY_SILENT,
    POLICY_ALLOWS_ACCOUNT, /* the account of who asks, which must allow it too */
    POLICY_ALLOWS,
    POLICY_DENIES
};
enum policy_effect policy_evaluate(const struct policy *policy,
                                   const struct policy_request *request);

#endif
