/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each step is run again and again, and each time the next allocation fails: it must end with E_NOMEM or, when it can do without,
 * with the right result, lose nothing, and succeed when memory is there again.
 */
#include "tests/oom/oom.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/text.h"
#include "client/identity.h"
#include "enroll-tool/ledger.h"
#include "tpm/blob.h"
#include "tpm/fixture.h"
#include "tpm/samples.h"
#include "wire/connstr.h"
#include "wire/json.h"
#include "wire/mqtt.h"
#include "wire/props.h"
#include "wire/sas.h"
#include "wire/topic.h"
#include "wire/twin.h"

/* A result that is neither right nor an error. */
#define WANT(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            (void)fprintf(stderr, "line %d: %s\n", __LINE__, #cond);                               \
            return E_CORRUPT;                                                                      \
        }                                                                                          \
    } while (0)
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        enum err try_ = (expr);                                                                    \
        if (try_ != OK) {                                                                          \
            return try_;                                                                           \
        }                                                                                          \
    } while (0)

static struct fix_key point_key; /* an ECC EK */
static char dir[] = "/tmp/berth-oom-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[4][128];
    static unsigned at;
    char *p = path[at++ % 4];
    (void)snprintf(p, 128, "%s/%s", dir, name);
    return p;
}

/* --- base --------------------------------------------------------------------------------------------- */

static enum err step_buf(void)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 16);
    AUTO(mem_free_p) char *s = NULL;
    for (int i = 0; i < 2000; i++) {
        buf_addf(&b, "%d,", i);
        buf_add_be32(&b, 7);
    }
    base64_add(&b, SPAN_LIT("some bytes"));
    percent_add(&b, SPAN_LIT("a/b"));
    size_t n = b.n;
    TRY(buf_err(&b));
    s = buf_take_str(&b);
    if (s == NULL) {
        return E_NOMEM;
    }
    WANT(n == 2000 * 4 + 8890 + 16 + 5 && memcmp(s + n - 5, "a%2Fb", 6) == 0);
    return OK;
}

static enum err step_arena(void)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(1u << 20);
    for (size_t i = 1; i < 5000; i = i * 2 + 1) {
        uint8_t *p = arena_alloc(&a, i);
        char *s = arena_printf(&a, "%zu", i);
        struct span copy = arena_span(&a, SPAN_LIT("copy"));
        if (p == NULL || s == NULL || copy.p == NULL) {
            return E_NOMEM;
        }
        WANT(p[0] == 0 && p[i - 1] == 0 && span_is(copy, "copy"));
    }
    return OK;
}

static enum err step_map(void)
{
    struct entry {
        struct map_node node;
        char key[8];
    };
    static struct entry entries[300];
    struct map m;
    enum err e = OK;
    size_t n = 0;
    map_init(&m);
    for (; n < ARRAY_LEN(entries) && e == OK; n++) {
        (void)snprintf(entries[n].key, sizeof(entries[n].key), "%zu", n);
        entries[n].node.key = span_str(entries[n].key);
        e = map_add(&m, &entries[n].node);
    }
    size_t inside = e == OK ? n : n - 1; /* the one that failed is not in, all others are */
    bool is_whole = m.count == inside;
    for (size_t i = 0; i < inside; i++) {
        is_whole = is_whole && map_get(&m, span_str(entries[i].key)) == &entries[i].node;
    }
    map_done(&m);
    WANT(is_whole);
    return e;
}

static enum err step_conf(void)
{
    struct values {
        char *text, *path, *list;
        uint64_t number;
    } v = {0};
    static const struct conf_row rows[] = {
        {"a", "text", CONF_STR, offsetof(struct values, text), 0, 0, "dflt", "."},
        {"a", "path", CONF_PATH, offsetof(struct values, path), 0, 0, NULL, "."},
        {"a", "list", CONF_LIST, offsetof(struct values, list), 0, 0, NULL, "."},
        {"a", "number", CONF_U64, offsetof(struct values, number), 0, 0, "5", "."},
    };
    enum err e = conf_load(rows, ARRAY_LEN(rows), in_dir("conf"), &v, NULL, NULL, NULL);
    bool is_right = e != OK || (strcmp(v.text, "t") == 0 && strcmp(v.list, "x,y,z") == 0 &&
                                v.number == 9 && v.path != NULL);
    if (e == OK) {
        e = conf_set(rows, ARRAY_LEN(rows), &v, "a.text=other", NULL);
    }
    conf_done(rows, ARRAY_LEN(rows), &v);
    WANT(is_right);
    return e;
}

/* --- wire --------------------------------------------------------------------------------------------- */

