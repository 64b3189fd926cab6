/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message properties: one list of {key, value}, read from a topic's bag or from HTTP headers,
 * written into bags. One table names every system property on each wire.
 *
 * Ownership   the list and its decoded texts live in the arena (bag), or point into the headers.
 * Threads     any.
 * Errors      E_UTF8 a key or value is not UTF-8 after decoding (close); E_LIMIT more than
 *             LIMIT_PROPS; E_NOMEM. A bad "%" is kept literally, as the C client sends it.
 * Spec        docs/protocol/hub-mqtt.md 5, 6.1; docs/protocol/hub-https.md 2, 4.1.
 */
#ifndef WIRE_PROPS_H
#define WIRE_PROPS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

enum prop_id {
    PROP_APP, /* application property: key is its name */
    PROP_MESSAGE_ID,
    PROP_CORRELATION_ID,
    PROP_USER_ID,
    PROP_TO,
    PROP_CONTENT_TYPE,
    PROP_CONTENT_ENCODING,
    PROP_EXPIRY,
    PROP_CREATION_TIME,
    PROP_OUTPUT,
    PROP_SUBJECT,
    PROP_INTERFACE_ID,
    PROP_SCHEMA,
    PROP_DIAG_ID,
    PROP_DIAG_CONTEXT,
    PROP_ACK, /* HTTP and C2D only; over a D2C bag iothub-ack is an application property */
    PROP_IDS
};
struct prop {
    enum prop_id id;
    struct span key;   /* application: its name; system: the service-side name (prop_name) */
    struct span value; /* empty when !has_value */
    bool has_value;    /* false: null ("key" without "=") */
};
static inline bool prop_is_system(const struct prop *p)
{
    return p->id != PROP_APP;
}
/* "message-id", "correlation-id", ...: the name on the service side. PROP_APP: "". */
const char *prop_name(enum prop_id id);
/* HTTP header of a C2D answer: "iothub-messageid"; NULL when there is none. */
const char *prop_header_name(enum prop_id id);
/* Borrowed first one with that id; NULL when absent. */
const struct prop *props_find(const struct prop *p, size_t n, enum prop_id id);

/* A bag from a topic: one trailing '/' and a leading '?' are dropped, pairs decoded once, the last
 * of equal keys wins (in the place of the first). $.cdid, $.cmid and unknown "$." keys are left out
 * and counted in *ret_dropped. No pair: *ret_n 0. */
MUST_USE enum err props_bag_read(struct span bag, struct arena *a, struct prop **ret, size_t *ret_n,
                                 size_t *ret_dropped, struct err_info *info);
/* Appends p to a list with room for it, or takes the place of its equal: the last one wins. */
void props_put(struct prop *list, size_t *n, struct prop p);
/* Is this HTTP header (or member of a batch element) a property of the message? Names without case;
 * the name behind iothub-app- keeps its own. device_id (decoded): an iothub-to that is the fixed
 * path of that device is none. *ret points into name and value; true: filled. */
bool props_header_read(struct span name, struct span value, struct span device_id,
                       struct prop *ret);

/* body + values of system properties + names and values of application properties. */
size_t props_size(const struct prop *p, size_t n, size_t body_n);

/* Device to cloud, by a client: "%24.mid=..&a=b", system ones first. */
void props_bag_write(struct buf *b, const struct prop *p, size_t n);
/* Cloud to device, never empty: %24.mid if set, %24.to of the device always, the other system
 * properties that a service may set, iothub-ack, then application ones. PROP_TO in p is ignored. */
void props_c2d_write(struct buf *b, struct span device_id, const struct prop *p, size_t n);

#endif
