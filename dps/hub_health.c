/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/hub_health.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

struct hub_healths {
    pthread_mutex_t mutex;
    struct entry {
        char host[LIMIT_HOST + 1]; /* empty: free */
        struct hub_health v;
    } entry[LIMIT_DPS_LINKED_HUBS];
};

enum err hub_healths_new(struct hub_healths **ret)
{
    struct hub_healths *h = NEW(struct hub_healths);
    if (h == NULL || pthread_mutex_init(&h->mutex, NULL) != 0) {
        free(h);
        return E_NOMEM;
    }
    *ret = h;
    return OK;
}

void hub_healths_free(struct hub_healths *h)
{
    if (h != NULL) {
        (void)pthread_mutex_destroy(&h->mutex);
        free(h);
    }
}

/* NULL: there is none. */
static struct entry *find(struct hub_healths *h, struct span host)
{
    for (size_t i = 0; i < ARRAY_LEN(h->entry); i++) {
        if (h->entry[i].host[0] != '\0' && span_is_nocase(host, h->entry[i].host)) {
            return &h->entry[i];
        }
    }
    return NULL;
}

/* One that is free was never called. */
static struct entry *take_oldest(struct hub_healths *h, struct span host)
{
    struct entry *e = &h->entry[0];
    for (size_t i = 1; i < ARRAY_LEN(h->entry); i++) {
        if (h->entry[i].v.called_us < e->v.called_us) {
            e = &h->entry[i];
        }
    }
    *e = (struct entry){.host = ""};
    return span_to_cstr(host, e->host, sizeof(e->host)) ? e : NULL;
}

void hub_health_note(struct hub_healths *h, struct span host, const struct egress_rq *rq,
                     bool is_repeated, int64_t now_us)
{
    (void)pthread_mutex_lock(&h->mutex);
    struct entry *e = find(h, host);
    if (e != NULL || (e = take_oldest(h, host)) != NULL) {
        struct hub_health *v = &e->v;
        v->called_us = now_us;
        v->status = rq->result == OK ? rq->status : 0;
        v->answered_us = rq->result == OK ? now_us : v->answered_us;
        v->failures = is_repeated ? v->failures + 1 : 0;
        (void)snprintf(v->why, sizeof(v->why), "%s",
                       rq->result != OK ? err_why(&rq->info, rq->result) : "");
    }
    (void)pthread_mutex_unlock(&h->mutex);
}

void hub_health_get(struct hub_healths *h, struct span host, struct hub_health *ret)
{
    (void)pthread_mutex_lock(&h->mutex);
    const struct entry *e = find(h, host);
    *ret = e != NULL ? e->v : (struct hub_health){.called_us = 0};
    (void)pthread_mutex_unlock(&h->mutex);
}
