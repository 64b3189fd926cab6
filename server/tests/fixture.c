/* SPDX-License-Identifier: Apache-2.0 */
#include "server/tests/fixture.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/text.h"
#include "certs/keyring.h"
#include "wire/json.h"
#include "wire/sas.h"

#define LOG_MAX (4u << 20)
#define WAIT_MS 30000 /* only a broken test waits so long */
#define MAX_ARGS 32

/* --- folder and certificates ---------------------------------------------------------------------- */

void fix_write(const char *path, struct span content)
{
    struct err_info info = {0};
    assert_ok(fs_write_atomic(path, content, 0600, &info));
}

static void write_cert(const struct cert *c, const char *path)
{
    struct buf b = BUF_INIT(64u << 10);
    cert_add_pem(c, &b);
    assert_ok(buf_err(&b));
    fix_write(path, buf_span(&b));
    buf_done(&b);
}

void fix_make_tls(struct fix *f)
{
    struct err_info info = {0};
    struct signer_key *key = NULL;
    struct cert *leaf = NULL;
    int64_t now = clock_wall_us(clock_system());
    const char *const hosts[] = {f->address};
    struct cert_request rq = {.profile = PROFILE_ROOT_CA,
                              .cn = SPAN_LIT("Test Root"),
                              .not_before_us = now - 3600000000LL,
                              .not_after_us = now + 86400000000LL};
    signer_key_free(f->ca_key);
    cert_free(f->ca);
    f->ca_key = NULL;
    f->ca = NULL;
    assert_ok(signer_key_generate(KEY_P256, &f->ca_key));
    assert_ok(signer_issue_now(f->ca_key, NULL, NULL, NULL, &rq, &f->ca, &info));
    rq.profile = PROFILE_SERVER;
    rq.not_after_us -= 3600000000LL; /* inside its issuer's dates */
    rq.cn = span_str(f->address);
    rq.hosts = hosts;
    rq.n_hosts = 1;
    assert_ok(signer_key_generate(KEY_P256, &key));
    assert_ok(signer_issue_now(f->ca_key, f->ca, NULL, key, &rq, &leaf, &info));
    (void)unlink(f->key_file); /* absent at first */
    assert_ok(signer_key_save(key, f->key_file, &info));
    write_cert(leaf, f->cert_file);
    write_cert(f->ca, f->ca_file);
    cert_free(leaf);
    signer_key_free(key);
}

void fix_setup(struct fix *f)
{
    static unsigned count;
    const char *tmp = getenv("TMPDIR");
    unsigned pid = (unsigned)getpid();
    memset(f, 0, sizeof(*f));
    f->log_fd = -1;
    f->log = (struct buf)BUF_INIT(LOG_MAX);
    (void)snprintf(f->dir, sizeof(f->dir), "%s/berth-mini-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->data, sizeof(f->data), "%s/data", f->dir);
    (void)snprintf(f->ca_file, sizeof(f->ca_file), "%s/ca.pem", f->dir);
    (void)snprintf(f->cert_file, sizeof(f->cert_file), "%s/cert.pem", f->dir);
    (void)snprintf(f->key_file, sizeof(f->key_file), "%s/key.pem", f->dir);
    (void)snprintf(f->address, sizeof(f->address), "127.%u.%u.%u", 1 + pid / 65025 % 200,
                   1 + pid / 255 % 254, 1 + (pid + 85 * count++) % 254);
    fix_make_tls(f);
}

static void remove_tree(const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)execlp("rm", "rm", "-rf", "--", dir, (char *)NULL);
        _exit(127);
    }
    int status;
    (void)waitpid(pid, &status, 0);
}

void fix_teardown(struct fix *f)
{
    if (f->pid != 0) {
        (void)fix_stop(f, SIGKILL);
    }
    remove_tree(f->dir);
    signer_key_free(f->ca_key);
    cert_free(f->ca);
    buf_done(&f->log);
}

/* --- processes -------------------------------------------------------------------------------------- */

struct arglist {
    const char *v[MAX_ARGS];
    size_t n;
    char set[8][256];
    size_t n_set;
};

static void add_set(struct arglist *l, const char *name, const char *value)
{
    char *to = l->set[l->n_set++];
    (void)snprintf(to, sizeof(l->set[0]), "%s=%s", name, value);
    l->v[l->n++] = "--set";
    l->v[l->n++] = to;
}

static void usual_args(struct fix *f, struct arglist *l)
{
    static char self[] = "/proc/self/exe";
    *l = (struct arglist){.v = {self, "mini-server", "--data-dir", f->data}, .n = 4};
    char names[64];
    (void)snprintf(names, sizeof(names), "%s,mini.example", f->address);
    add_set(l, "server.names", names);
    add_set(l, "server.listen", f->address);
    add_set(l, "server.https-port", "20443");
    add_set(l, "server.mqtts-port", "28883");
    add_set(l, "tls.cert", f->cert_file);
    add_set(l, "tls.key", f->key_file);
}

