/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies a database that is in use. Private to store/.
 *
 * The copy is one instant of the original, of mode 0600, and stands at its path only when it is
 * whole and on disk. It holds one read transaction for as long as it takes, so the WAL of the
 * original grows meanwhile.
 * Errors      E_EXISTS when path is taken.
 * Threads     any that may block for as long as it takes to write the file.
 */
#ifndef STORE_BACKUP_H
#define STORE_BACKUP_H

#include "base/err.h"

/* made_s: when, kept in the copy for store_backup_gate; 0: not kept. */
MUST_USE enum err backup_file(const char *from, const char *vfs, const char *path, int64_t made_s,
                              struct err_info *info);

#endif
