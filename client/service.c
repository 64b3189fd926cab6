/* SPDX-License-Identifier: Apache-2.0 */
#include "client/service.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "certs/keyring.h"
#include "wire/connstr.h"
#include "wire/sas.h"

#define TOKEN_LIFE_S 600
#define ANSWER_MAX (64u << 20)
#define CALL_TIMEOUT_MS 30000u

struct service {
    struct fetch *fetch;
    char *host;
    char *policy;
    uint16_t port;
    struct secret key;
};

enum err service_new(struct span connection_string, const char *ca_file, uint16_t port,
                     const struct proxy *proxy, struct service **ret, struct err_info *info)
{
    AUTO(service_free_p) struct service *s = NEW(struct service);
    struct connstr cs;
    if (s == NULL) {
        return E_NOMEM;
    }
    enum err e = connstr_read(connection_string, &cs, info);
    if (e != OK) {
        return e;
    }
    if (cs.kind != CONNSTR_SERVICE) {
        return err_set(
            info, E_ARG,
            "a service connection string has HostName, SharedAccessKeyName and SharedAccessKey");
    }
    s->host = span_dup(cs.host);
    s->policy = span_dup(cs.key_name);
    s->port = port != 0 ? port : 443;
    if (s->host == NULL || s->policy == NULL) {
        return E_NOMEM;
    }
    if ((e = secret_from_base64(&s->key, cs.key)) != OK) {
        return err_set(info, e, "SharedAccessKey is not base64");
    }
    const struct fetch_conf fc = {.ca_file = ca_file, .proxy = proxy};
    if ((e = fetch_new(&fc, &s->fetch, info)) != OK) {
        return e;
    }
    *ret = TAKE(s);
    return OK;
}

void service_free(struct service *s)
{
    if (s == NULL) {
        return;
    }
    fetch_free(s->fetch);
    secret_done(&s->key);
    free(s->host);
    free(s->policy);
    free(s);
}

const char *service_host(const struct service *s)
{
    return s->host;
}

void service_path_add(struct buf *path, struct span id)
{
    percent_add(path, id);
}

void service_answer_done(struct service_answer *a)
{
    json_free(a->json);
    a->json = NULL;
}

/* "Authorization: SharedAccessSignature ..." */
static enum err auth_header(const struct service *s, struct buf *b)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_SAS_TOKEN);
    uint8_t mac[MAC_SIZE];
    uint64_t se = (uint64_t)clock_wall_s(clock_system()) + TOKEN_LIFE_S;
    sas_to_sign_write(&text, span_str(s->host), se);
    mac_sha256(secret_span(&s->key), buf_span(&text), mac);
    buf_add_str(b, "Authorization: ");
    sas_write(b, span_str(s->host), mac, se, span_str(s->policy));
    mem_wipe(mac, sizeof(mac));
    return buf_err(b);
}

/* --- errors ------------------------------------------------------------------------------------------ */

/* {"errorCode":404201,"message":"..."} or {"Message":"ErrorCode:DeviceNotFound;text",...} */
void service_error_read(struct span body, struct service_answer *ret)
{
    AUTO(json_free_p) struct json *j = NULL;
    ret->text[0] = ret->code[0] = '\0';
    if (json_read(body, ANSWER_MAX, &j, NULL) == OK) {
        struct span msg = json_str(json_get(j, "Message"));
        if (msg.n > 0 && span_starts(msg, SPAN_LIT("ErrorCode:"))) {
            struct span rest = span_from(msg, 10);
            (void)span_to_cstr(span_cut(&rest, ';'), ret->code, sizeof(ret->code));
            (void)span_to_cstr(span_sub(rest, 0, sizeof(ret->text) - 1), ret->text,
                               sizeof(ret->text));
        } else {
            int64_t code = json_int(json_get(j, "errorCode"));
            if (code != 0) {
                (void)snprintf(ret->code, sizeof(ret->code), "%lld", (long long)code);
            }
            (void)span_to_cstr(span_sub(json_str(json_get(j, "message")), 0, sizeof(ret->text) - 1),
                               ret->text, sizeof(ret->text));
        }
    }
}

