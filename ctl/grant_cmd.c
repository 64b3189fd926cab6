/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth stream grant: a right to open streams to one device, under one name, for a time; list, revoke. The credential that it makes is a
 * connection string, told once, which goes into a file that only its owner reads.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/text.h"
#include "ctl/ctl.h"

#define LIFE_MAX_S (31u * 86400u)

/* "90s", "30m", "2h", "7d". */
static bool read_life(struct span text, uint64_t *ret_s)
{
    static const struct {
        char unit;
        uint64_t s;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    uint64_t n;
    for (size_t i = 0; text.n >= 2 && i < ARRAY_LEN(units); i++) {
        if (text.p[text.n - 1] == (uint8_t)units[i].unit) {
            bool is_good = span_to_u64(span_sub(text, 0, text.n - 1), &n) && n >= 1 &&
                           n <= LIFE_MAX_S / units[i].s;
            *ret_s = is_good ? n * units[i].s : 0;
            return is_good;
        }
    }
    return false;
}

static enum err connect_hub(const struct cli_args *a, struct service **ret, struct err_info *info)
{
    uint64_t hub = 1;
    if (!cli_number(a, "hub", 1, 50, &hub)) {
        return err_set(info, E_ARG, "--hub is out of range");
    }
    return ctl_connect(a, CTL_HUB, (unsigned)hub - 1, ret, info);
}

static void path_of(struct buf *path, struct span name)
{
    buf_add_str(path, "/admin/streamGrants/");
    service_path_add(path, name);
    buf_add_u8(path, '\0');
}

static enum err make_body(const struct cli_args *a, struct json *body, uint64_t life_s)
{
    const char *device = a->n_words > 0 ? a->words[0] : "";
    bool is_prefix = cli_has(a, "all-devices") || cli_has(a, "prefix");
    enum err e = json_set_str(body, is_prefix ? "devicePrefix" : "deviceId", span_str(device));
    if (e == OK) {
        e = json_set_str(body, "streamName", span_str(cli_get(a, "to")));
    }
    return e != OK ? e : json_set(body, "lifeSeconds", json_new_int((int64_t)life_s));
}

static void tell(const struct cli_args *a, const struct json *grant, const char *file)
{
    struct span name = json_str(json_get(grant, "name")),
                until = json_str(json_get(grant, "expiresTimeUtc"));
    if (a->is_json) {
        AUTO(buf_done) struct buf b = BUF_INIT(8192);
        buf_add_str(&b, "{\"name\":");
        json_write_str(&b, name);
        buf_add_str(&b, ",\"expiresTimeUtc\":");
        json_write_str(&b, until);
        buf_add_str(&b, ",\"file\":");
        json_write_str(&b, span_str(file));
        printf("%.*s}\n", SPAN_ARG(buf_span(&b)));
        return;
    }
    printf("grant ");
    cli_print_safe(stdout, name);
    printf(" until ");
    cli_print_safe(stdout, until);
    printf("; its connection string is in %s\n", file);
}

static int put_grant(struct cli_args *a, struct service *s, const struct json *body)
{
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct service_answer ans = {0};
    struct err_info info = {0};
    char own[24];
    const char *name = cli_get(a, "name"), *file = cli_get(a, "file");
    (void)snprintf(own, sizeof(own), "grant-%08x", (unsigned)random_below(UINT32_MAX));
    path_of(&path, span_str(name != NULL ? name : own));
    if (buf_err(&path) != OK) {
        return cli_fail(E_ARG, NULL);
    }
    const struct service_call call = {.method = "PUT",
                                      .path = (const char *)path.p,
                                      .api_version = SERVICE_ADMIN_VERSION,
                                      .body = body};
    int status = ctl_ask(s, &call, &ans);
    if (status != EXIT_DONE) {
        return status;
    }
    struct span cs = json_str(json_get(ans.json, "connectionString"));
    enum err e = cs.n > 0 ? ctl_save_key(cs, file, &info)
                          : err_set(&info, E_REMOTE, "the hub gave no connection string");
    if (e == OK) {
        tell(a, ans.json, file);
    }
    service_answer_done(&ans);
    return e == OK ? EXIT_DONE : cli_fail(e, &info);
}

static int run_grant(struct cli_args *a)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(json_free_p) struct json *body = json_new_object();
    struct err_info info = {0};
    uint64_t life_s = 0;
    if ((a->n_words == 1) == cli_has(a, "all-devices") || cli_get(a, "to") == NULL ||
        cli_get(a, "for") == NULL || cli_get(a, "file") == NULL) {
        return cli_failf(EXIT_USAGE, "stream grant wants DEVICE or --all-devices, --to NAME, --for "
                                     "TIME and --file FILE");
    }
    if (!read_life(span_str(cli_get(a, "for")), &life_s)) {
        return cli_failf(EXIT_USAGE, "--for: a number with s, m, h or d, at most 31d");
    }
    enum err e = body == NULL ? E_NOMEM : make_body(a, body, life_s);
    if (e != OK || (e = connect_hub(a, &s, &info)) != OK) {
        return cli_fail(e, &info);
    }
    return put_grant(a, s, body);
}

