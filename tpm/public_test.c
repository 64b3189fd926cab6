/* SPDX-License-Identifier: Apache-2.0 */
/* docs/protocol/dps-tpm.md 2.1, 3, 9.2, 9.3: rows T8, T17. */
#include "tests/unit.h"

#include <stdlib.h>
#include <tss2/tss2_mu.h>

#include "base/buf.h"
#include "base/text.h"
#include "tpm/fixture.h"
#include "tpm/public.h"
#include "tpm/samples.h"

struct bytes {
    uint8_t b[TPM_PUBLIC_MAX + 8];
    size_t n;
};

static struct bytes sample(const char *text)
{
    struct bytes s = {.n = sizeof(s.b)};
    assert_ok(base64_decode_to(span_str(text), s.b, &s.n));
    return s;
}

static struct span of(const struct bytes *s)
{
    return span_of(s->b, s->n);
}

/* The marshalling library's reader, which must take what ours takes, and write it again the same. */
static void compare(struct span b)
{
    TPM2B_PUBLIC p = {.size = 0};
    uint8_t again[TPM_PUBLIC_MAX];
    size_t at = 0, n = 0;
    assert_int_equal(Tss2_MU_TPM2B_PUBLIC_Unmarshal(b.p, b.n, &at, &p), TSS2_RC_SUCCESS);
    assert_int_equal(at, b.n);
    assert_int_equal(Tss2_MU_TPM2B_PUBLIC_Marshal(&p, again, sizeof(again), &n), TSS2_RC_SUCCESS);
    assert_span(span_of(again, n), b);
}

static void vectors(void **state)
{
    (void)state;
    struct bytes ek = sample(SAMPLE_EK), srk = sample(SAMPLE_SRK);
    struct tpm_public p;
    struct tpm_name name;
    char rid[TPM_RID_SIZE], hex[2 * TPM_NAME_MAX + 1];
    assert_int_equal(ek.n, 316);
    assert_int_equal(srk.n, 284);
    assert_ok(tpm_public_read(of(&ek), TPM_EK, &p, NULL));
    assert_int_equal(p.type, TPM_RSA);
    assert_int_equal(p.bits, 2048);
    assert_span(p.modulus, span_of(ek.b + 60, 256));
    assert_ok(tpm_registration_id(of(&ek), rid));
    assert_string_equal(rid, SAMPLE_EK_RID);
    assert_ok(tpm_public_read(of(&srk), TPM_SRK, &p, NULL));
    assert_ok(tpm_public_name(&p, &name));
    hex_to_cstr(span_of(name.b, name.n), false, hex);
    assert_string_equal(hex, SAMPLE_SRK_NAME);
    compare(of(&ek));
    compare(of(&srk));
}

static void kinds(void **state)
{
    (void)state;
    static const struct {
        enum tpm_type type;
        unsigned bits;
        size_t name_n;
    } want[FIX_KINDS] = {
        [FIX_RSA2048] = {TPM_RSA, 2048, 34},
        [FIX_RSA3072] = {TPM_RSA, 3072, 50},
        [FIX_P256] = {TPM_ECC, 256, 34},
        [FIX_P384] = {TPM_ECC, 384, 50},
    };
    for (size_t i = 0; i < FIX_KINDS; i++) {
        struct fix_key k, other;
        struct tpm_public p;
        struct tpm_name name;
        AUTO(buf_done) struct buf spki = BUF_INIT(2048), foreign = BUF_INIT(2048);
        fix_key_new(&k, (enum fix_kind)i, TPM_EK);
        fix_key_new(&other, (enum fix_kind)i, TPM_EK);
        assert_ok(tpm_public_read(fix_key_public(&k), TPM_EK, &p, NULL));
        assert_int_equal(p.type, want[i].type);
        assert_int_equal(p.bits, want[i].bits);
        assert_ok(tpm_public_name(&p, &name));
        assert_int_equal(name.n, want[i].name_n);
        compare(fix_key_public(&k));
        fix_key_spki(&k, &spki);
        fix_key_spki(&other, &foreign);
        assert_true(tpm_public_is_key(&p, buf_span(&spki)));
        assert_false(tpm_public_is_key(&p, buf_span(&foreign)));
        buf_add_u8(&spki, 0);
        assert_false(tpm_public_is_key(&p, buf_span(&spki)));
        assert_false(tpm_public_is_key(&p, SPAN_LIT("0")));
        fix_key_done(&k);
        fix_key_done(&other);
    }
}

