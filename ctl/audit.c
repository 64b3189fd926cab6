/* SPDX-License-Identifier: Apache-2.0 */
/* The audit trails: fetched as JSON lines (dps audit, hub audit), and checked offline (audit verify). */
#include "ctl/audit.h"

#include <errno.h>
#include <stdlib.h>

#include "base/text.h"
#include "certs/keyring.h"
#include "ctl/ctl.h"

#define PAGE 500u
#define LINE_MAX_BYTES (64u << 10)
static const char zeros[AUDIT_HASH_HEX + 1] =
    "0000000000000000000000000000000000000000000000000000000000000000";

/* --- the chain ------------------------------------------------------------------------------------------------ */

/* The line as it was hashed: as the server wrote it, without "hash". */
static enum err hash_of(struct json *j, char ret[AUDIT_HASH_HEX + 1])
{
    AUTO(buf_done) struct buf b = BUF_INIT(LINE_MAX_BYTES);
    uint8_t digest[32];
    json_del(j, "hash");
    json_write(&b, j);
    if (buf_err(&b) != OK) {
        return buf_err(&b);
    }
    sha256(buf_span(&b), digest);
    hex_to_cstr(span_of(digest, sizeof(digest)), false, ret);
    return OK;
}

static enum err check_link(const struct audit_chain *c, int64_t seq, struct span prev,
                           struct err_info *info)
{
    if (c->lines > 0 && seq != c->last + 1) {
        return err_set(info, E_CORRUPT, "entry %lld follows entry %lld", (long long)seq,
                       (long long)c->last);
    }
    const char *want = c->lines > 0 ? c->hash : seq == 1 ? zeros : NULL;
    if (want != NULL && !span_is(prev, want)) {
        return err_set(info, E_CORRUPT, "entry %lld does not follow from the one before it",
                       (long long)seq);
    }
    return OK;
}

enum err audit_chain_add(struct audit_chain *c, struct span line, struct err_info *info)
{
    AUTO(json_free_p) struct json *j = NULL;
    struct span prev, hash;
    char own[AUDIT_HASH_HEX + 1], said[AUDIT_HASH_HEX + 1];
    int64_t seq = 0;
    enum err e;
    if ((e = json_read_object(line, LINE_MAX_BYTES, &j, info)) != OK ||
        (e = json_get_int(j, "seq", JSON_F_NEED, 1, INT64_MAX, &seq, info)) != OK ||
        (e = json_get_str(j, "prev", JSON_F_NEED, &prev, info)) != OK ||
        (e = json_get_str(j, "hash", JSON_F_NEED, &hash, info)) != OK) {
        return e;
    }
    if ((e = check_link(c, seq, prev, info)) != OK) {
        return e;
    }
    if (!span_to_cstr(hash, said, sizeof(said)) || (e = hash_of(j, own)) != OK ||
        strcmp(said, own) != 0) {
        return e != OK ? e : err_set(info, E_CORRUPT, "entry %lld was changed", (long long)seq);
    }
    c->first = c->lines == 0 ? seq : c->first;
    c->lines++;
    c->last = seq;
    memcpy(c->hash, own, sizeof(own));
    return OK;
}

/* --- audit verify --------------------------------------------------------------------------------------------- */

static enum err verify(FILE *f, struct audit_chain *c, uint64_t *ret_line, struct err_info *info)
{
    char *line = NULL;
    size_t cap = 0;
    enum err e = OK;
    ssize_t n;
    while (e == OK && (n = getline(&line, &cap, f)) > 0) {
        ++*ret_line;
        e = (size_t)n > LINE_MAX_BYTES ? err_set(info, E_TOO_LARGE, "line of %zd bytes", n)
                                       : audit_chain_add(c, span_of(line, (size_t)n), info);
    }
    if (e == OK && ferror(f)) {
        e = err_set(info, E_SYS, "%s", strerror(errno));
    }
    free(line);
    return e;
}