/* --- calls --------------------------------------------------------------------------------------------- */

struct request {
    struct buf url, auth, body, match, page, token;
    const char *headers[8];
    size_t n;
};

static void request_done(struct request *r)
{
    if (r->auth.p != NULL) {
        mem_wipe(r->auth.p, r->auth.n);
    }
    struct buf *all[] = {&r->url, &r->auth, &r->body, &r->match, &r->page, &r->token};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_done(all[i]);
    }
}

static void add_header(struct request *r, struct buf *b)
{
    buf_add_u8(b, '\0');
    r->headers[r->n++] = (const char *)b->p;
}

static enum err request_make(const struct service *s, const char *path, const char *version,
                             struct request *r)
{
    *r = (struct request){.url = BUF_INIT(16384),
                          .auth = BUF_INIT(8192),
                          .body = BUF_INIT(ANSWER_MAX),
                          .match = BUF_INIT(1024),
                          .page = BUF_INIT(128),
                          .token = BUF_INIT(1024)};
    buf_addf(&r->url, "https://%s:%u%s%sapi-version=%s", s->host, s->port, path,
             strchr(path, '?') != NULL ? "&" : "?", version);
    buf_add_u8(&r->url, '\0');
    enum err e = auth_header(s, &r->auth);
    add_header(r, &r->auth);
    return e != OK ? e : buf_err(&r->url);
}

static enum err do_fetch(struct service *s, struct request *r, const struct service_call *c,
                         struct fetch_answer *ans, struct err_info *info)
{
    if (c->if_match != NULL) {
        buf_addf(&r->match, "If-Match: %s", c->if_match);
        add_header(r, &r->match);
    }
    if (c->page_size > 0) {
        buf_addf(&r->page, "x-ms-max-item-count: %u", c->page_size);
        add_header(r, &r->page);
    }
    if (c->continuation != NULL && c->continuation[0] != '\0') {
        buf_addf(&r->token, "x-ms-continuation: %s", c->continuation);
        add_header(r, &r->token);
    }
    if (c->body != NULL) {
        json_write(&r->body, c->body);
        r->headers[r->n++] = "Content-Type: application/json; charset=utf-8";
    }
    if (buf_err(&r->body) != OK || buf_err(&r->match) != OK || buf_err(&r->token) != OK) {
        return E_TOO_LARGE;
    }
    const struct fetch_rq rq = {
        .method = c->method,
        .url = (const char *)r->url.p,
        .headers = r->headers,
        .n_headers = r->n,
        .body = buf_span(&r->body),
        .timeout_ms = CALL_TIMEOUT_MS,
        .max_answer = ANSWER_MAX,
    };
    enum err e = fetch(s->fetch, &rq, ans, info);
    return e == OK ? OK : err_wrap(info, e, "%s", s->host);
}

enum err service_do(struct service *s, const struct service_call *c, struct service_answer *ret,
                    struct err_info *info)
{
    struct request r;
    struct fetch_answer ans = {0};
    struct service_answer a = {0};
    enum err e = request_make(s, c->path, c->api_version, &r);
    if (e == OK) {
        e = do_fetch(s, &r, c, &ans, info);
    }
    request_done(&r);
    if (e != OK) {
        return e;
    }
    a.status = ans.status;
    (void)span_to_cstr(span_str(ans.etag), a.etag, sizeof(a.etag));
    (void)span_to_cstr(span_str(ans.continuation), a.continuation, sizeof(a.continuation));
    if (ans.status > 299) {
        service_error_read(buf_span(&ans.body), &a);
        buf_done(&ans.body);
        *ret = a;
        return err_set(info, E_REMOTE, "%s answers %u%s%s%s%s", s->host, a.status,
                       a.code[0] != '\0' ? " " : "", a.code, a.text[0] != '\0' ? ": " : "", a.text);
    }
    if (ans.body.n > 0) {
        e = json_read(buf_span(&ans.body), ANSWER_MAX, &a.json, info);
    }
    buf_done(&ans.body);
    if (e == OK) {
        *ret = a;
    }
    return e;
}

