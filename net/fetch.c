/* SPDX-License-Identifier: Apache-2.0 */
#include "net/fetch.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "net/proxy.h"

#define FETCH_LINE_MAX (16u << 20)

struct fetch {
    CURL *curl;
    char *ca_file, *cert_chain_file, *key_file;
    struct proxy proxy;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static void start_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

static char *dup_or_null(const char *s)
{
    return s != NULL ? span_dup(span_str(s)) : NULL;
}

enum err fetch_new(const struct fetch_conf *conf, struct fetch **ret, struct err_info *info)
{
    pthread_once(&curl_once, start_curl);
    AUTO(fetch_free_p) struct fetch *f = NEW(struct fetch);
    if (f == NULL) {
        return E_NOMEM;
    }
    f->curl = curl_easy_init();
    f->ca_file = dup_or_null(conf->ca_file);
    f->cert_chain_file = dup_or_null(conf->cert_chain_file);
    f->key_file = dup_or_null(conf->key_file);
    if (f->curl == NULL || (conf->ca_file != NULL && f->ca_file == NULL)) {
        return err_set(info, E_NOMEM, "HTTPS client cannot start");
    }
    if (conf->proxy != NULL && proxy_copy(&f->proxy, conf->proxy) != OK) {
        return E_NOMEM;
    }
    *ret = TAKE(f);
    return OK;
}

void fetch_free(struct fetch *f)
{
    if (f == NULL) {
        return;
    }
    if (f->curl != NULL) {
        curl_easy_cleanup(f->curl);
    }
    proxy_done(&f->proxy);
    free(f->ca_file);
    free(f->cert_chain_file);
    free(f->key_file);
    free(f);
}

/* --- what comes back ------------------------------------------------------------------------------ */

struct receiver {
    CURL *curl;
    const struct fetch_rq *rq;
    struct fetch_answer *ans;
    struct buf line;
    bool is_stopped;
    bool is_too_large;
};

static bool is_ok_status(CURL *curl)
{
    long status = 0;
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300;
}

/* Hands over each whole line; what is left waits for more. */
static bool give_lines(struct receiver *r, struct span in)
{
    buf_add(&r->line, in);
    struct span rest = buf_span(&r->line);
    size_t used = 0;
    for (;;) {
        size_t at = span_find(rest, '\n');
        if (at == rest.n) {
            break;
        }
        if (!r->rq->on_line(r->rq->line_arg, span_sub(rest, 0, at))) {
            r->is_stopped = true;
            return false;
        }
        used += at + 1;
        rest = span_from(rest, at + 1);
    }
    buf_drop(&r->line, used);
    r->is_too_large = buf_err(&r->line) != OK;
    return !r->is_too_large;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct receiver *r = arg;
    struct span in = span_of(p, size * n);
    if (r->rq->on_line != NULL && is_ok_status(r->curl)) {
        return give_lines(r, in) ? in.n : 0;
    }
    buf_add(&r->ans->body, in);
    if (buf_err(&r->ans->body) != OK) {
        r->is_too_large = true;
        return 0;
    }
    return in.n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct receiver *r = arg;
    struct span value = span_of(p, size * n);
    struct span name = span_cut(&value, ':');
    struct fetch_answer *a = r->ans;
    const struct {
        const char *name;
        char *dst;
        size_t n;
    } rows[] = {
        {"etag", a->etag, sizeof(a->etag)},
        {"retry-after", a->retry_after, sizeof(a->retry_after)},
        {"x-ms-continuation", a->continuation, sizeof(a->continuation)},
        {"location", a->location, sizeof(a->location)},
    };
    if (value.p == NULL) {
        return size * n;
    }
    while (value.n > 0 && (value.p[value.n - 1] == '\r' || value.p[value.n - 1] == '\n')) {
        value.n--;
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (span_is_nocase(name, rows[i].name)) {
            (void)span_to_cstr(span_trim(value), rows[i].dst,
                               rows[i].n); /* too long: as if absent */
        }
    }
    for (size_t i = 0; i < r->rq->n_wants; i++) {
        const struct fetch_want *w = &r->rq->wants[i];
        if (span_is_nocase(name, w->name) && !span_to_cstr(span_trim(value), w->dst, w->size)) {
            w->dst[0] = '\0';
        }
    }
    return size * n;
}

/* --- one request ----------------------------------------------------------------------------------- */

static enum err err_of(CURLcode c)
{
    switch (c) {
    case CURLE_OK:
        return OK;
    case CURLE_OPERATION_TIMEDOUT:
        return E_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CIPHER:
        return E_TLS;
    case CURLE_OUT_OF_MEMORY:
        return E_NOMEM;
    default:
        return E_NET;
    }
}

/* curl's own reading of the list is the one that wire/proxy.h follows. */
static void set_proxy(struct fetch *f)
{
    const struct proxy *p = &f->proxy;
    char at[sizeof(p->host) + 16u], credential[SECRET_MAX + 1u];
    if (p->host[0] == '\0') {
        (void)curl_easy_setopt(f->curl, CURLOPT_PROXY, "");
        return;
    }
    (void)snprintf(at, sizeof(at), strchr(p->host, ':') != NULL ? "http://[%s]" : "http://%s",
                   p->host);
    (void)curl_easy_setopt(f->curl, CURLOPT_PROXY, at);
    (void)curl_easy_setopt(f->curl, CURLOPT_PROXYPORT, (long)p->port);
    (void)curl_easy_setopt(f->curl, CURLOPT_NOPROXY, p->exempt != NULL ? p->exempt : "");
    if (span_to_cstr(secret_span(&p->credential), credential, sizeof(credential)) &&
        credential[0] != '\0') {
        char *password = strchr(credential, ':');
        if (password != NULL) {
            *password++ = '\0';
            (void)curl_easy_setopt(f->curl, CURLOPT_PROXYPASSWORD, password);
        }
        (void)curl_easy_setopt(f->curl, CURLOPT_PROXYUSERNAME, credential);
        mem_wipe(credential, sizeof(credential));
    }
}

static void set_options(struct fetch *f, const struct fetch_rq *rq, struct receiver *r,
                        struct curl_slist *headers)
{
    CURL *c = f->curl;
    curl_easy_reset(c);
    (void)curl_easy_setopt(c, CURLOPT_URL, rq->url);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https");
    (void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    set_proxy(f);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 15000L);
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)rq->timeout_ms);
    (void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, rq->method);
    (void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, r);
    if (rq->body.p != NULL) {
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, rq->body.p);
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.n);
    } else if (strcmp(rq->method, "GET") != 0 && strcmp(rq->method, "DELETE") != 0) {
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, "");
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, 0L);
    }
    if (f->ca_file != NULL) {
        (void)curl_easy_setopt(c, CURLOPT_CAINFO, f->ca_file);
        (void)curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
    }
    if (f->cert_chain_file != NULL) {
        (void)curl_easy_setopt(c, CURLOPT_SSLCERT, f->cert_chain_file);
        (void)curl_easy_setopt(c, CURLOPT_SSLKEY, f->key_file);
    }
}

