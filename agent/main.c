/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include "agent/agent.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/limits.h"
#include "base/log.h"
#include "client/dps_client.h"
#include "wire/json.h"

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

#define C(m) offsetof(struct agent_conf, m)
/* clang-format off */
static const struct conf_row conf_rows[] = {
    { "agent", "identity",           CONF_PATH, C(identity_dir), 0, 0, "/var/lib/berth/identity", "Folder that enroll-tool burned." },
    { "agent", "state",              CONF_PATH, C(state_dir),    0, 0, "/var/lib/berth/agent", "Folder of what the agent learns; private to it." },
    { "agent", "telemetry-interval", CONF_U64,  C(telemetry_s),  1, 86400, "60", "Seconds between messages; the desired property telemetryInterval wins." },
    { "log",   "level",              CONF_STR,  C(log_level),    0, 0, "info", "debug, info, warn or error." },
    { "log",   "format",             CONF_STR,  C(log_format),   0, 0, "logfmt", "logfmt or json." },
};
/* clang-format on */

/* --- telemetry ------------------------------------------------------------------------------------------------- */

static struct agent_message *at(struct agent *a, size_t i)
{
    return &a->queue[(a->first + i) % AGENT_QUEUE];
}

static void pop(struct agent *a)
{
    free(at(a, 0)->body);
    *at(a, 0) = (struct agent_message){ 0 };
    a->first = (a->first + 1) % AGENT_QUEUE;
    a->count--;
}

static void push(struct agent *a)
{
    char *body = agent_measure(a->next_n);
    if (body == NULL) {
        return;
    }
    if (a->count == AGENT_QUEUE) {
        a->dropped++;
        LOG_WARN("agent.telemetry_dropped", L_U64("n", at(a, 0)->n), L_U64("dropped", a->dropped));
        pop(a);
    }
    *at(a, a->count++) = (struct agent_message){ .n = a->next_n++, .size = span_str(body).n, .body = body };
}

static void flush(struct agent *a)
{
    static const struct prop props[] = {
        { PROP_CONTENT_TYPE, { (const uint8_t *)"content-type", 12 }, { (const uint8_t *)"application/json", 16 }, true },
        { PROP_CONTENT_ENCODING, { (const uint8_t *)"content-encoding", 16 }, { (const uint8_t *)"utf-8", 5 }, true },
    };
    for (size_t i = 0; a->is_up && i < a->count; i++) {
        struct agent_message *m = at(a, i);
        if (!m->is_sent) {
            if (hub_send(a->hub, span_of(m->body, m->size), props, ARRAY_LEN(props), m->n) != OK) {
                return; /* full or ending: the next tick, or the next link */
            }
            m->is_sent = true;
        }
    }
}

static void on_tick(struct timer *t)
{
    struct agent *a = CONTAINER_OF(t, struct agent, tick);
    push(a);
    flush(a);
    timer_set(a->loop, &a->tick, a->interval_s * 1000, on_tick);
}

/* --- the hub ---------------------------------------------------------------------------------------------------------- */

static void on_state(struct hub_client *c, void *arg, enum hub_state st, enum err why, const struct err_info *info)
{
    struct agent *a = arg;
    uint32_t rid;
    if (st == HUB_DOWN) {
        a->is_up = false;
        a->is_down = true;
        a->down_why = why;
        if (!stop && why != E_EXPIRED) {
            LOG_WARN("agent.hub_down", L_STR("hub", a->at.hub), L_ERR(why), L_WHY(info, why));
        }
        return;
    }
    a->is_up = true;
    a->tries = 0;
    a->wait_ms = 0;
    LOG_INFO("agent.hub_up", L_STR("hub", a->at.hub), L_STR("device", a->at.device_id));
    (void)sd_notify(0, "READY=1\nSTATUS=connected");
    for (size_t i = 0; i < a->count; i++) {
        at(a, i)->is_sent = false;
    }
    AUTO(mem_free_p) char *about = agent_describe(a);
    if (about != NULL && hub_twin_report(c, span_str(about), &rid) != OK) {
        LOG_WARN("agent.report_failed", L_STR("hub", a->at.hub));
    }
    if (hub_twin_get(c, &rid) != OK) {
        LOG_WARN("agent.twin_failed", L_STR("hub", a->at.hub));
    }
    if (!timer_is_set(&a->tick)) {
        timer_set(a->loop, &a->tick, 0, on_tick);
    }
    flush(a);
}

