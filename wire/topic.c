/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/topic.h"

#include "base/text.h"

/* --- patterns -------------------------------------------------------------------------------
 * A pattern is a topic whose levels may be captures: {d} device, {m} module, {n} name, {s} status.
 * What may follow its last level: */
enum tail {
    TAIL_END,  /* nothing */
    TAIL_BAG,  /* nothing, or '/' and a property bag */
    TAIL_QUERY /* "/?" and a query */
};

struct captures {
    struct span device_id;
    struct span module_id;
    struct span name;
    struct span status;
    struct span tail; /* bag or query */
};

static bool capture(struct captures *c, uint8_t which, struct span level)
{
    if (level.n == 0 || span_find(level, '#') < level.n || span_find(level, '+') < level.n) {
        return false;
    }
    switch (which) {
    case 'd':
        c->device_id = level;
        return true;
    case 'm':
        c->module_id = level;
        return true;
    case 'n':
        c->name = level;
        return true;
    default:
        ASSERT(which == 's');
        c->status = level;
        return true;
    }
}

static bool tail_fits(enum tail tail, struct span rest, struct captures *c)
{
    switch (tail) {
    case TAIL_END:
        return rest.p == NULL;
    case TAIL_BAG:
        c->tail = rest;
        return true;
    case TAIL_QUERY:
    default:
        if (rest.p == NULL || (rest.n > 0 && rest.p[0] != '?')) {
            return false;
        }
        c->tail = span_from(rest, 1);
        return true;
    }
}

static bool pattern_fits(const char *pattern, enum tail tail, struct span topic,
                         struct captures *ret)
{
    struct captures c = {0};
    struct span want = span_str(pattern);
    struct span rest = topic;
    while (want.p != NULL) {
        if (rest.p == NULL) {
            return false;
        }
        struct span w = span_cut(&want, '/');
        struct span level = span_cut(&rest, '/');
        bool fits = w.n == 3 && w.p[0] == '{' ? capture(&c, w.p[1], level) : span_eq(w, level);
        if (!fits) {
            return false;
        }
    }
    if (!tail_fits(tail, rest, &c)) {
        return false;
    }
    *ret = c;
    return true;
}

/* --- queries ------------------------------------------------------------------------------ */
struct query {
    struct span rid;
    struct span version;
    struct span operation_id;
    struct span retry_after;
    struct span url, auth, proto;
};
/* clang-format off */
static const struct {
    const char *key;
    size_t offset;
} query_keys[] = {
    { "$rid",        offsetof(struct query, rid) },
    { "$version",    offsetof(struct query, version) },
    { "operationId", offsetof(struct query, operation_id) },
    { "retry-after", offsetof(struct query, retry_after) },
    { "$url",        offsetof(struct query, url) },
    { "$auth",       offsetof(struct query, auth) },
    { "$proto",      offsetof(struct query, proto) },
};
/* clang-format on */

/* Absent: p NULL. Of a repeated key the last counts. */
static struct query query_read(struct span text)
{
    struct query q = {0};
    struct text_pair p;
    while (text_next_pair(&text, &p)) {
        for (size_t i = 0; i < ARRAY_LEN(query_keys); i++) {
            if (span_is(p.key, query_keys[i].key)) {
                struct span *into = (struct span *)(void *)((char *)&q + query_keys[i].offset);
                *into = p.has_value ? p.value : SPAN_LIT("");
            }
        }
    }
    return q;
}

static uint64_t version_of(const struct query *q)
{
    uint64_t v = 0;
    if (q->version.p == NULL) {
        return 0;
    }
    return span_to_u64(q->version, &v) ? v : TOPIC_VERSION_BAD;
}

static bool status_read(struct span text, int32_t *ret)
{
    int64_t v = 0;
    if (!span_to_i64(text, &v) || v < INT32_MIN || v > INT32_MAX) {
        return false;
    }
    *ret = (int32_t)v;
    return true;
}

static enum err no_route(struct err_info *info, struct span topic)
{
    return err_set(info, E_NO_ROUTE, "topic \"%.*s\" is none of ours", (int)MIN(topic.n, 200),
                   (const char *)(topic.n > 0 ? (const void *)topic.p : ""));
}

