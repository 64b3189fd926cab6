/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/program.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/challenge.h"
#include "dps/admission.h"
#include "dps/driver.h"
#include "dps/enrollment.h"
#include "dps/expiry.h"
#include "dps/geoip.h"
#include "dps/http.h"
#include "dps/hub_health.h"
#include "dps/instance.h"
#include "dps/issuer.h"
#include "dps/leftover.h"
#include "dps/mqtt.h"
#include "dps/refusal.h"
#include "dps/snapshot.h"
#include "dps/throttle.h"
#include "dps/webhook.h"
#include "server/metrics.h"

#define D(member) offsetof(struct dps_conf, member)
/* clang-format off */
static const struct conf_row rows[] = {
    { "dps", "register-burst", CONF_U64, D(register_burst), 0, 1000, "8",
      "Registrations that one device may ask for at once; one more each second. 0: no bound." },
    { "dps", "poll-burst", CONF_U64, D(poll_burst), 0, 1000, "5",
      "Polls of one device in ten seconds. 0: no bound." },
    { "dps", "max-backlog", CONF_U64, D(max_backlog), 0, 100000000, "200000",
      "Registrations that may wait for their hub; then new ones are told when to come back. 0: no bound." },
    { "dps", "hub-timeout-ms", CONF_U64, D(hub_timeout_ms), 100, 120000, "10000",
      "How long one call to a linked hub may take." },
    { "dps", "move-timeout-s", CONF_U64, D(move_timeout_s), 1, 86400, "60",
      "How long a device's move to another hub waits for a hub that is away; then it stays where it is." },
    { "dps", "geoip", CONF_PATH, D(geoip), 0, 0, NULL,
      "Database of countries in MaxMind's format, for rows of the latency table; read again on reload." },
    { "issuer", "signer", CONF_PATH, D(signer), 0, 0, NULL,
      "Socket of a berth-signer, which then holds the keys of issuing CAs; without one this process does." },
    { "issuer", "pkcs11-module", CONF_PATH, D(pkcs11_module), 0, 0, NULL,
      "Library that speaks to the PKCS#11 token with keys of issuing CAs." },
    { "issuer", "pkcs11-pin-file", CONF_PATH, D(pkcs11_pin_file), 0, 0, NULL,
      "File with the PIN of that token, private to the server's user." },
    { "issuer", "threads", CONF_U64, D(issuer_threads), 1, LIMIT_SIGNER_THREADS, "1",
      "Threads that sign certificates, for each worker." },
};

static const struct right_def rights[] = {
    { "ServiceConfig", R_SERVICE_CONFIG,
      R_ENROLLMENT_READ | R_ENROLLMENT_WRITE | R_REGISTRATION_READ | R_REGISTRATION_WRITE, false },
    { "DeviceConnect",           R_DEVICE_CONNECT,     0,                    false },
    { "EnrollmentRead",          R_ENROLLMENT_READ,    0,                    false },
    { "EnrollmentWrite",         R_ENROLLMENT_WRITE,   R_ENROLLMENT_READ,    false },
    { "RegistrationStatusRead",  R_REGISTRATION_READ,  0,                    false },
    { "RegistrationStatusWrite", R_REGISTRATION_WRITE, R_REGISTRATION_READ,  false },
};
static const struct policy_def policies[] = {
    { "provisioningserviceowner", "ServiceConfig, DeviceConnect, EnrollmentWrite" },
};

