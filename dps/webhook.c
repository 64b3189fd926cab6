/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/webhook.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/map.h"
#include "dps/assignment.h"
#include "dps/enrollment.h"
#include "wire/json.h"

/* --- addresses ---------------------------------------------------------------------------------- */

static bool read_authority(struct span authority, struct span *ret_host)
{
    struct span rest = authority;
    uint64_t port = 443;
    if (authority.n != 0 && authority.p[0] == '[') {
        rest = span_from(authority, 1);
        *ret_host = span_cut(&rest, ']');
        if (rest.n != 0 && rest.p[0] != ':') {
            return false;
        }
        rest = span_from(rest, 1);
    } else {
        *ret_host = span_cut(&rest, ':');
    }
    return ret_host->n != 0 && ret_host->n <= LIMIT_HOST &&
           (rest.n == 0 || (span_to_u64(rest, &port) && port >= 1 && port <= 65535));
}

/* Nothing that could carry a credential into a log, nothing that two readers of URLs would read differently. */
bool webhook_url_read(struct span url, struct webhook_url *ret)
{
    struct webhook_url u = {.is_http = span_starts_nocase(url, SPAN_LIT("http://"))};
    if (!u.is_http && !span_starts_nocase(url, SPAN_LIT("https://"))) {
        return false;
    }
    for (size_t i = 0; i < url.n; i++) {
        if (url.p[i] <= ' ' || url.p[i] >= 0x7f || url.p[i] == '\\' || url.p[i] == '#') {
            return false;
        }
    }
    struct span rest = span_from(url, u.is_http ? 7 : 8);
    size_t end = MIN(span_find(rest, '/'), span_find(rest, '?'));
    struct span authority = span_sub(rest, 0, end);
    if (url.n > 2048 || span_find(authority, '@') != authority.n ||
        !read_authority(authority, &u.host)) {
        return false;
    }
    *ret = u;
    return true;
}

enum err webhook_url_of(struct span doc, struct arena *a, struct span *ret)
{
    AUTO(json_free_p) struct json *j = NULL;
    struct span url = SPAN_NONE;
    enum err e = json_read_object(doc, 2 * LIMIT_DPS_BODY, &j, NULL);
    if (e != OK ||
        (e = json_get_str(j, "customAllocationDefinition.webhookUrl", 0, &url, NULL)) != OK) {
        return e;
    }
    if (url.n == 0) {
        return E_NOT_FOUND;
    }
    *ret = arena_span(a, url);
    return ret->p != NULL ? OK : E_NOMEM;
}

/* --- the question ---------------------------------------------------------------------------------- */

void webhook_add_offer(struct buf *b, const struct snapshot *s, const struct enr_row *enr)
{
    for (size_t i = 0; i < s->n_hubs; i++) {
        const struct hub_row *h = &s->hub[i].row;
        if (h->is_draining || (enr->hubs.n != 0 && !assignment_names(enr->hubs, h->host))) {
            continue;
        }
        buf_add_str(b, b->n != 0 ? "," : "");
        buf_add(b, h->host);
    }
}

static enum err add_credential(struct buf *b, const struct reg_row *reg,
                               const struct reg_more *more)
{
    if (reg->att == ATT_SYMMETRIC) {
        buf_add_str(b, ",\"symmetricKey\":{}");
    } else if (reg->att == ATT_CERT || reg->att == ATT_CA) {
        buf_add_str(b, ",\"x509\":{\"clientCertificate\":");
        enum err e = enrollment_write_cert(b, more->leaf);
        buf_add_u8(b, '}');
        return e;
    } else {
        buf_add_str(b, ",\"tpm\":{}");
    }
    return OK;
}

static enum err add_context(struct buf *b, const struct reg_row *reg, const struct reg_more *more)
{
    buf_add_str(b, ",\"deviceRuntimeContext\":{\"registrationId\":");
    json_write_str(b, reg->rid);
    if (reg->hub.n != 0) {
        buf_add_str(b, ",\"currentIotHubHostName\":");
        json_write_str(b, reg->hub);
        buf_add_str(b, ",\"currentDeviceId\":");
        json_write_str(b, reg->device_id);
    }
    enum err e = add_credential(b, reg, more);
    if (more->payload.n != 0) {
        buf_add_str(b, ",\"payload\":");
        buf_add(b, more->payload);
    }
    buf_add_u8(b, '}');
    return e;
}

enum err webhook_add_body(struct buf *b, const struct enr_row *enr, const struct reg_row *reg,
                          const struct reg_more *more, struct span offer)
{
    const char *sep = "";
    buf_addf(b, "{\"%s\":", enr->kind == ENR_GROUP ? "enrollmentGroup" : "individualEnrollment");
    enum err e = enrollment_write_plain(b, enr);
    if (e != OK || (e = add_context(b, reg, more)) != OK) {
        return e;
    }
    buf_add_str(b, ",\"linkedHubs\":[");
    while (offer.n != 0) {
        buf_add_str(b, sep);
        json_write_str(b, span_cut(&offer, ','));
        sep = ",";
    }
    buf_add_str(b, "]}");
    return buf_err(b);
}

/* --- the answer --------------------------------------------------------------------------------------- */

static struct span in_offer(struct span offer, struct span host)
{
    while (offer.n != 0) {
        struct span h = span_cut(&offer, ',');
        if (span_eq_nocase(h, host)) {
            return h;
        }
    }
    return SPAN_NONE;
}

