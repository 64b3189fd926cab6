/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cdefs.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/list.h"
#include "tests/unit.h"

struct thing {
    uint32_t magic;
    struct list link;
};

static void test_memory(void **state)
{
    (void)state;
    unsigned char *p = mem_new(100);
    assert_non_null(p);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(p[i], 0);
    }
    mem_free_p(&p);
    assert_null(p);
    mem_free_p(&p);
    AUTO(mem_free_p) void *none = mem_new(0);
    assert_non_null(none);
}

static void test_take(void **state)
{
    (void)state;
    AUTO(mem_free_p) char *p = mem_new(1);
    char *q = TAKE(p);
    assert_null(p);
    assert_non_null(q);
    free(q);
}

static void fail_assert(void *arg)
{
    ASSERT(arg != NULL);
}

static void fail_magic(void *arg)
{
    struct thing *t = CAST_MAGIC(struct thing, arg, 7);
    (void)t;
}

/* The signal that ends a child which runs f; its last words go to fd. */
static int signal_of(void (*f)(void *), void *arg, int fd)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL); /* not the test framework's */
        (void)dup2(fd, STDERR_FILENO);
        f(arg);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_assert_ends_the_process(void **state)
{
    (void)state;
    struct thing good = {.magic = 7};
    struct thing freed = {.magic = 0};
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(signal_of(fail_assert, &good, fd[1]), 0);
    assert_int_equal(signal_of(fail_magic, &good, fd[1]), 0);
    assert_int_equal(signal_of(fail_magic, &freed, fd[1]), SIGABRT);
    assert_int_equal(signal_of(fail_magic, NULL, fd[1]), SIGABRT);
    char text[1024] = "";
    assert_true(read(fd[0], text, sizeof(text) - 1) > 0);
    assert_non_null(strstr(text, "cdefs_test.c:"));
    assert_non_null(strstr(text, "assertion failed"));
    close(fd[0]);
    close(fd[1]);
}

static void test_list(void **state)
{
    (void)state;
    struct list head;
    struct thing t[3] = {{0}};
    list_init(&head);
    assert_true(list_empty(&head));
    assert_null(list_pop(&head));
    for (size_t i = 0; i < 3; i++) {
        assert_false(list_linked(&t[i].link));
        list_add_tail(&head, &t[i].link);
        assert_true(list_linked(&t[i].link));
    }
    list_del(&t[1].link);
    list_del(&t[1].link); /* twice does no harm */
    assert_false(list_linked(&t[1].link));
    size_t n = 0;
    LIST_EACH (node, &head) {
        assert_ptr_equal(LIST_OF(node, struct thing, link), n == 0 ? &t[0] : &t[2]);
        n++;
    }
    assert_int_equal(n, 2);
    LIST_EACH_SAFE (node, tmp, &head) {
        list_del(node);
    }
    assert_true(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_assert_ends_the_process),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
