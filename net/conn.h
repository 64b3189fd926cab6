/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TCP connection under TLS (or plain, for loopback metrics and tests), as a struct stream.
 *
 *   ACCEPTED -(net/door.h)-> HANDSHAKE (LIMIT_HANDSHAKE_S) -> OPEN -> CLOSING -> gone
 *   conn_connect: CONNECTING -> (TUNNEL, by a proxy) -> HANDSHAKE -> OPEN
 *
 * Ownership   a conn owns itself: made by a listener or conn_connect, freed at the end of the turn
 *             after its handler's on_close. The certificate that the peer presented is held only until
 *             conn_forget_peer_cert().
 * Threads     its loop.
 * Limits      handshakes: LIMIT_HANDSHAKES_A_TURN steps a turn, so that established links keep their
 *             pace; deadline LIMIT_HANDSHAKE_S in total (a byte does not renew it).
 */
#ifndef NET_CONN_H
#define NET_CONN_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "net/stream.h"
#include "net/tls.h"

struct conn;
struct stream *conn_stream(struct conn *c);
struct loop *conn_loop(struct conn *c);
/* Text of the peer's and of our address, without port: "127.0.0.1". Borrowed. */
const char *conn_peer_text(const struct conn *c);
const char *conn_local_text(const struct conn *c);
uint16_t conn_local_port(const struct conn *c);
const struct sockaddr *conn_peer_addr(const struct conn *c, socklen_t *ret_len);
/* What the peer counts as one source by: the IPv4 address, or the /64 of an IPv6 one, in key; empty: it has none. */
struct span conn_source_key(const struct conn *c, uint8_t key[8]);
bool conn_is_tls(const struct conn *c);
/* Leaf and further certificates as DER; leaf_der empty when none was presented. Borrowed until
 * conn_forget_peer_cert or the end. The thumbprint stays readable afterwards. */
void conn_peer_cert(struct conn *c, struct cert_peer *ret);
void conn_forget_peer_cert(struct conn *c);
/* False when the peer presented none. */
bool conn_peer_thumbprint(const struct conn *c, uint8_t ret_sha256[CERT_SHA256]);
/* It carries bulk (a relay): behind a large read it reads on, without asking whether there is more. */
void conn_set_bulk(struct conn *c);
/* Bytes for accounting. */
uint64_t conn_bytes_in(const struct conn *c);
uint64_t conn_bytes_out(const struct conn *c);

/* Gives an open connection to another loop, with the bytes that its handler has not used: what the call of
 * on_bytes on the stack leaves unused is among them. The handler hears nothing more, on_close included; at
 * the end of the turn the connection leaves, and arrived() runs on the other loop, where a handler is set as
 * in on_open. Its listener counts it no longer: listener_take. Of the peer's
 * certificate only the thumbprint goes along. Both loops run until conns_end of this one. */
typedef void (*conn_arrived_fn)(struct conn *c, void *arg);
void conn_move(struct conn *c, struct loop *to, conn_arrived_fn arrived, void *arg);

/* --- listeners ----------------------------------------------------------------------------- */
/* on_open runs once the handshake is done; it must set a handler (stream_handle). */
typedef void (*conn_open_fn)(struct conn *c, void *arg);
struct listener;
struct listener_conf {
    const char *address; /* "127.0.0.1", "::" */
    uint16_t port;       /* 0: any (tests); listener_port tells */
    bool reuse_port;     /* one listener per worker on the same port */
    struct tls_ctx *tls; /* NULL: plain; referenced */
    conn_open_fn on_open;
    void *arg;
    unsigned
        max_unauthenticated; /* budget: connections not yet marked by conn_mark_authenticated */
    unsigned max_unauthenticated_per_source; /* per IPv4 address or IPv6 /64; 0: no bound */
};
/* E_IN_USE with "address:port is in use", E_PERM with the cure for ports below 1024. */
MUST_USE enum err listener_new(struct loop *l, const struct listener_conf *conf,
                               struct listener **ret, struct err_info *info);
/* Accepts what has arrived (until EAGAIN), then closes the listening socket; its connections live on. */
void listener_free(struct listener *ls);
/* Before the loop ends, on its thread: ends the connections that nobody owns, those still in the handshake of a
 * listener and those that linger after their close. */
void conns_end(struct loop *l);
/* Counts a connection that has arrived from another loop among the authenticated ones of ls. */
void listener_take(struct listener *ls, struct conn *c);
uint16_t listener_port(const struct listener *ls);
void listener_set_tls(struct listener *ls, struct tls_ctx *tls); /* reload */
/* Ends the budget of work before authentication for this connection. */
void conn_mark_authenticated(struct conn *c);
struct listener_stats {
    uint64_t accepted, handshake_ok, handshake_failed, handshake_timeout, refused_budget;
    uint64_t open, unauthenticated, waiting; /* open: all of them */
};
void listener_stats(const struct listener *ls, struct listener_stats *ret);

/* --- clients ------------------------------------------------------------------------------- */
/* host is resolved by getaddrinfo only when it is no address literal: names block, so servers give
 * literals or use net/egress; agents may block. By a proxy only the proxy's own name is resolved here: host goes to the proxy as it
 * stands, in a CONNECT, and TLS is with host, from end to end. on_open with c NULL: failed, why in err; of a proxy that does not let us
 * through E_NET, or E_MALFORMED, E_TOO_LARGE for an answer that is none, with the proxy in info. */
typedef void (*conn_connected_fn)(struct conn *c, void *arg, enum err why,
                                  const struct err_info *info);
struct conn_target {
    const char *host;
    uint16_t port;
    struct tls_ctx *tls; /* NULL: plain */
    uint64_t
        timeout_ms; /* until open, all steps together; 0: LIMIT_HANDSHAKE_S for each but TCP's */
    const struct proxy
        *proxy; /* net/proxy.h, NULL: none; used during the call only. Needs TLS and a time */
};
MUST_USE enum err conn_connect(struct loop *l, const struct conn_target *to, conn_connected_fn done,
                               void *arg, struct conn **ret, struct err_info *info);
/* Takes a connected socket (tests: socketpair); fd is taken only on success. tls NULL: plain. Under TLS only
 * the server's side: a client must name its host, which is conn_connect's. on_open NULL (plain only): open
 * at once, the caller sets the handler before the next turn. */
MUST_USE enum err conn_adopt(struct loop *l, int fd, struct tls_ctx *tls, bool is_server,
                             conn_open_fn on_open, void *arg, struct conn **ret);

#endif
