/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed topics of hub and DPS, and the user names of their CONNECTs: read on the server's and
 * on the device's side by one table each, written by one function each.
 *
 * Ownership   spans point into the text given; user names decode their query values into the
 *             arena.
 * Threads     any.
 * Errors      E_NO_ROUTE no topic of ours; E_ARG_NULL a request without $rid; E_MALFORMED the
 *             rest. User names: E_MALFORMED not parseable (CONNACK 4), E_ID it disagrees with the
 *             client id or the id cannot stand in a topic (CONNACK 2), E_VERSION api-version is no
 *             version. Whether the ids are the link's own is the caller's comparison (exact
 *             bytes).
 * Spec        docs/protocol/hub-mqtt.md 2.1, 4, 6.1, 7, 8; docs/protocol/dps-device.md 4.1, 4.2;
 *             docs/protocol/device-streams.md 3.
 */
#ifndef WIRE_TOPIC_H
#define WIRE_TOPIC_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

/* --- hub: what a device publishes --------------------------------------------------------- */
enum hub_publish {
    HUB_PUB_TELEMETRY,   /* device_id, module_id, bag */
    HUB_PUB_TWIN_GET,    /* rid */
    HUB_PUB_TWIN_PATCH,  /* rid, version */
    HUB_PUB_METHOD_RES,  /* status, rid (may be empty: nobody waits for it) */
    HUB_PUB_CREDENTIALS, /* rid */
    HUB_PUB_STREAM_RES,  /* status, rid (may be empty) */
    HUB_PUBLISHES
};
/* A version that is no number never equals one. */
#define TOPIC_VERSION_BAD UINT64_MAX
struct hub_publish_topic {
    enum hub_publish kind;
    struct span device_id;
    struct span module_id; /* empty: the device itself */
    struct span bag;       /* for props_bag_read() */
    struct span rid;       /* byte for byte, to be echoed */
    bool has_version;
    uint64_t version; /* TOPIC_VERSION_BAD: present, not a number */
    bool status_ok;   /* decimal, 32 bits, optional '-' */
    int32_t status;
    struct span
        proto; /* HUB_PUB_STREAM_RES: Berth extension, what the device speaks of what was offered */
};
MUST_USE enum err topic_hub_publish_read(struct span topic, struct hub_publish_topic *ret,
                                         struct err_info *info);
void topic_hub_telemetry_write(struct buf *b, struct span device_id, struct span module_id);
void topic_hub_twin_get_write(struct buf *b, struct span rid);
/* version 0: without $version. */
void topic_hub_twin_patch_write(struct buf *b, struct span rid, uint64_t version);
void topic_hub_method_res_write(struct buf *b, int32_t status, struct span rid);
/* proto empty: left out. */
void topic_hub_stream_res_write(struct buf *b, int32_t status, struct span rid, struct span proto);

/* --- hub: what a device subscribes to ----------------------------------------------------- */
enum hub_filter {
    HUB_SUB_C2D,           /* devices/{d}/messages/devicebound/# */
    HUB_SUB_MODULE_ALL,    /* devices/{d}/modules/{m}/# */
    HUB_SUB_MODULE_INPUTS, /* devices/{d}/modules/{m}/inputs/# */
    HUB_SUB_MODULE_C2D,    /* devices/{d}/modules/{m}/messages/devicebound/# */
    HUB_SUB_TWIN_RES,      /* $iothub/twin/res/# */
    HUB_SUB_TWIN_DESIRED,  /* $iothub/twin/PATCH/properties/desired/# */
    HUB_SUB_METHODS,       /* $iothub/methods/POST/# ; method: one name, or empty */
    HUB_SUB_CREDENTIALS,   /* $iothub/credentials/res/# */
    HUB_SUB_STREAMS_POST,  /* $iothub/streams/POST/# */
    HUB_SUB_STREAMS_RES,   /* $iothub/streams/res/# */
    HUB_FILTERS
};
struct hub_filter_topic {
    enum hub_filter kind;
    struct span device_id; /* empty with $iothub filters, and where "+" means the device itself */
    struct span module_id;
    struct span method;
};
MUST_USE enum err topic_hub_filter_read(struct span filter, struct hub_filter_topic *ret);
/* The filter's text (method as HUB_SUB_METHODS without name). */
void topic_hub_filter_write(struct buf *b, enum hub_filter kind, struct span device_id,
                            struct span module_id);

