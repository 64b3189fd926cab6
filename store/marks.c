/* SPDX-License-Identifier: Apache-2.0 */
#include "store/marks.h"

#include <stdlib.h>

enum err marks_init(struct marks *m, unsigned partitions)
{
    if ((m->mark = mem_new(partitions * sizeof(*m->mark))) == NULL) {
        return E_NOMEM;
    }
    m->n = partitions;
    (void)pthread_mutex_init(&m->mu, NULL); /* cannot fail with default attributes */
    return OK;
}

void marks_done(struct marks *m)
{
    if (m->mark != NULL) {
        (void)pthread_mutex_destroy(&m->mu);
        free(m->mark);
        m->mark = NULL;
    }
}

static void fire(struct mark *p, uint64_t mark)
{
    struct seglog_watch *w = p->watches;

    while (w != NULL) {
        struct seglog_watch *next = w->next;
        if (w->seq <= mark) {
            if (w->prev != NULL) {
                w->prev->next = next;
            } else {
                p->watches = next;
            }
            if (next != NULL) {
                next->prev = w->prev;
            }
            w->armed = false;
            mailbox_post(w->home, &w->msg); /* it may be gone from here on */
        }
        w = next;
    }
}

void marks_publish(struct marks *m, const struct seg_base *last)
{
    (void)pthread_mutex_lock(&m->mu);
    for (unsigned i = 0; i < m->n; i++) {
        struct mark *p = &m->mark[i];
        p->ts = last[i].ts;
        if (last[i].seq != atomic_load_explicit(&p->seq, memory_order_relaxed)) {
            atomic_store_explicit(&p->seq, last[i].seq, memory_order_release);
            fire(p, last[i].seq);
        }
    }
    (void)pthread_mutex_unlock(&m->mu);
}

struct seg_base marks_get(struct marks *m, unsigned partition)
{
    struct mark *p = &m->mark[partition];
    struct seg_base b;

    (void)pthread_mutex_lock(&m->mu);
    b.seq = atomic_load_explicit(&p->seq, memory_order_relaxed);
    b.ts = p->ts;
    (void)pthread_mutex_unlock(&m->mu);
    return b;
}

void marks_watch(struct marks *m, struct seglog_watch *w)
{
    struct mark *p;

    ASSERT(w->partition < m->n && !w->armed);
    p = &m->mark[w->partition];
    w->prev = w->next = NULL;
    (void)pthread_mutex_lock(&m->mu);
    if (w->seq <= atomic_load_explicit(&p->seq, memory_order_relaxed)) {
        mailbox_post(w->home, &w->msg);
    } else {
        w->armed = true;
        w->next = p->watches;
        if (w->next != NULL) {
            w->next->prev = w;
        }
        p->watches = w;
    }
    (void)pthread_mutex_unlock(&m->mu);
}

bool marks_unwatch(struct marks *m, struct seglog_watch *w)
{
    bool was_armed;

    ASSERT(w->partition < m->n);
    (void)pthread_mutex_lock(&m->mu);
    was_armed = w->armed;
    if (was_armed) {
        if (w->prev != NULL) {
            w->prev->next = w->next;
        } else {
            m->mark[w->partition].watches = w->next;
        }
        if (w->next != NULL) {
            w->next->prev = w->prev;
        }
        w->armed = false;
    }
    (void)pthread_mutex_unlock(&m->mu);
    return was_armed;
}
