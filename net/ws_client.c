/* SPDX-License-Identifier: Apache-2.0 */
/* The upgrade as a client: request, answer, then the ws is open. See ws_int.h. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "net/ws_int.h"
#include "wire/http.h"

struct ws_upgrading {
    ws_ready_fn done;
    void *arg;
    char *protocol;
    char key[WS_KEY_SIZE];
    size_t scanned;
};

void ws_upgrade_free(struct ws *w)
{
    if (w->up != NULL) {
        free(w->up->protocol);
        free(w->up);
        w->up = NULL;
    }
}

void ws_upgrade_failed(struct ws *w, enum err why, int status)
{
    struct ws_upgrading *up = TAKE(w->up);
    up->done(NULL, up->arg, why, status);
    free(up->protocol);
    free(up);
}

static enum err read_answer(const struct ws_upgrading *up, struct span head, unsigned *ret_status)
{
    struct ws_upgrade a = {.upgrade = SPAN_NONE};
    struct span accept = SPAN_NONE, lines, name, value;
    enum err e = http_answer_read(head, ret_status, &lines, NULL);
    if (e != OK) {
        return e;
    }
    while (http_head_next(&lines, &name, &value)) {
        if (span_is_nocase(name, "Upgrade")) {
            a.upgrade = value;
        } else if (span_is_nocase(name, "Connection")) {
            a.connection = value;
        } else if (span_is_nocase(name, "Sec-WebSocket-Protocol")) {
            a.protocol = value;
        } else if (span_is_nocase(name, "Sec-WebSocket-Accept")) {
            accept = value;
        }
    }
    return ws_answer_check(*ret_status, &a, accept, span_str(up->key), span_str(up->protocol),
                           NULL);
}

static void fail(struct ws *w, enum err why, int status)
{
    ws_upgrade_failed(w, why, status);
    ws_end(w, why, 0);
}

size_t ws_upgrade_bytes(struct ws *w, struct span in)
{
    struct ws_upgrading *up = w->up;
    size_t n;
    enum err e = http_head_find(in, &up->scanned, &n);
    if (e == E_AGAIN && in.n < LIMIT_WS_HANDSHAKE) {
        return 0;
    }
    unsigned status = 0;
    if (e == OK) {
        e = read_answer(up, span_sub(in, 0, n), &status);
    }
    if (e != OK) {
        fail(w, e == E_AGAIN ? E_TOO_LARGE : e, (int)status);
        return in.n;
    }
    timer_stop(w->s.loop, &w->timer);
    w->state = WS_OPEN;
    w->up = NULL;
    up->done(w, up->arg, OK, (int)status);
    free(up->protocol);
    free(up);
    ASSERT(w->s.h != NULL || w->state != WS_OPEN);
    return n;
}

static void on_late(struct timer *t)
{
    fail(CONTAINER_OF(t, struct ws, timer), E_TIMEOUT, 0);
}

static enum err write_request(struct ws *w, const char *host, const char *path, const char *headers)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_HTTP_HEAD);
    uint8_t random[16];
    random_bytes(random, sizeof(random));
    ws_key(random, w->up->key);
    buf_addf(&b,
             "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n",
             path, host, w->up->key);
    if (w->up->protocol != NULL) {
        buf_addf(&b, "Sec-WebSocket-Protocol: %s\r\n", w->up->protocol);
    }
    buf_addf(&b, "%s\r\n", headers);
    if (buf_err(&b) == OK) {
        stream_write(w->carrier, buf_span(&b));
    }
    return buf_err(&b);
}

enum err ws_connect(struct stream *carrier, const char *host, const char *path,
                    const char *protocol, const char *headers, ws_ready_fn done, void *arg)
{
    struct ws_upgrading *up = NEW(struct ws_upgrading);
    char *name = protocol != NULL ? span_dup(span_str(protocol)) : NULL;
    struct stream before = *carrier;
    struct ws *w = NULL;
    if (up == NULL || (protocol != NULL && name == NULL) || ws_make(carrier, false, &w) != OK) {
        free(name);
        free(up);
        return E_NOMEM;
    }
    *up = (struct ws_upgrading){.done = done, .arg = arg, .protocol = name};
    w->up = up;
    w->state = WS_UPGRADING;
    enum err e = write_request(w, host, path, headers != NULL ? headers : "");
    if (e != OK) { /* nothing was written: the stream is still the caller's */
        stream_handle(carrier, before.h, before.arg);
        ws_upgrade_free(w);
        free(w);
        return e;
    }
    timer_set(carrier->loop, &w->timer, LIMIT_HANDSHAKE_S * 1000u, on_late);
    return OK;
}
