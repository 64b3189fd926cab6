/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"
#include "tpm/chip.h"

static void add(struct buf *b, const char *name, struct span bytes)
{
    buf_addf(b, ",\"%s\":\"", name);
    base64_add(b, bytes);
    buf_add_u8(b, '"');
}

enum err chip_tell(const char *tcti, struct buf *b, struct err_info *info)
{
    AUTO(chip_free_p) struct chip *c = NULL;
    AUTO(buf_done) struct buf ek = BUF_INIT(TPM_PUBLIC_MAX), srk = BUF_INIT(TPM_PUBLIC_MAX);
    AUTO(buf_done) struct buf cert = BUF_INIT(CHIP_CERT_MAX);
    char rid[TPM_RID_SIZE];
    enum err e;
    if ((e = chip_new(tcti, &c, info)) != OK || (e = chip_keys(c, &ek, &srk, info)) != OK ||
        (e = tpm_registration_id(buf_span(&ek), rid)) != OK) {
        return e;
    }
    buf_addf(b, "{\"registrationId\":\"%s\"", rid);
    add(b, "endorsementKey", buf_span(&ek));
    add(b, "storageRootKey", buf_span(&srk));
    if ((e = chip_ek_cert(c, &cert, info)) == OK) {
        add(b, "endorsementCertificate", buf_span(&cert));
    } else if (e != E_NOT_FOUND) {
        return e;
    }
    buf_add_u8(b, '}');
    return buf_err(b);
}
