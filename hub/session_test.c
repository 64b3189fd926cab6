/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One link per identity, from CONNECT to its end, through the MQTT endpoint: docs/protocol/hub-mqtt.md 2.4 to 2.6, 3, 4.2, 4.3, 5.5, 7
 * (rows M9, M10, M16 to M22, M25, M26, M31, M34, M40, M41, M45).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "hub/hub_sql.h"
#include "hub/tests/link.h"
#include "store/db.h"

#define EVENTS "devices/dev-1/messages/events/"
#define TWIN_RES "$iothub/twin/res/#"
#define TWIN_GET "$iothub/twin/GET/?$rid=g"
#define TWIN_PATCH "$iothub/twin/PATCH/properties/reported/?$rid="

static int64_t dev;

static int setup(void **state)
{
    link_setup(state);
    dev = bed_device("dev-1", LINK_AUTH);
    (void)bed_device("dev-2", LINK_AUTH);
    return 0;
}

static struct peer *connect_1(void)
{
    return peer_connect((struct hello){.id = "dev-1", .clean = true});
}

/* On the writer, without a turn of the loop: what comes between two of its turns. */
static _Atomic bool is_written;
static const char *sql_text;
static enum err sql_tx(struct store_tx *tx, struct store_op *op)
{
    (void)op;
    return sqlite3_exec(tx->db->h, sql_text, NULL, NULL, NULL) == SQLITE_OK ? OK : E_DB;
}
static void sql_done(struct msg *m)
{
    (void)m;
    atomic_store(&is_written, true);
}
static void sql_now(const char *text)
{
    static struct store_op op;
    atomic_store(&is_written, false);
    sql_text = text;
    op = (struct store_op){.msg.run = sql_done, .tx = sql_tx, .urgent = true};
    assert_ok(store_submit(bed.server.store, &op));
    while (!atomic_load(&is_written)) {
    }
    assert_ok(op.result);
}

static void set_status(const char *status)
{
    char body[512];
    (void)snprintf(body, sizeof body,
                   "{\"deviceId\":\"dev-1\",\"status\":\"%s\",\"authentication\":" LINK_AUTH "}",
                   status);
    struct reply r = bed_ask("iothubowner", "PUT", "/devices/dev-1", "*", body);
    assert_int_equal(r.status, 200);
    reply_done(&r);
}

/* Links are gone and what they wrote is on disk. */
static void all_left(void)
{
    while (directory_count(bed.hub.directory) > 0) {
        loop_turn(bed.worker.loop, 1);
    }
}

/* --- takeover ---------------------------------------------------------------------------------- */

static void takeover(void **state)
{
    (void)state;
    struct peer *a = connect_1();
    struct peer *bad = peer_new();
    peer_hello(bad, (struct hello){.id = "dev-1", .password = "SharedAccessSignature nonsense"});
    assert_int_equal(peer_connack(bad), 5); /* M10 */
    assert_true(peer_is_closed(bad));
    assert_true(peer_is_quiet(a));
    struct peer *b = connect_1();
    assert_true(peer_is_closed(a)); /* M9 */
    peer_publish(b, EVENTS, SPAN_LIT("x"), 1, 7);
    assert_int_equal(peer_puback(b), 7);
    struct peer *other = peer_connect((struct hello){.id = "dev-2"});
    assert_true(peer_is_quiet(b));
    assert_int_equal(directory_count(bed.hub.directory), 2);
    peer_end(a);
    peer_end(b);
    peer_end(bad);
    peer_end(other);
    all_left();
}

/* The one in the middle is told 3 (try again), never 5; the newest stays. */
static void overtaken(void **state)
{
    (void)state;
    struct peer *p[4] = {connect_1(), peer_new(), peer_new(), peer_new()};
    link_is_still = true;
    for (unsigned i = 1; i < 4; i++) {
        peer_hello(p[i], (struct hello){.id = "dev-1"});
    }
    link_is_still = false;
    unsigned accepted = 0;
    for (unsigned i = 1; i < 4; i++) {
        int code = peer_connack(p[i]);
        accepted += code == 0;
        assert_true(code == 0 || code == 3);
    }
    assert_int_equal(accepted, 1);
    assert_true(peer_is_closed(p[0]));
    for (unsigned i = 0; i < 4; i++) {
        peer_end(p[i]);
    }
    all_left();
}

