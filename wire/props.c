/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/props.h"

#include "base/limits.h"
#include "base/text.h"
#include "wire/decode.h"

/* One row per property: every name that it has anywhere. NULL: not on that wire. */
/* clang-format off */
static const struct {
    const char *name;   /* service side */
    const char *bag;    /* behind "$.", 5.3 */
    const char *header; /* hub-https.md 2, 4.1; lower case */
    bool c2d;           /* a service may set it on a message to a device, 6.1 */
} ids[PROP_IDS] = {
    [PROP_APP]              = { "",                         NULL,      NULL,                      false },
    [PROP_MESSAGE_ID]       = { "message-id",               "mid",     "iothub-messageid",        true },
    [PROP_CORRELATION_ID]   = { "correlation-id",           "cid",     "iothub-correlationid",    true },
    [PROP_USER_ID]          = { "user-id",                  "uid",     "iothub-userid",           true },
    [PROP_TO]               = { "to",                       "to",      "iothub-to",               false },
    [PROP_CONTENT_TYPE]     = { "content-type",             "ct",      "iothub-contenttype",      true },
    [PROP_CONTENT_ENCODING] = { "content-encoding",         "ce",      "iothub-contentencoding",  true },
    [PROP_EXPIRY]           = { "absolute-expiry-time",     "exp",     "iothub-expiry",           true },
    [PROP_CREATION_TIME]    = { "iothub-creation-time-utc", "ctime",   "iothub-creationtimeutc",  true },
    [PROP_OUTPUT]           = { "iothub-outputname",        "on",      NULL,                      false },
    [PROP_SUBJECT]          = { "dt-subject",               "sub",     "dt-subject",              false },
    [PROP_INTERFACE_ID]     = { "iothub-interface-id",      "ifid",    "iothub-interface-id",     false },
    [PROP_SCHEMA]           = { "iothub-messageschema",     "schema",  "iothub-messageschema",    false },
    [PROP_DIAG_ID]          = { "diagid",                   "diagid",  NULL,                      false },
    [PROP_DIAG_CONTEXT]     = { "diagctx",                  "diagctx", NULL,                      false },
    [PROP_ACK]              = { "iothub-ack",               NULL,      "iothub-ack",              false },
};
/* clang-format on */

const char *prop_name(enum prop_id id)
{
    ASSERT(id < PROP_IDS);
    return ids[id].name;
}

const char *prop_header_name(enum prop_id id)
{
    ASSERT(id < PROP_IDS);
    return ids[id].header;
}

const struct prop *props_find(const struct prop *p, size_t n, enum prop_id id)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i].id == id) {
            return &p[i];
        }
    }
    return NULL;
}

/* --- bag to list -------------------------------------------------------------------------- */
static struct span bag_trim(struct span bag)
{
    if (bag.n > 0 && bag.p[bag.n - 1] == '/') { /* 5.1: module outputs end with one */
        bag = span_sub(bag, 0, bag.n - 1);
    }
    return bag.n > 0 && bag.p[0] == '?' ? span_from(bag, 1) : bag;
}

static size_t bag_count(struct span bag)
{
    struct text_pair p;
    size_t n = 0;
    while (text_next_pair(&bag, &p)) {
        n++;
    }
    return n;
}

/* False: a system key that is not for devices to set, or unknown. */
static bool classify(struct prop *p)
{
    if (!span_starts(p->key, SPAN_LIT("$."))) {
        p->id = PROP_APP;
        return true;
    }
    struct span key = span_from(p->key, 2);
    for (size_t i = 0; i < PROP_IDS; i++) {
        if (ids[i].bag != NULL && span_is(key, ids[i].bag)) {
            p->id = (enum prop_id)i;
            p->key = span_str(ids[i].name);
            return true;
        }
    }
    return false;
}

static bool same(const struct prop *a, const struct prop *b)
{
    return a->id == b->id && (prop_is_system(a) || span_eq(a->key, b->key));
}

void props_put(struct prop *list, size_t *n, struct prop p)
{
    for (size_t i = 0; i < *n; i++) {
        if (same(&list[i], &p)) {
            list[i] = p;
            return;
        }
    }
    list[(*n)++] = p;
}

/* Decodes into *text, which moves on; false: not UTF-8. */
static bool decode(struct span raw, uint8_t **text, struct span *ret)
{
    bool clean = true;
    *ret = span_of(*text, decode_percent_to(raw, *text, &clean));
    *text += ret->n;
    return span_is_utf8(*ret);
}