/* Offsets into an EK: 2 type, 4 name algorithm, 6 attributes, 10 policy, 44 symmetric, 50 scheme, 52 bits or curve, 54 exponent or KDF. */
struct patch {
    const char *name;
    enum fix_kind kind;
    enum tpm_use use;
    size_t at, n;
    uint8_t with[4];
    const char *why;
};
/* clang-format off */
static const struct patch patches[] = {
    { "size too large",        FIX_RSA2048, TPM_EK,  0, 2, {0x01, 0x3b},             "size field" },
    { "size too small",        FIX_RSA2048, TPM_EK,  0, 2, {0x01, 0x39},             "size field" },
    { "type keyedhash",        FIX_RSA2048, TPM_EK,  2, 2, {0x00, 0x08},             "neither an RSA nor an ECC" },
    { "type ECC of RSA bytes", FIX_RSA2048, TPM_EK,  2, 2, {0x00, 0x23},             "neither P-256" },
    { "name by SHA-1",         FIX_RSA2048, TPM_EK,  4, 2, {0x00, 0x04},             "name algorithm" },
    { "SHA-384 with AES-128",  FIX_RSA2048, TPM_EK,  4, 2, {0x00, 0x0c},             "name algorithm" },
    { "not restricted",        FIX_RSA2048, TPM_EK,  6, 4, {0x00, 0x02, 0x00, 0xb2}, "not restricted" },
    { "not decrypt",           FIX_RSA2048, TPM_EK,  6, 4, {0x00, 0x01, 0x00, 0xb2}, "not restricted" },
    { "not fixedTPM",          FIX_RSA2048, TPM_EK,  6, 4, {0x00, 0x03, 0x00, 0xb0}, "not restricted" },
    { "not fixedParent",       FIX_RSA2048, TPM_EK,  6, 4, {0x00, 0x03, 0x00, 0xa2}, "not restricted" },
    { "signs",                 FIX_RSA2048, TPM_EK,  6, 4, {0x00, 0x07, 0x00, 0xb2}, "a key that signs" },
    { "SRK not restricted",    FIX_RSA2048, TPM_SRK, 6, 4, {0x00, 0x02, 0x04, 0x72}, "not a storage key" },
    { "policy over the end",   FIX_RSA2048, TPM_EK, 10, 2, {0x01, 0x40},             "ends too early" },
    { "3DES",                  FIX_RSA2048, TPM_EK, 44, 2, {0x00, 0x03},             "name algorithm" },
    { "AES-256 with SHA-256",  FIX_RSA2048, TPM_EK, 46, 2, {0x01, 0x00},             "name algorithm" },
    { "CBC",                   FIX_RSA2048, TPM_EK, 48, 2, {0x00, 0x42},             "name algorithm" },
    { "a scheme",              FIX_RSA2048, TPM_EK, 50, 2, {0x00, 0x17},             "a scheme" },
    { "1024 bits",             FIX_RSA2048, TPM_EK, 52, 2, {0x04, 0x00},             "another size" },
    { "3072 bits said",        FIX_RSA2048, TPM_EK, 52, 2, {0x0c, 0x00},             "so many bits" },
    { "exponent 3",            FIX_RSA2048, TPM_EK, 54, 4, {0x00, 0x00, 0x00, 0x03}, "exponent" },
    { "modulus over the end",  FIX_RSA2048, TPM_EK, 58, 2, {0x01, 0x01},             "ends too early" },
    { "modulus below its end", FIX_RSA2048, TPM_EK, 58, 2, {0x00, 0xff},             "bytes behind" },
    { "modulus without top",   FIX_RSA2048, TPM_EK, 60, 1, {0x00},                   "so many bits" },
    { "curve P-521",           FIX_P256,    TPM_EK, 52, 2, {0x00, 0x05},             "neither P-256" },
    { "other curve's length",  FIX_P256,    TPM_EK, 52, 2, {0x00, 0x04},             "as long as the field" },
    { "a KDF scheme",          FIX_P256,    TPM_EK, 54, 2, {0x00, 0x20},             "key derivation" },
    { "not on the curve",      FIX_P256,    TPM_EK, 58, 4, {0x01, 0x02, 0x03, 0x04}, "not on the curve" },
    { "beyond the field",      FIX_P256,    TPM_EK, 58, 4, {0xff, 0xff, 0xff, 0xff}, "not on the curve" },
};
/* clang-format on */