/* --- hub: what a device publishes --------------------------------------------------------- */
/* clang-format off */
static const struct {
    const char *pattern;
    enum tail tail;
    enum hub_publish kind;
    bool needs_rid;
} hub_publishes[] = {
    { "devices/{d}/messages/events",              TAIL_BAG,   HUB_PUB_TELEMETRY,   false },
    { "devices/{d}/modules/{m}/messages/events",  TAIL_BAG,   HUB_PUB_TELEMETRY,   false },
    { "$iothub/twin/GET",                         TAIL_QUERY, HUB_PUB_TWIN_GET,    true },
    { "$iothub/twin/PATCH/properties/reported",   TAIL_QUERY, HUB_PUB_TWIN_PATCH,  true },
    { "$iothub/methods/res/{s}",                  TAIL_QUERY, HUB_PUB_METHOD_RES,  false },
    { "$iothub/credentials/POST/issueCertificate", TAIL_QUERY, HUB_PUB_CREDENTIALS, true },
    { "$iothub/streams/res/{s}",                  TAIL_QUERY, HUB_PUB_STREAM_RES,  false },
};
/* clang-format on */

enum err topic_hub_publish_read(struct span topic, struct hub_publish_topic *ret,
                                struct err_info *info)
{
    for (size_t i = 0; i < ARRAY_LEN(hub_publishes); i++) {
        struct captures c;
        if (!pattern_fits(hub_publishes[i].pattern, hub_publishes[i].tail, topic, &c)) {
            continue;
        }
        struct hub_publish_topic t = {
            .kind = hub_publishes[i].kind, .device_id = c.device_id, .module_id = c.module_id};
        if (hub_publishes[i].tail == TAIL_BAG) {
            t.bag = c.tail;
        } else {
            struct query q = query_read(c.tail);
            t.rid = q.rid;
            t.has_version = q.version.p != NULL;
            t.version = version_of(&q);
            t.status_ok = status_read(c.status, &t.status);
            t.proto = q.proto;
        }
        if (hub_publishes[i].needs_rid && t.rid.n == 0) {
            return err_set(info, E_ARG_NULL, "no $rid in the topic of a request");
        }
        *ret = t;
        return OK;
    }
    return no_route(info, topic);
}

void topic_hub_telemetry_write(struct buf *b, struct span device_id, struct span module_id)
{
    buf_add_str(b, "devices/");
    buf_add(b, device_id);
    if (module_id.n > 0) {
        buf_add_str(b, "/modules/");
        buf_add(b, module_id);
    }
    buf_add_str(b, "/messages/events/");
}

static void put_rid(struct buf *b, struct span rid)
{
    buf_add_str(b, "/?$rid=");
    buf_add(b, rid);
}

static void put_version(struct buf *b, uint64_t version)
{
    if (version > 0) {
        buf_addf(b, "&$version=%llu", (unsigned long long)version);
    }
}

void topic_hub_twin_get_write(struct buf *b, struct span rid)
{
    buf_add_str(b, "$iothub/twin/GET");
    put_rid(b, rid);
}

void topic_hub_twin_patch_write(struct buf *b, struct span rid, uint64_t version)
{
    buf_add_str(b, "$iothub/twin/PATCH/properties/reported");
    put_rid(b, rid);
    put_version(b, version);
}

void topic_hub_method_res_write(struct buf *b, int32_t status, struct span rid)
{
    buf_addf(b, "$iothub/methods/res/%d", (int)status);
    put_rid(b, rid);
}

void topic_hub_stream_res_write(struct buf *b, int32_t status, struct span rid, struct span proto)
{
    buf_addf(b, "$iothub/streams/res/%d", (int)status);
    put_rid(b, rid);
    if (proto.n > 0) {
        buf_add_str(b, "&$proto=");
        buf_add(b, proto);
    }
}

