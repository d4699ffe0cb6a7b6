/* SPDX-License-Identifier: Apache-2.0 */
/* Checks what a core answers against what SQS promises, without knowing what it should answer:
 * FIFO order and blocking, deduplication, leases that end early, receive counts that go back.
 * It sees commands and results only, and shares nothing with the model. */
#ifndef TESTS_SIM_CHECKER_H
#define TESTS_SIM_CHECKER_H

#include "broker/core/core.h"

struct checker;

struct checker *checker_new(void);
void checker_free(struct checker *checker);

/* checker_see: one command at `now_ms` and its result; NULL, or which promise was broken. `body`:
 * where the bytes of a SEND are. */
const char *checker_see(struct checker *checker, const struct command *command,
                        struct body_ref body, const struct core_result *result, uint64_t now_ms);

#endif
