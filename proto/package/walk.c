/* SPDX-License-Identifier: Apache-2.0 */
/* The only reader of zips. Strangers write them, so nothing in them is believed:
 *
 * - The central directory is the list of entries (seekable reading). A zip without one is refused,
 *   rather than read in the way that streaming readers would.
 * - Sizes in headers are ignored. What comes out of the decompressor is counted, and the walk stops
 *   at the limit, so a bomb costs at most PACKAGE_UNPACKED_BYTES_MAX of work and 64 KiB of memory.
 * - Names are cleaned by path_clean() and then remembered, the folders that they imply too, so that
 *   an entry that would overwrite another, or use a file as a folder, is refused on every platform
 *   and not only where the file system says so. A hash is remembered instead of the name: memory is
 *   bounded by NAMES_MAX whatever the names are, and nobody finds two names of one SHA-256.
 * - Warnings of libarchive count as damage: they are checksums, sizes and lengths that disagree. */
#include "proto/package/walk.h"

#include "proto/base/arena.h"
#include "proto/base/assert.h"
#include "proto/base/encode.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <uthash.h>

#define PATH_BYTES_MAX 1024
#define PART_BYTES_MAX 255
#define PARTS_MAX      64
#define NAMES_MAX      (2 * PACKAGE_FILES_MAX)
#define KEY_BYTES      16
#define READ_BYTES     65536

struct name {
    uint8_t key[KEY_BYTES];
    bool is_folder;
    UT_hash_handle hh;
};

struct walk {
    struct archive *archive;
    const struct walk_sink *sink;
    void *data;
    struct package_facts *facts;
    const char **why;
    uint64_t entries;
    struct name *names;
    struct arena arena; /* of the names */
    char path[PATH_BYTES_MAX + 1];
    uint8_t read_buffer[READ_BYTES];
};

struct utf8_scope utf8_begin(void)
{
    struct utf8_scope scope = {.locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0)};
    if (scope.locale != (locale_t)0)
        scope.before = uselocale(scope.locale);
    return scope;
}

void utf8_end(struct utf8_scope *scope)
{
    if (scope->locale == (locale_t)0)
        return;
    uselocale(scope->before);
    freelocale(scope->locale);
    scope->locale = (locale_t)0;
}

static enum status refuse(struct walk *w, enum status status, const char *why)
{
    *w->why = why;
    return status;
}

/* Names. */

static const char *part_objection(const char *part, size_t length)
{
    if (length == 2 && part[0] == '.' && part[1] == '.')
        return "an entry's path contains \"..\"";
    if (length > PART_BYTES_MAX)
        return "an entry's name is too long";
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)part[i];
        if (c < 0x20 || c == 0x7f || c == '\\')
            return "an entry's name contains a control character or a backslash";
    }
    return NULL;
}

/* Write the clean form of `name` to w->path; returns what is wrong with it, or NULL. */
static const char *path_clean(struct walk *w, const char *name)
{
    size_t length = 0;
    unsigned parts = 0;
    if (name[0] == '/')
        return "an entry has an absolute path";
    while (*name != 0) {
        size_t part = strcspn(name, "/");
        bool skipped = part == 0 || (part == 1 && name[0] == '.');
        const char *objection = skipped ? NULL : part_objection(name, part);
        if (objection != NULL)
            return objection;
        if (!skipped) {
            if (length + 1 + part > PATH_BYTES_MAX || ++parts > PARTS_MAX)
                return "an entry's path is too long";
            if (length > 0)
                w->path[length++] = '/';
            memcpy(w->path + length, name, part);
            length += part;
        }
        name += part + (name[part] == '/');
    }
    w->path[length] = 0;
    return NULL;
}

/* Remember the first `length` bytes of w->path as a file or a folder. */
static enum status remember_one(struct walk *w, size_t length, bool is_folder)
{
    uint8_t digest[SHA256_BYTES];
    digest_sha256(slice_make(w->path, length), digest);
    struct name *name;
    HASH_FIND(hh, w->names, digest, KEY_BYTES, name);
    if (name != NULL && name->is_folder && is_folder)
        return STATUS_OK;
    if (name != NULL)
        return refuse(w, STATUS_INVALID, "two entries have the same name");
    if (HASH_COUNT(w->names) >= NAMES_MAX)
        return refuse(w, STATUS_TOO_LARGE, "the zip has too many folders");
    name = arena_alloc(&w->arena, sizeof *name);
    memcpy(name->key, digest, KEY_BYTES);
    name->is_folder = is_folder;
    HASH_ADD(hh, w->names, key, KEY_BYTES, name);
    return STATUS_OK;
}

static enum status remember(struct walk *w, bool is_folder)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && w->path[i] != 0; i++) {
        if (w->path[i] == '/')
            status = remember_one(w, i, true);
    }
    return status == STATUS_OK ? remember_one(w, strlen(w->path), is_folder) : status;
}

