/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server_int.h"

#include <sched.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/log.h"

#define C(member) offsetof(struct server_conf, member)
#define MANY (1u << 24)

const struct conf_row server_conf_rows[] = {
    /* clang-format off */
    { "server", "data-dir", CONF_PATH, C(data_dir), 0, 0, NULL,
      "Folder of all data, private to the server's user." },
    { "server", "names", CONF_LIST, C(names), 0, 0, NULL,
      "Host names and addresses of this instance; the first is the one told to others." },
    { "server", "listen", CONF_LIST, C(listen), 0, 0, "::",
      "Addresses to listen on." },
    { "server", "https-port", CONF_U64, C(https_port), 0, 65535, "443",
      "Port of HTTPS and WebSocket; 0 switches it off." },
    { "server", "mqtts-port", CONF_U64, C(mqtts_port), 0, 65535, "8883",
      "Port of MQTT over TLS; 0 switches it off." },
    { "server", "workers", CONF_U64, C(workers), 0, SERVER_MAX_WORKERS, "0",
      "Worker threads; 0: one per core." },
    { "server", "drain-seconds", CONF_U64, C(drain_s), 0, 3600, "10",
      "Time over which live links are closed when the server ends." },
    { "server", "max-connections", CONF_U64, C(max_connections), 1, MANY, "200k",
      "Open connections; more are refused." },
    { "server", "max-unauthenticated", CONF_U64, C(max_unauthenticated), 1, MANY, "4k",
      "Connections that have not authenticated yet; eight times as many wait behind them, in their order." },
    { "server", "max-unauthenticated-per-source", CONF_U64, C(max_unauthenticated_per_source), 0, MANY, "256",
      "The same per IPv4 address or IPv6 /64; its next one takes the place of its oldest that is silent. 0: no bound." },
    { "tls", "cert", CONF_PATH, C(tls_cert), 0, 0, NULL,
      "Certificate chain of the server, PEM, leaf first." },
    { "tls", "key", CONF_PATH, C(tls_key), 0, 0, NULL,
      "Its private key, PEM." },
    { "auth", "token-skew-seconds", CONF_U64, C(token_skew_s), 0, 86400, "300",
      "How far a token may be past its expiry." },
    { "auth", "allow-auto-verify", CONF_BOOL, C(allow_auto_verify), 0, 0, "yes",
      "An administrator may mark an uploaded CA certificate as verified without proof of possession." },
    { "auth", "certificate-warning-days", CONF_U64, C(certificate_warning_days), 0, 3650, "30",
      "Days before its end from which the log warns of a certificate, at start and once a day; 0: only when it is over." },
    { "store", "disk-reserve", CONF_U64, C(disk_reserve), 0, UINT64_MAX, "64M",
      "Free disk space below which only revocations are written." },
    { "egress", "ca", CONF_PATH, C(egress_ca), 0, 0, NULL,
      "CA certificates for outgoing HTTPS; the system's when not given." },
    { "egress", "private-webhooks", CONF_BOOL, C(private_webhooks), 0, 0, "no",
      "Webhooks may be reached at loopback, link-local and private addresses." },
    { "metrics", "listen", CONF_STR, C(metrics_listen), 0, 0, "127.0.0.1:0",
      "Address and port of /metrics, /healthz and /readyz; port 0: any (see status.json); empty: off." },
    { "log", "level", CONF_STR, C(log_level), 0, 0, "info",
      "debug, info, warn or error." },
    { "log", "format", CONF_STR, C(log_format), 0, 0, "logfmt",
      "logfmt or json." },
    /* clang-format on */
};
const size_t n_server_conf_rows = ARRAY_LEN(server_conf_rows);

enum err server_rows_new(const struct server_program *p, struct conf_row **ret, size_t *ret_n)
{
    size_t n = n_server_conf_rows + p->n_rows;
    struct conf_row *rows = mem_new(n * sizeof(*rows));
    if (rows == NULL) {
        return E_NOMEM;
    }
    memcpy(rows, server_conf_rows, sizeof(server_conf_rows));
    if (p->n_rows != 0) {
        memcpy(rows + n_server_conf_rows, p->rows, p->n_rows * sizeof(*rows));
    }
    *ret = rows;
    *ret_n = n;
    return OK;
}

void server_conf_free(struct server *s, void *conf)
{
    if (conf != NULL) {
        conf_done(s->rows, s->n_rows, conf);
        free(conf);
    }
}

