/* SPDX-License-Identifier: Apache-2.0 */
/* enroll-tool station bind, quota sign, quota show: what a station may make is the office's word (quota.h, ledger.h). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/limits.h"
#include "base/text.h"
#include "enroll-tool/ledger.h"
#include "enroll-tool/quota.h"
#include "enroll-tool/tool.h"

#define DAY_US (INT64_C(86400) * 1000000)
#define HASH_TEXT (2 * CERT_SHA256 + 1)

static void hash_of(const struct cert *c, char dst[HASH_TEXT])
{
    hex_to_cstr(span_of(cert_sha256(c), CERT_SHA256), false, dst);
}

static enum err read_cert(const char *path, struct cert **ret, struct err_info *info)
{
    AUTO(buf_done) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    enum err e = tool_read(path, LIMIT_FILE_SMALL, &pem, info);
    return e != OK ? e : cert_from_text(buf_span(&pem), ret, info);
}

enum err tool_office(const char *station, const char *sha256, struct cert **ret,
                     struct err_info *info)
{
    AUTO(mem_free_p) char *path = fs_join(station, "office.pem");
    AUTO(cert_free_p) struct cert *c = NULL;
    char hash[HASH_TEXT];
    enum err e = path == NULL ? E_NOMEM : read_cert(path, &c, info);
    if (e != OK) {
        return e;
    }
    hash_of(c, hash);
    if (!span_is(span_str(sha256), hash)) {
        return err_set(info, E_SIGNATURE, "'%s' is not of the office that the station is bound to",
                       path);
    }
    *ret = TAKE(c);
    return OK;
}

enum err tool_quota(const char *station, const char *file, const struct cert *office,
                    struct quota *ret, struct err_info *info)
{
    AUTO(mem_free_p) char *own = fs_join(station, "quota.json");
    AUTO(buf_done) struct buf text = BUF_INIT(QUOTA_LINE);
    if (own == NULL) {
        return E_NOMEM;
    }
    if (file == NULL && !fs_exists(own)) {
        return err_set(info, E_QUOTA,
                       "this station needs a quota of its office: --quota FILE, or '%s'", own);
    }
    enum err e = tool_read(file != NULL ? file : own, QUOTA_LINE, &text, info);
    return e != OK ? e : quota_read(buf_span(&text), office, ret, info);
}

/* --- station bind ------------------------------------------------------------------------------------------------ */

/* The certificate first: a line without it would bind the station to nobody. */
static enum err bind(const char *station, struct ledger *l, const char *name, const char *file,
                     struct err_info *info)
{
    AUTO(mem_free_p) char *path = fs_join(station, "office.pem");
    AUTO(cert_free_p) struct cert *c = NULL;
    AUTO(buf_done) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    const char *bound_as, *office;
    char hash[HASH_TEXT];
    enum err e = path == NULL ? E_NOMEM : read_cert(file, &c, info);
    if (e != OK || (e = cert_check_strength(c, info)) != OK) {
        return e;
    }
    if (ledger_bound(l, &bound_as, &office)) {
        return err_set(info, E_EXISTS, "the station is bound already, as '%s'", bound_as);
    }
    cert_add_pem(c, &pem);
    hash_of(c, hash);
    if ((e = buf_err(&pem)) != OK ||
        (e = fs_write_atomic(path, buf_span(&pem), 0644, info)) != OK) {
        return e;
    }
    return ledger_bind(l, name, hash, info);
}

static int run_bind(struct cli_args *a)
{
    const char *name = cli_get(a, "name"), *office = cli_get(a, "office");
    struct err_info info = {0};
    AUTO(ledger_close_p) struct ledger *l = NULL;
    if (name == NULL || office == NULL) {
        return cli_failf(EXIT_USAGE, "usage: enroll-tool %s %s", a->cmd->name, a->cmd->usage);
    }
    if (!id_registration_ok(span_str(name)) || strlen(name) > LIMIT_X509_RID - 3) {
        return cli_failf(EXIT_USAGE, "'%s' is no name of a station (letters, digits, - . _ :)",
                         name);
    }
    AUTO(mem_free_p) char *station = tool_station(a);
    enum err e = station == NULL ? E_NOMEM : ledger_open(station, &l, &info);
    if (e == OK) {
        e = bind(station, l, name, office, &info);
    }
    if (e != OK) {
        (void)cli_fail(e, &info);
        return tool_status(e);
    }
    printf("bound as %s; from now on each burn needs a quota of that office\n", name);
    return EXIT_DONE;
}

/* --- quota sign -------------------------------------------------------------------------------------------------- */

static enum err sign(const struct cli_args *a, struct quota *q, struct buf *ret,
                     struct err_info *info)
{
    AUTO(signer_key_free_p) struct signer_key *key = NULL;
    AUTO(cert_free_p) struct cert *cert = NULL;
    char id[GUID_SIZE];
    guid_new(id);
    q->id = span_dup(span_str(id));
    q->station = span_dup(span_str(cli_get(a, "name")));
    if (q->id == NULL || q->station == NULL) {
        return E_NOMEM;
    }
    enum err e = read_cert(cli_get(a, "office"), &cert, info);
    if (e != OK || (e = signer_key_load(cli_get(a, "key"), &key, info)) != OK) {
        return e;
    }
    if (!signer_key_fits(key, cert)) {
        return err_set(info, E_CERT, "key and certificate do not belong together");
    }
    return quota_write(q, key, ret, info);
}

