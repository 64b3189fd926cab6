/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a server as a process: options, --init, start, reload under load, drain. */
#include "server/tests/fixture.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "server/tests/mini.h"

static void has(struct span text, const char *want)
{
    if (memmem(text.p, text.n, want, strlen(want)) == NULL) {
        fail_msg("\"%s\" is not in: %.*s", want, SPAN_ARG(text));
    }
}

/* --- options and configuration ---------------------------------------------------------------------- */

static void test_options(void **state)
{
    (void)state;
    static const struct {
        const char *args[4];
        int rc;
        const char *says;
    } rows[] = {
        {{"--help"}, 0, "--ready-fd N"},
        {{"--version"}, 0, "berth-mini " PACKAGE_VERSION},
        {{"--dump-config"}, 0, "drain-seconds"},
        {{"--nonsense"}, 2, "--help"},
        {{"stray"}, 2, "unexpected argument \"stray\""},
        {{"--ready-fd", "x"}, 2, "--ready-fd wants"},
        {{"--check-config"}, 0, "configuration is good"},
        {{"--check-config", "--config", "/nonexistent/x.conf"}, 1, "/nonexistent/x.conf"},
        {{"--check-config", "--set", "server.no-such=1"}, 1, "no-such"},
        {{"--check-config", "--set", "server.https-port=65536"}, 1, "https-port"},
        {{"--check-config", "--set", "server.names="}, 1, "server.names"},
        {{"--check-config", "--set", "server.mqtts-port=20443"}, 1, "are the same"},
        {{"--check-config", "--set", "log.level=loud"}, 1, "log.level"},
        {{"--check-config", "--set", "log.format=xml"}, 1, "log.format"},
        {{"--check-config", "--set", "metrics.listen=0.0.0.0:9100"}, 1, "loopback"},
        {{"--check-config", "--set", "metrics.listen=127.0.0.1"}, 1, "address:port"},
        {{"--check-config", "--set", "tls.cert=/nonexistent/c.pem"}, 1, "/nonexistent/c.pem"},
        {{"--check-config", "--set", "server.workers=65"}, 1, "workers"},
    };
    struct fix f;
    fix_setup(&f);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(1u << 20);
        int rc = fix_run(&f, rows[i].args, &out);
        if (rc != rows[i].rc) {
            fail_msg("%s %s: %d: %.*s", rows[i].args[0], rows[i].args[2], rc,
                     SPAN_ARG(buf_span(&out)));
        }
        has(buf_span(&out), rows[i].says);
        buf_done(&out);
    }
    assert_false(fs_exists(f.data)); /* checking touches nothing */
    fix_teardown(&f);
}

static void test_bad_file(void **state)
{
    (void)state;
    struct fix f;
    char path[200];
    struct buf out = BUF_INIT(1u << 20);
    fix_setup(&f);
    (void)snprintf(path, sizeof(path), "%s/mini.conf", f.dir);
    fix_write(path, SPAN_LIT("[server]\nworkers = 1\nwhat = 2\n"));
    const char *const args[] = {"--check-config", "--config", path, NULL};
    assert_int_equal(fix_run(&f, args, &out), 1);
    has(buf_span(&out), "what");
    fix_write(path, SPAN_LIT("[server]\nworkers = 1\n"));
    buf_reset(&out);
    assert_int_equal(fix_run(&f, args, &out), 0);
    buf_done(&out);
    fix_teardown(&f);
}

/* --- --init ------------------------------------------------------------------------------------------ */

