/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/agent.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"
#include "base/log.h"
#include "client/dps_client.h"
#include "wire/json.h"

#define CHAIN_PEM_MAX (256u << 10)

/* --- telemetry ------------------------------------------------------------------------------ */

static enum err send_one(void *arg, struct span body, uint64_t n)
{
    static const struct prop props[] = {
        {PROP_CONTENT_TYPE,
         {(const uint8_t *)"content-type", 12},
         {(const uint8_t *)"application/json", 16},
         true},
        {PROP_CONTENT_ENCODING,
         {(const uint8_t *)"content-encoding", 16},
         {(const uint8_t *)"utf-8", 5},
         true},
    };
    struct agent *a = arg;
    return hub_send(a->hub, body, props, ARRAY_LEN(props), n);
}

static void flush(struct agent *a)
{
    agent_queue_flush(a, send_one, a);
}

static void on_tick(struct timer *t)
{
    struct agent *a = CONTAINER_OF(t, struct agent, tick);
    (void)agent_queue_push(
        a, agent_measure(a->next_n)); /* without memory there is no figure this time */
    flush(a);
    timer_set(a->loop, &a->tick, a->interval_s * 1000, on_tick);
}

/* --- the hub ---------------------------------------------------------------------------------------------------------- */

static void on_state(struct hub_client *c, void *arg, enum hub_state st, enum err why,
                     const struct err_info *info)
{
    struct agent *a = arg;
    uint32_t rid;
    if (a->streams != NULL) {
        agent_streams_hub(a->streams, st == HUB_UP ? c : NULL);
    }
    if (st == HUB_DOWN) {
        a->is_up = false;
        a->is_down = true;
        a->down_why = why;
        if (!*a->stop && !a->is_renewing && why != E_EXPIRED) {
            LOG_WARN("agent.hub_down", L_STR("hub", a->at.hub), L_ERR(why), L_WHY(info, why));
        }
        return;
    }
    a->is_up = true;
    a->tries = 0;
    a->wait_ms = 0;
    agent_credential_worked(a);
    LOG_INFO("agent.hub_up", L_STR("hub", a->at.hub), L_STR("device", a->at.device_id));
    (void)sd_notify(0, "READY=1\nSTATUS=connected");
    agent_queue_again(a);
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
    agent_queue_stored(a, tag);
    flush(a);
}

static void take_desired(struct agent *a, const struct json *desired)
{
    int64_t s = 0;
    if (json_get_int(desired, "telemetryInterval", JSON_F_OPT, 1, 86400, &s, NULL) == OK && s > 0 &&
        (uint64_t)s != a->interval_s) {
        LOG_INFO("agent.interval", L_I64("seconds", s));
        a->interval_s = (uint64_t)s;
        timer_set(a->loop, &a->tick, a->interval_s * 1000, on_tick);
    }
}

static void on_twin(struct hub_client *c, void *arg, uint32_t rid, unsigned status,
                    struct span body)
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

static void on_stream(struct hub_client *c, void *arg, const struct hub_stream *rq)
{
    struct agent *a = arg;
    agent_streams_hub(a->streams, c); /* before HUB_UP: the hub knows what this unit listened for */
    agent_streams_request(a->streams, rq);
}

static const struct hub_client_handler hub_handler = {on_state, on_sent, on_twin, on_desired, NULL},
                                       hub_handler_streams = {on_state, on_sent, on_twin,
                                                              on_desired, on_stream};

/* --- life ---------------------------------------------------------------------------------------------------------------- */

static void wait_a_while(struct agent *a)
{
    a->wait_ms = agent_next_wait(a->wait_ms);
    uint64_t until = loop_now_ms(a->loop) + a->wait_ms;
    LOG_DEBUG("agent.wait", L_U64("ms", a->wait_ms));
    while (!*a->stop && loop_now_ms(a->loop) < until) {
        loop_turn(a->loop, 200);
    }
}

