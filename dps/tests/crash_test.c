/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server is killed while it works, again and again: what was acknowledged (202) ends after the restart, under the same operation
 * id, and every device that is told a hub is on that hub.
 */
#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "dps/tests/bench.h"

#define ROUNDS 20u
#define MOST 24u

static char group_key[128];
static struct {
    char rid[32];
    char op[100]; /* empty: not acknowledged */
} asked[MOST];

static int setup(void **state)
{
    assert_int_equal(bench_setup(state), 0);
    service("PUT", "/enrollmentGroups/sym", NULL, "{\"attestation\":{\"type\":\"symmetricKey\"}}",
            200, 0);
    got_str("attestation.symmetricKey.primaryKey", group_key, sizeof(group_key));
    return 0;
}

/* A process that waits for a byte, then for so many microseconds of work of its own, and kills. */
static pid_t start_killer(int fd[2], unsigned spins)
{
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char c;
        (void)close(fd[1]);
        ssize_t n = read(fd[0], &c, 1);
        uint64_t until_us = (uint64_t)clock_wall_us(clock_system()) + spins;
        while (n == 1 && (uint64_t)clock_wall_us(clock_system()) < until_us) {
        }
        if (n == 1) {
            (void)kill(dps.pid, SIGKILL);
        }
        _exit(0);
    }
    (void)close(fd[0]);
    return pid;
}

static bool ask_one(unsigned i, const char *method, const char *tail)
{
    char path[400], key[64], token[512];
    (void)snprintf(path, sizeof(path), "/%s/registrations/%s/%s?api-version=2019-03-31", scope,
                   asked[i].rid, tail);
    const struct call c = {
        .method = method,
        .path = path,
        .body = "{}",
        .token = device_token(asked[i].rid, derived_key(group_key, asked[i].rid, key), token)};
    return call_try(&c);
}

static void check_end(unsigned i)
{
    char tail[200], path[100];
    (void)snprintf(tail, sizeof(tail), "operations/%s", asked[i].op);
    do {
        assert_true(ask_one(i, "GET", tail));
    } while (got.status == 202);
    if (got.status != 200 || !got_has("\"status\":\"assigned\"")) {
        fail_msg("%s: %ld %.*s", asked[i].rid, got.status, SPAN_ARG(buf_span(&got.body)));
    }
    (void)snprintf(path, sizeof(path), "/seen/%s", asked[i].rid);
    const struct call seen = {.method = "GET", .path = path, .at = &hub};
    call(&seen);
    assert_false(got_has("\"n\":0")); /* never assigned but absent */
    assert_true(got_has(asked[i].op));
}

static void one_round(unsigned round)
{
    unsigned at = (unsigned)random_below(MOST), n = 0;
    int fd[2], status;
    pid_t killer = start_killer(fd, (unsigned)random_below(8000));
    for (n = 0; n < MOST; n++) {
        (void)snprintf(asked[n].rid, sizeof(asked[n].rid), "crash-%u-%u", round, n);
        asked[n].op[0] = '\0';
        if (n == at) {
            assert_int_equal(write(fd[1], "x", 1), 1);
        }
        if (!ask_one(n, "PUT", "register")) {
            break;
        }
        assert_int_equal(got.status, 202);
        got_str("operationId", asked[n].op, sizeof(asked[n].op));
    }
    (void)close(fd[1]);
    assert_int_equal(waitpid(killer, &status, 0), killer);
    (void)fix_stop(&dps, 0);
    bench_start_dps();
    for (unsigned i = 0; i < MOST && i <= n; i++) {
        if (asked[i].op[0] != '\0') {
            check_end(i);
        }
    }
}

static void test_killed(void **state UNUSED)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        one_round(i);
    }
}

int main(int argc, char **argv)
{
    int rc = bench_server(argc, argv);
    if (rc >= 0) {
        return rc;
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_killed)};
    return cmocka_run_group_tests(tests, setup, bench_teardown);
}
