/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mailbox.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * A stack that posters push and the reader takes whole: with no single pop there is no ABA, and
 * the one poster that finds it empty writes the eventfd.
 */
struct mailbox {
    _Atomic(struct msg *) head;
    int fd;
};

enum err mailbox_new(struct mailbox **ret)
{
    struct mailbox *mb = NEW(struct mailbox);
    if (mb == NULL) {
        return E_NOMEM;
    }
    mb->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mb->fd < 0) {
        enum err e = err_from_errno(errno);
        free(mb);
        return e;
    }
    atomic_init(&mb->head, NULL);
    *ret = mb;
    return OK;
}

void mailbox_free(struct mailbox *mb)
{
    if (mb != NULL) {
        (void)close(mb->fd); /* an eventfd has nothing to lose */
        free(mb);
    }
}

int mailbox_fd(const struct mailbox *mb)
{
    return mb->fd;
}

void mailbox_post(struct mailbox *mb, struct msg *m)
{
    mailbox_post_list(mb, m, m);
}

void mailbox_post_list(struct mailbox *mb, struct msg *last, struct msg *first)
{
    struct msg *top = atomic_load_explicit(&mb->head, memory_order_relaxed);
    do {
        first->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&mb->head, &top, last, memory_order_release,
                                                    memory_order_relaxed));
    if (top != NULL) {
        return;
    }
    /* From here on the messages may be gone already; mb is not, see mailbox_free() in the header. */
    const uint64_t one = 1;
    ssize_t n;
    do {
        n = write(mb->fd, &one, sizeof(one));
    } while (n < 0 && errno == EINTR);
    ASSERT(n == (ssize_t)sizeof(one));
}

static struct msg *reversed(struct msg *m)
{
    struct msg *out = NULL;
    while (m != NULL) {
        struct msg *next = m->next;
        m->next = out;
        out = m;
        m = next;
    }
    return out;
}

size_t mailbox_run(struct mailbox *mb)
{
    /* First the bell, then the mail: the other way round a post in between would ring unheard. */
    uint64_t rings;
    ssize_t n;
    do {
        n = read(mb->fd, &rings, sizeof(rings));
    } while (n < 0 && errno == EINTR);
    ASSERT(n == (ssize_t)sizeof(rings) || errno == EAGAIN);

    struct msg *m = atomic_exchange_explicit(&mb->head, NULL, memory_order_acquire);
    size_t count = 0;
    for (m = reversed(m); m != NULL; count++) {
        struct msg *next = m->next;
        m->next = NULL;
        m->run(m); /* m belongs to run now */
        m = next;
    }
    return count;
}
