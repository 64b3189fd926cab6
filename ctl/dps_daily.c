/* SPDX-License-Identifier: Apache-2.0 */
/* Daily commands over one enrollment or CA: enable, disable, keys, whom a CA admits. */
#include "base/fs.h"
#include "base/limits.h"
#include "ctl/ctl.h"
#include "ctl/dps_kind.h"

static enum err add_path(struct buf *b, const struct dps_kind *k, const char *id, const char *tail)
{
    buf_add_str(b, k->path);
    buf_add_u8(b, '/');
    service_path_add(b, span_str(id));
    buf_add_str(b, tail);
    buf_add_u8(b, '\0');
    return buf_err(b);
}

static void tell_done(const struct cli_args *a, const char *what)
{
    if (a->is_json) {
        printf("{}\n");
    } else {
        printf("'%s': %s\n", a->words[0], what);
    }
}

/* --- enable, disable ---------------------------------------------------------------------------------------- */

/* Reads it and puts it back with the other status, if nobody has changed it in between. */
static int set_status(struct cli_args *a, const struct dps_kind *k, const char *status_word)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct service_answer now = {0}, ans = {0};
    struct err_info info = {0};
    char etag[128] = "";
    enum err e;
    if ((e = add_path(&path, k, a->words[0], "")) != OK ||
        (e = ctl_connect(a, CTL_DPS, 0, &s, &info)) != OK) {
        return cli_fail(e, &info);
    }
    struct service_call c = {
        .method = "GET", .path = (const char *)path.p, .api_version = SERVICE_DPS_VERSION};
    int status = ctl_ask(s, &c, &now);
    if (status == EXIT_DONE) {
        (void)span_to_cstr(json_str(json_get(now.json, "etag")), etag, sizeof(etag));
        json_del(now.json, "registrationState");
        e = json_set_str(now.json, "provisioningStatus", span_str(status_word));
        c = (struct service_call){.method = "PUT",
                                  .path = c.path,
                                  .api_version = c.api_version,
                                  .body = now.json,
                                  .if_match = etag};
        status = e != OK ? cli_fail(e, NULL) : ctl_ask(s, &c, &ans);
    }
    if (status == EXIT_DONE) {
        tell_done(a, status_word);
    }
    service_answer_done(&now);
    service_answer_done(&ans);
    return status;
}

static int run_enrollment_enable(struct cli_args *a)
{
    return set_status(a, &individuals, "enabled");
}
static int run_enrollment_disable(struct cli_args *a)
{
    return set_status(a, &individuals, "disabled");
}
static int run_group_enable(struct cli_args *a)
{
    return set_status(a, &groups, "enabled");
}
static int run_group_disable(struct cli_args *a)
{
    return set_status(a, &groups, "disabled");
}

/* --- keys ------------------------------------------------------------------------------------------------------ */

static int keys(struct cli_args *a, const struct dps_kind *k)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct service_answer ans = {0};
    struct err_info info = {0};
    const char *file = cli_get(a, "key-file");
    enum err e;
    if (file == NULL) {
        return cli_failf(EXIT_USAGE, "%s wants --key-file FILE", a->cmd->name);
    }
    if (fs_exists(file)) {
        return cli_failf(EXIT_FAILED, "'%s' exists already; a key file is never written over",
                         file);
    }
    if ((e = add_path(&path, k, a->words[0], "/attestationmechanism")) != OK ||
        (e = ctl_connect(a, CTL_DPS, 0, &s, &info)) != OK) {
        return cli_fail(e, &info);
    }
    const struct service_call c = {
        .method = "POST", .path = (const char *)path.p, .api_version = SERVICE_DPS_VERSION};
    int status = ctl_ask(s, &c, &ans);
    if (status == EXIT_DONE) {
        struct span key =
            json_str(json_get(json_get(ans.json, "symmetricKey"),
                              cli_has(a, "secondary") ? "secondaryKey" : "primaryKey"));
        e = key.n != 0 ? ctl_save_key(key, file, &info)
                       : err_set(&info, E_STATE, "it has no symmetric keys");
        status = e != OK ? cli_fail(e, &info) : EXIT_DONE;
    }
    if (status == EXIT_DONE) {
        tell_done(a, file);
    }
    service_answer_done(&ans);
    return status;
}

static int run_enrollment_keys(struct cli_args *a)
{
    return keys(a, &individuals);
}
static int run_group_keys(struct cli_args *a)
{
    return keys(a, &groups);
}

