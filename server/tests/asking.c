/* SPDX-License-Identifier: Apache-2.0 */
#include "server/tests/asking.h"

#include <signal.h>
#include <stdio.h>

struct fix fx;
char owner[512];
struct answer last;

int asking_setup(void **state)
{
    const char *const args[] = {"--set", "server.workers=2", NULL};
    (void)state;
    fix_setup(&fx);
    fix_init(&fx);
    fix_start(&fx, args);
    (void)fix_token(fx.address, fx.key[0], "owner", 3600, owner);
    return 0;
}

int asking_teardown(void **state)
{
    (void)state;
    assert_int_equal(fix_stop(&fx, SIGTERM), 0);
    fix_teardown(&fx);
    return 0;
}

/* --- asking ------------------------------------------------------------------------------------------- */

void ask(const struct ask *q)
{
    struct answer now;
    fix_ask(&fx, q, &now); /* q may point into the last answer */
    answer_done(&last);
    last = now;
}

void expect(const char *what, long status, unsigned code)
{
    char want[32];
    (void)snprintf(want, sizeof(want), "\"errorCode\":%u,", code);
    bool has_code = code == 0 || memmem(last.body.p, last.body.n, want, strlen(want)) != NULL;
    if (last.status != status || !has_code) {
        fail_msg("%s: %ld %.*s %s, wanted %ld %u", what, last.status,
                 SPAN_ARG(buf_span(&last.body)), last.curl_error, status, code);
    }
}

void admin(const char *method, const char *path, const char *if_match, const char *body,
           long status, unsigned code)
{
    char full[512];
    (void)snprintf(full, sizeof(full), "/admin/%s%s" V, path,
                   strchr(path, '?') != NULL ? "&" : "?");
    const struct ask q = {
        .method = method, .path = full, .token = owner, .if_match = if_match, .body = body};
    ask(&q);
    expect(path, status, code);
}

bool body_has(const char *text)
{
    return memmem(last.body.p, last.body.n, text, strlen(text)) != NULL;
}

void member(const char *path, char *dst, size_t n)
{
    fix_json_str(buf_span(&last.body), path, dst, n);
}

void wait_body(const char *path, const char *text)
{
    const struct ask q = {.method = "GET", .path = path};
    do {
        ask(&q);
        expect(path, 200, 0);
    } while (!body_has(text));
}
