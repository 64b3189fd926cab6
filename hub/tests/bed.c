/* SPDX-License-Identifier: Apache-2.0 */
/* LONG FILE: one bed for all tests of the hub; its program, HTTP client and devices share one state. */
#include "hub/tests/bed.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "hub/http_device.h"
#include "hub/http_monitor.h"
#include "hub/http_provision.h"
#include "hub/http_service.h"
#include "server/policy.h"
#include "server/server_sql.h"
#include "wire/json.h"
#include "wire/sas.h"

struct bed bed;

/* --- program ---------------------------------------------------------------------------------- */

static const struct right_def rights[] = {
    {"RegistryRead", R_REGISTRY_READ, 0, false},
    {"RegistryWrite", R_REGISTRY_WRITE, R_REGISTRY_READ, false},
    {"ServiceConnect", R_SERVICE_CONNECT, 0, false},
    {"DeviceConnect", R_DEVICE_CONNECT, 0, false},
    {"HubConfig", R_HUB_CONFIG, 0, true},
    {"Provision", R_PROVISION, 0, true},
};

static const struct {
    const char *name;
    uint32_t given;
} policies[] = {
    {"iothubowner", R_REGISTRY_READ | R_REGISTRY_WRITE | R_SERVICE_CONNECT | R_DEVICE_CONNECT},
    {"service", R_SERVICE_CONNECT},
    {"device", R_DEVICE_CONNECT},
    {"registryRead", R_REGISTRY_READ},
    {"registryReadWrite", R_REGISTRY_READ | R_REGISTRY_WRITE},
    {"dps", R_PROVISION},
};

static const struct server_program program = {
    .name = "berth-hub",
    .rights = rights,
    .n_rights = ARRAY_LEN(rights),
    .admin_right = R_HUB_CONFIG,
    .refuse = hub_refuse,
};

/* The n-th policy's keys: its own number, 32 times. */
struct span bed_policy_key(const char *name, unsigned which)
{
    static uint8_t key[32];
    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        if (strcmp(policies[i].name, name) == 0) {
            memset(key, (int)(i * 2 + which + 1), sizeof key);
        }
    }
    return span_of(key, sizeof key);
}

static enum err policies_tx(struct store_tx *tx, struct store_op *op)
{
    (void)op;
    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        struct policy_row row = {.given = policies[i].given};
        struct secret key[2] = {{.n = 0}, {.n = 0}};
        enum err e;
        (void)snprintf(row.name, sizeof row.name, "%s", policies[i].name);
        for (unsigned k = 0; k < 2; k++) {
            if ((e = secret_set(&key[k], bed_policy_key(policies[i].name, k))) != OK) {
                return e;
            }
        }
        if ((e = policy_tx_insert(tx, bed.server.keyring, &row, key)) != OK) {
            return e;
        }
    }
    return OK;
}

/* --- hooks ------------------------------------------------------------------------------------ */

static enum err admit(struct http_rq *rq, struct err_info *info)
{
    switch (http_rq_route(rq)->auth) {
    case HUB_AUTH_MONITOR:
        return hub_monitor_admit(rq, info);
    case HUB_AUTH_PROVISION:
        return hub_provision_admit(rq, info);
    case AUTH_DEVICE:
        return hub_device_admit(rq, info);
    default:
        return hub_service_admit(rq, info);
    }
}

static void post(void *arg, unsigned worker, struct msg *m)
{
    (void)arg;
    (void)worker;
    loop_post(bed.worker.loop, m);
}

static void on_change(void *arg, unsigned worker, handle link, int64_t identity,
                      enum dir_change change)
{
    (void)arg;
    (void)worker;
    (void)link;
    bed.changes++;
    bed.last_change = change;
    bed.last_change_identity = identity;
}

static void on_desired(struct loop *l, handle link, int64_t identity, uint64_t version,
                       struct span patch)
{
    (void)l;
    (void)link;
    (void)identity;
    bed.desired++;
    bed.desired_version = version;
    (void)snprintf(bed.desired_text, sizeof bed.desired_text, "%.*s", SPAN_ARG(patch));
}

/* --- life ------------------------------------------------------------------------------------- */

static void open_store(void)
{
    static const struct store_module *const modules[] = {&server_store_module, &hub_module};
    struct err_info info = {0};
    AUTO(mem_free_p) char *path = fs_join(bed.dir, "hub.db");
    const struct store_config cfg = {
        .path = path,
        .modules = modules,
        .n_modules = 2,
        .clock = &bed.clock.clock,
        .scan_threads = 1,
        .reserve_bytes = 1000,
        .free_bytes = fixture_free,
        .free_arg = &bed.disk_free,
    };
    enum err e = store_open(&cfg, &bed.server.store, &info);
    if (e != OK) {
        fail_msg("store: %s", info.why);
    }
    assert_ok(store_reader_open(bed.server.store, &bed.worker.db, &info));
}

