/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files done safely: bounded reads, atomic durable replacement, private folders.
 * Every write here is: new file beside the target (O_EXCL, mode given), write, fsync, rename, fsync
 * of the folder. A reader sees the old content or the new, never a mixture, also after power loss.
 * Threads     any. Blocks: never call on a loop thread.
 */
#ifndef BASE_FS_H
#define BASE_FS_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Whole regular file, at most ret->max bytes (E_TOO_LARGE); replaces what ret held. O_NOFOLLOW on the
 * last component. */
MUST_USE enum err fs_read(const char *path, struct buf *ret, struct err_info *info);
/* Same for an open descriptor, from its position on; name is for messages. */
MUST_USE enum err fs_read_fd(int fd, const char *name, struct buf *ret, struct err_info *info);
MUST_USE enum err fs_write_atomic(const char *path, struct span content, mode_t mode,
                                  struct err_info *info);
/* Same, but E_EXISTS when path exists (link instead of rename). */
MUST_USE enum err fs_create_atomic(const char *path, struct span content, mode_t mode,
                                   struct err_info *info);
/* mkdir 0700 if absent; E_PERM when it exists and belongs to another user or is open to others. */
MUST_USE enum err fs_private_dir(const char *path, struct err_info *info);
MUST_USE enum err fs_sync_dir(const char *path, struct err_info *info);
/* May what stands at path be replaced by other users of the machine? E_PERM when its folder is another user's (but root's), or is written
 * by everybody and not sticky as /tmp is: then no name in it can be relied on. */
MUST_USE enum err fs_check_parent(const char *path, struct err_info *info);
bool fs_exists(const char *path);
/* "dir/name" on the heap, NULL when memory is short. */
char *fs_join(const char *dir, const char *name);
/* Exclusive lock on `dir/lock`, held while the descriptor is open; E_IN_USE. */
MUST_USE enum err fs_lock_dir(const char *dir, int *ret_fd, struct err_info *info);

#endif
