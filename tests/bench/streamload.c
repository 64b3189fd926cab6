/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load of rows 14c, 14f, 14r and 14h: many streams held open, many at once, round trips, and one TLS connection with nothing between.
 *
 *   streamload hold --host A --port P --pid P --seconds T --settle S     lines on standard input: PATH TAB HEADER TAB PATH TAB HEADER
 *                   (the two ends of a stream), each opened as it comes; at the end of the input: memory of the server, T seconds of
 *                   sending on all at once (0: none), one byte through each
 *   streamload rtt --host A --port P --paths FILE -n N                   round trips through one stream (one such line)
 *   streamload rtt --port P --sink-port Q --sink-cert F --sink-key F -n N     the same through a TCP proxy at P that leads to Q; P = Q: none
 *   streamload hop --sink-cert F --sink-key F --mb N                     CPU of both ends of one TLS connection
 * One line of JSON comes out.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FRAME 16384u
#define BATCH 256

struct end {
    int fd;
    SSL *ssl;
    uint64_t got;      /* payload */
    uint64_t left;     /* of the frame that comes in */
    uint8_t head[14];
    unsigned head_n, op;
    bool is_gone;
};
struct pair {
    struct end a, b; /* a sends */
    uint64_t from;   /* b.got when the counting began */
};

static struct {
    const char *host, *paths, *cert, *key;
    int port, sink_port, pid;
    double seconds, settle, mb;
    long n;
} o = {.host = "127.0.0.1", .settle = 1, .n = 10000, .mb = 1000};
static SSL_CTX *client, *server;
static struct pair *pairs;
static size_t n_pairs, cap_pairs;
static _Atomic bool stop;

