/* SPDX-License-Identifier: Apache-2.0 */
/* Commands over many enrollments: list with filters, import from JSON lines. */
#include <unistd.h>

#include "base/fs.h"
#include "base/limits.h"
#include "base/secret.h"
#include "ctl/ctl.h"
#include "ctl/dps_kind.h"

#define QUERY_MAX (LIMIT_QUERY_TEXT + 64u)
#define IMPORT_FILE_MAX (256u << 20)

/* --- list ----------------------------------------------------------------------------------------------- */

/* A text of the query language: the server reads it back byte for byte. */
static void add_text(struct buf *b, const char *text)
{
    buf_add_u8(b, '\'');
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\'' || *p == '\\') {
            buf_add_u8(b, '\\');
        }
        buf_add_u8(b, (uint8_t)*p);
    }
    buf_add_u8(b, '\'');
}

static enum err make_query(const struct cli_args *a, const struct dps_kind *k, struct buf *b)
{
    const struct {
        const char *option, *before, *after;
    } filters[] = {
        {"status", "provisioningStatus = ", ""},
        {"attestation", "attestation.type = ", ""},
        {"prefix",
         k == &groups ? "STARTS_WITH(enrollmentGroupId, " : "STARTS_WITH(registrationId, ", ")"},
    };
    const char *where = cli_get(a, "where"), *sep = " WHERE ";
    buf_addf(b, "SELECT * FROM %s", k->member);
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        const char *v = cli_get(a, filters[i].option);
        if (v != NULL) {
            buf_addf(b, "%s%s", sep, filters[i].before);
            add_text(b, v);
            buf_add_str(b, filters[i].after);
            sep = " AND ";
        }
    }
    if (where != NULL) {
        buf_addf(b, "%s(%s)", sep, where);
    }
    return buf_err(b);
}

static int list(struct cli_args *a, const struct dps_kind *k)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(json_free_p) struct json *body = json_new_object();
    AUTO(buf_done) struct buf query = BUF_INIT(QUERY_MAX);
    AUTO(buf_done) struct buf path = BUF_INIT(64);
    struct err_info info = {0};
    enum err e = make_query(a, k, &query);
    if (e != OK) {
        return cli_failf(EXIT_USAGE, "the filter has at most %u characters", LIMIT_QUERY_TEXT);
    }
    buf_addf(&path, "%s/query", k->path);
    buf_add_u8(&path, '\0');
    if ((e = json_set_str(body, "query", buf_span(&query))) != OK ||
        (e = ctl_connect(a, CTL_DPS, 0, &s, &info)) != OK) {
        return cli_fail(e, &info);
    }
    struct service_call c = {.method = "POST",
                             .path = (const char *)path.p,
                             .api_version = SERVICE_DPS_VERSION,
                             .body = body};
    return ctl_print_pages(s, &c, a);
}

static int run_enrollment_list(struct cli_args *a)
{
    return list(a, &individuals);
}
static int run_group_list(struct cli_args *a)
{
    return list(a, &groups);
}

/* --- import ----------------------------------------------------------------------------------------------- */

struct import {
    struct service *s;
    const struct dps_kind *k;
    const char *mode;
    bool is_json;
    uint64_t line;
    uint64_t line_of[LIMIT_DPS_BULK]; /* of each entry of the batch */
    struct json *batch;               /* array; NULL: empty */
    uint64_t done, failed;
};

static void tell_failed(const struct import *im, uint64_t line, struct span id, int64_t code,
                        struct span text)
{
    if (im->is_json) {
        AUTO(json_free_p) struct json *o = json_new_object();
        if (json_set(o, "line", json_new_int((int64_t)line)) == OK &&
            json_set_str(o, "id", id) == OK && json_set(o, "errorCode", json_new_int(code)) == OK &&
            json_set_str(o, "errorStatus", text) == OK) {
            ctl_print_json(stdout, o);
        }
        return;
    }
    fprintf(stderr, "line %llu: '", (unsigned long long)line);
    cli_print_safe(stderr, id);
    fprintf(stderr, "': %lld ", (long long)code);
    cli_print_safe(stderr, text);
    fputc('\n', stderr);
}

static uint64_t line_of(const struct import *im, const struct json *sent, struct span id)
{
    for (size_t i = 0; i < json_count(sent); i++) {
        if (span_eq_nocase(json_str(json_get(json_at(sent, i), im->k->id_member)), id)) {
            return im->line_of[i];
        }
    }
    return im->line;
}

/* One bulk request; refused entries are told, the others count as done. */
static int send_batch(struct import *im)
{
    AUTO(json_free_p) struct json *body = json_new_object();
    struct service_answer ans = {0};
    int64_t code = 0;
    size_t n = json_count(im->batch);
    const struct json *sent = im->batch;
    if (n == 0) {
        return EXIT_DONE;
    }
    struct json *entries = im->batch;
    im->batch = NULL;
    if (json_set_str(body, "mode", span_str(im->mode)) != OK) {
        json_free(entries);
        return cli_fail(E_NOMEM, NULL);
    }
    if (json_set(body, im->k->member, entries) != OK) {
        return cli_fail(E_NOMEM, NULL);
    }
    const struct service_call c = {
        .method = "POST", .path = im->k->path, .api_version = SERVICE_DPS_VERSION, .body = body};
    int status = ctl_ask(im->s, &c, &ans);
    if (status == EXIT_DONE) {
        const struct json *errors = json_get(ans.json, "errors");
        for (size_t i = 0; i < json_count(errors); i++) {
            const struct json *x = json_at(errors, i);
            struct span id = json_str(json_get(x, im->k->id_member));
            (void)!json_get_int(x, "errorCode", JSON_F_OPT, 0, INT64_MAX, &code, NULL); /* 0 then */
            tell_failed(im, line_of(im, sent, id), id, code, json_str(json_get(x, "errorStatus")));
        }
        im->failed += json_count(errors);
        im->done += n - MIN(n, json_count(errors));
    } else {
        fprintf(stderr, "lines %llu to %llu were not taken\n", (unsigned long long)im->line_of[0],
                (unsigned long long)im->line_of[n - 1]);
    }
    service_answer_done(&ans);
    return status;
}