static struct curl_slist *header_list(const struct fetch_rq *rq, bool *ok)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    *ok = list != NULL;
    for (size_t i = 0; i < rq->n_headers && *ok; i++) {
        struct curl_slist *more = curl_slist_append(list, rq->headers[i]);
        *ok = more != NULL;
        list = more != NULL ? more : list;
    }
    return list;
}

enum err fetch(struct fetch *f, const struct fetch_rq *rq, struct fetch_answer *ret,
               struct err_info *info)
{
    struct fetch_answer ans = {
        .body = BUF_INIT(rq->max_answer > 0 ? rq->max_answer : LIMIT_FILE_SMALL)};
    struct receiver r = {.curl = f->curl, .rq = rq, .ans = &ans, .line = BUF_INIT(FETCH_LINE_MAX)};
    char text[CURL_ERROR_SIZE] = {0};
    bool ok;
    struct curl_slist *headers = header_list(rq, &ok);
    if (!ok) {
        curl_slist_free_all(headers);
        return E_NOMEM;
    }
    set_options(f, rq, &r, headers);
    (void)curl_easy_setopt(f->curl, CURLOPT_ERRORBUFFER, text);
    CURLcode c = curl_easy_perform(f->curl);
    long status = 0;
    (void)curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_setopt(f->curl, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    buf_done(&r.line);
    enum err e = r.is_too_large ? E_TOO_LARGE : r.is_stopped ? E_CLOSED : err_of(c);
    if (e != OK) {
        buf_done(&ans.body);
        return err_set(info, e, "%s",
                       r.is_too_large    ? "answer is larger than allowed"
                       : text[0] != '\0' ? text
                                         : curl_easy_strerror(c));
    }
    ans.status = (unsigned)status;
    *ret = ans;
    return OK;
}
