/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that hold keys, read. E_PERM when the file is open to others, or writable by its group;
 * E_NOT_FOUND when there is none.
 * Ownership   ret is the caller's to wipe.
 * Threads     any. Blocks.
 */
#ifndef CERTS_PRIVATE_FILE_H
#define CERTS_PRIVATE_FILE_H

#include "base/buf.h"

MUST_USE enum err private_file_read(const char *path, struct buf *ret, struct err_info *info);

#endif
