/* SPDX-License-Identifier: Apache-2.0 */
#include "client/link.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "net/proxy.h"

struct link_try {
    link_done_fn done; /* NULL: cancelled */
    void *arg;
    enum link_via via;
    struct conn *conn; /* NULL: no longer ours to end */
    char host[256];
    char *path, *protocol, *headers;
};

static void wipe_free(char *s)
{
    if (s != NULL) {
        mem_wipe(s, strlen(s));
        free(s);
    }
}

static void free_try(struct link_try *t)
{
    free(t->path);
    free(t->protocol);
    wipe_free(t->headers);
    free(t);
}

static void finish(struct link_try *t, struct stream *s, enum err why, const struct err_info *info)
{
    if (t->done != NULL) {
        t->done(t->arg, s, t->via, why, info);
    } else if (s != NULL) {
        stream_abort(s, E_CLOSED);
    }
    free_try(t);
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
    enum err e =
        t->path == NULL
            ? ws_connect(conn_stream(c), t->host, WS_MQTT_PATH, "mqtt", "", on_ws, t)
            : ws_connect(conn_stream(c), t->host, t->path, t->protocol, t->headers, on_ws, t);
    if (e != OK) {
        stream_abort(conn_stream(c), e);
        finish(t, NULL, e, NULL);
    }
}

static bool copy(const char *from, char **ret)
{
    return from == NULL || (*ret = span_dup(span_str(from))) != NULL;
}

enum err link_url(struct span url, char **ret_host, uint16_t *ret_port, char **ret_path,
                  struct err_info *info)
{
    const struct span scheme = SPAN_LIT("wss://");
    uint64_t port = 443;
    if (!span_starts_nocase(url, scheme) || span_has_nul(url)) {
        return err_set(info, E_ARG, "the address is no wss:// URL");
    }
    struct span rest = span_from(url, scheme.n);
    size_t n = span_find(rest, '/');
    struct span host = span_sub(rest, 0, n), path = span_from(rest, n);
    size_t colon = span_find(host, ':');
    if (colon < host.n) {
        if (!span_to_u64(span_from(host, colon + 1), &port) || port == 0 || port > 65535) {
            return err_set(info, E_ARG, "the address has no valid port");
        }
        host = span_sub(host, 0, colon);
    }
    for (size_t i = 0; i < host.n; i++) { /* it becomes a header line and a name to resolve */
        uint8_t low = host.p[i] | 0x20;
        if (!(low >= 'a' && low <= 'z') && !(host.p[i] >= '0' && host.p[i] <= '9') &&
            memchr(".-_", host.p[i], 3) == NULL) {
            return err_set(info, E_ARG, "the address names no valid host");
        }
    }
    for (size_t i = 0; i < path.n; i++) {
        if (path.p[i] <= ' ' || path.p[i] >= 0x7f) {
            return err_set(info, E_ARG, "the address holds blanks or control characters");
        }
    }
    if (host.n == 0 || host.n > 255) {
        return err_set(info, E_ARG, "the address names no host");
    }
    *ret_host = span_dup(host);
    *ret_path = span_dup(path.n > 0 ? path : SPAN_LIT("/"));
    *ret_port = (uint16_t)port;
    if (*ret_host == NULL || *ret_path == NULL) {
        free(*ret_host);
        free(*ret_path);
        return E_NOMEM;
    }
    return OK;
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
        free_try(t);
        return err_set(info, E_ARG, "host name is too long");
    }
    if (!copy(target->path, &t->path) || !copy(target->protocol, &t->protocol) ||
        !copy(target->headers, &t->headers)) {
        free_try(t);
        return E_NOMEM;
    }
    const struct conn_target to = {
        .host = target->host,
        .port = via == LINK_MQTT ? target->mqtts_port : target->https_port,
        .tls = target->tls,
        .timeout_ms = target->timeout_ms,
        .proxy = proxy_for(target->proxy, target->host),
    };
    enum err e = conn_connect(l, &to, on_conn, t, &t->conn, info);
    if (e != OK) {
        free_try(t);
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
