/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit.h"

struct fx fx;

static int64_t wall_us(void *arg UNUSED)
{
    return 1767225600000000 + (int64_t)fx.now_ms * 1000;
}

static uint64_t mono_ms(void *arg UNUSED)
{
    return fx.now_ms;
}

/* --- handlers ------------------------------------------------------------------------------------ */

static void on_list(struct http_rq *rq)
{
    bool is_found;
    struct span v = http_rq_query(rq, "Api-Version", &is_found);
    fx.handled++;
    http_answer(rq, 200, "text/plain", is_found ? v : SPAN_LIT("none"));
}

static void on_params(struct http_rq *rq)
{
    fx.handled++;
    char *text = arena_printf(http_rq_arena(rq), "%s|%.*s|%.*s|%.*s", http_rq_route(rq)->path,
                              SPAN_ARG(http_rq_param(rq, 0)), SPAN_ARG(http_rq_param(rq, 1)),
                              SPAN_ARG(http_rq_body(rq)));
    http_headerf(rq, "x-host", "%.*s", SPAN_ARG(http_rq_host(rq)));
    http_answer(rq, 200, "text/plain", span_str(text));
}

static void on_empty(struct http_rq *rq)
{
    fx.handled++;
    http_answer(rq, 204, NULL, SPAN_NONE);
}

static void on_big(struct http_rq *rq)
{
    fx.handled++;
    struct buf b = BUF_INIT(8u << 20); /* more than a stream may hold: LIMIT_CONN_OUT_MAX */
    uint8_t *p = buf_reserve(&b, 6u << 20);
    memset(p, 'b', 6u << 20);
    b.n += 6u << 20;
    http_answer(rq, 200, "text/plain", buf_span(&b));
    buf_done(&b);
}

static void on_count(struct http_rq *rq)
{
    fx.handled++;
    uint64_t sum = 0;
    struct span b = http_rq_body(rq);
    for (size_t i = 0; i < b.n; i++) {
        sum += b.p[i];
    }
    char *text = arena_printf(http_rq_arena(rq), "%zu %llu", b.n, (unsigned long long)sum);
    http_answer(rq, 200, "text/plain", span_str(text));
}

static void on_headers(struct http_rq *rq)
{
    static const char block[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    fx.handled++;
    for (unsigned i = 0; i < 400; i++) {
        http_headerf(rq, "x-property", "%u-%s", i, block);
    }
    http_answer(rq, 200, "text/plain", SPAN_LIT("many"));
}

static void on_slow(struct http_rq *rq)
{
    fx.handled++;
    fx.held = rq;
    fx.pending = http_rq_handle(rq);
}

static void on_drained(struct http_stream *s UNUSED, void *arg UNUSED)
{
    fx.drained++;
}

static void on_gone(struct http_stream *s, void *arg UNUSED)
{
    assert_ptr_equal(s, fx.out);
    fx.out = NULL;
    fx.gone++;
}

static void on_stream(struct http_rq *rq)
{
    static const struct http_stream_handler h = {on_drained, on_gone};
    fx.handled++;
    http_header(rq, "x-kind", SPAN_LIT("lines"));
    assert_ok(http_stream_begin(rq, 200, "application/x-ndjson", &h, NULL, &fx.out));
}

/* clang-format off */
static const struct http_route routes[] = {
    { HTTP_GET,    "/things",                   0, 0, 0,        on_list },
    { HTTP_POST,   "/things",                   0, 0, 4u << 20, on_count },
    { HTTP_GET,    "/things/{id}",              0, 0, 0,        on_params },
    { HTTP_PUT,    "/things/{id}",              0, 0, FX_BODY,  on_params },
    { HTTP_DELETE, "/things/{id}",              0, 0, 0,        on_empty },
    { HTTP_GET,    "/things/special",           0, 0, 0,        on_params },
    { HTTP_POST,   "/things/{id}/parts/{part}", 0, 0, FX_BODY,  on_params },
    { HTTP_PATCH,  "/twins/first",             0, 0, FX_BODY,  on_params },
    { HTTP_PATCH,  "/twins/{id}",               0, 0, FX_BODY,  on_params },
    { HTTP_GET,    "/big",                      0, 0, 0,        on_big },
    { HTTP_HEAD,   "/big",                      0, 0, 0,        on_big },
    { HTTP_GET,    "/headers",                  0, 0, 0,        on_headers },
    { HTTP_GET,    "/slow",                     0, 0, 0,        on_slow },
    { HTTP_POST,   "/slow",                     0, 0, FX_BODY,  on_slow },
    { HTTP_GET,    "/stream",                   0, 0, 0,        on_stream },
};
/* clang-format on */

/* --- hooks ------------------------------------------------------------------------------------------ */

static enum err admit(struct http_rq *rq, struct err_info *info)
{
    assert_non_null(http_rq_route(rq));
    return span_is(http_rq_header(rq, "Authorization"), "no")
               ? err_set(info, E_UNAUTHORIZED, "said no")
               : OK;
}

static void refuse(struct http_rq *rq, enum err e, const struct err_info *info)
{
    static const struct {
        enum err e;
        unsigned status;
    } table[] = {
        {E_NO_ROUTE, 404},  {E_METHOD, 405},   {E_UNAUTHORIZED, 401},
        {E_TOO_LARGE, 413}, {E_DRAINING, 503}, {E_UNSUPPORTED, 501},
    };
    unsigned status = 400;
    fx.last_error = e;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        status = table[i].e == e ? table[i].status : status;
    }
    http_header(rq, "x-error", span_str(err_name(e)));
    http_answer(rq, status, "application/json", span_str(err_why(info, e)));
}

