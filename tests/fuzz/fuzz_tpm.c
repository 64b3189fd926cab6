/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public area of a TPM's key as anybody may send it, and the key blob as a device reads it. What our reader takes the marshalling
 * library takes too and writes again the same; the reverse need not hold, ours is stricter.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <tss2/tss2_mu.h>

#include "tpm/blob.h"
#include "tpm/prim.h"

static void compare(struct span s)
{
    TPM2B_PUBLIC p = {.size = 0};
    uint8_t again[TPM_PUBLIC_MAX];
    size_t at = 0, n = 0;
    ASSERT(Tss2_MU_TPM2B_PUBLIC_Unmarshal(s.p, s.n, &at, &p) == TSS2_RC_SUCCESS && at == s.n);
    ASSERT(Tss2_MU_TPM2B_PUBLIC_Marshal(&p, again, sizeof(again), &n) == TSS2_RC_SUCCESS);
    ASSERT(span_eq(span_of(again, n), s));
}

static void use_key(struct span s, enum tpm_use use)
{
    struct tpm_public p;
    struct tpm_name name;
    struct err_info info = {.err = OK};
    enum err e = tpm_public_read(s, use, &p, &info);
    if (e != OK) {
        ASSERT(e == E_MALFORMED && info.why[0] != '\0');
        return;
    }
    compare(s);
    fuzz_touch(p.area);
    fuzz_touch(p.type == TPM_RSA ? p.modulus : p.x);
    fuzz_touch(p.y);
    ASSERT(tpm_public_name(&p, &name) == OK && name.n <= TPM_NAME_MAX);
    /* Whatever modulus it is, a blob can be made. */
    AUTO(buf_done) struct buf b = BUF_INIT(TPM_BLOB_MAX);
    struct tpm_blob parts;
    ASSERT(tpm_blob_make(&p, &p, SPAN_LIT("0123456789abcdef"), &b) == OK);
    ASSERT(tpm_blob_read(buf_span(&b), &parts) == OK);
}

static void use_blob(struct span s)
{
    struct tpm_blob t;
    if (tpm_blob_read(s, &t) == OK) {
        const struct span all[] = {t.credential, t.credential_secret, t.duplicate, t.seed, t.area,
                                   t.uri};
        size_t n = 0;
        for (size_t i = 0; i < ARRAY_LEN(all); i++) {
            fuzz_touch(all[i]);
            n += all[i].n;
        }
        ASSERT(n == s.n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span s = span_of(data, n), whole;
    uint8_t dst[TPM_PUBLIC_MAX];
    use_key(s, TPM_EK);
    use_key(s, TPM_SRK);
    if (tpm_public_whole(s, dst, &whole) == OK) {
        use_key(whole, TPM_EK);
    }
    use_blob(s);
    return 0;
}
