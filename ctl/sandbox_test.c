/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of a sandbox: told apart from others of the same number, ended only when they are ours. */
#include "ctl/local_peer.h"
#include "ctl/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "tests/unit.h"

static char dir[] = "/tmp/berth-sandbox-XXXXXX";
static struct sandbox sb;

static int begin(void **state)
{
    (void)state;
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    memset(&sb, 0, sizeof(sb));
    sb.dir = dir;
    sb.n = 3;
    for (unsigned i = 0; i < sb.n; i++) {
        (void)snprintf(sb.server[i].name, sizeof(sb.server[i].name), i == 0 ? "dps" : "hub%u", i);
        sb.server[i].ready_fd = -1;
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/pids.json", dir);
    (void)unlink(path);
    return rmdir(dir);
}

static void put(const char *text)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/pids.json", dir);
    assert_ok(fs_write_atomic(path, span_str(text), 0600, NULL));
}

static void test_stat_lines(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct {
        const char *name, *line;
        uint64_t want;
    } rows[] = {
        { "plain",        "7 (sh) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 2200 23 24\n",        2200 },
        { "odd name",     "7 (a) R 1 (b c) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 2200 23\n",  2200 },
        { "zombie",       "7 (sh) Z 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 2200 23 24\n",        0 },
        { "too short",    "7 (sh) S 4 5 6\n",                                                             0 },
        { "no number",    "7 (sh) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 x 23 24\n",           0 },
        { "no name",      "7 S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 2200 23\n",                0 },
        { "nothing",      "",                                                                             0 },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t v = sandbox_start_of_line(span_str(rows[i].line));
        if (v != rows[i].want) {
            fail_msg("%s: %llu", rows[i].name, (unsigned long long)v);
        }
    }
}

/* A name with everything that a name may hold, as the system writes it. */
static void test_own_start(void **state)
{
    (void)state;
    uint64_t v = sandbox_start_of(getpid());
    assert_true(v > 0);
    assert_int_equal(prctl(PR_SET_NAME, ") R 1 2 (", 0, 0, 0), 0);
    assert_int_equal(sandbox_start_of(getpid()), v);
    assert_int_equal(sandbox_start_of(-1), 0);
    assert_int_equal(sandbox_start_of(INT64_MAX), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(0);
    }
    siginfo_t si;
    assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
    assert_int_equal(sandbox_start_of(pid), 0); /* ended, not yet fetched */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_pids(void **state)
{
    (void)state;
    char text[256];
    assert_ok(sandbox_load_pids(&sb, NULL)); /* no file: nobody runs */
    sb.server[0].pid = getpid();
    sb.server[0].start = sandbox_start_of(getpid());
    sb.server[1].pid = getpid();
    sb.server[1].start = sb.server[0].start + 1; /* the number was used again */
    assert_ok(sandbox_save_pids(&sb, NULL));
    sb.server[2].pid = 77;
    assert_ok(sandbox_load_pids(&sb, NULL));
    assert_int_equal(sb.server[0].pid, getpid());
    assert_int_equal(sb.server[1].pid, 0);
    assert_int_equal(sb.server[2].pid, 0);
    static const char *const odd[] = {"{\"dps\":{\"pid\":-1,\"start\":1}}",
                                      "{\"dps\":{\"pid\":0,\"start\":0}}",
                                      "{\"dps\":{\"pid\":\"x\"}}", "{\"dps\":5}", "{}"};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        put(odd[i]);
        sb.server[0].pid = 5;
        assert_ok(sandbox_load_pids(&sb, NULL));
        assert_int_equal(sb.server[0].pid, 0);
    }
    (void)snprintf(text, sizeof(text), "{\"dps\":{\"pid\":%lld}", (long long)getpid());
    put(text);
    assert_true(sandbox_load_pids(&sb, NULL) != OK); /* cut off */
}

static void child(unsigned i, bool is_ours, bool is_stubborn)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGTERM, is_stubborn ? SIG_IGN : SIG_DFL);
        (void)!write(ready[1], "r", 1); /* whoever waits sees the end of the pipe otherwise */
        for (;;) {
            (void)pause();
        }
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    sb.server[i].pid = pid;
    sb.server[i].start = sandbox_start_of(pid);
    sb.server[i].is_ours = is_ours;
}

