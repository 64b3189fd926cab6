/* SPDX-License-Identifier: Apache-2.0 */
/* berth device revoke: cuts devices off at the DPS and at their hubs, and tells what is not done yet. */
#include <stdlib.h>
#include <time.h>

#include "base/limits.h"
#include "base/text.h"
#include "ctl/ctl.h"

#define LIST_MAX (64u << 20)
#define PAUSE_MS 100u

struct revoke {
    struct service *s;
    const struct cli_args *a;
    struct json *ids;  /* array of texts: each once */
    struct json *left; /* array: those with a hub that has not answered yet */
    uint64_t done, failed;
};

static struct span str_of(const struct json *j, const char *name)
{
    return json_str(json_get(j, name));
}

static void say(const char *before, struct span v)
{
    fputs(before, stdout);
    cli_print_safe(stdout, v);
}

/* --- whom ------------------------------------------------------------------------------------------------- */

/* "pump-7", or a line of JSON with registrationId, as the ledger of a station has it. */
static enum err add_line(struct json *ids, struct span line, struct err_info *info)
{
    AUTO(json_free_p) struct json *o = NULL;
    line = span_trim(line);
    if (line.n == 0) {
        return OK;
    }
    if (line.p[0] == '{') {
        enum err e = json_read_object(line, LIMIT_DPS_BODY, &o, info);
        if (e != OK) {
            return e;
        }
        line = str_of(o, "registrationId");
        if (line.n == 0 && span_is(str_of(o, "event"), "bound")) {
            return OK; /* that the station is bound to an office is of no unit */
        }
        if (line.n == 0) {
            return err_set(info, E_ARG, "a line has no registrationId");
        }
    }
    return json_add(ids, json_new_str(line));
}

static int by_text(const void *a, const void *b)
{
    return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

/* A ledger names each unit twice. */
static enum err once_each(const struct json *all, struct json *ret)
{
    size_t n = json_count(all);
    struct span *v = calloc(n + 1, sizeof(*v));
    enum err e = v != NULL ? OK : E_NOMEM;
    for (size_t i = 0; e == OK && i < n; i++) {
        v[i] = json_str(json_at(all, i));
    }
    if (e == OK) {
        qsort(v, n, sizeof(*v), by_text);
    }
    for (size_t i = 0; e == OK && i < n; i++) {
        if (i == 0 || !span_eq(v[i], v[i - 1])) {
            e = json_add(ret, json_new_str(v[i]));
        }
    }
    free(v);
    return e;
}

static enum err read_list(const char *file, struct json *ids, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIST_MAX);
    AUTO(json_free_p) struct json *all = json_new_array();
    enum err e = all == NULL ? E_NOMEM : ctl_read_file_or_stdin(file, &text, info);
    struct span rest = buf_span(&text);
    for (unsigned long n = 1; e == OK && rest.n != 0; n++) {
        if ((e = add_line(all, span_cut(&rest, '\n'), info)) != OK) {
            (void)err_wrap(info, e, "line %lu", n);
        }
    }
    return e != OK ? e : once_each(all, ids);
}

/* --- what came of it ----------------------------------------------------------------------------------------- */

static void print_one(const struct json *j)
{
    const struct json *hubs = json_get(j, "hubs"), *certs = json_get(j, "certificates");
    say("", str_of(j, "registrationId"));
    printf(": %s\n", span_is(str_of(j, "enrollment"), "made")
                         ? "a disabled enrollment of its own was made, which beats its group"
                         : "its enrollment is disabled");
    if (json_count(hubs) == 0) {
        printf("  it never registered: no hub has it\n");
    }
    for (size_t i = 0; i < json_count(hubs); i++) {
        const struct json *h = json_at(hubs, i);
        say("  ", str_of(h, "hub"));
        say(": device '", str_of(h, "deviceId"));
        say("' ", str_of(h, "state"));
        if (span_is(str_of(h, "state"), "refused")) {
            printf(" by the hub, status %lld: disable it there by hand",
                   (long long)json_int(json_get(h, "httpStatus")));
        }
        putchar('\n');
    }
    for (size_t i = 0; i < json_count(certs); i++) {
        const struct json *c = json_at(certs, i);
        say("  certificate ", str_of(c, "serialNumber"));
        say(" of '", str_of(c, "certificateAuthorityName"));
        say("': no more renewed; its own end is ", str_of(c, "notAfterUtc"));
        putchar('\n');
    }
}

static bool was_refused(const struct json *j)
{
    const struct json *hubs = json_get(j, "hubs");
    for (size_t i = 0; i < json_count(hubs); i++) {
        if (span_is(str_of(json_at(hubs, i), "state"), "refused")) {
            return true;
        }
    }
    return false;
}