static void set_desired(const char *body)
{
    struct reply r = bed_ask("service", "PATCH", "/twins/dev-1", NULL, body);
    assert_int_equal(r.status, 200);
    reply_done(&r);
}

/* A peer that does not read what was written for it cannot keep its own identity from coming back. */
static void takeover_of_one_that_does_not_read(void **state)
{
    (void)state;
    struct peer *a = connect_1();
    char body[16384];
    size_t n = (size_t)snprintf(body, sizeof body, "{\"properties\":{\"desired\":{");
    for (unsigned i = 0; i < 3; i++) {
        n += (size_t)snprintf(body + n, sizeof body - n, "%s\"k%u\":\"%0*d\"", i > 0 ? "," : "", i,
                              4000, 1);
    }
    (void)snprintf(body + n, sizeof body - n, "}}}");
    set_desired(body);
    assert_int_equal(peer_subscribe(a, TWIN_RES, 0), 0);
    for (unsigned i = 0; i < 100; i++) { /* 1.2 MB: more than the kernel keeps */
        peer_publish(a, TWIN_GET, SPAN_NONE, 0, 0);
    }
    struct peer *b = peer_new();
    peer_hello(b, (struct hello){.id = "dev-1"});
    link_turn(50); /* the clock stands */
    assert_int_equal(peer_connack(b), 0);
    bed_advance_s(60);
    peer_end(a);
    peer_end(b);
}

/* What the old link sent stands before what the new one reads. */
static void takeover_waits_for_writes(void **state)
{
    (void)state;
    struct peer *a = peer_connect((struct hello){.id = "dev-1"});
    assert_int_equal(peer_subscribe(a, TWIN_RES, 1), 1);
    struct peer *b = peer_new();
    link_is_still = true;
    for (unsigned i = 1; i <= 20; i++) {
        char patch[32];
        (void)snprintf(patch, sizeof patch, "{\"n\":%u}", i);
        peer_publish(a, TWIN_PATCH "p", span_str(patch), 0, 0);
    }
    peer_hello(b, (struct hello){.id = "dev-1"});
    link_is_still = false;
    assert_int_equal(peer_connack(b), 256); /* the filter was stored, too */
    peer_publish(b, TWIN_GET, SPAN_NONE, 0, 0);
    assert_non_null(strstr(peer_message(b), "\"n\":20"));
    peer_end(a);
    peer_end(b);
}

/* --- revocation -------------------------------------------------------------------------------- */

static void disabled(void **state)
{
    (void)state;
    struct peer *a = connect_1();
    set_status("disabled"); /* M40 */
    assert_true(peer_is_closed(a));
    struct peer *b = peer_new();
    peer_hello(b, (struct hello){.id = "dev-1"});
    assert_int_equal(peer_connack(b), 5);
    peer_end(a);
    peer_end(b);
}

/* Between the verdict and the grant: nobody is in the directory yet who could be told. */
static void disabled_while_claiming(void **state)
{
    (void)state;
    struct peer *a = peer_new();
    link_is_still = true;
    peer_hello(a, (struct hello){.id = "dev-1"});
    link_is_still = false;
    link_turn(1);
    sql_now("UPDATE device SET is_enabled = 0 WHERE id = 'dev-1'");
    directory_notify(bed.hub.directory, dev, DIR_GONE);
    assert_int_equal(peer_connack(a), 5);
    all_left();
    peer_end(a);
}

static void credentials_change(void **state)
{
    (void)state;
    static const char other[] =
        "{\"deviceId\":\"dev-1\",\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"" LINK_KEY
        "\",\"secondaryKey\":\"" LINK_KEY "\"}}}";
    static const char used[] =
        "{\"deviceId\":\"dev-1\",\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"" LINK_KEY2
        "\",\"secondaryKey\":\"" LINK_KEY2 "\"}}}";
    struct peer *a = connect_1();
    struct reply r = bed_ask("iothubowner", "PUT", "/devices/dev-1", "*", other);
    reply_done(&r);
    assert_true(peer_is_quiet(a)); /* the other key */
    r = bed_ask("iothubowner", "PUT", "/devices/dev-1", "*", used);
    reply_done(&r);
    assert_true(peer_is_closed(a));
    peer_end(a);
}

