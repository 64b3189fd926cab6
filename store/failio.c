/* SPDX-License-Identifier: Apache-2.0 */
#include "store/failio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Read by every thread that does I/O, set by the test. */
static _Atomic int plan_which, plan_errno, plan_wait, plan_times, plan_failed;
/* Where the last write of the writer's thread began: what a sync may lose. */
static _Atomic off_t unsynced_at, unsynced_end;
/* A torn write said how much it wrote: the next write is the one that fails. */
static _Atomic bool is_torn;

static bool must_fail(int kind)
{
    if ((atomic_load(&plan_which) & kind) == 0 || atomic_fetch_sub(&plan_wait, 1) > 1 ||
        atomic_fetch_sub(&plan_times, 1) <= 0) {
        return false;
    }
    atomic_fetch_add(&plan_failed, 1);
    errno = atomic_load(&plan_errno);
    return true;
}

static int f_open(const char *path, int flags, mode_t mode)
{
    if ((flags & O_CREAT) != 0 && must_fail(FAILIO_OPEN)) {
        return -1;
    }
    return fileio_system()->open(path, flags, mode);
}

static ssize_t f_read(int fd, void *p, size_t n, off_t at)
{
    return must_fail(FAILIO_READ) ? -1 : pread(fd, p, n, at);
}

static ssize_t f_write(int fd, const void *p, size_t n, off_t at)
{
    if (atomic_exchange(&is_torn, false)) {
        errno = atomic_load(&plan_errno);
        return -1;
    }
    if (must_fail(FAILIO_WRITE)) {
        return -1;
    }
    if (n > 1 && must_fail(FAILIO_TORN)) {
        atomic_store(&is_torn, true);
        n /= 2;
    }
    if (atomic_load(&unsynced_end) == 0) {
        atomic_store(&unsynced_at, at);
    }
    atomic_store(&unsynced_end, at + (off_t)n);
    return pwrite(fd, p, n, at);
}

static int f_sync(int fd)
{
    off_t at = atomic_load(&unsynced_at), end = atomic_exchange(&unsynced_end, 0);

    if (must_fail(FAILIO_LOST)) {
        int saved = errno;
        for (; at < end; at++) {
            (void)!pwrite(fd, "", 1, at); /* a zero, as a page that never reached the disk reads */
        }
        errno = saved;
        return -1;
    }
    return must_fail(FAILIO_SYNC) ? -1 : fdatasync(fd);
}

static int f_truncate(int fd, off_t size)
{
    return must_fail(FAILIO_TRUNCATE) ? -1 : ftruncate(fd, size);
}

static int f_allocate(int fd, off_t at, off_t n)
{
    return must_fail(FAILIO_ALLOCATE) ? -1 : fileio_system()->allocate(fd, at, n);
}

static int f_rename(const char *from, const char *to)
{
    return must_fail(FAILIO_RENAME) ? -1 : rename(from, to);
}

static int f_sync_dir(const char *path)
{
    return must_fail(FAILIO_SYNC_DIR) ? -1 : fileio_system()->sync_dir(path);
}

const struct fileio *failio(void)
{
    static const struct fileio io = {
        .open = f_open,
        .pread = f_read,
        .pwrite = f_write,
        .fdatasync = f_sync,
        .ftruncate = f_truncate,
        .allocate = f_allocate,
        .rename = f_rename,
        .sync_dir = f_sync_dir,
    };

    return &io;
}

void failio_arm(int which, int errnum, int nth, int times)
{
    atomic_store(&plan_which, 0);
    atomic_store(&is_torn, false);
    atomic_store(&unsynced_end, 0);
    atomic_store(&plan_failed, 0);
    atomic_store(&plan_errno, errnum);
    atomic_store(&plan_wait, nth);
    atomic_store(&plan_times, times);
    atomic_store(&plan_which, which);
}

int failio_disarm(void)
{
    atomic_store(&plan_which, 0);
    atomic_store(&is_torn, false);
    return atomic_load(&plan_failed);
}
