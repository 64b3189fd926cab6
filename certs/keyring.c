/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"
#include "base/rd.h"
#include "base/text.h"
#include "certs/private_file.h"

#define KEY_SIZE 32u
#define SEAL_VERSION 1u
#define NONCE_SIZE 12u
#define TAG_SIZE 16u
#define HEAD_SIZE (1u + 4u) /* version, key number */
_Static_assert(SEAL_OVERHEAD == HEAD_SIZE + NONCE_SIZE + TAG_SIZE, "the form in the header");

#define FILE_MAGIC "berth-master-keys 1"
#define FILE_MAX 4096u
#define PLACE_MAX 512u
#define DUMMY_KEY_SIZE 32u

struct master_key {
    uint32_t number;
    uint8_t b[KEY_SIZE];
};

struct keyring {
    EVP_CIPHER *gcm;         /* fetched once: a fetch costs more than the sealing */
    struct master_key *keys; /* a page of its own, out of core files */
    size_t n;
    uint8_t dummy[DUMMY_KEY_SIZE + SEAL_OVERHEAD]; /* a random key, sealed */
};

#define KEYS_SIZE (LIMIT_MASTER_KEYS * sizeof(struct master_key))

static const struct seal_place dummy_place = {.table = "", .column = "dummy"};

/* --- the key file --------------------------------------------------------------------------- */

/* Lines "NUMBER BASE64"; numbers rise, so that the last is the one that seals. */
static enum err read_line(struct keyring *k, struct span line)
{
    struct span number = span_cut(&line, ' ');
    uint64_t v;
    size_t n = KEY_SIZE;
    if (k->n == LIMIT_MASTER_KEYS || !span_to_u64(number, &v) || v > UINT32_MAX ||
        (k->n > 0 && v <= k->keys[k->n - 1].number) ||
        base64_decode_to(span_trim(line), k->keys[k->n].b, &n) != OK || n != KEY_SIZE) {
        return E_CONFIG;
    }
    k->keys[k->n++].number = (uint32_t)v;
    return OK;
}

static enum err read_keys(struct keyring *k, struct span text, const char *path,
                          struct err_info *info)
{
    unsigned line = 1;
    if (!span_is(span_cut(&text, '\n'), FILE_MAGIC)) {
        return err_set(info, E_CONFIG, "\"%s\" is no master key file", path);
    }
    while (text.n != 0) {
        line++;
        if (read_line(k, span_cut(&text, '\n')) != OK) {
            return err_set(info, E_CONFIG,
                           "\"%s\" line %u: not a rising number and %u bytes of base64", path, line,
                           KEY_SIZE);
        }
    }
    return k->n > 0 ? OK : err_set(info, E_CONFIG, "\"%s\" holds no key", path);
}

static void wipe_buf(struct buf *b)
{
    mem_wipe(b->p, b->cap);
    buf_done(b);
}

static enum err create_file(const char *path, struct err_info *info)
{
    AUTO(wipe_buf) struct buf b = BUF_INIT(FILE_MAX);
    uint8_t key[KEY_SIZE];
    random_bytes(key, sizeof(key));
    (void)!buf_reserve(&b, 256); /* at once, so that growing leaves no copy; an error stays in b */
    buf_add_str(&b, FILE_MAGIC "\n1 ");
    base64_add(&b, span_of(key, sizeof(key)));
    buf_add_u8(&b, '\n');
    mem_wipe(key, sizeof(key));
    enum err e = buf_err(&b);
    return e != OK ? e : fs_create_atomic(path, buf_span(&b), 0600, info);
}

static enum err load(struct keyring *k, const char *path, bool create, struct err_info *info)
{
    AUTO(wipe_buf) struct buf text = BUF_INIT(FILE_MAX);
    if (create && !fs_exists(path)) {
        enum err e = create_file(path, info);
        if (e != OK && e != E_EXISTS) { /* E_EXISTS: another process was faster; its key counts */
            return err_wrap(info, e, "master key");
        }
    }
    enum err e = private_file_read(path, &text, info);
    if (e != OK) {
        return err_wrap(info, e, "master key");
    }
    return read_keys(k, buf_span(&text), path, info);
}

/* --- open and close ------------------------------------------------------------------------- */

static enum err map_keys(struct keyring *k)
{
    void *p = mmap(NULL, KEYS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return E_NOMEM;
    }
    k->keys = p;
    /* Best effort, as not every kernel or limit lets us: out of swap, out of core files (S6). */
    (void)!mlock(p, KEYS_SIZE);
    (void)!madvise(p, KEYS_SIZE, MADV_DONTDUMP);
    return OK;
}

