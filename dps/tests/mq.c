/* SPDX-License-Identifier: Apache-2.0 */
/* An MQTT client that waits for each answer, over OpenSSL in blocking mode. */
#include "dps/tests/bench.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "wire/mqtt.h"
#include "wire/topic.h"

struct mq {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    struct buf in;
    size_t used; /* of the packet that was read last */
    struct mqtt_publish pub;
};

static void send_all(struct mq *m, struct buf *b)
{
    assert_ok(buf_err(b));
    (void)SSL_write(m->ssl, b->p, (int)b->n); /* a closed link shows at the next read */
    buf_done(b);
}

int mq_next(struct mq *m)
{
    uint8_t first;
    struct span body;
    enum err e;
    buf_drop(&m->in, m->used);
    m->used = 0;
    while ((e = mqtt_frame_read(buf_span(&m->in), LIMIT_MQTT_PACKET, &first, &body, &m->used)) ==
           E_AGAIN) {
        m->used = 0;
        uint8_t *p = buf_reserve(&m->in, 4096);
        assert_non_null(p);
        int n = SSL_read(m->ssl, p, 4096);
        if (n <= 0) {
            return 0;
        }
        m->in.n += (size_t)n;
    }
    assert_ok(e);
    int type = (int)mqtt_type_of(first);
    if (type == MQTT_PUBLISH) {
        assert_ok(mqtt_publish_read(first, body, &m->pub, NULL));
        if (m->pub.qos == 1) {
            struct buf b = BUF_INIT(64);
            mqtt_puback_write(&b, m->pub.packet_id);
            send_all(m, &b);
        }
    } else {
        m->pub = (struct mqtt_publish){.payload = body};
    }
    return type;
}

struct span mq_topic(const struct mq *m)
{
    return m->pub.topic;
}

struct span mq_body(const struct mq *m)
{
    return m->pub.payload;
}

static void connect_tls(struct mq *m)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(FIX_MQTTS_PORT)};
    const struct timeval limit = {.tv_sec = 20}; /* only a broken test waits so long */
    const int on = 1;
    assert_int_equal(inet_pton(AF_INET, dps.address, &a.sin_addr), 1);
    m->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(m->fd >= 0);
    assert_int_equal(connect(m->fd, (struct sockaddr *)&a, sizeof(a)), 0);
    (void)setsockopt(m->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(m->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    m->ctx = SSL_CTX_new(TLS_client_method());
    assert_non_null(m->ctx);
    m->ssl = SSL_new(m->ctx);
    assert_int_equal(SSL_set_fd(m->ssl, m->fd), 1);
    assert_int_equal(SSL_connect(m->ssl), 1);
}

struct mq *mq_open(const char *client_id, const char *username, const char *token, unsigned level,
                   int *ret_code)
{
    struct mq *m = NEW(struct mq);
    struct buf b = BUF_INIT(1u << 16);
    const struct mqtt_connect c = {
        .clean_session = true,
        .keep_alive_s = 60,
        .client_id = span_str(client_id),
        .has_username = username != NULL,
        .username = span_str(username),
        .has_password = token != NULL,
        .password = span_str(token),
    };
    assert_non_null(m);
    m->in = (struct buf)BUF_INIT(1u << 20);
    connect_tls(m);
    mqtt_connect_write(&b, &c);
    assert_ok(buf_err(&b));
    if (level != 4) {
        for (size_t i = 0; i + 4 < b.n; i++) {
            if (span_is(span_sub(buf_span(&b), i, 4), "MQTT")) {
                b.p[i + 4] = (uint8_t)level;
                break;
            }
        }
    }
    send_all(m, &b);
    *ret_code = mq_next(m) == MQTT_CONNACK && m->pub.payload.n >= 2 ? m->pub.payload.p[1] : -1;
    return m;
}

void mq_close(struct mq *m)
{
    SSL_free(m->ssl);
    SSL_CTX_free(m->ctx);
    (void)close(m->fd);
    buf_done(&m->in);
    free(m);
}

int mq_subscribe(struct mq *m, const char *filter, unsigned qos)
{
    struct buf b = BUF_INIT(4096);
    const struct mqtt_filter f = {span_str(filter), (uint8_t)qos};
    mqtt_subscribe_write(&b, 1, &f, 1);
    send_all(m, &b);
    return mq_next(m) == MQTT_SUBACK && m->pub.payload.n == 3 ? m->pub.payload.p[2] : -1;
}

void mq_publish(struct mq *m, const char *topic, const char *body, unsigned qos, unsigned packet_id)
{
    struct buf b = BUF_INIT(1u << 20);
    const struct mqtt_publish p = {.topic = span_str(topic),
                                   .payload = span_str(body),
                                   .qos = (uint8_t)qos,
                                   .packet_id = (uint16_t)packet_id};
    mqtt_publish_write(&b, &p);
    send_all(m, &b);
}

/* dps-device:D7 the PUBACK comes first, dps-device:D8 the request id byte for byte. */
static int answered(struct mq *m, const char *request_id)
{
    struct dps_down_topic t;
    assert_int_equal(mq_next(m), MQTT_PUBACK);
    assert_int_equal(mq_next(m), MQTT_PUBLISH);
    assert_int_equal(m->pub.qos, 1);
    assert_ok(topic_dps_down_read(m->pub.topic, &t, NULL));
    assert_span(t.rid, span_str(request_id));
    if (t.status == 202 || t.status == 429) {
        assert_int_equal(t.retry_after_s, 3); /* dps-device:D39 */
    }
    return (int)t.status;
}

int mq_register(struct mq *m, const char *request_id, const char *body)
{
    char topic[400];
    (void)snprintf(topic, sizeof(topic), "$dps/registrations/PUT/iotdps-register/?$rid=%s",
                   request_id);
    mq_publish(m, topic, body, 1, 7);
    return answered(m, request_id);
}

int mq_poll(struct mq *m, const char *request_id, const char *operation)
{
    char topic[400];
    (void)snprintf(topic, sizeof(topic),
                   "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=%s&operationId=%s",
                   request_id, operation);
    mq_publish(m, topic, " ", 1, 8);
    return answered(m, request_id);
}
