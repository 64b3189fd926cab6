/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/secret.h"
#include "net/egress_addr.h"
#include "net/egress_impl.h"

/* --- callbacks of libcurl -------------------------------------------------------------------------- */

static size_t on_answer(char *p, size_t size, size_t n, void *arg)
{
    struct egress_job *j = arg;
    struct buf *b = &j->rq->answer;
    if (size * n > b->max - b->n) {
        j->is_too_large = true;
        return 0;
    }
    buf_add(b, span_of(p, size * n));
    return buf_err(b) == OK ? size * n : 0;
}

/* The only place where an address is final: names are resolved, nothing is connected yet. */
static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct egress_job *j = arg;
    if (purpose != CURLSOCKTYPE_IPCXN ||
        !egress_addr_allowed(&a->addr, j->pool->conf.allow_private)) {
        j->is_addr_refused = true;
        return CURL_SOCKET_BAD;
    }
    int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
    if (fd >= 0) {
        atomic_fetch_add(&j->pool->connections_made, 1);
    }
    return fd;
}

/* --- easy handles ------------------------------------------------------------------------------------ */

static bool set_lasting(CURL *c, const struct egress_pool *p)
{
    CURLcode r = CURLE_OK;
    /* clang-format off */
    r = r ? r : curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    r = r ? r : curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* do not wait for a resolver that hangs */
    r = r ? r : curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    r = r ? r : curl_easy_setopt(c, CURLOPT_PROXY, "");      /* nor one from the environment */
    r = r ? r : curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    r = r ? r : curl_easy_setopt(c, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    r = r ? r : curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    r = r ? r : curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    r = r ? r : curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    r = r ? r : curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    r = r ? r : curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
    r = r ? r : curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_open);
    r = r ? r : curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_answer);
    /* clang-format on */
    if (r == CURLE_OK && p->conf.ca_file != NULL) {
        r = curl_easy_setopt(c, CURLOPT_CAINFO, p->conf.ca_file);
    }
    return r == CURLE_OK;
}

static CURL *take_handle(struct egress_pool *p)
{
    if (p->n_idle > 0) {
        return p->idle[--p->n_idle];
    }
    CURL *c = curl_easy_init();
    if (c != NULL && !set_lasting(c, p)) {
        curl_easy_cleanup(c);
        c = NULL;
    }
    return c;
}

static void give_handle(struct egress_pool *p, CURL *c)
{
    if (p->n_idle < EGRESS_IDLE_HANDLES) {
        p->idle[p->n_idle++] = c;
    } else {
        curl_easy_cleanup(c);
    }
}

/* --- one request ------------------------------------------------------------------------------------- */

static bool has_name(const char *header, const char *name)
{
    return span_starts_nocase(span_str(header), span_str(name));
}

static bool add_header(struct egress_job *j, const char *text)
{
    struct curl_slist *l = curl_slist_append(j->headers, text);
    if (l != NULL) {
        j->headers = l;
    }
    return l != NULL;
}

static bool add_headers(struct egress_job *j)
{
    const struct egress_rq *rq = j->rq;
    bool has_type = false;
    bool is_ok = add_header(j, "Expect:"); /* no round trip before a body */
    for (size_t i = 0; i < rq->n_headers && is_ok; i++) {
        has_type = has_type || has_name(rq->headers[i], "Content-Type:");
        is_ok = add_header(j, rq->headers[i]);
    }
    /* libcurl would call a body a form. */
    return is_ok && (has_type || add_header(j, "Content-Type:"));
}

static CURLcode set_method(CURL *c, const struct egress_rq *rq)
{
    bool is_get = strcmp(rq->method, "GET") == 0 || strcmp(rq->method, "DELETE") == 0;
    CURLcode r = curl_easy_setopt(c, CURLOPT_NOBODY, 0L);
    if (strcmp(rq->method, "HEAD") == 0) {
        r = r ? r : curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
        return r ? r : curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, NULL);
    }
    if (is_get && rq->body.n == 0) {
        r = r ? r : curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
    } else {
        r = r ? r : curl_easy_setopt(c, CURLOPT_POST, 1L);
        r = r ? r : curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.n);
        r = r ? r
              : curl_easy_setopt(c, CURLOPT_POSTFIELDS,
                                 rq->body.n > 0 ? (const char *)rq->body.p : "");
    }
    return r ? r : curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, rq->method);
}

static bool set_request(struct egress_job *j)
{
    CURL *c = j->easy;
    const struct egress_rq *rq = j->rq;
    const char *protocols = rq->allow_http ? "http,https" : "https";
    CURLcode r = set_method(c, rq);
    /* clang-format off */
    r = r ? r : curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, protocols);
    r = r ? r : curl_easy_setopt(c, CURLOPT_URL, rq->url);
    r = r ? r : curl_easy_setopt(c, CURLOPT_HTTPHEADER, j->headers);
    r = r ? r : curl_easy_setopt(c, CURLOPT_ERRORBUFFER, j->why);
    r = r ? r : curl_easy_setopt(c, CURLOPT_PRIVATE, j);
    r = r ? r : curl_easy_setopt(c, CURLOPT_WRITEDATA, j);
    r = r ? r : curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, j);
    /* clang-format on */
    return r == CURLE_OK;
}