/* --- hub: what a device subscribes to ----------------------------------------------------- */
/* clang-format off */
static const struct {
    const char *pattern;
    enum hub_filter kind;
} hub_filters[] = {
    { "devices/{d}/messages/devicebound/#",             HUB_SUB_C2D },
    { "devices/{d}/modules/{m}/#",                      HUB_SUB_MODULE_ALL },
    { "devices/{d}/modules/{m}/inputs/#",               HUB_SUB_MODULE_INPUTS },
    { "devices/{d}/modules/{m}/messages/devicebound/#", HUB_SUB_MODULE_C2D },
    { "$iothub/twin/res/#",                             HUB_SUB_TWIN_RES },
    { "$iothub/twin/PATCH/properties/desired/#",        HUB_SUB_TWIN_DESIRED },
    { "$iothub/methods/POST/#",                         HUB_SUB_METHODS },
    { "$iothub/credentials/res/#",                      HUB_SUB_CREDENTIALS },
    { "$iothub/streams/POST/#",                         HUB_SUB_STREAMS_POST },
    { "$iothub/streams/res/#",                          HUB_SUB_STREAMS_RES },
    { "$iothub/methods/POST/{n}/#",                     HUB_SUB_METHODS },
    { "devices/+/messages/devicebound/#",               HUB_SUB_C2D }, /* the SDK for embedded C */
};
/* clang-format on */

enum err topic_hub_filter_read(struct span filter, struct hub_filter_topic *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(hub_filters); i++) {
        struct captures c;
        if (pattern_fits(hub_filters[i].pattern, TAIL_END, filter, &c)) {
            *ret = (struct hub_filter_topic){hub_filters[i].kind, c.device_id, c.module_id, c.name};
            return OK;
        }
    }
    return E_NO_ROUTE;
}

void topic_hub_filter_write(struct buf *b, enum hub_filter kind, struct span device_id,
                            struct span module_id)
{
    size_t i = 0;
    while (hub_filters[i].kind != kind) {
        i++;
        ASSERT(i < ARRAY_LEN(hub_filters));
    }
    struct span pattern = span_str(hub_filters[i].pattern);
    const char *slash = "";
    while (pattern.p != NULL) {
        struct span level = span_cut(&pattern, '/');
        buf_add_str(b, slash);
        slash = "/";
        if (span_is(level, "{d}")) {
            level = device_id;
        } else if (span_is(level, "{m}")) {
            level = module_id;
        }
        buf_add(b, level);
    }
}

/* --- hub: what it sends ------------------------------------------------------------------- */
/* clang-format off */
static const struct {
    const char *pattern;
    enum tail tail;
    enum hub_down kind;
} hub_downs[] = {
    { "devices/{d}/messages/devicebound",             TAIL_BAG,   HUB_DOWN_C2D },
    { "devices/{d}/modules/{m}/messages/devicebound", TAIL_BAG,   HUB_DOWN_C2D },
    { "devices/{d}/modules/{m}/inputs/{n}",           TAIL_BAG,   HUB_DOWN_INPUT },
    { "$iothub/twin/res/{s}",                         TAIL_QUERY, HUB_DOWN_TWIN_RES },
    { "$iothub/twin/PATCH/properties/desired",        TAIL_QUERY, HUB_DOWN_DESIRED },
    { "$iothub/methods/POST/{n}",                     TAIL_QUERY, HUB_DOWN_METHOD },
    { "$iothub/credentials/res/{s}",                  TAIL_QUERY, HUB_DOWN_CREDENTIALS },
    { "$iothub/streams/POST/{n}",                     TAIL_QUERY, HUB_DOWN_STREAM },
};
/* clang-format on */

enum err topic_hub_down_read(struct span topic, struct hub_down_topic *ret, struct err_info *info)
{
    for (size_t i = 0; i < ARRAY_LEN(hub_downs); i++) {
        struct captures c;
        if (!pattern_fits(hub_downs[i].pattern, hub_downs[i].tail, topic, &c)) {
            continue;
        }
        struct hub_down_topic t = {.kind = hub_downs[i].kind,
                                   .device_id = c.device_id,
                                   .module_id = c.module_id,
                                   .name = c.name};
        if (c.status.p != NULL && !status_read(c.status, &t.status)) {
            return err_set(info, E_MALFORMED, "status in the topic is no number");
        }
        if (hub_downs[i].tail == TAIL_BAG) {
            t.bag = c.tail;
        } else {
            struct query q = query_read(c.tail);
            t.query = c.tail;
            t.rid = q.rid;
            t.url = q.url;
            t.auth = q.auth;
            t.proto = q.proto;
            t.has_version = q.version.p != NULL;
            t.version = version_of(&q);
        }
        *ret = t;
        return OK;
    }
    return no_route(info, topic);
}