static enum err admit_ws(struct http_rq *rq, struct span *ret_protocol, void **ret_user,
                         struct err_info *info UNUSED)
{
    if (!span_is(http_rq_raw_path(rq), "/ws")) {
        return E_NO_ROUTE;
    }
    struct span offered = http_rq_header(rq, "Sec-WebSocket-Protocol");
    if (offered.n > 0 && !span_is_nocase(offered, "mqtt")) {
        return E_UNSUPPORTED;
    }
    *ret_protocol = offered;
    *ret_user = &fx.ws;
    return OK;
}

static size_t ws_bytes(struct stream *s UNUSED, void *arg UNUSED, struct span in)
{
    buf_add(&fx.ws_in, in);
    return in.n;
}

static void ws_close(struct stream *s UNUSED, void *arg UNUSED, enum err why UNUSED)
{
    fx.ws = NULL;
    fx.ws_closed++;
}

static void on_ws(struct stream *ws, void *user, void *arg)
{
    static const struct stream_handler h = {
        .name = "test", .on_bytes = ws_bytes, .on_close = ws_close};
    assert_ptr_equal(arg, &fx);
    assert_ptr_equal(user, &fx.ws);
    fx.ws = ws;
    stream_handle(ws, &h, NULL);
}

static bool is_draining(void *arg UNUSED)
{
    return fx.is_draining;
}

/* --- life --------------------------------------------------------------------------------------------- */

int fx_setup(void **state UNUSED)
{
    fx = (struct fx){.now_ms = 1000, .clock = {wall_us, mono_ms, NULL}};
    fx.ws_in = (struct buf)BUF_INIT(1u << 20);
    assert_ok(loop_new(0, &fx.clock, &fx.loop));
    const struct http_conf conf = {
        .loop = fx.loop,
        .routes = routes,
        .n_routes = ARRAY_LEN(routes),
        .hooks = {admit, refuse, admit_ws, on_ws, &fx},
        .max_connections = FX_CLIENTS,
        .is_draining = is_draining,
    };
    struct err_info info = {0};
    assert_ok(http_server_new(&conf, &fx.server, &info));
    return 0;
}

int fx_teardown(void **state UNUSED)
{
    http_server_free(fx.server);
    fx_settle();
    if (fx.ws != NULL) {
        stream_abort(fx.ws, E_CLOSED);
        fx_settle();
    }
    buf_done(&fx.ws_in);
    loop_free(fx.loop);
    return 0;
}

static void on_open(struct conn *c, void *arg UNUSED)
{
    assert_ok(http_attach(fx.server, conn_stream(c)));
}

void fx_connect(struct fx_client *c)
{
    int fd[2];
    struct conn *conn;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    *c = (struct fx_client){.fd = fd[1], .in = BUF_INIT(16u << 20)};
    assert_ok(conn_adopt(fx.loop, fd[0], NULL, true, on_open, NULL, &conn));
    fx_settle();
}

void fx_disconnect(struct fx_client *c)
{
    close(c->fd);
    c->fd = -1;
    buf_done(&c->in);
    fx_settle();
}

