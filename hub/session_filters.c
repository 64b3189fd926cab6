/* SPDX-License-Identifier: Apache-2.0 */
/* The filters of a session that outlive its link (clean session 0): docs/protocol/hub-mqtt.md 3. */
#include <stdlib.h>

#include "base/log.h"
#include "hub/hub_sql.h"
#include "hub/session.h"

/* Both bit sets in one number: granted in the low half, QoS 1 in the high. */
static int64_t filters_pack(const struct session *s)
{
    return (int64_t)s->subs | ((int64_t)s->subs_q1 << 16);
}

enum err session_load_filters(struct session *s, bool *ret_present)
{
    int64_t packed = 0;
    enum err e = hub_sql_session_get(worker_db(s->w), s->ad.identity, &packed);
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    s->has_stored = e == OK;
    if (e == OK && !s->is_clean) {
        s->subs = (uint16_t)packed;
        s->subs_q1 = (uint16_t)(packed >> 16);
    }
    *ret_present = e == OK && !s->is_clean;
    return OK;
}

struct filters_op {
    struct store_op op;
    struct session *s;
    int64_t identity;
    int64_t packed;
    bool forget;
};

static enum err filters_tx(struct store_tx *tx, struct store_op *op)
{
    struct filters_op *f = CONTAINER_OF(op, struct filters_op, op);
    return f->forget ? hub_sql_session_del(tx->db, f->identity)
                     : hub_sql_session_put(tx->db, f->identity, f->packed);
}

static enum err filters_submit(struct session *s);

static void filters_home(struct msg *m)
{
    struct filters_op *f = CONTAINER_OF(m, struct filters_op, op.msg);
    struct session *s = f->s;
    enum err e = f->op.result;
    if (e != OK) {
        LOG_WARN("hub.session_not_stored", L_SPAN("device", s->name), L_ERR(e));
    }
    free(f);
    s->is_storing = false;
    if (s->is_restless) {
        s->is_restless = false;
        e = filters_submit(s);
    }
    if (!s->is_storing && s->has_stored && s->endpoint != NULL) {
        s->ops->stored(s, e);
    }
    session_settled(s);
    session_unref(s);
}

/* The newest state; what changes while it is under way follows it. */
static enum err filters_submit(struct session *s)
{
    if (s->is_storing) {
        s->is_restless = true;
        return OK;
    }
    struct filters_op *f = NEW(struct filters_op);
    if (f == NULL) {
        LOG_WARN("hub.session_not_stored", L_SPAN("device", s->name), L_ERR(E_NOMEM));
        return E_NOMEM;
    }
    f->s = s;
    f->identity = s->ad.identity;
    f->packed = filters_pack(s);
    f->forget = !s->has_stored;
    f->op.msg.run = filters_home;
    f->op.home = loop_mailbox(worker_loop(s->w));
    f->op.tx = filters_tx;
    f->op.bytes = sizeof(*f);
    enum err e = store_submit(server_store(worker_server(s->w)), &f->op);
    if (e != OK) {
        LOG_WARN("hub.session_not_stored", L_SPAN("device", s->name), L_ERR(e));
        free(f);
        return e;
    }
    s->is_storing = true;
    session_ref(s);
    return OK;
}

enum err session_store_filters(struct session *s)
{
    s->has_stored = true;
    return filters_submit(s);
}

void session_forget_filters(struct session *s)
{
    if (s->has_stored) {
        s->has_stored = false;
        (void)!filters_submit(s); /* logged; an old session that stays is no promise broken */
    }
}
