/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of net/http: shared by http*.c only.
 *
 * A connection takes one request at a time; what the client sends behind it stays unread in the stream, so
 * answers leave in order by construction, and our own refusals can never overtake an answer:
 *
 *   HEAD --head good--> BODY --all fed--> ANSWER --sent--> HEAD (keep-alive) or closed
 *     |                   |                  |--http_stream_begin--> STREAM --end--> HEAD or closed
 *     +-- bad head, too large, too late --> LINGER --(peer closes, or LIMIT_HTTP_LINGER_MS)--> closed
 *
 * The request is parsed here, from its raw head. libmicrohttpd (0.9.75) gets a short head of our own writing
 * with the same framing, then the checked body bytes; so there is nothing on which it could read a message
 * otherwise than we did, and no error page of its own that a client could provoke. It gives back the body without
 * chunking, asks for 100-continue, holds the suspended request and writes the answer.
 *
 * WebSocket upgrades are answered here: libmicrohttpd never sees them.
 *
 * Three objects, because their lives differ:
 *   http_conn   lives with the stream
 *   http_mc     one libmicrohttpd connection and our end of its pair; lives until libmicrohttpd reports CLOSED.
 *               Dropping it (client gone, answer written past libmicrohttpd) cuts conn and mc apart.
 *   http_rq     one request; freed at the end of a turn, since handlers may be on the stack above it
 */
#ifndef NET_HTTP_IMPL_H
#define NET_HTTP_IMPL_H

#include <microhttpd.h>

#include "base/limits.h"
#include "net/http.h"
#include "wire/http.h"

#define HTTP_SERVER_MAGIC 0x48545053u
#define HTTP_MC_MAGIC 0x4854504du
#define HTTP_RQ_MAGIC 0x48545052u

enum http_state { HTTP_S_HEAD, HTTP_S_BODY, HTTP_S_ANSWER, HTTP_S_STREAM, HTTP_S_LINGER };

struct http_mc {
    uint32_t magic;
    struct http_server *server;
    struct http_conn *conn; /* NULL: dropped */
    struct http_rq *rq;     /* the request that was fed; NULL between requests */
    struct MHD_Connection *mhd;
    int fd;             /* our end of the pair */
    struct watch watch; /* of it; not active while the stream is full */
    struct list active; /* in server.active: drain after the next run */
    bool is_added;      /* libmicrohttpd knows it: it will report CLOSED */
    bool is_suspended;
    bool is_completed; /* the answer has been written to the pair */
    bool wants_room;   /* body bytes wait for room in the pair */
};

struct http_conn {
    struct http_server *server;
    struct stream *stream;
    struct list link; /* in server.conns */
    struct timer timer;
    enum http_state state;
    struct http_rq *rq;
    struct http_mc *mc;
    struct http_stream *out; /* in STREAM */
    struct http_body body;   /* where the request in work ends */
    size_t cleared;      /* bytes at the front of the input that were checked, but not yet fed */
    size_t scanned;      /* of an incomplete head, already searched for its end */
    uint64_t body_ms;    /* when the body began */
    bool has_head_bytes; /* a head has begun: LIMIT_HTTP_HEAD_S runs */
    bool has_unread;     /* on_bytes left something behind */
    bool was_used;       /* had a request already */
    bool is_closing;     /* stream_close or stream_abort was called */
    bool is_head_bad;    /* refused without knowing what follows */
};

struct http_rq_header {
    struct http_rq_header *next;
    const char *name;
    const char *value;
};

struct http_rq {
    uint32_t magic;
    struct http_server *server;
    struct http_conn *conn; /* NULL: the client has gone */
    struct list dead;
    struct arena arena;
    struct http_head head; /* spans into the arena */
    enum http_method method;
    const struct http_route *route;
    struct span params[HTTP_PARAMS];
    unsigned n_params;
    size_t body_limit; /* taken in; what is over it: 413 */
    bool keeps_body;
    struct buf body;
    void *user;
    handle handle;
    struct http_rq_header *headers, **headers_end;
    size_t headers_size;
    unsigned
        forced_status; /* our own refusals that the face's table cannot tell apart: 408, 431, ... */
    bool keep_alive;
    bool must_close; /* refused before its end was read */
    bool closes;     /* decided with the answer: the connection ends behind it */
    bool is_short;   /* memory was short for a header of the answer */
    bool is_answered;
    bool is_handled;
    bool wants_carrier; /* http_rq_take_carrier */
    struct loop *to;    /* http_rq_move; NULL: stays */
    conn_arrived_fn arrived;
    void *arrived_arg;
    void (*gone)(void *arg); /* http_rq_set_gone */
    void *gone_arg;
    struct MHD_Response *response; /* waits for libmicrohttpd to ask */
    unsigned status;
};

