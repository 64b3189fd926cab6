/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/tpm_attestation.h"

#include "base/log.h"
#include "base/text.h"
#include "server/metrics.h"
#include "server/trust.h"

static uint64_t now_ms(const struct dps_worker *dw)
{
    return loop_now_ms(worker_loop(dw->w));
}

/* --- what is shown --------------------------------------------------------------------------------- */

/* Base64 of the public area; its two size bytes may be missing. What was written is what is kept, so that it is told again the same. */
enum err tpm_read_key(struct arena *a, struct span text, enum tpm_use use, struct span *ret,
                      struct err_info *info)
{
    uint8_t raw[TPM_PUBLIC_MAX], whole[TPM_PUBLIC_MAX];
    struct tpm_public key;
    struct span s;
    size_t n = sizeof(raw);
    const char *what = use == TPM_EK ? "endorsementKey" : "storageRootKey";
    if (text.n > LIMIT_TPM_PUBLIC_TEXT || base64_decode_to(text, raw, &n) != OK) {
        return err_set(info, E_EK, "%s is not base64 of a TPM2B_PUBLIC", what);
    }
    if (tpm_public_whole(span_of(raw, n), whole, &s) != OK) {
        return err_set(info, E_EK, "%s is no TPM2B_PUBLIC by its length", what);
    }
    enum err e = tpm_public_read(s, use, &key, info);
    if (e != OK) {
        return e == E_MALFORMED ? err_wrap(info, E_EK, "%s cannot be used", what) : e;
    }
    *ret = arena_span(a, span_of(raw, n));
    return ret->p != NULL ? OK : E_NOMEM;
}

/* From a device both size bytes are wanted. */
static enum err read_shown(struct arena *a, struct span text, enum tpm_use use, struct span *ret,
                           struct tpm_public *ret_key, struct err_info *info)
{
    struct span s = SPAN_NONE;
    enum err e = tpm_read_key(a, text, use, &s, info);
    if (e == OK && (e = tpm_public_read(s, use, ret_key, info)) == E_MALFORMED) {
        e = E_EK;
    }
    if (e == OK) {
        *ret = s;
    }
    return e;
}

static enum err read_der(struct arena *a, struct span text, struct span *ret, struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_CERT_DER);
    if (base64_decode(text, &b) != OK) {
        return err_set(info, E_EK, "a certificate of the EK is not base64 of at most %u bytes",
                       LIMIT_CERT_DER);
    }
    *ret = arena_span(a, buf_span(&b));
    return ret->p != NULL ? OK : E_NOMEM;
}

static enum err read_certs(struct arena *a, const struct json *tpm, struct cert_peer *ret,
                           struct err_info *info)
{
    struct span text = SPAN_NONE;
    struct json *above = NULL;
    enum err e = json_get_str(tpm, "endorsementCertificate", JSON_F_OPT, &text, info);
    if (e != OK || text.n == 0 || (e = read_der(a, text, &ret->leaf_der, info)) != OK ||
        (e = json_get_array(tpm, "endorsementCertificateChain", JSON_F_OPT, &above, info)) != OK) {
        return e;
    }
    if (json_count(above) > LIMIT_CHAIN_CERTS) {
        return err_set(info, E_EK, "more than %u certificates above that of the EK",
                       LIMIT_CHAIN_CERTS);
    }
    sha256(ret->leaf_der, ret->leaf_sha256);
    for (size_t i = 0; e == OK && i < json_count(above); i++) {
        e = read_der(a, json_str(json_at(above, i)), &ret->chain_der[i], info);
        ret->n_chain += e == OK;
    }
    return e;
}

static enum err read_show(struct arena *a, struct span body, struct tpm_show *s,
                          struct err_info *info)
{
    AUTO(json_free_p) struct json *j = NULL;
    struct json *tpm = NULL;
    struct span ek, srk;
    enum err e;
    if ((e = json_read_object(body, LIMIT_DPS_BODY, &j, info)) != OK ||
        (e = json_get_object(j, "tpm", JSON_F_NEED, &tpm, info)) != OK ||
        (e = json_get_str(tpm, "endorsementKey", JSON_F_NEED, &ek, info)) != OK ||
        (e = json_get_str(tpm, "storageRootKey", JSON_F_NEED, &srk, info)) != OK ||
        (e = read_shown(a, ek, TPM_EK, &s->ek, &s->ek_key, info)) != OK ||
        (e = read_shown(a, srk, TPM_SRK, &s->srk, &s->srk_key, info)) != OK) {
        return e;
    }
    return read_certs(a, tpm, &s->ek_cert, info);
}