enum err service_open_stream(struct service *s, const struct service_stream_rq *rq,
                             struct service_stream_answer *ret, struct service_answer *ret_refusal,
                             struct err_info *info)
{
    AUTO(buf_done) struct buf path = BUF_INIT(2048);
    struct request r;
    struct fetch_answer ans = {0};
    char connect[80], response[80], proto[128], accepted[16] = "";
    const struct fetch_want wants[] = {
        {"iothub-streaming-is-accepted", accepted, sizeof(accepted)},
        {"iothub-streaming-url", ret->url, sizeof(ret->url)},
        {"iothub-streaming-auth-token", ret->auth, sizeof(ret->auth)},
        {"berth-streaming-protocol", ret->proto, sizeof(ret->proto)},
    };
    *ret = (struct service_stream_answer){.is_accepted = false};
    buf_add_str(&path, "/twins/");
    percent_add(&path, span_str(rq->device_id));
    if (rq->module_id != NULL) {
        buf_add_str(&path, "/modules/");
        percent_add(&path, span_str(rq->module_id));
    }
    buf_add_str(&path, "/streams/");
    percent_add(&path, span_str(rq->name));
    buf_add_u8(&path, '\0');
    enum err e = buf_err(&path);
    if (e != OK || (e = request_make(s, (const char *)path.p, SERVICE_HUB_VERSION, &r)) != OK) {
        return e;
    }
    (void)snprintf(connect, sizeof(connect), "iothub-streaming-connect-timeout-in-seconds: %u",
                   rq->connect_s);
    (void)snprintf(response, sizeof(response), "iothub-streaming-response-timeout-in-seconds: %u",
                   rq->response_s);
    r.headers[r.n++] = connect;
    r.headers[r.n++] = response;
    if (rq->proto != NULL) {
        (void)snprintf(proto, sizeof(proto), "berth-streaming-protocol: %s", rq->proto);
        r.headers[r.n++] = proto;
    }
    const struct fetch_rq f = {.method = "POST",
                               .url = (const char *)r.url.p,
                               .headers = r.headers,
                               .n_headers = r.n,
                               .timeout_ms = (rq->connect_s + rq->response_s + 15u) * 1000u,
                               .max_answer = LIMIT_FILE_SMALL,
                               .wants = wants,
                               .n_wants = ARRAY_LEN(wants)};
    e = fetch(s->fetch, &f, &ans, info);
    request_done(&r);
    if (e == OK && ans.status != 200) {
        *ret_refusal = (struct service_answer){.status = ans.status};
        service_error_read(buf_span(&ans.body), ret_refusal);
        e = err_set(info, E_REMOTE, "%s answers %u %s: %s", s->host, ans.status, ret_refusal->code,
                    ret_refusal->text);
    }
    buf_done(&ans.body);
    ret->is_accepted = e == OK && span_is_nocase(span_str(accepted), "true");
    if (ret->is_accepted && (ret->url[0] == '\0' || ret->auth[0] == '\0')) {
        e = err_set(info, E_REMOTE, "%s accepts, but tells no address", s->host);
    }
    return e;
}

enum err service_stream(struct service *s, const char *path, const char *api_version,
                        fetch_line_fn on_line, void *arg, struct err_info *info)
{
    struct request r;
    struct fetch_answer ans = {0};
    enum err e = request_make(s, path, api_version, &r);
    if (e == OK) {
        const struct fetch_rq rq = {
            .method = "GET",
            .url = (const char *)r.url.p,
            .headers = r.headers,
            .n_headers = r.n,
            .max_answer = LIMIT_FILE_SMALL,
            .on_line = on_line,
            .line_arg = arg,
        };
        e = fetch(s->fetch, &rq, &ans, info);
    }
    request_done(&r);
    if (e == OK && ans.status > 299) {
        struct service_answer a = {0};
        service_error_read(buf_span(&ans.body), &a);
        e = err_set(info, E_REMOTE, "%s answers %u %s %s", s->host, ans.status, a.code, a.text);
    }
    buf_done(&ans.body);
    return e;
}
