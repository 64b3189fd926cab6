/* SPDX-License-Identifier: Apache-2.0 */
#include "store/failvfs.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/cdefs.h"

/* Read by every thread that does I/O, set by the test. */
static _Atomic int plan_which, plan_code, plan_wait, plan_times, plan_failed;

static sqlite3_vfs vfs;
static sqlite3_vfs *real_vfs;

/* SQLite gives the room: this, then the file of the real VFS. */
struct file {
    sqlite3_file base;
    sqlite3_file *real;
    int flags;
};

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct file *)(void *)f)->real;
}

/* 0, or the code that the call must fail with. */
static int verdict(const sqlite3_file *f, int kind)
{
    int which = atomic_load(&plan_which);
    bool is_db = (((const struct file *)(const void *)f)->flags & SQLITE_OPEN_MAIN_DB) != 0;

    if ((which & kind) == 0 || ((which & FAIL_DB_ONLY) != 0 && !is_db) ||
        atomic_fetch_sub(&plan_wait, 1) > 1) {
        return SQLITE_OK;
    }
    if (atomic_fetch_sub(&plan_times, 1) <= 0) {
        return SQLITE_OK;
    }
    atomic_fetch_add(&plan_failed, 1);
    return atomic_load(&plan_code);
}

static int f_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    return real_of(f)->pMethods->xRead(real_of(f), p, n, at);
}

static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    int rc = verdict(f, FAIL_WRITE);

    if (rc != SQLITE_OK) {
        return rc;
    }
    if ((rc = verdict(f, FAIL_TORN)) != SQLITE_OK) {
        (void)real_of(f)->pMethods->xWrite(real_of(f), p, n / 2, at);
        return rc;
    }
    rc = real_of(f)->pMethods->xWrite(real_of(f), p, n, at);
    return rc != SQLITE_OK ? rc : verdict(f, FAIL_LATE);
}

static int f_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    int rc = verdict(f, FAIL_TRUNCATE);

    return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int f_sync(sqlite3_file *f, int flags)
{
    int rc = verdict(f, FAIL_SYNC);

    return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int f_size(sqlite3_file *f, sqlite3_int64 *ret)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), ret);
}

static int f_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int f_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int f_check_lock(sqlite3_file *f, int *ret)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), ret);
}

static int f_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int f_sector(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int f_traits(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int f_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **ret)
{
    return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, ret);
}

static int f_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    return real_of(f)->pMethods->xShmLock(real_of(f), at, n, flags);
}

static void f_shm_barrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int f_shm_unmap(sqlite3_file *f, int remove)
{
    return real_of(f)->pMethods->xShmUnmap(real_of(f), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_check_lock,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_traits,
    .xShmMap = f_shm_map,
    .xShmLock = f_shm_lock,
    .xShmBarrier = f_shm_barrier,
    .xShmUnmap = f_shm_unmap,
};

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
    struct file *file = (struct file *)(void *)f;
    int rc;

    (void)v;
    f->pMethods = NULL;
    file->flags = flags;
    rc = verdict(f, FAIL_OPEN);
    if (rc != SQLITE_OK) {
        return rc;
    }
    file->real = (sqlite3_file *)(void *)(file + 1);
    rc = real_vfs->xOpen(real_vfs, name, file->real, flags, ret_flags);
    if (file->real->pMethods != NULL) {
        f->pMethods = &methods;
    }
    return rc;
}

void failvfs_setup(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    ASSERT(real_vfs != NULL);
    vfs = *real_vfs;
    vfs.pNext = NULL;
    vfs.zName = FAILVFS_NAME;
    vfs.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
    vfs.xOpen = v_open;
    ASSERT(sqlite3_vfs_register(&vfs, 0) == SQLITE_OK);
}

void failvfs_arm(int which, int code, int nth, int times)
{
    atomic_store(&plan_which, 0);
    atomic_store(&plan_failed, 0);
    atomic_store(&plan_code, code);
    atomic_store(&plan_wait, nth);
    atomic_store(&plan_times, times);
    atomic_store(&plan_which, which);
}

int failvfs_disarm(void)
{
    atomic_store(&plan_which, 0);
    return atomic_load(&plan_failed);
}
