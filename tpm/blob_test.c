/* SPDX-License-Identifier: Apache-2.0 */
/* docs/protocol/dps-tpm.md 4, 9.1: dps-tpm:T17. tests/integration/34-tpm.sh opens blobs with a TPM. */
#include "tests/unit.h"

#include "base/text.h"
#include "tpm/blob_int.h"
#include "tpm/fixture.h"

static void count_up(uint8_t *p, size_t n, uint8_t from)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(from + i);
    }
}

static void assert_hex(struct span got, const char *want)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1024);
    hex_add(&b, got, false);
    assert_span(buf_span(&b), span_str(want));
}

static void vectors(void **state)
{
    (void)state;
    uint8_t key[32], dseed[32], cseed[32], area[IDKEY_AREA];
    struct blob_draw d;
    struct tpm_name idkey, srk = {.b = {0x00, 0x0b}, .n = 34};
    AUTO(buf_done) struct buf dup = BUF_INIT(512), cred = BUF_INIT(512);
    count_up(key, 32, 0x00);
    count_up(d.obf, 32, 0x20);
    count_up(d.inner, 16, 0x40);
    count_up(dseed, 32, 0x50);
    count_up(cseed, 32, 0x70);
    count_up(srk.b + 2, 32, 0xa0);
    assert_ok(blob_idkey(span_of(key, 32), &d, area, &idkey));
    assert_hex(
        span_of(area, sizeof(area)),
        "0008000b0004044000000005000b002084e4bd6ca2af96412fdc62fe44d4e9709cdc31933081a62486a48a15"
        "4b582d53");
    assert_hex(span_of(idkey.b, idkey.n),
               "000ba9f82dc99a7c3db4d2a9417b313abf02f5c164c3aa7aebe485ccc8e9e788942a");
    assert_ok(
        blob_duplicate(tpm_suite_plain(), span_of(dseed, 32), span_of(key, 32), &d, &idkey, &dup));
    assert_int_equal(dup.n, 144);
    assert_hex(
        buf_span(&dup),
        "008e0020"
        "8dff89ef1ac75754d89fb34bec48efd845978c98177d914dd73808e970edf7cf"
        "a64fc8eb55dc3a6c9134bd75b9bc1dabe60263cef22b1583bffa60b8bf0c9391ec4416331192f289d3b81f72"
        "3657e361246adf6c3ff69b2e2663443116e490e9f54c31a8c5f74778bf1ccfdb3a43113bede969dc0172d7a4"
        "62f85394f9f1baa410d0511143feec0b610de687");
    assert_ok(blob_credential(tpm_suite_plain(), span_of(cseed, 32), &d, &srk, &cred));
    assert_int_equal(cred.n, 54);
    assert_hex(buf_span(&cred), "00340020"
                                "84f729c1c5e3594a7f8243ef6998d1b054629a0e32669878c88e787cac518d77"
                                "1eaeb696cd125f81bfb08e2c60ac73b3ba07");
}

static struct tpm_public read_key(const struct fix_key *k, enum tpm_use use)
{
    struct tpm_public p;
    assert_ok(tpm_public_read(fix_key_public(k), use, &p, NULL));
    return p;
}

