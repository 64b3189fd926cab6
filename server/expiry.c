/* SPDX-License-Identifier: Apache-2.0 */
#include "server/expiry.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "server/server_int.h"
#include "server/trust.h"

#define LOOK_MS 1000u   /* has a CA certificate come or gone? */
#define READ_MS 600000u /* all anew */
#define TELL_US 86400000000
#define DEADLINE_MS 30000u
#define DAY_US 86400000000
#define MAX_KINDS 8u

struct expiry_item {
    const char *kind;
    char name[LIMIT_ID + 8];
    char next[LIMIT_ID + 8];
    int64_t until_us;
};
struct expiry_list {
    int64_t now_us, warn_until_us;
    size_t n, n_cut;
    struct expiry_item item[LIMIT_EXPIRY_ITEMS];
    struct {
        const char *kind;
        uint64_t n;
    } count[MAX_KINDS];
    size_t n_counts;
};

struct expiry_watch {
    struct server *s;
    struct timer timer;
    struct store_scan scan;
    bool is_reading;
    struct expiry_list list[2];
    unsigned shown; /* the other one is being read */
    uint64_t seen_trust, read_ms;
    int64_t told_us; /* 0: never */
};

/* --- what is added -------------------------------------------------------------------------------- */

int64_t expiry_days(int64_t until_us, int64_t now_us)
{
    int64_t d = (until_us - now_us) / DAY_US;
    return until_us - now_us < d * DAY_US ? d - 1 : d;
}

int64_t expiry_now_us(const struct expiry_list *l)
{
    return l->now_us;
}

int64_t expiry_warn_until_us(const struct expiry_list *l)
{
    return l->warn_until_us;
}

void expiry_count(struct expiry_list *l, const char *kind, uint64_t n)
{
    size_t i = 0;
    while (i < l->n_counts && strcmp(l->count[i].kind, kind) != 0) {
        i++;
    }
    ASSERT(i < MAX_KINDS);
    l->count[i].kind = kind;
    l->count[i].n += n;
    l->n_counts = MAX(l->n_counts, i + 1);
}

void expiry_add(struct expiry_list *l, const char *kind, struct span name, struct span next,
                int64_t until_us)
{
    if (l->n == LIMIT_EXPIRY_ITEMS) {
        l->n_cut++;
        return;
    }
    struct expiry_item *i = &l->item[l->n++];
    *i = (struct expiry_item){.kind = kind, .until_us = until_us};
    (void)span_to_cstr(span_sub(name, 0, sizeof(i->name) - 1), i->name, sizeof(i->name));
    (void)span_to_cstr(span_sub(next, 0, sizeof(i->next) - 1), i->next, sizeof(i->next));
    if (name.n != 0) {
        expiry_count(l, kind, until_us <= l->warn_until_us);
    }
}

/* --- reading: a scan thread ------------------------------------------------------------------------- */

static enum err add_ca(void *arg, struct span name, bool is_verified UNUSED, struct cert *c)
{
    expiry_add(arg, "ca", name, name, cert_not_after_us(c));
    return OK;
}

static enum err read_all(struct db *db, struct store_scan *scan)
{
    struct expiry_watch *w = CONTAINER_OF(scan, struct expiry_watch, scan);
    struct expiry_list *l = &w->list[1 - w->shown];
    enum err e = trust_each(db, add_ca, l);
    if (e == OK && w->s->program->expiries != NULL) {
        e = w->s->program->expiries(db, l);
    }
    return e;
}

/* --- main ---------------------------------------------------------------------------------------------- */

static void tell(const struct expiry_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct expiry_item *t = &l->item[i];
        int64_t days = expiry_days(t->until_us, l->now_us);
        if (t->until_us > l->warn_until_us) {
            continue;
        }
        if (t->until_us <= l->now_us) {
            LOG_ERROR("server.certificate_expired", L_STR("kind", t->kind), L_STR("name", t->next),
                      L_I64("days", -days - 1));
        } else {
            LOG_WARN("server.certificate_expires", L_STR("kind", t->kind), L_STR("name", t->next),
                     L_I64("days", days));
        }
    }
    if (l->n_cut != 0) {
        LOG_WARN("server.expiry_cut", L_U64("n", l->n_cut));
    }
}