static void on_sent(struct hub_client *c, void *arg, uint64_t tag)
{
    struct agent *a = arg;
    (void)c;
    /* PUBACKs come in the order of the messages: what stands before this one is on disk too, or will be sent again. */
    while (a->count > 0 && at(a, 0)->n <= tag) {
        pop(a);
    }
    flush(a);
}

static void take_desired(struct agent *a, const struct json *desired)
{
    int64_t s = 0;
    if (json_get_int(desired, "telemetryInterval", JSON_F_OPT, 1, 86400, &s, NULL) == OK && s > 0 && (uint64_t)s != a->interval_s) {
        LOG_INFO("agent.interval", L_I64("seconds", s));
        a->interval_s = (uint64_t)s;
        timer_set(a->loop, &a->tick, a->interval_s * 1000, on_tick);
    }
}

static void on_twin(struct hub_client *c, void *arg, uint32_t rid, unsigned status, struct span body)
{
    struct agent *a = arg;
    AUTO(json_free_p) struct json *j = NULL;
    (void)c;
    (void)rid;
    if (status == 200 && json_read_object(body, LIMIT_TWIN_BODY * 2u, &j, NULL) == OK) {
        take_desired(a, json_get(j, "desired"));
    } else if (status >= 300) {
        LOG_WARN("agent.twin_refused", L_U64("status", status));
    }
}

static void on_desired(struct hub_client *c, void *arg, uint64_t version, struct span patch)
{
    AUTO(json_free_p) struct json *j = NULL;
    (void)c;
    (void)version;
    if (json_read_object(patch, LIMIT_TWIN_BODY, &j, NULL) == OK) {
        take_desired(arg, j);
    }
}

static const struct hub_client_handler hub_handler = { on_state, on_sent, on_twin, on_desired };

/* --- life ---------------------------------------------------------------------------------------------------------------- */

static void wait_a_while(struct agent *a)
{
    a->wait_ms = agent_next_wait(a->wait_ms);
    uint64_t until = loop_now_ms(a->loop) + a->wait_ms;
    LOG_DEBUG("agent.wait", L_U64("ms", a->wait_ms));
    while (!stop && loop_now_ms(a->loop) < until) {
        loop_turn(a->loop, 200);
    }
}

static enum err provision(struct agent *a)
{
    struct dps_result r;
    struct err_info info = { 0 };
    enum err e = dps_register(&a->id, DPS_VIA_ALL, SPAN_NONE, AGENT_REGISTER_MS, &stop, &r, &info);
    if (e != OK) {
        if (!stop) {
            LOG_WARN("agent.register_failed", L_STR("registration", a->id.registration_id), L_STR("dps", a->id.dps_host), L_ERR(e),
                     L_WHY(&info, e));
        }
        return e;
    }
    struct assignment next = { span_dup(span_str(r.hub)), span_dup(span_str(r.device_id)), clock_wall_us(clock_system()) };
    if (next.hub == NULL || next.device_id == NULL) {
        assignment_done(&next);
        return E_NOMEM;
    }
    e = assignment_save(a->conf->state_dir, &next, &info);
    if (e != OK) {
        /* Goes on with it all the same: the next start asks the DPS again. */
        LOG_WARN("agent.assignment_not_saved", L_ERR(e), L_WHY(&info, e));
    }
    assignment_done(&a->at);
    a->at = next;
    LOG_INFO("agent.assigned", L_STR("registration", a->id.registration_id), L_STR("hub", r.hub), L_STR("device", r.device_id),
             L_STR("via", r.via), L_STR("substatus", r.substatus));
    return OK;
}