enum rule tpm_show_read(struct arena *a, struct span body, struct tpm_show *ret, struct verdict *v)
{
    struct tpm_show s = {.ek = SPAN_NONE};
    enum err e = read_show(a, body, &s, &v->info);
    if (e != OK && err_class(e) == ERR_T_PEER) {
        verdict_fact(v, "detail", span_str(v->info.why));
        return verdict_refuse(v, RULE_TPM_KEYS, NULL);
    }
    if (e != OK) {
        return verdict_fail(v, e);
    }
    verdict_keep(v, RULE_TPM_KEYS);
    *ret = s;
    return RULE_OK;
}

static enum err key_digest(const struct tpm_show *s, uint8_t ret[CHALLENGE_KEYS])
{
    AUTO(buf_done) struct buf b = BUF_INIT(2 * TPM_PUBLIC_MAX);
    buf_add(&b, s->ek);
    buf_add(&b, s->srk);
    sha256(buf_span(&b), ret);
    return buf_err(&b);
}

/* --- the EK's certificate ------------------------------------------------------------------------------ */

/* Is it this EK's? Cheaper than the chain, so first. */
static enum rule check_ek_cert(const struct tpm_show *show, struct verdict *v)
{
    AUTO(cert_free_p) struct cert *c = NULL;
    AUTO(buf_done) struct buf spki = BUF_INIT(LIMIT_CERT_DER);
    if (show->ek_cert.leaf_der.n == 0) {
        verdict_fact(v, "detail", SPAN_LIT("none was shown"));
        return verdict_refuse(v, RULE_EK_CERT, "no certificate of the EK was shown");
    }
    enum err e = cert_from_der(show->ek_cert.leaf_der, &c, &v->info);
    if (e != OK && err_class(e) != ERR_T_PEER) {
        return verdict_fail(v, e);
    }
    if (e == OK) {
        cert_add_spki(c, &spki);
        e = tpm_public_is_key(&show->ek_key, buf_span(&spki)) ? OK : E_CERT;
    }
    if (e != OK) {
        verdict_fact(v, "detail", SPAN_LIT("it cannot be read or is for another key"));
        return verdict_refuse(v, RULE_EK_CERT, "the certificate is not that of the EK shown");
    }
    verdict_keep(v, RULE_EK_CERT);
    return RULE_OK;
}

static enum rule verify_ek_chain(struct dps_worker *dw, const struct tpm_show *show,
                                 struct chain_path *ret, struct verdict *v)
{
    struct err_info why = {.err = OK};
    enum chain_verdict c = trust_verify_ek(dw->w, &show->ek_cert, ret, &why);
    if (c == CHAIN_OK) {
        verdict_keep(v, RULE_EK_CHAIN);
        return RULE_OK;
    }
    verdict_fact(v, "detail", span_str(why.why));
    return verdict_refuse(v, RULE_EK_CHAIN, "EK certificate: %s: %s", chain_verdict_name(c),
                          why.why);
}

/* Does the row name the certificate at that place of the path? */
static enum err names_root_at(struct dps_worker *dw, const struct enr_row *row,
                              const struct chain_path *path, size_t at, bool *ret)
{
    for (unsigned i = 0; i < 2 && !*ret; i++) {
        AUTO(cert_free_p) struct cert *root = NULL;
        if (row->ca[i].n == 0) {
            continue;
        }
        enum err e = trust_get_ek_root(dw->w, row->ca[i], &root, NULL);
        if (e == OK) {
            *ret = span_eq(span_of(path->sha256[at], CERT_SHA256),
                           span_of(cert_sha256(root), CERT_SHA256));
        } else if (e != E_NOT_FOUND && e != E_STATE) {
            return e;
        }
    }
    return OK;
}

static enum rule row_of_path(struct dps_worker *dw, const struct enr_row *const *row, size_t n,
                             const struct chain_path *path, const struct enr_row **ret,
                             struct verdict *v)
{
    /* What stands above the anchor may be what only the peer presented: it decides nothing. */
    for (size_t at = 1; at <= path->anchor; at++) {
        for (size_t i = 0; i < n; i++) {
            bool fits = false;
            enum rule r = verdict_fail(v, names_root_at(dw, row[i], path, at, &fits));
            if (r != RULE_OK) {
                return r;
            }
            if (fits) {
                *ret = row[i];
                verdict_keep(v, RULE_EK_ROOT);
                return RULE_OK;
            }
        }
    }
    return verdict_refuse(v, RULE_EK_ROOT,
                          "the EK's certificate is good, but nothing names a CA above it");
}

/* --- which enrollment -------------------------------------------------------------------------------------- */