static void policy_key_changes(void **state)
{
    (void)state;
    char token[1024];
    bed_token(token, BED_HOST "/devices", bed_policy_key("device", 0), "device", 3600);
    struct peer *a = peer_connect((struct hello){.id = "dev-1", .password = token});
    struct peer *b = peer_connect((struct hello){.id = "dev-2"});
    sql_now("DELETE FROM policy WHERE name = 'device'");
    atomic_fetch_add(&bed.server.policy_epoch, 1);
    sessions_rejudge_all(&bed.worker);
    assert_true(peer_is_closed(a));
    assert_true(peer_is_quiet(b));
    peer_end(a);
    peer_end(b);
}

static void expiry(void **state)
{
    (void)state;
    struct peer *a = peer_connect((struct hello){.id = "dev-1", .ttl_s = 60}); /* M41 */
    for (unsigned i = 0; i < 11; i++) { /* keep-alive is 60 */
        uint8_t ping[] = {0xc0, 0};
        bed_advance_s(i < 10 ? 35 : 9);
        peer_write(a, span_of(ping, 2));
        assert_int_equal(peer_hear(a).type, MQTT_PINGRESP);
    }
    bed_advance_s(2);
    assert_true(peer_is_closed(a));
    peer_end(a);
}

static void pinged(struct peer *p)
{
    uint8_t ping[] = {0xc0, 0};
    peer_write(p, span_of(ping, 2));
    assert_int_equal(peer_hear(p).type, MQTT_PINGRESP);
}

/* A clock that is set back lets no link outlive its token (threat E6); neither does one that runs away behind the floor. */
static void expiry_with_the_clock_set_back(void **state)
{
    (void)state;
    struct peer *a = peer_connect((struct hello){.id = "dev-1", .ttl_s = 60});
    atomic_fetch_sub(&bed.clock.wall_us, INT64_C(3600000000));
    for (unsigned i = 0; i < 9; i++) {
        bed_advance_s(39); /* 351 s: the 60 s of the token and the skew are 360 */
        pinged(a);
    }
    bed_advance_s(10);
    assert_true(peer_is_closed(a));
    peer_end(a);
    struct peer *b = peer_connect((struct hello){.id = "dev-1", .ttl_s = 7200});
    atomic_store(&bed.server.token_floor_s, clock_wall_s(bed.server.clock) + 7502);
    for (unsigned i = 0; i < 92; i++) { /* noticed within the hour */
        bed_advance_s(39);
        pinged(b);
    }
    bed_advance_s(39);
    assert_true(peer_is_closed(b));
    peer_end(b);
    atomic_store(&bed.server.token_floor_s, 0);
}

/* --- refusals of the store --------------------------------------------------------------------- */

/* The claim was granted, then the filters could not be read: the entry must not stay behind. */
static void filters_cannot_be_read(void **state)
{
    (void)state;
    struct peer *a = peer_new();
    link_is_still = true;
    peer_hello(a, (struct hello){.id = "dev-1"});
    link_is_still = false;
    link_turn(1);
    sql_now("ALTER TABLE session RENAME TO gone");
    assert_int_equal(peer_connack(a), 3);
    assert_true(peer_is_closed(a));
    all_left();
    sql_now("ALTER TABLE gone RENAME TO session");
    struct peer *b = connect_1();
    peer_end(a);
    peer_end(b);
}

/* --- will -------------------------------------------------------------------------------------- */

static void wills(void **state)
{
    (void)state;
    static const struct {
        const char *name, *topic;
        uint8_t qos;
        bool clean;
        int code;
        unsigned rows;
    } rows[] = {
        {"cut", EVENTS "a=b", 1, false, 0, 1},
        {"cut, QoS 0", EVENTS, 0, false, 0, 1},
        {"DISCONNECT", EVENTS, 1, true, 0, 0},
        {"another device", "devices/dev-2/messages/events/", 1, false, 5, 0},
        {"a module", "devices/dev-1/modules/m/messages/events/", 1, false, 5, 0},
        {"no telemetry topic", "$iothub/twin/GET/?$rid=1", 1, false, 5, 0},
        {"QoS 2", EVENTS, 2, false, 5, 0},
    };
    unsigned before = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char last[2048];
        struct peer *p = peer_new();
        peer_hello(p, (struct hello){.id = "dev-1",
                                     .clean = true,
                                     .will_topic = rows[i].topic,
                                     .will = "bye",
                                     .will_qos = rows[i].qos});
        int code = peer_connack(p);
        if (code != rows[i].code) {
            fail_msg("%s: %d", rows[i].name, code);
        }
        if (rows[i].clean) {
            peer_disconnect(p);
        }
        peer_end(p);
        while (hub_worker_of(&bed.worker)->n_appends > 0) {
            link_turn(1);
        }
        unsigned n = link_rows(last, sizeof last);
        if (n - before != rows[i].rows) {
            fail_msg("%s: %u rows", rows[i].name, n - before);
        }
        before = n;
        if (rows[i].rows > 0) {
            assert_non_null(strstr(last, "\"iothub-MessageType\":\"Will\"}}|bye"));
        }
        bed_advance_s(1);
    }
}