static void refused(void **state)
{
    (void)state;
    struct fix_key made[FIX_KINDS][2];
    for (size_t k = 0; k < FIX_KINDS; k++) {
        fix_key_new(&made[k][TPM_EK], (enum fix_kind)k, TPM_EK);
        fix_key_new(&made[k][TPM_SRK], (enum fix_kind)k, TPM_SRK);
    }
    for (size_t i = 0; i < ARRAY_LEN(patches); i++) {
        const struct patch *t = &patches[i];
        struct tpm_public p = {.bits = 77};
        struct err_info info = {0};
        struct fix_key k = made[t->kind][t->use];
        assert_ok(tpm_public_read(fix_key_public(&k), t->use, &p, NULL));
        p.bits = 77;
        memcpy(k.pub + t->at, t->with, t->n);
        if (tpm_public_read(fix_key_public(&k), t->use, &p, &info) != E_MALFORMED ||
            strstr(info.why, t->why) == NULL) {
            print_error("%s: \"%s\"\n", t->name, info.why);
            fail();
        }
        assert_int_equal(p.bits, 77);
    }
    for (size_t k = 0; k < FIX_KINDS; k++) {
        fix_key_done(&made[k][TPM_EK]);
        fix_key_done(&made[k][TPM_SRK]);
    }
}

/* T8: a modulus of 255 bytes with all sizes right, a byte behind, every cut. */
static void lengths(void **state)
{
    (void)state;
    struct bytes ek = sample(SAMPLE_EK), t = ek;
    struct tpm_public p;
    for (size_t n = 0; n < ek.n; n++) {
        uint8_t *exact = malloc(n != 0 ? n : 1);
        assert_non_null(exact);
        memcpy(exact, ek.b, n);
        assert_err(tpm_public_read(span_of(exact, n), TPM_EK, &p, NULL), E_MALFORMED);
        free(exact);
    }
    t.b[t.n++] = 0;
    assert_err(tpm_public_read(of(&t), TPM_EK, &p, NULL), E_MALFORMED);
    t = ek;
    t.n--;
    t.b[1]--;
    t.b[58] = 0;
    t.b[59] = 255;
    assert_err(tpm_public_read(of(&t), TPM_EK, &p, NULL), E_MALFORMED);
    t = ek;
    t.b[t.n - 1] &= 0xfe; /* an even modulus */
    assert_err(tpm_public_read(of(&t), TPM_EK, &p, NULL), E_MALFORMED);
    t = ek;
    t.b[55] = 0x01; /* the exponent written out */
    t.b[57] = 0x01;
    assert_ok(tpm_public_read(of(&t), TPM_EK, &p, NULL));
    for (size_t more = 32; more <= 33; more++) { /* a policy of 64 bytes, and one over */
        t = ek;
        memmove(t.b + 12 + 32 + more, t.b + 12 + 32, t.n - 12 - 32);
        memset(t.b + 12 + 32, 0, more);
        t.n += more;
        t.b[1] = (uint8_t)(t.b[1] + more);
        t.b[11] = (uint8_t)(32 + more);
        assert_err(tpm_public_read(of(&t), TPM_EK, &p, NULL), more == 32 ? OK : E_MALFORMED);
    }
    uint8_t big[TPM_PUBLIC_MAX + 1] = {(TPM_PUBLIC_MAX - 1) >> 8, (TPM_PUBLIC_MAX - 1) & 0xff};
    assert_err(tpm_public_read(span_of(big, sizeof(big)), TPM_EK, &p, NULL), E_MALFORMED);
}

static void whole(void **state)
{
    (void)state;
    struct bytes ek = sample(SAMPLE_EK);
    uint8_t dst[TPM_PUBLIC_MAX];
    struct span got;
    assert_ok(tpm_public_whole(of(&ek), dst, &got));
    assert_span(got, of(&ek));
    assert_ok(tpm_public_whole(span_of(ek.b + 2, ek.n - 2), dst, &got));
    assert_span(got, of(&ek));
    assert_err(tpm_public_whole(SPAN_LIT("x"), dst, &got), E_MALFORMED);
    assert_err(tpm_public_whole(span_of(ek.b, TPM_PUBLIC_MAX), dst, &got), E_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(vectors), cmocka_unit_test(kinds), cmocka_unit_test(refused),
        cmocka_unit_test(lengths), cmocka_unit_test(whole),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