/* One link, from opening to its end. */
static enum err connect_once(struct agent *a)
{
    const struct hub_client_conf hc = {
        .loop = a->loop, .identity = &a->id, .hub = a->at.hub, .device_id = a->at.device_id,
        .product = "berth-agent/" PACKAGE_VERSION, .via = DPS_VIA_MQTT | DPS_VIA_MQTT_WS,
    };
    struct err_info info = { 0 };
    a->is_down = false;
    enum err e = hub_open(&hc, &hub_handler, a, &a->hub, &info);
    if (e != OK) {
        LOG_WARN("agent.hub_unreachable", L_STR("hub", a->at.hub), L_ERR(e), L_WHY(&info, e));
        return e;
    }
    bool is_closing = false;
    while (!a->is_down) {
        loop_turn(a->loop, 200);
        if (stop && !is_closing) {
            is_closing = true;
            hub_close(a->hub);
        }
    }
    hub_free(a->hub);
    a->hub = NULL;
    return a->down_why;
}

static bool is_refusal(enum err e)
{
    return e == E_UNAUTHORIZED || e == E_ID || e == E_VERSION || e == E_UNSUPPORTED;
}

static void run(struct agent *a)
{
    bool has_assignment = a->at.hub != NULL;
    while (!stop) {
        if (!has_assignment) {
            has_assignment = provision(a) == OK;
            if (!has_assignment) {
                wait_a_while(a);
                continue;
            }
        }
        enum err e = connect_once(a);
        if (stop || e == E_EXPIRED) {
            continue; /* a new token needs a new link: at once */
        }
        if (is_refusal(e) || ++a->tries >= AGENT_HUB_TRIES) {
            a->tries = 0;
            has_assignment = false; /* the file stays until the DPS gave another */
        }
        wait_a_while(a);
    }
}

static uint64_t count_boot(const char *state_dir)
{
    AUTO(mem_free_p) char *path = fs_join(state_dir, "boots");
    AUTO(buf_done) struct buf text = BUF_INIT(64);
    char line[32];
    uint64_t n = 0;
    if (path == NULL) {
        return 0;
    }
    if (fs_read(path, &text, NULL) == OK) {
        (void)span_to_u64(span_sub(buf_span(&text), 0, span_find(buf_span(&text), '\n')), &n);
    }
    n++;
    (void)snprintf(line, sizeof(line), "%llu\n", (unsigned long long)n);
    if (fs_write_atomic(path, span_str(line), 0600, NULL) != OK) {
        LOG_WARN("agent.boot_not_counted", L_STR("path", path));
    }
    return n;
}

static enum err start(struct agent *a, const struct agent_conf *conf, struct err_info *info)
{
    a->conf = conf;
    a->interval_s = conf->telemetry_s;
    a->next_n = 1;
    enum err e = identity_load(conf->identity_dir, &a->id, info);
    if (e != OK || (e = fs_private_dir(conf->state_dir, info)) != OK || (e = loop_new(0, clock_system(), &a->loop)) != OK) {
        return e;
    }
    a->boot = count_boot(conf->state_dir);
    e = assignment_load(conf->state_dir, &a->at, info);
    if (e == E_CORRUPT) {
        LOG_WARN("agent.assignment_damaged", L_WHY(info, e));
    }
    return e == E_NOT_FOUND || e == E_CORRUPT ? OK : e;
}

/* --- command line ------------------------------------------------------------------------------------------------------------ */

enum { O_CONFIG = 256, O_IDENTITY, O_STATE, O_INTERVAL, O_CHECK, O_DUMP, O_VERSION, O_HELP };
static const struct option options[] = {
    { "config", required_argument, NULL, O_CONFIG },     { "identity", required_argument, NULL, O_IDENTITY },
    { "state", required_argument, NULL, O_STATE },       { "telemetry-interval", required_argument, NULL, O_INTERVAL },
    { "check-config", no_argument, NULL, O_CHECK },      { "dump-config", no_argument, NULL, O_DUMP },
    { "version", no_argument, NULL, O_VERSION },         { "help", no_argument, NULL, O_HELP },
    { NULL, 0, NULL, 0 },
};
static const char help[] = "Usage: berth-agent [OPTION]...\n\n"
                           "  --config FILE               Read this configuration file (/etc/berth/agent.conf when it is there).\n"
                           "  --identity DIR              Folder that enroll-tool burned.\n"
                           "  --state DIR                 Folder of what the agent learns.\n"
                           "  --telemetry-interval S      Seconds between messages.\n"
                           "  --check-config              Check the configuration and exit.\n"
                           "  --dump-config               Print the configuration in force and exit.\n"
                           "  --version, --help\n";

