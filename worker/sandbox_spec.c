/* SPDX-License-Identifier: Apache-2.0 */
/* The launch order as bytes, because it crosses from the worker to the new process in a memory
 * file: the launcher in between never sees it, so that one function's environment variables are
 * never in the address space that another's process is forked from.
 *
 *     u32 flags (1 namespaces, 2 own uid), u32 uid, u32 tmp_mb, u32 processes_max,
 *     5 texts: root, task, runtime, group, group
 *     u32 count and that many texts: argv;  the same: envp
 * A text is a u32 length, which counts the NUL, and its bytes with the NUL. */
#include "worker/sandbox.h"

#include "proto/base/bytes.h"

enum { FLAG_NAMESPACES = 1, FLAG_OWN_UID = 2 };

static void add_text(struct buffer *out, const char *text)
{
    const char *safe = text != NULL ? text : "";
    size_t length = strlen(safe) + 1;
    buffer_add_u32(out, (uint32_t)length);
    buffer_add(out, safe, length);
}

static void add_words(struct buffer *out, const char *const *words)
{
    uint32_t count = 0;
    while (words[count] != NULL)
        count++;
    buffer_add_u32(out, count);
    for (uint32_t i = 0; i < count; i++)
        add_text(out, words[i]);
}

void sandbox_spec_encode(struct buffer *out, const struct sandbox_spec *spec)
{
    buffer_add_u32(out,
                   (spec->namespaces ? FLAG_NAMESPACES : 0u) | (spec->own_uid ? FLAG_OWN_UID : 0u));
    buffer_add_u32(out, spec->uid);
    buffer_add_u32(out, spec->tmp_mb);
    buffer_add_u32(out, spec->processes_max);
    add_text(out, spec->root_dir);
    add_text(out, spec->task_dir);
    add_text(out, spec->runtime_dir);
    add_text(out, spec->group_dirs[0]);
    add_text(out, spec->group_dirs[1]);
    add_words(out, spec->argv);
    add_words(out, spec->envp);
}

static const char *take_text(struct cursor *c)
{
    struct slice s = cursor_bytes(c);
    /* Exactly one NUL, at the end. */
    if (s.length == 0 || memchr(s.data, '\0', s.length) != s.data + s.length - 1) {
        c->bad = true;
        return "";
    }
    return (const char *)s.data;
}

static const char **take_words(struct cursor *c, struct arena *arena)
{
    uint32_t count = cursor_u32(c);
    if (count > SANDBOX_WORDS_MAX)
        c->bad = true;
    if (c->bad)
        count = 0;
    const char **words = arena_alloc(arena, (count + 1) * sizeof *words);
    for (uint32_t i = 0; i < count; i++)
        words[i] = take_text(c);
    return words;
}

enum status sandbox_spec_decode(struct slice in, struct arena *arena, struct sandbox_spec *spec)
{
    struct cursor c = cursor_of(in);
    uint32_t flags = cursor_u32(&c);
    spec->namespaces = (flags & FLAG_NAMESPACES) != 0;
    spec->own_uid = (flags & FLAG_OWN_UID) != 0;
    spec->uid = cursor_u32(&c);
    spec->tmp_mb = cursor_u32(&c);
    spec->processes_max = cursor_u32(&c);
    spec->root_dir = take_text(&c);
    spec->task_dir = take_text(&c);
    spec->runtime_dir = take_text(&c);
    spec->group_dirs[0] = take_text(&c);
    spec->group_dirs[1] = take_text(&c);
    spec->argv = take_words(&c, arena);
    spec->envp = take_words(&c, arena);
    /* Uid 0 must never come out of a damaged order. */
    bool valid = !c.bad && cursor_left(&c) == 0 && spec->argv[0] != NULL &&
                 (!spec->own_uid || spec->uid != 0);
    return valid ? STATUS_OK : STATUS_INVALID;
}