static void close_store(void)
{
    store_reader_close(bed.worker.db);
    store_drain(bed.server.store);
    loop_turn(bed.worker.loop, 0);
    store_close(bed.server.store);
}

static void start_http(void)
{
    static struct http_route routes[128];
    struct err_info info = {0};
    memcpy(routes, hub_service_routes, n_hub_service_routes * sizeof routes[0]);
    memcpy(routes + n_hub_service_routes, hub_provision_routes,
           n_hub_provision_routes * sizeof routes[0]);
    size_t n_routes = n_hub_service_routes + n_hub_provision_routes;
    memcpy(routes + n_routes, hub_module_routes, n_hub_module_routes * sizeof routes[0]);
    n_routes += n_hub_module_routes;
    routes[n_routes++] = (struct http_route){
        HTTP_GET, "/messages/events", HUB_AUTH_MONITOR, R_SERVICE_CONNECT, 0, hub_monitor_get};
    memcpy(routes + n_routes, hub_device_routes, n_hub_device_routes * sizeof routes[0]);
    n_routes += n_hub_device_routes;
    const struct http_conf conf = {
        .loop = bed.worker.loop,
        .routes = routes,
        .n_routes = n_routes,
        .hooks = {.admit = admit, .refuse = hub_refuse, .arg = &bed.worker},
        .max_connections = 4,
    };
    assert_ok(http_server_new(&conf, &bed.http, &info));
}

int bed_setup(void **state)
{
    (void)state;
    struct err_info info = {0};
    memset(&bed, 0, sizeof bed);
    bed.fd = -1;
    bed.dir = fixture_dir();
    bed.disk_free = UINT64_C(1) << 40;
    fixture_clock_init(&bed.clock, BED_NOW_US);
    bed.server.program = &program;
    bed.server.clock = &bed.clock.clock;
    bed.conf.token_skew_s = 300;
    atomic_store(&bed.server.conf, &bed.conf);
    bed.server.names[0] = span_dup(SPAN_LIT(BED_HOST));
    bed.server.n_names = 1;
    bed.server.workers = bed.workers;
    bed.workers[0] = &bed.worker;
    bed.server.n_workers = 1;
    atomic_store(&bed.server.clock_is_steady, true);
    atomic_store(&bed.server.policy_epoch, 1);
    atomic_store(&bed.server.trust_epoch, 1);
    bed.worker.s = &bed.server;
    assert_ok(loop_new(0, &bed.clock.clock, &bed.worker.loop));
    AUTO(mem_free_p) char *key = fs_join(bed.dir, "master.key");
    assert_ok(keyring_open(key, true, &bed.server.keyring, &info));
    open_store();
    bed.hub.server = &bed.server;
    server_set_user(&bed.server, &bed.hub);
    assert_ok(directory_new(store_boot(bed.server.store), post, NULL, &bed.hub.directory));
    directory_set_hook(bed.hub.directory, on_change, NULL);
    twin_set_desired_hook(&bed.hub, on_desired);
    assert_ok(registry_new(&bed.server, &bed.hub.registry));
    assert_ok(registry_worker_start(&bed.worker));
    assert_ok(bed_tx(policies_tx));
    start_http();
    return 0;
}

int bed_teardown(void **state)
{
    (void)state;
    if (bed.fd >= 0) {
        close(bed.fd);
    }
    bed_idle();
    http_server_free(bed.http);
    for (unsigned i = 0; i < 20; i++) {
        loop_turn(bed.worker.loop, 0);
    }
    registry_worker_done(&bed.worker);
    close_store();
    registry_free(bed.hub.registry);
    directory_free(bed.hub.directory);
    policy_set_free(bed.worker.policies);
    trust_set_free(bed.worker.trust);
    loop_free(bed.worker.loop);
    keyring_free(bed.server.keyring);
    free(bed.server.names[0]);
    fixture_dir_done(bed.dir);
    return 0;
}

void bed_restart(void)
{
    bed_idle();
    close_store();
    open_store();
}

void bed_wait(const unsigned *flag, unsigned n)
{
    uint64_t end = clock_mono_ms(clock_system()) + 60000;
    while (*flag < n) {
        loop_turn(bed.worker.loop, 5);
        if (clock_mono_ms(clock_system()) > end) {
            fail_msg("waited a minute");
        }
    }
}

