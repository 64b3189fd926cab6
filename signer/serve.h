/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of the wall: requests of certs/desk_wire.h from those who may ask, judged as if each came from an enemy, answered by the
 * desk in this process, and written into the book before they are answered.
 *
 *   ask      from a user of allow_uids, by the kernel's word for it (SO_PEERCRED); one request at a time on a connection
 *   issue    the key is the CA's; the request is signed by its own key and names the CN asked for; key type, life and purposes within
 *            the bounds here, dates within the CA's; the day's quota
 *   make     the day's quota; a root's life
 *
 * Threads     serve_run: the caller's, until stop_fd is readable; one more for each connection.
 * Errors      of serve_open: E_IN_USE another signer answers there, E_PERM, E_CONFIG. What a peer does wrong is its answer, and a log line.
 * Limits      SERVE_PEERS connections, DESK_MESSAGE_MAX bytes a message.
 * Spec        threat S5, C8.
 */
#ifndef SIGNER_SERVE_H
#define SIGNER_SERVE_H

#include "certs/desk_wire.h"
#include "signer/book.h"

#define SERVE_PEERS 64u
#define SERVE_UIDS 8u

struct serve_rules {
    unsigned allow_uids[SERVE_UIDS];
    size_t n_uids;
    unsigned key_types; /* bit i: enum key_type i */
    int64_t most_life_us;
    bool also_server;
};
struct serve;
/* All that is given must outlive it. */
MUST_USE enum err serve_open(const char *socket_path, const struct serve_rules *rules,
                             struct desk *desk, struct book *book, const struct clock *clock,
                             struct serve **ret, struct err_info *info);
/* Ends when a byte or the end can be read from stop_fd, after the answers under way. */
void serve_run(struct serve *s, int stop_fd);
void serve_close(struct serve *s);

/* One message, judged and answered; into `out`, which is empty. For tests and the fuzz target as well. */
void serve_message(struct serve *s, unsigned uid, struct span message, struct buf *out);

#endif
