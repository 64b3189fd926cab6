/* SPDX-License-Identifier: Apache-2.0 */
#include "tpm/chip.h"

#include <stdlib.h>

#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_rc.h>
#include <tss2/tss2_tctildr.h>

#include "base/secret.h"
#include "tpm/blob.h"

#define NV_EK_RSA 0x01c00002u /* EK Credential Profile 2.2.1.4 */
#define NV_EK_ECC 0x01c0000au
#define NV_STEP 512u

struct chip {
    TSS2_TCTI_CONTEXT *tcti;
    ESYS_CONTEXT *esys;
};

static enum err failed(struct err_info *info, const char *what, TSS2_RC rc)
{
    return err_set(info, E_IO, "TPM: %s: %s (0x%x)", what, Tss2_RC_Decode(rc), rc);
}

static void esys_free_p(void *pp)
{
    void **p = pp;
    Esys_Free(*p);
    *p = NULL;
}

/* A transient object or session, flushed when its scope ends. */
struct held {
    ESYS_CONTEXT *esys;
    ESYS_TR tr;
};

static void held_end(struct held *h)
{
    if (h->tr != ESYS_TR_NONE) {
        (void)Esys_FlushContext(h->esys, h->tr);
        h->tr = ESYS_TR_NONE;
    }
}

/* A name of this library for a persistent handle. */
static void named_end(struct held *h)
{
    if (h->tr != ESYS_TR_NONE) {
        (void)Esys_TR_Close(h->esys, &h->tr);
    }
}

enum err chip_new(const char *tcti, struct chip **ret, struct err_info *info)
{
    const char *name = tcti != NULL && tcti[0] != '\0' ? tcti : NULL;
    AUTO(chip_free_p) struct chip *c = NEW(struct chip);
    TSS2_RC rc;
    if (c == NULL) {
        return E_NOMEM;
    }
    if ((rc = Tss2_TctiLdr_Initialize(name, &c->tcti)) != TSS2_RC_SUCCESS) {
        return failed(info, name != NULL ? name : "the system's TPM", rc);
    }
    if ((rc = Esys_Initialize(&c->esys, c->tcti, NULL)) != TSS2_RC_SUCCESS) {
        return failed(info, "start", rc);
    }
    *ret = TAKE(c);
    return OK;
}

void chip_free(struct chip *c)
{
    if (c != NULL) {
        Esys_Finalize(&c->esys);
        Tss2_TctiLdr_Finalize(&c->tcti);
        free(c);
    }
}

/* --- handles ------------------------------------------------------------------------------------------- */

/* Asked first, so that the library does not write of an error where there is none. */
static enum err has_handle(struct chip *c, uint32_t handle, bool *ret, struct err_info *info)
{
    AUTO(esys_free_p) TPMS_CAPABILITY_DATA *cap = NULL;
    TPMI_YES_NO more;
    TSS2_RC rc = Esys_GetCapability(c->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                    TPM2_CAP_HANDLES, handle, 1, &more, &cap);
    if (rc != TSS2_RC_SUCCESS) {
        return failed(info, "GetCapability", rc);
    }
    *ret = cap->data.handles.count == 1 && cap->data.handles.handle[0] == handle;
    return OK;
}

static enum err open_handle(struct chip *c, uint32_t handle, struct held *ret,
                            struct err_info *info)
{
    bool there = false;
    enum err e = has_handle(c, handle, &there, info);
    if (e != OK) {
        return e;
    }
    if (!there) {
        return err_set(info, E_NOT_FOUND, "TPM: there is nothing at handle 0x%08x", handle);
    }
    *ret = (struct held){c->esys, ESYS_TR_NONE};
    TSS2_RC rc =
        Esys_TR_FromTPMPublic(c->esys, handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &ret->tr);
    return rc == TSS2_RC_SUCCESS ? OK : failed(info, "ReadPublic", rc);
}

static enum err keep_at(struct chip *c, ESYS_TR object, uint32_t handle, struct err_info *info)
{
    AUTO(named_end) struct held new = {c->esys, ESYS_TR_NONE};
    TSS2_RC rc = Esys_EvictControl(c->esys, ESYS_TR_RH_OWNER, object, ESYS_TR_PASSWORD,
                                   ESYS_TR_NONE, ESYS_TR_NONE, handle, &new.tr);
    return rc == TSS2_RC_SUCCESS ? OK : failed(info, "EvictControl", rc);
}

