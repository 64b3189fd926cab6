/* SPDX-License-Identifier: Apache-2.0 */
/* berth-hub: configuration, wiring, life cycle. The rules are elsewhere. */
#include <stdlib.h>

#include "base/fs.h"
#include "base/limits.h"
#include "base/log.h"
#include "hub/allowance.h"
#include "hub/http_device.h"
#include "hub/http_monitor.h"
#include "hub/http_provision.h"
#include "hub/http_service.h"
#include "hub/metrics.h"
#include "hub/mqtt.h"
#include "hub/stream_grant.h"
#include "hub/streams.h"
#include "hub/twin.h"

#define CONF(m) offsetof(struct hub_conf, m)

/* clang-format off */
static const struct conf_row conf_rows[] = {
    { "log", "partitions",      CONF_U64, CONF(partitions),      1, 128,          "4",      "Partitions of the telemetry log; fixed when it is made." },
    { "log", "retention-s",     CONF_U64, CONF(retention_s),     60, 31536000,    "604800", "Messages older than this many seconds may go." },
    { "log", "retention-bytes", CONF_U64, CONF(retention_bytes), 1 << 20, 0,      "16G",    "Above this size of the log its oldest segment goes." },
    { "log", "segment-bytes",   CONF_U64, CONF(segment_bytes),   1 << 20, 0,      "256M",   "A new segment file begins after this many bytes." },
    { "log", "gather-us",       CONF_U64, CONF(gather_us),       0, 100000,       "1000",   "A message waits at most so long for others to share its sync, when others are likely; 0: never." },
    { "devices", "messages-per-second", CONF_U64, CONF(messages_per_s),   0, 1000000,  "0",      "What one device may send, telemetry and reported patches; 0: no bound." },
    { "devices", "messages-per-day",    CONF_U64, CONF(messages_per_day), 0, 0,        "0",      "The same for a UTC day; 0: no bound." },
    { "devices", "bytes-per-day",       CONF_U64, CONF(bytes_per_day),    0, 0,        "0",      "Bytes of one device in a UTC day, bodies and properties; 0: no bound." },
    { "streams", "enabled",            CONF_BOOL, CONF(streams.is_on),              0, 0,      "no",   "Device streams: TCP to devices through this hub." },
    { "streams", "gateway-host",       CONF_STR,  CONF(streams.gateway_host),       0, 253,    NULL,   "Host told to both ends; empty: the first of names." },
    { "streams", "gateway-port",       CONF_U64,  CONF(streams.gateway_port),       0, 65535,  "0",    "Port told to both ends; 0: https-port." },
    { "streams", "strict",             CONF_BOOL, CONF(streams.is_strict),          0, 0,      "no",   "Text messages end a stream (1003), instead of passing as bytes." },
    { "streams", "new-per-second",     CONF_U64,  CONF(streams.new_per_s),          0, 100000, "5",    "New streams of the whole hub in a second; 0: no bound." },
    { "streams", "max",                CONF_U64,  CONF(streams.max),                0, 1000000, "1000", "Streams of the whole hub at a time; 0: no bound." },
    { "streams", "max-per-device",     CONF_U64,  CONF(streams.max_per_device),     0, 1000000, "10",  "Streams of one device at a time; 0: no bound." },
    { "streams", "bytes-per-second",   CONF_U64,  CONF(streams.bytes_per_s),        0, 0,      "0",    "Rate of one stream, both ways together; 0: no bound." },
    { "streams", "device-bytes-per-second", CONF_U64, CONF(streams.device_bytes_per_s), 0, 0,  "0",    "Rate of all streams of one device together; 0: no bound." },
    { "streams", "idle-seconds",       CONF_U64,  CONF(streams.idle_s),             0, 31536000, "0",   "A stream through which nothing came for that long is ended; 0: it is not." },
    { "streams", "max-seconds",        CONF_U64,  CONF(streams.lifetime_s),         0, 31536000, "0",   "A stream that is that old is ended; 0: it is not." },
};
static const struct right_def rights[] = {
    { "RegistryRead",   R_REGISTRY_READ,   0,               false },
    { "RegistryWrite",  R_REGISTRY_WRITE,  R_REGISTRY_READ, false },
    { "ServiceConnect", R_SERVICE_CONNECT, 0,               false },
    { "DeviceConnect",  R_DEVICE_CONNECT,  0,               false },
    { "HubConfig",      R_HUB_CONFIG,      0,               true },
    { "Provision",      R_PROVISION,       0,               true },
};
static const struct policy_def policies[] = {
    { "iothubowner",       "RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect, HubConfig, Provision" },
    { "service",           "ServiceConnect" },
    { "device",            "DeviceConnect" },
    { "registryRead",      "RegistryRead" },
    { "registryReadWrite", "RegistryRead, RegistryWrite" },
};
static const struct metric_def metric_defs[HUB_METRICS] = {
    [HUB_M_CONNECTS]       = { "berth_hub_connects_total", NULL, METRIC_COUNTER, "Links accepted." },
    [HUB_M_REFUSED]        = { "berth_hub_refused_total", NULL, METRIC_COUNTER, "Devices refused at connect or request." },
    [HUB_M_TAKEOVERS]      = { "berth_hub_takeovers_total", NULL, METRIC_COUNTER, "Links ended by a newer one of the same identity." },
    [HUB_M_TAKEOVERS_DELAYED] = { "berth_hub_takeovers_delayed_total", NULL, METRIC_COUNTER, "Links that had to wait: their identity was taken over too often." },
    [HUB_M_TAKEOVER_WARS]  = { "berth_hub_takeover_wars_total", NULL, METRIC_COUNTER, "Alarms: the links of one identity take over from one another." },
    [HUB_M_TWO_PLACES]     = { "berth_hub_two_places_total", NULL, METRIC_COUNTER, "Alarms: one identity was used from two addresses in turn." },
    [HUB_M_REVOKED]        = { "berth_hub_revoked_total", NULL, METRIC_COUNTER, "Links ended because what admitted them is no longer good." },
    [HUB_M_EXPIRED]        = { "berth_hub_expired_total", NULL, METRIC_COUNTER, "Links ended at the end of their token or certificate." },
    [HUB_M_MSG_MQTT]       = { "berth_hub_telemetry_messages_total", "protocol=\"mqtt\"", METRIC_COUNTER, "Messages on disk." },
    [HUB_M_MSG_HTTPS]      = { "berth_hub_telemetry_messages_total", "protocol=\"https\"", METRIC_COUNTER, "Messages on disk." },
    [HUB_M_MSG_SHAPED] = { "berth_hub_telemetry_shaped_total", NULL, METRIC_COUNTER, "Times that a link waited because the log took no more." },
    [HUB_M_RATE]           = { "berth_hub_rate_total", NULL, METRIC_COUNTER, "Messages that had to wait or were refused: their device sends too fast." },
    [HUB_M_QUOTA]          = { "berth_hub_quota_total", NULL, METRIC_COUNTER, "Messages refused: their device has used up its day." },
    [HUB_M_MSG_NOT_STORED] = { "berth_hub_telemetry_not_stored_total", NULL, METRIC_COUNTER, "Messages not stored and never acknowledged." },
    [HUB_M_TWIN_GETS]      = { "berth_hub_twin_gets_total", NULL, METRIC_COUNTER, "Twins read by devices." },
    [HUB_M_TWIN_PATCHES]   = { "berth_hub_twin_patches_total", NULL, METRIC_COUNTER, "Reported patches on disk." },
    [HUB_M_MONITOR_ROWS]   = { "berth_hub_monitor_rows_total", NULL, METRIC_COUNTER, "Messages read by monitors." },
    [HUB_M_STREAM_BEGUN]   = { "berth_hub_stream_requests_total", NULL, METRIC_COUNTER, "Streams asked for and taken on." },
    [HUB_M_STREAM_REJECTED] = { "berth_hub_stream_rejected_total", NULL, METRIC_COUNTER, "Streams that the device rejected." },
    [HUB_M_STREAM_FAILED]  = { "berth_hub_stream_failed_total", NULL, METRIC_COUNTER, "Streams whose device was not there or did not answer." },
    [HUB_M_STREAM_OPENED]  = { "berth_hub_stream_opened_total", NULL, METRIC_COUNTER, "Streams with both ends connected." },
    [HUB_M_STREAM_REVOKED] = { "berth_hub_stream_revoked_total", NULL, METRIC_COUNTER, "Streams ended because what admitted them is no longer good." },
    [HUB_M_STREAM_BYTES_DEVICE]  = { "berth_hub_stream_bytes_total", "from=\"device\"", METRIC_COUNTER, "Payload of ended streams." },
    [HUB_M_STREAM_BYTES_SERVICE] = { "berth_hub_stream_bytes_total", "from=\"service\"", METRIC_COUNTER, "Payload of ended streams." },
};
static const struct http_route own_routes[] = {
    { HTTP_GET, "/messages/events", HUB_AUTH_MONITOR, R_SERVICE_CONNECT, 0, hub_monitor_get },
};
/* clang-format on */