static int run_list(struct cli_args *a)
{
    AUTO(service_free_p) struct service *s = NULL;
    struct err_info info = {0};
    enum err e = connect_hub(a, &s, &info);
    const struct service_call call = {
        .method = "GET", .path = "/admin/streamGrants", .api_version = SERVICE_ADMIN_VERSION};
    return e != OK ? cli_fail(e, &info) : ctl_call(s, &call, a, "");
}

static int run_revoke(struct cli_args *a)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct err_info info = {0};
    path_of(&path, span_str(a->words[0]));
    enum err e = buf_err(&path);
    if (e != OK || (e = connect_hub(a, &s, &info)) != OK) {
        return cli_fail(e, &info);
    }
    const struct service_call call = {.method = "DELETE",
                                      .path = (const char *)path.p,
                                      .api_version = SERVICE_ADMIN_VERSION,
                                      .if_match = "*"};
    return ctl_call(s, &call, a, "revoked");
}

/* clang-format off */
static const struct cli_option grant_options[] = {
    CTL_CONNECT_OPTIONS,
    CTL_HUB_OPTION,
    { "to", "NAME", "The section [stream NAME] of the device's agent." },
    { "for", "TIME", "How long: 90s, 30m, 2h, 7d; at most 31d." },
    { "file", "FILE", "Write the connection string of the grant here (0600); it is told this once." },
    { "name", "GRANT", "Name of the grant; one that is free when not given." },
    { "prefix", NULL, "DEVICE is how the ids of the devices begin." },
    { "all-devices", NULL, "For all devices of the hub." },
};
static const struct cli_option plain_options[] = {
    CTL_CONNECT_OPTIONS,
    CTL_HUB_OPTION,
};
/* clang-format on */
const struct cli_command ctl_stream_grant = {
    "stream grant",
    "(DEVICE [--prefix] | --all-devices) --to NAME --for TIME --file FILE [--name GRANT] [--hub N]",
    "Give the right to open streams to a device under one name, for a time.",
    grant_options,
    ARRAY_LEN(grant_options),
    0,
    1,
    run_grant,
};
const struct cli_command ctl_stream_grant_list = {
    "stream grant list",
    "[--hub N]",
    "Grants of a hub.",
    plain_options,
    ARRAY_LEN(plain_options),
    0,
    0,
    run_list,
};
const struct cli_command ctl_stream_grant_revoke = {
    "stream grant revoke",
    "GRANT [--hub N]",
    "Take a grant back; its streams end at once.",
    plain_options,
    ARRAY_LEN(plain_options),
    1,
    1,
    run_revoke,
};
