/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/tests/link.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/limits.h"
#include "base/text.h"
#include "hub/metrics.h"
#include "net/conn.h"
#include "wire/logmeta.h"

/* --- bed ------------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t mu;
    pthread_cond_t changed;
    bool is_held;
} gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
static char *log_dir;

/* The log's writer asks for the time before each batch: there it waits. */
static int64_t log_wall_us(void *arg)
{
    pthread_mutex_lock(&gate.mu);
    while (gate.is_held) {
        pthread_cond_wait(&gate.changed, &gate.mu);
    }
    pthread_mutex_unlock(&gate.mu);
    return clock_wall_us(arg);
}
static uint64_t log_mono_ms(void *arg)
{
    return clock_mono_ms(arg);
}
static struct clock log_clock = {log_wall_us, log_mono_ms, &bed.clock.clock};

void link_hold_log(bool held)
{
    pthread_mutex_lock(&gate.mu);
    gate.is_held = held;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.mu);
}

void link_set_disk(uint64_t n)
{
    __atomic_store_n(&bed.disk_free, n, __ATOMIC_SEQ_CST); /* its thread reads it */
}

void link_turn(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        loop_turn(bed.worker.loop, 0);
    }
}

int link_setup(void **state)
{
    static struct metric_def defs[HUB_METRICS];
    struct err_info info = {0};
    struct hub_worker *hw;
    bed_setup(state);
    assert_ok(metrics_new(&bed.server, &bed.server.metrics));
    metrics_define(&bed.server, defs, HUB_METRICS);
    bed.worker.counters = calloc(HUB_METRICS, sizeof *bed.worker.counters);
    assert_ok(hub_worker_new(&bed.worker, &hw));
    worker_set_user(&bed.worker, hw);
    log_dir = fixture_dir();
    const struct seglog_config log = {
        .dir = log_dir,
        .partitions = 4,
        .segment_bytes = 1u << 30,
        .reserve_bytes = 1000,
        .clock = &log_clock,
        .free_bytes = fixture_free,
        .free_arg = &bed.disk_free,
    };
    assert_ok(seglog_open(&log, &bed.hub.log, &info));
    bed.hub.partitions = 4;
    directory_set_hook(bed.hub.directory, sessions_on_change, &bed.hub);
    twin_set_desired_hook(&bed.hub, sessions_on_desired);
    return 0;
}

int link_teardown(void **state)
{
    link_hold_log(false);
    bed_idle();
    hub_links_end(&bed.worker);
    store_drain(bed.server.store); /* scans of the log have ended, as when a server stops */
    link_turn(8);
    seglog_close(bed.hub.log);
    link_turn(8);
    bed_idle();
    fixture_dir_done(log_dir);
    hub_worker_free(hub_worker_of(&bed.worker));
    worker_set_user(&bed.worker, NULL);
    metrics_free(bed.server.metrics);
    free((void *)bed.worker.counters);
    return bed_teardown(state);
}

/* --- clients --------------------------------------------------------------------------------- */

struct peer {
    int fd;
    struct buf in;
    size_t used; /* of in, by the packet that was heard last */
    bool is_closed;
    uint16_t next_id;
};

static void on_open(struct conn *c, void *arg)
{
    (void)arg;
    hub_mqtt_accept(&bed.worker, conn_stream(c));
}

struct peer *peer_new(void)
{
    int fd[2];
    struct conn *c;
    struct peer *p = calloc(1, sizeof *p);
    p->in = (struct buf)BUF_INIT(8u << 20);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    p->fd = fd[1];
    assert_ok(conn_adopt(bed.worker.loop, fd[0], NULL, true, on_open, NULL, &c));
    link_turn(2);
    return p;
}

void peer_end(struct peer *p)
{
    if (p != NULL) {
        close(p->fd);
        buf_done(&p->in);
        free(p);
        link_turn(4);
    }
}

bool link_is_still;

