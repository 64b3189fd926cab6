/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of /admin/settings that registrations use: which webhooks may be asked, and how far networks are from hubs. The same
 * readers check a PUT and load what is stored.
 *
 *   "webhook":      {"allowHttp":false,"timeoutSeconds":5,"allowedHosts":["alloc.example","*.fleet.example"],"keyVersion":1}
 *   "latencyTable": [{"network":"10.0.0.0/8","latencyMs":{"hub1.example":5}},
 *                    {"country":"DE","latencyMs":{...}}, {"continent":"EU","latencyMs":{...}}, ...]          (Berth extension)
 *
 * Ownership   all spans are in the arena given.
 * Errors      E_ARG names the member.
 * Limits      LIMIT_DPS_WEBHOOK_HOSTS, LIMIT_DPS_NETWORKS rows of the table, LIMIT_DPS_LINKED_HUBS in one network, LIMIT_DPS_LATENCY_MS.
 * Threads     any.
 * Spec        docs/protocol/dps-service-rest.md B4, C5; docs/threat-model.md E1.
 */
#ifndef DPS_SETTINGS_H
#define DPS_SETTINGS_H

#include "base/arena.h"
#include "base/err.h"
#include "base/limits.h"
#include "wire/json.h"

struct webhook_conf {
    bool allow_http;
    unsigned timeout_s;
    unsigned key_version;                      /* of signatures: dps/webhook_sign.h */
    struct span host[LIMIT_DPS_WEBHOOK_HOSTS]; /* none: no webhook is asked */
    size_t n_hosts;
};
/* o NULL: the defaults. */
MUST_USE enum err settings_read_webhook(const struct json *o, struct arena *a,
                                        struct webhook_conf *ret, struct err_info *info);
/* Letters, digits, '-', '.', and ':' of an IPv6 address; 1 to LIMIT_HOST of them. */
bool settings_is_host(struct span s);
/* host without port. "*.example" is every name below example, not itself; "*" all. */
bool webhook_host_allowed(const struct webhook_conf *c, struct span host);

/* Milliseconds to hubs: what a device reports of itself, or a network's. */
struct latency {
    struct span hub;
    int64_t ms;
};
struct latencies {
    struct latency *v;
    size_t n;
};
/* {"<hub>": ms, ...}; path is for info. */
MUST_USE enum err settings_read_latencies(const struct json *o, const char *path, struct arena *a,
                                          struct latencies *ret, struct err_info *info);
/* -1: not said. */
int64_t latency_to(const struct latencies *l, struct span hub);

struct network {
    uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;       /* of all 128 */
    struct latencies latencies;
};
/* Where dps/geoip.h says that an address is. */
struct place {
    char code[3]; /* of a country, or of a continent */
    bool is_continent;
    struct latencies latencies;
};
struct networks {
    struct network *v; /* longest prefix first */
    size_t n;
    struct place *place;
    size_t n_places;
};
/* array NULL: none. */
MUST_USE enum err settings_read_networks(const struct json *array, struct arena *a,
                                         struct networks *ret, struct err_info *info);
/* Of the longest prefix that holds the address (text); NULL: none. */
const struct latencies *network_of(const struct networks *t, struct span address);
/* code in capitals, "": not known. NULL: none. */
const struct latencies *place_of(const struct networks *t, const char *code, bool is_continent);

#endif