static enum err make_dummy(struct keyring *k)
{
    AUTO(buf_done) struct buf b = BUF_INIT(sizeof(k->dummy));
    uint8_t key[DUMMY_KEY_SIZE];
    random_bytes(key, sizeof(key));
    enum err e = keyring_seal(k, dummy_place, span_of(key, sizeof(key)), &b);
    mem_wipe(key, sizeof(key));
    if (e == OK) {
        ASSERT(b.n == sizeof(k->dummy));
        memcpy(k->dummy, b.p, b.n);
    }
    return e;
}

enum err keyring_open(const char *path, bool create, struct keyring **ret, struct err_info *info)
{
    AUTO(keyring_free_p) struct keyring *k = NEW(struct keyring);
    enum err e = k != NULL ? map_keys(k) : E_NOMEM;
    if (e != OK) {
        return err_set(info, e, "keyring: out of memory");
    }
    if ((k->gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL)) == NULL) {
        ERR_clear_error();
        return err_set(info, E_CRYPTO, "keyring: no AES-256-GCM");
    }
    if ((e = load(k, path, create, info)) != OK) {
        return e;
    }
    if ((e = make_dummy(k)) != OK) {
        return err_set(info, e, "keyring: sealing failed");
    }
    *ret = TAKE(k);
    return OK;
}

void keyring_free(struct keyring *k)
{
    if (k == NULL) {
        return;
    }
    if (k->keys != NULL) {
        mem_wipe(k->keys, KEYS_SIZE);
        (void)munmap(k->keys, KEYS_SIZE);
    }
    EVP_CIPHER_free(k->gcm);
    free(k);
}

/* --- sealing ---------------------------------------------------------------------------------- */

static const struct master_key *key_of(const struct keyring *k, uint32_t number)
{
    for (size_t i = 0; i < k->n; i++) {
        if (k->keys[i].number == number) {
            return &k->keys[i];
        }
    }
    return NULL;
}

/* Additional data: the head, then the place. Table and column hold no zero byte, so no two places
 * give one text. */
static bool aad_write(struct seal_place at, struct span head, uint8_t dst[PLACE_MAX], size_t *ret_n)
{
    struct span part[] = {
        head, span_str(at.table), SPAN_LIT("\0"), span_str(at.column), SPAN_LIT("\0"), at.row};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(part); i++) {
        if (part[i].n > PLACE_MAX - n) {
            return false;
        }
        if (part[i].n != 0) {
            memcpy(dst + n, part[i].p, part[i].n);
        }
        n += part[i].n;
    }
    *ret_n = n;
    return true;
}

struct gcm {
    const struct master_key *key;
    struct span nonce;
    struct span aad;
};

static bool gcm_run(const struct keyring *k, const struct gcm *g, bool seal, struct span in,
                    uint8_t *out, uint8_t tag[TAG_SIZE])
{
    int n = 0;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool ok = c != NULL &&
              EVP_CipherInit_ex2(c, k->gcm, g->key->b, g->nonce.p, seal ? 1 : 0, NULL) == 1 &&
              EVP_CipherUpdate(c, NULL, &n, g->aad.p, (int)g->aad.n) == 1 &&
              (in.n == 0 || EVP_CipherUpdate(c, out, &n, in.p, (int)in.n) == 1) &&
              (seal || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, tag) == 1) &&
              EVP_CipherFinal_ex(c, out + in.n, &n) == 1 &&
              (!seal || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, tag) == 1);
    EVP_CIPHER_CTX_free(c);
    if (!ok) {
        ERR_clear_error();
    }
    return ok;
}

/* out has room for the secret and SEAL_OVERHEAD. */
static enum err seal(const struct keyring *k, struct seal_place at, struct span secret,
                     uint8_t *out)
{
    uint8_t aad[PLACE_MAX];
    const struct master_key *key = &k->keys[k->n - 1];
    struct gcm g = {.key = key, .nonce = span_of(out + HEAD_SIZE, NONCE_SIZE)};
    uint8_t *body = out + HEAD_SIZE + NONCE_SIZE;
    size_t aad_n;
    out[0] = SEAL_VERSION;
    for (unsigned i = 0; i < 4; i++) {
        out[1 + i] = (uint8_t)(key->number >> (24 - 8 * i));
    }
    random_bytes(out + HEAD_SIZE, NONCE_SIZE);
    if (!aad_write(at, span_of(out, HEAD_SIZE), aad, &aad_n)) {
        return E_TOO_LARGE;
    }
    g.aad = span_of(aad, aad_n);
    return gcm_run(k, &g, true, secret, body, body + secret.n) ? OK : E_CRYPTO;
}

