/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the mini server as a process of its own and talks to it as a client would.
 *
 * Each instance has a folder of its own under TMPDIR, a loopback address of its own (127.x.y.z by its process number), fresh
 * certificates. Waiting is on conditions: the ready descriptor, lines of its log, its end. Failures end the test (cmocka).
 */
#ifndef SERVER_TESTS_FIXTURE_H
#define SERVER_TESTS_FIXTURE_H

#include <sys/types.h>

#include "tests/unit.h"

#include "base/buf.h"
#include "certs/signer.h"

#define FIX_HTTPS_PORT 20443
#define FIX_MQTTS_PORT 28883

struct fix {
    char dir[96];   /* certificates; short enough for a socket in it */
    char data[160]; /* data folder */
    char address[32];
    char ca_file[192], cert_file[192], key_file[192];
    struct signer_key *ca_key;
    struct cert *ca;
    pid_t pid;  /* 0: not running */
    int log_fd; /* its standard error */
    struct buf log;
    char key[3][128]; /* primary keys of owner, service, device */
};

void fix_setup(struct fix *f);
void fix_teardown(struct fix *f); /* kills what still runs, removes the folder */
/* A server certificate for f->address by a CA of its own; also writes ca_file. */
void fix_make_tls(struct fix *f);
void fix_write(const char *path, struct span content);
/* Runs to its end with these arguments behind the usual ones; its exit status; output (both streams) in out (may be NULL). */
int fix_run(struct fix *f, const char *const *args, struct buf *out);
void fix_init(struct fix *f); /* --init, and reads the keys */
/* Starts and waits for "ready". */
void fix_start(struct fix *f, const char *const *args);
/* Sends sig (0: none) and waits for the end: exit status. */
int fix_stop(struct fix *f, int sig);
/* Waits until the log has text (anywhere from the start on, or behind *from, which moves on). */
void fix_wait_log(struct fix *f, const char *text, size_t *from);

struct answer {
    long status;
    struct buf body;
    char etag[64];
    char allow[64];
    bool closes; /* Connection: close */
    char curl_error[300];
};
void answer_done(struct answer *a);
struct ask {
    const char *method, *path;            /* with query */
    const char *token;                    /* NULL: no Authorization */
    const char *if_match;                 /* NULL: none */
    const char *body;                     /* NULL: none */
    const char *client_cert, *client_key; /* NULL: none */
    long ms;                              /* total time; 0: 10 s */
};
/* One request on a connection of its own. status 0: none came. */
void fix_ask(struct fix *f, const struct ask *q, struct answer *ret);
/* Plain HTTP to url. */
void fix_get_plain(const char *url, struct answer *ret);
/* A policy token over `sr` (raw text, signed as it stands). key: base64. ttl_s from now. */
char *fix_token(const char *sr, const char *key, const char *skn, long ttl_s, char dst[512]);
/* Value of a string member anywhere in a JSON text. */
void fix_json_str(struct span json, const char *path, char *dst, size_t n);

#endif
