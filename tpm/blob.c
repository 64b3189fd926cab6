/* SPDX-License-Identifier: Apache-2.0 */
#include "tpm/blob.h"

#include <tss2/tss2_tpm2_types.h>

#include "base/clock.h"
#include "base/rd.h"
#include "tpm/blob_int.h"

#define IDKEY_ATTRIBUTES                                                                           \
    (TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_NODA | TPMA_OBJECT_USERWITHAUTH) /* 00040440 */
#define SENSITIVE_MAX (2 + 2 + 2 + 2 + OBF_SIZE + 2 + TPM_KEY_MAX)
#define CLEAR_MAX (2 + 32 + SENSITIVE_MAX)
#define LABEL_IDENTITY SPAN_LIT("IDENTITY\0")
#define LABEL_DUPLICATE SPAN_LIT("DUPLICATE\0")
#define LABEL_STORAGE SPAN_LIT("STORAGE\0")
#define LABEL_INTEGRITY SPAN_LIT("INTEGRITY\0")

/* Marshalling into a piece of the stack that is wiped: a buf would leave copies behind when it grows. */
struct clear {
    uint8_t b[CLEAR_MAX];
    size_t n;
};

static void clear_wipe(struct clear *c)
{
    mem_wipe(c, sizeof(*c));
}
static void draw_wipe(struct blob_draw *d)
{
    mem_wipe(d, sizeof(*d));
}

static void put(struct clear *c, struct span s)
{
    ASSERT(s.n <= sizeof(c->b) - c->n);
    memcpy(c->b + c->n, s.p, s.n);
    c->n += s.n;
}

static void put_be16(struct clear *c, size_t v)
{
    const uint8_t b[2] = {(uint8_t)(v >> 8), (uint8_t)v};
    put(c, span_of(b, sizeof(b)));
}

static void put_2b(struct clear *c, struct span s)
{
    put_be16(c, s.n);
    put(c, s);
}

static struct span name_span(const struct tpm_name *n)
{
    return span_of(n->b, n->n);
}

enum err blob_idkey(struct span key, const struct blob_draw *d, uint8_t area[IDKEY_AREA],
                    struct tpm_name *ret)
{
    const struct span part[] = {span_of(d->obf, sizeof(d->obf)), key};
    uint8_t unique[32];
    AUTO(buf_done) struct buf b = BUF_INIT(IDKEY_AREA);
    enum err e = tpm_hash(tpm_suite_plain(), part, ARRAY_LEN(part), unique);
    if (e != OK) {
        return e;
    }
    buf_add_be16(&b, TPM2_ALG_KEYEDHASH);
    buf_add_be16(&b, TPM2_ALG_SHA256);
    buf_add_be32(&b, IDKEY_ATTRIBUTES);
    buf_add_be16(&b, 0); /* no policy */
    buf_add_be16(&b, TPM2_ALG_HMAC);
    buf_add_be16(&b, TPM2_ALG_SHA256);
    buf_add_be16(&b, sizeof(unique));
    buf_add(&b, span_of(unique, sizeof(unique)));
    if ((e = buf_err(&b)) != OK) {
        return e;
    }
    const struct tpm_public p = {.area = buf_span(&b), .suite = tpm_suite_plain()};
    if ((e = tpm_public_name(&p, ret)) == OK) {
        ASSERT(b.n == IDKEY_AREA);
        memcpy(area, b.p, IDKEY_AREA);
    }
    return e;
}

/* The wrapping of a protected object: cipher text under "STORAGE", its MAC with the name under "INTEGRITY" before it (part 1, 22 and 24). */
static enum err wrap(const struct tpm_suite *s, struct span seed, const struct tpm_name *name,
                     struct span clear, struct buf *b)
{
    uint8_t sym[32], mac_key[TPM_HASH_MAX], mac[TPM_HASH_MAX], out[CLEAR_MAX];
    const struct span part[] = {span_of(out, clear.n), name_span(name)};
    ASSERT(clear.n <= sizeof(out));
    enum err e = tpm_kdfa(s, seed, LABEL_STORAGE, name_span(name), SPAN_NONE, s->aes_bits, sym);
    if (e == OK) {
        e = tpm_cfb(s, sym, clear, out);
    }
    if (e == OK) {
        e = tpm_kdfa(s, seed, LABEL_INTEGRITY, SPAN_NONE, SPAN_NONE, (unsigned)s->hash_n * 8,
                     mac_key);
    }
    if (e == OK) {
        e = tpm_hmac(s, span_of(mac_key, s->hash_n), part, ARRAY_LEN(part), mac);
    }
    mem_wipe(sym, sizeof(sym));
    mem_wipe(mac_key, sizeof(mac_key));
    if (e != OK) {
        return e;
    }
    buf_add_be16(b, (uint16_t)(2 + s->hash_n + clear.n));
    buf_add_be16(b, (uint16_t)s->hash_n);
    buf_add(b, span_of(mac, s->hash_n));
    buf_add(b, span_of(out, clear.n));
    return buf_err(b);
}