/* --- filters ----------------------------------------------------------------------------------- */

static void filters(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        uint8_t qos;
        int code;
        bool stays;
    } rows[] = {
        {"devices/dev-1/messages/devicebound/#", 2, 1, true}, /* M19 */
        {TWIN_RES, 0, 0, true},
        {"$iothub/twin/PATCH/properties/desired/#", 1, 1, true},
        {"$iothub/methods/POST/#", 1, 1, true},
        {"$iothub/streams/POST/#", 1, 0x80, true}, /* M21a */
        {"$iothub/credentials/res/#", 1, 0x80, true},
        {"#", 1, 0x80, false}, /* M21 */
        {"$SYS/#", 1, 0x80, false},
        {"devices/dev-2/messages/devicebound/#", 1, 0x80, false},
        {"devices/dev-1/modules/m/#", 1, 0x80, false},
        {"devices/dev-1/messages/events/#", 1, 0x80, false},
        {"devices/+/messages/devicebound/#", 1, 1, true}, /* of the SDK for embedded C */
        {"devices/+/messages/events/#", 1, 0x80, false},
        {"devices/+/+/devicebound/#", 1, 0x80, false},
        {"devices/+/modules/m/messages/devicebound/#", 1, 0x80, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer *p = connect_1();
        int code = peer_subscribe(p, rows[i].filter, rows[i].qos);
        bool stays = code < 0x80 || rows[i].stays ? peer_is_quiet(p) : !peer_is_closed(p);
        if (code != rows[i].code || stays != rows[i].stays) {
            fail_msg("%s: %d, %d", rows[i].filter, code, stays);
        }
        peer_end(p);
    }
}

static void publish_errors(void **state)
{
    (void)state;
    static char big[LIMIT_D2C_MESSAGE + 1];
    static const struct {
        const char *topic;
        size_t n;
        uint8_t qos;
        bool stays;
    } rows[] = {
        {EVENTS, 262144, 1, true}, /* M16 */
        {EVENTS, 262145, 1, false},
        {EVENTS, 1, 2, false},              /* M18 */
        {"$iothub/twin/GET/", 0, 1, false}, /* M22 */
        {"foo", 0, 1, false},
        {"devices/dev-2/messages/events/", 0, 1, false},
        {"devices/dev-1/modules/m/messages/events/", 0, 1, false},
        {"$iothub/methods/res/200/?$rid=1", 0, 1, true},
        {EVENTS "a=%ff", 0, 1, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer *p = connect_1();
        peer_publish(p, rows[i].topic, span_of(big, rows[i].n), rows[i].qos, 5);
        bool stays = peer_puback(p) == 5;
        if (stays != rows[i].stays) {
            fail_msg("%s %zu", rows[i].topic, rows[i].n);
        }
        peer_end(p);
    }
}

static void unsubscribe(struct peer *p, const char *filter)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1024);
    struct mqtt_filter f = {span_str(filter), 0};
    mqtt_unsubscribe_write(&b, 9, &f, 1);
    peer_write(p, buf_span(&b));
    assert_int_equal(peer_hear(p).type, MQTT_UNSUBACK);
}