static const struct metric_def metrics[DPS_METRICS] = {
    [DPS_M_REG_STARTED]    = { "berth_dps_registrations_total", NULL, METRIC_COUNTER, "Registrations begun." },
    [DPS_M_REG_ASSIGNED]   = { "berth_dps_registrations_ended_total", "result=\"assigned\"", METRIC_COUNTER, "Registrations that ended." },
    [DPS_M_REG_FAILED]     = { "berth_dps_registrations_ended_total", "result=\"failed\"", METRIC_COUNTER, "Registrations that ended." },
    [DPS_M_REG_REFUSED]    = { "berth_dps_attestations_refused_total", NULL, METRIC_COUNTER, "Devices whose credential did not fit." },
    [DPS_M_POLLS]          = { "berth_dps_polls_total", NULL, METRIC_COUNTER, "Questions for the state of an operation." },
    [DPS_M_THROTTLED]      = { "berth_dps_throttled_total", NULL, METRIC_COUNTER, "Requests of devices that asked too often." },
    [DPS_M_HUB_CALLS]      = { "berth_dps_hub_calls_total", NULL, METRIC_COUNTER, "Calls to linked hubs." },
    [DPS_M_HUB_RETRIES]    = { "berth_dps_hub_call_failures_total", NULL, METRIC_COUNTER, "Calls to linked hubs that will be repeated." },
    [DPS_M_MOVES]          = { "berth_dps_moves_total", NULL, METRIC_COUNTER, "Devices that were moved to another hub." },
    [DPS_M_WEBHOOK_CALLS]  = { "berth_dps_webhook_calls_total", NULL, METRIC_COUNTER, "Calls to webhooks of the custom allocation." },
    [DPS_M_WEBHOOK_FAILED] = { "berth_dps_webhook_failures_total", NULL, METRIC_COUNTER, "Custom allocations that failed by their webhook." },
    [DPS_M_WEBHOOK_OPENED] = { "berth_dps_webhook_breakers_opened_total", NULL, METRIC_COUNTER, "Webhook hosts that failed too often and were left alone for a while." },
    [DPS_M_LEFTOVERS]      = { "berth_dps_leftovers_done_total", NULL, METRIC_COUNTER, "Devices deleted or enabled at a hub that they left." },
    [DPS_M_MQTT_CONNECTS]  = { "berth_dps_mqtt_connects_total", "result=\"accepted\"", METRIC_COUNTER, "MQTT CONNECTs." },
    [DPS_M_MQTT_REFUSED]   = { "berth_dps_mqtt_connects_total", "result=\"refused\"", METRIC_COUNTER, "MQTT CONNECTs." },
    [DPS_M_REFUSALS_NOT_KEPT] = { "berth_dps_refusals_not_kept_total", NULL, METRIC_COUNTER, "Refusals that are counted but not kept for berth dps explain." },
    [DPS_M_TPM_CHALLENGES] = { "berth_dps_tpm_challenges_total", NULL, METRIC_COUNTER, "Keys sent to TPMs." },
    [DPS_M_CERTS_ISSUED]   = { "berth_dps_certificates_total", "result=\"issued\"", METRIC_COUNTER, "Certificates asked for by devices." },
    [DPS_M_CERTS_REFUSED]  = { "berth_dps_certificates_total", "result=\"refused\"", METRIC_COUNTER, "Certificates asked for by devices." },
};
/* clang-format on */

/* --- requests ------------------------------------------------------------------------------------ */

static enum err admit(struct http_rq *rq, struct err_info *info)
{
    return http_rq_route(rq)->auth == AUTH_DEVICE ? http_device_admit(rq, info)
                                                  : http_service_admit(rq, info);
}

static void on_mqtt(struct worker *w, struct stream *s)
{
    mqtt_accept(dps_worker_of(w), s, "mqtt");
}

/* docs/protocol/dps-device.md 4.4: without case, echoed as it was spelled (D32). */
static enum err admit_ws(struct worker *w UNUSED, struct http_rq *rq, struct span *ret_protocol,
                         void **ret_kind, struct err_info *info)
{
    struct span rest = http_rq_header(rq, "Sec-WebSocket-Protocol");
    if (!ws_is_mqtt_path(http_rq_raw_path(rq))) {
        return E_NO_ROUTE;
    }
    while (rest.n != 0) {
        struct span word = span_trim(span_cut(&rest, ','));
        if (span_is_nocase(word, "mqtt")) {
            *ret_protocol = word;
            *ret_kind = NULL;
            return OK;
        }
    }
    return err_set(info, E_ARG, "the WebSocket sub-protocol must be mqtt");
}

static void on_ws(struct worker *w, struct stream *s, void *kind UNUSED)
{
    mqtt_accept(dps_worker_of(w), s, "mqtt-ws");
}

/* --- life -------------------------------------------------------------------------------------------- */

