/* SPDX-License-Identifier: Apache-2.0 */
/* POST /admin/linkedHubs/{name}/test: docs/protocol/dps-service-rest.md C4. */
#include <stdlib.h>

#include "dps/http.h"
#include "dps/hublink.h"
#include "server/admin.h"
#include "server/authn.h"

#define LINK_JSON_MAX 4096u
#define TEST_MS 5000u

/* Two calls that change nothing: a list of one device, and a provisioning without a body, which a hub that grants the right refuses
 * as a bad request. */
struct hub_test {
    struct egress_rq rq;
    struct worker *w;
    handle caller;
    char *token;
    const char *headers[1];
    struct buf url_read, url_write;
    uint64_t begun_ms, latency_ms;
    bool is_second;
    bool reachable, may_read, may_write;
    unsigned status[2];
    struct err_info why;
};

static void test_free(struct hub_test *t)
{
    buf_done(&t->rq.answer);
    buf_done(&t->url_read);
    buf_done(&t->url_write);
    if (t->token != NULL) {
        mem_wipe(t->token, strlen(t->token));
        free(t->token);
    }
    free(t);
}

static void test_answer(struct hub_test *t)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LINK_JSON_MAX);
    struct http_rq *rq = http_rq_of(worker_loop(t->w), t->caller);
    if (rq == NULL) {
        return;
    }
    buf_addf(
        &b,
        "{\"reachable\":%s,\"registryRead\":%s,\"registryWrite\":%s,\"latencyMs\":%llu,\"error\":",
        t->reachable ? "true" : "false", t->may_read ? "true" : "false",
        t->may_write ? "true" : "false", (unsigned long long)t->latency_ms);
    if (!t->reachable) {
        json_write_str(&b, span_str(err_why(&t->why, t->rq.result)));
    } else if (!t->may_write) {
        buf_addf(&b, "\"the hub answered %u to a call of the provisioning plane\"", t->status[1]);
    } else {
        buf_add_str(&b, "null");
    }
    buf_add_u8(&b, '}');
    if (buf_err(&b) != OK) {
        dps_refuse(rq, buf_err(&b), NULL);
        return;
    }
    admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
}

static enum err test_send(struct hub_test *t);

static void test_home(struct msg *m)
{
    struct hub_test *t = CONTAINER_OF(CONTAINER_OF(m, struct egress_rq, msg), struct hub_test, rq);
    bool ok = t->rq.result == OK;
    t->reachable = ok;
    t->why = t->rq.info;
    t->status[t->is_second ? 1 : 0] = t->rq.status;
    if (!t->is_second) {
        t->latency_ms = loop_now_ms(worker_loop(t->w)) - t->begun_ms;
        t->may_read = ok && t->rq.status == 200;
        t->is_second = true;
        buf_done(&t->rq.answer);
        if (ok && test_send(t) == OK) {
            return;
        }
    } else {
        t->may_write = ok && t->rq.status == 400;
    }
    test_answer(t);
    test_free(t);
}

static enum err test_send(struct hub_test *t)
{
    t->rq = (struct egress_rq){
        .home = loop_mailbox(worker_loop(t->w)),
        .pool = POOL_HUBS,
        .method = t->is_second ? "PUT" : "GET",
        .url = (const char *)(t->is_second ? t->url_write.p : t->url_read.p),
        .headers = t->headers,
        .n_headers = 1,
        .body = t->is_second ? SPAN_LIT("{}") : SPAN_NONE,
        .timeout_ms = TEST_MS,
        .answer = BUF_INIT(1u << 20),
    };
    t->rq.msg.run = test_home;
    return server_egress_send(worker_server(t->w), &t->rq);
}

static enum err test_begin(struct http_rq *rq, struct hub_test *t, struct span fold,
                           struct err_info *info)
{
    struct dps_worker *dw = dps_worker_of(t->w);
    struct snapshot *s = NULL;
    const char *token = NULL;
    enum err e = snapshot_get(dw, &s, info);
    struct linked_hub *h = e == OK ? snapshot_hub(s, fold) : NULL;
    if (e != OK || h == NULL) {
        return e != OK ? e : E_NOT_FOUND;
    }
    e = hublink_token(server_keyring(dw->dps->server), h, server_token_now_s(dw->dps->server),
                      &token);
    if (e != OK) {
        return e;
    }
    t->token = span_dup(span_str(token));
    t->headers[0] = t->token;
    hublink_add_url(&t->url_read, &h->row, "/devices?top=1&api-version=2021-04-12");
    hublink_add_url(&t->url_write, &h->row,
                    "/provision/devices/link-test?api-version=" SERVER_ADMIN_VERSION);
    buf_add_u8(&t->url_read, 0);
    buf_add_u8(&t->url_write, 0);
    t->caller = http_rq_handle(rq);
    t->begun_ms = loop_now_ms(worker_loop(t->w));
    if (t->token == NULL || buf_err(&t->url_read) != OK || buf_err(&t->url_write) != OK) {
        return E_NOMEM;
    }
    return test_send(t);
}

void http_link_test(struct http_rq *rq)
{
    struct err_info info = {0};
    struct span fold;
    if (!http_hub_name(rq, &fold)) {
        return;
    }
    struct hub_test *t = NEW(struct hub_test);
    enum err e = E_NOMEM;
    if (t != NULL) {
        t->w = worker_of_rq(rq);
        t->url_read = (struct buf)BUF_INIT(1024);
        t->url_write = (struct buf)BUF_INIT(1024);
        e = test_begin(rq, t, fold, &info);
    }
    if (e != OK) {
        admin_refuse(rq, e, &info);
        if (t != NULL) {
            test_free(t);
        }
    }
}
