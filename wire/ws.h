/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket frames (RFC 6455) and the header rules of its handshake. No stream, no extensions.
 *
 *   HEAD --head complete--> PAYLOAD (data: passed on as it comes; control: collected) --> HEAD
 *   any --close frame or error--> DEAD: everything further is ignored
 *
 * Ownership   struct ws_reader is the caller's, plain memory.
 * Threads     one owner at a time.
 * Errors      E_MALFORMED; ws_reader.close_code says what to tell the peer (1002, 1007, 1009), info why.
 * Limits      nothing is collected but control payloads (125 bytes).
 * Spec        RFC 6455 4, 5, 7; docs/protocol/hub-mqtt.md 1.
 */
#ifndef WIRE_WS_H
#define WIRE_WS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10
};
#define WS_CLOSE_NORMAL 1000u
#define WS_CLOSE_AWAY 1001u
#define WS_CLOSE_PROTOCOL 1002u
#define WS_CLOSE_TYPE 1003u /* text where only binary is wanted */
#define WS_CLOSE_NONE 1005u /* never on the wire: a close frame without a code */
#define WS_CLOSE_UTF8 1007u
#define WS_CLOSE_POLICY 1008u
#define WS_CLOSE_TOO_BIG 1009u
#define WS_CLOSE_FAILED 1011u /* the server met something that keeps it from going on */
#define WS_CONTROL_MAX 125u
#define WS_HEAD_MAX 14u

/* --- reading ------------------------------------------------------------------------------ */
struct ws_reader {
    bool is_server;  /* frames must be masked; else they must not */
    bool in_message; /* between a first frame and its FIN */
    bool is_dead;
    uint8_t message_opcode;
    uint8_t opcode; /* of the frame in work */
    bool fin;
    uint8_t head[WS_HEAD_MAX];
    uint8_t head_n; /* bytes of head collected */
    bool in_payload;
    uint64_t left; /* payload bytes still to come */
    uint8_t mask[4];
    uint8_t mask_at; /* 0..3 */
    uint8_t control[WS_CONTROL_MAX];
    uint8_t control_n;
    uint16_t close_code; /* after an error: what to send */
    uint64_t frame_max;  /* set after init: longer frames end it with 1009; 0: no bound */
};
void ws_reader_init(struct ws_reader *r, bool is_server);

enum ws_event_kind {
    WS_EV_NONE, /* all was used, no event yet: wait for more */
    WS_EV_DATA, /* part of a message; may be empty when end is true */
    WS_EV_PING, /* data: to be echoed as pong */
    WS_EV_PONG,
    WS_EV_CLOSE, /* code (WS_CLOSE_NONE: none given), data: reason text */
};
struct ws_event {
    enum ws_event_kind kind;
    bool is_text; /* WS_EV_DATA: the message is text */
    bool end;     /* WS_EV_DATA: last part of the message */
    uint16_t code;
    struct span data; /* in the input (data) or in the reader (control) */
};
/* Takes bytes from the front of in until there is one event or no byte left; *ret_used bytes were
 * taken and must not be shown again. Unmasks in place: the memory of in is written to. UTF-8 of
 * text messages is not checked (the caller refuses text). */
MUST_USE enum err ws_read(struct ws_reader *r, struct span in, size_t *ret_used,
                          struct ws_event *ret, struct err_info *info);

/* --- writing ------------------------------------------------------------------------------ */
/* Frame head into dst, its length returned. mask NULL: unmasked (server). */
size_t ws_head_write(uint8_t dst[WS_HEAD_MAX], enum ws_opcode opcode, bool fin, uint64_t payload_n,
                     const uint8_t *mask);
/* XOR in place; offset: position of p in the payload. */
void ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], size_t offset);
/* A whole control frame, at most 125 bytes of payload (longer: cut). */
void ws_control_write(struct buf *b, enum ws_opcode opcode, struct span payload,
                      const uint8_t *mask);
/* Close frame with a code (WS_CLOSE_NONE: empty payload). */
void ws_close_write(struct buf *b, uint16_t code, const uint8_t *mask);
/* With a reason behind the code: UTF-8, cut at 123 bytes. */
void ws_close_reason_write(struct buf *b, uint16_t code, struct span reason, const uint8_t *mask);

/* --- handshake ---------------------------------------------------------------------------- */
#define WS_ACCEPT_SIZE 29u /* 28 characters and a zero */
/* Sec-WebSocket-Accept for a key; E_CRYPTO when the library has no SHA-1. */
MUST_USE enum err ws_accept(struct span key, char dst[WS_ACCEPT_SIZE]);
/* Sec-WebSocket-Key from 16 random bytes: 24 characters and a zero. */
#define WS_KEY_SIZE 25u
void ws_key(const uint8_t random[16], char dst[WS_KEY_SIZE]);

/* The request's headers as found; absent: empty with p NULL. */
struct ws_upgrade {
    struct span upgrade;    /* Upgrade */
    struct span connection; /* Connection */
    struct span version;    /* Sec-WebSocket-Version */
    struct span key;        /* Sec-WebSocket-Key */
    struct span protocol;   /* Sec-WebSocket-Protocol: comma separated */
};
/* E_VERSION (426) for a version other than 13, else E_MALFORMED (400). want: the protocol that the
 * path offers (NULL: any or none is fine); *ret_protocol is the spelling that the client offered,
 * E_MALFORMED when it offered none that fits. */
MUST_USE enum err ws_upgrade_check(const struct ws_upgrade *u, const char *want,
                                   struct span *ret_protocol, struct err_info *info);
/* Client: status 101 and headers of the answer against the key sent. protocol: as offered. */
MUST_USE enum err ws_answer_check(unsigned status, const struct ws_upgrade *answer,
                                  struct span accept, struct span key_sent, struct span protocol,
                                  struct err_info *info);
/* Is the word in the comma separated list, without case? (Connection: keep-alive, Upgrade) */
bool ws_list_has(struct span list, const char *word);

#endif
