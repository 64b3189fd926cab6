/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --backup: the registry of a data folder as of one instant, while a server may be writing it. The copy says that it is one, and no server
 * takes it up before --restored: what was disabled, deleted or changed since then would be
 * back in force without anybody having been asked (threat C9).
 */
#include <errno.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "server/server_int.h"

enum err server_backup(struct server *s, const char *dir, struct err_info *info)
{
    const char *data_dir = server_base_conf(s)->data_dir;
    AUTO(mem_free_p) char *from = fs_join(data_dir, "registry.db");
    AUTO(mem_free_p) char *to = fs_join(dir, "registry.db");
    if (from == NULL || to == NULL) {
        return E_NOMEM;
    }
    if (!fs_exists(from)) {
        return err_set(info, E_CONFIG, "\"%s\" has no registry: nothing to back up", data_dir);
    }
    if (mkdir(dir, 0700) != 0) {
        return err_set_errno(info, errno, "cannot make folder \"%s\"", dir);
    }
    return store_backup_file(from, to, clock_wall_us(s->clock) / 1000000, info);
}

enum err server_backup_gate(struct server *s, const char *db_path, struct err_info *info)
{
    int64_t made_s = 0;
    char iso[TIME_ISO_SIZE];
    if (!fs_exists(db_path)) {
        return OK; /* --init */
    }
    enum err e = store_backup_gate(db_path, s->opt.restored, &made_s, info);
    if (e != OK || made_s == 0) {
        return e;
    }
    time_iso7(made_s * 1000000, iso);
    if (!s->opt.restored) {
        return err_set(info, E_CONFIG,
                       "\"%s\" is a backup of %s: what was disabled, deleted or changed since then "
                       "is in force again. Start it once with --restored, out of reach of the "
                       "network, and do those acts again: \"Restore\" in operations.md",
                       db_path, iso);
    }
    LOG_WARN("server.restored", L_STR("backup_of", iso));
    return OK;
}
