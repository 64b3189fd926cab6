/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where in the world an address is, by a database in MaxMind's format (GeoLite2, GeoIP2, DB-IP and the like; Country or City): country
 * and continent. `geoip` of dps.conf names the file; a reload reads it anew, and one that cannot be used leaves the old one in place.
 *
 * The file is copied into memory that nobody else can change: it may be written over, or cut, while it is in use.
 *
 * Ownership   counted: the slot and each worker's snapshot hold one; the last one frees it.
 * Threads     any; a struct geoip never changes.
 * Errors      E_CONFIG: the file cannot be read, is none, or is damaged, as far as its tree tells. A record that turns out damaged when it
 *             is looked up is one of which nothing is known.
 * Limits      LIMIT_GEOIP_FILE bytes. libmaxminddb 1.7 keeps some kilobytes for good of each file that it refuses for its metadata.
 * Spec        MaxMind DB file format 2.0; docs/protocol/dps-service-rest.md B4.
 */
#ifndef DPS_GEOIP_H
#define DPS_GEOIP_H

#include "base/err.h"
#include "base/span.h"

struct geoip;
MUST_USE enum err geoip_open(const char *path, struct geoip **ret, struct err_info *info);
/* Of bytes; name is for messages. */
MUST_USE enum err geoip_read(struct span file, const char *name, struct geoip **ret,
                             struct err_info *info);
struct geoip *geoip_ref(struct geoip *g);
/* NULL is fine. */
void geoip_unref(struct geoip *g);
/* "GeoLite2-Country", as the file calls itself, at most 63 bytes of it; and when it was made. */
const char *geoip_type(const struct geoip *g);
int64_t geoip_built_s(const struct geoip *g);

/* The one in use. get: counted, or NULL; set: takes over what it is given, NULL is fine. */
struct geoip_slot;
MUST_USE enum err geoip_slot_new(struct geoip_slot **ret);
void geoip_slot_free(struct geoip_slot *s);
struct geoip *geoip_slot_get(struct geoip_slot *s);
void geoip_slot_set(struct geoip_slot *s, struct geoip *g);

/* Codes in capitals ("DE", "EU"); empty: not known. */
struct geoip_place {
    char country[3], continent[3];
};
/* g NULL, or an address that is none: both empty. */
void geoip_find(const struct geoip *g, struct span address, struct geoip_place *ret);

#endif
