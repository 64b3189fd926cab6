/* SPDX-License-Identifier: Apache-2.0 */
#include "store/fileio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int sys_open(const char *path, int flags, mode_t mode)
{
    return open(path, flags, mode);
}

static int sys_allocate(int fd, off_t at, off_t n)
{
    return fallocate(fd, 0, at, n);
}

static int sys_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);
    int saved = errno;

    fileio_close(&fd);
    errno = saved;
    return rc;
}

const struct fileio *fileio_system(void)
{
    static const struct fileio sys = {
        .open = sys_open,
        .pread = pread,
        .pwrite = pwrite,
        .fdatasync = fdatasync,
        .ftruncate = ftruncate,
        .allocate = sys_allocate,
        .rename = rename,
        .sync_dir = sys_sync_dir,
    };

    return &sys;
}

enum err fileio_write(const struct fileio *io, int fd, struct span s, uint64_t at)
{
    while (s.n != 0) {
        ssize_t n = io->pwrite(fd, s.p, s.n, (off_t)at);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? E_IO : err_from_errno(errno);
        }
        s = span_from(s, (size_t)n);
        at += (uint64_t)n;
    }
    return OK;
}

enum err fileio_read(const struct fileio *io, int fd, void *p, size_t n, uint64_t at)
{
    uint8_t *to = p;

    while (n != 0) {
        ssize_t got = io->pread(fd, to, n, (off_t)at);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got == 0 ? E_TRUNCATED : err_from_errno(errno);
        }
        to += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return OK;
}

enum err fileio_size(int fd, uint64_t *ret)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        return err_from_errno(errno);
    }
    *ret = (uint64_t)st.st_size;
    return OK;
}

void fileio_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd); /* what had to be on disk was synced before */
        *fd = -1;
    }
}
