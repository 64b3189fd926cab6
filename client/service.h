/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service side of hub and DPS as a command-line tool needs it: connection string -> token -> one REST call -> JSON, blocking.
 *
 * Ownership   service_free() ends; answers are the caller's (json_free).
 * Errors      a status above 299 is E_REMOTE; service_error (in ret) has the status, the numeric or named code and the text of the
 *             body, whichever of the two error forms it has. E_NET, E_TLS, E_TIMEOUT as net/fetch.h.
 * Secrets     the key is held in a struct secret, tokens are made per call and wiped.
 * Threads     one owner.
 * Spec        docs/protocol/sas.md 7; docs/protocol/hub-service-rest.md 3; docs/protocol/dps-service-rest.md A3.
 */
#ifndef CLIENT_SERVICE_H
#define CLIENT_SERVICE_H

#include "net/fetch.h"
#include "wire/json.h"

#define SERVICE_HUB_VERSION "2021-04-12"
#define SERVICE_DPS_VERSION "2021-10-01"
#define SERVICE_ADMIN_VERSION "2026-11-01-berth"

struct service;
/* connection_string: "HostName=...;SharedAccessKeyName=...;SharedAccessKey=...". port 0: 443. ca_file NULL: the system's. proxy:
 * net/proxy.h, copied, NULL: none. */
MUST_USE enum err service_new(struct span connection_string, const char *ca_file, uint16_t port,
                              const struct proxy *proxy, struct service **ret,
                              struct err_info *info);
void service_free(struct service *s);
AUTO_FREE_FN(struct service, service_free)
const char *service_host(const struct service *s);

struct service_answer {
    unsigned status;
    struct json *json; /* NULL when there was no body; json_free by service_answer_done */
    char etag[80];
    char continuation[512];
    char code[48];  /* of an error: "404201" or "DeviceNotFound" */
    char text[256]; /* of an error */
};
void service_answer_done(struct service_answer *a);
/* path begins with '/', may hold a query; api-version is appended. if_match NULL: none. body NULL: none. page_size 0 and continuation
 * NULL: no paging headers. */
struct service_call {
    const char *method;
    const char *path;
    const char *api_version;
    const struct json *body;
    const char *if_match;
    unsigned page_size;
    const char *continuation;
};
MUST_USE enum err service_do(struct service *s, const struct service_call *c,
                             struct service_answer *ret, struct err_info *info);
/* Asks for a device stream (docs/protocol/device-streams.md 2); blocks until the device has answered. A refusal by the hub is E_REMOTE as
 * above, one by the device is OK with is_accepted false. auth is a secret: wipe the struct. */
struct service_stream_rq {
    const char *device_id, *name;
    const char *module_id; /* NULL: the device itself */
    const char *proto;     /* Berth extension: what is offered to the device; NULL: nothing */
    unsigned connect_s, response_s;
};
struct service_stream_answer {
    bool is_accepted;
    char url[1024];
    char auth[513];
    char proto[64]; /* what the device took; when it rejects what it lacks or demands; "" */
};
MUST_USE enum err service_open_stream(struct service *s, const struct service_stream_rq *rq,
                                      struct service_stream_answer *ret,
                                      struct service_answer *ret_refusal, struct err_info *info);
/* GET whose answer is JSON lines (hub/http_monitor.h). */
MUST_USE enum err service_stream(struct service *s, const char *path, const char *api_version,
                                 fetch_line_fn on_line, void *arg, struct err_info *info);
/* Fills code and text from the body of an error, whichever of the two forms it has; empty where it says nothing. */
void service_error_read(struct span body, struct service_answer *ret);
/* Appends `id` percent-encoded to a path. */
void service_path_add(struct buf *path, struct span id);

#endif