void topic_hub_c2d_write(struct buf *b, struct span device_id)
{
    buf_add_str(b, "devices/");
    buf_add(b, device_id);
    buf_add_str(b, "/messages/devicebound/");
}

static void put_status(struct buf *b, const char *prefix, unsigned status)
{
    ASSERT(status >= 100 && status <= 999); /* 7.3: exactly three digits */
    buf_addf(b, "%s/%u", prefix, status);
}

void topic_hub_twin_res_write(struct buf *b, unsigned status, struct span rid, uint64_t version)
{
    put_status(b, "$iothub/twin/res", status);
    put_rid(b, rid);
    put_version(b, version);
}

void topic_hub_desired_write(struct buf *b, uint64_t version)
{
    buf_addf(b, "$iothub/twin/PATCH/properties/desired/?$version=%llu",
             (unsigned long long)version);
}

void topic_hub_method_write(struct buf *b, struct span name, struct span rid)
{
    buf_add_str(b, "$iothub/methods/POST/");
    buf_add(b, name);
    put_rid(b, rid);
}

void topic_hub_credentials_res_write(struct buf *b, unsigned status, struct span rid)
{
    put_status(b, "$iothub/credentials/res", status);
    put_rid(b, rid);
}

/* --- DPS ---------------------------------------------------------------------------------- */
/* clang-format off */
static const struct {
    const char *pattern;
    enum dps_publish kind;
} dps_publishes[] = {
    { "$dps/registrations/PUT/iotdps-register",               DPS_PUB_REGISTER },
    { "$dps/registrations/GET/iotdps-get-operationstatus",    DPS_PUB_STATUS },
};
/* clang-format on */

enum err topic_dps_publish_read(struct span topic, struct dps_publish_topic *ret,
                                struct err_info *info)
{
    for (size_t i = 0; i < ARRAY_LEN(dps_publishes); i++) {
        struct captures c;
        if (!pattern_fits(dps_publishes[i].pattern, TAIL_QUERY, topic, &c)) {
            continue;
        }
        struct query q = query_read(c.tail);
        if (q.rid.n == 0) {
            return err_set(info, E_ARG_NULL, "no $rid in the topic of a request");
        }
        *ret = (struct dps_publish_topic){dps_publishes[i].kind, q.rid, q.operation_id};
        return OK;
    }
    return no_route(info, topic);
}

bool topic_dps_filter_ok(struct span filter)
{
    return span_is(filter, DPS_FILTER);
}

void topic_dps_register_write(struct buf *b, struct span rid)
{
    buf_add_str(b, dps_publishes[0].pattern);
    put_rid(b, rid);
}

void topic_dps_status_write(struct buf *b, struct span rid, struct span operation_id)
{
    buf_add_str(b, dps_publishes[1].pattern);
    put_rid(b, rid);
    buf_add_str(b, "&operationId=");
    buf_add(b, operation_id);
}

void topic_dps_res_write(struct buf *b, unsigned status, struct span rid, unsigned retry_after_s)
{
    put_status(b, "$dps/registrations/res", status);
    put_rid(b, rid);
    if (retry_after_s > 0) {
        buf_addf(b, "&retry-after=%u", retry_after_s);
    }
}

enum err topic_dps_down_read(struct span topic, struct dps_down_topic *ret, struct err_info *info)
{
    struct captures c;
    int32_t status = 0;
    if (!pattern_fits("$dps/registrations/res/{s}", TAIL_QUERY, topic, &c)) {
        return no_route(info, topic);
    }
    if (!status_read(c.status, &status) || status < 100 || status > 999) {
        return err_set(info, E_MALFORMED, "status in the topic is no number of three digits");
    }
    struct query q = query_read(c.tail);
    uint64_t retry_after_s = 0;
    (void)!span_to_u64(q.retry_after, &retry_after_s); /* no number: as if absent */
    *ret = (struct dps_down_topic){(unsigned)status, q.rid, retry_after_s};
    return OK;
}
