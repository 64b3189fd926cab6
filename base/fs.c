/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"

static void close_p(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd); /* whoever needs the result calls close() */
    }
}

/* What was read may be a key: wiped where it is thrown away. */
static void wipe_buf_p(struct buf *b)
{
    mem_wipe(b->p, b->n);
    buf_done(b);
}

static enum err read_all(int fd, struct buf *into)
{
    for (;;) {
        /* One byte of room past the end of the file, so that its end is seen without growing. */
        uint8_t *p = buf_reserve(into, 1);
        if (p == NULL) {
            break;
        }
        ssize_t n = read(fd, p, into->cap - into->n);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_from_errno(errno);
        }
        if (n == 0) {
            return OK;
        }
        into->n += (size_t)n;
    }
    return buf_err(into);
}

enum err fs_read_fd(int fd, const char *name, struct buf *ret, struct err_info *info)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return err_set_errno(info, errno, "could not read \"%s\"", name);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(info, E_IO, "could not read \"%s\": not a regular file", name);
    }
    size_t max = MIN(ret->max, SIZE_MAX - 1);
    if (st.st_size < 0 || (uint64_t)st.st_size > max) {
        return err_set(info, E_TOO_LARGE, "could not read \"%s\": larger than %zu bytes", name,
                       max);
    }
    AUTO(wipe_buf_p) struct buf got = BUF_INIT(max + 1);
    enum err e = OK;
    /* All room at once: growing would leave copies behind. */
    if (buf_reserve(&got, (size_t)st.st_size + 1) == NULL) {
        e = buf_err(&got);
    } else {
        e = read_all(fd, &got);
    }
    if (e == E_TOO_LARGE || (e == OK && got.n > max)) {
        return err_set(info, E_TOO_LARGE, "could not read \"%s\": larger than %zu bytes", name,
                       max);
    }
    if (e != OK) {
        return err_set(info, e, "could not read \"%s\": %s", name, err_text(e));
    }
    got.max = ret->max;
    struct buf old = *ret;
    *ret = got;
    got = old;
    return OK;
}

enum err fs_read(const char *path, struct buf *ret, struct err_info *info)
{
    /* O_NONBLOCK: a pipe put in the file's place must not hold us up. */
    AUTO(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return err_set_errno(info, errno, "could not open \"%s\"", path);
    }
    return fs_read_fd(fd, path, ret, info);
}

static bool write_all(int fd, struct span s)
{
    while (s.n != 0) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        s = span_from(s, (size_t)n);
    }
    return true;
}

enum err fs_sync_dir(const char *path, struct err_info *info)
{
    AUTO(close_p) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        return err_set_errno(info, errno, "could not sync folder \"%s\"", path);
    }
    return OK;
}

/* Heap. Slashes at the end belong to the last name. */
static char *parent_of(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    while (n > 0 && path[n - 1] != '/') {
        n--;
    }
    return n == 0 ? span_dup(SPAN_LIT(".")) : span_dup(span_of(path, n == 1 ? 1 : n - 1));
}

static enum err sync_parent(const char *path, struct err_info *info)
{
    AUTO(mem_free_p) char *dir = parent_of(path);
    return dir != NULL ? fs_sync_dir(dir, info) : err_set(info, E_NOMEM, "out of memory");
}

enum err fs_check_parent(const char *path, struct err_info *info)
{
    AUTO(mem_free_p) char *dir = parent_of(path);
    struct stat st;
    if (dir == NULL) {
        return err_set(info, E_NOMEM, "out of memory");
    }
    if (stat(dir, &st) != 0) {
        return err_set_errno(info, errno, "could not look at folder \"%s\"", dir);
    }
    if (st.st_uid != geteuid() && st.st_uid != 0) {
        return err_set(info, E_PERM, "folder \"%s\" belongs to another user", dir);
    }
    if ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0) {
        return err_set(info, E_PERM,
                       "folder \"%s\" can be written by others, who could put theirs in place of "
                       "what is made there",
                       dir);
    }
    return OK;
}

