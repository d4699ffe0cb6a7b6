/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions that stay on in release builds. ASSERT is for programmer errors only: bad input and
 * failing disks are handled, never asserted. ASSERT_SLOW is for checks too dear for production. */
#ifndef PROTO_BASE_ASSERT_H
#define PROTO_BASE_ASSERT_H

#include <stdbool.h>

/* assert_failed: print where and what to stderr, then abort. thread: any. */
__attribute__((noreturn, cold)) void assert_failed(const char *file, int line, const char *expr);

#define ASSERT(expr)                                                                               \
    do {                                                                                           \
        if (__builtin_expect(!(expr), 0))                                                          \
            assert_failed(__FILE__, __LINE__, #expr);                                              \
    } while (0)

#ifdef MILLRACE_SLOW_CHECKS
#define ASSERT_SLOW(expr) ASSERT(expr)
#else
#define ASSERT_SLOW(expr)                                                                          \
    do {                                                                                           \
        (void)sizeof(expr);                                                                        \
    } while (0)
#endif

/* CONTAINER_OF: the object of `type` whose `member` is at `ptr`. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ARRAY_COUNT(a)                  (sizeof(a) / sizeof((a)[0]))

#endif
