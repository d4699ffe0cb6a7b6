/* SPDX-License-Identifier: Apache-2.0 */
/* Removing and measuring folders, by fts(3). A function without namespaces may have filled its
 * private folder with anything, so no link is ever followed, and folders that it made unreadable
 * are made readable first (that matters only where the worker is not root). */
#include "worker/file_tree.h"

#include <errno.h>
#include <fts.h>
#include <sys/stat.h>
#include <unistd.h>

enum status file_tree_remove(const char *path)
{
    char *const roots[] = {(char *)path, NULL};
    enum status status = STATUS_OK;
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    if (tree == NULL)
        return status_from_errno(errno);
    for (FTSENT *entry; (entry = fts_read(tree)) != NULL;) {
        int rc = 0;
        if (entry->fts_info == FTS_D)
            (void)!chmod(entry->fts_accpath, 0700);
        else if (entry->fts_info == FTS_DP || entry->fts_info == FTS_DNR)
            rc = rmdir(entry->fts_accpath);
        else
            rc = unlink(entry->fts_accpath);
        if (rc != 0 && errno != ENOENT)
            status = status_from_errno(errno);
    }
    fts_close(tree);
    return status;
}

uint64_t file_tree_bytes(const char *path)
{
    char *const roots[] = {(char *)path, NULL};
    uint64_t bytes = 0;
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    if (tree == NULL)
        return 0;
    for (FTSENT *entry; (entry = fts_read(tree)) != NULL;)
        if (entry->fts_info == FTS_F && entry->fts_statp->st_size > 0)
            bytes += (uint64_t)entry->fts_statp->st_size;
    fts_close(tree);
    return bytes;
}