/* Entries. */

static enum status walk_data(struct walk *w)
{
    for (;;) {
        ssize_t got = archive_read_data(w->archive, w->read_buffer, READ_BYTES);
        if (got == 0)
            return STATUS_OK;
        if (got < 0)
            return refuse(w, STATUS_INVALID, "an entry is damaged or in an unsupported format");
        w->facts->unpacked_bytes += (uint64_t)got;
        if (w->facts->unpacked_bytes > PACKAGE_UNPACKED_BYTES_MAX)
            return refuse(w, STATUS_TOO_LARGE, "the unpacked files are larger than 250 MiB");
        enum status status =
            w->sink != NULL
                ? w->sink->file_data(w->data, slice_make(w->read_buffer, (size_t)got), w->why)
                : STATUS_OK;
        if (status != STATUS_OK)
            return status;
    }
}

static enum status walk_file(struct walk *w, bool executable)
{
    w->facts->files++;
    enum status status = STATUS_OK;
    if (w->sink != NULL)
        status = w->sink->file_begin(w->data, w->path, executable, w->why);
    if (status != STATUS_OK)
        return status;
    status = walk_data(w);
    if (w->sink == NULL)
        return status;
    const char *end_why = NULL;
    enum status end = w->sink->file_end(w->data, &end_why);
    if (status == STATUS_OK && end != STATUS_OK)
        return refuse(w, end, end_why);
    return status;
}

/* What is wrong with the entry itself, before its name is looked at. */
static const char *entry_objection(struct archive_entry *entry)
{
    mode_t type = archive_entry_filetype(entry);
    const char *name = archive_entry_pathname(entry);
    if (name == NULL || name[0] == 0)
        return "an entry has no usable name";
    if (archive_entry_is_encrypted(entry))
        return "an entry is encrypted";
    if (type == AE_IFLNK || archive_entry_hardlink(entry) != NULL)
        return "an entry is a link";
    if (type != AE_IFREG && type != AE_IFDIR)
        return "an entry is neither a file nor a folder";
    if (type == AE_IFREG && name[strlen(name) - 1] == '/')
        return "a file's name ends in \"/\"";
    return NULL;
}

static enum status walk_entry(struct walk *w, struct archive_entry *entry)
{
    if (++w->entries > PACKAGE_FILES_MAX)
        return refuse(w, STATUS_TOO_LARGE, "the zip has more than 100000 entries");
    const char *objection = entry_objection(entry);
    if (objection == NULL)
        objection = path_clean(w, archive_entry_pathname(entry));
    if (objection != NULL)
        return refuse(w, STATUS_INVALID, objection);
    bool is_folder = archive_entry_filetype(entry) == AE_IFDIR;
    if (w->path[0] == 0) /* "./" */
        return is_folder ? STATUS_OK : refuse(w, STATUS_INVALID, "an entry has no usable name");
    enum status status = remember(w, is_folder);
    if (status != STATUS_OK)
        return status;
    if (!is_folder)
        return walk_file(w, (archive_entry_perm(entry) & 0111) != 0);
    return w->sink != NULL ? w->sink->folder(w->data, w->path, w->why) : STATUS_OK;
}

static enum status walk_entries(struct walk *w)
{
    for (;;) {
        struct archive_entry *entry;
        int rc = archive_read_next_header(w->archive, &entry);
        if (rc == ARCHIVE_EOF)
            break;
        if (rc != ARCHIVE_OK)
            return refuse(w, STATUS_INVALID, "the zip is damaged");
        enum status status = walk_entry(w, entry);
        if (status != STATUS_OK)
            return status;
    }
    return w->facts->files > 0 ? STATUS_OK : refuse(w, STATUS_INVALID, "the zip contains no files");
}

enum status zip_walk(struct slice zip, const struct walk_sink *sink, void *data,
                     struct package_facts *facts, const char **why)
{
    struct utf8_scope scope = utf8_begin();
    struct walk *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    *facts = (struct package_facts){0};
    w->sink = sink;
    w->data = data;
    w->facts = facts;
    w->why = why;
    w->archive = archive_read_new();
    ASSERT(w->archive != NULL);
    enum status status;
    if (archive_read_support_format_zip_seekable(w->archive) == ARCHIVE_OK && zip.length > 0 &&
        archive_read_open_memory(w->archive, zip.data, zip.length) == ARCHIVE_OK)
        status = walk_entries(w);
    else
        status = refuse(w, STATUS_INVALID, "this is not a zip");
    archive_read_free(w->archive);
    HASH_CLEAR(hh, w->names);
    arena_free(&w->arena);
    free(w);
    utf8_end(&scope);
    return status;
}
