/* SPDX-License-Identifier: Apache-2.0 */
/* Every inode has two forms: `now`, which processes see, and `safe`, which a power failure cannot
 * take away, and the list of changes that lead from the one to the other. A sync carries the
 * changes out on `safe`; a power failure carries some of them out, and then `now` becomes `safe`.
 */
#include "tests/sim/cluster/vdisk.h"

#include "proto/base/assert.h"
#include "tests/sim/cluster/world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_BYTES 512u /* of damage */
#define NAMES_MAX    64
#define FILES_MAX    512

struct inode;

struct image {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

struct name {
    char text[VDISK_NAME_BYTES];
    struct inode *inode;
};

struct folder {
    struct name names[NAMES_MAX];
    size_t count;
};

enum change_kind { CHANGE_WRITE, CHANGE_SIZE, CHANGE_LINK, CHANGE_UNLINK };

struct change {
    struct change *next;
    enum change_kind kind;
    size_t offset; /* SIZE: the new one */
    size_t length;
    uint8_t *bytes;
    /* Of folders: */
    char from[VDISK_NAME_BYTES];
    char to[VDISK_NAME_BYTES];
    struct inode *inode;
    uint64_t order;      /* of all changes of folders */
    struct inode *other; /* the other folder of a rename; NULL: there is none */
};

struct inode {
    struct inode *next_of_all;
    bool is_folder;
    struct image now;
    struct image safe;
    struct folder *names_now;
    struct folder *names_safe;
    struct change *first;
    struct change *last;
    /* What the last sync that had something to do wrote: damage to it could not be told from a
     * write that was torn. */
    size_t last_from;
    size_t last_to;
    bool counted; /* in `used`: has a name */
};

struct vdisk {
    struct vdisk_settings settings;
    struct chance chance;
    struct inode *root;
    struct inode *inodes;
    struct inode *files[FILES_MAX]; /* by descriptor */
    uint64_t limit;
    uint64_t end_in;
    bool end_names; /* only operations on names count */
    enum vdisk_end end;
    uint64_t fail_in;
    bool broken;
    uint64_t orders;
};

/* ---- images and folders ---- */

static void image_resize(struct image *image, size_t size)
{
    if (size > image->capacity) {
        image->capacity = size < 2 * image->capacity ? 2 * image->capacity : size;
        image->data = realloc(image->data, image->capacity);
        ASSERT(image->data != NULL);
    }
    if (size > image->size)
        memset(image->data + image->size, 0, size - image->size);
    image->size = size;
}

static void image_write(struct image *image, size_t offset, const uint8_t *bytes, size_t length)
{
    if (offset + length > image->size)
        image_resize(image, offset + length);
    memcpy(image->data + offset, bytes, length);
}

static void image_copy(struct image *to, const struct image *from)
{
    to->size = 0;
    image_resize(to, from->size);
    if (from->size > 0)
        memcpy(to->data, from->data, from->size);
}

static struct name *folder_find(struct folder *folder, const char *text)
{
    for (size_t i = 0; i < folder->count; i++) {
        if (strcmp(folder->names[i].text, text) == 0)
            return &folder->names[i];
    }
    return NULL;
}

static void folder_remove(struct folder *folder, const char *text)
{
    struct name *name = folder_find(folder, text);
    if (name != NULL)
        *name = folder->names[--folder->count];
}

static void folder_put(struct folder *folder, const char *text, struct inode *inode)
{
    struct name *name = folder_find(folder, text);
    if (name == NULL) {
        ASSERT(folder->count < NAMES_MAX);
        name = &folder->names[folder->count++];
        snprintf(name->text, sizeof name->text, "%s", text);
    }
    name->inode = inode;
}

static void folder_change(struct folder *folder, const struct change *change)
{
    if (change->kind == CHANGE_LINK) {
        folder_put(folder, change->to, change->inode);
    } else if (change->kind == CHANGE_UNLINK) {
        folder_remove(folder, change->from);
    }
}

static struct inode *inode_new(struct vdisk *disk, bool is_folder)
{
    struct inode *inode = calloc(1, sizeof *inode);
    ASSERT(inode != NULL);
    inode->is_folder = is_folder;
    if (is_folder) {
        inode->names_now = calloc(1, sizeof *inode->names_now);
        inode->names_safe = calloc(1, sizeof *inode->names_safe);
        ASSERT(inode->names_now != NULL);
        ASSERT(inode->names_safe != NULL);
    }
    inode->next_of_all = disk->inodes;
    disk->inodes = inode;
    return inode;
}

struct vdisk *vdisk_new(struct chance chance, const struct vdisk_settings *settings)
{
    struct vdisk *disk = calloc(1, sizeof *disk);
    ASSERT(disk != NULL);
    disk->settings = *settings;
    disk->chance = chance;
    disk->limit = UINT64_MAX;
    disk->root = inode_new(disk, true);
    return disk;
}

struct vdisk_settings *vdisk_settings(struct vdisk *disk)
{
    return &disk->settings;
}

/* ---- changes ---- */

static struct change *change_add(struct inode *inode, enum change_kind kind)
{
    struct change *change = calloc(1, sizeof *change);
    ASSERT(change != NULL);
    change->kind = kind;
    if (inode->last != NULL)
        inode->last->next = change;
    else
        inode->first = change;
    inode->last = change;
    return change;
}

static void changes_drop(struct inode *inode)
{
    for (struct change *change; (change = inode->first) != NULL;) {
        inode->first = change->next;
        free(change->bytes);
        free(change);
    }
    inode->last = NULL;
}

static void note_last_write(struct inode *inode)
{
    size_t from = SIZE_MAX;
    size_t to = 0;
    for (struct change *change = inode->first; change != NULL; change = change->next) {
        if (change->kind != CHANGE_WRITE)
            continue;
        from = change->offset < from ? change->offset : from;
        to = change->offset + change->length > to ? change->offset + change->length : to;
    }
    if (from < to) {
        inode->last_from = from;
        inode->last_to = to;
    }
}

/* commit_folder: its changes up to one of them; with a rename goes its other half, and so what came
 * before that. */
static void commit_folder(struct inode *folder, uint64_t up_to)
{
    for (struct change *change; (change = folder->first) != NULL && change->order <= up_to;) {
        folder->first = change->next;
        folder->last = folder->first != NULL ? folder->last : NULL;
        folder_change(folder->names_safe, change);
        if (change->other != NULL)
            commit_folder(change->other, change->order);
        free(change);
    }
}

/* commit: everything that happened to the inode is safe now. */
static void commit(struct inode *inode)
{
    if (inode->is_folder) {
        commit_folder(inode, UINT64_MAX);
        return;
    }
    note_last_write(inode);
    for (struct change *change = inode->first; change != NULL; change = change->next) {
        if (change->kind == CHANGE_SIZE)
            image_resize(&inode->safe, change->offset);
        else
            image_write(&inode->safe, change->offset, change->bytes, change->length);
    }
    changes_drop(inode);
}

/* ---- the power fails ---- */

enum survival { SURVIVE_NOTHING, SURVIVE_ALL, SURVIVE_SOME };

static size_t surviving(struct vdisk *disk, enum survival how, size_t count)
{
    if (how == SURVIVE_NOTHING)
        return 0;
    return how == SURVIVE_ALL ? count : (size_t)chance_between(&disk->chance, 0, count);
}

/* lose_of_folders: what happened last is lost, in all of them alike. */
static void lose_of_folders(struct vdisk *disk, enum survival how)
{
    uint64_t first = UINT64_MAX;
    for (struct inode *inode = disk->inodes; inode != NULL; inode = inode->next_of_all) {
        if (inode->is_folder && inode->first != NULL && inode->first->order < first)
            first = inode->first->order;
    }
    if (first == UINT64_MAX)
        return;
    uint64_t up_to = first - 1 + surviving(disk, how, (size_t)(disk->orders - first + 1));
    for (struct inode *inode = disk->inodes; inode != NULL; inode = inode->next_of_all) {
        if (inode->is_folder)
            commit_folder(inode, up_to);
    }
    for (struct inode *inode = disk->inodes; inode != NULL; inode = inode->next_of_all) {
        if (!inode->is_folder)
            continue;
        *inode->names_now = *inode->names_safe;
        changes_drop(inode);
    }
}

/* tear: the sectors of a write below `end`, each by itself. */
static void tear(struct vdisk *disk, struct inode *inode, const struct change *change, size_t end,
                 enum survival how)
{
    for (size_t at = 0; at < change->length;) {
        size_t offset = change->offset + at;
        size_t sector = disk->settings.sector_bytes;
        size_t next = (offset / sector + 1) * sector - change->offset;
        size_t until = next < change->length ? next : change->length;
        bool lost = how == SURVIVE_NOTHING || (how == SURVIVE_SOME && chance_in(&disk->chance, 2));
        if (!lost && offset < end) {
            size_t length = change->offset + until > end ? end - offset : until - at;
            image_write(&inode->safe, offset, change->bytes + at, length);
        }
        at = until;
    }
}

static size_t sizes_in(const struct inode *inode)
{
    size_t count = 0;
    for (struct change *change = inode->first; change != NULL; change = change->next)
        count += change->kind == CHANGE_SIZE;
    return count;
}

/* lose_of_file: `mapped` is up to where blocks belong to the file for sure: a truncation that was
 * lost, or a growth, leaves what was written behind it nowhere. */
static void lose_of_file(struct vdisk *disk, struct inode *inode, enum survival how)
{
    size_t left = surviving(disk, how, sizes_in(inode));
    size_t mapped = inode->safe.size;
    for (struct change *change = inode->first; change != NULL; change = change->next) {
        if (change->kind == CHANGE_WRITE) {
            tear(disk, inode, change, mapped, how);
        } else if (left > 0) {
            left--;
            image_resize(&inode->safe, change->offset);
            mapped = change->offset;
        } else if (change->offset < mapped) {
            mapped = change->offset;
        }
    }
}

static enum survival choose(struct vdisk *disk)
{
    uint64_t how = chance_below(&disk->chance, 4);
    return how > SURVIVE_SOME ? SURVIVE_SOME : (enum survival)how;
}

static void lose_all(struct vdisk *disk)
{
    lose_of_folders(disk, choose(disk));
    for (struct inode *inode = disk->inodes; inode != NULL; inode = inode->next_of_all) {
        if (inode->is_folder || inode->first == NULL)
            continue;
        lose_of_file(disk, inode, choose(disk));
        image_copy(&inode->now, &inode->safe);
        changes_drop(inode);
    }
}

void vdisk_end(struct vdisk *disk, enum vdisk_end end)
{
    memset(disk->files, 0, sizeof disk->files);
    if (end == VDISK_END_POWER || disk->broken)
        lose_all(disk);
    disk->broken = false;
    disk->end_in = disk->fail_in = 0;
}

void vdisk_end_at(struct vdisk *disk, uint64_t operations, bool names, enum vdisk_end end)
{
    disk->end_in = operations;
    disk->end_names = names;
    disk->end = end;
}

void vdisk_fail_at(struct vdisk *disk, uint64_t operations)
{
    disk->fail_in = operations;
}

bool vdisk_broken(const struct vdisk *disk)
{
    return disk->broken;
}

void vdisk_limit(struct vdisk *disk, uint64_t bytes)
{
    disk->limit = bytes;
}

static uint64_t used_below(const struct inode *inode)
{
    uint64_t used = inode->now.size;
    for (size_t i = 0; inode->is_folder && i < inode->names_now->count; i++)
        used += used_below(inode->names_now->names[i].inode);
    return used;
}

uint64_t vdisk_used(const struct vdisk *disk)
{
    return used_below(disk->root);
}

void vdisk_wipe(struct vdisk *disk)
{
    memset(disk->files, 0, sizeof disk->files);
    disk->root = inode_new(disk, true); /* the old one is out of reach */
}

/* ---- damage ---- */

/* damageable: does this file have synced bytes that are not of its last write? */
static bool damageable(const struct inode *inode)
{
    return !inode->is_folder && inode->first == NULL && inode->safe.size >= 2 * SECTOR_BYTES &&
           (inode->last_from >= SECTOR_BYTES || inode->last_to + SECTOR_BYTES < inode->safe.size);
}

static size_t damage_at(struct vdisk *disk, const struct inode *inode, size_t length)
{
    for (int tries = 0; tries < 100; tries++) {
        size_t at = (size_t)chance_below(&disk->chance, inode->safe.size - length);
        if (at + length <= inode->last_from || at >= inode->last_to)
            return at;
    }
    return SIZE_MAX;
}

static void damage_file(struct vdisk *disk, struct inode *inode, const char *name, char what[128])
{
    bool flip = chance_in(&disk->chance, 2);
    size_t length = flip ? 1 : SECTOR_BYTES;
    size_t at = damage_at(disk, inode, length);
    size_t from = damage_at(disk, inode, length);
    if (at == SIZE_MAX || from == SIZE_MAX)
        return;
    if (flip)
        inode->safe.data[at] ^= (uint8_t)(1u << chance_below(&disk->chance, 8));
    else
        memmove(inode->safe.data + at, inode->safe.data + from, length);
    image_copy(&inode->now, &inode->safe);
    snprintf(what, 128, "%s of %s at %zu", flip ? "a bit" : "a sector", name, at);
}

static bool damage_below(struct vdisk *disk, struct inode *folder, uint64_t *n, char what[128])
{
    for (size_t i = 0; i < folder->names_now->count; i++) {
        struct name *name = &folder->names_now->names[i];
        if (name->inode->is_folder) {
            if (damage_below(disk, name->inode, n, what))
                return true;
        } else if (damageable(name->inode) && (*n)-- == 0) {
            damage_file(disk, name->inode, name->text, what);
            return true;
        }
    }
    return false;
}

bool vdisk_damage(struct vdisk *disk, char what[128])
{
    uint64_t n = chance_below(&disk->chance, 6);
    what[0] = '\0';
    bool found = damage_below(disk, disk->root, &n, what);
    return found && what[0] != '\0';
}

/* ---- operations ---- */

static void spend(struct vdisk *disk, uint32_t about_us)
{
    uint64_t us = chance_between(&disk->chance, about_us / 2, about_us * 2 + 1);
    if (chance_below(&disk->chance, 1000) < disk->settings.slow_permille)
        us *= 100;
    sim_spend(us * 1000);
}

/* step: one operation that changes something; perhaps the last of this node. */
static void step_of(struct vdisk *disk, uint32_t about_us, bool name)
{
    spend(disk, about_us);
    if (disk->end_names && !name)
        return;
    if (disk->end_in > 0 && --disk->end_in == 0)
        sim_end_node(disk->end);
}

static void step(struct vdisk *disk, uint32_t about_us)
{
    step_of(disk, about_us, false);
}

static void step_name(struct vdisk *disk)
{
    step_of(disk, disk->settings.write_us, true);
}

/* fails: the error of a write or sync, or 0. */
static int fails(struct vdisk *disk)
{
    if (disk->fail_in == 0 || --disk->fail_in > 0)
        return 0;
    disk->broken = true;
    return -EIO;
}

static struct inode *inode_of(struct vdisk *disk, int fd)
{
    int slot = fd - VDISK_FD_BASE;
    return slot >= 0 && slot < FILES_MAX ? disk->files[slot] : NULL;
}

/* Paths are at most two names deep here: "/folder/name" from the root, or a name in a folder. */
static struct inode *walk(struct vdisk *disk, int folder_fd, const char *path,
                          char last[VDISK_NAME_BYTES])
{
    struct inode *folder = path[0] == '/' ? disk->root : inode_of(disk, folder_fd);
    while (*path == '/')
        path++;
    for (const char *slash; folder != NULL && (slash = strchr(path, '/')) != NULL;) {
        char name[VDISK_NAME_BYTES];
        snprintf(name, sizeof name, "%.*s", (int)(slash - path), path);
        struct name *found = folder->is_folder ? folder_find(folder->names_now, name) : NULL;
        folder = found != NULL ? found->inode : NULL;
        path = slash + 1;
    }
    snprintf(last, VDISK_NAME_BYTES, "%s", path);
    return folder != NULL && folder->is_folder ? folder : NULL;
}

static int open_inode(struct vdisk *disk, struct inode *inode)
{
    for (int slot = 0; slot < FILES_MAX; slot++) {
        if (disk->files[slot] == NULL) {
            disk->files[slot] = inode;
            return VDISK_FD_BASE + slot;
        }
    }
    return -EMFILE;
}

static struct change *change_folder(struct inode *folder, enum change_kind kind, uint64_t order)
{
    struct change *change = change_add(folder, kind);
    change->order = order;
    return change;
}

static void link_inode(struct vdisk *disk, struct inode *folder, const char *name,
                       struct inode *inode)
{
    struct change *change = change_folder(folder, CHANGE_LINK, ++disk->orders);
    snprintf(change->to, sizeof change->to, "%s", name);
    change->inode = inode;
    folder_change(folder->names_now, change);
}

static void resize(struct inode *inode, size_t size)
{
    if (size == inode->now.size)
        return;
    change_add(inode, CHANGE_SIZE)->offset = size;
    image_resize(&inode->now, size);
}

int vdisk_open(struct vdisk *disk, int folder_fd, const char *name, int flags)
{
    char last[VDISK_NAME_BYTES];
    struct inode *folder = walk(disk, folder_fd, name, last);
    if (folder == NULL)
        return -ENOENT;
    struct name *found = folder_find(folder->names_now, last);
    bool itself = strcmp(last, ".") == 0 || last[0] == '\0';
    struct inode *inode = itself ? folder : found != NULL ? found->inode : NULL;
    if (inode == NULL && (flags & O_CREAT) == 0)
        return -ENOENT;
    if (inode != NULL && (flags & O_DIRECTORY) != 0 && !inode->is_folder)
        return -ENOTDIR;
    if (inode == NULL) {
        step_name(disk);
        inode = inode_new(disk, false);
        link_inode(disk, folder, last, inode);
    }
    if ((flags & O_TRUNC) != 0 && inode->now.size > 0) {
        step(disk, disk->settings.write_us);
        resize(inode, 0);
    }
    return open_inode(disk, inode);
}

int vdisk_close(struct vdisk *disk, int fd)
{
    if (inode_of(disk, fd) == NULL)
        return -EBADF;
    disk->files[fd - VDISK_FD_BASE] = NULL;
    return 0;
}

ssize_t vdisk_read(struct vdisk *disk, int fd, const struct iovec *parts, int count, off_t offset)
{
    struct inode *inode = inode_of(disk, fd);
    size_t at = (size_t)offset;
    if (inode == NULL || inode->is_folder)
        return -EBADF;
    spend(disk, disk->settings.write_us);
    for (int i = 0; i < count && at < inode->now.size; i++) {
        size_t left = inode->now.size - at;
        size_t length = parts[i].iov_len < left ? parts[i].iov_len : left;
        memcpy(parts[i].iov_base, inode->now.data + at, length);
        at += length;
    }
    return (ssize_t)(at - (size_t)offset);
}

static size_t total_of(const struct iovec *parts, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    return total;
}

/* put: one write, as far as `length`. */
static void put(struct inode *inode, const struct iovec *parts, int count, size_t offset,
                size_t length)
{
    if (offset + length > inode->now.size)
        resize(inode, offset + length);
    struct change *change = change_add(inode, CHANGE_WRITE);
    change->offset = offset;
    change->length = length;
    change->bytes = malloc(length);
    ASSERT(change->bytes != NULL);
    size_t done = 0;
    for (int i = 0; i < count && done < length; i++) {
        size_t part = parts[i].iov_len < length - done ? parts[i].iov_len : length - done;
        if (part > 0)
            memcpy(change->bytes + done, parts[i].iov_base, part);
        done += part;
    }
    image_write(&inode->now, offset, change->bytes, length);
}

/* Either order is right for a crash at a write: before it, or with its bytes in the kernel. */
ssize_t vdisk_write(struct vdisk *disk, int fd, const struct iovec *parts, int count, off_t offset)
{
    struct inode *inode = inode_of(disk, fd);
    size_t length = total_of(parts, count);
    if (inode == NULL || inode->is_folder || length == 0)
        return -EBADF;
    size_t end = (size_t)offset + length;
    if (end > inode->now.size && vdisk_used(disk) + (end - inode->now.size) > disk->limit)
        return -ENOSPC;
    int error = fails(disk);
    if (error != 0)
        return error;
    if (length > 1 && chance_in(&disk->chance, 50))
        length = (size_t)chance_between(&disk->chance, 1, length - 1); /* a short write */
    if (chance_in(&disk->chance, 2)) {
        step(disk, disk->settings.write_us);
        put(inode, parts, count, (size_t)offset, length);
    } else {
        put(inode, parts, count, (size_t)offset, length);
        step(disk, disk->settings.write_us);
    }
    return (ssize_t)length;
}

static bool is_skipped(const struct vdisk *disk, const struct inode *inode)
{
    return inode->is_folder ? disk->settings.skip_folder_sync : disk->settings.skip_data_sync;
}

int vdisk_sync(struct vdisk *disk, int fd)
{
    struct inode *inode = inode_of(disk, fd);
    if (inode == NULL)
        return -EBADF;
    int error = fails(disk);
    if (error != 0)
        return error;
    bool before = chance_in(&disk->chance, 2);
    if (before)
        step(disk, disk->settings.sync_us);
    if (!is_skipped(disk, inode))
        commit(inode);
    if (!disk->settings.strict && !disk->settings.skip_folder_sync) {
        for (struct inode *other = disk->inodes; other != NULL; other = other->next_of_all) {
            if (other->is_folder)
                commit(other);
        }
    }
    if (!before)
        step(disk, disk->settings.sync_us);
    return 0;
}

int vdisk_truncate(struct vdisk *disk, int fd, off_t bytes)
{
    struct inode *inode = inode_of(disk, fd);
    if (inode == NULL || inode->is_folder)
        return -EBADF;
    step(disk, disk->settings.write_us);
    resize(inode, (size_t)bytes);
    return 0;
}

int vdisk_allocate(struct vdisk *disk, int fd, off_t offset, off_t bytes)
{
    struct inode *inode = inode_of(disk, fd);
    size_t end = (size_t)(offset + bytes);
    if (inode == NULL || inode->is_folder)
        return -EBADF;
    size_t more = end > inode->now.size ? end - inode->now.size : 0;
    if (vdisk_used(disk) + more > disk->limit)
        return -ENOSPC;
    step(disk, disk->settings.write_us);
    if (more > 0)
        resize(inode, end);
    return 0;
}

static void unlink_inode(struct inode *folder, const char *name, uint64_t order)
{
    struct change *change = change_folder(folder, CHANGE_UNLINK, order);
    snprintf(change->from, sizeof change->from, "%s", name);
    folder_change(folder->names_now, change);
}

int vdisk_rename(struct vdisk *disk, int from_fd, const char *from, int to_fd, const char *to)
{
    struct inode *source = inode_of(disk, from_fd);
    struct inode *target = inode_of(disk, to_fd);
    struct name *name = source != NULL ? folder_find(source->names_now, from) : NULL;
    if (name == NULL || target == NULL || !target->is_folder)
        return -ENOENT;
    struct inode *inode = name->inode;
    bool before = chance_in(&disk->chance, 2);
    if (before)
        step_name(disk);
    uint64_t order = ++disk->orders;
    unlink_inode(source, from, order);
    link_inode(disk, target, to, inode);
    disk->orders = order; /* both halves are one change */
    target->last->order = order;
    if (source != target) {
        source->last->other = target;
        target->last->other = source;
    }
    if (!before)
        step_name(disk);
    return 0;
}

int vdisk_unlink(struct vdisk *disk, int folder_fd, const char *name, bool is_folder)
{
    struct inode *folder = inode_of(disk, folder_fd);
    struct name *found = folder != NULL ? folder_find(folder->names_now, name) : NULL;
    if (found == NULL)
        return -ENOENT;
    if (found->inode->is_folder != is_folder)
        return is_folder ? -ENOTDIR : -EISDIR;
    if (is_folder && found->inode->names_now->count > 0)
        return -ENOTEMPTY;
    step_name(disk);
    unlink_inode(folder, name, ++disk->orders);
    return 0;
}

int vdisk_make_folder(struct vdisk *disk, int folder_fd, const char *name)
{
    char last[VDISK_NAME_BYTES];
    struct inode *folder = walk(disk, folder_fd, name, last);
    if (folder == NULL)
        return -ENOENT;
    if (folder_find(folder->names_now, last) != NULL)
        return -EEXIST;
    step_name(disk);
    link_inode(disk, folder, last, inode_new(disk, true));
    return 0;
}

ssize_t vdisk_size(struct vdisk *disk, int fd, bool *folder)
{
    struct inode *inode = inode_of(disk, fd);
    if (inode == NULL)
        return -EBADF;
    *folder = inode->is_folder;
    return (ssize_t)inode->now.size;
}

const char *vdisk_name(struct vdisk *disk, int fd, size_t n)
{
    struct inode *inode = inode_of(disk, fd);
    return inode != NULL && inode->is_folder && n < inode->names_now->count
               ? inode->names_now->names[n].text
               : NULL;
}

int vdisk_space(struct vdisk *disk, uint64_t *free_bytes)
{
    uint64_t used = vdisk_used(disk);
    *free_bytes = used < disk->limit ? disk->limit - used : 0;
    return 0;
}