/* --- admission ---------------------------------------------------------------------------------------------------- */

static enum err admit(struct http_rq *rq, struct err_info *info)
{
    /* threat N10: a request that was meant for another hub is not answered by this one. */
    struct span host = http_rq_host(rq);
    if (!server_has_name(worker_server(worker_of_rq(rq)), host)) {
        return err_set(info, E_UNAUTHORIZED, "Host '%.*s' is no name of this hub",
                       SPAN_ARG(span_sub(host, 0, 100)));
    }
    switch (http_rq_route(rq)->auth) {
    case AUTH_NONE:
        return OK;
    case AUTH_SERVICE:
    case HUB_AUTH_OWN:
        return hub_service_admit(rq, info);
    case AUTH_DEVICE:
        return hub_device_admit(rq, info);
    case HUB_AUTH_PROVISION:
        return hub_provision_admit(rq, info);
    case HUB_AUTH_MONITOR:
        return hub_monitor_admit(rq, info);
    default:
        return err_set(info, E_BUG, "route without a rule of admission");
    }
}

/* The first word of the list that is "mqtt" without case, as it was spelled. */
static struct span pick_mqtt(struct span list)
{
    while (list.n > 0) {
        struct span word = span_trim(span_cut(&list, ','));
        if (span_is_nocase(word, "mqtt")) {
            return word;
        }
    }
    return SPAN_NONE;
}