#define DOC "{\"a\":{\"b\":[1,2.5,\"\\u00e9\",null,true]},\"c\":\"text\",\"d\":{}}"

static enum err step_json_read(void)
{
    AUTO(json_free_p) struct json *j = NULL;
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 16);
    struct span s;
    TRY(json_read_object(SPAN_LIT(DOC), 4096, &j, NULL));
    TRY(json_get_str(j, "c", JSON_F_NEED, &s, NULL));
    WANT(span_is(s, "text") && json_count(json_get(json_get(j, "a"), "b")) == 5);
    json_write(&b, j);
    TRY(buf_err(&b));
    WANT(span_is(buf_span(&b),
                 "{\"a\":{\"b\":[1,2.5,\"\xc3\xa9\",null,true]},\"c\":\"text\",\"d\":{}}"));
    return OK;
}

static enum err step_json_make(void)
{
    AUTO(json_free_p) struct json *o = json_new_object(), *copy = NULL;
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 16);
    if (o == NULL) {
        return E_NOMEM;
    }
    struct json *list = json_new_array();
    TRY(json_set(o, "list", list)); /* NULL is E_NOMEM; a failure frees it */
    for (int i = 0; i < 20; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "m%d", i);
        TRY(json_add(list, json_new_int(i)));
        TRY(json_set_str(o, name, SPAN_LIT("value")));
    }
    TRY(json_set(o, "m3", json_new_real(0.5)));
    if ((copy = json_clone(o)) == NULL) {
        return E_NOMEM;
    }
    WANT(json_same(o, copy));
    json_write(&b, copy);
    return buf_err(&b);
}

static enum err step_twin(void)
{
    AUTO(json_free_p) struct json *doc = NULL, *patch = NULL, *want = NULL;
    TRY(json_read_object(SPAN_LIT("{\"a\":{\"x\":1,\"y\":2},\"b\":3,\"$version\":4}"), 4096, &doc,
                         NULL));
    TRY(json_read_object(
        SPAN_LIT("{\"a\":{\"x\":null,\"z\":{\"q\":5}},\"c\":[1,2],\"$version\":9}"), 4096, &patch,
        NULL));
    TRY(json_read_object(SPAN_LIT("{\"a\":{\"y\":2,\"z\":{\"q\":5}},\"b\":3,\"c\":[1,2]}"), 4096,
                         &want, NULL));
    TRY(twin_merge(doc, patch));
    twin_strip(doc);
    WANT(json_same(doc, want));
    return OK;
}

static enum err step_props(void)
{
    static const char bag[] = "%24.mid=m%201&%24.ct=application%2Fjson&a=b%26c&flag&e=";
    AUTO(arena_done) struct arena a = ARENA_INIT(1u << 20);
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 16), down = BUF_INIT(1u << 16);
    struct prop *p = NULL;
    size_t n = 0, dropped = 0;
    TRY(props_bag_read(span_str(bag), &a, &p, &n, &dropped, NULL));
    WANT(n == 5 && dropped == 0);
    props_bag_write(&b, p, n);
    TRY(buf_err(&b));
    WANT(span_is(buf_span(&b), bag));
    props_c2d_write(&down, SPAN_LIT("dev"), p, n);
    return buf_err(&down);
}

static enum err step_mqtt(void)
{
    static uint8_t payload[3000];
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 16);
    const struct mqtt_connect cn = {.client_id = SPAN_LIT("dev"),
                                    .has_username = true,
                                    .username = SPAN_LIT("user"),
                                    .has_password = true,
                                    .password = span_of(payload, 500),
                                    .keep_alive_s = 60};
    const struct mqtt_publish p = {.topic = SPAN_LIT("a/b"),
                                   .payload = span_of(payload, sizeof(payload)),
                                   .qos = 1,
                                   .packet_id = 7};
    const struct mqtt_filter f[] = {{SPAN_LIT("a/#"), 1}, {SPAN_LIT("b/+/c"), 0}};
    struct span rest, body;
    uint8_t first;
    size_t used, packets = 0;
    mqtt_connect_write(&b, &cn);
    mqtt_connack_write(&b, true, 0);
    mqtt_publish_write(&b, &p);
    mqtt_puback_write(&b, 7);
    mqtt_subscribe_write(&b, 8, f, ARRAY_LEN(f));
    mqtt_suback_write(&b, 8, SPAN_LIT("\1\0"));
    mqtt_unsubscribe_write(&b, 9, f, ARRAY_LEN(f));
    mqtt_unsuback_write(&b, 9);
    mqtt_pingreq_write(&b);
    mqtt_pingresp_write(&b);
    mqtt_disconnect_write(&b);
    TRY(buf_err(&b));
    for (rest = buf_span(&b); rest.n > 0; rest = span_from(rest, used), packets++) {
        WANT(mqtt_frame_read(rest, 1u << 16, &first, &body, &used) == OK);
    }
    WANT(packets == 11);
    return OK;
}

