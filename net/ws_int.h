/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of net/ws: shared by ws.c (open WebSockets) and ws_client.c (the upgrade as a client).
 *
 *   UPGRADING --101--> OPEN --Close sent--> CLOSING --peer's Close, or LIMIT_WS_CLOSE_MS--> ENDING
 *                       |--peer's Close, fault: Close sent-------------------------------> ENDING
 *   ENDING: the carrier closes; its on_close brings ours, and frees the ws.
 */
#ifndef NET_WS_INT_H
#define NET_WS_INT_H

#include "base/buf.h"
#include "net/ws.h"
#include "wire/ws.h"

enum ws_state { WS_UPGRADING, WS_OPEN, WS_CLOSING, WS_ENDING };

struct ws_upgrading; /* ws_client.c */

struct ws {
    struct stream s;
    struct stream *carrier;
    struct ws_upgrading *up; /* NULL once open */
    struct deferred end;
    struct timer timer;
    struct ws_reader rd;
    uint8_t *kept; /* payload that the handler has not used; NULL when empty */
    uint32_t kept_n, kept_cap;
    uint8_t *early; /* raw bytes to be read before the carrier's */
    uint32_t early_n;
    enum err why;
    uint8_t state;
    bool is_server : 1;
    bool paused : 1;
    bool again : 1;
    bool has_why : 1;
};

#define ws_of(stream) CONTAINER_OF((stream), struct ws, s)

enum err ws_make(struct stream *carrier, bool is_server, struct ws **ret);
/* Ends with why for the handler; code 0: no Close frame. */
void ws_end(struct ws *w, enum err why, uint16_t code);

/* ws_client.c */
size_t ws_upgrade_bytes(struct ws *w, struct span in);
/* Tells done() that it failed. */
void ws_upgrade_failed(struct ws *w, enum err why, int status);
void ws_upgrade_free(struct ws *w);

#endif