void bed_idle(void)
{
    uint64_t end = clock_mono_ms(clock_system()) + 60000;
    do {
        loop_turn(bed.worker.loop, 1);
        if (clock_mono_ms(clock_system()) > end) {
            fail_msg("writes did not come home");
        }
    } while (registry_pending(&bed.worker) != 0);
    for (unsigned i = 0; i < 8; i++) {
        loop_turn(bed.worker.loop, 0);
    }
}

void bed_advance_s(int64_t s)
{
    atomic_fetch_add(&bed.clock.wall_us, s * 1000000);
    atomic_fetch_add(&bed.clock.mono_ms, (uint64_t)(s * 1000));
    loop_turn(bed.worker.loop, 0);
}

struct waited_op {
    struct store_op op;
    unsigned done;
};

static void waited_home(struct msg *m)
{
    CONTAINER_OF(m, struct waited_op, op.msg)->done = 1;
}

enum err bed_tx(enum err (*tx)(struct store_tx *tx, struct store_op *op))
{
    struct waited_op o = {.op = {.msg.run = waited_home,
                                 .home = loop_mailbox(bed.worker.loop),
                                 .tx = tx,
                                 .urgent = true}};
    assert_ok(store_submit(bed.server.store, &o.op));
    bed_wait(&o.done, 1);
    return o.op.result;
}

/* --- HTTP client ------------------------------------------------------------------------------ */

static void on_open(struct conn *c, void *arg)
{
    (void)arg;
    assert_ok(http_attach(bed.http, conn_stream(c)));
}

static void dial(void)
{
    int fd[2];
    struct conn *c;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    bed.fd = fd[1];
    assert_ok(conn_adopt(bed.worker.loop, fd[0], NULL, true, on_open, NULL, &c));
}

static void send_all(struct span b)
{
    while (b.n > 0) {
        ssize_t n = send(bed.fd, b.p, b.n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            b = span_from(b, (size_t)n);
        } else if (errno != EAGAIN) {
            return;
        }
        loop_turn(bed.worker.loop, 0);
    }
}

static bool header_of(const char *head, const char *name, char *dst, size_t n)
{
    struct span rest = span_str(head);
    dst[0] = 0;
    while (rest.n > 0) {
        struct span line = span_cut(&rest, '\n');
        struct span key = span_cut(&line, ':');
        if (line.p != NULL && span_is_nocase(key, name)) {
            line = span_trim(line);
            if (line.n > 0 && line.p[line.n - 1] == '\r') {
                line.n--;
            }
            return span_to_cstr(span_trim(line), dst, n);
        }
    }
    return false;
}

/* A whole answer is there: cut it. */
static bool cut_reply(struct buf *in, struct reply *r)
{
    char length[32];
    const uint8_t *end = in->n > 0 ? memmem(in->p, in->n, "\r\n\r\n", 4) : NULL;
    if (end == NULL) {
        return false;
    }
    size_t n_head = (size_t)(end - in->p) + 4;
    char *head = span_dup(span_of(in->p, n_head));
    uint64_t n_body = 0;
    if (header_of(head, "Content-Length", length, sizeof length)) {
        assert_true(span_to_u64(span_str(length), &n_body));
    }
    if (in->n < n_head + n_body) {
        free(head);
        return false;
    }
    assert_int_equal(in->n, n_head + n_body);
    r->head = head;
    r->body = span_dup(span_of(in->p + n_head, (size_t)n_body));
    r->status = (unsigned)strtoul(head + 9, NULL, 10);
    (void)header_of(head, "ETag", r->etag, sizeof r->etag);
    (void)header_of(head, "iothub-errorcode", r->code, sizeof r->code);
    return true;
}

static struct reply hear(void)
{
    struct reply r = {0};
    AUTO(buf_done) struct buf in = BUF_INIT(16u << 20);
    uint64_t end = clock_mono_ms(clock_system()) + 60000;
    bool is_closed = false;
    while (!cut_reply(&in, &r)) {
        assert_false(is_closed);
        loop_turn(bed.worker.loop, 1);
        uint8_t *p = buf_reserve(&in, 65536);
        ssize_t n = recv(bed.fd, p, 65536, MSG_DONTWAIT);
        in.n += n > 0 ? (size_t)n : 0;
        is_closed = n == 0;
        if (clock_mono_ms(clock_system()) > end) {
            fail_msg("no answer");
        }
    }
    char connection[16];
    if (is_closed || (header_of(r.head, "Connection", connection, sizeof connection) &&
                      span_is_nocase(span_str(connection), "close"))) {
        close(bed.fd);
        bed.fd = -1;
    }
    return r;
}

