/* SPDX-License-Identifier: Apache-2.0 */
/* Test fixture: one loop with a clock that tests set, one http_server, raw clients over socket pairs. */
#ifndef NET_HTTP_FIXTURE_H
#define NET_HTTP_FIXTURE_H

#include "base/buf.h"
#include "net/http.h"

#define FX_BODY 64u /* body limit of PUT /things/{id} */
#define FX_CLIENTS 8u

struct fx_client {
    int fd;
    bool is_closed; /* the server ended it */
    struct buf in;  /* all that came */
};

struct fx {
    struct loop *loop;
    struct http_server *server;
    uint64_t now_ms;
    struct clock clock;
    bool is_draining;
    unsigned handled;     /* handlers that ran */
    handle pending;       /* of the last request to /slow */
    struct http_rq *held; /* its address, only to be compared */
    struct http_stream *out;
    unsigned gone, drained;
    struct stream *ws;
    struct buf ws_in;
    unsigned ws_closed;
    enum err last_error; /* given to refuse */
};
extern struct fx fx;

int fx_setup(void **state);
int fx_teardown(void **state);
void fx_connect(struct fx_client *c);
void fx_disconnect(struct fx_client *c);
/* Turns until nothing moves any more. */
void fx_settle(void);
void fx_advance(uint64_t ms);
/* Sends all of it, steps, takes what came back. */
void fx_say(struct fx_client *c, struct span bytes);
void fx_say_str(struct fx_client *c, const char *text);
void fx_hear(struct fx_client *c);

/* One answer cut out of what came. */
struct fx_answer {
    unsigned status;
    struct span head;
    struct span body; /* chunks joined in place */
};
/* Joining spoils the bytes: read an answer once. False when there is no whole answer at *at. no_body: it answers HEAD. */
bool fx_next(struct fx_client *c, size_t *at, bool no_body, struct fx_answer *ret);
/* "200 404 closed": all statuses in order, then whether the connection was ended, and "+N" for bytes that are no answer. */
const char *fx_summary(struct fx_client *c);
/* Value of a header of the first answer. */
struct span fx_header(struct span head, const char *name);

#endif
