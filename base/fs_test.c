/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit.h"

static char dir[] = "/tmp/berth-fs-XXXXXX";

static int begin(void **state)
{
    (void)state;
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    return mkdtemp(dir) != NULL ? 0 : -1;
}

/* Removes the folder and what the tests put there; counts the entries. */
static unsigned count_entries(bool is_removing)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        n++;
        if (is_removing && unlinkat(dirfd(d), e->d_name, 0) != 0) {
            (void)unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
        }
    }
    closedir(d);
    return n;
}

static int end(void **state)
{
    (void)state;
    (void)count_entries(true);
    return rmdir(dir);
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void assert_content(const char *path, struct span want)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    assert_ok(fs_read(path, &b, NULL));
    assert_span(buf_span(&b), want);
}

static void test_write_replaces(void **state)
{
    (void)state;
    AUTO(mem_free_p) char *path = fs_join(dir, "f");
    mode_t old = umask(077); /* the mode holds whatever the umask says */
    assert_ok(fs_write_atomic(path, SPAN_LIT("one\0two"), 0644, NULL));
    (void)umask(0);
    assert_content(path, SPAN_LIT("one\0two"));
    assert_int_equal(mode_of(path), 0644);
    assert_ok(fs_write_atomic(path, SPAN_NONE, 0600, NULL));
    (void)umask(old);
    assert_content(path, SPAN_NONE);
    assert_int_equal(mode_of(path), 0600);
    assert_int_equal(count_entries(false), 1); /* no leftovers */
}

static void test_write_refusals(void **state)
{
    (void)state;
    struct err_info info = {0};
    AUTO(mem_free_p) char *missing = fs_join(dir, "no/f");
    assert_err(fs_write_atomic(missing, SPAN_LIT("x"), 0600, &info), E_NOT_FOUND);
    assert_non_null(strstr(info.why, missing));
    AUTO(mem_free_p) char *sub = fs_join(dir, "sub");
    assert_int_equal(mkdir(sub, 0700), 0);
    assert_int_not_equal(fs_write_atomic(sub, SPAN_LIT("x"), 0600, &info), OK);
    assert_int_equal(count_entries(false), 1); /* the file that found no place is gone */
}

static void test_create(void **state)
{
    (void)state;
    AUTO(mem_free_p) char *path = fs_join(dir, "f");
    assert_false(fs_exists(path));
    assert_ok(fs_create_atomic(path, SPAN_LIT("first"), 0400, NULL));
    assert_true(fs_exists(path));
    assert_int_equal(mode_of(path), 0400);
    assert_err(fs_create_atomic(path, SPAN_LIT("second"), 0600, NULL), E_EXISTS);
    assert_content(path, SPAN_LIT("first"));
    AUTO(mem_free_p) char *dangling = fs_join(dir, "dangling");
    assert_int_equal(symlink("nowhere", dangling), 0);
    assert_true(fs_exists(dangling));
    assert_err(fs_create_atomic(dangling, SPAN_LIT("x"), 0600, NULL), E_EXISTS);
    assert_int_equal(count_entries(false), 2);
}

static void test_read_limits(void **state)
{
    (void)state;
    AUTO(mem_free_p) char *path = fs_join(dir, "f");
    assert_ok(fs_write_atomic(path, SPAN_LIT("12345"), 0600, NULL));
    AUTO(buf_done) struct buf b = BUF_INIT(5);
    buf_add_str(&b, "old");
    assert_ok(fs_read(path, &b, NULL)); /* exactly full */
    assert_span(buf_span(&b), SPAN_LIT("12345"));
    assert_int_equal(b.max, 5);
    buf_add_u8(&b, 'x');
    assert_err(buf_err(&b), E_TOO_LARGE);
    AUTO(buf_done) struct buf small = BUF_INIT(4);
    buf_add_str(&small, "old");
    assert_err(fs_read(path, &small, NULL), E_TOO_LARGE); /* one past */
    assert_span(buf_span(&small), SPAN_LIT("old"));
    AUTO(buf_done) struct buf none = BUF_INIT(0);
    assert_err(fs_read(path, &none, NULL), E_TOO_LARGE);
    AUTO(buf_done) struct buf any = BUF_INIT(SIZE_MAX);
    assert_ok(fs_read(path, &any, NULL));
    assert_span(buf_span(&any), SPAN_LIT("12345"));
}

