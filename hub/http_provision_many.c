/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /provision/devices: several PUTs in one request (hub/http_provision.h). Each is a write of its own, with its own refusal; the
 * writer commits what is queued at once, so they share a commit as well. The answer goes when the last of them is home.
 */
#include <stdlib.h>

#include "hub/http_provision.h"
#include "hub/provision.h"

struct entry {
    unsigned status;
    bool was_created;
    char *error; /* JSON text; NULL: none */
};
struct many {
    struct loop *loop;
    handle rq;
    size_t n, n_left; /* and one for who begins them */
    struct entry entry[];
};

static void many_free(struct many *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->entry[i].error);
    }
    free(m);
}

static void add_entry(struct buf *b, const struct entry *e)
{
    buf_addf(b, "{\"status\":%u,", e->status);
    if (e->status == 200) {
        buf_addf(b, "\"created\":%s}", e->was_created ? "true" : "false");
    } else {
        buf_addf(b, "\"error\":%s}", e->error != NULL ? e->error : "null");
    }
}

/* Answers when it was the last; m may be gone. */
static void one_less(struct many *m)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_HUB_WORK);
    if (--m->n_left != 0) {
        return;
    }
    struct http_rq *rq = http_rq_of(m->loop, m->rq);
    buf_add_str(&b, "{\"results\":[");
    for (size_t i = 0; i < m->n; i++) {
        buf_add_str(&b, i != 0 ? "," : "");
        add_entry(&b, &m->entry[i]);
    }
    buf_add_str(&b, "]}");
    many_free(m);
    if (rq == NULL) {
        return; /* the caller left; what was submitted is done, and repeating it is safe */
    }
    if (buf_err(&b) != OK) {
        hub_refuse(rq, buf_err(&b), NULL);
    } else {
        hub_answer_json(rq, 200, SPAN_NONE, buf_span(&b));
    }
}

static void refused(struct many *m, size_t i, enum err e, const struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(8 * LIMIT_HTTP_HEAD);
    m->entry[i].status = hub_entry_error(http_rq_of(m->loop, m->rq), i, e, info, &b);
    m->entry[i].error = buf_take_str(&b); /* without memory for it the status still tells */
}

static void done(void *user, uint64_t tag, enum err result, const struct provision_result *r,
                 const struct err_info *info)
{
    struct many *m = user;
    if (result == OK) {
        m->entry[tag].status = 200;
        m->entry[tag].was_created = r->was_created;
    } else {
        refused(m, tag, result, info);
    }
    one_less(m);
}

static void begin(struct worker *w, struct many *m, size_t i, struct json *entry)
{
    struct err_info info = {0};
    struct span id = SPAN_NONE;
    enum err e = json_get_str(entry, "deviceId", JSON_F_NEED, &id, &info);
    if (e == OK) {
        e = provision_put_begin(w, id, json_share(entry), done, m, i, &info);
    }
    if (e != OK) {
        refused(m, i, e, &info);
        m->n_left--; /* never the last: the beginner's own is left */
    }
}

static enum err read_list(struct http_rq *rq, struct json **ret_body, struct json **ret,
                          struct err_info *info)
{
    struct json *list = NULL;
    enum err e = json_read_object(http_rq_body(rq), LIMIT_PROVISION_BODY, ret_body, info);
    if (e == OK) {
        e = json_get_array(*ret_body, "devices", JSON_F_NEED, &list, info);
    }
    if (e == OK && (json_count(list) == 0 || json_count(list) > LIMIT_PROVISION_MANY)) {
        return err_set(info, E_ARG, "devices: %zu of them, 1 to %u in one request",
                       json_count(list), LIMIT_PROVISION_MANY);
    }
    *ret = list;
    return e;
}

void hub_provision_many(struct http_rq *rq)
{
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    struct json *list = NULL;
    struct many *m = NULL;
    enum err e = read_list(rq, &body, &list, &info);
    size_t n = e == OK ? json_count(list) : 0;
    if (e == OK && (m = mem_new(sizeof(*m) + n * sizeof(m->entry[0]))) == NULL) {
        e = E_NOMEM;
    }
    if (e != OK) {
        hub_refuse(rq, e, &info);
        return;
    }
    m->loop = http_rq_loop(rq);
    m->rq = http_rq_handle(rq);
    m->n = n;
    m->n_left = n + 1;
    for (size_t i = 0; i < n; i++) {
        begin(worker_of_rq(rq), m, i, json_at(list, i));
    }
    one_less(m);
}
