/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/settings.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "dps/webhook_sign.h"
#include "server/admin.h"

#define WEBHOOK_TIMEOUT_S 5
#define WEBHOOK_TIMEOUT_MAX_S 60

/* --- webhooks ------------------------------------------------------------------------------------ */

bool settings_is_host(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '-' || c == '.' || c == ':')) {
            return false;
        }
    }
    return s.n != 0 && s.n <= LIMIT_HOST;
}

/* A '*' alone or as the first label. */
static bool is_host_pattern(struct span s)
{
    return span_is(s, "*") ||
           settings_is_host(span_starts(s, SPAN_LIT("*.")) ? span_from(s, 2) : s);
}

enum err settings_read_webhook(const struct json *o, struct arena *a, struct webhook_conf *ret,
                               struct err_info *info)
{
    static const char *const known[] = {"allowHttp", "timeoutSeconds", "allowedHosts", "keyVersion",
                                        NULL};
    struct webhook_conf c = {.timeout_s = WEBHOOK_TIMEOUT_S};
    int64_t version = 1;
    struct json *hosts = NULL;
    int64_t timeout = WEBHOOK_TIMEOUT_S;
    enum err e = OK;
    if (o != NULL &&
        ((e = admin_members(o, "webhook", known, info)) != OK ||
         (e = json_get_bool(o, "allowHttp", 0, &c.allow_http, info)) != OK ||
         (e = json_get_int(o, "timeoutSeconds", 0, 1, WEBHOOK_TIMEOUT_MAX_S, &timeout, info)) !=
             OK ||
         (e = json_get_int(o, "keyVersion", 0, 1, WEBHOOK_KEY_VERSIONS, &version, info)) != OK ||
         (e = json_get_array(o, "allowedHosts", 0, &hosts, info)) != OK)) {
        return e;
    }
    c.timeout_s = (unsigned)timeout;
    c.key_version = (unsigned)version;
    if (json_count(hosts) > ARRAY_LEN(c.host)) {
        return err_set(info, E_ARG, "webhook.allowedHosts: at most %u", LIMIT_DPS_WEBHOOK_HOSTS);
    }
    for (size_t i = 0; i < json_count(hosts); i++) {
        struct span host = json_str(json_at(hosts, i));
        if (!is_host_pattern(host)) {
            return err_set(info, E_ARG,
                           "webhook.allowedHosts: a host name, \"*.example\" or \"*\" is wanted");
        }
        c.host[c.n_hosts] = arena_span(a, host);
        if (c.host[c.n_hosts++].p == NULL) {
            return E_NOMEM;
        }
    }
    *ret = c;
    return OK;
}

bool webhook_host_allowed(const struct webhook_conf *c, struct span host)
{
    for (size_t i = 0; i < c->n_hosts; i++) {
        struct span p = c->host[i];
        if (span_is(p, "*") || span_eq_nocase(p, host)) {
            return true;
        }
        if (p.n >= 2 && p.p[0] == '*' && host.n > p.n - 1 &&
            span_eq_nocase(span_from(host, host.n - (p.n - 1)), span_from(p, 1))) {
            return true;
        }
    }
    return false;
}

/* --- latencies -------------------------------------------------------------------------------------- */

