/* SPDX-License-Identifier: Apache-2.0 */
/* berth dps explain: why a device was refused, and the way to mend it, for people. The DPS knows the words (dps/rule.def). */
#include <stdlib.h>

#include "base/text.h"
#include "ctl/ctl.h"

#define TIME_SHOWN 19u /* 2026-11-21T13:55:00 */

static struct span str_of(const struct json *j, const char *name)
{
    return json_str(json_get(j, name));
}

static void say(const char *label, struct span text)
{
    if (text.n != 0) {
        printf("%s", label);
        cli_print_safe(stdout, text);
    }
}

static void say_time(const char *label, struct span utc)
{
    say(label, span_sub(utc, 0, TIME_SHOWN));
    if (utc.n != 0) {
        putchar('Z');
    }
}

void ctl_print_wrapped(const char *first, const char *indent, struct span text)
{
    size_t column = 0;
    printf("%s", first);
    while (text.n != 0) {
        struct span word = span_cut(&text, ' ');
        if (column != 0 && column + word.n > 90) {
            printf("\n%s", indent);
            column = 0;
        }
        printf("%s", column != 0 ? " " : "");
        cli_print_safe(stdout, word);
        column += word.n + 1;
    }
    putchar('\n');
}

void ctl_print_device_state(const struct json *j)
{
    const struct json *e = json_get(j, "enrollment"), *r = json_get(j, "registration"),
                      *hub = json_get(j, "hub");
    if (json_is(e, JSON_T_OBJECT)) {
        say("enrollment    ", str_of(e, "kind"));
        say(" '", str_of(e, "id"));
        say("', ", str_of(e, "provisioningStatus"));
        say(", ", str_of(e, "attestation"));
        putchar('\n');
    } else {
        printf("enrollment    none of its own, and no record of a group\n");
    }
    if (!json_is(r, JSON_T_OBJECT)) {
        printf("registration  never\n");
        return;
    }
    say("registration  ", str_of(r, "status"));
    say(" to ", str_of(r, "assignedHub"));
    say(" as '", str_of(r, "deviceId"));
    printf("%s", str_of(r, "deviceId").n != 0 ? "'" : "");
    say(": ", str_of(r, "errorMessage"));
    say_time(", ", str_of(r, "lastUpdatedDateTimeUtc"));
    putchar('\n');
    if (json_is(hub, JSON_T_OBJECT) && !json_bool(json_get(hub, "isLinked"))) {
        say("hub           '", str_of(hub, "name"));
        printf("' is no longer linked\n");
    }
}

static void print_refusal(const struct json *r, struct span assigned_utc)
{
    putchar('\n');
    say("", str_of(r, "rule"));
    printf("  %lld time%s", (long long)json_int(json_get(r, "count")),
           json_int(json_get(r, "count")) == 1 ? "" : "s");
    say_time(", last ", str_of(r, "lastSeenUtc"));
    say_time(", first ", str_of(r, "firstSeenUtc"));
    putchar('\n');
    if (str_of(r, "peer").n != 0) {
        say("  from  ", str_of(r, "peer"));
        say(" over ", str_of(r, "transport"));
        say(", api-version ", str_of(r, "apiVersion"));
        putchar('\n');
    }
    if (str_of(r, "why").n != 0) {
        ctl_print_wrapped("  why   ", "        ", str_of(r, "why"));
    }
    if (span_cmp(assigned_utc, str_of(r, "lastSeenUtc")) > 0) {
        printf("  since then the device was assigned: this is mended\n");
    } else {
        ctl_print_wrapped("  mend  ", "        ", str_of(r, "mend"));
    }
}

static void print_all(const struct json *j)
{
    const struct json *list = json_get(j, "refusals"), *reg = json_get(j, "registration");
    struct span assigned = span_is(str_of(reg, "status"), "assigned")
                               ? str_of(reg, "lastUpdatedDateTimeUtc")
                               : SPAN_NONE;
    ctl_print_device_state(j);
    if (json_count(list) == 0) {
        printf("\nnothing was refused\n");
    }
    for (size_t i = 0; i < json_count(list); i++) {
        print_refusal(json_at(list, i), assigned);
    }
}

static int run_explain(struct cli_args *a)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct service_answer ans = {0};
    struct err_info info = {0};
    enum err e = ctl_connect(a, CTL_DPS, 0, &s, &info);
    if (e != OK) {
        return cli_fail(e, &info);
    }
    buf_add_str(&path, "/admin/refusals/");
    service_path_add(&path, span_str(a->words[0]));
    buf_add_u8(&path, '\0');
    const struct service_call c = {
        .method = "GET", .path = (const char *)path.p, .api_version = SERVICE_ADMIN_VERSION};
    int status = ctl_ask(s, &c, &ans);
    if (status == EXIT_DONE && a->is_json) {
        ctl_print_json(stdout, ans.json);
    } else if (status == EXIT_DONE) {
        print_all(ans.json);
    }
    service_answer_done(&ans);
    return status;
}

static const struct cli_option options[] = {CTL_CONNECT_OPTIONS};
const struct cli_command ctl_dps_explain = {"dps explain",
                                            "ID",
                                            "Explain why a device was refused, and how to mend it.",
                                            options,
                                            ARRAY_LEN(options),
                                            1,
                                            1,
                                            run_explain};