/* out has room for all of sealed. */
static enum err unseal(const struct keyring *k, struct seal_place at, struct span sealed,
                       size_t max, uint8_t *out, size_t *ret_n)
{
    uint8_t aad[PLACE_MAX];
    uint8_t tag[TAG_SIZE];
    size_t aad_n;
    struct rd r = rd_init(sealed);
    struct span head = span_sub(sealed, 0, HEAD_SIZE);
    rd_require(&r, rd_u8(&r) == SEAL_VERSION);
    struct gcm g = {.key = key_of(k, rd_be32(&r))};
    g.nonce = rd_bytes(&r, NONCE_SIZE);
    struct span rest = rd_rest(&r);
    if (rd_err(&r) != OK || g.key == NULL || rest.n < TAG_SIZE || rest.n - TAG_SIZE > max ||
        !aad_write(at, head, aad, &aad_n)) {
        return E_CORRUPT;
    }
    g.aad = span_of(aad, aad_n);
    *ret_n = rest.n - TAG_SIZE;
    memcpy(tag, rest.p + *ret_n, TAG_SIZE);
    return gcm_run(k, &g, false, span_sub(rest, 0, *ret_n), out, tag) ? OK : E_CORRUPT;
}

enum err keyring_seal(const struct keyring *k, struct seal_place at, struct span secret,
                      struct buf *ret)
{
    uint8_t out[SECRET_MAX + SEAL_OVERHEAD];
    enum err e = secret.n <= SECRET_MAX ? seal(k, at, secret, out) : E_TOO_LARGE;
    if (e != OK) {
        return e;
    }
    buf_add(ret, span_of(out, secret.n + SEAL_OVERHEAD));
    return buf_err(ret);
}

enum err keyring_unseal(const struct keyring *k, struct seal_place at, struct span sealed,
                        struct secret *ret)
{
    AUTO(secret_done) struct secret clear = {{0}, 0};
    enum err e = unseal(k, at, sealed, SECRET_MAX, clear.b, &clear.n);
    return e != OK ? e : secret_set(ret, secret_span(&clear));
}

enum err keyring_seal_blob(const struct keyring *k, struct seal_place at, struct span blob,
                           struct buf *ret)
{
    uint8_t out[SEAL_BLOB_MAX + SEAL_OVERHEAD];
    enum err e = blob.n <= SEAL_BLOB_MAX ? seal(k, at, blob, out) : E_TOO_LARGE;
    if (e != OK) {
        return e;
    }
    buf_add(ret, span_of(out, blob.n + SEAL_OVERHEAD));
    return buf_err(ret);
}

enum err keyring_unseal_blob(const struct keyring *k, struct seal_place at, struct span sealed,
                             struct buf *ret)
{
    uint8_t clear[SEAL_BLOB_MAX];
    size_t n = 0;
    enum err e = unseal(k, at, sealed, SEAL_BLOB_MAX, clear, &n);
    buf_reset(ret);
    (void)buf_reserve(ret, SEAL_BLOB_MAX); /* at once, so that no copy stays behind */
    if (e == OK) {
        buf_add(ret, span_of(clear, n));
        e = buf_err(ret);
    }
    mem_wipe(clear, sizeof(clear));
    return e;
}

/* --- use -------------------------------------------------------------------------------------- */

bool keyring_mac_matches(const struct keyring *k, struct seal_place at, struct span sealed,
                         struct span text, struct span sig)
{
    AUTO(secret_done) struct secret key = {{0}, 0};
    uint8_t mac[MAC_SIZE];
    bool is_real = sealed.n != 0;
    if (is_real && keyring_unseal(k, at, sealed, &key) != OK) {
        is_real = false;
    }
    if (!is_real &&
        keyring_unseal(k, dummy_place, span_of(k->dummy, sizeof(k->dummy)), &key) != OK) {
        return false; /* the library failed: nothing matches */
    }
    mac_sha256(secret_span(&key), text, mac);
    bool is_equal = mem_equal_ct(span_of(mac, sizeof(mac)), sig);
    mem_wipe(mac, sizeof(mac));
    return is_equal && is_real;
}

enum err keyring_derive(const struct keyring *k, struct seal_place at, struct span sealed,
                        struct span registration_id, struct secret *ret)
{
    AUTO(secret_done) struct secret key = {{0}, 0};
    uint8_t mac[MAC_SIZE];
    enum err e = keyring_unseal(k, at, sealed, &key);
    if (e != OK) {
        return e;
    }
    mac_sha256(secret_span(&key), registration_id, mac);
    e = secret_set(ret, span_of(mac, sizeof(mac)));
    mem_wipe(mac, sizeof(mac));
    return e;
}