static void read_home(struct msg *m)
{
    struct expiry_watch *w =
        CONTAINER_OF(CONTAINER_OF(m, struct store_scan, msg), struct expiry_watch, scan);
    w->is_reading = false;
    if (w->scan.result != OK) {
        LOG_WARN("server.expiry_failed", L_ERR(w->scan.result));
        return; /* the next look tries again */
    }
    w->shown = 1 - w->shown;
    const struct expiry_list *l = &w->list[w->shown];
    if (w->told_us == 0 || l->now_us - w->told_us >= TELL_US || l->now_us < w->told_us) {
        w->told_us = l->now_us;
        tell(l);
    }
}

static void begin(struct expiry_watch *w, uint64_t now_ms)
{
    struct expiry_list *l = &w->list[1 - w->shown];
    const struct server_conf *c = server_base_conf(w->s);
    memset(l, 0, sizeof(*l));
    l->now_us = clock_wall_us(w->s->clock);
    l->warn_until_us = l->now_us + (int64_t)c->certificate_warning_days * DAY_US;
    w->scan = (struct store_scan){
        .home = loop_mailbox(w->s->loop), .run = read_all, .deadline_ms = now_ms + DEADLINE_MS};
    w->scan.msg.run = read_home;
    w->seen_trust = trust_epoch(w->s);
    w->read_ms = now_ms;
    w->is_reading = store_scan(w->s->store, &w->scan) == OK;
}

static void look(struct timer *t)
{
    struct expiry_watch *w = CONTAINER_OF(t, struct expiry_watch, timer);
    uint64_t now_ms = clock_mono_ms(w->s->clock);
    if (!w->is_reading && (now_ms - w->read_ms >= READ_MS || w->seen_trust != trust_epoch(w->s))) {
        begin(w, now_ms);
    }
    timer_set(w->s->loop, &w->timer, LOOK_MS, look);
}

/* Labels are names of ours: letters, digits, - . _ : and /; nothing in them needs an escape. */
void expiry_metrics(struct server *s, struct buf *b)
{
    const struct expiry_watch *w = s->expiry;
    char labels[2 * LIMIT_ID + 64];
    if (w == NULL) {
        return;
    }
    const struct expiry_list *l = &w->list[w->shown];
    int64_t now_us = clock_wall_us(s->clock);
    const char *help = "Seconds to the end of a certificate; 0: over.";
    for (size_t i = 0; i < l->n; i++) {
        const struct expiry_item *t = &l->item[i];
        (void)snprintf(labels, sizeof(labels), "kind=\"%s\",name=\"%s\"", t->kind, t->name);
        metrics_addf(b, "berth_certificate_expires_seconds", METRIC_GAUGE, i == 0 ? help : NULL,
                     labels, (uint64_t)MAX(0, (t->until_us - now_us) / 1000000));
    }
    help = "Certificates that end within auth.certificate-warning-days, or are over.";
    for (size_t i = 0; i < l->n_counts; i++) {
        (void)snprintf(labels, sizeof(labels), "kind=\"%s\"", l->count[i].kind);
        metrics_addf(b, "berth_certificates_expiring", METRIC_GAUGE, i == 0 ? help : NULL, labels,
                     l->count[i].n);
    }
}

enum err expiry_start(struct server *s)
{
    struct expiry_watch *w = NEW(struct expiry_watch);
    if (w == NULL) {
        return E_NOMEM;
    }
    w->s = s;
    s->expiry = w;
    begin(w, clock_mono_ms(s->clock));
    timer_set(s->loop, &w->timer, LOOK_MS, look);
    return OK;
}

void expiry_stop(struct server *s)
{
    if (s->expiry != NULL) {
        timer_stop(s->loop, &s->expiry->timer);
    }
}

void expiry_free(struct server *s)
{
    free(s->expiry);
    s->expiry = NULL;
}
