/* SPDX-License-Identifier: Apache-2.0 */
#include "client/credential.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "tests/unit.h"

static char dir[] = "/tmp/berth-credential-XXXXXX";
static struct signer_key *ca_key;
static struct cert *ca;

static int setup(void **state)
{
    (void)state;
    int64_t now = clock_wall_us(clock_system());
    const struct cert_request rq = {.profile = PROFILE_ROOT_CA,
                                    .cn = SPAN_LIT("Root"),
                                    .not_before_us = now - 60000000,
                                    .not_after_us = now + 86400000000LL};
    assert_non_null(mkdtemp(dir));
    assert_ok(signer_key_generate(KEY_P256, &ca_key));
    assert_ok(signer_issue_now(ca_key, NULL, NULL, NULL, &rq, &ca, NULL));
    return 0;
}

static void remove_one(const char *name)
{
    AUTO(mem_free_p) char *path = fs_join(dir, name);
    if (unlink(path) != 0) {
        (void)rmdir(path);
    }
}

static int teardown(void **state)
{
    static const char *const all[] = {
        "a/device.key", "a/device.pem", "b/device.key", "b/device.pem", "a", "b",
        "current",      ".current-new"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        remove_one(all[i]);
    }
    assert_int_equal(rmdir(dir), 0);
    cert_free(ca);
    signer_key_free(ca_key);
    return 0;
}

static void issue(struct span csr_der, struct buf *pem)
{
    AUTO(csr_free_p) struct csr *csr = NULL;
    AUTO(cert_free_p) struct cert *leaf = NULL;
    int64_t now = clock_wall_us(clock_system());
    const struct cert_request rq = {.profile = PROFILE_DEVICE,
                                    .cn = SPAN_LIT("unit-1"),
                                    .not_before_us = now - 60000000,
                                    .not_after_us = now + 3600000000LL};
    assert_ok(csr_from_der(csr_der, &csr, NULL));
    assert_ok(signer_issue_now(ca_key, ca, csr, NULL, &rq, &leaf, NULL));
    buf_reset(pem);
    cert_add_pem(leaf, pem);
    cert_add_pem(ca, pem);
}

/* Begun, stored, kept, begun again: what is current never changes before keep. */
static void test_life(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf csr = BUF_INIT(LIMIT_CERT_DER);
    AUTO(buf_done) struct buf pem = BUF_INIT(65536);
    struct credential c = {.slot = 0}, next = {.slot = 0}, now = {.slot = 0};
    struct stat st;
    assert_err(credential_load(dir, &c, NULL), E_NOT_FOUND);
    assert_ok(credential_begin(dir, "unit-1", &csr, NULL));
    assert_err(credential_load(dir, &c, NULL), E_NOT_FOUND);
    issue(buf_span(&csr), &pem);
    assert_ok(credential_store(dir, buf_span(&pem), &c, NULL));
    assert_int_equal(stat(c.key_file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_err(credential_load(dir, &now, NULL), E_NOT_FOUND);
    assert_ok(credential_keep(dir, &c, NULL));
    assert_ok(credential_load(dir, &now, NULL));
    assert_int_equal(now.slot, c.slot);
    assert_true(now.not_after_us > clock_wall_us(clock_system()));
    credential_done(&now);
    for (unsigned i = 0; i < 2; i++) { /* given up, and again */
        buf_reset(&csr);
        assert_ok(credential_begin(dir, "unit-1", &csr, NULL));
        assert_ok(credential_load(dir, &now, NULL));
        assert_int_equal(now.slot, c.slot);
        credential_done(&now);
    }
    assert_err(credential_store(dir, buf_span(&pem), &next, NULL), E_CERT); /* the former's */
    issue(buf_span(&csr), &pem);
    assert_ok(credential_store(dir, buf_span(&pem), &next, NULL));
    assert_true(next.slot != c.slot);
    assert_ok(credential_keep(dir, &next, NULL));
    assert_ok(credential_load(dir, &now, NULL));
    assert_int_equal(now.slot, next.slot);
    credential_done(&now);
    credential_done(&next);
    credential_done(&c);
}

/* What is damaged is said so, and does not stand in the way of another. */
static void test_damaged(void **state)
{
    (void)state;
    AUTO(mem_free_p) char *link = fs_join(dir, "current");
    AUTO(buf_done) struct buf csr = BUF_INIT(LIMIT_CERT_DER);
    AUTO(buf_done) struct buf pem = BUF_INIT(65536);
    struct credential c = {.slot = 0}, now = {.slot = 0};
    assert_ok(credential_load(dir, &c, NULL));
    assert_int_equal(chmod(c.key_file, 0644), 0);
    assert_err(credential_load(dir, &now, NULL), E_PERM);
    assert_int_equal(chmod(c.key_file, 0600), 0);
    assert_ok(fs_write_atomic(c.cert_chain_file, SPAN_LIT("x"), 0600, NULL));
    assert_err(credential_load(dir, &now, NULL), E_CORRUPT);
    assert_int_equal(unlink(c.cert_chain_file), 0);
    assert_err(credential_load(dir, &now, NULL), E_CORRUPT);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(symlink("../etc", link), 0);
    assert_err(credential_load(dir, &now, NULL), E_CORRUPT);
    assert_ok(credential_begin(dir, "unit-1", &csr, NULL));
    issue(buf_span(&csr), &pem);
    credential_done(&c);
    assert_ok(credential_store(dir, buf_span(&pem), &c, NULL));
    assert_ok(credential_keep(dir, &c, NULL));
    assert_ok(credential_load(dir, &now, NULL));
    credential_done(&now);
    credential_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_life), cmocka_unit_test(test_damaged)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