static _Noreturn void die(const char *f, ...)
{
    va_list v;
    va_start(v, f);
    fputs("streamload: ", stderr);
    vfprintf(stderr, f, v);
    fputc('\n', stderr);
    va_end(v);
    _exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_s(int who)
{
    struct rusage r;
    getrusage(who, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static double server_cpu_s(void)
{
    struct timespec t;
    return clock_gettime((clockid_t)(~(unsigned)o.pid << 3 | 2), &t) == 0 ? (double)t.tv_sec + (double)t.tv_nsec / 1e9 : 0;
}

static long server_rss_kib(void)
{
    char name[64], line[256];
    long kib = 0;
    snprintf(name, sizeof(name), "/proc/%d/smaps_rollup", o.pid);
    FILE *f = fopen(name, "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        (void)sscanf(line, "Rss: %ld", &kib);
    }
    if (f != NULL) {
        fclose(f);
    }
    return kib;
}

/* --- connections -------------------------------------------------------------------------------------------------------- */

static void make_contexts(void)
{
    client = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(client, TLS1_3_VERSION);
    SSL_CTX_set_mode(client, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    if (o.cert != NULL) {
        server = SSL_CTX_new(TLS_server_method());
        SSL_CTX_set_num_tickets(server, 0);
        if (SSL_CTX_use_certificate_chain_file(server, o.cert) != 1 || SSL_CTX_use_PrivateKey_file(server, o.key, SSL_FILETYPE_PEM) != 1) {
            die("--sink-cert, --sink-key");
        }
    }
}

static void dial(struct end *e, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, size = 65536;
    *e = (struct end){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (o.seconds > 0) { /* what waits is to wait in the relay, not in the kernel */
        setsockopt(e->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        setsockopt(e->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    }
    if (inet_pton(AF_INET, o.host, &to.sin_addr) != 1 || connect(e->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        die("connect: %s", strerror(errno));
    }
    setsockopt(e->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    e->ssl = SSL_new(client);
    SSL_set_tlsext_host_name(e->ssl, "localhost");
    SSL_set_fd(e->ssl, e->fd);
    if (SSL_connect(e->ssl) != 1) {
        die("TLS handshake");
    }
}

static void upgrade(struct end *e, const char *path, const char *header)
{
    char b[4096];
    int n = snprintf(b, sizeof(b),
                     "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n\r\n",
                     path, o.host, header);
    if (SSL_write(e->ssl, b, n) != n) {
        die("upgrade");
    }
    for (n = 0; n < (int)sizeof(b) - 1 && SSL_read(e->ssl, b + n, 1) == 1;) { /* frames may follow at once */
        n++;
        if (n >= 4 && memcmp(b + n - 4, "\r\n\r\n", 4) == 0) {
            break;
        }
    }
    if (n < 12 || memcmp(b + 9, "101", 3) != 0) {
        die("upgrade refused: %.40s", b);
    }
}

/* "PATH\tHEADER\tPATH\tHEADER" */
static void open_pair(struct pair *p, char *line)
{
    char *f[4], *save = NULL;
    for (int i = 0; i < 4; i++) {
        if ((f[i] = strtok_r(i == 0 ? line : NULL, "\t\n", &save)) == NULL) {
            die("a line of four fields");
        }
    }
    dial(&p->a, o.port);
    upgrade(&p->a, f[0], f[1]);
    dial(&p->b, o.port);
    upgrade(&p->b, f[2], f[3]);
}

/* --- frames --------------------------------------------------------------------------------------------------------------- */

/* A masked binary frame whose payload is whatever lies there. */
static size_t frame_head(uint8_t *b, unsigned op, size_t n)
{
    size_t at = 0;
    b[at++] = (uint8_t)(0x80 | op);
    if (n < 126) {
        b[at++] = (uint8_t)(0x80 | n);
    } else {
        b[at++] = 0x80 | 126;
        b[at++] = (uint8_t)(n >> 8);
        b[at++] = (uint8_t)n;
    }
    memcpy(b + at, "\x12\x34\x56\x78", 4);
    return at + 4;
}

static void answer_ping(struct end *e)
{
    uint8_t b[16];
    size_t n = frame_head(b, 10, 0);
    if (SSL_write(e->ssl, b, (int)n) != (int)n) {
        e->is_gone = true;
    }
}

static void feed(struct end *e, const uint8_t *p, size_t n)
{
    while (n > 0) {
        if (e->left > 0) {
            uint64_t k = e->left < n ? e->left : n;
            e->got += e->op <= 2 ? k : 0;
            e->left -= k;
            p += k;
            n -= k;
            continue;
        }
        e->head[e->head_n++] = *p++;
        n--;
        unsigned len = e->head_n >= 2 ? e->head[1] & 127 : 0, need = len == 126 ? 4 : len == 127 ? 10 : 2;
        if (e->head_n < need || e->head_n < 2) {
            continue;
        }
        e->left = len < 126 ? len : 0;
        for (unsigned i = 2; i < need; i++) {
            e->left = e->left << 8 | e->head[i];
        }
        e->op = e->head[0] & 15;
        e->head_n = 0;
        if (e->op == 9) {
            answer_ping(e);
        } else if (e->op == 8) {
            e->is_gone = true;
        }
    }
}

/* What is there; blocking: at least something. */
static bool hear(struct end *e)
{
    static _Thread_local uint8_t b[65536];
    for (;;) {
        int n = SSL_read(e->ssl, b, sizeof(b));
        if (n <= 0) {
            int why = SSL_get_error(e->ssl, n);
            e->is_gone = e->is_gone || (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE);
            return !e->is_gone;
        }
        feed(e, b, (size_t)n);
        if (SSL_pending(e->ssl) == 0) {
            return true;
        }
    }
}

static void watch(int ep, struct end *e, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data = {.ptr = e}};
    fcntl(e->fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(ep, EPOLL_CTL_ADD, e->fd, &ev) != 0) {
        die("epoll: %s", strerror(errno));
    }
}

/* One turn: whatever came is counted, pings are answered. */
static void serve(int ep, int wait_ms)
{
    struct epoll_event ev[BATCH];
    int n = epoll_wait(ep, ev, BATCH, wait_ms);
    for (int i = 0; i < n; i++) {
        struct end *e = ev[i].data.ptr;
        if (!hear(e)) {
            epoll_ctl(ep, EPOLL_CTL_DEL, e->fd, NULL);
        }
    }
}

static void serve_for(int ep, double seconds)
{
    for (double until = now_s() + seconds; now_s() < until;) {
        serve(ep, 20);
    }
}

/* --- hold ------------------------------------------------------------------------------------------------------------------ */

static void *send_on_all(void *arg)
{
    (void)arg;
    static uint8_t b[FRAME + 14];
    int ep = epoll_create1(EPOLL_CLOEXEC);
    size_t head = frame_head(b, 2, FRAME), *at = calloc(n_pairs, sizeof(*at));
    struct epoll_event ev[BATCH];
    for (size_t i = 0; i < n_pairs; i++) {
        struct epoll_event e = {.events = EPOLLOUT, .data = {.u64 = i}};
        epoll_ctl(ep, EPOLL_CTL_ADD, pairs[i].a.fd, &e);
    }
    size_t busy = 0;
    do { /* a frame that has begun is finished */
        int n = epoll_wait(ep, ev, BATCH, 20);
        for (int i = 0; i < n; i++) {
            size_t k = ev[i].data.u64;
            int w = stop && at[k] == 0 ? 0 : SSL_write(pairs[k].a.ssl, b + at[k], (int)(head + FRAME - at[k]));
            if (w > 0) {
                at[k] = (at[k] + (size_t)w) % (head + FRAME);
            }
        }
        busy = 0;
        for (size_t i = 0; stop && i < n_pairs; i++) {
            busy += at[i] != 0 && !pairs[i].b.is_gone;
        }
    } while (!stop || busy > 0);
    close(ep);
    free(at);
    return NULL;
}

/* Jain's index and the extremes of what arrived in the time. */
static void share(int ep_a, int ep_b)
{
    pthread_t t;
    double sum = 0, squares = 0, low = 1e30, high = 0;
    for (size_t i = 0; i < n_pairs; i++) {
        epoll_ctl(ep_a, EPOLL_CTL_DEL, pairs[i].a.fd, NULL);
    }
    pthread_create(&t, NULL, send_on_all, NULL);
    serve_for(ep_b, 3); /* buffers fill */
    for (size_t i = 0; i < n_pairs; i++) {
        pairs[i].from = pairs[i].b.got;
    }
    double c0 = server_cpu_s(), t0 = now_s();
    serve_for(ep_b, o.seconds);
    double took = now_s() - t0, cpu = server_cpu_s() - c0;
    for (size_t i = 0; i < n_pairs; i++) {
        double x = (double)(pairs[i].b.got - pairs[i].from);
        sum += x;
        squares += x * x;
        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    stop = true;
    double until = now_s() + 60;
    while (pthread_tryjoin_np(t, NULL) != 0 && now_s() < until) {
        serve(ep_b, 5);
    }
    serve_for(ep_b, 0.5);
    printf("\"jain\":%.4f,\"min_max\":%.4f,\"mbps\":%.1f,\"cpu_s_per_gb\":%.3f,", sum * sum / ((double)n_pairs * squares), low / high,
           sum / took / 1e6, cpu / (sum / 1e9));
}

static void open_all(int ep_a, int ep_b)
{
    static char line[8192];
    char *at = line;
    fcntl(0, F_SETFL, O_NONBLOCK);
    for (;;) {
        ssize_t n = read(0, at, 1);
        if (n == 0) {
            return;
        }
        if (n < 0) { /* no line yet: pings are answered meanwhile */
            serve(ep_a, 0);
            serve(ep_b, 1);
            continue;
        }
        if (*at != '\n') {
            at += at < line + sizeof(line) - 2;
            continue;
        }
        *at = '\0';
        at = line;
        if (n_pairs == cap_pairs) {
            die("more streams than -n");
        }
        struct pair *p = &pairs[n_pairs++];
        open_pair(p, line);
        watch(ep_a, &p->a, EPOLLIN);
        watch(ep_b, &p->b, EPOLLIN);
        printf("open\n");
        fflush(stdout);
    }
}

static int run_hold(void)
{
    int ep_a = epoll_create1(EPOLL_CLOEXEC), ep_b = epoll_create1(EPOLL_CLOEXEC);
    long before = server_rss_kib();
    size_t through = 0;
    cap_pairs = (size_t)o.n;
    pairs = calloc(cap_pairs, sizeof(*pairs));
    open_all(ep_a, ep_b);
    for (double until = now_s() + o.settle; now_s() < until;) {
        serve(ep_a, 5);
        serve(ep_b, 5);
    }
    long after = server_rss_kib();
    printf("{\"streams\":%zu,\"kib_per_stream\":%.2f,\"rss_kib\":%ld,", n_pairs, (double)(after - before) / (double)n_pairs, after);
    if (o.seconds > 0) {
        share(ep_a, ep_b);
    }
    for (size_t i = 0; i < n_pairs; i++) {
        uint8_t b[16] = {0};
        size_t n = frame_head(b, 2, 1) + 1;
        pairs[i].from = pairs[i].b.got;
        (void)!SSL_write(pairs[i].a.ssl, b, (int)n);
    }
    for (double until = now_s() + 20; through < n_pairs && now_s() < until;) {
        serve(ep_b, 20);
        through = 0;
        for (size_t i = 0; i < n_pairs; i++) {
            through += pairs[i].b.got > pairs[i].from;
        }
    }
    printf("\"through\":%zu}\n", through);
    return through == n_pairs ? 0 : 1;
}

/* --- round trips ------------------------------------------------------------------------------------------------------------- */

static struct end echo_end;
static int echo_listener = -1;

static void listen_for_echo(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1;
    echo_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(echo_listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(echo_listener, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(echo_listener, 16) != 0) {
        die("sink: %s", strerror(errno));
    }
}

static void accept_echo(void)
{
    int one = 1;
    echo_end = (struct end){.fd = accept(echo_listener, NULL, NULL), .ssl = SSL_new(server)};
    setsockopt(echo_end.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    SSL_set_fd(echo_end.ssl, echo_end.fd);
    if (SSL_accept(echo_end.ssl) != 1) {
        die("sink: TLS handshake");
    }
}

static void *echo_main(void *arg)
{
    bool is_ws = arg != NULL;
    uint8_t b[128] = {0};
    if (!is_ws) {
        accept_echo();
    }
    for (;;) {
        if (!is_ws) {
            int n = SSL_read(echo_end.ssl, b, 64);
            if (n <= 0 || SSL_write(echo_end.ssl, b, n) != n) {
                return NULL;
            }
            continue;
        }
        uint64_t had = echo_end.got;
        if (!hear(&echo_end)) {
            return NULL;
        }
        if (echo_end.got > had) {
            size_t n = frame_head(b, 2, 64) + 64;
            if (SSL_write(echo_end.ssl, b, (int)n) != (int)n) {
                return NULL;
            }
        }
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int run_rtt(void)
{
    static char line[8192];
    struct pair p;
    pthread_t t;
    uint8_t b[128] = {0};
    double *us = calloc((size_t)o.n, sizeof(*us));
    bool is_ws = o.paths != NULL;
    if (is_ws) {
        FILE *f = fopen(o.paths, "re");
        if (f == NULL || fgets(line, sizeof(line), f) == NULL) {
            die("%s", o.paths);
        }
        fclose(f);
        open_pair(&p, line);
        echo_end = p.b;
    } else {
        listen_for_echo(o.sink_port);
    }
    pthread_create(&t, NULL, echo_main, is_ws ? &p : NULL);
    if (!is_ws) {
        dial(&p.a, o.port);
    }
    size_t n = (is_ws ? frame_head(b, 2, 64) : 0) + 64;
    for (long i = -o.n / 10; i < o.n; i++) { /* the first tenth warms */
        double t0 = now_s();
        uint64_t had = p.a.got;
        int r = SSL_write(p.a.ssl, b, (int)n) == (int)n;
        while (r > 0 && is_ws && p.a.got == had) {
            r = hear(&p.a);
        }
        if (r <= 0 || (!is_ws && SSL_read(p.a.ssl, b, 64) != 64)) {
            die("a round trip");
        }
        if (i >= 0) {
            us[i] = (now_s() - t0) * 1e6;
        }
    }
    qsort(us, (size_t)o.n, sizeof(*us), by_size);
    printf("{\"n\":%ld,\"p50_us\":%.1f,\"p99_us\":%.1f}\n", o.n, us[o.n / 2], us[o.n - 1 - o.n / 100]);
    fflush(stdout);
    _exit(0);
}

/* --- one connection ------------------------------------------------------------------------------------------------------------ */

static int run_hop(void)
{
    static uint8_t b[65536];
    uint64_t want = (uint64_t)(o.mb * 1e6), sent = 0;
    int status;
    listen_for_echo(o.sink_port);
    double c0 = cpu_s(RUSAGE_SELF);
    pid_t pid = fork();
    if (pid == 0) {
        uint64_t got = 0;
        accept_echo();
        for (int n; got < want && (n = SSL_read(echo_end.ssl, b, sizeof(b))) > 0;) {
            got += (uint64_t)n;
        }
        _exit(got >= want ? 0 : 1);
    }
    struct end e;
    dial(&e, o.sink_port);
    RAND_bytes(b, sizeof(b));
    double t0 = now_s();
    while (sent < want) {
        int n = SSL_write(e.ssl, b, sizeof(b));
        if (n <= 0) {
            die("write");
        }
        sent += (uint64_t)n;
    }
    waitpid(pid, &status, 0);
    double took = now_s() - t0, cpu = cpu_s(RUSAGE_SELF) - c0 + cpu_s(RUSAGE_CHILDREN);
    printf("{\"mbps\":%.1f,\"cpu_s_per_gb\":%.3f}\n", (double)sent / took / 1e6, cpu / ((double)sent / 1e9));
    return status == 0 ? 0 : 1;
}

static double number(const char *text, double min, double max)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= min && v <= max)) {
        fprintf(stderr, "streamload: '%s' is no number from %g to %g\n", text, min, max);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    static const struct option lo[] = {
        {"host", 1, NULL, 'h'},     {"port", 1, NULL, 'p'},      {"pid", 1, NULL, 'P'},      {"seconds", 1, NULL, 't'},
        {"settle", 1, NULL, 's'},   {"paths", 1, NULL, 'f'},     {"sink-port", 1, NULL, 'q'}, {"sink-cert", 1, NULL, 'c'},
        {"sink-key", 1, NULL, 'k'}, {"mb", 1, NULL, 'm'},        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "n:", lo, NULL)) != -1;) {
        switch (c) {
        case 'h': o.host = optarg; break;
        case 'p': o.port = (int)number(optarg, 1, 65535); break;
        case 'P': o.pid = (int)number(optarg, 1, INT_MAX); break;
        case 't': o.seconds = number(optarg, 0, 1e6); break;
        case 's': o.settle = number(optarg, 0, 1e6); break;
        case 'f': o.paths = optarg; break;
        case 'q': o.sink_port = (int)number(optarg, 1, 65535); break;
        case 'c': o.cert = optarg; break;
        case 'k': o.key = optarg; break;
        case 'm': o.mb = number(optarg, 0, 1e9); break;
        case 'n': o.n = (long)number(optarg, 1, 1e9); break;
        default: return 2;
        }
    }
    make_contexts();
    const char *mode = optind < argc ? argv[optind] : "";
    if (strcmp(mode, "hold") == 0) {
        return run_hold();
    }
    if (strcmp(mode, "rtt") == 0) {
        return run_rtt();
    }
    if (strcmp(mode, "hop") == 0) {
        return run_hop();
    }
    fputs("usage: streamload hold|rtt|hop ...: see the head of streamload.c\n", stderr);
    return 2;
}
