/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One provisioning service: what all its files share. Everything hangs off struct dps, which is server_user() of the frame; each
 * worker has a struct dps_worker, worker_user().
 *
 *   endpoints  dps/mqtt.c  dps/http_device.c  dps/http_service.c  dps/http_query.c  dps/http_admin.c   parse, authenticate, one call into
 *              the domain, encode
 *   domain     dps/enrollment*.c  dps/attestation.c  dps/assignment.c  dps/registration.c  dps/hublink.c  dps/driver.c  dps/snapshot.c
 *   sql        dps/sql.def, dps/dps_sql.c       main  dps/main.c
 */
#ifndef DPS_DPS_H
#define DPS_DPS_H

#include <stdatomic.h>

#include "base/limits.h"
#include "base/list.h"
#include "dps/backlog.h"
#include "server/server.h"

/* rights (docs/protocol/dps-service-rest.md A2) */
enum {
    R_ENROLLMENT_READ = 1,
    R_ENROLLMENT_WRITE = 2,
    R_REGISTRATION_READ = 4,
    R_REGISTRATION_WRITE = 8,
    R_SERVICE_CONFIG = 16,
    R_DEVICE_CONNECT = 32,
};

struct dps_conf {
    struct server_conf base;
    uint64_t register_burst; /* registrations of one device at once; one more each second */
    uint64_t poll_burst;     /* polls of one device in ten seconds */
    uint64_t max_backlog;    /* open registrations; then devices are told to come back */
    uint64_t hub_timeout_ms; /* one call to a hub */
    uint64_t move_timeout_s; /* then a move that cannot begin is given up */
    char *signer; /* socket of a berth-signer; NULL: issuing CAs' keys are used in this process */
    char *geoip;  /* database of places; NULL: none */
    char *pkcs11_module, *pkcs11_pin_file; /* of issuing CAs; NULL: none */
    uint64_t issuer_threads;               /* that sign, for each worker */
};

#define DPS_SCOPE_SIZE 16u
struct dps_worker;
struct challenges;
struct geoip_slot;
struct hub_healths;
struct dps {
    struct server *server;
    char id_scope[DPS_SCOPE_SIZE]; /* made once, before the workers start */
    struct secret page_key;        /* MAC of continuation tokens; same */
    struct secret webhook_key;     /* signs what webhooks are asked; same */
    struct challenges *challenges; /* dps/challenge.h: of all workers */
    struct throttle *throttle;     /* dps/throttle.h: of all workers */
    struct breakers *breakers;     /* dps/webhook.h: of all workers */
    struct hub_healths *health;    /* dps/hub_health.h: same */
    struct geoip_slot *geoip;      /* dps/geoip.h: same */
    /* Grows after each commit that changed groups, linked hubs or settings: workers read those again. */
    _Atomic uint64_t epoch;
    struct backlog backlog;     /* of open registrations */
    struct dps_worker *workers; /* a list; workers start one after the other */
    struct issuers *issuers;    /* dps/issuer.h */
};

struct snapshot;
struct signer_pool;
struct issuers;
struct throttle;
struct driver;
struct leftover;
struct breakers;
struct refusals;
struct dps_worker {
    struct dps_worker *next;
    struct worker *w;
    struct dps *dps;
    struct snapshot *snap;       /* dps/snapshot.h */
    struct driver *driver;       /* dps/driver.h */
    struct signer_pool *signers; /* dps/issuer.h; NULL until something is to be signed */
    struct refusals *refusals;   /* dps/refusal.h */
    struct leftover *leftover;   /* dps/leftover.h */
    struct list links;           /* dps/mqtt.c */
    size_t n_links;
    struct timer challenge_timer; /* worker 0: wipes what is over */
    unsigned n_pending;           /* store operations of this worker that have not come home */
    struct timer backlog_tick;    /* dps/admission.h; of the first worker */
    bool is_draining;
};