unsigned server_conf_workers(const struct server_conf *c)
{
    cpu_set_t set;
    unsigned n = (unsigned)c->workers;
    if (n == 0) {
        n = sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
    }
    return MIN(MAX(n, 1u), SERVER_MAX_WORKERS);
}

static enum err check_metrics_listen(const struct server_conf *c, struct err_info *info)
{
    uint64_t port;
    struct span text = span_str(c->metrics_listen);
    if (text.n == 0) {
        return OK;
    }
    size_t colon = text.n;
    while (colon > 0 && text.p[colon - 1] != ':') {
        colon--;
    }
    if (colon < 2 || !span_to_u64(span_from(text, colon), &port) || port > 65535) {
        return err_set(info, E_CONFIG, "metrics.listen: \"%s\" is not address:port",
                       c->metrics_listen);
    }
    struct span host = span_sub(text, 0, colon - 1);
    /* The listener is plain and unauthenticated: it must not be reached from elsewhere. */
    if (!span_starts(host, SPAN_LIT("127.")) && !span_is(host, "::1") && !span_is(host, "[::1]")) {
        return err_set(info, E_CONFIG, "metrics.listen: \"%s\" is not a loopback address",
                       c->metrics_listen);
    }
    return OK;
}

static enum err check_conf(struct server *s, const struct server_conf *c, struct err_info *info)
{
    enum log_level level;
    if (c->data_dir == NULL || c->data_dir[0] == '\0') {
        return err_set(info, E_CONFIG, "server.data-dir is not set");
    }
    if (!log_level_parse(span_str(c->log_level), &level)) {
        return err_set(info, E_CONFIG, "log.level: \"%s\" is not debug, info, warn or error",
                       c->log_level);
    }
    if (!span_is(span_str(c->log_format), "logfmt") && !span_is(span_str(c->log_format), "json")) {
        return err_set(info, E_CONFIG, "log.format: \"%s\" is not logfmt or json", c->log_format);
    }
    if (c->names == NULL || span_trim(span_str(c->names)).n == 0) {
        return err_set(info, E_CONFIG,
                       "server.names is not set: give the host name of this instance");
    }
    if (c->https_port != 0 && c->https_port == c->mqtts_port) {
        return err_set(info, E_CONFIG, "server.https-port and server.mqtts-port are the same");
    }
    if ((c->https_port != 0 || c->mqtts_port != 0) && !s->opt.init &&
        (c->tls_cert == NULL || c->tls_key == NULL)) {
        return err_set(info, E_CONFIG, "tls.cert and tls.key are not set");
    }
    return check_metrics_listen(c, info);
}

/* The default path may be absent (everything by --set, as the sandbox does); a named one may not. */
static const char *conf_file(const struct server *s)
{
    if (s->opt.config != NULL) {
        return s->opt.config;
    }
    return fs_exists(s->program->config_path) ? s->program->config_path : NULL;
}

static enum err fill_conf(struct server *s, void *conf, struct err_info *info)
{
    struct server_conf *c = conf;
    enum err e;
    if ((e = conf_load(s->rows, s->n_rows, conf_file(s), conf, NULL, NULL, info)) != OK) {
        return e;
    }
    for (size_t i = 0; i < s->opt.n_set; i++) {
        if ((e = conf_set(s->rows, s->n_rows, conf, s->opt.set[i], info)) != OK) {
            return err_wrap(info, e, "--set");
        }
    }
    if (s->opt.data_dir != NULL || c->data_dir == NULL) {
        const char *dir = s->opt.data_dir != NULL ? s->opt.data_dir : s->program->default_data_dir;
        char *copy = span_dup(span_str(dir));
        if (copy == NULL) {
            return E_NOMEM;
        }
        free(c->data_dir);
        c->data_dir = copy;
    }
    return check_conf(s, c, info);
}

enum err server_conf_read(struct server *s, void **ret, struct err_info *info)
{
    void *conf = mem_new(s->program->conf_size);
    if (conf == NULL) {
        return E_NOMEM;
    }
    enum err e = fill_conf(s, conf, info);
    if (e != OK) {
        server_conf_free(s, conf);
        return e;
    }
    *ret = conf;
    return OK;
}