static int run_verify(struct cli_args *a)
{
    const char *path = a->words[0], *last = cli_get(a, "last-hash");
    struct audit_chain c = {.lines = 0};
    struct err_info info = {0}, named = {0};
    uint64_t line = 0;
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return cli_failf(EXIT_FAILED, "'%s': %s", path, strerror(errno));
    }
    enum err e = verify(f, &c, &line, &info);
    (void)fclose(f);
    if (e != OK) {
        return cli_fail(err_set(&named, e, "'%s', line %llu: %s", path, (unsigned long long)line,
                                err_why(&info, e)),
                        &named);
    }
    if (c.lines == 0) {
        return cli_failf(EXIT_FAILED, "'%s' has no entry", path);
    }
    if (last != NULL && strcmp(last, c.hash) != 0) {
        return cli_failf(
            EXIT_FAILED,
            "'%s' ends with another hash: entries are missing at its end, or it was written anew",
            path);
    }
    if (a->is_json) {
        printf("{\"entries\":%llu,\"first\":%lld,\"last\":%lld,\"hash\":\"%s\"}\n",
               (unsigned long long)c.lines, (long long)c.first, (long long)c.last, c.hash);
    } else {
        printf("%llu entries, %lld to %lld, unbroken; the last has hash %s\n",
               (unsigned long long)c.lines, (long long)c.first, (long long)c.last, c.hash);
    }
    return EXIT_DONE;
}

/* --- dps audit, hub audit --------------------------------------------------------------------------------------- */

/* One page; *from moves behind it. */
static int print_page(struct service *s, uint64_t *from, size_t *ret_n)
{
    char path[96];
    struct service_answer ans = {0};
    (void)snprintf(path, sizeof(path), "/admin/audit?from=%llu&top=%u", (unsigned long long)*from,
                   PAGE);
    const struct service_call c = {
        .method = "GET", .path = path, .api_version = SERVICE_ADMIN_VERSION};
    int status = ctl_ask(s, &c, &ans);
    const struct json *list = status == EXIT_DONE ? json_get(ans.json, "value") : NULL;
    *ret_n = json_count(list);
    for (size_t i = 0; i < *ret_n; i++) {
        int64_t seq = 0;
        (void)!json_get_int(json_at(list, i), "seq", JSON_F_NEED, 1, INT64_MAX, &seq, NULL);
        ctl_print_json(stdout, json_at(list, i));
        *from = (uint64_t)seq + 1;
    }
    service_answer_done(&ans);
    return status;
}

static int run_audit(struct cli_args *a, enum ctl_plane plane)
{
    AUTO(service_free_p) struct service *s = NULL;
    struct err_info info = {0};
    uint64_t hub = 1, from = 1;
    size_t n = 0;
    if (!cli_number(a, "hub", 1, 50, &hub)) {
        return cli_failf(EXIT_USAGE, "--hub wants the number of a hub, from 1");
    }
    if (!cli_number(a, "from", 1, INT64_MAX - 1, &from)) {
        return cli_failf(EXIT_USAGE, "--from wants the number of an entry, from 1");
    }
    enum err e = ctl_connect(a, plane, (unsigned)hub - 1, &s, &info);
    if (e != OK) {
        return cli_fail(e, &info);
    }
    int status;
    do {
        status = print_page(s, &from, &n);
    } while (status == EXIT_DONE && n == PAGE && !cli_interrupted);
    return cli_interrupted ? EXIT_INTERRUPTED : status;
}

static int run_dps_audit(struct cli_args *a)
{
    return run_audit(a, CTL_DPS);
}
static int run_hub_audit(struct cli_args *a)
{
    return run_audit(a, CTL_HUB);
}

/* clang-format off */
#define O_FROM { "from", "N", "Begin with this entry (1)." }
static const struct cli_option dps_options[] = { CTL_CONNECT_OPTIONS, O_FROM };
static const struct cli_option hub_options[] = { CTL_CONNECT_OPTIONS, O_FROM, CTL_HUB_OPTION };
static const struct cli_option verify_options[] = {
    { "last-hash", "HEX", "The file must end with the entry that has this hash." },
    { "json", NULL, "Machine-readable output." },
};
const struct cli_command ctl_dps_audit = {
    "dps audit", "[--from N]", "Show the audit trail of the DPS, one JSON object a line.",
    dps_options, ARRAY_LEN(dps_options), 0, 0, run_dps_audit };
const struct cli_command ctl_hub_audit = {
    "hub audit", "[--from N] [--hub N]", "Show the audit trail of a hub, one JSON object a line.",
    hub_options, ARRAY_LEN(hub_options), 0, 0, run_hub_audit };
const struct cli_command ctl_audit_verify = {
    "audit verify", "FILE [--last-hash HEX]", "Check that nothing in a fetched audit trail was changed, moved or taken out.",
    verify_options, ARRAY_LEN(verify_options), 1, 1, run_verify };
/* clang-format on */