static void test_read_refusals(void **state)
{
    (void)state;
    struct err_info info = {0};
    AUTO(buf_done) struct buf b = BUF_INIT(100);
    AUTO(mem_free_p) char *path = fs_join(dir, "f");
    AUTO(mem_free_p) char *link_path = fs_join(dir, "l");
    AUTO(mem_free_p) char *fifo = fs_join(dir, "p");
    assert_err(fs_read(path, &b, &info), E_NOT_FOUND);
    assert_non_null(strstr(info.why, path));
    assert_ok(fs_write_atomic(path, SPAN_LIT("x"), 0600, NULL));
    assert_int_equal(symlink("f", link_path), 0);
    assert_err(fs_read(link_path, &b, NULL), E_PERM);
    assert_err(fs_read(dir, &b, NULL), E_IO);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_err(fs_read(fifo, &b, NULL), E_IO); /* and does not wait for a writer */
    assert_int_equal(b.n, 0);
}

static void test_private_dir(void **state)
{
    (void)state;
    AUTO(mem_free_p) char *sub = fs_join(dir, "sub");
    AUTO(mem_free_p) char *deep = fs_join(sub, "a/b");
    AUTO(mem_free_p) char *file = fs_join(dir, "f");
    AUTO(mem_free_p) char *link_path = fs_join(dir, "l");
    mode_t old = umask(0);
    assert_ok(fs_private_dir(sub, NULL));
    (void)umask(old);
    assert_int_equal(mode_of(sub), 0700);
    assert_ok(fs_private_dir(sub, NULL));
    assert_int_equal(chmod(sub, 0750), 0);
    assert_err(fs_private_dir(sub, NULL), E_PERM);
    assert_int_equal(chmod(sub, 0701), 0);
    assert_err(fs_private_dir(sub, NULL), E_PERM);
    assert_int_equal(chmod(sub, 0700), 0);
    assert_err(fs_private_dir(deep, NULL), E_NOT_FOUND);
    assert_ok(fs_write_atomic(file, SPAN_LIT("x"), 0600, NULL));
    assert_int_not_equal(fs_private_dir(file, NULL), OK);
    assert_int_equal(symlink("sub", link_path), 0);
    assert_int_not_equal(fs_private_dir(link_path, NULL), OK);
    if (geteuid() == 0) { /* only root can give a folder away */
        assert_int_equal(chown(sub, 65534, 65534), 0);
        assert_err(fs_private_dir(sub, NULL), E_PERM);
    }
}

static void test_lock(void **state)
{
    (void)state;
    int fd = -1;
    int other = -1;
    assert_ok(fs_lock_dir(dir, &fd, NULL));
    assert_true(fd >= 0);
    assert_err(fs_lock_dir(dir, &other, NULL), E_IN_USE);
    assert_int_equal(other, -1);
    close(fd);
    assert_ok(fs_lock_dir(dir, &other, NULL));
    close(other);
    AUTO(mem_free_p) char *no = fs_join(dir, "no");
    assert_err(fs_lock_dir(no, &other, NULL), E_NOT_FOUND);
}

static void test_join_sync(void **state)
{
    (void)state;
    static const struct {
        const char *dir, *name, *want;
    } rows[] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(mem_free_p) char *s = fs_join(rows[i].dir, rows[i].name);
        assert_string_equal(s, rows[i].want);
    }
    assert_ok(fs_sync_dir(dir, NULL));
    AUTO(mem_free_p) char *no = fs_join(dir, "no");
    assert_err(fs_sync_dir(no, NULL), E_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_replaces, begin, end),
        cmocka_unit_test_setup_teardown(test_write_refusals, begin, end),
        cmocka_unit_test_setup_teardown(test_create, begin, end),
        cmocka_unit_test_setup_teardown(test_read_limits, begin, end),
        cmocka_unit_test_setup_teardown(test_read_refusals, begin, end),
        cmocka_unit_test_setup_teardown(test_private_dir, begin, end),
        cmocka_unit_test_setup_teardown(test_lock, begin, end),
        cmocka_unit_test_setup_teardown(test_join_sync, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
