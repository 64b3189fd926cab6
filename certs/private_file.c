/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/private_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

static enum err check_mode(int fd, const char *path, struct err_info *info)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return err_set_errno(info, errno, "could not read \"%s\"", path);
    }
    /* A service manager that hands keys over shows its access list as group read. */
    if ((st.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
        return err_set(info, E_PERM, "\"%s\" is open to others; chmod 0600 it", path);
    }
    return OK;
}

enum err private_file_read(const char *path, struct buf *ret, struct err_info *info)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return err_set_errno(info, errno, "could not open \"%s\"", path);
    }
    enum err e = check_mode(fd, path, info);
    if (e == OK) {
        e = fs_read_fd(fd, path, ret, info);
    }
    (void)close(fd); /* read only: nothing to lose */
    return e;
}