/* What is stored with clean session 0, and what erases it (M25, M26). */
static void stored_session(void **state)
{
    (void)state;
    static const char c2d[] = "devices/dev-1/messages/devicebound/#";
    struct peer *p = peer_new();
    peer_hello(p, (struct hello){.id = "dev-1"});
    assert_int_equal(peer_connack(p), 0);
    assert_int_equal(peer_subscribe(p, c2d, 1), 1);
    assert_int_equal(peer_subscribe(p, TWIN_RES, 0), 0);
    unsubscribe(
        p, "devices/+/messages/devicebound/#"); /* the same one, as the embedded SDK writes it */
    assert_int_equal(peer_subscribe(p, "devices/+/messages/devicebound/#", 1), 1);
    unsubscribe(p, "devices/dev-2/messages/devicebound/#"); /* not its own: changes nothing */
    unsubscribe(p, TWIN_RES);
    peer_end(p);
    all_left();
    int64_t packed = 0;
    assert_ok(hub_sql_session_get(bed.worker.db, dev, &packed));
    assert_int_equal(packed, (1 << HUB_SUB_C2D) | (1 << (HUB_SUB_C2D + 16)));
    p = peer_new();
    peer_hello(p, (struct hello){.id = "dev-1"});
    assert_int_equal(peer_connack(p), 256);
    peer_end(p);
    p = peer_new();
    peer_hello(p, (struct hello){.id = "dev-1", .clean = true});
    assert_int_equal(peer_connack(p), 0);
    peer_end(p);
    all_left();
    assert_err(hub_sql_session_get(bed.worker.db, dev, &packed), E_NOT_FOUND);
}

/* One link has one write of filters under way, however fast it changes its mind, and each answer follows its own. */
static void filters_in_a_hurry(void **state)
{
    (void)state;
    struct peer *p = peer_connect((struct hello){.id = "dev-1"});
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    struct mqtt_filter f = {SPAN_LIT(TWIN_RES), 1};
    for (uint16_t i = 1; i <= 101; i++) {
        mqtt_subscribe_write(&b, i, &f, 1);
        if (i < 101) {
            mqtt_unsubscribe_write(&b, i, &f, 1);
        }
    }
    struct store_stats before, after;
    store_stats(bed.server.store, &before);
    peer_write(p, buf_span(&b));
    for (unsigned i = 0; i < 201; i++) {
        assert_int_not_equal(peer_hear(p).type, 0);
    }
    bed_idle();
    peer_end(p);
    p = peer_new();
    peer_hello(p, (struct hello){.id = "dev-1"});
    assert_int_equal(peer_connack(p), 256);
    peer_publish(p, TWIN_GET, SPAN_NONE, 0, 0);
    assert_non_null(strstr(peer_message(p), "twin/res/200"));
    store_stats(bed.server.store, &after);
    assert_in_range(after.ops - before.ops, 201, 210);
    peer_end(p);
}

static _Atomic bool is_writer_held;
static enum err hold_tx(struct store_tx *tx, struct store_op *op)
{
    (void)tx;
    (void)op;
    while (atomic_load(&is_writer_held)) {
    }
    return OK;
}
static void held_home(struct msg *m)
{
    (void)m;
}

/* A SUBACK says that the filter outlives the link: it waits for the disk, and so does all that follows it. */
static void suback_after_store(void **state)
{
    (void)state;
    static struct store_op hold;
    struct peer *p = peer_connect((struct hello){.id = "dev-1"});
    AUTO(buf_done) struct buf b = BUF_INIT(1024);
    const struct mqtt_filter f[] = {{SPAN_LIT(TWIN_RES), 1},
                                    {SPAN_LIT("$iothub/streams/POST/#"), 1}};
    hold = (struct store_op){
        .msg.run = held_home, .home = loop_mailbox(bed.worker.loop), .tx = hold_tx};
    atomic_store(&is_writer_held, true);
    assert_ok(store_submit(bed.server.store, &hold));
    mqtt_subscribe_write(&b, 3, f, 2);
    peer_write(p, buf_span(&b));
    peer_publish(p, EVENTS, SPAN_LIT("x"), 1, 7);
    assert_true(peer_is_quiet(p));
    atomic_store(&is_writer_held, false);
    struct heard h = peer_hear(p);
    assert_int_equal(h.type, MQTT_SUBACK);
    assert_memory_equal(h.body.p, "\0\3\1\x80", 4);
    int64_t packed = 0;
    assert_ok(hub_sql_session_get(bed.worker.db, dev, &packed));
    assert_int_equal(peer_puback(p), 7);
    /* as it is already: nothing to wait for */
    atomic_store(&is_writer_held, true);
    assert_ok(store_submit(bed.server.store, &hold));
    assert_int_equal(peer_subscribe(p, TWIN_RES, 1), 1);
    atomic_store(&is_writer_held, false);
    /* what cannot be stored is not promised */
    sql_now("ALTER TABLE session RENAME TO gone");
    assert_int_equal(peer_subscribe(p, "$iothub/methods/POST/#", 1), -1);
    sql_now("ALTER TABLE gone RENAME TO session");
    peer_end(p);
}

