/* SPDX-License-Identifier: Apache-2.0 */
#include "store/fixture.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit.h"

char *fixture_dir(void)
{
    const char *tmp = getenv("TMPDIR");
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/store-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(path));
    return span_dup(span_str(path));
}

void fixture_dir_done(char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;

    assert_non_null(d);
    while ((entry = readdir(d)) != NULL) {
        if (entry->d_name[0] != '.') {
            (void)!unlinkat(dirfd(d), entry->d_name, 0); /* rmdir below tells */
        }
    }
    (void)closedir(d);
    assert_int_equal(rmdir(dir), 0);
    free(dir);
}

void fixture_wait(struct mailbox *mb, const size_t *done, size_t n)
{
    while (*done < n) {
        struct pollfd p = {.fd = mailbox_fd(mb), .events = POLLIN};

        assert_true(poll(&p, 1, 60000) > 0);
        (void)mailbox_run(mb); /* how many: *done tells */
    }
}

static int64_t wall(void *arg)
{
    struct fixture_clock *c = arg;

    return atomic_load(&c->wall_us);
}

static uint64_t mono(void *arg)
{
    struct fixture_clock *c = arg;

    return atomic_load(&c->mono_ms);
}

void fixture_clock_init(struct fixture_clock *c, int64_t wall_us)
{
    c->clock = (struct clock){wall, mono, c};
    atomic_init(&c->wall_us, wall_us);
    atomic_init(&c->mono_ms, 1000);
}

bool fixture_free(void *arg, const char *dir, uint64_t *ret)
{
    const _Atomic uint64_t *n = arg;

    (void)dir;
    *ret = atomic_load(n);
    return true;
}
