/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/assignment.h"

#include <math.h>

bool assignment_names(struct span hubs, struct span host)
{
    while (hubs.p != NULL && hubs.n != 0) {
        if (span_eq_nocase(span_cut(&hubs, ','), host)) {
            return true;
        }
    }
    return false;
}

/* The hub with the greatest -weight / ln(u), u uniform in (0, 1) by hub and device: each wins in proportion to its weight. */
static double score(const struct hub_row *h, struct span rid_fold)
{
    uint8_t text[LIMIT_HOST + LIMIT_ID], digest[32];
    uint64_t v = 0;
    ASSERT(h->fold.n <= LIMIT_HOST && rid_fold.n <= LIMIT_ID);
    memcpy(text, h->fold.p, h->fold.n);
    memcpy(text + h->fold.n, rid_fold.p, rid_fold.n);
    sha256(span_of(text, h->fold.n + rid_fold.n), digest);
    for (unsigned i = 0; i < 8; i++) {
        v = v << 8 | digest[i];
    }
    /* 53 bits, and half a step so that neither 0 nor 1 is reached. */
    double u = ((double)(v >> 11) + 0.5) / 9007199254740992.0;
    return -(double)h->weight / log(u);
}

/* What is known of the way to the device, the nearest word first. */
struct known {
    const struct latencies *v[4];
};

static struct known known_of(const struct snapshot *s, const struct pick_for *f)
{
    struct geoip_place at;
    geoip_find(s->geoip, f->peer, &at);
    return (struct known){{f->reports, network_of(&s->networks, f->peer),
                           place_of(&s->networks, at.country, false),
                           place_of(&s->networks, at.continent, true)}};
}

static int64_t ms_to(const struct known *k, const struct hub_row *h)
{
    for (size_t i = 0; i < ARRAY_LEN(k->v); i++) {
        int64_t ms = latency_to(k->v[i], h->host);
        if (ms >= 0) {
            return ms;
        }
    }
    return h->latency_ms >= 0 ? h->latency_ms : INT64_MAX - 1;
}

static struct pick pick_hashed(const struct snapshot *s, struct span hubs, const struct pick_for *f,
                               bool by_latency)
{
    struct pick p = {SPAN_NONE, RULE_HUB_NONE, "no linked hub takes part in the allocation", false};
    const struct known known = by_latency ? known_of(s, f) : (struct known){{NULL}};
    int64_t best_ms = INT64_MAX;
    double best = -1.0;
    for (size_t i = 0; i < s->n_hubs; i++) {
        const struct hub_row *h = &s->hub[i].row;
        if (!h->applies || h->is_draining || (hubs.n != 0 && !assignment_names(hubs, h->host))) {
            continue;
        }
        int64_t ms = by_latency ? ms_to(&known, h) : 0;
        double v = score(h, f->rid_fold);
        if (ms < best_ms || (ms == best_ms && v > best)) {
            best_ms = ms;
            best = v;
            p = (struct pick){h->host, RULE_OK, NULL, false};
        }
    }
    return p;
}

static struct pick pick_static(struct snapshot *s, struct span host)
{
    struct pick p = {SPAN_NONE, RULE_HUB_STATIC,
                     "static allocation, and the enrollment names no hub", false};
    if (host.n == 0) {
        return p;
    }
    const struct linked_hub *h = snapshot_hub(s, host);
    if (h != NULL && !h->row.is_draining) {
        return (struct pick){h->row.host, RULE_OK, NULL, false};
    }
    p.text = h != NULL ? "the hub that the enrollment names takes no devices: it is drained"
                       : "the hub that the enrollment names is not linked";
    return p;
}

enum enr_alloc assignment_policy(const struct snapshot *s, const struct enr_row *e)
{
    return e->alloc != ALLOC_NONE ? e->alloc : e->hub_host.n != 0 ? ALLOC_STATIC : s->alloc;
}

struct pick assignment_pick(struct snapshot *s, const struct enr_row *e, const struct pick_for *f)
{
    struct span rest = e->hubs;
    struct span first = e->hubs.n != 0 ? span_cut(&rest, ',') : e->hub_host;
    switch (assignment_policy(s, e)) {
    case ALLOC_STATIC:
        return pick_static(s, first);
    case ALLOC_CUSTOM:
        return (struct pick){SPAN_NONE, RULE_OK, NULL, true};
    case ALLOC_GEO:
        return pick_hashed(s, e->hubs, f, true);
    case ALLOC_NONE:
    case ALLOC_HASHED:
        break;
    }
    return pick_hashed(s, e->hubs, f, false);
}
