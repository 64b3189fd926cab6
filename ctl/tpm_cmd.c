/* SPDX-License-Identifier: Apache-2.0 */
/* The attestation of TPMs in enrollments. */
#include "base/limits.h"
#include "ctl/ctl.h"

static enum err add_ca(const struct cli_args *a, struct json *tpm)
{
    const char *ca = cli_get(a, "tpm-ca");
    if (ca == NULL) {
        return OK;
    }
    struct json *refs = json_new_object();
    enum err e = json_set(tpm, "caReferences", refs);
    return e != OK ? e : json_set_str(refs, "primary", span_str(ca));
}

/* The key of the command line, or of the file that berth-agent --tpm-info wrote on the device. */
static enum err add_key(const struct cli_args *a, struct json *tpm, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(json_free_p) struct json *j = NULL;
    const char *key = cli_get(a, "endorsement-key"), *file = cli_get(a, "tpm-info");
    struct span ek = span_str(key);
    enum err e = OK;
    if (key != NULL && file != NULL) {
        return err_set(info, E_ARG, "say one of --endorsement-key BASE64 and --tpm-info FILE");
    }
    if (file != NULL &&
        ((e = ctl_read_file(file, &text, info)) != OK ||
         (e = json_read_object(buf_span(&text), LIMIT_FILE_SMALL, &j, info)) != OK ||
         (e = json_get_str(j, "endorsementKey", JSON_F_NEED, &ek, info)) != OK)) {
        return e;
    }
    return ek.n != 0 ? json_set_str(tpm, "endorsementKey", ek) : OK;
}

enum err ctl_tpm_attestation(const struct cli_args *a, struct json *att, struct err_info *info)
{
    struct json *tpm = json_new_object();
    enum err e = json_set_str(att, "type", SPAN_LIT("tpm"));
    if (e != OK) {
        json_free(tpm);
        return e;
    }
    if ((e = json_set(att, "tpm", tpm)) != OK || (e = add_key(a, tpm, info)) != OK) {
        return e;
    }
    return add_ca(a, tpm);
}