static int usage_error(const char *text)
{
    fprintf(stderr, "berth-agent: %s; see --help\n", text);
    return 2;
}

struct cmdline {
    const char *config;
    char sets[8][512];
    size_t n_sets;
    bool check, dump;
};

/* -1: go on, else the exit status. */
static int read_options(int argc, char **argv, struct cmdline *c)
{
    static const struct {
        int id;
        const char *name;
    } rows[] = { { O_IDENTITY, "agent.identity" }, { O_STATE, "agent.state" }, { O_INTERVAL, "agent.telemetry-interval" } };
    int id;
    while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            if (rows[i].id == id) {
                if (c->n_sets == ARRAY_LEN(c->sets)) {
                    return usage_error("too many options");
                }
                (void)snprintf(c->sets[c->n_sets++], sizeof(c->sets[0]), "%s=%s", rows[i].name, optarg);
            }
        }
        if (id == O_CONFIG) {
            c->config = optarg;
        } else if (id == O_HELP || id == O_VERSION) {
            printf("%s", id == O_HELP ? help : "berth-agent " PACKAGE_VERSION "\n");
            return 0;
        } else if (id == '?') {
            return 2;
        }
        c->check = c->check || id == O_CHECK;
        c->dump = c->dump || id == O_DUMP;
    }
    return optind < argc ? usage_error("unexpected argument") : -1;
}

static enum err load_conf(const struct cmdline *c, struct agent_conf *conf, struct err_info *info)
{
    static const char dflt[] = "/etc/berth/agent.conf";
    const char *path = c->config != NULL ? c->config : fs_exists(dflt) ? dflt : NULL;
    enum err e = conf_load(conf_rows, ARRAY_LEN(conf_rows), path, conf, NULL, NULL, info);
    for (size_t i = 0; e == OK && i < c->n_sets; i++) {
        e = conf_set(conf_rows, ARRAY_LEN(conf_rows), conf, c->sets[i], info);
    }
    return e;
}

static void finish(struct agent *a)
{
    if (a->loop != NULL) {
        timer_stop(a->loop, &a->tick);
        loop_turn(a->loop, 0);
        loop_free(a->loop);
    }
    while (a->count > 0) {
        pop(a);
    }
    assignment_done(&a->at);
    identity_done(&a->id);
}

int main(int argc, char **argv)
{
    static struct agent a;
    struct agent_conf conf = { 0 };
    struct cmdline c = { 0 };
    struct err_info info = { 0 };
    const struct sigaction sa = { .sa_handler = on_signal };
    enum log_level level = LOG_L_INFO;
    int status = read_options(argc, argv, &c);
    if (status >= 0) {
        return status;
    }
    enum err e = load_conf(&c, &conf, &info);
    if (e == OK && conf.log_level != NULL && !log_level_parse(span_str(conf.log_level), &level)) {
        e = err_set(&info, E_CONFIG, "log level '%s' is none", conf.log_level);
    }
    if (e == OK && c.dump) {
        conf_dump(conf_rows, ARRAY_LEN(conf_rows), &conf, stdout);
    }
    if (e == OK && !c.check && !c.dump) {
        log_setup("berth-agent", level, conf.log_format != NULL && span_is(span_str(conf.log_format), "json") ? LOG_F_JSON : LOG_F_LOGFMT);
        (void)sigaction(SIGTERM, &sa, NULL);
        (void)sigaction(SIGINT, &sa, NULL);
        (void)signal(SIGPIPE, SIG_IGN);
        if ((e = secret_forbid_dumps(&info)) == OK && (e = start(&a, &conf, &info)) == OK) {
            LOG_INFO("agent.start", L_STR("registration", a.id.registration_id), L_U64("boot", a.boot), L_STR("version", PACKAGE_VERSION));
            run(&a);
            LOG_INFO("agent.stop", L_U64("unsent", a.count));
        }
        (void)sd_notify(0, "STOPPING=1");
        finish(&a);
    }
    if (e != OK) {
        fprintf(stderr, "berth-agent: %s\n", err_why(&info, e));
    }
    conf_done(conf_rows, ARRAY_LEN(conf_rows), &conf);
    return e == OK ? 0 : 1;
}