static void test_stop(void **state)
{
    (void)state;
    child(0, true, false);
    child(1, true, true);
    child(2, false, false);
    pid_t gentle = (pid_t)sb.server[0].pid, stubborn = (pid_t)sb.server[1].pid,
          other = (pid_t)sb.server[2].pid;
    int status;
    sandbox_stop(&sb, true, 100);
    assert_int_equal(waitpid(gentle, &status, WNOHANG), -1); /* fetched */
    assert_int_equal(waitpid(stubborn, &status, WNOHANG), -1);
    assert_int_equal(sb.server[0].pid, 0);
    assert_int_equal(sb.server[1].pid, 0);
    assert_int_equal(sb.server[2].pid, other);
    assert_true(sandbox_start_of(other) != 0);
    /* Its number with another start is another process: no signal. */
    sb.server[2].start++;
    sandbox_stop(&sb, false, 100);
    assert_true(sandbox_start_of(other) != 0);
    sb.server[2].pid = other;
    sb.server[2].start = sandbox_start_of(other);
    sandbox_stop(&sb, false, 5000);
    assert_int_equal(waitpid(other, &status, 0), other);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

/* Whose is a connection of this host: the kernel's table, read strictly (threat E4). */
static void test_local_peer(void **state)
{
    (void)state;
    static const char table[] = "  sl  local_address rem_address   st tx_queue rx_queue tr "
                                "tm->when retrnsmt   uid  timeout inode\n"
                                "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 "
                                "00:00000000 00000000  1000        0 1 1\n"
                                "   1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 "
                                "00:00000000 00000000 65534        0 2 1\n"
                                "   2: 0100007F:9C41 0100007F:1F90 06 00000000:00000000 "
                                "03:00001234 00000000     0        0 0 3\n";
    unsigned long uid = 0;
    assert_true(local_peer_in_table(table, "0100007F:9C40", "0100007F:1F90", &uid));
    assert_int_equal(uid, 65534);
    assert_true(local_peer_in_table(table, "0100007F:1F90", "00000000:0000", &uid));
    assert_int_equal(uid, 1000);
    assert_false(
        local_peer_in_table(table, "0100007F:9C40", "0100007F:1F91", &uid)); /* to another place */
    assert_false(local_peer_in_table(table, "0100007F:9C4", "0100007F:1F90", &uid));
    assert_false(
        local_peer_in_table(table, "0100007F:9C41", "0100007F:1F90", &uid)); /* TIME_WAIT */
    assert_false(local_peer_in_table("", "0100007F:9C40", "0100007F:1F90", &uid));
}

/* A table of a busy host is read in the time that its length asks for: its square would be minutes. */
static void test_local_peer_of_many(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(32u << 20);
    unsigned long uid = 0;
    for (unsigned i = 0; i < 200000; i++) {
        buf_addf(&b,
                 "%4u: 0100007F:%04X 0200007F:01BB 06 00000000:00000000 03:00001234 00000000     0 "
                 "       0 0 3 0000000000000000\n",
                 i, i & 0xffff);
    }
    buf_add_str(&b, "9999: 0100007F:1234 0300007F:01BB 01 00000000:00000000 00:00000000 00000000  "
                    "1000        0 7 1 0000000000000000 20 4 30 10 -1\n");
    buf_add_u8(&b, 0);
    assert_ok(buf_err(&b));
    assert_true(local_peer_in_table((const char *)b.p, "0100007F:1234", "0300007F:01BB", &uid));
    assert_int_equal(uid, 1000);
    assert_false(local_peer_in_table((const char *)b.p, "0100007F:1234", "0200007F:01BB", &uid));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_local_peer),
        cmocka_unit_test(test_local_peer_of_many),
        cmocka_unit_test(test_stat_lines),
        cmocka_unit_test(test_own_start),
        cmocka_unit_test_setup_teardown(test_pids, begin, end),
        cmocka_unit_test_setup_teardown(test_stop, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