enum err blob_duplicate(const struct tpm_suite *parent, struct span seed, struct span key,
                        const struct blob_draw *d, const struct tpm_name *idkey, struct buf *b)
{
    AUTO(clear_wipe) struct clear sens = {.n = 0};
    AUTO(clear_wipe) struct clear clear = {.n = 0};
    AUTO(clear_wipe) struct clear enc = {.n = 0};
    uint8_t integrity[32];
    put_be16(&sens, 2 + 2 + 2 + sizeof(d->obf) + 2 + key.n);
    put_be16(&sens, TPM2_ALG_KEYEDHASH);
    put_be16(&sens, 0); /* no authorization value */
    put_2b(&sens, span_of(d->obf, sizeof(d->obf)));
    put_2b(&sens, key);
    const struct span part[] = {span_of(sens.b, sens.n), name_span(idkey)};
    enum err e = tpm_hash(tpm_suite_plain(), part, ARRAY_LEN(part), integrity);
    if (e != OK) {
        return e;
    }
    put_2b(&clear, span_of(integrity, sizeof(integrity)));
    put(&clear, span_of(sens.b, sens.n));
    /* The inner wrapper is AES-128 whatever the parent uses: SDKs import with that. */
    enc.n = clear.n;
    if ((e = tpm_cfb(tpm_suite_plain(), d->inner, span_of(clear.b, clear.n), enc.b)) != OK) {
        return e;
    }
    return wrap(parent, seed, idkey, span_of(enc.b, enc.n), b);
}

enum err blob_credential(const struct tpm_suite *ek, struct span seed, const struct blob_draw *d,
                         const struct tpm_name *srk, struct buf *b)
{
    AUTO(clear_wipe) struct clear clear = {.n = 0};
    put_2b(&clear, span_of(d->inner, sizeof(d->inner)));
    return wrap(ek, seed, srk, span_of(clear.b, clear.n), b);
}

enum err tpm_blob_make(const struct tpm_public *ek, const struct tpm_public *srk, struct span key,
                       struct buf *b)
{
    AUTO(draw_wipe) struct blob_draw d;
    AUTO(secret_done) struct secret cseed = {.n = 0}, dseed = {.n = 0};
    AUTO(buf_done) struct buf csecret = BUF_INIT(TPM_BLOB_MAX), dsecret = BUF_INIT(TPM_BLOB_MAX);
    uint8_t area[IDKEY_AREA];
    struct tpm_name idkey, parent;
    enum err e;
    if (key.n == 0 || key.n > TPM_KEY_MAX) {
        return E_ARG;
    }
    random_bytes(&d, sizeof(d));
    if ((e = blob_idkey(key, &d, area, &idkey)) != OK ||
        (e = tpm_public_name(srk, &parent)) != OK ||
        (e = tpm_share(ek, LABEL_IDENTITY, &cseed, &csecret)) != OK ||
        (e = tpm_share(srk, LABEL_DUPLICATE, &dseed, &dsecret)) != OK ||
        (e = blob_credential(ek->suite, secret_span(&cseed), &d, &parent, b)) != OK) {
        return e;
    }
    buf_add(b, buf_span(&csecret));
    if ((e = blob_duplicate(srk->suite, secret_span(&dseed), key, &d, &idkey, b)) != OK) {
        return e;
    }
    buf_add(b, buf_span(&dsecret));
    buf_add_be16(b, IDKEY_AREA);
    buf_add(b, span_of(area, sizeof(area)));
    buf_add_be16(b, 0); /* encUriData: read by all SDKs, used by none */
    return buf_err(b);
}

static struct span field(struct rd *r)
{
    const uint8_t *at = r->p;
    size_t left = r->n;
    (void)rd_lv16(r);
    return span_of(at, left - r->n);
}

enum err tpm_blob_read(struct span s, struct tpm_blob *ret)
{
    struct rd r = rd_init(s);
    struct tpm_blob t;
    t.credential = field(&r);
    t.credential_secret = field(&r);
    t.duplicate = field(&r);
    t.seed = field(&r);
    t.area = field(&r);
    t.uri = field(&r);
    enum err e = rd_end(&r);
    if (e == OK) {
        *ret = t;
    }
    return e;
}
