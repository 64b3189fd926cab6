/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the whole service share: a running berth-dps with one linked hub, which is a stand-in inside the test program, a
 * REST client and an MQTT client that wait for each answer.
 *
 * The hub behaves by the device's name: "busy-..." is told 503 twice, "owned-..." 409, "bad-..." 400, "held-..." 503 until the
 * stand-in was asked GET /release; all else is made. GET /seen/{id} tells how often a device was put, and its last body. "stall-..."
 * stands before any of these: no answer until GET /unstall. A request with many devices, one of which is "stall-poison-...", is refused
 * whole; "stall-garble-...", is answered with nothing. GET /most tells of how many devices the largest request was.
 */
#ifndef DPS_TESTS_BENCH_H
#define DPS_TESTS_BENCH_H

#include "server/tests/fixture.h"

extern struct fix dps, hub;
extern char owner[512]; /* token of the service plane */
extern char scope[32];  /* id scope */

int bench_setup(void **state);
int bench_teardown(void **state);
void bench_start_dps(void);     /* without bounds on rates */
void bench_start_limited(void); /* with those of a fresh installation */
void bench_start_hub(void);
/* For main(): the server that this process shall be, or -1. */
int bench_server(int argc, char **argv);

/* --- REST: one request on a connection of its own -------------------------------------------------- */
struct call {
    const char *method, *path, *token, *body;
    const char *header[4];                /* whole lines */
    const char *content_type;             /* NULL: JSON */
    const char *client_cert, *client_key; /* files */
    struct fix *at;                       /* NULL: dps */
};
struct reply {
    long status;
    struct buf body;
    char item_type[64], continuation[300], request_id[64], retry_after[16];
};
extern struct reply got; /* of the latest call */
void call(const struct call *c);
/* false: no answer came. */
bool call_try(const struct call *c);
/* Of the service plane, as the owner; fails the test unless status and code fit. code 0: any. */
void service(const char *method, const char *path, const char *if_match, const char *body,
             long status, unsigned code);
void want(const char *what, long status, unsigned code);
bool got_has(const char *text);
void got_str(const char *path, char *dst, size_t n);

/* --- devices ------------------------------------------------------------------------------------------ */
/* Token of a device; key base64. */
char *device_token(const char *rid, const char *key, char dst[512]);
/* Base64 of the key that a group's member derives. */
char *derived_key(const char *group_key, const char *rid, char dst[64]);
/* Registers over HTTPS and polls to the end: the final answer is in `got`. */
void register_https(const char *rid, const char *key, const char *cert, const char *cert_key);
/* A device certificate for cn by issuer (NULL: self-signed), with the issuers in `above` behind it; files named by `name`. */
struct made_cert {
    struct cert *cert;
    struct signer_key *key;
    char cert_file[256], key_file[256];
};
void make_ca(const char *cn, const struct made_cert *issuer, struct made_cert *ret);
void make_leaf(const char *cn, const struct made_cert *issuer, const struct made_cert *above,
               struct made_cert *ret);
void made_cert_done(struct made_cert *c);
/* {"certificate":"<PEM>"} escaped for a body. */
char *cert_json(const struct made_cert *c, char *dst, size_t n);

/* --- MQTT ---------------------------------------------------------------------------------------------- */
struct mq;
/* Sends CONNECT; the CONNACK code, -1 when the link was closed instead. token NULL: none. */
struct mq *mq_open(const char *client_id, const char *username, const char *token, unsigned level,
                   int *ret_code);
void mq_close(struct mq *m);
/* SUBACK code, -1 closed. */
int mq_subscribe(struct mq *m, const char *filter, unsigned qos);
void mq_publish(struct mq *m, const char *topic, const char *body, unsigned qos,
                unsigned packet_id);
/* Type of the next packet, 0 closed. Of a PUBLISH the topic and body stay readable until the next call. */
int mq_next(struct mq *m);
struct span mq_topic(const struct mq *m);
struct span mq_body(const struct mq *m);
/* register or poll with QoS 1: PUBACK, then the answer; its status. */
int mq_register(struct mq *m, const char *request_id, const char *body);
int mq_poll(struct mq *m, const char *request_id, const char *operation);

#endif
