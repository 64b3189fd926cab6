/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/proof.h"

#include "base/clock.h"
#include "base/secret.h"
#include "base/text.h"

#define CODE_LEN (PROOF_CODE_SIZE - 1)

void proof_code_new(char dst[PROOF_CODE_SIZE])
{
    uint8_t raw[CODE_LEN / 2];
    random_bytes(raw, sizeof(raw));
    hex_to_cstr(span_of(raw, sizeof(raw)), true, dst);
    mem_wipe(raw, sizeof(raw));
}

enum err proof_check_upload(const struct cert *ca, int64_t now_us, struct err_info *info)
{
    enum err e = cert_check_strength(ca, info);
    if (e != OK) {
        return e;
    }
    if (!cert_is_ca(ca)) {
        return err_set(info, E_CERT, "not a CA certificate (basicConstraints, keyUsage)");
    }
    if (now_us >= cert_not_after_us(ca)) {
        return err_set(info, E_CERT, "the certificate has expired");
    }
    return OK;
}

enum err proof_code_is_live(struct span code, int64_t until_us, uint64_t failures, int64_t now_us,
                            struct err_info *info)
{
    if (code.n != CODE_LEN) {
        return err_set(info, E_STATE, "no verification code was generated");
    }
    if (now_us >= until_us) {
        return err_set(info, E_STATE, "the verification code has expired; generate another");
    }
    if (failures >= PROOF_TRIES) {
        return err_set(info, E_STATE, "the verification code failed %u times; generate another",
                       PROOF_TRIES);
    }
    return OK;
}

enum err proof_verify(const struct cert *ca, const struct cert *proof, struct span code,
                      int64_t now_us, struct err_info *info)
{
    struct span cn;
    enum err e;
    ASSERT(code.n == CODE_LEN); /* proof_code_is_live came first */
    if ((e = cert_check_strength(proof, info)) != OK || (e = cert_cn(proof, &cn, info)) != OK) {
        return e;
    }
    if (!mem_equal_ct(cn, code)) {
        return err_set(info, E_CERT, "the proof's CN is not the verification code");
    }
    if (!cert_issued_by(proof, ca)) {
        return err_set(info, E_CERT, "the proof is not issued by this certificate and its key");
    }
    if (now_us < cert_not_before_us(proof) || now_us >= cert_not_after_us(proof)) {
        return err_set(info, E_CERT, "the proof is outside its dates");
    }
    return OK;
}
