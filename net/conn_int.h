/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of net/conn: shared by conn.c (life), conn_io.c (bytes), conn_open.c (handshakes, clients), conn_tunnel.c (through a
 * proxy) and conn_move.c, listener.c only.
 *
 * Every entry from the loop ends in conn_settle() or in conn_defer(); the end-of-turn pass shows kept
 * bytes again, flushes once, and takes the dead away. A conn is freed in that pass only (or when
 * nobody is behind it any more: LINGER), so code on the stack may still look at its state.
 */
#ifndef NET_CONN_INT_H
#define NET_CONN_INT_H

#include "base/limits.h"
#include "base/map.h"
#include "net/conn.h"
#include "net/door.h"
#include "net/tls_io.h"

enum conn_state {
    CONN_CONNECTING,
    CONN_TUNNEL,  /* the proxy is asked to let us through */
    CONN_WAITING, /* at its listener's door: nothing was begun */
    CONN_HANDSHAKE,
    CONN_OPEN,
    CONN_CLOSING, /* flushing what was written before stream_close */
    CONN_LINGER,  /* handler gone, FIN sent: the peer reads our last bytes */
    CONN_MOVING,  /* leaves for another loop at the end of the turn: conn_move.c */
    CONN_DYING,   /* on_close at the end of the turn */
};

struct conn_text {
    char peer[INET6_ADDRSTRLEN];
    char local[INET6_ADDRSTRLEN];
    uint16_t local_port;
};

/* How it came to be, when no listener made it; freed once it is open. */
struct conn_origin {
    conn_open_fn on_open;   /* conn_adopt */
    conn_connected_fn done; /* conn_connect */
    void *arg;
    char *host;
    struct conn_tunnel *tunnel; /* NULL: no proxy, or it let us through */
    struct addrinfo *all, *next;
    struct tls_ctx *tls;
    uint64_t deadline_ms;
    struct err_info info;
};

struct conn {
    struct stream s;
    struct tls tls;
    struct watch w;
    struct timer timer; /* handshake, closing, lingering: one at a time */
    struct deferred end;
    struct list all; /* in conns.all from conn_make to conn_destroy */
    struct list hs;  /* in conns.handshakes while a step is due */
    uint8_t *in;     /* read and not used by the handler; NULL when empty */
    uint8_t *out;    /* [out_at, out_n) has yet to leave; NULL when empty */
    uint32_t in_n, in_cap;
    uint32_t out_at, out_n, out_cap;
    enum err why;
    uint64_t bytes_in, bytes_out;
    struct listener *ls;   /* NULL: adopted or connected */
    struct source *source; /* its budget until authenticated; NULL: none */
    struct list
        at_source; /* in source.inside, or while it waits in door.silent, door.line or source.held */
    struct list inside;         /* in door.inside */
    uint64_t accepted_ms;       /* or let in, when it had to wait */
    struct conn_origin *origin; /* NULL once open */
    struct tls_peer *peer_cert; /* until conn_forget_peer_cert */
    uint8_t *peer_sha256;       /* afterwards */
    struct conn_text *text;     /* made when first asked for */
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } peer;
    uint8_t state;
    bool is_server : 1;
    bool is_unauthenticated : 1; /* counted so at its listener's door */
    bool is_waiting : 1;         /* there, and not even begun */
    bool paused : 1;
    bool again : 1;       /* show what is kept, then read, at the end of the turn */
    bool out_blocked : 1; /* waiting for EPOLLOUT */
    bool is_full : 1;     /* above the high mark, and not below the low one since */
    bool giving : 1;      /* on_bytes is on the stack */
    bool is_bulk : 1;     /* conn_set_bulk */
    bool in_ended : 1;    /* the peer sends no more, and the handler wants to hear of it */
    bool end_told : 1;    /* and has */
    bool end_asked : 1;   /* we send no more, once the queue is empty */
    bool out_ended : 1;   /* said so */
};

/* Once per loop. */
struct conns {
    struct loop *loop;
    struct list lent; /* TLS contexts that moved connections use on other loops: conn_move.c */
    struct list all;  /* so that those nobody owns yet, or any more, can be ended */
    struct list handshakes; /* server steps due, first come first served */
    size_t n_handshakes;
    struct list doors; /* of listeners, at which some wait */
    struct deferred run;
    uint8_t room[STREAM_FRONT + LIMIT_CONN_IN]; /* conns_scratch */
};

static inline uint8_t *conns_scratch(struct conns *cs)
{
    return cs->room + STREAM_FRONT;
}

#define conn_of(stream) CONTAINER_OF((stream), struct conn, s)

/* conn.c */
struct conns *conns_get(struct loop *l); /* NULL: no memory */
/* fd is the conn's on success. */
struct conn *conn_make(struct loop *l, int fd, bool is_server);
void conn_defer(struct conn *c);
/* why for on_close; later calls are ignored. */
void conn_die(struct conn *c, enum err why);
/* Frees at once: only without a handler, from the loop. */
void conn_destroy(struct conn *c);
/* FIN, then wait for the peer's; the handler is gone. */
void conn_linger(struct conn *c);
/* Brings the watch to what the state needs. */
void conn_settle(struct conn *c);
bool conn_can_read(const struct conn *c);
void conn_on_event(struct watch *w, uint32_t events);

/* conn_io.c */
void conn_read(struct conn *c);
/* on_bytes with what is kept. */
void conn_show_kept(struct conn *c);
/* The half-closes that are due: on_end once nothing is kept, FIN once nothing is queued. */
void conn_settle_ends(struct conn *c);
bool conn_io_end(struct stream *s);
void conn_drop_input(struct conn *c);
void conn_flush(struct conn *c);
void conn_io_write(struct stream *s, struct span b);
static inline size_t conn_out_pending(const struct conn *c)
{
    return c->out_n - c->out_at;
}

/* conn_open.c */
void conn_start(struct conn *c); /* ready for use, or the first handshake step */
void conn_handshake_event(struct conn *c);
void conn_connect_event(struct conn *c);
void conns_run_handshakes(struct deferred *d);
/* Tells the origin that it failed; frees it. */
void conn_origin_failed(struct conn *c, enum err why);
void conn_origin_free(struct conn_origin *o);

/* Whom TCP leads to: the proxy, or the host itself. */
const char *conn_next_hop(const struct conn_origin *o);
/* TCP is there, and the proxy, if any, has let us through. */
void conn_reached(struct conn *c);

/* conn_tunnel.c */
struct conn_tunnel;
struct proxy;
MUST_USE enum err conn_tunnel_new(const struct proxy *p, const char *host, uint16_t port,
                                  struct conn_tunnel **ret, struct err_info *info);
void conn_tunnel_free(struct conn_tunnel *t);
/* "proxy.example:3128" */
const char *conn_tunnel_name(const struct conn_tunnel *t);
void conn_tunnel_begin(struct conn *c);
void conn_tunnel_event(struct conn *c);

/* conn_move.c */
void conn_depart(struct conn *c); /* the end of the turn of conn_move */
/* Gives up what was lent, as far as it has come back; at_end: all of it, the thread uses none of it again. */
void conns_settle_lent(struct conns *cs, bool at_end);

/* listener.c */
enum listener_event { LISTENER_HS_OK, LISTENER_HS_FAILED, LISTENER_HS_TIMEOUT };
void listener_count(struct listener *ls, enum listener_event ev);
void listener_call_open(struct conn *c);
struct door *listener_door(struct listener *ls);
void listener_let_in(struct conn *c, bool has_said); /* its handshake begins */
void listener_forget(struct conn *c);                /* at the end of a conn */

#endif
