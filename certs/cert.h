/* SPDX-License-Identifier: Apache-2.0 */
/*
 * X.509 certificates as the rest of Berth sees them: parse, describe, name. OpenSSL types do not
 * leave this folder; net/ copies what a peer presented into a struct cert_peer.
 *
 * Ownership   cert_free() ends; a cert is immutable after parsing and may be shared by cert_ref.
 * Threads     any; reference counts are atomic.
 * Limits      LIMIT_CERT_DER, LIMIT_CHAIN_CERTS, key sizes: checked before any verification (N7).
 * Spec        RFC 5280; docs/protocol/dps-device.md 6; docs/protocol/dps-service-rest.md B2.
 */
#ifndef CERTS_CERT_H
#define CERTS_CERT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"

struct cert;
struct crypto_lib; /* base/crypto_lib.h */
struct x509_st;    /* OpenSSL's own, for handing over only */
#define CERT_SHA256 32u
#define CERT_SHA1 20u

MUST_USE enum err cert_from_der(struct span der, struct cert **ret, struct err_info *info);
/* Made in this library context, of which it keeps a reference; cert_from_der uses the process's. */
MUST_USE enum err cert_from_der_in(struct crypto_lib *lib, struct span der, struct cert **ret,
                                   struct err_info *info);
/* PEM, base64 of PEM, or base64 of DER (dps-service-rest.md B2); the first certificate counts. */
MUST_USE enum err cert_from_text(struct span text, struct cert **ret, struct err_info *info);
/* All certificates of a PEM text, in order; at most max (E_LIMIT). On failure none is left. */
MUST_USE enum err cert_list_from_pem(struct span text, struct cert **ret, size_t max, size_t *ret_n,
                                     struct err_info *info);
/* Certificates one behind the other, as DER; the same rules. */
MUST_USE enum err cert_list_from_der(struct span ders, struct cert **ret, size_t max, size_t *ret_n,
                                     struct err_info *info);
/* The first of them, cut off; empty when there is none, or what is there does not begin as one. */
struct span cert_cut_der(struct span *ders);
struct cert *cert_ref(struct cert *c);
void cert_free(struct cert *c);
AUTO_FREE_FN(struct cert, cert_free)

struct span cert_der(const struct cert *c);
const uint8_t *cert_sha256(const struct cert *c); /* 32 bytes */
const uint8_t *cert_sha1(const struct cert *c);   /* 20 bytes */
/* Microseconds since 1970. */
int64_t cert_not_before_us(const struct cert *c);
int64_t cert_not_after_us(const struct cert *c);
bool cert_is_ca(const struct cert *c); /* basicConstraints CA and keyCertSign when present */
bool cert_is_self_issued(const struct cert *c);
/* Exactly one CN of a printable, UTF8 or IA5 type, without NUL, at most 64 bytes: else E_CERT (C1).
 * Borrowed from c. */
MUST_USE enum err cert_cn(const struct cert *c, struct span *ret, struct err_info *info);
/* One line as "CN=leaf, O=Example" and the like; appended. */
void cert_add_subject(const struct cert *c, struct buf *b);
void cert_add_issuer(const struct cert *c, struct buf *b);
void cert_add_serial_hex(const struct cert *c, struct buf *b); /* upper case */
int cert_version(const struct cert *c);
void cert_add_pem(const struct cert *c, struct buf *b);
void cert_der_add_pem(struct span der, struct buf *b);
/* E_CERT with the reason: RSA below 2048 or above 4096 bits, explicit or unknown curve, MD5/SHA-1
 * signature. Part of every chain check and of uploads. */
MUST_USE enum err cert_check_strength(const struct cert *c, struct err_info *info);
/* SubjectPublicKeyInfo, DER; appended. */
void cert_add_spki(const struct cert *c, struct buf *b);
/* Same public key in both. */
bool cert_same_key(const struct cert *a, const struct cert *b);
/* child's signature verifies with issuer's key, and the issuer name equals issuer's subject. */
bool cert_issued_by(const struct cert *child, const struct cert *issuer);

/* What a TLS peer presented: the leaf's DER and thumbprint and the further certificates, unparsed. */
struct cert_peer {
    struct span leaf_der; /* empty: none was presented */
    uint8_t leaf_sha256[CERT_SHA256];
    /* leaf_der as the handshake has parsed it, in that library context; or NULL. Borrowed. */
    struct x509_st *leaf;
    struct crypto_lib *leaf_lib;
    struct span chain_der[LIMIT_CHAIN_CERTS]; /* presented after the leaf, in order */
    size_t n_chain;
};

#endif