static void on_late(struct timer *t)
{
    struct egress_job *j = CONTAINER_OF(t, struct egress_job, timer);
    egress_job_finish(j, E_TIMEOUT, "no answer in time");
}

void egress_job_start(struct msg *m)
{
    struct egress_job *j = CONTAINER_OF(m, struct egress_job, msg);
    struct egress_pool *p = j->pool;
    atomic_fetch_sub(&p->queued, 1);
    atomic_fetch_add(&p->active, 1);
    if (p->egress->is_cut) {
        egress_job_finish(j, E_DRAINING, NULL);
        return;
    }
    CURL *c = take_handle(p);
    if (c == NULL) {
        egress_job_finish(j, E_NOMEM, NULL);
        return;
    }
    j->easy = c;
    if (!add_headers(j) || !set_request(j)) {
        egress_job_finish(j, E_NOMEM, "request cannot be set up");
        return;
    }
    timer_set(p->egress->loop, &j->timer, j->rq->timeout_ms, on_late);
    if (curl_multi_add_handle(p->multi, c) != CURLM_OK) {
        egress_job_finish(j, E_NOMEM, "request cannot be started");
        return;
    }
    list_add_tail(&p->jobs, &j->link);
}

/* The list holds copies of tokens. */
static void free_headers(struct curl_slist *l)
{
    for (struct curl_slist *i = l; i != NULL; i = i->next) {
        mem_wipe(i->data, strlen(i->data));
    }
    curl_slist_free_all(l);
}

static void drop_handle(struct egress_job *j)
{
    CURL *c = TAKE(j->easy);
    if (c == NULL) {
        return;
    }
    if (list_linked(&j->link)) {
        list_del(&j->link);
        curl_multi_remove_handle(j->pool->multi, c);
    }
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_setopt(c, CURLOPT_PRIVATE, NULL);
    give_handle(j->pool, c);
}

static bool was_sent(const struct egress_job *j)
{
    long n = 0;
    return j->easy != NULL &&
           (curl_easy_getinfo(j->easy, CURLINFO_REQUEST_SIZE, &n) != CURLE_OK || n != 0);
}

void egress_job_finish(struct egress_job *j, enum err e, const char *why)
{
    struct egress_pool *p = j->pool;
    struct egress_rq *rq = j->rq;
    timer_stop(p->egress->loop, &j->timer);
    rq->was_sent = was_sent(j);
    drop_handle(j);
    free_headers(j->headers);
    rq->result = e;
    if (e != OK) {
        err_set(&rq->info, e, "%s", why != NULL && why[0] != '\0' ? why : err_text(e));
    }
    atomic_fetch_add(e == OK ? &p->ok : &p->failed, 1);
    atomic_fetch_sub(&p->active, 1);
    struct egress *egress = p->egress;
    free(j);
    mailbox_post(rq->home, &rq->msg); /* rq is its owner's again */
    egress_job_left(egress);
}

/* --- results --------------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
    CURLcode code;
    enum err err;
} results[] = {
    { CURLE_OK,                       OK },
    { CURLE_OPERATION_TIMEDOUT,       E_TIMEOUT },
    { CURLE_OUT_OF_MEMORY,            E_NOMEM },
    { CURLE_UNSUPPORTED_PROTOCOL,     E_ARG },
    { CURLE_URL_MALFORMAT,            E_ARG },
    { CURLE_LOGIN_DENIED,             E_ARG }, /* credentials in the URL */
    { CURLE_SSL_CONNECT_ERROR,        E_TLS },
    { CURLE_PEER_FAILED_VERIFICATION, E_TLS },
    { CURLE_SSL_CERTPROBLEM,          E_TLS },
    { CURLE_SSL_CIPHER,               E_TLS },
    { CURLE_SSL_CACERT_BADFILE,       E_TLS },
    { CURLE_SSL_ISSUER_ERROR,         E_TLS },
    { CURLE_SSL_ENGINE_INITFAILED,    E_TLS },
};
/* clang-format on */

void egress_job_done(struct egress_job *j, CURLcode code)
{
    enum err e = E_NET;
    const char *why = j->why[0] != '\0' ? j->why : curl_easy_strerror(code);
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        if (results[i].code == code) {
            e = results[i].err;
        }
    }
    char text[CURL_ERROR_SIZE]; /* j, and with it why, is gone when the request is home */
    if (j->is_too_large) {
        e = E_TOO_LARGE;
        why = "answer is larger than this pool takes";
    } else if (e != OK && j->is_addr_refused) {
        why = "the host's address may not be reached from this pool";
    }
    (void)snprintf(text, sizeof(text), "%s", why);
    if (e == OK) {
        long status = 0;
        curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &status);
        j->rq->status = (unsigned)status;
    }
    egress_job_finish(j, e, text);
}