static enum err step_topic_user(void)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(1u << 16);
    AUTO(buf_done) struct buf b = BUF_INIT(4096), d = BUF_INIT(4096);
    struct hub_username h;
    struct dps_username u;
    topic_hub_username_write(&b, SPAN_LIT("hub.example"), SPAN_LIT("dev"), SPAN_LIT("2021-04-12"),
                             SPAN_LIT("client 1/2"), SPAN_LIT("dtmi:a:b;1"));
    topic_dps_username_write(&d, SPAN_LIT("0ne1"), SPAN_LIT("dev"), SPAN_LIT("2021-06-01"),
                             SPAN_LIT("x y"));
    TRY(buf_err(&b));
    TRY(buf_err(&d));
    TRY(topic_hub_username_read(buf_span(&b), SPAN_LIT("dev"), &a, &h, NULL));
    WANT(span_is(h.client_type, "client 1/2") && span_is(h.model_id, "dtmi:a:b;1"));
    TRY(topic_dps_username_read(buf_span(&d), SPAN_LIT("dev"), &a, &u, NULL));
    WANT(span_is(u.registration_id, "dev"));
    return OK;
}

static enum err step_sas(void)
{
    AUTO(buf_done) struct buf sr = BUF_INIT(512), b = BUF_INIT(1024), sign = BUF_INIT(1024);
    const struct span segments[] = {SPAN_LIT("hub.example"), SPAN_LIT("devices"), SPAN_LIT("d 1")};
    const uint8_t sig[SAS_SIG_SIZE] = {1};
    struct sas_token t;
    struct connstr c;
    sas_sr_write(&sr, segments, ARRAY_LEN(segments));
    sas_write(&b, buf_span(&sr), sig, 1234567890, SPAN_LIT("policy"));
    TRY(buf_err(&sr));
    TRY(buf_err(&b));
    TRY(sas_parse(buf_span(&b), &t, NULL));
    sas_to_sign(&t, &sign);
    TRY(buf_err(&sign));
    WANT(sas_scope_covers(&t, segments, 1, segments + 1, 2, 0));
    TRY(connstr_read(SPAN_LIT("HostName=h.e;SharedAccessKeyName=n;SharedAccessKey=QUJDRA=="), &c,
                     NULL));
    return OK;
}

/* --- files --------------------------------------------------------------------------------------------- */

static enum err step_identity_load(void)
{
    struct identity id = {0};
    TRY(identity_load(in_dir("unit"), &id, NULL));
    bool is_right = strcmp(id.serial, "S") == 0 && id.key.n == 32 && id.ca_file != NULL;
    identity_done(&id);
    WANT(is_right);
    return OK;
}

static void remove_unit(const char *name)
{
    static const char *const names[] = {"/factory/ca.pem", "/factory/key", "/factory/identity.json",
                                        "/factory", ""};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[160];
        (void)snprintf(path, sizeof(path), "%s%s", in_dir(name), names[i]);
        (void)remove(path);
    }
}

