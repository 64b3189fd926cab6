/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What passes the wall between a desk and the signer behind it: one message a request, one an answer, each whole (SOCK_SEQPACKET).
 * Numbers are big endian, texts and DER have a 16-bit length before them.
 *
 *   request  version:u8 act:u8 kind:u8 flags:u8 type:u8 notBefore:i64 notAfter:i64 name source cn organization ca csr
 *   answer   version:u8 code:u8 then, for code 0, first second third; else the reason
 *
 * A make answers source, csr, root; an issue the certificate alone.
 *
 * Ownership   spans point into the message.
 * Threads     any; pure.
 * Errors      E_MALFORMED, E_VERSION. An error that has no code is told as E_REMOTE.
 * Limits      DESK_MESSAGE_MAX.
 */
#ifndef CERTS_DESK_WIRE_H
#define CERTS_DESK_WIRE_H

#include "certs/desk_int.h"

#define DESK_WIRE_VERSION 1u
#define DESK_MESSAGE_MAX (3u * LIMIT_CERT_DER + DESK_SOURCE_MAX + 4096u)
#define DESK_TEXT_MAX 256u /* name, cn, organization: their own limits are smaller */

enum desk_act { DESK_MAKE = 1, DESK_ISSUE };
struct desk_ask {
    enum desk_act act;
    struct desk_key key;
    enum key_type type;
    bool is_self_signed, also_server;
    int64_t not_before_us, not_after_us;
    struct span cn, organization;
    struct span ca, csr; /* DESK_ISSUE: DER */
};
MUST_USE enum err desk_ask_add(const struct desk_ask *a, struct buf *b);
MUST_USE enum err desk_ask_read(struct span message, struct desk_ask *ret);

struct desk_answer {
    enum err err;
    struct span why;
    struct span part[3];
};
MUST_USE enum err desk_answer_add(const struct desk_answer *a, struct buf *b);
MUST_USE enum err desk_answer_read(struct span message, struct desk_answer *ret);

#endif