/* docs/protocol/dps-device.md 2.2: one SDK takes nothing but an object. */
static enum err keep_payload(const struct json *body, struct arena *a, struct span *ret)
{
    AUTO(buf_done) struct buf b = BUF_INIT(2 * WEBHOOK_ANSWER_MAX);
    const struct json *p = json_get(body, "payload");
    if (!json_is(p, JSON_T_OBJECT)) {
        return OK;
    }
    json_write(&b, p);
    if (buf_err(&b) != OK) {
        return buf_err(&b);
    }
    *ret = arena_span(a, buf_span(&b));
    return ret->p != NULL ? OK : E_NOMEM;
}

enum rule webhook_read_answer(struct span body, struct span offer, struct arena *a,
                              struct webhook_answer *ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *j = NULL;
    struct webhook_answer r = {.host = SPAN_NONE};
    struct span host = SPAN_NONE;
    if (json_read_object(body, WEBHOOK_ANSWER_MAX, &j, info) != OK ||
        json_get_str(j, "iotHubHostName", 0, &host, info) != OK) {
        return RULE_WEBHOOK_NO_HUB;
    }
    if (host.n == 0) {
        (void)err_set(info, E_ARG, "the answer names no hub");
        return RULE_WEBHOOK_NO_HUB;
    }
    struct span known = in_offer(offer, host);
    if (known.n == 0) {
        (void)err_set(info, E_ARG, "\"%.*s\" is none of the hubs offered",
                      SPAN_ARG(span_sub(host, 0, LIMIT_HOST)));
        return RULE_WEBHOOK_FOREIGN_HUB;
    }
    r.host = arena_span(a, known);
    if (r.host.p == NULL || enrollment_read_twin(j, a, &r.initial_twin, info) != OK ||
        keep_payload(j, a, &r.payload) != OK) {
        return RULE_WEBHOOK_FAILED;
    }
    *ret = r;
    return RULE_OK;
}

/* --- breakers ----------------------------------------------------------------------------------------- */

struct breaker {
    struct map_node node;
    unsigned failures;
    bool is_open;
    uint64_t until_ms, used_ms;
    uint8_t host[LIMIT_HOST];
};
struct breakers {
    pthread_mutex_t lock;
    struct map map;
    struct breaker slot[WEBHOOK_BREAKERS];
    size_t n;
};

enum err breakers_new(struct breakers **ret)
{
    struct breakers *b = NEW(struct breakers);
    if (b == NULL) {
        return E_NOMEM;
    }
    (void)pthread_mutex_init(&b->lock, NULL);
    map_init(&b->map);
    *ret = b;
    return OK;
}

void breakers_free(struct breakers *b)
{
    if (b != NULL) {
        map_done(&b->map);
        (void)pthread_mutex_destroy(&b->lock);
        free(b);
    }
}

static struct breaker *find(struct breakers *b, struct span host)
{
    struct map_node *n = map_get(&b->map, host);
    return n != NULL ? CONTAINER_OF(n, struct breaker, node) : NULL;
}

/* Of a host that failed. NULL: no memory, and then it is not counted. */
static struct breaker *make(struct breakers *b, struct span host)
{
    struct breaker *k = &b->slot[0];
    if (b->n < WEBHOOK_BREAKERS) {
        k = &b->slot[b->n++];
    } else {
        for (size_t i = 1; i < WEBHOOK_BREAKERS; i++) {
            k = b->slot[i].used_ms < k->used_ms ? &b->slot[i] : k;
        }
        if (map_get(&b->map, k->node.key) == &k->node) {
            map_del(&b->map, &k->node);
        }
    }
    *k = (struct breaker){.failures = 0};
    memcpy(k->host, host.p, host.n);
    k->node.key = span_of(k->host, host.n);
    return map_add(&b->map, &k->node) == OK ? k : NULL;
}

static bool may(struct breakers *b, struct span host, uint64_t now_ms)
{
    struct breaker *k = find(b, host);
    if (k == NULL || !k->is_open) {
        return true;
    }
    /* A probe whose end was never told (the job went away) is replaced after another pause. */
    if (now_ms < k->until_ms) {
        return false;
    }
    k->until_ms = now_ms + WEBHOOK_OPEN_MS;
    return true;
}

bool breaker_may(struct breakers *b, struct span host, uint64_t now_ms)
{
    (void)pthread_mutex_lock(&b->lock);
    bool is_free = may(b, host, now_ms);
    (void)pthread_mutex_unlock(&b->lock);
    return is_free;
}

static enum breaker_change told_good(struct breakers *b, struct span host)
{
    struct breaker *k = find(b, host);
    bool was_open = k != NULL && k->is_open;
    if (k != NULL) {
        k->failures = 0;
        k->is_open = false;
    }
    return was_open ? BREAKER_CLOSED : BREAKER_SAME;
}

static enum breaker_change told_bad(struct breakers *b, struct span host, uint64_t now_ms)
{
    struct breaker *k = find(b, host);
    if (k == NULL && (k = make(b, host)) == NULL) {
        return BREAKER_SAME;
    }
    bool was_open = k->is_open;
    k->used_ms = now_ms;
    k->failures++;
    if (!was_open && k->failures < WEBHOOK_FAILURES) {
        return BREAKER_SAME;
    }
    k->is_open = true;
    k->until_ms = now_ms + WEBHOOK_OPEN_MS;
    return was_open ? BREAKER_SAME : BREAKER_OPENED;
}

enum breaker_change breaker_told(struct breakers *b, struct span host, bool is_good,
                                 uint64_t now_ms)
{
    ASSERT(host.n != 0 && host.n <= LIMIT_HOST);
    (void)pthread_mutex_lock(&b->lock);
    enum breaker_change c = is_good ? told_good(b, host) : told_bad(b, host, now_ms);
    (void)pthread_mutex_unlock(&b->lock);
    return c;
}