enum err props_bag_read(struct span bag, struct arena *a, struct prop **ret, size_t *ret_n,
                        size_t *ret_dropped, struct err_info *info)
{
    bag = bag_trim(bag);
    size_t n = bag_count(bag);
    if (n > LIMIT_PROPS) {
        return err_set(info, E_LIMIT, "more than %u properties", LIMIT_PROPS);
    }
    struct prop *list = arena_alloc(a, MAX(n, 1) * sizeof(*list));
    uint8_t *text = arena_alloc(a, MAX(bag.n, 1)); /* decoding never lengthens */
    if (list == NULL || text == NULL) {
        return E_NOMEM;
    }
    size_t kept = 0;
    size_t dropped = 0;
    struct text_pair pair;
    while (text_next_pair(&bag, &pair)) {
        struct prop p = {.has_value = pair.has_value};
        if (!decode(pair.key, &text, &p.key) || !decode(pair.value, &text, &p.value)) {
            return err_set(info, E_UTF8, "property is not UTF-8");
        }
        if (classify(&p)) {
            props_put(list, &kept, p);
        } else {
            dropped++;
        }
    }
    *ret = list;
    *ret_n = kept;
    *ret_dropped = dropped;
    return OK;
}

/* --- headers ------------------------------------------------------------------------------ */
/* "/devices/{d}/messages/events", encoded or not, without case. */
static bool is_event_path(struct span value, struct span device_id)
{
    if (value.n > 3 * (LIMIT_ID + 32)) {
        return false;
    }
    uint8_t decoded[3 * (LIMIT_ID + 32)];
    bool clean = true;
    struct span rest = span_of(decoded, decode_percent_to(value, decoded, &clean));
    const struct span want[] = {SPAN_LIT(""), SPAN_LIT("devices"), device_id, SPAN_LIT("messages"),
                                SPAN_LIT("events")};
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        if (rest.p == NULL || !span_eq_nocase(span_cut(&rest, '/'), want[i])) {
            return false;
        }
    }
    return rest.p == NULL;
}

bool props_header_read(struct span name, struct span value, struct span device_id, struct prop *ret)
{
    const struct span app = SPAN_LIT("iothub-app-");
    if (span_starts_nocase(name, app)) {
        if (name.n == app.n) {
            return false;
        }
        *ret = (struct prop){PROP_APP, span_from(name, app.n), value, true};
        return true;
    }
    for (size_t i = 0; i < PROP_IDS; i++) {
        if (ids[i].header == NULL || !span_is_nocase(name, ids[i].header)) {
            continue;
        }
        if (i == PROP_TO && is_event_path(value, device_id)) {
            return false;
        }
        *ret = (struct prop){(enum prop_id)i, span_str(ids[i].name), value, true};
        return true;
    }
    return false;
}

size_t props_size(const struct prop *p, size_t n, size_t body_n)
{
    size_t size = body_n;
    for (size_t i = 0; i < n; i++) {
        size += p[i].value.n + (prop_is_system(&p[i]) ? 0 : p[i].key.n);
    }
    return size;
}

/* --- list to bag -------------------------------------------------------------------------- */
static void put_pair(struct buf *b, bool *first, const struct prop *p)
{
    if (!*first) {
        buf_add_str(b, "&");
    }
    *first = false;
    if (ids[p->id].bag != NULL) {
        buf_add_str(b, "%24."); /* 6.1: the C client compares these raw bytes */
        buf_add_str(b, ids[p->id].bag);
    } else {
        percent_add(b, p->key);
    }
    if (p->has_value) {
        buf_add_str(b, "=");
        percent_add(b, p->value);
    }
}

void props_bag_write(struct buf *b, const struct prop *p, size_t n)
{
    bool first = true;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < n; i++) {
            if ((ids[p[i].id].bag != NULL) == (pass == 0)) {
                put_pair(b, &first, &p[i]);
            }
        }
    }
}

void props_c2d_write(struct buf *b, struct span device_id, const struct prop *p, size_t n)
{
    bool first = true;
    const struct prop *mid = props_find(p, n, PROP_MESSAGE_ID);
    if (mid != NULL) {
        put_pair(b, &first, mid);
    }
    buf_add_str(b, first ? "%24.to=%2Fdevices%2F" : "&%24.to=%2Fdevices%2F");
    percent_add(b, device_id);
    buf_add_str(b, "%2Fmessages%2Fdevicebound");
    first = false;
    for (size_t i = 0; i < n; i++) {
        if (ids[p[i].id].c2d && p[i].id != PROP_MESSAGE_ID) {
            put_pair(b, &first, &p[i]);
        }
    }
    const struct prop *ack = props_find(p, n, PROP_ACK);
    if (ack != NULL) {
        struct prop named = *ack;
        named.key = span_str(ids[PROP_ACK].name);
        put_pair(b, &first, &named);
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i].id == PROP_APP) {
            put_pair(b, &first, &p[i]);
        }
    }
}
