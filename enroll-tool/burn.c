/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "certs/chain.h"
#include "certs/keyring.h"
#include "certs/signer.h"
#include "client/env.h"
#include "client/identity.h"
#include "enroll-tool/burn_int.h"
#include "enroll-tool/ledger.h"
#include "enroll-tool/tool.h"
#include "tpm/chip.h"

#define LEAF_DAYS_DEFAULT 3650u
#define DAY_US (INT64_C(86400) * 1000000)

static void job_done(struct job *j)
{
    char **texts[] = {&j->serial, &j->rid, &j->target, &j->id_scope, &j->dps_host};
    struct buf *bufs[] = {&j->ca_pem, &j->key_text, &j->chain_pem};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        free(*texts[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++) {
        if (bufs[i]->p != NULL) {
            mem_wipe(bufs[i]->p, bufs[i]->n);
        }
        buf_done(bufs[i]);
    }
    secret_done(&j->key);
    signer_key_free(j->private_key);
    json_free(j->tpm);
    quota_done(&j->quota);
}

/* --- where the unit will register -------------------------------------------------------------------------- */

static enum err from_env(struct job *j, const char *file, struct err_info *info)
{
    AUTO(json_free_p) struct json *env = NULL;
    enum err e = env_load(file, &env, info);
    if (e != OK) {
        return e;
    }
    j->mqtts_port = env_port(env, "mqttsPort");
    j->https_port = env_port(env, "httpsPort");
    j->id_scope = span_dup(json_str(json_get(env, "idScope")));
    j->dps_host = span_dup(json_str(json_get(env, "dpsHost")));
    AUTO(mem_free_p) char *ca_file = env_ca_file(env, file);
    if (j->id_scope == NULL || j->dps_host == NULL || ca_file == NULL) {
        return E_NOMEM;
    }
    return cli_has(j->a, "server-ca") ? OK : tool_read(ca_file, LIMIT_FILE_SMALL, &j->ca_pem, info);
}

static enum err read_place(struct job *j, struct err_info *info)
{
    const char *env = cli_get(j->a, "env"), *scope = cli_get(j->a, "id-scope"),
               *host = cli_get(j->a, "dps-host");
    const char *ca = cli_get(j->a, "server-ca");
    enum err e = OK;
    if (env != NULL) {
        e = from_env(j, env, info);
    }
    if (e == OK && scope != NULL) {
        free(j->id_scope);
        j->id_scope = span_dup(span_str(scope));
    }
    if (e == OK && host != NULL) {
        free(j->dps_host);
        j->dps_host = span_dup(span_str(host));
    }
    if (e == OK && ca != NULL) {
        e = tool_read(ca, LIMIT_FILE_SMALL, &j->ca_pem, info);
    }
    if (e == OK && (j->id_scope == NULL || j->id_scope[0] == '\0' || j->dps_host == NULL ||
                    j->dps_host[0] == '\0' || j->ca_pem.n == 0)) {
        e = err_set(
            info, E_ARG,
            "say where the unit registers: --env FILE, or --id-scope, --dps-host and --server-ca");
    }
    return e;
}

/* --- credentials ------------------------------------------------------------------------------------------------ */

static enum err make_symmetric(struct job *j, const char *file, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(512);
    AUTO(secret_done) struct secret group = {0};
    uint8_t mac[MAC_SIZE];
    enum err e = tool_read(file, 512, &text, info);
    if (e != OK) {
        return e;
    }
    e = secret_from_base64(
        &group, span_trim(span_sub(buf_span(&text), 0, span_find(buf_span(&text), '\n'))));
    mem_wipe(text.p, text.n);
    if (e != OK || group.n < LIMIT_KEY_MIN) {
        return err_set(info, E_ARG, "'%s' holds no base64 key of %u to %u bytes", file,
                       LIMIT_KEY_MIN, LIMIT_KEY_MAX);
    }
    mac_sha256(secret_span(&group), span_str(j->rid), mac);
    e = secret_set(&j->key, span_of(mac, sizeof(mac)));
    mem_wipe(mac, sizeof(mac));
    base64_add(&j->key_text, secret_span(&j->key));
    buf_add_u8(&j->key_text, '\n');
    j->kind = ATTEST_SYMMETRIC_KEY;
    return e != OK ? e : buf_err(&j->key_text);
}

static enum err read_tpm(struct job *j, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    enum err e = chip_tell(cli_get(j->a, "tcti"), &text, info);
    return e != OK ? e : json_read_object(buf_span(&text), LIMIT_FILE_SMALL, &j->tpm, info);
}

static enum err load_ca(const char *dir, struct signer_key **ret_key, struct cert **ret_cert,
                        struct err_info *info)
{
    AUTO(mem_free_p) char *key_path = fs_join(dir, "intermediate.key");
    AUTO(mem_free_p) char *cert_path = fs_join(dir, "intermediate.pem");
    AUTO(buf_done) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    if (key_path == NULL || cert_path == NULL) {
        return E_NOMEM;
    }
    enum err e = tool_read(cert_path, LIMIT_FILE_SMALL, &pem, info);
    if (e != OK || (e = cert_from_text(buf_span(&pem), ret_cert, info)) != OK ||
        (e = signer_key_load(key_path, ret_key, info)) != OK) {
        return e;
    }
    return signer_key_fits(*ret_key, *ret_cert)
               ? OK
               : err_set(info, E_CERT, "key and certificate in '%s' do not belong together", dir);
}

/* A station that is bound issues from a CA that was cut out for it: no further CAs, no units of others. */
static enum err check_ca(const struct job *j, const struct cert *ca, struct span only,
                         struct err_info *info)
{
    if (j->bound_as == NULL) {
        return OK;
    }
    if (!signer_ca_is_last(ca)) {
        return err_set(info, E_CERT,
                       "the CA may make further CAs (no pathlen 0): not at a station");
    }
    if (!span_is(only, j->bound_as)) {
        return err_set(info, E_CERT,
                       "the CA is not confined to station '%s' (see enroll-tool ca delegate)",
                       j->bound_as);
    }
    return OK;
}

/* As the DPS will judge it: dates, pathlen, name constraints, purpose, strength. */
static enum err check_leaf(struct cert *ca, const struct cert *leaf, int64_t now_us,
                           struct err_info *info)
{
    AUTO(chain_anchors_free_p) struct chain_anchors *anchors = NULL;
    struct cert_peer peer = {.leaf_der = cert_der(leaf)};
    struct chain_path path;
    memcpy(peer.leaf_sha256, cert_sha256(leaf), CERT_SHA256);
    enum err e = chain_anchors_new(&ca, 1, NULL, 0, &anchors);
    if (e != OK) {
        return e;
    }
    return chain_verify(anchors, &peer, now_us, &path, info) == CHAIN_OK ? OK : E_CHAIN;
}

static enum err make_x509(struct job *j, const char *dir, struct err_info *info)
{
    AUTO(signer_key_free_p) struct signer_key *ca_key = NULL, *key = NULL;
    AUTO(cert_free_p) struct cert *ca = NULL, *leaf = NULL;
    AUTO(csr_free_p) struct csr *csr = NULL;
    AUTO(buf_done) struct buf der = BUF_INIT(LIMIT_CERT_DER);
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    uint64_t days = LEAF_DAYS_DEFAULT;
    int64_t now = clock_wall_us(clock_system());
    if (!cli_number(j->a, "days", 1, 36500, &days)) {
        return err_set(info, E_ARG, "--days wants 1 to 36500");
    }
    if (span_str(j->rid).n > LIMIT_X509_RID) {
        return err_set(info, E_ARG, "a registration id in a certificate has at most %u characters",
                       LIMIT_X509_RID);
    }
    AUTO(buf_done) struct buf only = BUF_INIT(LIMIT_CERT_DER);
    enum err e = load_ca(dir, &ca_key, &ca, info);
    if (e == OK) {
        signer_ca_only(ca, &only);
        e = check_ca(j, ca, buf_span(&only), info);
    }
    if (e != OK || (e = signer_key_generate(KEY_P256, &key)) != OK ||
        (e = signer_make_csr(key, span_str(j->rid), &der, info)) != OK) {
        return e;
    }
    base64_add(&text, buf_span(&der));
    const struct cert_request rq = {
        .profile = PROFILE_DEVICE,
        .cn = span_str(j->rid),
        .organization = buf_span(&only),
        .not_before_us = now - DAY_US,
        .not_after_us = MIN(now + (int64_t)days * DAY_US, cert_not_after_us(ca)),
    };
    if ((e = csr_from_text(buf_span(&text), &csr, info)) != OK ||
        (e = signer_issue_now(ca_key, ca, csr, NULL, &rq, &leaf, info)) != OK ||
        (e = check_leaf(ca, leaf, now, info)) != OK) {
        return e;
    }
    cert_add_pem(leaf, &j->chain_pem);
    cert_add_pem(ca, &j->chain_pem);
    j->kind = ATTEST_X509;
    j->private_key = TAKE(key);
    return buf_err(&j->chain_pem);
}

/* --- the command ---------------------------------------------------------------------------------------------------- */

static enum err read_names(struct job *j, struct err_info *info)
{
    const char *serial = cli_get(j->a, "serial"), *rid = cli_get(j->a, "registration-id"),
               *target = cli_get(j->a, "identity");
    if (serial == NULL || target == NULL || serial[0] == '\0' || target[0] == '\0') {
        return err_set(info, E_ARG, "burn wants --serial S and --identity DIR");
    }
    if (cli_has(j->a, "tpm")) {
        enum err e = read_tpm(j, info);
        if (e != OK) {
            return e;
        }
        j->kind = ATTEST_TPM;
    }
    /* A TPM names itself; groups for TPMs want that name. */
    struct span own = json_str(json_get(j->tpm, "registrationId"));
    j->serial = span_dup(span_str(serial));
    j->rid = span_dup(rid != NULL ? span_str(rid) : own.n != 0 ? own : span_str(serial));
    j->target = span_dup(span_str(target));
    if (j->serial == NULL || j->rid == NULL || j->target == NULL) {
        return E_NOMEM;
    }
    text_lower(j->rid, span_str(j->rid).n);
    if (!id_registration_ok(span_str(j->rid))) {
        return err_set(
            info, E_ARG,
            "'%s' is no registration id (letters, digits, - . _ :); say --registration-id", j->rid);
    }
    return OK;
}

/* What the ledger says of this serial: E_EXISTS refuses. */
static enum err may_burn(const struct job *j, const struct ledger *l, bool *ret_reserved,
                         struct err_info *info)
{
    const char *target = "";
    enum ledger_state st = ledger_find(l, j->serial, &target);
    const char *other = ledger_find_registration(l, j->rid);
    if (st == LEDGER_DONE) {
        return err_set(info, E_EXISTS,
                       "serial '%s' was burned before, into '%s'; a serial is used once", j->serial,
                       target);
    }
    if (st == LEDGER_RESERVED && !span_is(span_str(target), j->target)) {
        return err_set(info, E_EXISTS,
                       "a burn of serial '%s' into '%s' was interrupted; finish that one first",
                       j->serial, target);
    }
    if (other != NULL && !span_is(span_str(other), j->serial)) {
        return err_set(info, E_EXISTS, "registration id '%s' belongs to serial '%s'", j->rid,
                       other);
    }
    if (st == LEDGER_RESERVED && other == NULL) {
        return err_set(info, E_EXISTS,
                       "the interrupted burn of serial '%s' has another registration id; finish "
                       "that one first",
                       j->serial);
    }
    if (st == LEDGER_UNKNOWN && fs_exists(j->target)) {
        return err_set(info, E_EXISTS, "'%s' exists already; an identity is never burned over",
                       j->target);
    }
    *ret_reserved = st == LEDGER_RESERVED;
    return OK;
}

/* The quota under which a bound station makes its next unit. A clock that stands behind the ledger does not make it young again. */
static enum err read_quota(struct job *j, const struct ledger *l, const char *station,
                           bool is_reserved, struct err_info *info)
{
    const char *office, *given = cli_get(j->a, "quota");
    if (!ledger_bound(l, &j->bound_as, &office)) {
        return given == NULL
                   ? OK
                   : err_set(info, E_ARG,
                             "the station is bound to no office (see enroll-tool station bind)");
    }
    AUTO(cert_free_p) struct cert *cert = NULL;
    enum err e = tool_office(station, office, &cert, info);
    if (e == OK) {
        e = tool_quota(station, given, cert, &j->quota, info);
    }
    if (e != OK || is_reserved) { /* that one is counted */
        return e;
    }
    return quota_may_burn(&j->quota, j->bound_as, ledger_quota_used(l, j->quota.id),
                          MAX(clock_wall_us(clock_system()), ledger_last_us(l)), info);
}

static enum err reserve(const struct job *j, struct ledger *l, const char *kind,
                        struct err_info *info)
{
    return j->bound_as != NULL
               ? ledger_reserve(l, j->serial, j->rid, j->target, kind, j->quota.id, info)
               : ledger_add(l, j->serial, j->rid, LEDGER_RESERVED, j->target, kind, info);
}

static enum err burn(struct job *j, struct ledger *l, const char *station, struct err_info *info)
{
    static const char *const kinds[] = {
        [ATTEST_SYMMETRIC_KEY] = "symmetricKey", [ATTEST_X509] = "x509", [ATTEST_TPM] = "tpm"};
    const char *group = cli_get(j->a, "group-key-file"), *ca = cli_get(j->a, "ca-dir");
    bool reserved = false;
    enum err e = may_burn(j, l, &reserved, info);
    if (e != OK) {
        return e;
    }
    if ((group != NULL) + (ca != NULL) + (j->tpm != NULL) != 1) {
        return err_set(info, E_ARG, "say one of --group-key-file FILE, --ca-dir DIR and --tpm");
    }
    const char *kind = kinds[group != NULL ? ATTEST_SYMMETRIC_KEY
                             : ca != NULL  ? ATTEST_X509
                                           : ATTEST_TPM];
    if (reserved && fs_exists(j->target)) {
        /* The rename had happened and only the last line of the ledger is missing. */
        struct identity id;
        if ((e = identity_load(j->target, &id, info)) == OK) {
            bool is_same = span_is(span_str(id.serial), j->serial) &&
                           span_is(span_str(id.registration_id), j->rid);
            identity_done(&id);
            if (!is_same) {
                return err_set(info, E_EXISTS, "'%s' holds the identity of another unit",
                               j->target);
            }
            identity_sweep(j->target);
            return ledger_add(l, j->serial, j->rid, LEDGER_DONE, j->target, kind, info);
        }
        return e;
    }
    if ((e = read_quota(j, l, station, reserved, info)) != OK || (e = read_place(j, info)) != OK) {
        return e;
    }
    if (j->tpm == NULL &&
        (e = group != NULL ? make_symmetric(j, group, info) : make_x509(j, ca, info)) != OK) {
        return e;
    }
    if (!reserved && (e = reserve(j, l, kind, info)) != OK) {
        return e;
    }
    if (cli_has(j->a, "individual") && (e = burn_enroll_individual(j, reserved, info)) != OK) {
        return e;
    }
    const struct burn b = {
        .serial = j->serial,
        .registration_id = j->rid,
        .id_scope = j->id_scope,
        .dps_host = j->dps_host,
        .kind = j->kind,
        .mqtts_port = j->mqtts_port,
        .https_port = j->https_port,
        .key_base64 = buf_span(&j->key_text),
        .private_key = j->private_key,
        .cert_chain_pem = buf_span(&j->chain_pem),
        .ca_pem = buf_span(&j->ca_pem),
    };
    e = identity_burn(j->target, &b, info);
    return e != OK ? e : ledger_add(l, j->serial, j->rid, LEDGER_DONE, j->target, kind, info);
}

static int run_burn(struct cli_args *a)
{
    struct job j = {.a = a,
                    .ca_pem = BUF_INIT(LIMIT_FILE_SMALL),
                    .key_text = BUF_INIT(512),
                    .chain_pem = BUF_INIT(LIMIT_FILE_SMALL)};
    AUTO(ledger_close_p) struct ledger *l = NULL;
    AUTO(mem_free_p) char *station = tool_station(a);
    struct err_info info = {0};
    enum err e = station == NULL ? E_NOMEM : read_names(&j, &info);
    if (e == OK && (e = ledger_open(station, &l, &info)) == OK) {
        e = burn(&j, l, station, &info);
    }
    int status = EXIT_DONE;
    if (e != OK) {
        (void)cli_fail(e, &info);
        status = tool_status(e);
    } else if (a->is_json) {
        AUTO(buf_done) struct buf b = BUF_INIT(8192);
        buf_add_str(&b, "{\"serial\":");
        json_write_str(&b, span_str(j.serial));
        buf_add_str(&b, ",\"registrationId\":");
        json_write_str(&b, span_str(j.rid));
        buf_add_str(&b, ",\"identity\":");
        json_write_str(&b, span_str(j.target));
        printf("%.*s}\n", SPAN_ARG(buf_span(&b)));
    } else {
        printf("burned %s into %s (registration id %s)\n", j.serial, j.target, j.rid);
    }
    job_done(&j);
    return status;
}

/* clang-format off */
static const struct cli_option burn_options[] = {
    { "serial", "S", "Serial number of the unit; used once in the life of this station." },
    { "identity", "DIR", "Where the identity goes; must not exist." },
    { "registration-id", "ID", "Default: the serial in lower case; with --tpm the id that its key gives." },
    { "env", "FILE", "Where the unit registers: env.json of a sandbox." },
    { "id-scope", "SCOPE", "Id scope of the DPS, when there is no --env." },
    { "dps-host", "HOST", "Host of the DPS, when there is no --env." },
    { "server-ca", "FILE", "CA certificate that the servers' certificates come from, PEM." },
    { "group-key-file", "FILE", "Derive the unit's key from this group key (base64 in a file)." },
    { "ca-dir", "DIR", "Issue the unit's certificate from intermediate.pem and intermediate.key here." },
    { "tpm", NULL, "The unit's keys are in its TPM, which this command can reach." },
    { "tcti", "TCTI", "How: as device:/dev/tpmrm0; else the system's TPM." },
    { "days", "N", "Validity of the certificate (3650, never beyond the CA's)." },
    { "individual", NULL, "Also create an individual enrollment at the DPS of --env." },
    { "quota", "FILE", "Quota of a station that is bound (quota.json of the station)." },
    { "station", "DIR", "Folder of this station's ledger." },
    { "json", NULL, "Machine-readable output." },
};
/* clang-format on */
const struct cli_command tool_burn = {
    "burn",
    "--serial S --identity DIR (--group-key-file FILE | --ca-dir DIR | --tpm) --env FILE",
    "Make a unit's identity and write it, once.",
    burn_options,
    ARRAY_LEN(burn_options),
    0,
    0,
    run_burn};