/* Workers see it with the next epoch of their snapshots. path NULL: none. */
static enum err load_geoip(struct dps *d, const char *path, struct err_info *info)
{
    struct geoip *g = NULL;
    enum err e = path != NULL ? geoip_open(path, &g, info) : OK;
    if (e != OK) {
        return e;
    }
    if (g != NULL) {
        char built[TIME_ISO_SIZE];
        time_iso7(geoip_built_s(g) * 1000000, built);
        LOG_INFO("dps.geoip_loaded", L_STR("file", path), L_STR("type", geoip_type(g)),
                 L_STR("built", built));
    }
    geoip_slot_set(d->geoip, g);
    atomic_fetch_add(&d->epoch, 1);
    return OK;
}

static void reload(struct server *s, const void *new_conf)
{
    const struct dps_conf *now = new_conf;
    struct err_info info = {0};
    enum err e = load_geoip(server_user(s), now->geoip, &info);
    if (e != OK) {
        LOG_ERROR("dps.geoip_refused", L_WHY(&info, e)); /* the one before stays */
    }
}

static enum err init(struct server *s, struct err_info *info)
{
    struct dps *d = NEW(struct dps);
    if (d == NULL) {
        return E_NOMEM;
    }
    d->server = s;
    atomic_init(&d->epoch, 1);
    backlog_init(&d->backlog);
    server_set_user(s, d);
    metrics_define(s, metrics, ARRAY_LEN(metrics));
    enum err e = issuers_new(d, &d->issuers);
    e = e != OK ? e : challenges_new(&d->challenges);
    e = e != OK ? e : throttle_new(&d->throttle);
    e = e != OK ? e : breakers_new(&d->breakers);
    e = e != OK ? e : hub_healths_new(&d->health);
    e = e != OK ? e : geoip_slot_new(&d->geoip);
    e = e != OK ? e : load_geoip(d, ((const struct dps_conf *)server_conf(s))->geoip, info);
    return e != OK ? e : instance_load(d, info);
}

static enum err init_names(struct server *s, struct buf *json, struct err_info *info)
{
    struct dps d = {.server = s};
    enum err e = instance_load(&d, info);
    if (e == OK) {
        buf_addf(json, ",\"idScope\":\"%s\"", d.id_scope);
    }
    secret_done(&d.page_key);
    secret_done(&d.webhook_key);
    return e;
}

static enum err worker_init(struct worker *w, struct err_info *info UNUSED)
{
    struct dps_worker *dw = NEW(struct dps_worker);
    enum err e;
    if (dw == NULL) {
        return E_NOMEM;
    }
    dw->w = w;
    dw->dps = dps_of(w);
    list_init(&dw->links);
    dw->next = dw->dps->workers;
    dw->dps->workers = dw;
    worker_set_user(w, dw);
    if ((e = refusals_new(dw, &dw->refusals)) != OK ||
        (e = leftover_new(dw, &dw->leftover)) != OK) {
        return e;
    }
    return driver_new(dw, &dw->driver);
}

static void sweep_challenges(struct timer *t)
{
    struct dps_worker *dw = CONTAINER_OF(t, struct dps_worker, challenge_timer);
    challenges_sweep(dw->dps->challenges, loop_now_ms(worker_loop(dw->w)));
    timer_set(worker_loop(dw->w), t, CHALLENGE_SWEEP_MS, sweep_challenges);
}

static void worker_ready(struct worker *w)
{
    struct dps_worker *dw = dps_worker_of(w);
    driver_start(dw->driver);
    leftover_start(dw->leftover);
    if (worker_index(w) == 0) {
        admission_start(dw);
        enrollment_sweep(dw);
        timer_set(worker_loop(w), &dw->challenge_timer, CHALLENGE_SWEEP_MS, sweep_challenges);
    }
}

static void worker_drain(struct worker *w, uint64_t deadline_ms)
{
    struct dps_worker *dw = dps_worker_of(w);
    dw->is_draining = true;
    timer_stop(worker_loop(w), &dw->challenge_timer);
    driver_drain(dw->driver);
    leftover_drain(dw->leftover);
    mqtt_drain(dw, deadline_ms);
    timer_stop(worker_loop(w), &dw->backlog_tick);
    refusals_drain(dw->refusals);
}

