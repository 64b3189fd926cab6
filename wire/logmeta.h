/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands beside a message's body in the telemetry log: the hub's stamps and the message's properties. Written compactly for
 * each message, read back as the JSON members that the event stream shows.
 *
 *   byte 1 | byte: which stamps follow | byte: a known method of authentication, 0: given | device id | [module id] | generation id |
 *   [model id] | [method] | properties: byte (1: system, 2: has a value), name, [value]
 *   A text is its length (7 bits a byte, the lowest first, bit 7: more follows) and its bytes.
 *
 * Rows of earlier logs are JSON text as a whole ({"sys":{...},"app":{...}}) and begin with '{'; both are read.
 *
 * Ownership   what a reader returns is borrowed from the row.
 * Threads     any; pure.
 * Errors      E_MALFORMED: not written by this program, or damaged.
 */
#ifndef WIRE_LOGMETA_H
#define WIRE_LOGMETA_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

struct logmeta {
    struct span device_id;
    struct span module_id; /* empty: a device itself */
    struct span generation_id;
    struct span model_id; /* empty: none */
    struct span auth_method;
};

/* First the stamps, then each property in order; appended. */
void logmeta_begin(struct buf *b, const struct logmeta *m);
void logmeta_add(struct buf *b, bool is_system, struct span name, struct span value,
                 bool has_value);

struct logmeta_row {
    struct span device_id; /* as in JSON: ids need no escapes */
    /* private */
    bool is_json;
    struct logmeta stamps;
    struct span props; /* checked */
    struct span sys, app;
};
MUST_USE enum err logmeta_read(struct span row, struct logmeta_row *ret);
/* The members, without braces: those of the device in its order, then the stamps. Empty: nothing. */
void logmeta_add_system(struct buf *b, const struct logmeta_row *r);
void logmeta_add_properties(struct buf *b, const struct logmeta_row *r);

#endif