static enum err drop_at(struct chip *c, uint32_t handle, struct err_info *info)
{
    struct held old = {c->esys, ESYS_TR_NONE};
    ESYS_TR none = ESYS_TR_NONE;
    enum err e = open_handle(c, handle, &old, info);
    if (e != OK) {
        return e == E_NOT_FOUND ? OK : e;
    }
    /* Ends `old` when it succeeds. */
    TSS2_RC rc = Esys_EvictControl(c->esys, ESYS_TR_RH_OWNER, old.tr, ESYS_TR_PASSWORD,
                                   ESYS_TR_NONE, ESYS_TR_NONE, handle, &none);
    if (rc != TSS2_RC_SUCCESS) {
        named_end(&old);
        return failed(info, "EvictControl", rc);
    }
    return OK;
}

/* --- EK and SRK -------------------------------------------------------------------------------------------- */

/* PolicySecret of the endorsement hierarchy. */
static const uint8_t ek_policy[] = {
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};

static TPM2B_PUBLIC template_of(enum tpm_use use)
{
    TPM2B_PUBLIC p = {.size = 0};
    TPMT_PUBLIC *a = &p.publicArea;
    a->type = TPM2_ALG_RSA;
    a->nameAlg = TPM2_ALG_SHA256;
    a->objectAttributes =
        TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
        TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT |
        (use == TPM_EK ? TPMA_OBJECT_ADMINWITHPOLICY : TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA);
    if (use == TPM_EK) {
        a->authPolicy.size = sizeof(ek_policy);
        memcpy(a->authPolicy.buffer, ek_policy, sizeof(ek_policy));
        a->unique.rsa.size =
            256; /* zeros: the maker's template, from which its certificate's key is */
    }
    a->parameters.rsaDetail = (TPMS_RSA_PARMS){
        .symmetric = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB},
        .scheme.scheme = TPM2_ALG_NULL,
        .keyBits = 2048,
    };
    return p;
}

static enum err make_key(struct chip *c, enum tpm_use use, uint32_t handle, struct err_info *info)
{
    const TPM2B_PUBLIC template = template_of(use);
    const TPM2B_SENSITIVE_CREATE nothing = {.size = 0};
    const TPM2B_DATA outside = {.size = 0};
    const TPML_PCR_SELECTION pcrs = {.count = 0};
    AUTO(held_end) struct held key = {c->esys, ESYS_TR_NONE};
    ESYS_TR parent = use == TPM_EK ? ESYS_TR_RH_ENDORSEMENT : ESYS_TR_RH_OWNER;
    TSS2_RC rc =
        Esys_CreatePrimary(c->esys, parent, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &nothing,
                           &template, &outside, &pcrs, &key.tr, NULL, NULL, NULL, NULL);
    if (rc != TSS2_RC_SUCCESS) {
        return failed(info, use == TPM_EK ? "CreatePrimary of the EK" : "CreatePrimary of the SRK",
                      rc);
    }
    return keep_at(c, key.tr, handle, info);
}

static enum err open_key(struct chip *c, enum tpm_use use, struct held *ret, struct err_info *info)
{
    uint32_t handle = use == TPM_EK ? CHIP_EK : CHIP_SRK;
    enum err e = open_handle(c, handle, ret, info);
    if (e == E_NOT_FOUND && (e = make_key(c, use, handle, info)) == OK) {
        e = open_handle(c, handle, ret, info);
    }
    return e;
}

static enum err read_public(struct chip *c, ESYS_TR key, TPM2B_PUBLIC **ret, struct err_info *info)
{
    TSS2_RC rc =
        Esys_ReadPublic(c->esys, key, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ret, NULL, NULL);
    return rc == TSS2_RC_SUCCESS ? OK : failed(info, "ReadPublic", rc);
}

static enum err add_public(struct chip *c, enum tpm_use use, struct buf *b, struct err_info *info)
{
    AUTO(named_end) struct held key = {c->esys, ESYS_TR_NONE};
    AUTO(esys_free_p) TPM2B_PUBLIC *p = NULL;
    uint8_t raw[TPM_PUBLIC_MAX];
    size_t n = 0;
    enum err e = open_key(c, use, &key, info);
    if (e != OK || (e = read_public(c, key.tr, &p, info)) != OK) {
        return e;
    }
    TSS2_RC rc = Tss2_MU_TPM2B_PUBLIC_Marshal(p, raw, sizeof(raw), &n);
    if (rc != TSS2_RC_SUCCESS) {
        return failed(info, "a public area", rc);
    }
    buf_add(b, span_of(raw, n));
    return buf_err(b);
}

enum err chip_keys(struct chip *c, struct buf *ek, struct buf *srk, struct err_info *info)
{
    enum err e = add_public(c, TPM_EK, ek, info);
    return e != OK ? e : add_public(c, TPM_SRK, srk, info);
}

/* --- the maker's certificate -------------------------------------------------------------------------------- */

/* The area may be longer than the certificate. */
static size_t der_length(struct span s)
{
    if (s.n < 4 || s.p[0] != 0x30 || s.p[1] != 0x82) {
        return 0;
    }
    size_t n = 4u + (size_t)(s.p[2] << 8 | s.p[3]);
    return n <= s.n ? n : 0;
}