struct http_server {
    uint32_t magic;
    struct http_conf conf;
    struct loop *loop;
    struct MHD_Daemon *mhd;
    struct watch watch; /* libmicrohttpd's epoll */
    struct deferred turn;
    struct list conns;
    struct list active; /* mcs to be drained */
    struct list dead;   /* requests to be freed */
    struct http_mc *adding;
    size_t n_mcs;
    bool in_turn; /* requests that end now are freed at the end of it */
    bool is_draining;
    struct http_stats stats;
};

/* --- http_mhd.c: the pair and libmicrohttpd --------------------------------------------------- */
MUST_USE enum err http_mhd_start(struct http_server *s, struct err_info *info);
void http_mhd_stop(struct http_server *s);
/* Gives c a pair if it has none. */
MUST_USE enum err http_mc_new(struct http_conn *c);
/* Cuts c and its pair apart; libmicrohttpd cleans up in the next run. */
void http_mc_drop(struct http_conn *c);
/* Lets libmicrohttpd ask for the answer that is ready now. */
void http_mc_wake(struct http_mc *mc);
/* Non-blocking; how much went in. */
size_t http_mc_feed(struct http_mc *mc, struct span a, struct span b);
/* Runs libmicrohttpd at the end of this turn. */
void http_turn(struct http_server *s);
/* What to wait for on our end. */
void http_mc_rewatch(struct http_mc *mc, bool wants_room);

/* Drain mc at the end of this turn. */
void http_mc_drain_soon(struct http_mc *mc);

/* --- http_conn.c: the state machine ------------------------------------------------------------ */
void http_conn_close(struct http_conn *c);
void http_conn_abort(struct http_conn *c, enum err why);
/* The answer of the request in work has left: next request, or close. */
void http_conn_finish(struct http_conn *c);
/* We have written the answer ourselves: go on, or wait for the client to see it, then close. */
void http_conn_answered(struct http_conn *c);
/* The head was good: prefix is what libmicrohttpd gets for it, the body comes next. Returns the bytes of behind that
 * were used. */
size_t http_conn_begin_body(struct http_conn *c, struct span prefix, struct span behind);
/* A sign of life while the answer goes out. */
void http_conn_progress(struct http_conn *c);

/* --- http_head.c: what a head says about the rest ------------------------------------------------- */
/* Who has the stream behind a head; all but STAYS: c is gone. */
enum http_taken {
    HTTP_STAYS,
    HTTP_TAKEN,      /* a WebSocket, early bytes included */
    HTTP_TAKEN_BARE, /* whoever reads the frames: bytes behind the head are still unused */
    HTTP_MOVED,      /* another loop: the head too is unused */
};
/* A whole head: request made, routed, admitted or refused, or upgraded. *ret_used: bytes of behind that were used. */
enum http_taken http_conn_take_head(struct http_conn *c, struct span head, struct span behind,
                                    size_t *ret_used);
/* Refuses without a readable head. */
void http_conn_refuse_raw(struct http_conn *c, enum err e, unsigned status,
                          const struct err_info *info);
/* Ends c but not its stream. */
void http_conn_free(struct http_conn *c);

/* --- http_rq.c ---------------------------------------------------------------------------------- */
struct http_rq *http_rq_new(struct http_conn *c);
/* No longer reachable by its handle; freed at the end of the turn. */
void http_rq_end(struct http_rq *rq);
void http_rq_free(struct http_rq *rq);
/* Runs the face's refusal for e, status forced when not 0; makes sure that there is an answer. */
void http_rq_refuse(struct http_rq *rq, enum err e, unsigned status, const struct err_info *info);

/* --- http_route.c ------------------------------------------------------------------------------- */
/* Fills route and params; E_NO_ROUTE, or E_METHOD with Allow set as a header of the answer. */
MUST_USE enum err http_route_find(struct http_rq *rq, struct err_info *info);
/* HTTP_METHODS: one that no route can have. */
enum http_method http_method_of(struct span name);

/* --- http_answer.c ------------------------------------------------------------------------------ */
/* Marks rq as answered with status and decides whether the connection ends behind it. */
void http_rq_settle(struct http_rq *rq, unsigned status);
/* Status line, Date and headers of rq, without the empty line. length SIZE_MAX: not known. */
void http_answer_head(const struct http_rq *rq, unsigned status, const char *content_type,
                      size_t length, struct buf *ret);

/* --- http_stream.c ------------------------------------------------------------------------------ */
void http_stream_drained(struct http_stream *s);
void http_stream_gone(struct http_stream *s);

#endif