/* Patches that wait for each other are bounded by their bytes too. */
static void patches_are_bounded(void **state)
{
    (void)state;
    static struct store_op hold;
    static char body[LIMIT_TWIN_BODY];
    char topic[64];
    struct peer *p = connect_1();
    assert_int_equal(peer_subscribe(p, TWIN_RES, 0), 0);
    memset(body, ' ', sizeof body);
    body[0] = '{';
    body[sizeof body - 1] = '}';
    hold = (struct store_op){
        .msg.run = held_home, .home = loop_mailbox(bed.worker.loop), .tx = hold_tx};
    atomic_store(&is_writer_held, true);
    assert_ok(store_submit(bed.server.store, &hold));
    for (unsigned i = 0; i < 6; i++) {
        (void)snprintf(topic, sizeof topic, TWIN_PATCH "%u", i);
        peer_publish(p, topic, span_of(body, sizeof body), 0, 0);
    }
    for (unsigned i = 0; i < 3;
         i++) { /* three wait: 512 KiB with their request ids are more than is allowed */
        assert_non_null(strstr(peer_message(p), "twin/res/429/"));
    }
    atomic_store(&is_writer_held, false);
    for (unsigned i = 0; i < 3; i++) {
        assert_non_null(strstr(peer_message(p), "twin/res/204/"));
    }
    peer_end(p);
}

/* --- order ------------------------------------------------------------------------------------- */

/* M17, and patches among them: PUBACKs leave in the order of the PUBLISHes, each answer behind its own. */
static void acks_in_order(void **state)
{
    (void)state;
    struct peer *p = connect_1();
    assert_int_equal(peer_subscribe(p, TWIN_RES, 0), 0);
    for (uint16_t i = 1; i <= 1000; i++) {
        char topic[128];
        bool is_patch = i % 100 == 50;
        (void)snprintf(topic, sizeof topic, "%s%u", is_patch ? TWIN_PATCH : EVENTS "n=", i);
        peer_publish(p, topic, is_patch ? SPAN_LIT("{\"a\":1}") : SPAN_LIT("x"), 1, i);
    }
    unsigned next = 1, answers = 0;
    while (next <= 1000 || answers < 10) {
        struct heard h = peer_hear(p);
        uint16_t id;
        if (h.type == MQTT_PUBACK) {
            assert_ok(mqtt_puback_read(h.body, &id, NULL));
            assert_int_equal(id, next++);
        } else {
            struct mqtt_publish m;
            char want[64];
            assert_int_equal(h.type, MQTT_PUBLISH);
            assert_ok(mqtt_publish_read(h.first, h.body, &m, NULL));
            (void)snprintf(want, sizeof want, "$iothub/twin/res/204/?$rid=%u&$version=%u",
                           answers * 100 + 50, answers + 2);
            assert_span(m.topic, span_str(want));
            assert_true(next > answers * 100 + 50);
            answers++;
        }
    }
    assert_int_equal(link_rows(NULL, 0), 990);
    peer_end(p);
}

/* M31: the last of many patches is what stands. */
static void patches_in_order(void **state)
{
    (void)state;
    struct peer *p = connect_1();
    assert_int_equal(peer_subscribe(p, TWIN_RES, 1), 1);
    for (unsigned i = 1; i <= 20; i++) {
        char topic[128], patch[64];
        (void)snprintf(topic, sizeof topic, TWIN_PATCH "%u", i);
        (void)snprintf(patch, sizeof patch, i == 10 ? "{" : "{\"n\":%u}", i);
        peer_publish(p, topic, span_str(patch), 0, 0);
    }
    uint64_t version = 1;
    for (unsigned i = 1; i <= 20; i++) {
        char want[128];
        (void)snprintf(want, sizeof want,
                       i == 10 ? "$iothub/twin/res/400/?$rid=10 {\"errorCode\":4000"
                               : "$iothub/twin/res/204/?$rid=%u&$version=%llu ",
                       i, (unsigned long long)(i == 10 ? 0 : ++version));
        const char *got = peer_message(p);
        if (strncmp(got, want, strlen(want)) != 0) {
            fail_msg("%s, not %s", got, want);
        }
    }
    peer_publish(p, TWIN_GET, SPAN_NONE, 0, 0);
    assert_non_null(strstr(peer_message(p), "\"n\":20"));
    peer_end(p);
}