size_t peer_try(struct peer *p, struct span b)
{
    ssize_t n = send(p->fd, b.p, b.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n > 0 ? (size_t)n : 0;
}

void peer_write(struct peer *p, struct span b)
{
    uint64_t end = clock_mono_ms(clock_system()) + 60000;
    while (b.n > 0) {
        ssize_t n = send(p->fd, b.p, b.n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            b = span_from(b, (size_t)n);
        } else if (errno != EAGAIN || clock_mono_ms(clock_system()) > end) {
            return;
        }
        if (!link_is_still) {
            loop_turn(bed.worker.loop, n > 0 ? 0 : 1);
        }
    }
}

static void read_some(struct peer *p)
{
    uint8_t *at = buf_reserve(&p->in, 65536);
    ssize_t n = recv(p->fd, at, 65536, MSG_DONTWAIT);
    if (n > 0) {
        p->in.n += (size_t)n;
    } else if (n == 0 || errno != EAGAIN) {
        p->is_closed = true;
    }
}

static bool cut(struct peer *p, struct heard *h)
{
    size_t used;
    struct span all = span_of(p->in.p, p->in.n);
    if (all.n == 0 || mqtt_frame_read(all, all.n + 1, &h->first, &h->body, &used) != OK) {
        return false;
    }
    h->type = mqtt_type_of(h->first);
    p->used = used;
    return true;
}

static void forget_last(struct peer *p)
{
    if (p->used > 0) {
        memmove(p->in.p, p->in.p + p->used, p->in.n - p->used);
        p->in.n -= p->used;
        p->used = 0;
    }
}

struct heard peer_hear(struct peer *p)
{
    struct heard h = {0};
    uint64_t end = clock_mono_ms(clock_system()) + 60000;
    forget_last(p);
    while (!cut(p, &h)) {
        if (p->is_closed) {
            return (struct heard){0};
        }
        loop_turn(bed.worker.loop, 1);
        read_some(p);
        if (clock_mono_ms(clock_system()) > end) {
            fail_msg("heard nothing for a minute");
        }
    }
    return h;
}

bool peer_is_quiet(struct peer *p)
{
    struct heard h;
    forget_last(p);
    bed_idle();
    for (unsigned i = 0; i < 4; i++) {
        loop_turn(bed.worker.loop, 1);
        read_some(p);
    }
    return !p->is_closed && !cut(p, &h);
}

bool peer_is_closed(struct peer *p)
{
    while (peer_hear(p).type != 0) {
    }
    return p->is_closed;
}

void peer_hello(struct peer *p, struct hello h)
{
    char token[1024], username[1024], sr[512];
    uint8_t key[64];
    size_t n = sizeof key;
    assert_ok(base64_decode_to(SPAN_LIT(LINK_KEY), key, &n));
    (void)snprintf(sr, sizeof sr, BED_HOST "/devices/%s", h.id);
    bed_token(token, sr, span_of(key, n), NULL, h.ttl_s != 0 ? h.ttl_s : 3600);
    (void)snprintf(username, sizeof username, BED_HOST "/%s/?api-version=2021-04-12", h.id);
    struct mqtt_connect c = {
        .clean_session = h.clean,
        .keep_alive_s = 60,
        .client_id = span_str(h.id),
        .has_will = h.will_topic != NULL,
        .will_qos = h.will_qos,
        .will_topic = span_str(h.will_topic != NULL ? h.will_topic : ""),
        .will_payload = span_str(h.will != NULL ? h.will : ""),
        .has_username = true,
        .username = span_str(h.username != NULL ? h.username : username),
        .has_password = true,
        .password = span_str(h.password != NULL ? h.password : token),
    };
    AUTO(buf_done) struct buf b = BUF_INIT(65536);
    mqtt_connect_write(&b, &c);
    assert_ok(buf_err(&b));
    peer_write(p, buf_span(&b));
}

int peer_connack(struct peer *p)
{
    bool present;
    uint8_t code;
    struct heard h = peer_hear(p);
    if (h.type == 0) {
        return -1;
    }
    assert_int_equal(h.type, MQTT_CONNACK);
    assert_ok(mqtt_connack_read(h.body, &present, &code, NULL));
    return code | (present ? 256 : 0);
}

struct peer *peer_connect(struct hello h)
{
    struct peer *p = peer_new();
    peer_hello(p, h);
    assert_int_equal(peer_connack(p) & 255, 0);
    return p;
}

void peer_publish(struct peer *p, const char *topic, struct span payload, uint8_t qos, uint16_t id)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    struct mqtt_publish m = {
        .topic = span_str(topic), .payload = payload, .qos = qos, .packet_id = id};
    mqtt_publish_write(&b, &m);
    assert_ok(buf_err(&b));
    peer_write(p, buf_span(&b));
}