static bool is_same_key(struct span stored, struct span shown)
{
    uint8_t dst[TPM_PUBLIC_MAX];
    struct span whole = SPAN_NONE;
    return tpm_public_whole(stored, dst, &whole) == OK && mem_equal_ct(whole, shown);
}

bool tpm_is_of(const struct challenge *c, const struct enr_row *own)
{
    uint8_t dst[TPM_PUBLIC_MAX], digest[CHALLENGE_KEYS];
    struct span whole = SPAN_NONE;
    if (c->enrollment != own->id || tpm_public_whole(own->ek, dst, &whole) != OK) {
        return false;
    }
    sha256(whole, digest);
    return span_eq(span_of(digest, sizeof(digest)), span_of(c->ek, sizeof(c->ek)));
}

static enum rule admitted_by_own(struct dps_worker *dw, const struct enr_row *own,
                                 const struct tpm_show *show, struct verdict *v)
{
    struct chain_path path;
    const struct enr_row *fits;
    enum rule r;
    verdict_keep(v, RULE_NO_ENROLLMENT);
    if (own->att != ATT_TPM) {
        verdict_fact(v, "wants", SPAN_LIT("a token or a certificate"));
        verdict_fact(v, "came", SPAN_LIT("the keys of a TPM"));
        return verdict_refuse(v, RULE_ATTESTATION_KIND, "the enrollment wants no TPM");
    }
    verdict_keep(v, RULE_ATTESTATION_KIND);
    if (!is_same_key(own->ek, show->ek)) {
        return verdict_refuse(v, RULE_EK_OTHER, "the EK is not that of the enrollment");
    }
    verdict_keep(v, RULE_EK_OTHER);
    if (own->ca[0].n == 0 && own->ca[1].n == 0) {
        return RULE_OK;
    }
    if ((r = check_ek_cert(show, v)) != RULE_OK ||
        (r = verify_ek_chain(dw, show, &path, v)) != RULE_OK) {
        return r;
    }
    return row_of_path(dw, &own, 1, &path, &fits, v);
}

static enum rule admitted_by_group(struct dps_worker *dw, const struct snapshot *s,
                                   struct span fold, const struct tpm_show *show,
                                   const struct enr_row **ret, struct verdict *v)
{
    const struct enr_row *rows[LIMIT_DPS_GROUPS];
    struct chain_path path;
    char rid[TPM_RID_SIZE];
    size_t n = 0;
    enum rule r;
    for (size_t i = 0; i < s->n_groups && n < ARRAY_LEN(rows); i++) {
        if (s->group[i].row.att == ATT_TPM_CA) {
            rows[n++] = &s->group[i].row;
        }
    }
    if (n == 0) {
        verdict_fact(v, "groups", SPAN_LIT("no enrollment group is for TPMs"));
        return verdict_refuse(v, RULE_NO_ENROLLMENT,
                              "no enrollment of this id, and no group for TPMs");
    }
    verdict_keep(v, RULE_NO_ENROLLMENT);
    if ((r = verdict_fail(v, tpm_registration_id(show->ek, rid))) != RULE_OK) {
        return r;
    }
    if (!span_is(fold, rid)) {
        verdict_fact(v, "expected", span_str(rid));
        return verdict_refuse(v, RULE_EK_ID,
                              "the registration id is not the one that the EK gives");
    }
    verdict_keep(v, RULE_EK_ID);
    if ((r = check_ek_cert(show, v)) != RULE_OK ||
        (r = verify_ek_chain(dw, show, &path, v)) != RULE_OK) {
        return r;
    }
    return row_of_path(dw, rows, n, &path, ret, v);
}

enum rule tpm_admits(struct dps_worker *dw, struct arena *a, struct span fold,
                     const struct tpm_show *show, struct enr_row *ret, struct verdict *v)
{
    struct snapshot *s = NULL;
    struct enr_row own;
    const struct enr_row *row = &own;
    enum rule r = verdict_fail(v, snapshot_get(dw, &s, &v->info));
    if (r != RULE_OK) {
        return r;
    }
    enum err e = sql_enr_get(worker_db(dw->w), a, ENR_INDIVIDUAL, fold, &own);
    if (e != OK && e != E_NOT_FOUND) {
        (void)err_set(&v->info, e, "cannot read the enrollment");
        return verdict_fail(v, e);
    }
    r = e == OK ? admitted_by_own(dw, &own, show, v)
                : admitted_by_group(dw, s, fold, show, &row, v);
    if (r != RULE_OK) {
        return r;
    }
    if (!row->is_enabled) {
        return verdict_refuse(v, RULE_ENROLLMENT_DISABLED, "the enrollment is disabled");
    }
    *ret = *row;
    return RULE_OK;
}

/* --- the challenge ---------------------------------------------------------------------------------------------- */