static bool worker_busy(struct worker *w)
{
    const struct dps_worker *dw = dps_worker_of(w);
    return dw->n_links != 0 || dw->n_pending != 0 || driver_is_busy(dw->driver) ||
           leftover_is_busy(dw->leftover);
}

/* dw and what it holds stay until done(): what comes home in the last turns, or from other workers, still looks at it. */
static void worker_done(struct worker *w)
{
    struct dps_worker *dw = dps_worker_of(w);
    driver_drain(dw->driver);
    leftover_drain(dw->leftover);
    mqtt_drain(dw, 0);
    signer_pool_free(dw->signers); /* what it had not begun comes home refused */
    dw->signers = NULL;
}

static void done(struct server *s)
{
    struct dps *d = server_user(s);
    if (d == NULL) {
        return;
    }
    while (d->workers != NULL) {
        struct dps_worker *dw = d->workers;
        d->workers = dw->next;
        driver_free(dw->driver);
        leftover_free(dw->leftover);
        refusals_free(dw->refusals);
        snapshot_free(dw->snap);
        free(dw);
    }
    issuers_free(d->issuers);
    breakers_free(d->breakers);
    geoip_slot_free(d->geoip);
    hub_healths_free(d->health);
    throttle_free(d->throttle);
    challenges_free(d->challenges);
    secret_done(&d->page_key);
    secret_done(&d->webhook_key);
    free(d);
}

static enum err cert_in_use(struct store_tx *tx, struct span name)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(1024);
    struct span fold;
    bool used = false;
    char *text = arena_str(&a, name);
    if (text == NULL) {
        return E_NOMEM;
    }
    text_lower(text, name.n);
    fold = span_of(text, name.n);
    enum err e = sql_use_any(tx->db, USE_CA, fold, &used);
    return e != OK ? e : used ? E_CONFLICT : OK;
}

/* One table for the frame; the parts stand in their endpoints' files. */
static struct http_route routes[64];

const struct server_program *dps_program(void)
{
    static struct server_program p = {
        .name = "berth-dps",
        .config_path = "/etc/berth/dps.conf",
        .default_data_dir = "/var/lib/berth/dps",
        .rows = rows,
        .n_rows = ARRAY_LEN(rows),
        .conf_size = sizeof(struct dps_conf),
        .module = &dps_module,
        .rights = rights,
        .n_rights = ARRAY_LEN(rights),
        .admin_right = R_SERVICE_CONFIG,
        .policies = policies,
        .n_policies = ARRAY_LEN(policies),
        .routes = routes,
        .refuse = dps_refuse,
        .admit = admit,
        .devices_prove_later = true,
        .on_mqtt = on_mqtt,
        .admit_ws = admit_ws,
        .on_ws = on_ws,
        .init = init,
        .reload = reload,
        .worker_init = worker_init,
        .worker_ready = worker_ready,
        .worker_drain = worker_drain,
        .worker_busy = worker_busy,
        .worker_done = worker_done,
        .done = done,
        .init_names = init_names,
        .cert_in_use = cert_in_use,
        .expiries = dps_expiries,
        .takes_ek_roots = true,
    };
    const struct {
        const struct http_route *v;
        size_t n;
    } parts[] = {
        {dps_device_routes, n_dps_device_routes},
        {dps_service_routes, n_dps_service_routes},
        {dps_query_routes, n_dps_query_routes},
        {dps_admin_routes, n_dps_admin_routes},
        {dps_issuer_routes, n_dps_issuer_routes},
        {dps_refusal_routes, n_dps_refusal_routes},
        {dps_check_routes, n_dps_check_routes},
        {dps_trust_bundle_routes, n_dps_trust_bundle_routes},
    };
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        ASSERT(n + parts[i].n <= ARRAY_LEN(routes));
        memcpy(routes + n, parts[i].v, parts[i].n * sizeof(routes[0]));
        n += parts[i].n;
    }
    p.n_routes = n;
    return &p;
}