static pid_t spawn(struct fix *f, const char *const *args, int out_fd, int err_fd, int ready_fd)
{
    struct arglist l;
    char fd_text[16];
    usual_args(f, &l);
    for (size_t i = 0; args != NULL && args[i] != NULL; i++) {
        l.v[l.n++] = args[i];
    }
    if (ready_fd >= 0) {
        (void)snprintf(fd_text, sizeof(fd_text), "%d", ready_fd);
        l.v[l.n++] = "--ready-fd";
        l.v[l.n++] = fd_text;
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves no server */
        (void)dup2(out_fd, 1);
        (void)dup2(err_fd, 2);
        (void)execv("/proc/self/exe", (char *const *)(uintptr_t)l.v);
        _exit(127);
    }
    return pid;
}

static bool read_some(int fd, struct buf *to)
{
    uint8_t part[4096];
    ssize_t n = read(fd, part, sizeof(part));
    if (n > 0) {
        buf_add(to, span_of(part, (size_t)n));
    }
    return n > 0;
}

static int wait_end(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

int fix_run(struct fix *f, const char *const *args, struct buf *out)
{
    struct buf unused = BUF_INIT(LOG_MAX);
    int fd[2];
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    pid_t pid = spawn(f, args, fd[1], fd[1], -1);
    (void)close(fd[1]);
    while (read_some(fd[0], out != NULL ? out : &unused)) {
    }
    (void)close(fd[0]);
    int rc = wait_end(pid);
    if (rc != 0 && out == NULL) {
        print_message("%.*s\n", SPAN_ARG(buf_span(&unused)));
    }
    buf_done(&unused);
    return rc;
}

void fix_init(struct fix *f)
{
    const char *const args[] = {"--init", NULL};
    static const char *const paths[] = {"0", "1", "2"};
    char file[200];
    struct buf b = BUF_INIT(64u << 10);
    struct json *j = NULL;
    struct err_info info = {0};
    assert_int_equal(fix_run(f, args, NULL), 0);
    (void)snprintf(file, sizeof(file), "%s/init.json", f->data);
    assert_ok(fs_read(file, &b, &info));
    assert_ok(json_read_object(buf_span(&b), b.n, &j, &info));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct span key = json_str(json_get(json_at(json_get(j, "policies"), i), "primaryKey"));
        assert_true(span_to_cstr(key, f->key[i], sizeof(f->key[i])));
    }
    json_free(j);
    buf_done(&b);
}

void fix_start(struct fix *f, const char *const *args)
{
    struct buf text = BUF_INIT(64);
    int log[2], ready[2];
    assert_int_equal(pipe2(log, O_CLOEXEC), 0);
    assert_int_equal(pipe(ready), 0);
    (void)fcntl(ready[0], F_SETFD, FD_CLOEXEC);
    f->pid = spawn(f, args, log[1], log[1], ready[1]);
    (void)close(log[1]);
    (void)close(ready[1]);
    if (f->log_fd >= 0) {
        (void)close(f->log_fd);
    }
    f->log_fd = log[0];
    while (read_some(ready[0], &text)) {
    }
    (void)close(ready[0]);
    if (!span_is(buf_span(&text), "ready\n")) {
        while (read_some(f->log_fd, &f->log)) {
        }
        fail_msg("not ready: %.*s", SPAN_ARG(buf_span(&f->log)));
    }
    buf_done(&text);
}

int fix_stop(struct fix *f, int sig)
{
    if (sig != 0) {
        assert_int_equal(kill(f->pid, sig), 0);
    }
    while (read_some(f->log_fd, &f->log)) { /* until it has ended */
    }
    (void)close(f->log_fd);
    f->log_fd = -1;
    int rc = wait_end(f->pid);
    f->pid = 0;
    if (rc != 0 && sig != SIGKILL) {
        print_message("%.*s\n", SPAN_ARG(buf_span(&f->log)));
    }
    return rc;
}

void fix_wait_log(struct fix *f, const char *text, size_t *from)
{
    size_t at = from != NULL ? *from : 0;
    for (;;) {
        const void *hit =
            f->log.n > at ? memmem(f->log.p + at, f->log.n - at, text, strlen(text)) : NULL;
        if (hit != NULL) {
            if (from != NULL) {
                *from = (size_t)((const uint8_t *)hit - f->log.p) + strlen(text);
            }
            return;
        }
        struct pollfd p = {.fd = f->log_fd, .events = POLLIN};
        if (poll(&p, 1, WAIT_MS) <= 0 || !read_some(f->log_fd, &f->log)) {
            fail_msg("log never had \"%s\": %.*s", text, SPAN_ARG(buf_span(&f->log)));
        }
    }
}

