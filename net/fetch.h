/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTPS request at a time, blocking: for command-line tools and for the agent's fallback, never on a loop thread of a server.
 * libcurl inside: no redirects, no proxy but the one given (never from the environment), no cookies, TLS 1.2 or later, the server verified against ca_file and
 * the host in the URL.
 *
 * Ownership   a fetch object keeps its connection for further requests to the same host; fetch_free ends it. ret->body is the caller's
 *             (buf_done).
 * Errors      OK: a status was received, any. E_NET (resolve, connect), E_TLS, E_TIMEOUT, E_TOO_LARGE (answer above max_answer), E_CLOSED
 *             (on_line returned false). info says why, with the host.
 * Threads     one owner.
 */
#ifndef NET_FETCH_H
#define NET_FETCH_H

#include "base/buf.h"
#include "base/err.h"

struct fetch;
struct fetch_conf {
    const char *ca_file;         /* NULL: the system's */
    const char *cert_chain_file; /* client certificate, NULL: none */
    const char *key_file;
    const struct proxy *proxy; /* net/proxy.h; copied; NULL: none */
};
MUST_USE enum err fetch_new(const struct fetch_conf *conf, struct fetch **ret,
                            struct err_info *info);
void fetch_free(struct fetch *f);
AUTO_FREE_FN(struct fetch, fetch_free)

struct fetch_answer {
    unsigned status;
    struct buf body;
    char retry_after[16];
    char etag[80];
    char continuation[512]; /* x-ms-continuation */
    char location[256];
};
/* A header of the answer that the caller wants: its value without blanks around; a value that does not fit is as if absent. */
struct fetch_want {
    const char *name;
    char *dst; /* "" when absent */
    size_t size;
};
/* A streamed answer of lines: return false to stop. Empty lines are passed too. */
typedef bool (*fetch_line_fn)(void *arg, struct span line);
struct fetch_rq {
    const char *method;
    const char *url;
    const char *const *headers; /* "Name: value" */
    size_t n_headers;
    struct span body;
    uint64_t timeout_ms; /* total; 0: none (streams) */
    size_t max_answer;
    fetch_line_fn on_line; /* for 2xx answers; then body stays empty */
    void *line_arg;
    const struct fetch_want *wants;
    size_t n_wants;
};
MUST_USE enum err fetch(struct fetch *f, const struct fetch_rq *rq, struct fetch_answer *ret,
                        struct err_info *info);

#endif