static enum err read_area(struct chip *c, ESYS_TR area, size_t size, struct buf *b,
                          struct err_info *info)
{
    for (size_t at = 0; at < size; at += NV_STEP) {
        AUTO(esys_free_p) TPM2B_MAX_NV_BUFFER *part = NULL;
        TSS2_RC rc = Esys_NV_Read(c->esys, area, area, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                  (uint16_t)MIN(NV_STEP, size - at), (uint16_t)at, &part);
        if (rc != TSS2_RC_SUCCESS) {
            return failed(info, "NV_Read of the EK's certificate", rc);
        }
        buf_add(b, span_of(part->buffer, part->size));
    }
    return buf_err(b);
}

enum err chip_ek_cert(struct chip *c, struct buf *der, struct err_info *info)
{
    AUTO(named_end) struct held key = {c->esys, ESYS_TR_NONE};
    AUTO(named_end) struct held area = {c->esys, ESYS_TR_NONE};
    AUTO(esys_free_p) TPM2B_PUBLIC *p = NULL;
    AUTO(esys_free_p) TPM2B_NV_PUBLIC *nv = NULL;
    AUTO(buf_done) struct buf raw = BUF_INIT(CHIP_CERT_MAX);
    enum err e;
    if ((e = open_key(c, TPM_EK, &key, info)) != OK ||
        (e = read_public(c, key.tr, &p, info)) != OK ||
        (e = open_handle(c, p->publicArea.type == TPM2_ALG_ECC ? NV_EK_ECC : NV_EK_RSA, &area,
                         info)) != OK) {
        return e;
    }
    TSS2_RC rc =
        Esys_NV_ReadPublic(c->esys, area.tr, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &nv, NULL);
    if (rc != TSS2_RC_SUCCESS) {
        return failed(info, "NV_ReadPublic", rc);
    }
    if ((e = read_area(c, area.tr, nv->nvPublic.dataSize, &raw, info)) != OK) {
        return e;
    }
    size_t n = der_length(buf_span(&raw));
    if (n == 0) {
        return err_set(info, E_NOT_FOUND, "TPM: what is kept as the EK's certificate is none");
    }
    buf_add(der, span_sub(buf_span(&raw), 0, n));
    return buf_err(der);
}

/* --- blobs -------------------------------------------------------------------------------------------------- */

/* Authorization of the EK: PolicySecret(endorsement), unless its template lets a password do (the profile's high range). */
static enum err policy(struct chip *c, const TPM2B_PUBLIC *ek, struct held *ret,
                       struct err_info *info)
{
    const TPMT_SYM_DEF none = {.algorithm = TPM2_ALG_NULL};
    if ((ek->publicArea.objectAttributes & TPMA_OBJECT_USERWITHAUTH) != 0) {
        return OK;
    }
    TSS2_RC rc = Esys_StartAuthSession(c->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                       ESYS_TR_NONE, ESYS_TR_NONE, NULL, TPM2_SE_POLICY, &none,
                                       ek->publicArea.nameAlg, &ret->tr);
    if (rc != TSS2_RC_SUCCESS) {
        return failed(info, "StartAuthSession", rc);
    }
    rc = Esys_PolicySecret(c->esys, ESYS_TR_RH_ENDORSEMENT, ret->tr, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                           ESYS_TR_NONE, NULL, NULL, NULL, 0, NULL, NULL);
    return rc == TSS2_RC_SUCCESS ? OK : failed(info, "PolicySecret", rc);
}

static enum err activate(struct chip *c, ESYS_TR srk, const struct tpm_blob *b, TPM2B_DATA *ret,
                         struct err_info *info)
{
    AUTO(named_end) struct held ek = {c->esys, ESYS_TR_NONE};
    AUTO(held_end) struct held session = {c->esys, ESYS_TR_NONE};
    AUTO(esys_free_p) TPM2B_PUBLIC *p = NULL;
    AUTO(esys_free_p) TPM2B_DIGEST *inner = NULL;
    TPM2B_ID_OBJECT cred = {.size = 0};
    TPM2B_ENCRYPTED_SECRET secret = {.size = 0};
    enum err e;
    if (Tss2_MU_TPM2B_ID_OBJECT_Unmarshal(b->credential.p, b->credential.n, NULL, &cred) !=
            TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_ENCRYPTED_SECRET_Unmarshal(b->credential_secret.p, b->credential_secret.n,
                                                 NULL, &secret) != TSS2_RC_SUCCESS) {
        return err_set(info, E_MALFORMED, "the key blob's credential does not fit a TPM");
    }
    if ((e = open_key(c, TPM_EK, &ek, info)) != OK || (e = read_public(c, ek.tr, &p, info)) != OK ||
        (e = policy(c, p, &session, info)) != OK) {
        return e;
    }
    ESYS_TR by = session.tr != ESYS_TR_NONE ? session.tr : ESYS_TR_PASSWORD;
    TSS2_RC rc = Esys_ActivateCredential(c->esys, srk, ek.tr, ESYS_TR_PASSWORD, by, ESYS_TR_NONE,
                                         &cred, &secret, &inner);
    if (rc != TSS2_RC_SUCCESS) {
        return failed(info, "ActivateCredential", rc);
    }
    ret->size = inner->size;
    ASSERT(inner->size <= sizeof(ret->buffer));
    memcpy(ret->buffer, inner->buffer, inner->size);
    mem_wipe(inner, sizeof(*inner));
    return OK;
}