static void test_init(void **state)
{
    (void)state;
    struct fix f;
    struct stat st;
    struct buf first = BUF_INIT(1u << 16), second = BUF_INIT(1u << 16), out = BUF_INIT(1u << 16);
    struct err_info info = {0};
    char path[200], word[64];
    const char *const args[] = {"--init", NULL};
    fix_setup(&f);
    assert_int_equal(fix_run(&f, NULL, &out), 1); /* not before --init */
    has(buf_span(&out), "--init");
    fix_init(&f);
    (void)snprintf(path, sizeof(path), "%s/init.json", f.data);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(f.data, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_ok(fs_read(path, &first, &info));
    has(buf_span(&first), "\"rights\":\"Read, Write, Device\"");
    fix_json_str(buf_span(&first), "idScope", word, sizeof(word));
    assert_string_equal(word, "0ne0000TEST");
    assert_int_equal(strlen(f.key[0]), 44);
    assert_string_not_equal(f.key[0], f.key[1]);
    /* Again: nothing changes, with the file and without it. */
    buf_reset(&out);
    assert_int_equal(fix_run(&f, args, &out), 0);
    has(buf_span(&out), "nothing changed");
    assert_ok(fs_read(path, &second, &info));
    assert_span(buf_span(&second), buf_span(&first));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(fix_run(&f, args, NULL), 0);
    assert_false(fs_exists(path));
    buf_done(&first);
    buf_done(&second);
    buf_done(&out);
    fix_teardown(&f);
}

/* A crash between init.json and the commit leaves a folder that is made anew. */
static void test_init_half_way(void **state)
{
    (void)state;
    struct fix f;
    char path[200], stale[128];
    fix_setup(&f);
    fix_init(&f);
    memcpy(stale, f.key[0], sizeof(stale));
    (void)snprintf(path, sizeof(path), "%s/registry.db", f.data);
    assert_int_equal(unlink(path), 0); /* as if the commit had not been */
    (void)snprintf(path, sizeof(path), "%s/registry.db-wal", f.data);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/registry.db-shm", f.data);
    (void)unlink(path);
    fix_init(&f);
    assert_string_not_equal(f.key[0], stale);
    fix_teardown(&f);
}

/* --- start -------------------------------------------------------------------------------------------- */

static void metrics_url(struct fix *f, const char *path, char *dst, size_t n)
{
    struct buf b = BUF_INIT(4096);
    struct err_info info = {0};
    char file[200], url[128];
    (void)snprintf(file, sizeof(file), "%s/status.json", f->data);
    assert_ok(fs_read(file, &b, &info));
    fix_json_str(buf_span(&b), "metrics", url, sizeof(url));
    url[strlen(url) - strlen("/metrics")] = '\0';
    (void)snprintf(dst, n, "%s%s", url, path);
    buf_done(&b);
}

static void test_start(void **state)
{
    (void)state;
    struct fix f, other;
    struct answer a;
    char url[256];
    struct buf out = BUF_INIT(1u << 20);
    fix_setup(&f);
    fix_init(&f);
    fix_start(&f, NULL);

    const struct ask hello = {.method = "GET", .path = "/hello"};
    fix_ask(&f, &hello, &a);
    assert_int_equal(a.status, 200);
    assert_span(buf_span(&a.body), SPAN_LIT("hello"));
    answer_done(&a);
    static const char *const healthy[] = {"/healthz", "/readyz"};
    for (size_t i = 0; i < ARRAY_LEN(healthy); i++) {
        metrics_url(&f, healthy[i], url, sizeof(url));
        fix_get_plain(url, &a);
        assert_int_equal(a.status, 200);
        answer_done(&a);
    }
    metrics_url(&f, "/metrics", url, sizeof(url));
    fix_get_plain(url, &a);
    assert_int_equal(a.status, 200);
    has(buf_span(&a.body), "berth_mini_hello_total 1\n");
    has(buf_span(&a.body), "# TYPE berth_tls_handshakes_total counter");
    answer_done(&a);

    /* The folder is locked; then, from another folder, the port is taken. */
    assert_int_equal(fix_run(&f, NULL, &out), 1);
    has(buf_span(&out), "E_IN_USE");
    fix_setup(&other);
    fix_init(&other);
    memcpy(other.address, f.address, sizeof(f.address));
    buf_reset(&out);
    assert_int_equal(fix_run(&other, NULL, &out), 1);
    has(buf_span(&out), "is in use");
    fix_teardown(&other);

    assert_int_equal(fix_stop(&f, SIGTERM), 0);
    has(buf_span(&f.log), "server.ready");
    has(buf_span(&f.log), "server.stopped");
    (void)snprintf(url, sizeof(url), "%s/status.json", f.data);
    assert_false(fs_exists(url));
    fix_start(&f, NULL); /* and it starts again from what is there */
    assert_int_equal(fix_stop(&f, SIGINT), 0);
    buf_done(&out);
    fix_teardown(&f);
}

/* --- reload under load ----------------------------------------------------------------------------------- */

struct load {
    struct fix *f;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic unsigned ok, failed;
    char ca_file[192]; /* as it was when the connection began */
};

static size_t drop_body(char *p, size_t size, size_t n, void *arg)
{
    (void)p;
    (void)arg;
    return size * n;
}

/* Requests without pause over one connection: a reload must not end it. */
static void *run_load(void *arg)
{
    struct load *l = arg;
    char url[256];
    CURL *c = curl_easy_init();
    (void)snprintf(url, sizeof(url), "https://%s:%d/hello", l->f->address, FIX_HTTPS_PORT);
    (void)curl_easy_setopt(c, CURLOPT_URL, url);
    (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, drop_body);
    (void)curl_easy_setopt(c, CURLOPT_CAINFO, l->ca_file);
    while (!atomic_load(&l->stop)) {
        long status = 0, connects = 0;
        CURLcode rc = curl_easy_perform(c);
        (void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
        (void)curl_easy_getinfo(c, CURLINFO_NUM_CONNECTS, &connects);
        bool is_first = atomic_load(&l->ok) == 0;
        if (rc == CURLE_OK && status == 200 && (connects == 0 || is_first)) {
            atomic_fetch_add(&l->ok, 1);
        } else {
            atomic_fetch_add(&l->failed, 1);
        }
    }
    curl_easy_cleanup(c);
    return NULL;
}

/* Spins on a counter that another thread moves: a condition, not a time. */
static void more_load(struct load *l, unsigned n)
{
    unsigned from = atomic_load(&l->ok);
    while (atomic_load(&l->ok) < from + n && atomic_load(&l->failed) == 0) {
        (void)usleep(500);
    }
}

static void ask_hello(struct fix *f, long want)
{
    struct answer a;
    const struct ask hello = {.method = "GET", .path = "/hello"};
    fix_ask(f, &hello, &a);
    if (a.status != want) {
        fail_msg("status %ld, not %ld: %s", a.status, want, a.curl_error);
    }
    answer_done(&a);
}

static void test_reload(void **state)
{
    (void)state;
    struct fix f;
    struct load l = {.f = &f};
    size_t seen = 0;
    char old_ca[192], now_ca[192];
    struct buf cert = BUF_INIT(1u << 16);
    struct err_info info = {0};
    fix_setup(&f);
    fix_init(&f);
    fix_start(&f, NULL);
    (void)snprintf(old_ca, sizeof(old_ca), "%s/old-ca.pem", f.dir);
    assert_ok(fs_read(f.ca_file, &cert, &info));
    fix_write(old_ca, buf_span(&cert));
    memcpy(l.ca_file, old_ca, sizeof(old_ca));
    assert_int_equal(pthread_create(&l.thread, NULL, run_load, &l), 0);
    more_load(&l, 20);

    /* A certificate of another CA: new connections see it, the old one goes on. */
    fix_make_tls(&f);
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    fix_wait_log(&f, "server.reload.done", &seen);
    ask_hello(&f, 200);
    memcpy(now_ca, f.ca_file, sizeof(now_ca));
    memcpy(f.ca_file, old_ca, sizeof(old_ca));
    ask_hello(&f, 0);
    memcpy(f.ca_file, now_ca, sizeof(now_ca));
    more_load(&l, 20);

    /* Damaged: refused whole, nothing changes. */
    fix_write(f.cert_file, SPAN_LIT("-----BEGIN CERTIFICATE-----\nrubbish\n"));
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    fix_wait_log(&f, "server.reload.refused", &seen);
    ask_hello(&f, 200);
    more_load(&l, 20);

    atomic_store(&l.stop, true);
    (void)pthread_join(l.thread, NULL);
    assert_int_equal(atomic_load(&l.failed), 0);
    assert_int_equal(fix_stop(&f, SIGTERM), 0);
    buf_done(&cert);
    fix_teardown(&f);
}

static void test_reload_fixed(void **state)
{
    (void)state;
    struct fix f;
    size_t seen = 0;
    char path[200];
    const char *const args[] = {"--config", path, NULL};
    fix_setup(&f);
    fix_init(&f);
    (void)snprintf(path, sizeof(path), "%s/mini.conf", f.dir);
    fix_write(path, SPAN_LIT("[server]\nworkers = 2\n[log]\nlevel = info\n"));
    fix_start(&f, args);
    fix_write(path, SPAN_LIT("[server]\nworkers = 3\n[log]\nlevel = debug\n"));
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    fix_wait_log(&f, "server.reload.needs-restart", &seen);
    fix_wait_log(&f, "workers", &seen);
    fix_wait_log(&f, "server.reload.done", &seen);
    fix_write(path, SPAN_LIT("[server]\nworkers = many\n"));
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    fix_wait_log(&f, "server.reload.refused", &seen);
    ask_hello(&f, 200);
    assert_int_equal(fix_stop(&f, SIGTERM), 0);
    fix_teardown(&f);
}

/* --- drain --------------------------------------------------------------------------------------------- */

struct asking {
    struct fix *f;
    const char *path;
    struct answer a;
    pthread_t thread;
};

static void *run_ask(void *arg)
{
    struct asking *x = arg;
    const struct ask q = {.method = "GET", .path = x->path};
    fix_ask(x->f, &q, &x->a);
    return NULL;
}

/* Until the server counts so; it publishes once a second. */
static void wait_metric(struct fix *f, const char *want)
{
    char url[256];
    metrics_url(f, "/metrics", url, sizeof(url));
    for (bool is_found = false; !is_found;) {
        struct answer a;
        fix_get_plain(url, &a);
        assert_int_equal(a.status, 200);
        is_found = memmem(a.body.p, a.body.n, want, strlen(want)) != NULL;
        answer_done(&a);
        (void)usleep(20000);
    }
}

static void begin_ask(struct asking *x, struct fix *f, const char *path)
{
    *x = (struct asking){.f = f, .path = path};
    assert_int_equal(pthread_create(&x->thread, NULL, run_ask, x), 0);
    wait_metric(f, "berth_http_open 1\n");
}

static void end_ask(struct asking *x, long want)
{
    (void)pthread_join(x->thread, NULL);
    assert_int_equal(x->a.status, want);
    assert_true(x->a.closes);
    answer_done(&x->a);
}

static void test_drain(void **state)
{
    (void)state;
    struct fix f;
    struct asking x;
    size_t seen = 0;
    fix_setup(&f);
    fix_init(&f);
    /* What is under way is answered. */
    fix_start(&f, NULL);
    begin_ask(&x, &f, "/wait-drain");
    assert_int_equal(fix_stop(&f, SIGTERM), 0);
    end_ask(&x, 200);
    fix_wait_log(&f, "in_time=true", &seen);
    /* What takes too long hears 503, and is not just cut off. */
    fix_start(&f, NULL);
    begin_ask(&x, &f, "/wait-ever");
    assert_int_equal(fix_stop(&f, SIGTERM), 0);
    end_ask(&x, 503);
    fix_wait_log(&f, "in_time=true", &seen);
    fix_teardown(&f);
}

/* A link on the MQTT port that nobody closes. */
static CURL *open_link(struct fix *f)
{
    char url[256];
    CURL *c = curl_easy_init();
    (void)snprintf(url, sizeof(url), "https://%s:%d/", f->address, FIX_MQTTS_PORT);
    (void)curl_easy_setopt(c, CURLOPT_URL, url);
    (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_CAINFO, f->ca_file);
    (void)curl_easy_setopt(c, CURLOPT_CONNECT_ONLY, 1L);
    assert_int_equal(curl_easy_perform(c), CURLE_OK);
    return c;
}

static void test_drain_deadline(void **state)
{
    (void)state;
    struct fix f;
    size_t seen = 0;
    char url[256];
    struct answer a;
    fix_setup(&f);
    fix_init(&f);
    const char *const one[] = {"--set", "server.drain-seconds=1", NULL};
    fix_start(&f, one);
    CURL *link = open_link(&f);
    wait_metric(&f, "berth_tls_handshakes_total{result=\"ok\"} 1\n");
    assert_int_equal(fix_stop(&f, SIGTERM), 0);
    fix_wait_log(&f, "in_time=false", &seen);
    curl_easy_cleanup(link);

    const char *const hour[] = {"--set", "server.drain-seconds=3600", NULL};
    fix_start(&f, hour);
    link = open_link(&f);
    wait_metric(&f, "berth_tls_handshakes_total{result=\"ok\"} 1\n");
    metrics_url(&f, "/readyz", url, sizeof(url));
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    fix_wait_log(&f, "server.draining", &seen);
    fix_get_plain(url, &a);
    assert_int_equal(a.status, 503);
    has(buf_span(&a.body), "draining");
    answer_done(&a);
    ask_hello(&f, 0); /* not listening any more */
    assert_int_equal(fix_stop(&f, SIGTERM), 0);
    has(buf_span(&f.log), "server.drain.cut-short");
    curl_easy_cleanup(link);
    fix_teardown(&f);
}

/* --- the service manager ------------------------------------------------------------------------- */

static int open_notify(struct fix *f)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/notify", f->dir);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", a.sun_path, 1), 0);
    return fd;
}