int peer_subscribe(struct peer *p, const char *filter, uint8_t qos)
{
    AUTO(buf_done) struct buf b = BUF_INIT(65536);
    struct mqtt_filter f = {span_str(filter), qos};
    mqtt_subscribe_write(&b, ++p->next_id, &f, 1);
    peer_write(p, buf_span(&b));
    struct heard h = peer_hear(p);
    struct mqtt_suback a;
    if (h.type == 0) {
        return -1;
    }
    assert_int_equal(h.type, MQTT_SUBACK);
    assert_ok(mqtt_suback_read(h.body, &a, NULL));
    assert_int_equal(a.codes.n, 1);
    return a.codes.p[0];
}

void peer_disconnect(struct peer *p)
{
    AUTO(buf_done) struct buf b = BUF_INIT(16);
    mqtt_disconnect_write(&b);
    peer_write(p, buf_span(&b));
    assert_true(peer_is_closed(p));
}

const char *peer_message(struct peer *p)
{
    static char text[256u << 10];
    struct mqtt_publish m;
    struct heard h;
    do {
        h = peer_hear(p);
    } while (h.type != MQTT_PUBLISH && h.type != 0);
    text[0] = 0;
    if (h.type != 0) {
        assert_ok(mqtt_publish_read(h.first, h.body, &m, NULL));
        (void)snprintf(text, sizeof text, "%.*s %.*s", SPAN_ARG(m.topic), SPAN_ARG(m.payload));
    }
    return text;
}

unsigned peer_puback(struct peer *p)
{
    uint16_t id = 0;
    struct heard h;
    do {
        h = peer_hear(p);
    } while (h.type != MQTT_PUBACK && h.type != 0);
    if (h.type != 0) {
        assert_ok(mqtt_puback_read(h.body, &id, NULL));
    }
    return id;
}

/* --- the log --------------------------------------------------------------------------------- */

struct tail {
    char *text;
    size_t n;
    unsigned rows;
    int64_t newest;
};

static bool on_row(void *arg, const struct seglog_row *row)
{
    struct tail *t = arg;
    t->rows++;
    if (t->text != NULL && row->enqueued_us >= t->newest) {
        t->newest = row->enqueued_us;
        AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
        struct logmeta_row meta;
        if (logmeta_read(row->meta, &meta) == OK) { /* else one that a test put there itself */
            buf_add_str(&b, "{\"sys\":{");
            logmeta_add_system(&b, &meta);
            buf_add_str(&b, "},\"app\":{");
            logmeta_add_properties(&b, &meta);
            buf_add_str(&b, "}}");
        }
        (void)snprintf(t->text, t->n, "%.*s|%.*s", SPAN_ARG(buf_span(&b)), SPAN_ARG(row->body));
    }
    return true;
}

unsigned link_rows(char *last, size_t n)
{
    struct tail t = {.text = last, .n = n};
    for (unsigned p = 0; p < bed.hub.partitions; p++) {
        uint64_t next = 1;
        while (next <= seglog_last(bed.hub.log, p, NULL)) {
            assert_ok(seglog_read(bed.hub.log, p, next, 1000, 64u << 20, on_row, &t, &next));
        }
    }
    return t.rows;
}