/* Name beside path that nobody guesses: a leftover of a crash never stands in the way. */
static char *temp_name(const char *path)
{
    struct buf b = BUF_INIT(SIZE_MAX);
    uint64_t r;
    random_bytes(&r, sizeof(r));
    buf_addf(&b, "%s.tmp-%016llx", path, (unsigned long long)r);
    char *s = buf_take_str(&b);
    buf_done(&b);
    return s;
}

/* The content on disk under a name of its own. */
static enum err write_temp(const char *temp, struct span content, mode_t mode,
                           struct err_info *info)
{
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return err_set_errno(info, errno, "could not create \"%s\"", temp);
    }
    /* fchmod, because the mode given to open() is cut by the umask */
    bool ok = fchmod(fd, mode) == 0 && write_all(fd, content) && fsync(fd) == 0;
    int errnum = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        errnum = errno;
    }
    if (!ok) {
        (void)unlink(temp); /* the first failure is what matters */
        return err_set_errno(info, errnum, "could not write \"%s\"", temp);
    }
    return OK;
}

/* Puts the new file in place: the only step that a reader of path can see. */
typedef int (*place_fn)(const char *temp, const char *path);

static enum err write_and_place(const char *path, struct span content, mode_t mode, place_fn place,
                                struct err_info *info)
{
    AUTO(mem_free_p) char *temp = temp_name(path);
    if (temp == NULL) {
        return err_set(info, E_NOMEM, "could not write \"%s\": out of memory", path);
    }
    enum err e = write_temp(temp, content, mode, info);
    if (e != OK) {
        return e;
    }
    if (place(temp, path) != 0) {
        e = err_set_errno(info, errno, "could not put \"%s\" in place", path);
        (void)unlink(temp); /* the first failure is what matters */
        return e;
    }
    return sync_parent(path, info);
}

static int place_over(const char *temp, const char *path)
{
    return rename(temp, path);
}

static int place_new(const char *temp, const char *path)
{
    if (link(temp, path) != 0) {
        return -1;
    }
    (void)unlink(temp); /* path stands; a second name that stays is litter, not a failure */
    return 0;
}

enum err fs_write_atomic(const char *path, struct span content, mode_t mode, struct err_info *info)
{
    return write_and_place(path, content, mode, place_over, info);
}

enum err fs_create_atomic(const char *path, struct span content, mode_t mode, struct err_info *info)
{
    return write_and_place(path, content, mode, place_new, info);
}

enum err fs_private_dir(const char *path, struct err_info *info)
{
    if (mkdir(path, 0700) == 0) {
        return sync_parent(path, info);
    }
    if (errno != EEXIST) {
        return err_set_errno(info, errno, "could not create folder \"%s\"", path);
    }
    AUTO(close_p) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        return err_set_errno(info, errno, "could not open folder \"%s\"", path);
    }
    if (st.st_uid != geteuid()) {
        return err_set(info, E_PERM, "folder \"%s\" belongs to another user", path);
    }
    if ((st.st_mode & 077) != 0) {
        return err_set(info, E_PERM, "folder \"%s\" is open to others; chmod 0700 it", path);
    }
    return OK;
}

bool fs_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

char *fs_join(const char *dir, const char *name)
{
    struct span d = span_str(dir);
    struct buf b = BUF_INIT(SIZE_MAX);
    buf_add(&b, d);
    if (!span_ends(d, SPAN_LIT("/"))) {
        buf_add_u8(&b, '/');
    }
    buf_add_str(&b, name);
    char *s = buf_take_str(&b);
    buf_done(&b);
    return s;
}

enum err fs_lock_dir(const char *dir, int *ret_fd, struct err_info *info)
{
    AUTO(mem_free_p) char *path = fs_join(dir, "lock");
    if (path == NULL) {
        return err_set(info, E_NOMEM, "could not lock \"%s\": out of memory", dir);
    }
    AUTO(close_p) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return err_set_errno(info, errno, "could not open \"%s\"", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return err_set(info, E_IN_USE, "folder \"%s\" is used by another process", dir);
        }
        return err_set_errno(info, errno, "could not lock \"%s\"", path);
    }
    *ret_fd = fd;
    fd = -1;
    return OK;
}