/* Every kind of EK with every kind of SRK; lengths of section 4 for the usual pair. */
static void round_trip(void **state)
{
    (void)state;
    struct fix_key ek[FIX_KINDS], srk[FIX_KINDS];
    for (size_t i = 0; i < FIX_KINDS; i++) {
        fix_key_new(&ek[i], (enum fix_kind)i, TPM_EK);
        fix_key_new(&srk[i], (enum fix_kind)i, TPM_SRK);
    }
    for (size_t i = 0; i < FIX_KINDS * FIX_KINDS; i++) {
        const struct fix_key *e = &ek[i / FIX_KINDS], *s = &srk[i % FIX_KINDS];
        struct tpm_public ep = read_key(e, TPM_EK), sp = read_key(s, TPM_SRK);
        struct tpm_blob parts;
        struct secret key = {.n = 0}, got = {.n = 0};
        AUTO(buf_done) struct buf b = BUF_INIT(TPM_BLOB_MAX);
        assert_ok(secret_random(&key, TPM_KEY_SIZE));
        assert_ok(tpm_blob_make(&ep, &sp, secret_span(&key), &b));
        assert_true(fix_open(e, s, buf_span(&b), &got));
        assert_span(secret_span(&got), secret_span(&key));
        assert_ok(tpm_blob_read(buf_span(&b), &parts));
        assert_int_equal(parts.area.n, 50);
        if (i == 0) {
            assert_int_equal(b.n, 766);
            assert_int_equal(parts.credential.n, 54);
            assert_int_equal(parts.credential_secret.n, 258);
            assert_int_equal(parts.duplicate.n, 144);
            assert_int_equal(parts.seed.n, 258);
        }
        /* T10: for the storage root key of another TPM it does not open; nor does it with a changed byte */
        if (i < FIX_KINDS) {
            struct fix_key other;
            fix_key_new(&other, FIX_P256, TPM_SRK);
            assert_false(fix_open(e, &other, buf_span(&b), &got));
            assert_string_equal(fix_why, "credential");
            fix_key_done(&other);
        }
        b.p[10] ^= 1;
        assert_false(fix_open(e, s, buf_span(&b), &got));
    }
    for (size_t i = 0; i < FIX_KINDS; i++) {
        fix_key_done(&ek[i]);
        fix_key_done(&srk[i]);
    }
}

static void keys(void **state)
{
    (void)state;
    static const size_t good[] = {1, 16, 64}, bad[] = {0, 65};
    struct fix_key ek, srk;
    uint8_t key[65];
    fix_key_new(&ek, FIX_P256, TPM_EK);
    fix_key_new(&srk, FIX_P256, TPM_SRK);
    struct tpm_public ep = read_key(&ek, TPM_EK), sp = read_key(&srk, TPM_SRK);
    count_up(key, sizeof(key), 1);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        AUTO(buf_done) struct buf b = BUF_INIT(TPM_BLOB_MAX);
        struct secret got;
        assert_ok(tpm_blob_make(&ep, &sp, span_of(key, good[i]), &b));
        assert_true(fix_open(&ek, &srk, buf_span(&b), &got));
        assert_span(secret_span(&got), span_of(key, good[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO(buf_done) struct buf b = BUF_INIT(TPM_BLOB_MAX);
        assert_err(tpm_blob_make(&ep, &sp, span_of(key, bad[i]), &b), E_ARG);
        assert_int_equal(b.n, 0);
    }
    fix_key_done(&ek);
    fix_key_done(&srk);
}

static void cuts(void **state)
{
    (void)state;
    struct fix_key ek, srk;
    AUTO(buf_done) struct buf b = BUF_INIT(TPM_BLOB_MAX);
    struct tpm_blob parts = {.uri = SPAN_LIT("untouched")};
    fix_key_new(&ek, FIX_P384, TPM_EK);
    fix_key_new(&srk, FIX_P256, TPM_SRK);
    struct tpm_public ep = read_key(&ek, TPM_EK), sp = read_key(&srk, TPM_SRK);
    assert_ok(tpm_blob_make(&ep, &sp, SPAN_LIT("0123456789abcdef"), &b));
    for (size_t n = 0; n < b.n; n++) {
        assert_err(tpm_blob_read(span_of(b.p, n), &parts), E_TRUNCATED);
    }
    buf_add_u8(&b, 0);
    assert_err(tpm_blob_read(buf_span(&b), &parts), E_MALFORMED);
    assert_span(parts.uri, SPAN_LIT("untouched"));
    fix_key_done(&ek);
    fix_key_done(&srk);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(keys),
        cmocka_unit_test(cuts),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