static enum err split_list(const char *text, char **into, size_t max, size_t *ret_n,
                           const char *setting, struct err_info *info)
{
    struct span rest = span_str(text);
    size_t n = 0;
    while (rest.p != NULL) {
        struct span one = span_trim(span_cut(&rest, ','));
        if (one.n == 0) {
            continue;
        }
        if (n == max || one.n > LIMIT_HOST) {
            return err_set(info, E_CONFIG, "%s: more than %zu entries, or one is too long", setting,
                           max);
        }
        if ((into[n] = span_dup(one)) == NULL) {
            return E_NOMEM;
        }
        *ret_n = ++n;
    }
    return n != 0 ? OK : err_set(info, E_CONFIG, "%s is empty", setting);
}

enum err server_conf_split(struct server *s, const struct server_conf *c, struct err_info *info)
{
    enum err e;
    if ((e = split_list(c->names, s->names, SERVER_MAX_NAMES, &s->n_names, "server.names", info)) !=
        OK) {
        return e;
    }
    return split_list(c->listen, s->listen, SERVER_MAX_LISTEN, &s->n_listen, "server.listen", info);
}

/* --- reload --------------------------------------------------------------------------------- */

/* Settings that are read once at start: a change is told and waits for the next start. */
static const size_t fixed_strings[] = {C(data_dir),  C(names),      C(listen),
                                       C(egress_ca), C(log_format), C(metrics_listen)};
static const size_t fixed_numbers[] = {C(https_port),
                                       C(mqtts_port),
                                       C(workers),
                                       C(disk_reserve),
                                       C(max_connections),
                                       C(max_unauthenticated),
                                       C(max_unauthenticated_per_source)};

static const char *row_name(size_t offset)
{
    for (size_t i = 0; i < n_server_conf_rows; i++) {
        if (server_conf_rows[i].offset == offset) {
            return server_conf_rows[i].name;
        }
    }
    return "?";
}

static void tell_fixed(size_t offset)
{
    LOG_WARN("server.reload.needs-restart", L_STR("setting", row_name(offset)));
}

static enum err keep_fixed(const struct server_conf *old, struct server_conf *now)
{
    for (size_t i = 0; i < ARRAY_LEN(fixed_strings); i++) {
        char *const *from = (char *const *)(const void *)((const char *)old + fixed_strings[i]);
        char **to = (char **)(void *)((char *)now + fixed_strings[i]);
        if (span_eq(span_str(*from), span_str(*to))) {
            continue;
        }
        char *copy = *from != NULL ? span_dup(span_str(*from)) : NULL;
        if (*from != NULL && copy == NULL) {
            return E_NOMEM;
        }
        tell_fixed(fixed_strings[i]);
        free(*to);
        *to = copy;
    }
    for (size_t i = 0; i < ARRAY_LEN(fixed_numbers); i++) {
        const uint64_t *from =
            (const uint64_t *)(const void *)((const char *)old + fixed_numbers[i]);
        uint64_t *to = (uint64_t *)(void *)((char *)now + fixed_numbers[i]);
        if (*from != *to) {
            tell_fixed(fixed_numbers[i]);
            *to = *from;
        }
    }
    return OK;
}

static enum err reload_checked(struct server *s, void **conf, struct err_info *info)
{
    enum err e;
    if ((e = server_conf_read(s, conf, info)) != OK ||
        (e = keep_fixed(server_base_conf(s), *conf)) != OK ||
        (e = workers_reload_tls(s, *conf, info)) != OK) {
        return e;
    }
    return OK;
}

void server_reload(struct server *s)
{
    struct err_info info = {0};
    void *conf = NULL;
    enum log_level level;
    enum err e = reload_checked(s, &conf, &info);
    if (e != OK) {
        LOG_ERROR("server.reload.refused", L_ERR(e), L_WHY(&info, e));
        server_conf_free(s, conf);
        return;
    }
    void *old = atomic_exchange(&s->conf, conf);
    const struct server_conf *c = conf;
    if (log_level_parse(span_str(c->log_level), &level)) {
        log_setup(s->program->name, level,
                  span_is(span_str(c->log_format), "json") ? LOG_F_JSON : LOG_F_LOGFMT);
    }
    if (s->program->reload != NULL) {
        s->program->reload(s, conf);
    }
    /* Workers hold the old pointer for a turn at most. */
    server_barrier(s);
    server_conf_free(s, old);
    LOG_INFO("server.reload.done");
}
