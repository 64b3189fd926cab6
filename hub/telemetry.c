/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/telemetry.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/map.h"
#include "hub/allowance.h"
#include "hub/session.h"
#include "wire/logmeta.h"

/* Properties are bounded by the size rule; names and lengths of them, and the stamps, come on top for each message of a batch. */
#define META_MAX (8u * LIMIT_D2C_MESSAGE)

#define RETAIN "mqtt-retain"
#define MESSAGE_TYPE "iothub-MessageType"

/* One append or one batch: the log's operations, then the bytes they name. */
struct telemetry_op;
struct append {
    struct seglog_op op;
    struct telemetry_op *t;
};
struct telemetry_op {
    struct worker *w;
    telemetry_done_fn done;
    void *user;
    uint64_t tag;
    struct allowance_use use;
    struct append append[];
};

/* Names that this message gets from the hub: the device's own word for them would stand there twice. */
static bool is_ours(const struct telemetry_message *m, struct span name)
{
    return (m->retain && span_is(name, RETAIN)) || (m->is_will && span_is(name, MESSAGE_TYPE));
}

static void write_meta(struct buf *b, const struct telemetry_source *src,
                       const struct telemetry_message *m)
{
    const struct logmeta stamps = {src->device_id, src->module_id, src->generation_id,
                                   src->model_id, span_str(src->auth_method_json)};
    logmeta_begin(b, &stamps);
    for (size_t i = 0; i < m->n_props; i++) {
        const struct prop *p = &m->props[i];
        if (prop_is_system(p) || !is_ours(m, p->key)) {
            logmeta_add(b, prop_is_system(p), p->key, p->value, p->has_value);
        }
    }
    if (m->retain) {
        logmeta_add(b, false, SPAN_LIT(RETAIN), SPAN_LIT("true"), true);
    }
    if (m->is_will) {
        logmeta_add(b, false, SPAN_LIT(MESSAGE_TYPE), SPAN_LIT("Will"), true);
    }
}

static unsigned partition_of(const struct hub *h, struct span device_id)
{
    /* A fixed key: the partition of a device is the same after a restart. */
    uint64_t x = siphash(UINT64_C(0x6265727468206875), UINT64_C(0x6220706172746974), device_id);
    return (unsigned)(x % h->partitions);
}

static void came_home(struct msg *m)
{
    struct append *last = CONTAINER_OF(m, struct append, op.msg);
    struct telemetry_op *t = last->t;
    enum err result = last->op.result;
    telemetry_done_fn done = t->done;
    void *user = t->user;
    uint64_t tag = t->tag;
    hub_worker_of(t->w)->n_appends--;
    if (result != OK) {
        allowance_give_back(t->w, &t->use);
    }
    free(t);
    done(user, tag, result);
}

static enum err check(const struct telemetry_message *m, struct err_info *info)
{
    size_t size = props_size(m->props, m->n_props, m->body.n);
    if (size > LIMIT_D2C_MESSAGE) {
        return err_set(info, E_TOO_LARGE, "message of %zu bytes, at most %u are allowed", size,
                       LIMIT_D2C_MESSAGE);
    }
    if (m->n_props > LIMIT_PROPS) {
        return err_set(info, E_LIMIT, "%zu properties, at most %u are allowed", m->n_props,
                       LIMIT_PROPS);
    }
    return OK;
}

enum err telemetry_begin_batch(struct worker *w, const struct telemetry_source *src,
                               const struct telemetry_message *m, size_t n, telemetry_done_fn done,
                               void *user, uint64_t tag, struct err_info *info)
{
    struct hub *h = hub_of(w);
    ASSERT(n > 0 && n <= LIMIT_D2C_BATCH_MESSAGES);
    AUTO(buf_done) struct buf meta = BUF_INIT(META_MAX);
    size_t total = 0, counted = 0;
    enum err e;
    size_t ends[LIMIT_D2C_BATCH_MESSAGES]; /* where each one's meta ends */
    for (size_t i = 0; i < n; i++) {
        if ((e = check(&m[i], info)) != OK) {
            return e;
        }
        write_meta(&meta, src, &m[i]);
        ends[i] = meta.n;
        total += m[i].body.n;
        counted += props_size(m[i].props, m[i].n_props, m[i].body.n);
    }
    if ((e = buf_err(&meta)) != OK) {
        return err_set(info, e, "properties do not fit");
    }
    struct telemetry_op *t = malloc(sizeof(*t) + n * sizeof(t->append[0]) + meta.n + total);
    if (t == NULL) {
        return err_set(info, E_NOMEM, "no memory for a message of %zu bytes", total);
    }
    if ((e = allowance_take(w, src->identity, src->device_id, n, counted, m[0].is_will, &t->use,
                            info)) != OK) {
        free(t);
        return e;
    }
    uint8_t *metas = (uint8_t *)&t->append[n];
    uint8_t *bodies = metas + meta.n;
    memcpy(metas, meta.p, meta.n);
    unsigned partition = partition_of(h, src->device_id);
    for (size_t i = 0; i < n; i++) {
        size_t from = i == 0 ? 0 : ends[i - 1];
        if (m[i].body.n > 0) {
            memcpy(bodies, m[i].body.p, m[i].body.n);
        }
        t->append[i].t = t;
        t->append[i].op = (struct seglog_op){
            .msg = {.run = came_home},
            .home = loop_mailbox(worker_loop(w)),
            .partition = partition,
            .meta = span_of(metas + from, ends[i] - from),
            .body = span_of(bodies, m[i].body.n),
            .next = i + 1 < n ? &t->append[i + 1].op : NULL,
        };
        bodies += m[i].body.n;
    }
    t->w = w;
    t->done = done;
    t->user = user;
    t->tag = tag;
    e = n == 1 ? seglog_append(h->log, &t->append[0].op)
               : seglog_append_batch(h->log, &t->append[0].op, n);
    if (e != OK) {
        allowance_give_back(w, &t->use);
        free(t);
        return err_set(info, e, "telemetry log refuses: %s", err_text(e));
    }
    hub_worker_of(w)->n_appends++;
    return OK;
}

enum err telemetry_begin(struct worker *w, const struct telemetry_source *src,
                         const struct telemetry_message *m, telemetry_done_fn done, void *user,
                         uint64_t tag, struct err_info *info)
{
    return telemetry_begin_batch(w, src, m, 1, done, user, tag, info);
}
