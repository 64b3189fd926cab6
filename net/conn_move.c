/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that goes on living on another loop: its descriptor, TLS session, unread and unsent bytes go with it, by one
 * message. See conn_int.h.
 */
#include "net/conn_int.h"

#include <stdlib.h>

/* While it moves there is no handler: s.arg is this. */
struct parcel {
    struct msg msg; /* from the old loop to the new one */
    struct conn *c;
    struct loop *to;
    conn_arrived_fn arrived;
    void *arg;
};

void conns_settle_lent(struct conns *cs, bool at_end)
{
    tls_settle_lent(&cs->lent, at_end);
}

static void arrive(struct msg *m)
{
    struct parcel *p = CONTAINER_OF(m, struct parcel, msg);
    struct conn *c = p->c;
    struct conns *cs = conns_get(p->to);
    c->s.loop = p->to;
    c->s.arg = NULL;
    c->state = CONN_OPEN;
    if (cs == NULL) { /* no memory for the first connection of this loop */
        free(p);
        conn_destroy(c);
        return;
    }
    list_add_tail(&cs->all, &c->all);
    p->arrived(c, p->arg);
    free(p);
    ASSERT(c->s.h != NULL || c->state != CONN_OPEN); /* whoever takes it handles it */
    /* What is kept, or lies decrypted in OpenSSL, was announced on the old loop only. */
    c->again = true;
    conn_settle(c);
    conn_defer(c);
}

void conn_depart(struct conn *c)
{
    struct loop *l = c->s.loop;
    struct parcel *p = c->s.arg;
    struct conns *cs = conns_get(l);
    loop_unwatch(l, &c->w);
    timer_stop(l, &c->timer);
    list_del(&c->all);
    listener_forget(c);
    conn_forget_peer_cert(c); /* it was parsed in the library context of this thread */
    tls_lend(&c->tls, &cs->lent);
    conns_settle_lent(cs, false);
    c->end.pass = 0; /* the other loop counts its own */
    c->paused = c->out_blocked = false;
    loop_post(p->to, &p->msg);
}

void conn_move(struct conn *c, struct loop *to, conn_arrived_fn arrived, void *arg)
{
    ASSERT_LOOP(c->s.loop);
    ASSERT(c->state == CONN_OPEN && c->origin == NULL);
    struct parcel *p = NEW(struct parcel);
    if (p == NULL) {
        conn_die(c, E_NOMEM);
        return;
    }
    *p = (struct parcel){.msg = {.run = arrive}, .c = c, .to = to, .arrived = arrived, .arg = arg};
    c->s.h = NULL;
    c->s.arg = p;
    c->state = CONN_MOVING;
    conn_defer(c);
}