/* --- hub: what it sends ------------------------------------------------------------------- */
enum hub_down {
    HUB_DOWN_C2D,         /* device_id, module_id, bag */
    HUB_DOWN_INPUT,       /* device_id, module_id, name, bag */
    HUB_DOWN_TWIN_RES,    /* status, rid, version */
    HUB_DOWN_DESIRED,     /* version */
    HUB_DOWN_METHOD,      /* name, rid */
    HUB_DOWN_CREDENTIALS, /* status, rid */
    HUB_DOWN_STREAM,      /* name, rid, url (percent-encoded), auth, proto */
    HUB_DOWNS
};
struct hub_down_topic {
    enum hub_down kind;
    struct span device_id;
    struct span module_id;
    struct span name;
    struct span bag;
    struct span query; /* what follows '?', raw */
    struct span url, auth, proto;
    struct span rid;
    bool has_version;
    uint64_t version;
    int32_t status;
};
MUST_USE enum err topic_hub_down_read(struct span topic, struct hub_down_topic *ret,
                                      struct err_info *info);
/* devices/{d}/messages/devicebound/ : the caller appends props_c2d_write(). */
void topic_hub_c2d_write(struct buf *b, struct span device_id);
/* version 0: without $version. status: 100..999. */
void topic_hub_twin_res_write(struct buf *b, unsigned status, struct span rid, uint64_t version);
void topic_hub_desired_write(struct buf *b, uint64_t version);
void topic_hub_method_write(struct buf *b, struct span name, struct span rid);
void topic_hub_credentials_res_write(struct buf *b, unsigned status, struct span rid);

/* --- DPS ---------------------------------------------------------------------------------- */
enum dps_publish { DPS_PUB_REGISTER, DPS_PUB_STATUS, DPS_PUBLISHES };
struct dps_publish_topic {
    enum dps_publish kind;
    struct span rid;          /* request id, byte for byte */
    struct span operation_id; /* DPS_PUB_STATUS; empty when absent */
};
#define DPS_FILTER "$dps/registrations/res/#"
MUST_USE enum err topic_dps_publish_read(struct span topic, struct dps_publish_topic *ret,
                                         struct err_info *info);
bool topic_dps_filter_ok(struct span filter);
void topic_dps_register_write(struct buf *b, struct span rid);
void topic_dps_status_write(struct buf *b, struct span rid, struct span operation_id);
/* retry_after_s 0: without. */
void topic_dps_res_write(struct buf *b, unsigned status, struct span rid, unsigned retry_after_s);
struct dps_down_topic {
    unsigned status;
    struct span rid;
    uint64_t retry_after_s; /* 0: absent */
};
MUST_USE enum err topic_dps_down_read(struct span topic, struct dps_down_topic *ret,
                                      struct err_info *info);

/* --- user names --------------------------------------------------------------------------- */
/* YYYY-MM-DD[-preview] */
bool topic_api_version_ok(struct span version);

struct hub_username {
    struct span host; /* as sent: compare without case with the hub's names */
    struct span device_id;
    struct span module_id;   /* empty: device */
    struct span api_version; /* p NULL: absent. These three are decoded, in the arena. */
    struct span model_id;
    struct span client_type;
};
MUST_USE enum err topic_hub_username_read(struct span username, struct span client_id,
                                          struct arena *a, struct hub_username *ret,
                                          struct err_info *info);
/* api_version, client_type (SPAN_NONE: left out) and model_id (likewise) are percent-encoded. */
void topic_hub_username_write(struct buf *b, struct span host, struct span client_id,
                              struct span api_version, struct span client_type,
                              struct span model_id);

struct dps_username {
    struct span id_scope;
    struct span registration_id; /* as in the user name; equal to the client id but for case */
    struct span api_version;     /* p NULL: absent. Decoded, in the arena. */
    struct span client_version;
};
MUST_USE enum err topic_dps_username_read(struct span username, struct span client_id,
                                          struct arena *a, struct dps_username *ret,
                                          struct err_info *info);
void topic_dps_username_write(struct buf *b, struct span id_scope, struct span registration_id,
                              struct span api_version, struct span client_version);

#endif