enum err settings_read_latencies(const struct json *o, const char *path, struct arena *a,
                                 struct latencies *ret, struct err_info *info)
{
    struct json_cursor c = {NULL, false};
    struct latencies l = {.n = 0};
    struct span name;
    struct json *v;
    size_t n = json_count(o);
    if (!json_is(o, JSON_T_OBJECT) || n > LIMIT_DPS_LINKED_HUBS) {
        return err_set(info, E_ARG, "%s: an object of at most %u hubs is wanted", path,
                       LIMIT_DPS_LINKED_HUBS);
    }
    if ((l.v = arena_alloc(a, (n + 1) * sizeof(*l.v))) == NULL) {
        return E_NOMEM;
    }
    while (json_next(o, &c, &name, &v)) {
        double ms = json_is(v, JSON_T_INT) || json_is(v, JSON_T_REAL) ? json_num(v) : -1;
        if (name.n == 0 || name.n > LIMIT_HOST || !(ms >= 0 && ms <= LIMIT_DPS_LATENCY_MS)) {
            return err_set(info, E_ARG, "%s: a host name and 0 to %u milliseconds are wanted", path,
                           LIMIT_DPS_LATENCY_MS);
        }
        l.v[l.n] = (struct latency){arena_span(a, name), (int64_t)ms};
        if (l.v[l.n++].hub.p == NULL) {
            return E_NOMEM;
        }
    }
    *ret = l;
    return OK;
}

int64_t latency_to(const struct latencies *l, struct span hub)
{
    for (size_t i = 0; l != NULL && i < l->n; i++) {
        if (span_eq_nocase(l->v[i].hub, hub)) {
            return l->v[i].ms;
        }
    }
    return -1;
}

/* *ret_family_bits: 32 or 128. */
static bool read_address(struct span text, uint8_t dst[16], unsigned *ret_family_bits)
{
    char s[INET6_ADDRSTRLEN];
    if (!span_to_cstr(text, s, sizeof(s))) {
        return false;
    }
    memset(dst, 0, 16);
    if (inet_pton(AF_INET, s, dst + 12) == 1) {
        dst[10] = dst[11] = 0xff;
        *ret_family_bits = 32;
        return true;
    }
    *ret_family_bits = 128;
    return inet_pton(AF_INET6, s, dst) == 1;
}

static bool holds(const struct network *n, const uint8_t address[16])
{
    size_t whole = n->bits / 8;
    unsigned rest = n->bits % 8;
    uint8_t mask = (uint8_t)(0xff00u >> rest);
    return memcmp(n->address, address, whole) == 0 &&
           (rest == 0 || (address[whole] & mask) == (n->address[whole] & mask));
}

/* No bit behind the prefix may be set: a typing error otherwise goes unseen. */
static bool is_network(const struct network *n)
{
    for (unsigned i = n->bits; i < 128; i++) {
        if ((n->address[i / 8] & (0x80u >> i % 8)) != 0) {
            return false;
        }
    }
    return true;
}

static enum err read_network(struct span text, struct network *ret, struct err_info *info)
{
    unsigned most = 0;
    uint64_t bits;
    struct span address = span_cut(&text, '/');
    if (!read_address(address, ret->address, &most) || !span_to_u64(text, &bits) || bits > most) {
        return err_set(info, E_ARG,
                       "latencyTable.network: \"10.0.0.0/8\" or \"fd00::/8\" is wanted");
    }
    ret->bits = (unsigned)bits + (128 - most);
    if (!is_network(ret)) {
        return err_set(info, E_ARG, "latencyTable.network: bits are set behind the prefix");
    }
    return OK;
}

static enum err read_place(struct span code, bool is_continent, struct place *ret,
                           struct err_info *info)
{
    static const char continents[] = "AF AN AS EU NA OC SA";
    bool is_code = code.n == 2;
    *ret = (struct place){.is_continent = is_continent};
    for (size_t i = 0; i < 2 && is_code; i++) {
        ret->code[i] = (char)(code.p[i] & ~0x20);
        is_code = ret->code[i] >= 'A' && ret->code[i] <= 'Z';
    }
    if (is_code && (!is_continent || strstr(continents, ret->code) != NULL)) {
        return OK;
    }
    return err_set(info, E_ARG,
                   is_continent ? "latencyTable.continent: one of AF, AN, AS, EU, NA, OC, SA"
                                : "latencyTable.country: two letters (ISO 3166) are wanted");
}