/* M34 */
static void desired_in_order(void **state)
{
    (void)state;
    struct peer *p = connect_1();
    set_desired("{\"properties\":{\"desired\":{\"n\":0}}}"); /* nobody asked for it */
    assert_true(peer_is_quiet(p));
    assert_int_equal(peer_subscribe(p, "$iothub/twin/PATCH/properties/desired/#", 1), 1);
    for (unsigned i = 1; i <= 20; i++) {
        char body[128];
        (void)snprintf(body, sizeof body, "{\"properties\":{\"desired\":{\"n\":%u}}}", i);
        set_desired(body);
    }
    for (unsigned i = 1; i <= 20; i++) { /* none is acknowledged */
        char want[128];
        (void)snprintf(
            want, sizeof want,
            "$iothub/twin/PATCH/properties/desired/?$version=%u {\"n\":%u,\"$version\":%u}", i + 2,
            i, i + 2);
        assert_string_equal(peer_message(p), want);
    }
    assert_true(peer_is_quiet(p));
    peer_end(p);
}

/* --- load and end ------------------------------------------------------------------------------ */

/* A device that pours messages without waiting for an acknowledgement holds its own share of the queue, not all of it. */
static void flood_is_bounded(void **state)
{
    (void)state;
    static char body[100000];
    struct hub_worker *hw = hub_worker_of(&bed.worker);
    struct peer *p = connect_1();
    struct seglog_stats st;
    link_hold_log(true);
    AUTO(buf_done) struct buf b = BUF_INIT(64u << 20);
    for (unsigned i = 0; i < 300; i++) {
        struct mqtt_publish m = {.topic = SPAN_LIT(EVENTS), .payload = span_of(body, sizeof body)};
        mqtt_publish_write(&b, &m);
    }
    struct span rest = buf_span(&b);
    for (unsigned i = 0; i < 3000 && rest.n > 0; i++) {
        struct span some = span_sub(rest, 0, 50000);
        rest = span_from(rest, peer_try(p, some));
        link_turn(1);
    }
    seglog_stats(bed.hub.log, &st);
    assert_in_range(st.queued_bytes, 1, 2 * LIMIT_HUB_LINK_BYTES);
    assert_true(hw->n_appends > 0);
    link_hold_log(false);
    peer_write(p, rest);
    peer_publish(p, EVENTS, SPAN_LIT("last"), 1, 9);
    assert_int_equal(peer_puback(p), 9);
    assert_int_equal(link_rows(NULL, 0), 301);
    peer_end(p);
}

static void many_small_are_bounded(void **state)
{
    (void)state;
    struct hub_worker *hw = hub_worker_of(&bed.worker);
    struct peer *p = connect_1();
    link_hold_log(true);
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    for (unsigned i = 0; i < 5000; i++) {
        struct mqtt_publish m = {.topic = SPAN_LIT(EVENTS), .payload = SPAN_LIT("x")};
        mqtt_publish_write(&b, &m);
    }
    struct span rest = buf_span(&b);
    for (unsigned i = 0; i < 1000 && rest.n > 0; i++) {
        rest = span_from(rest, peer_try(p, rest));
        link_turn(1);
    }
    link_turn(100);
    assert_in_range(hw->n_appends, 1, LIMIT_MQTT_RING);
    link_hold_log(false);
    peer_write(p, rest);
    peer_publish(p, EVENTS, SPAN_LIT("last"), 1, 9);
    assert_int_equal(peer_puback(p), 9);
    assert_int_equal(link_rows(NULL, 0), 5001);
    peer_end(p);
}

static void drain(void **state)
{
    (void)state;
    struct peer *a = connect_1(), *claiming = peer_new(), *late = peer_new();
    link_hold_log(true);
    peer_publish(a, EVENTS, SPAN_LIT("x"), 1, 3);
    link_turn(4);
    link_is_still = true;
    peer_hello(claiming, (struct hello){.id = "dev-2"});
    link_is_still = false;
    link_turn(1); /* judged, not yet entered */
    sessions_drain(&bed.worker, loop_now_ms(bed.worker.loop) + 10000);
    peer_hello(late, (struct hello){.id = "dev-2"});
    assert_int_equal(peer_connack(late), 3);
    assert_int_equal(peer_connack(claiming), 3);
    link_hold_log(false);
    assert_int_equal(peer_puback(a), 3); /* acknowledged before the end */
    assert_true(peer_is_closed(a));
    assert_int_equal(hub_worker_of(&bed.worker)->n_sessions, 0);
    peer_end(a);
    peer_end(claiming);
    peer_end(late);
}

