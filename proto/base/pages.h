/* SPDX-License-Identifier: Apache-2.0 */
/* Large pieces of memory, in huge pages where the system has them: quicker to reach at random, and
 * a fork() of a process that holds gigabytes copies a few page tables instead of all. thread: any.
 */
#ifndef PROTO_BASE_PAGES_H
#define PROTO_BASE_PAGES_H

#include <stddef.h>

#define PAGES_UNIT ((size_t)2 << 20)

/* pages_take: `bytes` of zeros, a multiple of PAGES_UNIT; takes memory as it is touched. Aborts if
 * there is none. pages_give: back to the system, with the same size. */
void *pages_take(size_t bytes);
void pages_give(void *pages, size_t bytes);

#endif
