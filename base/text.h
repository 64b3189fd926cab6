/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts that every protocol here uses: base64, hex, percent-encoding. Pure functions, any thread.
 * Encoders append to a buf (sticky error there); decoders append too and return E_MALFORMED,
 * leaving what was appended before the fault for the caller to drop.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

/* Standard alphabet with padding. */
void base64_add(struct buf *b, struct span bytes);
/* Strict: standard alphabet, length a multiple of 4, padding right, unused bits zero, no blanks. */
MUST_USE enum err base64_decode(struct span text, struct buf *ret);
/* Same, into dst of size *n (in: capacity, out: length). */
MUST_USE enum err base64_decode_to(struct span text, uint8_t *dst, size_t *n);

void hex_add(struct buf *b, struct span bytes, bool upper);
MUST_USE enum err hex_decode(struct span text, struct buf *ret);
/* dst holds 2 * bytes.n + 1. */
void hex_to_cstr(struct span bytes, bool upper, char *dst);

/* RFC 3986: everything but A-Za-z0-9-_.~ becomes %XX, upper-case hex. */
void percent_add(struct buf *b, struct span bytes);
/* %XX only; '+' stays. E_MALFORMED on a bad escape. */
MUST_USE enum err percent_decode(struct span text, struct buf *ret);
/* Same, but a '%' without two hex digits is kept literally. Never fails but for the buf. */
void percent_decode_lenient(struct span text, struct buf *ret);

/* One pair of a query or property bag: "k=v" or "k" (has_value false). *rest moves on; false at
 * the end. Empty pairs are skipped. Nothing is decoded. */
struct text_pair {
    struct span key;
    struct span value;
    bool has_value;
};
bool text_next_pair(struct span *rest, struct text_pair *ret);

/* Identifier alphabets (docs/protocol/sas.md section 11). */
bool id_device_ok(struct span id);       /* deviceId, moduleId: 1..128 */
bool id_registration_ok(struct span id); /* registrationId, enrollmentGroupId: 1..128 */
bool id_admin_name_ok(struct span id);   /* admin resources: 1..64 */
/* ASCII upper to lower, in place. */
void text_lower(char *s, size_t n);

#endif
