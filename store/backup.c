/* SPDX-License-Identifier: Apache-2.0 */
#include "store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "store/lite.h"
#include "store/store.h"

static enum err vacuum_into(const char *from, const char *vfs, const char *tmp,
                            struct err_info *info)
{
    sqlite3 *h = NULL;
    sqlite3_stmt *st = NULL;
    enum err e = lite_open(from, vfs, LITE_READER, &h, info);
    int rc;

    if (e != OK) {
        return e;
    }
    /* The connection is read-only all the same; query_only would forbid to write the copy. */
    if ((e = lite_exec(h, "PRAGMA query_only=OFF", info)) == OK &&
        (e = lite_prepare(h, "VACUUM INTO ?1", &st, info)) == OK) {
        if ((rc = sqlite3_bind_text(st, 1, tmp, -1, SQLITE_STATIC)) != SQLITE_OK ||
            (rc = sqlite3_step(st)) != SQLITE_DONE) {
            e = lite_fail(h, rc, tmp, info);
        }
        (void)sqlite3_finalize(st); /* repeats the error of the step */
    }
    lite_close(h);
    return e;
}

/* --- the mark of a copy -------------------------------------------------------------------------- */

static enum err set_mark(const char *path, int64_t made_s, struct err_info *info)
{
    char sql[96];
    sqlite3 *h = NULL;
    enum err e = lite_open(path, NULL, LITE_OFFLINE, &h, info);
    if (e != OK) {
        return e;
    }
    (void)snprintf(sql, sizeof(sql),
                   "INSERT OR REPLACE INTO store_meta(key, value) VALUES('backup', %lld)",
                   (long long)made_s);
    e = lite_exec(h, sql, info);
    lite_close(h);
    return e;
}

static enum err read_mark(const char *path, int64_t *ret, struct err_info *info)
{
    sqlite3 *h = NULL;
    int64_t has_meta = 0;
    enum err e = lite_open(path, NULL, LITE_READER, &h, info);
    if (e != OK) {
        return e;
    }
    e = lite_get_i64(h, "SELECT count(*) FROM sqlite_master WHERE name = 'store_meta'", 0,
                     &has_meta, info);
    if (e == OK && has_meta != 0) {
        e = lite_get_i64(h, "SELECT value FROM store_meta WHERE key = 'backup'", 0, ret, info);
    }
    lite_close(h);
    return e == OK ? OK : err_wrap(info, e, "\"%s\"", path);
}

enum err store_backup_gate(const char *path, bool confirm, int64_t *ret_made_s,
                           struct err_info *info)
{
    sqlite3 *h = NULL;
    int64_t made_s = 0;
    enum err e = read_mark(path, &made_s, info);
    if (e == OK && made_s != 0 && confirm &&
        (e = lite_open(path, NULL, LITE_OFFLINE, &h, info)) == OK) {
        e = lite_exec(h, "DELETE FROM store_meta WHERE key = 'backup'", info);
        lite_close(h);
    }
    if (e == OK) {
        *ret_made_s = made_s;
    }
    return e;
}

/* --- the copy --------------------------------------------------------------------------------------- */

/* SQLite does not sync what VACUUM INTO writes. */
static enum err sync_file(const char *path, struct err_info *info)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    int rc = fd < 0 ? -1 : fsync(fd);
    int saved = errno;

    if (fd >= 0) {
        (void)!close(fd); /* synced, or already failed */
    }
    errno = saved;
    return rc == 0 ? OK
                   : err_set(info, err_from_errno(errno), "cannot sync \"%s\": %s", path,
                             strerror(errno));
}

static enum err put_in_place(const char *tmp, const char *path, struct err_info *info)
{
    if (link(tmp, path) != 0) { /* unlike rename it replaces nothing */
        return err_set(info, err_from_errno(errno), "cannot make \"%s\": %s", path,
                       strerror(errno));
    }
    return lite_sync_parent(path, info);
}

enum err backup_file(const char *from, const char *vfs, const char *path, int64_t made_s,
                     struct err_info *info)
{
    char tmp[PATH_MAX];
    int n = snprintf(tmp, sizeof(tmp), "%s.tmp", path);
    enum err e;

    if (n < 0 || (size_t)n >= sizeof(tmp)) {
        return err_set(info, E_ARG, "path of the backup is too long");
    }
    if (fs_exists(path)) {
        return err_set(info, E_EXISTS, "\"%s\" exists", path);
    }
    lite_unlink(tmp); /* of a backup that was interrupted */
    if ((e = lite_create_file(tmp, info)) == OK && (e = vacuum_into(from, vfs, tmp, info)) == OK &&
        (made_s == 0 || (e = set_mark(tmp, made_s, info)) == OK) &&
        (e = sync_file(tmp, info)) == OK) {
        e = put_in_place(tmp, path, info);
    }
    lite_unlink(tmp);
    return e;
}

enum err store_backup_file(const char *from, const char *to, int64_t made_s, struct err_info *info)
{
    return backup_file(from, NULL, to, made_s, info);
}