/* Everything is local and on this thread: some turns in a row without a wait move all that can move. */
void fx_settle(void)
{
    for (unsigned i = 0; i < 24; i++) {
        loop_turn(fx.loop, 0);
    }
}

void fx_advance(uint64_t ms)
{
    fx.now_ms += ms;
    fx_settle();
}

void fx_hear(struct fx_client *c)
{
    for (;;) {
        uint8_t *p = buf_reserve(&c->in, 65536);
        assert_non_null(p);
        ssize_t n = recv(c->fd, p, 65536, MSG_DONTWAIT);
        if (n > 0) {
            c->in.n += (size_t)n;
            fx_settle();
            continue;
        }
        if (n == 0 || errno != EAGAIN) {
            c->is_closed = true;
        }
        return;
    }
}

void fx_say(struct fx_client *c, struct span bytes)
{
    while (bytes.n > 0) {
        ssize_t n = send(c->fd, bytes.p, bytes.n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            break; /* closed on us: fx_hear finds that */
        }
        bytes = span_from(bytes, n > 0 ? (size_t)n : 0);
        fx_settle();
    }
    fx_hear(c);
}

void fx_say_str(struct fx_client *c, const char *text)
{
    fx_say(c, span_str(text));
}

/* --- reading answers ------------------------------------------------------------------------------------- */

struct span fx_header(struct span head, const char *name)
{
    struct span rest = head;
    while (rest.n > 0) {
        struct span line = span_cut(&rest, '\n');
        struct span key = span_cut(&line, ':');
        if (line.p != NULL && span_is_nocase(key, name)) {
            return span_trim(span_sub(line, 0, line.n > 0 ? line.n - 1 : 0));
        }
    }
    return SPAN_NONE;
}

static bool join_chunks(uint8_t *p, size_t n, size_t *ret_used, size_t *ret_n)
{
    size_t at = 0, out = 0;
    for (;;) {
        struct span rest = span_of(p + at, n - at);
        size_t eol = span_find(rest, '\n');
        if (eol == rest.n) {
            return false;
        }
        size_t size = strtoul((const char *)rest.p, NULL, 16);
        at += eol + 1;
        if (n - at < size + 2) {
            return false;
        }
        memmove(p + out, p + at, size);
        out += size;
        at += size + 2;
        if (size == 0) {
            *ret_used = at;
            *ret_n = out;
            return true;
        }
    }
}

bool fx_next(struct fx_client *c, size_t *at, bool no_body, struct fx_answer *ret)
{
    struct span all = span_from(buf_span(&c->in), *at);
    size_t n = 0;
    while (n + 4 <= all.n && memcmp(all.p + n, "\r\n\r\n", 4) != 0) {
        n++;
    }
    if (n + 4 > all.n || !span_starts(all, SPAN_LIT("HTTP/1.1 "))) {
        return false;
    }
    n += 4;
    ret->head = span_sub(all, 0, n);
    ret->status = (unsigned)strtoul((const char *)all.p + 9, NULL, 10);
    ret->body = SPAN_NONE;
    struct span length = fx_header(ret->head, "Content-Length");
    uint64_t size = 0;
    if (span_is_nocase(fx_header(ret->head, "Transfer-Encoding"), "chunked")) {
        size_t used, joined;
        if (!join_chunks(c->in.p + *at + n, all.n - n, &used, &joined)) {
            return false;
        }
        ret->body = span_sub(all, n, joined);
        *at += n + used;
        return true;
    }
    if (length.p != NULL && !no_body) {
        assert_true(span_to_u64(length, &size));
    }
    if (all.n - n < size) {
        return false;
    }
    ret->body = span_sub(all, n, (size_t)size);
    *at += n + (size_t)size;
    return true;
}

const char *fx_summary(struct fx_client *c)
{
    static char text[256];
    size_t at = 0, n = 0;
    struct fx_answer a;
    text[0] = '\0';
    while (n + 32 < sizeof(text) && fx_next(c, &at, false, &a)) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%u", n > 0 ? " " : "", a.status);
    }
    if (at < c->in.n) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, " +%zu", c->in.n - at);
    }
    (void)snprintf(text + n, sizeof(text) - n, "%s%s", n > 0 && c->is_closed ? " " : "",
                   c->is_closed ? "closed" : "");
    return text;
}
