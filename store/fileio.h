/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file calls that the telemetry log is written and read with, as a struct of functions, so that tests can
 * let each of them fail. Private to store/ and its tests.
 *
 * Each has the meaning and the errno of the system call of its name; NULL in a configuration: the system's.
 * Threads     any.
 */
#ifndef STORE_FILEIO_H
#define STORE_FILEIO_H

#include <sys/types.h>

#include "base/err.h"
#include "base/span.h"

struct fileio {
    int (*open)(const char *path, int flags, mode_t mode);
    ssize_t (*pread)(int fd, void *p, size_t n, off_t at);
    ssize_t (*pwrite)(int fd, const void *p, size_t n, off_t at);
    int (*fdatasync)(int fd);
    int (*ftruncate)(int fd, off_t size);
    int (*allocate)(int fd, off_t at, off_t n); /* fallocate of mode 0: the file grows by zeros */
    int (*rename)(const char *from, const char *to);
    int (*sync_dir)(const char *path); /* fsync of a folder */
};
const struct fileio *fileio_system(void);

/* All of it, however often the system wants to be asked. */
MUST_USE enum err fileio_write(const struct fileio *io, int fd, struct span s, uint64_t at);
/* Exactly n bytes; E_TRUNCATED when the file ends before. */
MUST_USE enum err fileio_read(const struct fileio *io, int fd, void *p, size_t n, uint64_t at);
MUST_USE enum err fileio_size(int fd, uint64_t *ret);
/* close, for a descriptor in *fd that may be -1; for AUTO too. */
void fileio_close(int *fd);

#endif
