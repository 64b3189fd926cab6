/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth-agent: provisions the unit at first boot and keeps it connected.
 *
 *   BOOT -> (assignment stored?) --no--> PROVISION --assigned--> CONNECT --up--> ONLINE
 *                 |yes                      ^   |failed: wait        | refused: PROVISION
 *                 +-------------> CONNECT   +---+                    | trouble: wait, CONNECT
 *   ONLINE --link lost--> wait -> CONNECT        ONLINE --refused (key changed, device deleted)--> PROVISION
 *
 * Only a server's refusal sends it back to the DPS, never the local clock and never silence: a hub that does not answer is asked
 * again, and after AGENT_HUB_TRIES failures in a row the DPS is asked whether the unit belongs elsewhere now. The stored assignment is
 * replaced by the new one only after the DPS has given it; what the factory burned is never written.
 *
 * Certificate when it is configured, each registration asks for one: a new key here, its request to the DPS, what is issued beside the
 *             factory's identity (client/credential.h). The hub is tried with the new one, and only its yes makes it the unit's own;
 *             a no leads back to the former, then to the factory's. It is renewed by another registration, long before its end; one
 *             that fails changes nothing.
 *
 * Waits       decorrelated jitter: next = random(base, 3 x last), at most AGENT_WAIT_MAX_MS.
 * Telemetry   numbered; kept in memory until the hub has it on disk, at most AGENT_QUEUE messages (then the oldest go, counted).
 * Threads     one, and while the unit registers one more, which waits for the DPS and the TPM: the first turns its loop, so that open
 *             streams go on. A TPM is only asked by that one, or before a link is opened.
 * Exit status 0 after SIGTERM; 1 cannot run (identity missing or damaged, configuration); 2 command line.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <stdatomic.h>

#include "agent/streams.h"
#include "client/credential.h"
#include "client/hub_client.h"
#include "net/proxy.h"

#define AGENT_WAIT_BASE_MS 1000u
#define AGENT_WAIT_MAX_MS 300000u
#define AGENT_HUB_TRIES 8u
#define AGENT_QUEUE 512u
#define AGENT_REGISTER_MS 120000u
#define AGENT_TOKEN_S 3600 /* for the hub */

struct agent_conf {
    char *identity_dir;
    char *state_dir;
    uint64_t telemetry_s;
    char *tpm_tcti; /* empty: the system's TPM */
    bool certificate;
    uint64_t renew_at;                         /* per cent of a certificate's life */
    char *proxy, *proxy_credential, *no_proxy; /* proxy.c; NULL: not given */
    char *log_level, *log_format;
    struct agent_targets targets;
};

struct agent_tpm {
    struct buf ek, srk, cert;
    struct identity_tpm face;
};

struct agent_message {
    uint64_t n;
    bool is_sent; /* on this link */
    size_t size;
    char *body;
};

struct agent {
    const struct agent_conf *conf;
    const atomic_int *stop; /* set by a signal: come to an end */
    struct proxy proxy;     /* agent_proxy_read, before agent_start; all zero: none */
    struct identity id;
    struct assignment at;
    struct credential cred, candidate;                    /* empty: none */
    enum { USE_FACTORY, USE_CURRENT, USE_CANDIDATE } use; /* what the hub is shown */
    struct identity hub_id;           /* of the link, borrows from id and those */
    uint64_t renew_ms, renew_wait_ms; /* not before, by the monotonic clock */
    bool is_renewing;                 /* the link ends for that */
    struct loop *loop;
    struct hub_client *hub;
    struct agent_streams *streams; /* NULL: no target is listed */
    bool is_up;
    bool is_down; /* HUB_DOWN came: to be freed by the main loop */
    enum err down_why;
    unsigned tries;
    uint64_t wait_ms;
    uint64_t boot; /* counted in the state folder */
    uint64_t interval_s;
    uint64_t next_n;
    uint64_t dropped;
    struct timer tick;
    struct agent_tpm tpm; /* when the identity is in one */
    struct agent_message queue[AGENT_QUEUE];
    size_t first, count;
};

/* --- agent.c: the states above ---------------------------------------------------------------- */
/* Reads identity and stored assignment, counts the boot. agent_finish() also after a failure. */
MUST_USE enum err agent_start(struct agent *a, const struct agent_conf *conf,
                              const atomic_int *stop, struct err_info *info);
/* Until *stop. */
void agent_run(struct agent *a);
void agent_finish(struct agent *a);

/* --- proxy.c ------------------------------------------------------------------------------------ */
/* What the configuration says, else the environment. E_CONFIG, E_PERM. ret is zeroed. */
MUST_USE enum err agent_proxy_read(const struct agent_conf *conf, struct proxy *ret,
                                   struct err_info *info);

/* --- tpm.c ------------------------------------------------------------------------------------- */
/* The identity's TPM: its keys, and the registration id when the identity has none. */
MUST_USE enum err agent_tpm_start(struct agent *a, struct err_info *info);
void agent_tpm_finish(struct agent *a);

/* --- queue.c: telemetry until the hub has it on disk -------------------------------------------- */
/* Takes body and numbers it; full: the oldest goes, counted. false: body was NULL. */
bool agent_queue_push(struct agent *a, char *body);
typedef enum err (*agent_send_fn)(void *arg, struct span body, uint64_t n);
/* Gives what was not yet sent on this link to send, in order, until it refuses. Nothing while the hub is away. */
void agent_queue_flush(struct agent *a, agent_send_fn send, void *arg);
/* Number n and what stands before it are on the hub's disk. */
void agent_queue_stored(struct agent *a, uint64_t n);
/* A new link: what the old one left unanswered is sent again. */
void agent_queue_again(struct agent *a);
void agent_queue_done(struct agent *a);

/* --- renew.c: the certificate that the DPS issues for the hub ----------------------------------- */
void agent_credential_load(struct agent *a);
/* A new key; its request into csr. false: none is wanted, or could be made. */
bool agent_credential_ask(struct agent *a, struct buf *csr);
/* What the registration brought is what the hub is shown next. false: nothing, or nothing of use. */
bool agent_credential_take(struct agent *a, struct span chain_pem);
const struct identity *agent_hub_identity(struct agent *a);
void agent_credential_worked(struct agent *a);
/* true: there is another to try before the DPS is asked. */
bool agent_credential_refused(struct agent *a);
bool agent_renewal_is_due(const struct agent *a);
/* Not again for a while. */
void agent_renewal_failed(struct agent *a);
void agent_credential_done(struct agent *a);

/* --- measure.c ------------------------------------------------------------------------------------ */
/* One telemetry body: {"n":1,"uptime":12.3,"load1":0.5,"memoryFreeKb":1234}. Heap, NULL when memory is short. */
char *agent_measure(uint64_t n);
/* Reported properties: version, boots, system. Heap. */
char *agent_describe(const struct agent *a);
/* The next wait. */
uint64_t agent_next_wait(uint64_t last_ms);

#endif