static const struct burn unit = {
    .serial = "S",
    .registration_id = "s",
    .id_scope = "0ne1",
    .dps_host = "dps.example",
    .kind = ATTEST_SYMMETRIC_KEY,
    .key_base64 = SPAN_LIT("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    .ca_pem = SPAN_LIT("ca"),
};

/* Refused: nothing is there. Done: it is whole. */
static enum err step_identity_burn(void)
{
    enum err e = identity_burn(in_dir("new"), &unit, NULL);
    bool is_there = access(in_dir("new"), F_OK) == 0;
    bool is_whole = access(in_dir("new/factory/identity.json"), F_OK) == 0;
    remove_unit("new");
    /* Behind the rename only the folder's sync can fail: then it is whole as well. */
    WANT(is_there == is_whole && (e != OK || is_there));
    return e;
}

static enum err step_assignment(void)
{
    char hub[] = "hub.example", device[] = "d";
    struct assignment a = {hub, device, 5}, got = {0};
    TRY(assignment_save(dir, &a, NULL));
    TRY(assignment_load(dir, &got, NULL));
    bool is_right = strcmp(got.hub, hub) == 0 && got.assigned_us == 5;
    assignment_done(&got);
    WANT(is_right);
    return OK;
}

static enum err step_ledger(void)
{
    AUTO(ledger_close_p) struct ledger *l = NULL;
    const char *target = NULL;
    (void)unlink(in_dir("station/ledger.jsonl"));
    TRY(ledger_open(in_dir("station"), &l, NULL));
    TRY(ledger_add(l, "A", "a", LEDGER_DONE, "/t", "x509", NULL));
    WANT(ledger_find(l, "A", &target) == LEDGER_DONE && strcmp(target, "/t") == 0);
    ledger_close(TAKE(l));
    return ledger_open(in_dir("station"), &l, NULL);
}

/* --- tpm ------------------------------------------------------------------------------------------------- */

/* What OpenSSL says of its own failures does not tell memory from the rest. */
static enum err of_library(enum err e)
{
    return e == E_CRYPTO ? E_NOMEM : e;
}

static enum err step_tpm(void)
{
    AUTO(buf_done) struct buf raw = BUF_INIT(TPM_PUBLIC_MAX), blob = BUF_INIT(TPM_BLOB_MAX);
    struct tpm_public srk, ek;
    struct tpm_blob parts;
    TRY(base64_decode(SPAN_LIT(SAMPLE_SRK), &raw));
    TRY(tpm_public_read(buf_span(&raw), TPM_SRK, &srk, NULL));
    TRY(of_library(tpm_public_read(fix_key_public(&point_key), TPM_EK, &ek, NULL)));
    TRY(of_library(tpm_blob_make(&ek, &srk, SPAN_LIT("0123456789abcdef"), &blob)));
    WANT(tpm_blob_read(buf_span(&blob), &parts) == OK);
    return OK;
}

/* --- all of them ---------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum err (*run)(void);
    bool keeps; /* OpenSSL keeps what it fetched once */
} steps[] = {
    {"base/buf, base/text", step_buf, false},
    {"base/arena", step_arena, false},
    {"base/map", step_map, false},
    {"base/conf", step_conf, false},
    {"wire/json: reading and writing", step_json_read, false},
    {"wire/json: making", step_json_make, false},
    {"wire/twin", step_twin, false},
    {"wire/props", step_props, false},
    {"wire/mqtt", step_mqtt, false},
    {"wire/topic: user names", step_topic_user, false},
    {"wire/sas, wire/connstr", step_sas, false},
    {"client/identity: load", step_identity_load, false},
    {"client/identity: burn", step_identity_burn, false},
    {"client/identity: assignment", step_assignment, false},
    {"enroll-tool/ledger", step_ledger, true},
    {"tpm: reading keys, making a blob", step_tpm, true},
};

static bool torture(size_t i)
{
    unsigned long n, tolerated = 0;
    bool ok = true;
    if (steps[i].run() != OK) { /* also the libraries' first use */
        (void)fprintf(stderr, "%s: fails with memory\n", steps[i].name);
        return false;
    }
    for (n = 1; n < 10000; n++) {
        long before = oom_live();
        oom_arm(n);
        enum err e = steps[i].run();
        bool has_failed = oom_disarm();
        if (!has_failed) {
            ok = ok && e == OK;
            break;
        }
        tolerated += e == OK;
        if (e != OK && e != E_NOMEM) {
            (void)fprintf(stderr, "%s: allocation %lu fails: %s\n", steps[i].name, n, err_name(e));
            ok = false;
        }
        if (oom_live() != before && !steps[i].keeps) {
            (void)fprintf(stderr, "%s: allocation %lu fails: %ld not freed\n", steps[i].name, n,
                          oom_live() - before);
            ok = false;
        }
    }
    printf("%-34s %4lu allocations, %lu done without\n", steps[i].name, n - 1, tolerated);
    return ok && steps[i].run() == OK;
}

static void prepare(void)
{
    ASSERT(mkdtemp(dir) != NULL);
    ASSERT(fs_write_atomic(in_dir("conf"),
                           SPAN_LIT("[a]\ntext = t\npath = p\nlist = x, y\nlist = z\nnumber = 9\n"),
                           0600, NULL) == OK);
    ASSERT(identity_burn(in_dir("unit"), &unit, NULL) == OK);
    fix_key_new(&point_key, FIX_P256, TPM_EK);
}

static void clean(void)
{
    fix_key_done(&point_key);
    static const char *const names[] = {"conf", "assignment.json", "station/ledger.jsonl",
                                        "station/lock", "station"};
    remove_unit("unit");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)remove(in_dir(names[i]));
    }
    if (rmdir(dir) != 0) {
        (void)fprintf(stderr, "something was left in %s\n", dir);
    }
}

int main(void)
{
    bool ok = true;
    if (!oom_is_here()) {
        printf("no failing allocator in this build\n");
        return 77;
    }
    prepare();
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        ok = torture(i) && ok;
    }
    clean();
    return ok ? 0 : 1;
}
