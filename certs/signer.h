/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private keys and what is signed with them. Keys are used here, never passed around.
 *
 * Two faces. Plain calls (signer_*_now) for tools that may block: enroll-tool, the sandbox, tests.
 * For servers begin/finish: certs/signer_pool.h.
 *
 * Profiles    what may be signed is a table of permitted profiles; the subject, dates, EKU and key
 *             type come from the profile, other requested extensions are dropped (threat C8).
 * Ownership   keys and requests are the caller's to free; freeing a key wipes it. A key or request
 *             is not changed after it was made and may be used by several threads.
 * Errors      E_CERT for a request that breaks its profile, E_CRYPTO for the library, E_AGAIN when
 *             a key that is elsewhere does not sign now. Key files: E_PERM when open to others,
 *             E_EXISTS, E_NOT_FOUND, E_MALFORMED.
 * Limits      LIMIT_CERT_HOSTS; CN and organization of LIMIT_X509_RID bytes; LIMIT_FILE_SMALL.
 * Threads     any.
 * Spec        RFC 5280 4.2; docs/protocol/dps-device.md 10; threat C8.
 */
#ifndef CERTS_SIGNER_H
#define CERTS_SIGNER_H

#include "certs/cert.h"

enum key_type { KEY_P256, KEY_P384, KEY_RSA2048, KEY_RSA3072, KEY_RSA4096, KEY_TYPES };
extern const char *const key_type_words[KEY_TYPES]; /* "P-256", "RSA-2048" and the like */
struct signer_key; /* a private key held here, or the way to one elsewhere (certs/signer_hard.h) */
MUST_USE enum err signer_key_generate(enum key_type type, struct signer_key **ret);
/* Unencrypted PEM, PKCS#8 or the older forms. */
MUST_USE enum err signer_key_load(const char *path, struct signer_key **ret, struct err_info *info);
/* PKCS#8 PEM, 0600, durable; E_EXISTS when the file is there. */
MUST_USE enum err signer_key_save(const struct signer_key *k, const char *path,
                                  struct err_info *info);
/* PKCS#8 DER, for keys that are kept sealed; to_der appends, the caller wipes. Never for a key that is elsewhere. */
MUST_USE enum err signer_key_to_der(const struct signer_key *k, struct buf *ret);
MUST_USE enum err signer_key_from_der(struct span der, struct signer_key **ret,
                                      struct err_info *info);
void signer_key_free(struct signer_key *k);
AUTO_FREE_FN(struct signer_key, signer_key_free)
/* The key belongs to the certificate. */
bool signer_key_fits(const struct signer_key *k, const struct cert *c);
/* KEY_TYPES: another one. */
enum key_type signer_key_type(const struct signer_key *k);

enum cert_profile {
    PROFILE_ROOT_CA,         /* CA:TRUE, keyCertSign, self-signed */
    PROFILE_INTERMEDIATE_CA, /* CA:TRUE, pathlen 0, keyCertSign */
    PROFILE_DEVICE,          /* CA:FALSE, digitalSignature, clientAuth, CN = id */
    PROFILE_SERVER,          /* CA:FALSE, serverAuth, subjectAltName from hosts */
    PROFILE_PROOF,           /* proof of possession: CN = verification code */
};
struct cert_request {
    enum cert_profile profile;
    struct span cn;
    struct span organization; /* may be empty */
    struct span
        only; /* PROFILE_INTERMEDIATE_CA: it issues for subjects of this organization alone; empty: for any */
    const char *const *hosts; /* PROFILE_SERVER: names, and addresses as iPAddress entries */
    size_t n_hosts;
    bool also_server;                    /* PROFILE_DEVICE: serverAuth beside clientAuth */
    int64_t not_before_us, not_after_us; /* seconds count; not past the issuer's end */
};
/* Of a CA: the organization that its name constraints permit, appended; nothing: none, or others. */
void signer_ca_only(const struct cert *ca, struct buf *ret);
/* May it issue no further CA (pathlen 0)? */
bool signer_ca_is_last(const struct cert *ca);
/* PEM-less DER of a PKCS#10 request for CN. */
MUST_USE enum err signer_make_csr(const struct signer_key *k, struct span cn, struct buf *ret_der,
                                  struct err_info *info);
/* A parsed, self-signature-checked request: its CN and key only. PEM, base64 of PEM or of DER.
 * E_CERT, E_MALFORMED. */
struct csr;
MUST_USE enum err csr_from_text(struct span pem_or_base64, struct csr **ret, struct err_info *info);
MUST_USE enum err csr_from_der(struct span der, struct csr **ret, struct err_info *info);
/* Made in this library context, of which it keeps a reference; the others use the process's. */
MUST_USE enum err csr_from_der_in(struct crypto_lib *lib, struct span der, struct csr **ret,
                                  struct err_info *info);
void csr_free(struct csr *c);
AUTO_FREE_FN(struct csr, csr_free)
/* The rules of cert_cn. Borrowed from c. */
MUST_USE enum err csr_cn(const struct csr *c, struct span *ret, struct err_info *info);
/* KEY_TYPES: another one. */
enum key_type csr_key_type(const struct csr *c);
/* Asks for the key that the certificate has. */
bool csr_fits(const struct csr *c, const struct cert *cert);
/* The DER inside, unparsed; ret is replaced. */
MUST_USE enum err csr_text_to_der(struct span pem_or_base64, struct buf *ret,
                                  struct err_info *info);
/* As files have it. */
void csr_add_pem(struct span der, struct buf *b);

/* Issues for the key of `subject_csr`, or for subject_key when subject_csr is NULL. issuer NULL:
 * self-signed by `key` (roots, and devices or servers that stand alone). Serial: 20 random octets,
 * positive. */
MUST_USE enum err signer_issue_now(const struct signer_key *key, const struct cert *issuer,
                                   const struct csr *subject_csr,
                                   const struct signer_key *subject_key,
                                   const struct cert_request *rq, struct cert **ret,
                                   struct err_info *info);

#endif