static void wait_notify(int fd, const char *want)
{
    char text[256];
    ssize_t n = recv(fd, text, sizeof(text) - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
    if (strncmp(text, want, strlen(want)) != 0) {
        fail_msg("notified \"%s\", not \"%s\"", text, want);
    }
}

static void test_notify(void **state)
{
    (void)state;
    struct fix f;
    fix_setup(&f);
    fix_init(&f);
    int fd = open_notify(&f);
    fix_start(&f, NULL);
    wait_notify(fd, "READY=1");
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    wait_notify(fd, "RELOADING=1\nMONOTONIC_USEC=");
    wait_notify(fd, "READY=1");
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    wait_notify(fd, "STOPPING=1");
    assert_int_equal(fix_stop(&f, 0), 0);
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    (void)close(fd);
    fix_teardown(&f);
}

/* --- bounds ------------------------------------------------------------------------------------------ */

static void test_low_disk(void **state)
{
    (void)state;
    struct fix f;
    struct answer a;
    char url[256], token[512];
    const char *const args[] = {"--set", "store.disk-reserve=9000000G", NULL};
    fix_setup(&f);
    fix_init(&f);
    fix_start(&f, args);
    static const char *const paths[] = {"/readyz", "/healthz"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        metrics_url(&f, paths[i], url, sizeof(url));
        fix_get_plain(url, &a);
        assert_int_equal(a.status, 503);
        has(buf_span(&a.body), "disk");
        answer_done(&a);
    }
    /* Nothing new is written, but taking a right away must still work. */
    (void)fix_token(f.address, f.key[0], "owner", 60, token);
    struct ask q = {.method = "PUT",
                    .path = "/admin/policies/x?api-version=2026-11-01-berth",
                    .token = token,
                    .body = "{\"rights\":\"Read\"}"};
    fix_ask(&f, &q, &a);
    assert_int_equal(a.status, 500);
    answer_done(&a);
    q = (struct ask){.method = "DELETE",
                     .path = "/admin/policies/service?api-version=2026-11-01-berth",
                     .token = token,
                     .if_match = "*"};
    fix_ask(&f, &q, &a);
    assert_int_equal(a.status, 204);
    answer_done(&a);
    assert_int_equal(fix_stop(&f, SIGTERM), 0);
    fix_teardown(&f);
}

static void test_max_connections(void **state)
{
    (void)state;
    struct fix f;
    size_t seen = 0;
    const char *const args[] = {
        "--set", "server.workers=1",       "--set", "server.max-connections=2",
        "--set", "server.drain-seconds=0", NULL};
    fix_setup(&f);
    fix_init(&f);
    fix_start(&f, args);
    CURL *link = open_link(&f);
    CURL *more = open_link(&f);
    /* Both are in, as the server sees it: a client is done before the server has read its last. */
    wait_metric(&f, "berth_tls_handshakes_total{result=\"ok\"} 2\n");
    ask_hello(&f, 0); /* one too many */
    fix_wait_log(&f, "server.connections.limit", &seen);
    curl_easy_cleanup(link);
    wait_metric(&f, "berth_connections_open 1\n");
    ask_hello(&f, 200);
    curl_easy_cleanup(more);
    assert_int_equal(fix_stop(&f, SIGTERM), 0);
    fix_teardown(&f);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "mini-server") == 0) {
        return server_main(&mini_program, argc - 1, argv + 1);
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),        cmocka_unit_test(test_bad_file),
        cmocka_unit_test(test_init),           cmocka_unit_test(test_init_half_way),
        cmocka_unit_test(test_start),          cmocka_unit_test(test_reload),
        cmocka_unit_test(test_reload_fixed),   cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_deadline), cmocka_unit_test(test_notify),
        cmocka_unit_test(test_low_disk),       cmocka_unit_test(test_max_connections),
    };
    return cmocka_run_group_tests_name("server life", tests, NULL, NULL);
}