static enum err read_row(const struct json *o, struct arena *a, struct networks *t,
                         struct err_info *info)
{
    static const char *const known[] = {"network", "country", "continent", "latencyMs", NULL};
    struct span v[3] = {SPAN_NONE, SPAN_NONE, SPAN_NONE};
    struct latencies l;
    struct json *ms = NULL;
    unsigned n = 0, which = 0;
    enum err e;
    if (!json_is(o, JSON_T_OBJECT)) {
        return err_set(info, E_ARG, "latencyTable: objects are wanted");
    }
    if ((e = admin_members(o, "latencyTable", known, info)) != OK ||
        (e = json_get_object(o, "latencyMs", JSON_F_NEED, &ms, info)) != OK ||
        (e = settings_read_latencies(ms, "latencyTable.latencyMs", a, &l, info)) != OK) {
        return e;
    }
    for (unsigned i = 0; i < 3; i++) {
        if ((e = json_get_str(o, known[i], JSON_F_OPT, &v[i], info)) != OK) {
            return e;
        }
        which = v[i].p != NULL ? i : which;
        n += v[i].p != NULL;
    }
    if (n != 1) {
        return err_set(info, E_ARG,
                       "latencyTable: one of network, country and continent is wanted");
    }
    if (which == 0) {
        t->v[t->n].latencies = l;
        return read_network(v[0], &t->v[t->n++], info);
    }
    e = read_place(v[which], which == 2, &t->place[t->n_places], info);
    t->place[t->n_places++].latencies = l;
    return e;
}

static int longer_first(const void *a, const void *b)
{
    const struct network *x = a, *y = b;
    return x->bits != y->bits ? (x->bits < y->bits ? 1 : -1) : memcmp(x->address, y->address, 16);
}

static bool has_place_twice(const struct networks *t)
{
    for (size_t i = 1; i < t->n_places; i++) {
        for (size_t k = 0; k < i; k++) {
            if (t->place[k].is_continent == t->place[i].is_continent &&
                strcmp(t->place[k].code, t->place[i].code) == 0) {
                return true;
            }
        }
    }
    return false;
}

enum err settings_read_networks(const struct json *array, struct arena *a, struct networks *ret,
                                struct err_info *info)
{
    size_t n = json_count(array);
    struct networks t = {.n = 0};
    if (n > LIMIT_DPS_NETWORKS) {
        return err_set(info, E_ARG, "latencyTable: at most %u rows", LIMIT_DPS_NETWORKS);
    }
    if ((t.v = arena_alloc(a, (n + 1) * sizeof(*t.v))) == NULL ||
        (t.place = arena_alloc(a, (n + 1) * sizeof(*t.place))) == NULL) {
        return E_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        enum err e = read_row(json_at(array, i), a, &t, info);
        if (e != OK) {
            return e;
        }
    }
    qsort(t.v, t.n, sizeof(*t.v), longer_first);
    for (size_t i = 1; i < t.n; i++) {
        if (longer_first(&t.v[i - 1], &t.v[i]) == 0) {
            return err_set(info, E_ARG, "latencyTable: a network is there twice");
        }
    }
    if (has_place_twice(&t)) {
        return err_set(info, E_ARG, "latencyTable: a country or continent is there twice");
    }
    *ret = t;
    return OK;
}

const struct latencies *network_of(const struct networks *t, struct span address)
{
    uint8_t a[16];
    unsigned bits;
    if (t->n == 0 || !read_address(address, a, &bits)) {
        return NULL;
    }
    for (size_t i = 0; i < t->n; i++) {
        if (holds(&t->v[i], a)) {
            return &t->v[i].latencies;
        }
    }
    return NULL;
}

const struct latencies *place_of(const struct networks *t, const char *code, bool is_continent)
{
    for (size_t i = 0; i < t->n_places; i++) {
        const struct place *p = &t->place[i];
        if (p->is_continent == is_continent && strcmp(p->code, code) == 0) {
            return &p->latencies;
        }
    }
    return NULL;
}