/* One request; *ret_pending: a hub has not answered yet. */
static int ask(struct revoke *r, struct span id, const char *method, const char *tail, bool is_last,
               bool *ret_pending)
{
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct service_answer ans = {0};
    buf_add_str(&path, "/admin/devices/");
    service_path_add(&path, id);
    buf_add_str(&path, tail);
    buf_add_u8(&path, '\0');
    if (buf_err(&path) != OK) {
        return cli_fail(buf_err(&path), NULL);
    }
    const struct service_call c = {
        .method = method, .path = (const char *)path.p, .api_version = SERVICE_ADMIN_VERSION};
    int status = ctl_ask(r->s, &c, &ans);
    *ret_pending = status == EXIT_DONE && span_is(str_of(ans.json, "state"), "pending");
    if (status == EXIT_DONE && (!*ret_pending || is_last)) {
        if (r->a->is_json) {
            ctl_print_json(stdout, ans.json);
        } else {
            print_one(ans.json);
        }
        bool is_whole = !*ret_pending && !was_refused(ans.json);
        r->done += is_whole;
        r->failed += !is_whole;
    }
    service_answer_done(&ans);
    return status;
}

static int begin_all(struct revoke *r)
{
    int worst = EXIT_DONE;
    for (size_t i = 0; i < json_count(r->ids) && !cli_interrupted; i++) {
        struct span id = json_str(json_at(r->ids, i));
        bool is_pending;
        int status = ask(r, id, "POST", "/revoke", false, &is_pending);
        if (status != EXIT_DONE) {
            fprintf(stderr, "'");
            cli_print_safe(stderr, id);
            fprintf(stderr, "' is not revoked\n");
            r->failed++;
            worst = status;
        } else if (is_pending && json_add(r->left, json_new_str(id)) != OK) {
            return cli_fail(E_NOMEM, NULL);
        }
    }
    return worst;
}

static uint64_t mono_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static int wait_all(struct revoke *r, uint64_t wait_s)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    uint64_t until = mono_ms() + wait_s * 1000u;
    for (size_t i = 0; i < json_count(r->left) && !cli_interrupted;) {
        bool is_last = mono_ms() >= until, is_pending;
        int status =
            ask(r, json_str(json_at(r->left, i)), "GET", "/revocation", is_last, &is_pending);
        if (status != EXIT_DONE) {
            return status;
        }
        if (!is_pending || is_last) {
            i++;
        } else {
            (void)nanosleep(&pause, NULL);
        }
    }
    return EXIT_DONE;
}

static int run_revoke(struct cli_args *a)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(json_free_p) struct json *ids = json_new_array(), *left = json_new_array();
    struct err_info info = {0};
    const char *file = cli_get(a, "list");
    uint64_t wait_s = 20;
    if ((a->n_words == 1) == (file != NULL)) {
        return cli_failf(EXIT_USAGE, "device revoke wants an id, or --list FILE");
    }
    if (!cli_number(a, "wait", 0, 3600, &wait_s)) {
        return cli_failf(EXIT_USAGE, "--wait wants 0 to 3600 seconds");
    }
    enum err e = ids == NULL || left == NULL ? E_NOMEM
                 : file != NULL              ? read_list(file, ids, &info)
                                             : json_add(ids, json_new_str(span_str(a->words[0])));
    if (e != OK || (e = ctl_connect(a, CTL_DPS, 0, &s, &info)) != OK) {
        return cli_fail(e, &info);
    }
    struct revoke r = {.s = s, .a = a, .ids = ids, .left = left};
    int status = begin_all(&r);
    int waited = wait_all(&r, wait_s);
    status = status != EXIT_DONE ? status : waited;
    if (cli_interrupted) {
        return EXIT_INTERRUPTED;
    }
    if (!a->is_json && file != NULL) {
        printf("%llu cut off, %llu not yet or refused\n", (unsigned long long)r.done,
               (unsigned long long)r.failed);
    }
    if (status == EXIT_DONE && r.failed != 0) {
        return cli_failf(EXIT_FAILED,
                         "not everything is done: the DPS goes on asking a hub that is "
                         "away; the same command tells how far it is");
    }
    return status;
}

/* clang-format off */
static const struct cli_option options[] = {
    CTL_CONNECT_OPTIONS,
    { "list", "FILE", "Many: a registration id a line, or JSON lines with registrationId, such as a station's ledger; '-': standard input." },
    { "wait", "S", "How long to wait for the hubs (20)." },
};
const struct cli_command ctl_device_revoke = {
    "device revoke", "(ID | --list FILE) [--wait S]", "Cut a device off at the DPS and at its hub: one that was stolen.",
    options, ARRAY_LEN(options), 0, 1, run_revoke};
/* clang-format on */