/* One registration, on its thread: it waits for servers, names and the TPM, while the streams that are open go on. */
struct registering {
    struct msg msg;
    const struct identity *id; /* not touched by others meanwhile */
    const atomic_int *stop;
    struct loop *loop;
    struct span csr;
    struct buf *chain; /* NULL: none is asked for */
    struct dps_result *r;
    struct err_info *info;
    enum err e;
    bool is_home;
};

static void register_home(struct msg *m)
{
    CONTAINER_OF(m, struct registering, msg)->is_home = true;
}

static void *register_run(void *arg)
{
    struct registering *g = arg;
    g->e = dps_register_csr(g->id, DPS_VIA_ALL, SPAN_NONE, g->csr, AGENT_REGISTER_MS, g->stop, g->r,
                            g->chain, g->info);
    loop_post(g->loop, &g->msg);
    return NULL;
}

static enum err register_beside(struct registering *g)
{
    pthread_t thread;
    g->msg.run = register_home;
    if (pthread_create(&thread, NULL, register_run, g) != 0) {
        return err_set(g->info, E_SYS, "cannot start a thread");
    }
    while (!g->is_home) {
        loop_turn(g->loop, 200);
    }
    (void)pthread_join(thread, NULL);
    return g->e;
}

static enum err provision(struct agent *a)
{
    AUTO(buf_done) struct buf csr = BUF_INIT(LIMIT_CERT_DER);
    AUTO(buf_done) struct buf chain = BUF_INIT(CHAIN_PEM_MAX);
    struct dps_result r;
    struct err_info info = {0};
    bool asks = agent_credential_ask(a, &csr);
    struct registering g = {.id = &a->id,
                            .stop = a->stop,
                            .loop = a->loop,
                            .csr = asks ? buf_span(&csr) : SPAN_NONE,
                            .chain = asks ? &chain : NULL,
                            .r = &r,
                            .info = &info};
    LOG_DEBUG("agent.register", L_STR("registration", a->id.registration_id),
              L_STR("dps", a->id.dps_host));
    enum err e = register_beside(&g);
    if (e != OK) {
        if (!*a->stop) {
            LOG_WARN("agent.register_failed", L_STR("registration", a->id.registration_id),
                     L_STR("dps", a->id.dps_host), L_ERR(e), L_WHY(&info, e));
        }
        return e;
    }
    struct assignment next = {span_dup(span_str(r.hub)), span_dup(span_str(r.device_id)),
                              clock_wall_us(clock_system())};
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
    if (!agent_credential_take(a, buf_span(&chain)) && asks) {
        agent_renewal_failed(a); /* no certificate came: what there is goes on */
    }
    LOG_INFO("agent.assigned", L_STR("registration", a->id.registration_id), L_STR("hub", r.hub),
             L_STR("device", r.device_id), L_STR("via", r.via), L_STR("substatus", r.substatus));
    return OK;
}

/* For an identity in a TPM: signed before the link is opened. Without its key there only the DPS can help. */
static enum err make_token(struct agent *a, struct buf *ret, struct err_info *info)
{
    AUTO(buf_done) struct buf res = BUF_INIT(1024);
    if (a->id.kind != ATTEST_TPM) {
        return OK;
    }
    buf_addf(&res, "%s/devices/%s", a->at.hub, a->at.device_id);
    enum err e = buf_err(&res);
    if (e == OK) {
        e = token_make(buf_span(&res), clock_wall_s(clock_system()) + AGENT_TOKEN_S, NULL,
                       a->id.tpm->sign, a->id.tpm->arg, ret, info);
    }
    return e == E_NOT_FOUND ? E_UNAUTHORIZED : e;
}

