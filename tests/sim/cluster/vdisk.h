/* SPDX-License-Identifier: Apache-2.0 */
/* The disk of one simulated node: files and folders in memory, each as processes see it and as it
 * would be found after a power failure. It outlives the node's process.
 *
 *   - A write, a change of size, and a change of a folder is only seen by processes until that file
 *     or folder is synced.
 *   - When the process ends, nothing is lost: the kernel has it.
 *   - When the power fails, what was not synced is lost, whole, in part, or not at all: of each
 *     file, changes of size survive up to one of them, and of the writes each sector of 512 bytes
 * by itself (unless the size or a lost truncation takes it away); of the changes of folders those
 *     survive that came before one of them.
 *   - Half of the disks are strict: a sync makes durable what it names and nothing more. The others
 *     commit all changes of folders with it, as a journal does.
 *
 * Functions give 0 or more, or a negative errno. They take simulated time (sim_spend), and may not
 * return at all: a node can be set to crash at its nth operation. thread: the only one. */
#ifndef TESTS_SIM_CLUSTER_VDISK_H
#define TESTS_SIM_CLUSTER_VDISK_H

#include "tests/sim/cluster/chance.h"

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#define VDISK_NAME_BYTES 64
#define VDISK_FD_BASE    (1 << 20) /* the kernel gives no such descriptors */

struct vdisk;

/* Why a disk stops its node in the middle of an operation. */
enum vdisk_end { VDISK_END_KILL, VDISK_END_POWER };

struct vdisk_settings {
    bool strict;
    uint32_t sector_bytes; /* what is written whole or not at all */
    uint32_t write_us;     /* about; each operation differs */
    uint32_t sync_us;
    uint32_t slow_permille; /* of operations take a hundred times as long */
    /* What test of the tests is under way: */
    bool skip_data_sync;   /* syncs of files do nothing */
    bool skip_folder_sync; /* syncs of folders do nothing */
};

struct vdisk *vdisk_new(struct chance chance, const struct vdisk_settings *settings);
struct vdisk_settings *vdisk_settings(struct vdisk *disk);

/* vdisk_end: the process, or the whole machine, has come to its end. */
void vdisk_end(struct vdisk *disk, enum vdisk_end end);

/* vdisk_end_at: end the node at the nth operation from now on (0: never); names: of those that
 * make, change or remove a name. vdisk_fail_at: let the nth write or sync fail with EIO. */
void vdisk_end_at(struct vdisk *disk, uint64_t operations, bool names, enum vdisk_end end);
void vdisk_fail_at(struct vdisk *disk, uint64_t operations);
/* vdisk_broken: a write or sync has failed, and what the kernel has is not to be trusted. */
bool vdisk_broken(const struct vdisk *disk);

/* vdisk_limit: there is room for so many bytes (UINT64_MAX: any number). */
void vdisk_limit(struct vdisk *disk, uint64_t bytes);
uint64_t vdisk_used(const struct vdisk *disk);

/* vdisk_damage: what is synced and not the last write to its file changes: a bit flips, or a write
 * of the past turns out to have gone to another place. False: there was nothing to damage. *what
 * tells the tale. */
bool vdisk_damage(struct vdisk *disk, char what[128]);

/* vdisk_wipe: an empty disk. No process may run. */
void vdisk_wipe(struct vdisk *disk);

/* ---- as the system calls, with paths below one folder ---- */

int vdisk_open(struct vdisk *disk, int folder_fd, const char *name, int flags);
int vdisk_close(struct vdisk *disk, int fd);
ssize_t vdisk_read(struct vdisk *disk, int fd, const struct iovec *parts, int count, off_t offset);
ssize_t vdisk_write(struct vdisk *disk, int fd, const struct iovec *parts, int count, off_t offset);
int vdisk_sync(struct vdisk *disk, int fd);
int vdisk_truncate(struct vdisk *disk, int fd, off_t bytes);
int vdisk_allocate(struct vdisk *disk, int fd, off_t offset, off_t bytes);
int vdisk_rename(struct vdisk *disk, int from_fd, const char *from, int to_fd, const char *to);
int vdisk_unlink(struct vdisk *disk, int folder_fd, const char *name, bool is_folder);
int vdisk_make_folder(struct vdisk *disk, int folder_fd, const char *name);
/* vdisk_size: of a file; *folder tells whether it is one. */
ssize_t vdisk_size(struct vdisk *disk, int fd, bool *folder);
/* vdisk_name: the nth name in a folder, or NULL. */
const char *vdisk_name(struct vdisk *disk, int fd, size_t n);
int vdisk_space(struct vdisk *disk, uint64_t *free_bytes);

#endif