/* --- requests ------------------------------------------------------------------------------------------ */

void answer_done(struct answer *a)
{
    buf_done(&a->body);
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct answer *a = arg;
    buf_add(&a->body, span_of(p, size * n));
    return size * n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct answer *a = arg;
    struct span line = span_of(p, size * n);
    struct span name = span_cut(&line, ':');
    struct span value = span_trim(line);
    while (value.n != 0 && (value.p[value.n - 1] == '\r' || value.p[value.n - 1] == '\n')) {
        value.n--;
    }
    if (span_is_nocase(name, "ETag")) {
        (void)span_to_cstr(value, a->etag, sizeof(a->etag));
    } else if (span_is_nocase(name, "Allow")) {
        (void)span_to_cstr(value, a->allow, sizeof(a->allow));
    } else if (span_is_nocase(name, "Connection")) {
        a->closes = span_is_nocase(value, "close");
    }
    return size * n;
}

static void set_common(CURL *c, const char *url, struct answer *ret)
{
    *ret = (struct answer){.body = BUF_INIT(4u << 20)};
    (void)curl_easy_setopt(c, CURLOPT_URL, url);
    (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, ret);
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, ret);
}

static void perform(CURL *c, struct answer *ret)
{
    CURLcode rc = curl_easy_perform(c);
    if (rc == CURLE_OK) {
        (void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &ret->status);
    } else {
        (void)snprintf(ret->curl_error, sizeof(ret->curl_error), "%s", curl_easy_strerror(rc));
    }
}

static struct curl_slist *headers_of(const struct ask *q)
{
    struct curl_slist *h = NULL;
    char line[1024];
    h = curl_slist_append(h, "Content-Type: application/json");
    if (q->token != NULL) {
        (void)snprintf(line, sizeof(line), "Authorization: %s", q->token);
        h = curl_slist_append(h, line);
    }
    if (q->if_match != NULL) {
        (void)snprintf(line, sizeof(line), "If-Match: %s", q->if_match);
        h = curl_slist_append(h, line);
    }
    return h;
}

void fix_ask(struct fix *f, const struct ask *q, struct answer *ret)
{
    char url[2048];
    CURL *c = curl_easy_init();
    assert_non_null(c);
    (void)snprintf(url, sizeof(url), "https://%s:%d%s", f->address, FIX_HTTPS_PORT, q->path);
    set_common(c, url, ret);
    struct curl_slist *h = headers_of(q);
    (void)curl_easy_setopt(c, CURLOPT_CAINFO, f->ca_file);
    (void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
    (void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, h);
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, q->ms != 0 ? q->ms : 10000L);
    if (q->body != NULL) {
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body);
    }
    if (q->client_cert != NULL) {
        (void)curl_easy_setopt(c, CURLOPT_SSLCERT, q->client_cert);
        (void)curl_easy_setopt(c, CURLOPT_SSLKEY, q->client_key);
    }
    perform(c, ret);
    curl_slist_free_all(h);
    curl_easy_cleanup(c);
}

void fix_get_plain(const char *url, struct answer *ret)
{
    CURL *c = curl_easy_init();
    assert_non_null(c);
    set_common(c, url, ret);
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, 10000L);
    perform(c, ret);
    curl_easy_cleanup(c);
}

char *fix_token(const char *sr, const char *key, const char *skn, long ttl_s, char dst[512])
{
    struct buf text = BUF_INIT(1024), out = BUF_INIT(1024);
    struct secret raw = {.n = 0};
    uint8_t sig[MAC_SIZE];
    uint64_t se = (uint64_t)(clock_wall_s(clock_system()) + ttl_s);
    assert_ok(secret_from_base64(&raw, span_str(key)));
    sas_to_sign_write(&text, span_str(sr), se);
    mac_sha256(secret_span(&raw), buf_span(&text), sig);
    sas_write(&out, span_str(sr), sig, se, span_str(skn));
    assert_true(span_to_cstr(buf_span(&out), dst, 512));
    buf_done(&text);
    buf_done(&out);
    secret_done(&raw);
    return dst;
}

void fix_json_str(struct span json, const char *path, char *dst, size_t n)
{
    struct json *j = NULL;
    struct span s;
    struct err_info info = {0};
    assert_ok(json_read(json, json.n, &j, &info));
    assert_ok(json_get_str(j, path, JSON_F_NEED, &s, &info));
    assert_true(span_to_cstr(s, dst, n));
    json_free(j);
}