enum rule tpm_challenge(struct dps_worker *dw, struct span fold, const struct enr_row *enr,
                        const struct tpm_show *show, struct buf *b, struct verdict *v)
{
    AUTO(challenge_wipe) struct challenge c = {.enrollment = enr->id};
    enum err e;
    sha256(show->ek, c.ek);
    if ((e = key_digest(show, c.keys)) == OK && (e = secret_random(&c.k1, TPM_KEY_SIZE)) == OK &&
        (e = tpm_blob_make(&show->ek_key, &show->srk_key, secret_span(&c.k1), b)) == OK) {
        e = challenge_put(dw->dps->challenges, fold, &c, now_ms(dw));
    }
    if (e != OK) {
        return verdict_fail(v, e);
    }
    metric_add(dw->w, DPS_M_TPM_CHALLENGES, 1);
    LOG_DEBUG("dps.tpm_challenged", L_SPAN("registration", fold));
    return RULE_OK;
}

bool tpm_signed(struct dps_worker *dw, struct span fold, const struct sas_token *tok,
                struct challenge *ret)
{
    AUTO(challenge_wipe) struct challenge c = {.serial = 0};
    AUTO(buf_done) struct buf text = BUF_INIT(SAS_TO_SIGN_MAX);
    uint8_t mac[MAC_SIZE];
    /* Without a challenge the same work is done with an empty key. */
    bool found = challenge_get(dw->dps->challenges, fold, now_ms(dw), &c);
    sas_to_sign(tok, &text);
    if (buf_err(&text) != OK) {
        return false;
    }
    mac_sha256(secret_span(&c.k1), buf_span(&text), mac);
    bool same = mem_equal_ct(span_of(mac, sizeof(mac)), span_of(tok->sig, sizeof(tok->sig)));
    mem_wipe(mac, sizeof(mac));
    if (!found || !same) {
        return false;
    }
    secret_done(&c.k1); /* it has served */
    *ret = c;
    return true;
}

/* --- the registration ------------------------------------------------------------------------------------------------ */

struct seal_place tpm_key_place(struct span fold)
{
    return (struct seal_place){"registration_more", "tpm_key", fold};
}

static enum err make_grant(struct dps_worker *dw, struct arena *a, struct span fold,
                           const struct tpm_show *show, struct tpm_grant *ret)
{
    AUTO(secret_done) struct secret pair = {.n = 0};
    AUTO(buf_done) struct buf blob = BUF_INIT(TPM_BLOB_MAX);
    AUTO(buf_done) struct buf sealed = BUF_INIT(TPM_PAIR + SEAL_OVERHEAD);
    enum err e;
    if ((e = secret_random(&pair, TPM_PAIR)) != OK ||
        (e = tpm_blob_make(&show->ek_key, &show->srk_key, span_of(pair.b, TPM_KEY_SIZE), &blob)) !=
            OK ||
        (e = keyring_seal(server_keyring(dw->dps->server), tpm_key_place(fold), secret_span(&pair),
                          &sealed)) != OK) {
        return e;
    }
    struct tpm_grant g = {arena_span(a, buf_span(&blob)), arena_span(a, buf_span(&sealed))};
    if (g.blob.p == NULL || g.sealed_key.p == NULL) {
        return E_NOMEM;
    }
    *ret = g;
    return OK;
}

enum rule tpm_begin(struct dps_worker *dw, struct arena *a, struct span fold,
                    const struct attested *who, const struct tpm_show *show, struct tpm_grant *ret,
                    struct verdict *v)
{
    uint8_t keys[CHALLENGE_KEYS];
    enum rule r = verdict_fail(v, key_digest(show, keys));
    if (r != RULE_OK) {
        return r;
    }
    if (!span_eq(span_of(keys, sizeof(keys)), span_of(who->tpm_keys, sizeof(who->tpm_keys)))) {
        return verdict_refuse(v, RULE_TPM_CHALLENGE, "the keys are not those that were challenged");
    }
    if (!challenge_use(dw->dps->challenges, fold, who->challenge, now_ms(dw))) {
        return verdict_refuse(v, RULE_TPM_CHALLENGE, "the challenge was used for a registration");
    }
    verdict_keep(v, RULE_TPM_CHALLENGE);
    r = verdict_fail(v, make_grant(dw, a, fold, show, ret));
    if (r != RULE_OK) {
        tpm_give_back(dw, fold, who->challenge);
    }
    return r;
}

void tpm_give_back(struct dps_worker *dw, struct span fold, uint64_t challenge)
{
    if (challenge != 0) {
        challenge_give_back(dw->dps->challenges, fold, challenge);
    }
}