struct reply bed_ask_raw(const char *token, const char *method, const char *path,
                         const char *header, const char *body)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    if (bed.fd < 0) {
        dial();
    }
    buf_addf(&b, "%s %s%s HTTP/1.1\r\nHost: " BED_HOST "\r\n", method, path,
             strstr(path, "api-version") != NULL ? ""
             : strchr(path, '?') != NULL         ? "&api-version=2021-04-12"
                                                 : "?api-version=2021-04-12");
    if (token != NULL) {
        buf_addf(&b, "Authorization: %s\r\n", token);
    }
    if (header != NULL) {
        buf_addf(&b, "%s\r\n", header);
    }
    if (body != NULL) {
        bool has_type = header != NULL && strncmp(header, "Content-Type:", 13) == 0;
        buf_addf(&b, "%sContent-Length: %zu\r\n",
                 has_type ? "" : "Content-Type: application/json\r\n", strlen(body));
    }
    buf_add_str(&b, "\r\n");
    buf_add_str(&b, body != NULL ? body : "");
    assert_ok(buf_err(&b));
    send_all(buf_span(&b));
    return hear();
}

struct reply bed_ask(const char *who, const char *method, const char *path, const char *if_match,
                     const char *body)
{
    char token[1024], header[256];
    if (who != NULL) {
        bed_token(token, BED_HOST, bed_policy_key(who, 0), who, 3600);
    }
    if (if_match != NULL) {
        (void)snprintf(header, sizeof header, "If-Match: %s", if_match);
    }
    return bed_ask_raw(who != NULL ? token : NULL, method, path, if_match != NULL ? header : NULL,
                       body);
}

void reply_done(struct reply *r)
{
    free(r->head);
    free(r->body);
    memset(r, 0, sizeof *r);
}

void bed_token(char dst[1024], const char *sr, struct span key, const char *skn, int64_t ttl_s)
{
    AUTO(buf_done) struct buf enc = BUF_INIT(1024);
    AUTO(buf_done) struct buf text = BUF_INIT(1024);
    AUTO(buf_done) struct buf tok = BUF_INIT(1024);
    uint8_t sig[MAC_SIZE];
    uint64_t se = (uint64_t)(clock_wall_s(&bed.clock.clock) + ttl_s);
    percent_add(&enc, span_str(sr));
    sas_to_sign_write(&text, buf_span(&enc), se);
    mac_sha256(key, buf_span(&text), sig);
    sas_write(&tok, buf_span(&enc), sig, se, span_str(skn));
    assert_true(span_to_cstr(buf_span(&tok), dst, 1024));
}

const char *member(const char *json, const char *path)
{
    static char out[4][8192];
    static unsigned turn;
    struct json *j = NULL, *v = NULL;
    char *dst = out[turn++ % 4];
    struct err_info info;
    dst[0] = 0;
    if (json_read(span_str(json), 4u << 20, &j, &info) == OK &&
        json_get_any(j, path, 0, &v, &info) == OK && v != NULL) {
        AUTO(buf_done) struct buf b = BUF_INIT(sizeof out[0] - 1);
        json_write(&b, v);
        assert_true(span_to_cstr(buf_span(&b), dst, sizeof out[0]));
    }
    json_free(j);
    return dst;
}

/* --- devices ---------------------------------------------------------------------------------- */

int64_t bed_device(const char *id, const char *authentication)
{
    char path[512], body[2048];
    (void)snprintf(path, sizeof path, "/devices/%s", id);
    (void)snprintf(body, sizeof body, "{\"deviceId\":\"%s\"%s%s}", id,
                   authentication != NULL ? ",\"authentication\":" : "",
                   authentication != NULL ? authentication : "");
    struct reply r = bed_ask("iothubowner", "PUT", path, NULL, body);
    assert_int_equal(r.status, 200);
    reply_done(&r);
    AUTO(arena_done) struct arena a = ARENA_INIT(65536);
    struct device d;
    assert_ok(registry_get(&bed.worker, &a, span_str(id), &d));
    return d.identity;
}

static void granted(struct msg *m)
{
    CONTAINER_OF(m, struct dir_claim, msg)->result = OK;
}

void bed_connect(int64_t identity)
{
    static struct dir_claim claim;
    static int object;
    claim = (struct dir_claim){.msg.run = granted,
                               .home = bed.worker.loop,
                               .identity = identity,
                               .link = handle_new(bed.worker.loop, &object),
                               .result = E_AGAIN};
    assert_ok(directory_claim(bed.hub.directory, &claim));
    bed_idle();
    assert_true(directory_is_connected(bed.hub.directory, identity));
}