static int run_sign(struct cli_args *a)
{
    struct quota q = {0};
    AUTO(buf_done) struct buf line = BUF_INIT(QUOTA_LINE);
    struct err_info info = {0};
    uint64_t days = 90;
    const char *station = cli_get(a, "name"), *out = cli_get(a, "out");
    if (station == NULL || cli_get(a, "key") == NULL || cli_get(a, "office") == NULL ||
        !cli_has(a, "units") || !cli_number(a, "units", 1, QUOTA_UNITS_MAX, &q.units) ||
        !cli_number(a, "days", 1, 3650, &days) || !id_registration_ok(span_str(station)) ||
        strlen(station) > LIMIT_X509_RID - 3) {
        return cli_failf(EXIT_USAGE, "usage: enroll-tool %s %s", a->cmd->name, a->cmd->usage);
    }
    q.not_before_us = clock_wall_us(clock_system()) - DAY_US;
    q.not_after_us = q.not_before_us + (int64_t)(days + 1) * DAY_US;
    enum err e = sign(a, &q, &line, &info);
    if (e == OK && out != NULL) {
        e = fs_create_atomic(out, buf_span(&line), 0644, &info);
    }
    if (e == OK && (out == NULL || a->is_json)) {
        printf("%.*s", SPAN_ARG(buf_span(&line)));
    } else if (e == OK) {
        printf("quota %s: %" PRIu64 " units for %s\n", q.id, q.units, q.station);
    }
    quota_done(&q);
    if (e != OK) {
        (void)cli_fail(e, &info);
        return tool_status(e);
    }
    return EXIT_DONE;
}

/* --- quota show -------------------------------------------------------------------------------------------------- */

static enum err show(const struct cli_args *a, const char *station, const struct ledger *l,
                     struct err_info *info)
{
    const char *name, *hash;
    AUTO(cert_free_p) struct cert *office = NULL;
    struct quota q = {0};
    char end[TIME_ISO_SIZE];
    if (!ledger_bound(l, &name, &hash)) {
        return err_set(info, E_NOT_FOUND, "the station is bound to no office");
    }
    enum err e = tool_office(station, hash, &office, info);
    if (e != OK || (e = tool_quota(station, cli_get(a, "quota"), office, &q, info)) != OK) {
        return e;
    }
    time_iso7(q.not_after_us, end);
    printf(a->is_json ? "{\"station\":\"%s\",\"quota\":\"%s\",\"used\":%" PRIu64
                        ",\"units\":%" PRIu64 ",\"notAfter\":\"%s\"}\n"
                      : "station %s, quota %s: %" PRIu64 " of %" PRIu64 " units begun, until %s\n",
           name, q.id, ledger_quota_used(l, q.id), q.units, end);
    quota_done(&q);
    return OK;
}

static int run_show(struct cli_args *a)
{
    AUTO(mem_free_p) char *station = tool_station(a);
    AUTO(ledger_close_p) struct ledger *l = NULL;
    struct err_info info = {0};
    enum err e = station == NULL ? E_NOMEM : ledger_open(station, &l, &info);
    if (e == OK) {
        e = show(a, station, l, &info);
    }
    if (e != OK) {
        (void)cli_fail(e, &info);
        return tool_status(e);
    }
    return EXIT_DONE;
}

/* clang-format off */
static const struct cli_option bind_options[] = {
    { "name", "NAME", "Name of this station, as its quotas and its CA have it." },
    { "office", "FILE", "Certificate of who signs quotas, PEM; as root.pem of ca create." },
    { "station", "DIR", "Folder of this station's ledger." },
};
static const struct cli_option sign_options[] = {
    { "key", "FILE", "Private key of the office, PEM; as root.key of ca create." },
    { "office", "FILE", "Its certificate, to which stations are bound." },
    { "name", "NAME", "The station that may use it." },
    { "units", "N", "How many units." },
    { "days", "N", "For how long (90)." },
    { "out", "FILE", "Write it there, not on standard output; must not exist." },
    { "json", NULL, "Print it also when it goes to a file." },
};
static const struct cli_option show_options[] = {
    { "quota", "FILE", "The quota (quota.json of the station)." },
    { "station", "DIR", "Folder of this station's ledger." },
    { "json", NULL, "Machine-readable output." },
};
/* clang-format on */
const struct cli_command tool_station_bind = {
    "station bind",
    "--name NAME --office FILE [--station DIR]",
    "Bind this station to an office: from then on each burn needs its quota.",
    bind_options,
    ARRAY_LEN(bind_options),
    0,
    0,
    run_bind};
const struct cli_command tool_quota_sign = {
    "quota sign",
    "--key FILE --office FILE --name NAME --units N [--days N] [--out FILE]",
    "At the office: allow a station so many units.",
    sign_options,
    ARRAY_LEN(sign_options),
    0,
    0,
    run_sign};
const struct cli_command tool_quota_show = {"quota show",
                                            "[--quota FILE] [--station DIR] [--json]",
                                            "How much of a quota is used.",
                                            show_options,
                                            ARRAY_LEN(show_options),
                                            0,
                                            0,
                                            run_show};
