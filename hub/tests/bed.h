/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test bed: one hub in this process, on this thread. Real store in a folder that goes away, real writer and scan threads, real
 * directory, policies, HTTP server over socket pairs; one worker whose loop the test turns; a clock that the test sets. No TLS: a
 * certificate is handed to registry_authenticate by authn tests through a real handshake (bed_tls).
 *
 * Waiting is on conditions; only a broken test waits a minute.
 */
#ifndef HUB_TESTS_BED_H
#define HUB_TESTS_BED_H

#include "tests/unit.h"

#include "hub/directory.h"
#include "hub/hub.h"
#include "hub/registry.h"
#include "hub/twin.h"
#include "server/server_int.h"
#include "store/fixture.h"

#define BED_HOST "hub1.example"
#define BED_NOW_US INT64_C(1767225600000000) /* 2026-01-01 */

struct bed {
    char *dir;
    struct fixture_clock clock;
    struct server server;
    struct worker worker;
    struct worker *workers[1];
    struct server_conf conf;
    struct hub hub;
    struct http_server *http;
    uint64_t disk_free;
    int fd; /* the client's end of its one connection; -1: none */
    /* what the session side would have heard */
    unsigned changes;
    enum dir_change last_change;
    int64_t last_change_identity;
    unsigned desired;
    uint64_t desired_version;
    char desired_text[4096];
};
extern struct bed bed;

int bed_setup(void **state);
int bed_teardown(void **state);
/* Closes the store and opens it again, as after a restart. */
void bed_restart(void);
/* Turns the loop until *flag is at least n. */
void bed_wait(const unsigned *flag, unsigned n);
/* Turns until all writes of the worker are home. */
void bed_idle(void);
void bed_advance_s(int64_t s);
/* Runs tx on the writer and waits for it. */
enum err bed_tx(enum err (*tx)(struct store_tx *tx, struct store_op *op));

/* An answer to one request. */
struct reply {
    unsigned status;
    char *head; /* heap, whole */
    char *body;
    char etag[64]; /* as in the header, quotes included */
    char code[64]; /* iothub-errorcode */
};
void reply_done(struct reply *r);
/* who: name of a policy (iothubowner, service, device, registryRead, registryReadWrite, dps), or NULL: no Authorization.
 * path: with query; "?api-version=2021-04-12" is added when it has none. if_match NULL: no header. */
struct reply bed_ask(const char *who, const char *method, const char *path, const char *if_match,
                     const char *body);
/* Same with one more header line, and the token given as it stands. */
struct reply bed_ask_raw(const char *token, const char *method, const char *path,
                         const char *header, const char *body);
/* A policy token over sr, or a device's when skn is NULL; ttl_s from the bed's clock. */
void bed_token(char dst[1024], const char *sr, struct span key, const char *skn, int64_t ttl_s);
struct span bed_policy_key(const char *name, unsigned which);
/* Value of a member anywhere in a JSON text, as JSON text; "" when absent. Static storage, 4 in turn. */
const char *member(const char *json, const char *path);

/* Ready-made device: PUT and its identity. */
int64_t bed_device(const char *id, const char *authentication);
/* Enters it in the directory as if it were connected here. */
void bed_connect(int64_t identity);

#endif