static enum err admit_ws(struct worker *w, struct http_rq *rq, struct span *ret_protocol,
                         void **ret_kind, struct err_info *info)
{
    if (span_starts(http_rq_raw_path(rq), SPAN_LIT("/bridges/"))) {
        return stream_admit(w, rq, ret_protocol, ret_kind, info);
    }
    if (!ws_is_mqtt_path(http_rq_raw_path(rq))) {
        return E_NO_ROUTE;
    }
    struct span word = pick_mqtt(http_rq_header(rq, "Sec-WebSocket-Protocol"));
    if (word.n == 0) {
        return err_set(info, E_ARG, "no WebSocket sub-protocol that is offered here: mqtt");
    }
    *ret_protocol = word;
    *ret_kind = NULL;
    return OK;
}

static void on_ws(struct worker *w, struct stream *s, void *kind)
{
    if (kind != NULL) {
        stream_take(w, s, kind);
    } else {
        hub_mqtt_accept(w, s);
    }
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static void post_to_worker(void *arg, unsigned worker, struct msg *m)
{
    struct hub *h = arg;
    loop_post(worker_loop(server_worker(h->server, worker)), m);
}

static void extra_metrics(struct server *s, struct buf *text)
{
    struct hub *h = server_user(s);
    struct seglog_stats st;
    seglog_stats(h->log, &st);
    metrics_addf(text, "berth_hub_connected_devices", METRIC_GAUGE, "Identities with a link.", NULL,
                 directory_count(h->directory));
    metrics_addf(text, "berth_hub_streams", METRIC_GAUGE, "Streams, pending ones included.", NULL,
                 streams_open(h));
    metrics_addf(text, "berth_hub_log_appended_total", METRIC_COUNTER,
                 "Messages appended to the log.", NULL, st.appended);
    metrics_addf(text, "berth_hub_log_commits_total", METRIC_COUNTER, "Commits of the log.", NULL,
                 st.commits);
    metrics_addf(text, "berth_hub_log_failed_commits_total", METRIC_COUNTER, "Commits that failed.",
                 NULL, st.failed_commits);
    metrics_addf(text, "berth_hub_log_queued", METRIC_GAUGE, "Messages waiting for their commit.",
                 NULL, st.queued_ops);
    metrics_addf(text, "berth_hub_log_bytes", METRIC_GAUGE, "Bytes of the log on disk.", NULL,
                 st.bytes_on_disk);
    metrics_addf(text, "berth_hub_log_low_disk", METRIC_GAUGE,
                 "1: the log refuses because the disk is nearly full.", NULL, st.low_disk);
}

static bool trusts_clock(void *arg)
{
    return server_clock_is_steady(arg);
}

static struct allowance_conf allowance_of(const struct hub_conf *c)
{
    return (struct allowance_conf){c->messages_per_s, c->messages_per_day, c->bytes_per_day};
}

static enum err init(struct server *s, struct err_info *info)
{
    struct hub *h = NEW(struct hub);
    if (h == NULL) {
        return E_NOMEM;
    }
    h->server = s;
    const struct hub_conf *conf = server_conf(s);
    h->partitions = (unsigned)conf->partitions;
    h->retention_s = conf->retention_s;
    h->retention_bytes = conf->retention_bytes;
    h->segment_bytes = conf->segment_bytes;
    h->gather_us = conf->gather_us;
    server_set_user(s, h);
    AUTO(mem_free_p) char *dir = fs_join(conf->base.data_dir, "log");
    if (dir == NULL) {
        return E_NOMEM;
    }
    const struct seglog_config log = {
        .dir = dir,
        .partitions = h->partitions,
        .segment_bytes = conf->segment_bytes,
        .gather_us = (unsigned)conf->gather_us,
        .retention_s = conf->retention_s,
        .retention_bytes = conf->retention_bytes,
        .reserve_bytes = 2 * conf->base.disk_reserve, /* the log stops before the registry does */
        .clock = server_clock(s),
        .trusts_clock = trusts_clock,
        .trusts_arg = s,
    };
    const struct allowance_conf allowed = allowance_of(conf);
    enum err e = seglog_open(&log, &h->log, info);
    if (e != OK ||
        (e = directory_new(store_boot(server_store(s)), post_to_worker, h, &h->directory)) != OK ||
        (e = registry_new(s, &h->registry)) != OK ||
        (e = allowance_new(s, &allowed, &h->allowance)) != OK ||
        (e = streams_new(h, &conf->streams, &h->streams)) != OK) {
        return e;
    }
    directory_set_hook(h->directory, sessions_on_change, h);
    twin_set_desired_hook(h, sessions_on_desired);
    metrics_define(s, metric_defs, ARRAY_LEN(metric_defs));
    metrics_extra(s, extra_metrics);
    return OK;
}

static void done(struct server *s)
{
    struct hub *h = server_user(s);
    if (h == NULL) {
        return;
    }
    if (h->log != NULL) {
        seglog_drain(h->log);
        seglog_close(h->log);
    }
    streams_free(h->streams);
    allowance_free(h->allowance);
    registry_free(h->registry);
    directory_free(h->directory);
    free(h);
    server_set_user(s, NULL);
}

static enum err worker_init(struct worker *w, struct err_info *info)
{
    struct hub_worker *hw = NULL;
    (void)info;
    enum err e = hub_worker_new(w, &hw);
    if (e == OK) {
        worker_set_user(w, hw);
        e = registry_worker_start(w);
    }
    if (e == OK) {
        e = streams_worker_start(w);
    }
    return e;
}

static void worker_drain(struct worker *w, uint64_t deadline_ms)
{
    monitors_drain(w);
    streams_drain(w);
    sessions_drain(w, deadline_ms);
}

static bool worker_busy(struct worker *w)
{
    struct hub_worker *hw = hub_worker_of(w);
    registry_flush_notes(hub_of(w)); /* while the writer still takes work */
    allowance_flush(hub_of(w));
    return hw->n_sessions > 0 || hw->n_appends > 0 || !list_empty(&hw->monitors) ||
           registry_pending(w) != 0 || streams_busy(w);
}

static void worker_done(struct worker *w)
{
    hub_links_end(w);
    streams_worker_done(w);
    registry_worker_done(w);
    hub_worker_free(hub_worker_of(w));
    worker_set_user(w, NULL);
}

static void on_policy_change(struct worker *w)
{
    sessions_rejudge_all(w);
    monitors_rejudge(w);
    streams_rejudge(w);
}

static void on_trust_change(struct worker *w)
{
    sessions_rejudge_all(w);
    streams_rejudge(w);
}

static bool is_healthy(struct server *s, struct err_info *info)
{
    struct hub *h = server_user(s);
    struct seglog_stats st;
    seglog_stats(h->log, &st);
    if (st.low_disk) {
        (void)!err_set(info, E_DISK_FULL, "telemetry log refuses: the disk is nearly full");
        return false;
    }
    return true;
}

static void reload(struct server *s, const void *new_conf)
{
    const struct hub_conf *now = new_conf;
    const struct hub *h = server_user(s);
    if (!streams_reload(h->streams, &now->streams)) {
        LOG_WARN("server.reload.needs-restart", L_STR("setting", "streams"));
    }
    const struct allowance_conf allowed = allowance_of(now);
    allowance_reload(h->allowance, &allowed);
    /* What the log was opened with stays until the next start. */
    if (now->partitions != h->partitions || now->retention_s != h->retention_s ||
        now->retention_bytes != h->retention_bytes || now->segment_bytes != h->segment_bytes ||
        now->gather_us != h->gather_us) {
        LOG_WARN("server.reload.needs-restart", L_STR("setting", "log"));
    }
}

int main(int argc, char **argv)
{
    struct http_route routes[96];
    size_t n = 0;
    const struct {
        const struct http_route *r;
        size_t n;
    } parts[] = {
        {own_routes, ARRAY_LEN(own_routes)},
        {hub_service_routes, n_hub_service_routes},
        {hub_module_routes, n_hub_module_routes},
        {hub_device_routes, n_hub_device_routes},
        {hub_provision_routes, n_hub_provision_routes},
        {hub_stream_routes, n_hub_stream_routes},
        {hub_grant_routes, n_hub_grant_routes},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        ASSERT(n + parts[i].n <= ARRAY_LEN(routes));
        memcpy(&routes[n], parts[i].r, parts[i].n * sizeof(routes[0]));
        n += parts[i].n;
    }
    const struct server_program program = {
        .name = "berth-hub",
        .config_path = "/etc/berth/hub.conf",
        .default_data_dir = "/var/lib/berth/hub",
        .rows = conf_rows,
        .n_rows = ARRAY_LEN(conf_rows),
        .conf_size = sizeof(struct hub_conf),
        .module = &hub_module,
        .rights = rights,
        .n_rights = ARRAY_LEN(rights),
        .admin_right = R_HUB_CONFIG,
        .policies = policies,
        .n_policies = ARRAY_LEN(policies),
        .routes = routes,
        .n_routes = n,
        .refuse = hub_refuse,
        .admit = admit,
        .on_mqtt = hub_mqtt_accept,
        .admit_ws = admit_ws,
        .on_ws = on_ws,
        .init = init,
        .worker_init = worker_init,
        .worker_drain = worker_drain,
        .worker_busy = worker_busy,
        .worker_done = worker_done,
        .done = done,
        .on_policy_change = on_policy_change,
        .on_trust_change = on_trust_change,
        .is_healthy = is_healthy,
        .reload = reload,
    };
    return server_main(&program, argc, argv);
}