/* ActivateCredential, Import, Load: the key of the blob as a transient object. */
static enum err load_blob(struct chip *c, struct span blob, struct held *ret, struct err_info *info)
{
    static const TPMT_SYM_DEF_OBJECT aes128 = {
        .algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB};
    AUTO(named_end) struct held srk = {c->esys, ESYS_TR_NONE};
    AUTO(esys_free_p) TPM2B_PRIVATE *own = NULL;
    TPM2B_PUBLIC area = {.size = 0};
    TPM2B_PRIVATE dup = {.size = 0};
    TPM2B_ENCRYPTED_SECRET seed = {.size = 0};
    TPM2B_DATA inner = {.size = 0};
    struct tpm_blob b;
    enum err e = tpm_blob_read(blob, &b);
    if (e != OK ||
        Tss2_MU_TPM2B_PUBLIC_Unmarshal(b.area.p, b.area.n, NULL, &area) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_PRIVATE_Unmarshal(b.duplicate.p, b.duplicate.n, NULL, &dup) !=
            TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_ENCRYPTED_SECRET_Unmarshal(b.seed.p, b.seed.n, NULL, &seed) !=
            TSS2_RC_SUCCESS) {
        return err_set(info, E_MALFORMED, "the key blob is not of its six parts");
    }
    if ((e = open_key(c, TPM_SRK, &srk, info)) != OK ||
        (e = activate(c, srk.tr, &b, &inner, info)) != OK) {
        return e;
    }
    TSS2_RC rc = Esys_Import(c->esys, srk.tr, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &inner,
                             &area, &dup, &seed, &aes128, &own);
    mem_wipe(&inner, sizeof(inner));
    if (rc != TSS2_RC_SUCCESS) {
        return failed(info, "Import", rc);
    }
    rc = Esys_Load(c->esys, srk.tr, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, own, &area,
                   &ret->tr);
    return rc == TSS2_RC_SUCCESS ? OK : failed(info, "Load", rc);
}

static enum err sign(struct chip *c, ESYS_TR key, struct span text, uint8_t ret[CHIP_MAC],
                     struct err_info *info)
{
    AUTO(esys_free_p) TPM2B_DIGEST *mac = NULL;
    TPM2B_MAX_BUFFER b = {.size = (uint16_t)text.n};
    if (text.n > CHIP_TEXT_MAX) {
        return err_set(info, E_TOO_LARGE, "more than one TPM2_HMAC takes");
    }
    memcpy(b.buffer, text.p, text.n);
    TSS2_RC rc = Esys_HMAC(c->esys, key, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &b,
                           TPM2_ALG_SHA256, &mac);
    if (rc != TSS2_RC_SUCCESS || mac->size != CHIP_MAC) {
        return failed(info, "HMAC", rc);
    }
    memcpy(ret, mac->buffer, CHIP_MAC);
    return OK;
}

enum err chip_sign_by(struct chip *c, struct span blob, struct span text, uint8_t ret[CHIP_MAC],
                      struct err_info *info)
{
    AUTO(held_end) struct held key = {c->esys, ESYS_TR_NONE};
    enum err e = load_blob(c, blob, &key, info);
    return e != OK ? e : sign(c, key.tr, text, ret, info);
}

enum err chip_keep(struct chip *c, struct span blob, struct err_info *info)
{
    AUTO(held_end) struct held key = {c->esys, ESYS_TR_NONE};
    enum err e = load_blob(c, blob, &key, info);
    if (e != OK || (e = drop_at(c, CHIP_IDENTITY, info)) != OK) {
        return e;
    }
    return keep_at(c, key.tr, CHIP_IDENTITY, info);
}

enum err chip_sign(struct chip *c, struct span text, uint8_t ret[CHIP_MAC], struct err_info *info)
{
    AUTO(named_end) struct held key = {c->esys, ESYS_TR_NONE};
    enum err e = open_handle(c, CHIP_IDENTITY, &key, info);
    return e != OK ? e : sign(c, key.tr, text, ret, info);
}