static int add_line(struct import *im, struct span text)
{
    struct err_info info = {0};
    struct json *o = NULL;
    im->line++;
    if (span_trim(text).n == 0) {
        return EXIT_DONE;
    }
    enum err e = json_read_object(text, LIMIT_DPS_BODY, &o, &info);
    if (e != OK) {
        return cli_failf(EXIT_FAILED, "line %llu: %s", (unsigned long long)im->line, info.why);
    }
    if (im->batch == NULL && (im->batch = json_new_array()) == NULL) {
        json_free(o);
        return cli_fail(E_NOMEM, NULL);
    }
    im->line_of[json_count(im->batch)] = im->line;
    if ((e = json_add(im->batch, o)) != OK) {
        return cli_fail(e, NULL);
    }
    return json_count(im->batch) == LIMIT_DPS_BULK ? send_batch(im) : EXIT_DONE;
}

/* On a terminal only: how far it is. */
static void progress(const struct import *im, size_t read, size_t all)
{
    static size_t shown;
    if (!im->is_json && isatty(STDERR_FILENO) && all != 0 && read * 100 / all != shown) {
        shown = read * 100 / all;
        fprintf(stderr, "\r%zu %%", shown);
        if (shown == 100) {
            fputc('\n', stderr);
        }
    }
}

static int import_all(struct import *im, struct span text)
{
    struct span rest = text;
    int status = EXIT_DONE;
    while (status == EXIT_DONE && rest.n != 0 && !cli_interrupted) {
        status = add_line(im, span_cut(&rest, '\n'));
        progress(im, text.n - rest.n, text.n);
    }
    if (status == EXIT_DONE && !cli_interrupted) {
        status = send_batch(im);
    }
    return cli_interrupted ? EXIT_INTERRUPTED : status;
}

static int import(struct cli_args *a, const struct dps_kind *k)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(buf_done) struct buf text = BUF_INIT(IMPORT_FILE_MAX);
    struct err_info info = {0};
    static const char *const modes[] = {"create", "update", "updateIfMatchETag", "delete"};
    struct import im = {.k = k, .mode = cli_get(a, "mode"), .is_json = a->is_json};
    size_t m = 0;
    im.mode = im.mode != NULL ? im.mode : modes[0];
    while (m < ARRAY_LEN(modes) && strcmp(im.mode, modes[m]) != 0) {
        m++;
    }
    if (m == ARRAY_LEN(modes)) {
        return cli_failf(EXIT_USAGE, "--mode is create, update, updateIfMatchETag or delete");
    }
    enum err e = ctl_read_file_or_stdin(a->words[0], &text, &info);
    if (e != OK || (e = ctl_connect(a, CTL_DPS, 0, &s, &info)) != OK) {
        return cli_fail(e, &info);
    }
    im.s = s;
    int status = import_all(&im, buf_span(&text));
    json_free(im.batch);
    if (text.p != NULL) {
        mem_wipe(text.p, text.n); /* it may hold keys */
    }
    if (a->is_json) {
        printf("{\"done\":%llu,\"failed\":%llu}\n", (unsigned long long)im.done,
               (unsigned long long)im.failed);
    } else {
        printf("%llu done, %llu refused\n", (unsigned long long)im.done,
               (unsigned long long)im.failed);
    }
    return status != EXIT_DONE ? status : im.failed != 0 ? EXIT_REFUSED : EXIT_DONE;
}

static int run_enrollment_import(struct cli_args *a)
{
    return import(a, &individuals);
}
static int run_group_import(struct cli_args *a)
{
    return import(a, &groups);
}

/* --- commands ------------------------------------------------------------------------------------------- */

/* clang-format off */
static const struct cli_option list_options[] = {
    CTL_CONNECT_OPTIONS,
    { "status", "WORD", "Only those that are enabled, or disabled." },
    { "attestation", "TYPE", "Only symmetricKey, x509 or tpm." },
    { "prefix", "TEXT", "Only ids that begin so." },
    { "where", "CONDITION", "Only those for which it is true, such as \"deviceId IN ['a','b']\"." },
    { "page", "N", "Rows asked for at a time." },
};
static const struct cli_option import_options[] = {
    CTL_CONNECT_OPTIONS,
    { "mode", "MODE", "create (default), update, updateIfMatchETag or delete." },
};
CTL_COMMAND(ctl_dps_enrollment_list, "dps enrollment list", "[--status S] [--attestation T] [--prefix P] [--where C] [--page N]",
      "List individual enrollments, one JSON object a line.", list_options, 0, run_enrollment_list)
CTL_COMMAND(ctl_dps_enrollment_import, "dps enrollment import", "FILE|- [--mode MODE]",
      "Create many individual enrollments from JSON lines, ten in a request.", import_options, 1, run_enrollment_import)
CTL_COMMAND(ctl_dps_group_list, "dps group list", "[--status S] [--attestation T] [--prefix P] [--where C] [--page N]",
      "List enrollment groups, one JSON object a line.", list_options, 0, run_group_list)
CTL_COMMAND(ctl_dps_group_import, "dps group import", "FILE|- [--mode MODE]", "Create many enrollment groups from JSON lines, ten in a request.",
      import_options, 1, run_group_import)
/* clang-format on */
