/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mailbox.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/unit.h"

#define POSTERS 4u
#define EACH 20000u

struct letter {
    struct msg msg;
    unsigned from;
    unsigned number;
};

struct poster {
    struct mailbox *mb;
    unsigned id;
};

/* What the reader saw; run on its thread only. */
static unsigned next_number[POSTERS];
static bool is_out_of_order;
static char order[16];

static bool is_readable(const struct mailbox *mb, int timeout_ms)
{
    struct pollfd p = {.fd = mailbox_fd(mb), .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1;
}

static void read_letter(struct msg *m)
{
    struct letter *l = CONTAINER_OF(m, struct letter, msg);
    is_out_of_order |= next_number[l->from] != l->number;
    next_number[l->from] = l->number + 1;
    free(l);
}

static void *post_many(void *arg)
{
    const struct poster *p = arg;
    for (unsigned i = 0; i < EACH; i++) {
        struct letter *l = NEW(struct letter);
        if (l == NULL) {
            abort();
        }
        l->msg.run = read_letter;
        l->from = p->id;
        l->number = i;
        mailbox_post(p->mb, &l->msg);
    }
    return NULL;
}

static void test_many_posters(void **state)
{
    (void)state;
    struct mailbox *mb = NULL;
    struct poster posters[POSTERS];
    pthread_t threads[POSTERS];
    assert_ok(mailbox_new(&mb));
    for (unsigned i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){mb, i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    size_t got = 0;
    while (got < POSTERS * EACH) {
        assert_true(is_readable(mb, 60000)); /* a lost wake-up ends here */
        got += mailbox_run(mb);
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(next_number[i], EACH);
    }
    assert_false(is_out_of_order);
    assert_int_equal(got, POSTERS * EACH);
    (void)mailbox_run(mb); /* a late bell without mail */
    assert_false(is_readable(mb, 0));
    mailbox_free(mb);
}

static void note(struct msg *m)
{
    struct letter *l = CONTAINER_OF(m, struct letter, msg);
    size_t n = strlen(order);
    order[n] = (char)('a' + l->number);
    order[n + 1] = '\0';
}

static void test_order_and_wake(void **state)
{
    (void)state;
    struct mailbox *mb = NULL;
    struct letter l[3] = {{{NULL, note}, 0, 0}, {{NULL, note}, 0, 1}, {{NULL, note}, 0, 2}};
    order[0] = '\0';
    assert_ok(mailbox_new(&mb));
    assert_false(is_readable(mb, 0));
    assert_int_equal(mailbox_run(mb), 0);
    for (size_t i = 0; i < 3; i++) {
        mailbox_post(mb, &l[i].msg);
        assert_true(is_readable(mb, 0));
    }
    assert_int_equal(mailbox_run(mb), 3);
    assert_string_equal(order, "abc");
    assert_false(is_readable(mb, 0));
    mailbox_post(mb, &l[1].msg); /* the same message again */
    assert_true(is_readable(mb, 0));
    assert_int_equal(mailbox_run(mb), 1);
    assert_string_equal(order, "abcb");
    mailbox_free(mb);
    mailbox_free(NULL);
}

/* Behind what is there already, from first to last, and the reader is woken once. */
static void test_list(void **state)
{
    (void)state;
    struct mailbox *mb = NULL;
    struct letter l[4] = {
        {{NULL, note}, 0, 0}, {{NULL, note}, 0, 1}, {{NULL, note}, 0, 2}, {{NULL, note}, 0, 3}};
    order[0] = '\0';
    assert_ok(mailbox_new(&mb));
    l[3].msg.next = &l[2].msg;
    l[2].msg.next = &l[1].msg;
    mailbox_post_list(mb, &l[3].msg, &l[1].msg);
    assert_true(is_readable(mb, 0));
    mailbox_post(mb, &l[0].msg);
    assert_int_equal(mailbox_run(mb), 4);
    assert_string_equal(order, "bcda");
    assert_false(is_readable(mb, 0));
    mailbox_post(mb, &l[0].msg);
    l[2].msg.next = &l[1].msg;
    mailbox_post_list(mb, &l[2].msg, &l[1].msg);
    assert_int_equal(mailbox_run(mb), 3);
    assert_string_equal(order, "bcdaabc");
    mailbox_free(mb);
}

static struct mailbox *again_mb;

static void post_again(struct msg *m)
{
    note(m);
    mailbox_post(again_mb, m);
}

static void test_posted_meanwhile_waits(void **state)
{
    (void)state;
    struct letter l = {{NULL, post_again}, 0, 0};
    order[0] = '\0';
    assert_ok(mailbox_new(&again_mb));
    mailbox_post(again_mb, &l.msg);
    assert_int_equal(mailbox_run(again_mb), 1);
    assert_true(is_readable(again_mb, 0));
    assert_int_equal(mailbox_run(again_mb), 1);
    assert_string_equal(order, "aa");
    mailbox_free(again_mb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_posters),
        cmocka_unit_test(test_order_and_wake),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_posted_meanwhile_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