static inline struct dps *dps_of(struct worker *w)
{
    return server_user(worker_server(w));
}
static inline struct dps_worker *dps_worker_of(struct worker *w)
{
    return worker_user(w);
}
static inline const struct dps_conf *dps_conf_of(const struct dps_worker *dw)
{
    return server_conf(dw->dps->server);
}
extern const struct store_module dps_module; /* slot 1 */

/* Makes the committed change known to the workers' snapshots. On the writer. E_NOMEM. */
MUST_USE enum err dps_tx_changed(struct store_tx *tx, struct dps *d);

/* --- dps/face.c: what peers hear. One total table of codes over enum err ---------------------- */
#define DPS_JSON "application/json; charset=utf-8"
/* Which entity an error is about: some errors have a code for each. */
enum dps_subject {
    ABOUT_NOTHING,
    ABOUT_ENROLLMENT,
    ABOUT_GROUP,
    ABOUT_REGISTRATION,
    ABOUT_OPERATION,
    DPS_SUBJECTS
};

struct dps_code {
    unsigned status;
    unsigned code;
    const char *text; /* NULL: the reason in info, else err_text() */
};
struct dps_code dps_code_of(enum err e, enum dps_subject about);
/* Answers rq with the body of dps-service-rest.md A3 and writes one log line. Nothing when rq is answered already. */
void dps_refuse(struct http_rq *rq, enum err e, const struct err_info *info);
void dps_refuse_about(struct http_rq *rq, enum dps_subject about, enum err e,
                      const struct err_info *info);
/* Same, where the rule has a code of its own. */
void dps_refuse_code(struct http_rq *rq, unsigned status, unsigned code, const char *text);
void dps_answer_json(struct http_rq *rq, unsigned status, struct span json);
void dps_answer_none(struct http_rq *rq); /* 204 */
struct verdict;
/* Error body of an MQTT answer, logged; returns the status for the topic. */
unsigned dps_mqtt_error(const struct verdict *v, enum dps_subject about, struct span rid,
                        const char *peer, struct buf *body);

/* --- routes, one array per endpoint file -------------------------------------------------------- */
extern const struct http_route dps_device_routes[];
extern const size_t n_dps_device_routes;
extern const struct http_route dps_service_routes[];
extern const size_t n_dps_service_routes;
extern const struct http_route dps_query_routes[];
extern const size_t n_dps_query_routes;
extern const struct http_route dps_trust_bundle_routes[];
extern const size_t n_dps_trust_bundle_routes;
extern const struct http_route dps_admin_routes[];
extern const size_t n_dps_admin_routes;
extern const struct http_route dps_issuer_routes[];
extern const size_t n_dps_issuer_routes;
extern const struct http_route dps_check_routes[];
extern const size_t n_dps_check_routes;
extern const struct http_route dps_refusal_routes[];
extern const size_t n_dps_refusal_routes;

/* --- metrics, in the order of the table in dps/main.c ------------------------------------------- */
enum dps_metric {
    DPS_M_REG_STARTED,
    DPS_M_REG_ASSIGNED,
    DPS_M_REG_FAILED,
    DPS_M_REG_REFUSED,
    DPS_M_POLLS,
    DPS_M_THROTTLED,
    DPS_M_HUB_CALLS,
    DPS_M_HUB_RETRIES,
    DPS_M_MOVES,
    DPS_M_WEBHOOK_CALLS,
    DPS_M_WEBHOOK_FAILED,
    DPS_M_WEBHOOK_OPENED,
    DPS_M_LEFTOVERS,
    DPS_M_MQTT_CONNECTS,
    DPS_M_MQTT_REFUSED,
    DPS_M_REFUSALS_NOT_KEPT,
    DPS_M_TPM_CHALLENGES,
    DPS_M_CERTS_ISSUED,
    DPS_M_CERTS_REFUSED,
    DPS_METRICS
};

#endif