/* One link, from opening to its end. */
static enum err connect_once(struct agent *a)
{
    AUTO(buf_done) struct buf token = BUF_INIT(LIMIT_SAS_TOKEN);
    struct err_info info = {0};
    enum err e = make_token(a, &token, &info);
    if (e != OK) {
        LOG_WARN("agent.token_failed", L_STR("hub", a->at.hub), L_ERR(e), L_WHY(&info, e));
        return e;
    }
    const struct hub_client_conf hc = {
        .loop = a->loop,
        .identity = agent_hub_identity(a),
        .hub = a->at.hub,
        .device_id = a->at.device_id,
        .product = "berth-agent/" PACKAGE_VERSION,
        .via = DPS_VIA_MQTT | DPS_VIA_MQTT_WS,
        .token_life_s = AGENT_TOKEN_S,
        .token = buf_span(&token),
    };
    a->is_down = false;
    if (a->streams != NULL) {
        agent_streams_identity(a->streams, hc.identity);
    }
    e = hub_open(&hc, a->streams != NULL ? &hub_handler_streams : &hub_handler, a, &a->hub, &info);
    if (e != OK) {
        LOG_WARN("agent.hub_unreachable", L_STR("hub", a->at.hub), L_ERR(e), L_WHY(&info, e));
        return e;
    }
    bool is_closing = false;
    while (!a->is_down) {
        loop_turn(a->loop, 200);
        a->is_renewing = a->is_renewing || (a->is_up && agent_renewal_is_due(a));
        if ((*a->stop || a->is_renewing) && !is_closing) {
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

void agent_run(struct agent *a)
{
    bool has_assignment = a->at.hub != NULL;
    while (!*a->stop) {
        if (!has_assignment || a->is_renewing) {
            bool is_given = provision(a) == OK;
            if (!is_given && !has_assignment) {
                wait_a_while(a);
                continue;
            }
            if (!is_given && !*a->stop) {
                agent_renewal_failed(a);
            }
            has_assignment = true;
            a->is_renewing = false;
        }
        enum err e = connect_once(a);
        if (*a->stop || a->is_renewing || e == E_EXPIRED) {
            continue; /* a new token needs a new link: at once */
        }
        if (is_refusal(e) && agent_credential_refused(a)) {
            wait_a_while(a);
            continue;
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

enum err agent_start(struct agent *a, const struct agent_conf *conf, const atomic_int *stop,
                     struct err_info *info)
{
    a->conf = conf;
    a->stop = stop;
    a->interval_s = conf->telemetry_s;
    a->next_n = 1;
    enum err e = identity_load(conf->identity_dir, &a->id, info);
    a->id.proxy = &a->proxy;
    if (e == OK) {
        e = agent_targets_check(&conf->targets, a->id.kind == ATTEST_X509 || conf->certificate,
                                info);
    }
    if (e == OK && a->id.kind == ATTEST_TPM) {
        e = agent_tpm_start(a, info);
    }
    if (e != OK || (e = fs_private_dir(conf->state_dir, info)) != OK ||
        (e = loop_new(0, clock_system(), &a->loop)) != OK) {
        return e;
    }
    a->boot = count_boot(conf->state_dir);
    agent_credential_load(a);
    e = assignment_load(conf->state_dir, &a->at, info);
    if (e == E_CORRUPT) {
        LOG_WARN("agent.assignment_damaged", L_WHY(info, e));
    }
    if (e != OK && e != E_NOT_FOUND && e != E_CORRUPT) {
        return e;
    }
    return conf->targets.n == 0 ? OK
                                : agent_streams_new(a->loop, &conf->targets, a->id.ca_file,
                                                    &a->proxy, &a->streams, info);
}

void agent_finish(struct agent *a)
{
    if (a->loop != NULL) {
        timer_stop(a->loop, &a->tick);
        if (a->streams != NULL) {
            agent_streams_end(a->streams);
            uint64_t until = loop_now_ms(a->loop) + AGENT_STREAMS_END_MS;
            while (agent_streams_count(a->streams) > 0 && loop_now_ms(a->loop) < until) {
                loop_turn(a->loop, 50);
            }
        }
        loop_turn(a->loop, 0);
        conns_end(a->loop);
        loop_free(a->loop);
    }
    if (a->streams != NULL && agent_streams_count(a->streams) == 0) {
        agent_streams_free(a->streams);
    }
    agent_queue_done(a);
    assignment_done(&a->at);
    agent_tpm_finish(a);
    agent_credential_done(a);
    identity_done(&a->id);
    proxy_done(&a->proxy);
}