/* The worker stops with links open and an append under way: the append comes home, the will is stored. */
static void cut_short(void **state)
{
    (void)state;
    struct peer *a = peer_connect((struct hello){.id = "dev-1", .will_topic = EVENTS, .will = "w"});
    struct peer *waits = peer_new();
    link_hold_log(true);
    peer_publish(a, EVENTS, SPAN_LIT("x"), 1, 3);
    link_turn(4);
    assert_int_equal(hub_worker_of(&bed.worker)->n_appends, 1);
    link_hold_log(false);
    hub_links_end(&bed.worker);
    assert_int_equal(link_rows(NULL, 0), 2);
    assert_true(peer_is_closed(a));
    assert_true(peer_is_closed(waits));
    peer_end(a);
    peer_end(waits);
}

static void flood_home(struct msg *m)
{
    (void)m;
}

/* The log's queue is full of others' messages: the link waits, and only who has waited long is closed (hub-mqtt.md 11). */
static void full_log_shapes_first(void **state)
{
    (void)state;
    struct peer *p = connect_1(), *q = peer_connect((struct hello){.id = "dev-2", .clean = true});
    size_t n = LIMIT_STORE_QUEUE_OPS + LIMIT_STORE_BATCH, taken = 0;
    struct seglog_op *ops = calloc(n, sizeof *ops);
    link_hold_log(true);
    for (enum err e = OK; e == OK; taken += e == OK) {
        assert_true(taken < n);
        ops[taken] =
            (struct seglog_op){.msg.run = flood_home, .home = loop_mailbox(bed.worker.loop)};
        e = seglog_append(bed.hub.log, &ops[taken]);
        assert_true(e == OK || e == E_BUSY);
    }
    peer_publish(p, EVENTS, SPAN_LIT("one"), 1, 7);
    peer_publish(p, EVENTS, SPAN_LIT("two"), 1, 8);
    for (unsigned i = 0; i < LIMIT_HUB_SHAPE_S - 1; i++) {
        bed_advance_s(1);
        assert_true(peer_is_quiet(p));
    }
    peer_publish(q, "devices/dev-2/messages/events/", SPAN_LIT("other"), 1, 1);
    bed_advance_s(2);
    assert_true(peer_is_closed(p));
    assert_true(peer_is_quiet(q));
    link_hold_log(false);
    struct seglog_stats st;
    do {
        link_turn(1);
        seglog_stats(bed.hub.log, &st);
    } while (st.queued_ops > 0 || st.writing);
    bed_advance_s(1);
    assert_int_equal(peer_puback(q), 1);
    char last[512];
    assert_int_equal(link_rows(last, sizeof last), taken + 1);
    peer_end(p);
    peer_end(q);
    link_turn(4);
    free(ops);
}

/* The disk is full: nothing is acknowledged, the link ends, and the next one works when there is room again. */
static void disk_full(void **state)
{
    (void)state;
    struct peer *p = connect_1();
    unsigned stored = 0, code;
    link_set_disk(10); /* asked now and then only */
    do {
        peer_publish(p, EVENTS, SPAN_LIT("x"), 1, 3);
        code = peer_puback(p);
        stored += code == 3;
    } while (code == 3);
    assert_int_equal(code, 0);
    peer_end(p);
    link_set_disk(UINT64_C(1) << 40);
    for (unsigned done = 0; done != 4;) {
        p = connect_1();
        peer_publish(p, EVENTS, SPAN_LIT("x"), 1, 4);
        done = peer_puback(p);
        peer_end(p);
    }
    assert_int_equal(link_rows(NULL, 0), stored + 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, link_teardown)

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        T(takeover),
        T(overtaken),
        T(takeover_of_one_that_does_not_read),
        T(takeover_waits_for_writes),
        T(disabled),
        T(disabled_while_claiming),
        T(credentials_change),
        T(policy_key_changes),
        T(expiry),
        T(expiry_with_the_clock_set_back),
        T(filters_cannot_be_read),
        T(wills),
        T(filters),
        T(publish_errors),
        T(stored_session),
        T(filters_in_a_hurry),
        T(suback_after_store),
        T(patches_are_bounded),
        T(acks_in_order),
        T(patches_in_order),
        T(desired_in_order),
        T(flood_is_bounded),
        T(many_small_are_bounded),
        T(drain),
        T(cut_short),
        T(full_log_shapes_first),
        T(disk_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