/* --- whom a CA admits ---------------------------------------------------------------------------------------------- */

static enum err first_page(const struct cli_args *a, struct buf *path)
{
    uint64_t page = 1000;
    if (!cli_number(a, "page", 1, 1000, &page)) {
        return E_ARG;
    }
    buf_add_str(path, "/admin/certificates/");
    service_path_add(path, span_str(a->words[0]));
    buf_addf(path, "/dependents?top=%llu", (unsigned long long)page);
    buf_add_u8(path, '\0');
    return buf_err(path);
}

/* "/admin/...?api-version=V&top=...": the service appends the version itself. */
static void next_page(struct span link, struct buf *path)
{
    struct span rest = link;
    struct span before = span_cut(&rest, '?');
    (void)span_cut(&rest, '&');
    buf_reset(path);
    buf_add(path, before);
    buf_add_u8(path, '?');
    buf_add(path, rest);
    buf_add_u8(path, '\0');
}

/* The groups and numbers first, then a line for each registration. */
static int run_dependents(struct cli_args *a)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(buf_done) struct buf path = BUF_INIT(4096);
    struct err_info info = {0};
    int status = EXIT_DONE;
    bool is_first = true, has_more = true;
    if (first_page(a, &path) != OK) {
        return cli_failf(EXIT_USAGE, "--page wants 1 to 1000");
    }
    enum err e = ctl_connect(a, CTL_DPS, 0, &s, &info);
    if (e != OK) {
        return cli_fail(e, &info);
    }
    while (status == EXIT_DONE && has_more && !cli_interrupted) {
        struct service_answer ans = {0};
        const struct service_call c = {
            .method = "GET", .path = (const char *)path.p, .api_version = SERVICE_ADMIN_VERSION};
        if ((status = ctl_ask(s, &c, &ans)) == EXIT_DONE) {
            struct json *rows = json_get(ans.json, "value");
            AUTO(json_free_p) struct json *mine = json_clone(rows);
            next_page(json_str(json_get(ans.json, "nextLink")), &path);
            has_more = json_is(json_get(ans.json, "nextLink"), JSON_T_STR);
            json_del(ans.json, "value");
            json_del(ans.json, "nextLink");
            if (is_first) {
                ctl_print_json(stdout, ans.json);
            }
            for (size_t i = 0; i < json_count(mine); i++) {
                ctl_print_json(stdout, json_at(mine, i));
            }
            is_first = false;
        }
        service_answer_done(&ans);
    }
    return cli_interrupted ? EXIT_INTERRUPTED : status;
}

/* --- commands ------------------------------------------------------------------------------------------- */

/* clang-format off */
static const struct cli_option page_options[] = {
    CTL_CONNECT_OPTIONS,
    { "page", "N", "Rows asked for at a time." },
};
static const struct cli_option plain_options[] = { CTL_CONNECT_OPTIONS };
static const struct cli_option key_options[] = {
    CTL_CONNECT_OPTIONS,
    { "key-file", "FILE", "Write the key here (0600)." },
    { "secondary", NULL, "The secondary key." },
};
CTL_COMMAND(ctl_dps_enrollment_enable, "dps enrollment enable", "ID", "Enable an individual enrollment.", plain_options, 1, run_enrollment_enable)
CTL_COMMAND(ctl_dps_enrollment_disable, "dps enrollment disable", "ID", "Disable an individual enrollment; its device is refused from now on.",
      plain_options, 1, run_enrollment_disable)
CTL_COMMAND(ctl_dps_enrollment_keys, "dps enrollment keys", "ID --key-file FILE [--secondary]", "Write a symmetric key of an individual enrollment to a file.",
      key_options, 1, run_enrollment_keys)
CTL_COMMAND(ctl_dps_group_enable, "dps group enable", "ID", "Enable an enrollment group.", plain_options, 1, run_group_enable)
CTL_COMMAND(ctl_dps_group_disable, "dps group disable", "ID", "Disable an enrollment group; its devices are refused from now on.", plain_options, 1,
      run_group_disable)
CTL_COMMAND(ctl_dps_group_keys, "dps group keys", "ID --key-file FILE [--secondary]", "Write a symmetric key of an enrollment group to a file.",
      key_options, 1, run_group_keys)
CTL_COMMAND(ctl_dps_ca_dependents, "dps ca dependents", "NAME [--page N]", "Show whom a CA certificate admits: groups, then a line for each registration.",
      page_options, 1, run_dependents)
/* clang-format on */
