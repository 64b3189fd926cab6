/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of net/ share: a clock that only moves when told, certificates in a folder of their own, a
 * bare OpenSSL client that is stepped beside the loop, and a stream handler that notes everything.
 */
#ifndef NET_NET_FIXTURE_H
#define NET_NET_FIXTURE_H

#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "tests/unit.h"

#include "base/buf.h"
#include "base/clock.h"
#include "net/conn.h"
#include "net/loop.h"

struct fake_clock {
    struct clock clock;
    uint64_t ms;
};
void fake_clock_init(struct fake_clock *f);

/* Turns until cond holds; fails after far too many. */
#define STEP_UNTIL(loop, cond)                                                                     \
    do {                                                                                           \
        for (int turns_ = 0; !(cond); turns_++) {                                                  \
            assert_true(turns_ < 20000);                                                           \
            loop_turn((loop), 5);                                                                  \
        }                                                                                          \
    } while (0)
/* Lets everything that is under way come to rest. */
void settle(struct loop *l);

struct certs {
    char dir[64];
    char ca[96], server[96], server_key[96], device[96], device_key[96], chain[96];
    char big_key_cert[96], big_key[96]; /* RSA of more bits than allowed; made on demand */
    char other_ca[96];
};
void certs_make(struct certs *c);
void certs_make_big(struct certs *c);
void certs_remove(struct certs *c);

/* A stream handler that notes what happens. */
struct note {
    struct stream *s;
    struct buf in;
    size_t eat; /* on_bytes uses at most so many bytes a call; 0: none */
    int calls;  /* of on_bytes */
    int drained;
    int closed;
    int ended; /* on_end, with note_ends_handler */
    enum err why;
    bool in_call;    /* a call into the stream is on the stack: on_close must not come */
    int pause_at;    /* the call of on_bytes in which it pauses; 0: never */
    size_t to_send;  /* still to be written, as long as the stream is not full */
    size_t sent_max; /* highest stream_pending seen */
};
extern const struct stream_handler note_handler;
extern const struct stream_handler note_ends_handler; /* the same, with half-closes */
void note_init(struct note *n, struct stream *s);
void note_done(struct note *n);
/* Writes of the counting pattern until full or to_send is 0. */
void note_pump(struct note *n);
/* Is b the counting pattern from the start? */
bool is_pattern(struct span b);

/* A pair of plain conns in one loop, both noted. */
struct pair {
    struct note a, b;
};
void pair_make(struct loop *l, struct pair *p);

/* A bare client on a blocking-free socket. */
struct peer {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl; /* NULL: TCP only */
    bool is_up;
    bool failed;
    bool eof;
    struct buf in;
};
void peer_dial(struct peer *p, uint16_t port);
/* From that address of our own. */
void peer_dial_from(struct peer *p, uint16_t port, const char *from);
void peer_tls(struct peer *p, int min, int max, const char *cert, const char *key);
/* Goes on with the handshake or reads what is there. */
void peer_step(struct peer *p);
void peer_send(struct peer *p, struct span b);
void peer_done(struct peer *p);

#endif
