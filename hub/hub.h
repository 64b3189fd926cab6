/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One hub: what all its files share. Everything hangs off struct hub, which is server_user() of the frame; each worker has a
 * struct hub_worker, worker_user().
 *
 *   endpoints  hub/mqtt.c  hub/http_device.c  hub/http_service.c  hub/http_provision.c  hub/http_monitor.c  hub/http_streams.c  hub/http_grants.c   parse, authenticate, one
 *              call into the domain, encode
 *   domain     hub/registry.c  hub/twin.c  hub/telemetry.c  hub/allowance.c  hub/session.c  hub/directory.c  hub/provision.c  hub/streams.c
 *   sql        hub/sql.def, hub/hub_sql.c       main  hub/main.c
 */
#ifndef HUB_HUB_H
#define HUB_HUB_H

#include "server/server.h"
#include "store/seglog.h"

/* rights (docs/protocol/hub-service-rest.md 2.1; HubConfig and Provision are Berth's) */
enum {
    R_REGISTRY_READ = 1,
    R_REGISTRY_WRITE = 2,
    R_SERVICE_CONNECT = 4,
    R_DEVICE_CONNECT = 8,
    R_HUB_CONFIG = 16,
    R_PROVISION = 32,
};

struct streams_conf {
    bool is_on, is_strict;
    char *gateway_host;    /* told in URLs; NULL: the first name of the instance */
    uint64_t gateway_port; /* 0: the HTTPS port */
    uint64_t new_per_s, max, max_per_device;
    uint64_t bytes_per_s, device_bytes_per_s; /* 0: no bound */
    uint64_t idle_s, lifetime_s;              /* of an open stream; 0: no bound */
};

struct hub_conf {
    struct server_conf base;
    struct streams_conf streams;
    uint64_t partitions; /* fixed when the log is made */
    uint64_t retention_s, retention_bytes, segment_bytes, gather_us;
    uint64_t messages_per_s, messages_per_day, bytes_per_day; /* of one device; 0: no bound */
};

struct allowance;
struct directory;
struct registry;
struct streams;
/* A desired change for a connected device: called on the owner's worker, in version order. patch: JSON object text as applied, with
 * null for deletions, or the whole new content after a replacement, and "$version" (hub-mqtt.md 7.4); borrowed for the call. */
typedef void (*hub_desired_fn)(struct loop *l, handle link, int64_t identity, uint64_t version,
                               struct span patch);
struct hub {
    struct server *server;
    struct seglog *log;
    struct directory *directory;
    struct registry *registry;   /* hub/registry.h: registry_new */
    struct streams *streams;     /* hub/streams.h; NULL in tests without */
    struct allowance *allowance; /* hub/allowance.h; NULL: in tests without */
    hub_desired_fn on_desired;   /* twin_set_desired_hook */
    unsigned partitions;         /* of the log; the configuration itself is replaced by a reload */
    uint64_t retention_s, retention_bytes, segment_bytes, gather_us; /* as it was opened with */
};
struct hub_worker; /* hub/session.h */

static inline struct hub *hub_of(struct worker *w)
{
    return server_user(worker_server(w));
}
extern const struct store_module hub_module; /* slot 1 */

/* --- hub/face.c: what peers hear. One total table of codes over enum err ------------------------------------------------- */
#define HUB_JSON "application/json; charset=utf-8"
/* Writes envelope A with iothub-errorcode and x-ms-request-id, and one log line. The text is info's for errors that are the caller's
 * own doing, else a fixed one. On AUTH_ADMIN routes the codes of server/admin.h. Answers nothing when rq is answered already. */
void hub_refuse(struct http_rq *rq, enum err e, const struct err_info *info);
/* Same with a code of its own (where one err has several codes, e.g. ModuleNotFound) and the text after the ';'. */
void hub_refuse_code(struct http_rq *rq, uint32_t code, const char *text);
/* 200 and the like with the headers of hub-service-rest.md 1. etag_json: the ETag header's value without quotes, or empty. */
void hub_answer_json(struct http_rq *rq, unsigned status, struct span etag, struct span json);
void hub_answer_empty(struct http_rq *rq, unsigned status);
void hub_answer_none(struct http_rq *rq); /* 204 */
/* Of the i-th entry of a request with many, answered in one body: {"errorCode", "message", ...} appended, one log line. Returns the
 * entry's status. rq NULL: the caller left. */
unsigned hub_entry_error(const struct http_rq *rq, size_t i, enum err e,
                         const struct err_info *info, struct buf *body);
/* Error body of MQTT responses (numeric errorCode, hub-mqtt.md 7.2). Returns the status to put in the topic. */
unsigned hub_mqtt_error(enum err e, const struct err_info *info, struct buf *body);
/* "DeviceNotFound" of 404001; NULL: not one of ours. */
const char *hub_code_name(uint32_t code);
uint32_t hub_code_of(enum err e);

#endif
