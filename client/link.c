/* SPDX-License-Identifier: Apache-2.0 */
#include "client/link.h"

#include <stdlib.h>

struct link_try {
    link_done_fn done; /* NULL: cancelled */
    void *arg;
    enum link_via via;
    struct conn *conn; /* NULL: no longer ours to end */
    char host[256];
};

static void finish(struct link_try *t, struct stream *s, enum err why, const struct err_info *info)
{
    if (t->done != NULL) {
        t->done(t->arg, s, t->via, why, info);
    } else if (s != NULL) {
        stream_abort(s, E_CLOSED);
    }
    free(t);
}

static void on_ws(struct ws *w, void *arg, enum err why, int http_status)
{
    struct link_try *t = arg;
    struct err_info info = {0};
    t->conn = NULL;
    if (w == NULL) {
        (void)!err_set(&info, why, "WebSocket upgrade refused by '%s' (HTTP status %d)", t->host,
                       http_status);
    }
    finish(t, w != NULL ? ws_stream(w) : NULL, why, &info);
}

static void on_conn(struct conn *c, void *arg, enum err why, const struct err_info *info)
{
    struct link_try *t = arg;
    t->conn = t->via == LINK_MQTT ? NULL : c;
    if (c == NULL || t->via == LINK_MQTT) {
        finish(t, c != NULL ? conn_stream(c) : NULL, why, info);
        return;
    }
    enum err e = ws_connect(conn_stream(c), t->host, WS_MQTT_PATH, "mqtt", "", on_ws, t);
    if (e != OK) {
        stream_abort(conn_stream(c), e);
        finish(t, NULL, e, NULL);
    }
}

enum err link_open(struct loop *l, const struct link_target *target, enum link_via via,
                   link_done_fn done, void *arg, struct link_try **ret, struct err_info *info)
{
    struct link_try *t = NEW(struct link_try);
    if (t == NULL) {
        return E_NOMEM;
    }
    t->done = done;
    t->arg = arg;
    t->via = via;
    if (!span_to_cstr(span_str(target->host), t->host, sizeof(t->host))) {
        free(t);
        return err_set(info, E_ARG, "host name is too long");
    }
    uint16_t port = via == LINK_MQTT ? target->mqtts_port : target->https_port;
    enum err e = conn_connect(l, target->host, port, target->tls, target->timeout_ms, on_conn, t,
                              &t->conn, info);
    if (e != OK) {
        free(t);
        return e;
    }
    *ret = t;
    return OK;
}

void link_cancel(struct link_try *t)
{
    t->done = NULL;
    if (t->conn != NULL) {
        stream_abort(conn_stream(t->conn), E_CLOSED);
    }
}
