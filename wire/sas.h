/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared access signatures: the text format, the scope rule, the expiry rule. The MAC itself is
 * made elsewhere (certs/keyring): sas_to_sign() gives the text, the token holds the 32 bytes to
 * compare.
 *
 *   sas_parse -> sas_is_expired -> sas_scope_covers -> MAC over sas_to_sign() against tok.sig
 *
 * Ownership   text, sr and se are borrowed from the token text; the rest is inside the struct.
 * Threads     any.
 * Errors      E_TOKEN with the reason in info (for the log, never for the peer); E_TOO_LARGE above
 *             LIMIT_SAS_TOKEN. info never holds a byte of sig.
 * Limits      LIMIT_SAS_TOKEN, LIMIT_SAS_SE_DIGITS, skn LIMIT_ADMIN_NAME.
 * Spec        docs/protocol/sas.md 1, 2, 4, 5.
 */
#ifndef WIRE_SAS_H
#define WIRE_SAS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/span.h"

#define SAS_SIG_SIZE 32u
/* sr, one LF, se. */
#define SAS_TO_SIGN_MAX LIMIT_SAS_TOKEN

struct sas_token {
    struct span sr;            /* raw, as signed */
    struct span se;            /* raw digits, as signed */
    int64_t expires_s;         /* INT64_MAX: never */
    uint8_t sig[SAS_SIG_SIZE]; /* decoded; compare with mem_equal_ct */
    bool has_skn;              /* the field is there, maybe empty */
    uint8_t skn_n;
    char skn[LIMIT_ADMIN_NAME + 1]; /* decoded, with final zero (and no other) */
};
static inline struct span sas_skn(const struct sas_token *t)
{
    return span_of(t->skn, t->skn_n);
}

/* Trailing white space is trimmed; everything else as section 1 says. */
MUST_USE enum err sas_parse(struct span text, struct sas_token *ret, struct err_info *info);

/* now_s > expires + skew_s. */
bool sas_is_expired(const struct sas_token *t, int64_t now_s, int64_t skew_s);

/* Does sr reach the target? By segments, without case, on the decoded text or on the raw one.
 * hosts: any of them may be the first segment; n_hosts 0 (DPS devices): the path begins at once.
 * path: decoded segments of the target. SAS_API_VERSION_TAIL: a last segment "api-version=..." of
 * sr is not counted (device keys only, section 4.1). */
enum sas_scope_flags { SAS_SCOPE_PLAIN = 0, SAS_API_VERSION_TAIL = 1 };
bool sas_scope_covers(const struct sas_token *t, const struct span *hosts, size_t n_hosts,
                      const struct span *path, size_t n_path, unsigned flags);
/* Does the decoded (or raw) sr begin with "sb://"? Event Hubs clients, section 2. */
bool sas_is_event_hub(const struct sas_token *t);

/* Appends the text that is signed. */
void sas_to_sign(const struct sas_token *t, struct buf *b);

/* --- for clients -------------------------------------------------------------------------- */
/* Percent-encoded sr of the segments: "hub%2Fdevices%2Fdev-1". */
void sas_sr_write(struct buf *b, const struct span *segments, size_t n);
/* Text to sign before there is a token. */
void sas_to_sign_write(struct buf *b, struct span sr_encoded, uint64_t se);
/* Whole token "SharedAccessSignature sr=..&sig=..&se=..[&skn=..]". skn empty: left out. */
void sas_write(struct buf *b, struct span sr_encoded, const uint8_t sig[SAS_SIG_SIZE], uint64_t se,
               struct span skn);

#endif
