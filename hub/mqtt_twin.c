/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "hub/allowance.h"
#include "hub/metrics.h"
#include "hub/mqtt.h"
#include "hub/twin.h"

#define ANSWER_MAX (2u * LIMIT_TWIN_TEXT + 4096u)

/* One reported patch. The first of the list is under way; the others wait, so that they are stored in the order they came. */
struct report {
    struct report *next;
    mlink_slot slot;
    bool has_base;
    uint64_t base;
    size_t n_rid;
    size_t n_body;
    struct allowance_use use;
    uint8_t data[]; /* rid, body */
};

static struct mlink *link_of(const struct session *s)
{
    return s->endpoint;
}

/* PUBACK first, then the answer, to whom it wants one. When as many as may be are unacknowledged it
 * goes with QoS 0: what is lost with the link is not sent again in either case, and ending the link
 * would lose more. */
static void answer(struct session *s, mlink_slot slot, unsigned status, struct span rid,
                   uint64_t version, struct span body)
{
    AUTO(buf_done) struct buf topic = BUF_INIT(LIMIT_MQTT_TOPIC);
    struct mlink *l = link_of(s);
    if (l == NULL) {
        return;
    }
    if (session_wants(s, HUB_SUB_TWIN_RES)) {
        uint8_t qos = session_qos(s, HUB_SUB_TWIN_RES);
        topic_hub_twin_res_write(&topic, status, rid, version);
        enum err e = buf_err(&topic);
        if (e == OK) {
            e = mlink_publish_after(l, slot, buf_span(&topic), body, qos);
            if (e == E_QUEUE_FULL && qos > 0) {
                e = mlink_publish_after(l, slot, buf_span(&topic), body, 0);
            }
        }
        if (e != OK) {
            mlink_close(l, e, "twin answer could not be sent");
            return;
        }
    }
    if (slot != MLINK_NO_SLOT) {
        mlink_ack(l, slot);
    }
}

static void answer_error(struct session *s, mlink_slot slot, struct span rid, enum err e,
                         const struct err_info *info)
{
    AUTO(buf_done) struct buf body = BUF_INIT(ANSWER_MAX);
    unsigned status = hub_mqtt_error(e, info, &body);
    LOG_DEBUG("hub.twin_refused", L_SPAN("device", s->name), L_U64("status", status), L_ERR(e),
              L_WHY(info, e));
    answer(s, slot, status, rid, 0, buf_span(&body));
}

enum err hub_mqtt_twin_get(struct session *s, const struct hub_publish_topic *t, mlink_slot slot,
                           struct err_info *info)
{
    AUTO(buf_done) struct buf body = BUF_INIT(ANSWER_MAX);
    (void)info;
    metric_add(s->w, HUB_M_TWIN_GETS, 1);
    enum err e = twin_properties_json(s->w, s->ad.identity, &body);
    if (e == OK) {
        e = buf_err(&body);
    }
    if (e != OK) {
        answer_error(s, slot, t->rid, e, NULL);
    } else {
        answer(s, slot, 200, t->rid, 0, buf_span(&body));
    }
    return OK;
}

/* --- reported patches ----------------------------------------------------------------------------------------- */

static void begin_first(struct session *s);

static void pop_first(struct session *s)
{
    struct report *r = s->reports;
    s->reports = r->next;
    if (s->reports == NULL) {
        s->reports_tail = &s->reports;
    }
    s->n_reports--;
    s->report_bytes -= r->n_rid + r->n_body;
    free(r);
}

static void reported(void *user, uint64_t tag, enum err result, uint64_t version,
                     const struct err_info *info)
{
    struct session *s = user;
    struct report *r = s->reports;
    struct span rid = span_of(r->data, r->n_rid);
    (void)tag;
    if (result == OK) {
        metric_add(s->w, HUB_M_TWIN_PATCHES, 1);
        answer(s, r->slot, 204, rid, version, SPAN_NONE);
    } else {
        allowance_give_back(s->w, &r->use);
        answer_error(s, r->slot, rid, result, info);
    }
    pop_first(s);
    begin_first(s);
    session_settled(s);
    session_unref(s);
}

/* Takes up the first; those that are refused at once are answered at once. What was sent is stored even if the link has gone. */
static void begin_first(struct session *s)
{
    while (s->reports != NULL) {
        struct report *r = s->reports;
        struct err_info info = {0};
        session_ref(s);
        enum err e = twin_report_begin(s->w, s->ad.identity, span_of(r->data + r->n_rid, r->n_body),
                                       r->has_base, r->base, reported, s, 0, &info);
        if (e == OK) {
            return;
        }
        allowance_give_back(s->w, &r->use);
        answer_error(s, r->slot, span_of(r->data, r->n_rid), e, &info);
        pop_first(s);
        session_unref(s); /* the caller holds one more */
    }
}

enum err hub_mqtt_twin_patch(struct session *s, const struct hub_publish_topic *t, struct span body,
                             mlink_slot slot, struct err_info *info)
{
    if (s->n_reports == LIMIT_HUB_LINK_PATCHES ||
        (s->n_reports > 0 && s->report_bytes + body.n > LIMIT_HUB_LINK_PATCH_BYTES)) {
        answer_error(s, slot, t->rid, E_THROTTLED, NULL);
        return OK;
    }
    if (body.n > LIMIT_TWIN_BODY) {
        struct err_info why = {0};
        answer_error(s, slot, t->rid, err_set(&why, E_TOO_LARGE, "patch of %zu bytes", body.n),
                     &why);
        return OK;
    }
    struct err_info why = {0};
    struct allowance_use use;
    enum err e = allowance_take(s->w, s->ad.identity, s->device_id, 1, body.n, false, &use, &why);
    if (e != OK) {
        answer_error(s, slot, t->rid, e, &why);
        return OK;
    }
    struct report *r = malloc(sizeof(*r) + t->rid.n + body.n);
    if (r == NULL) {
        allowance_give_back(s->w, &use);
        return err_set(info, E_NOMEM, "no memory for a patch");
    }
    *r = (struct report){.slot = slot,
                         .has_base = t->has_version,
                         .base = t->version,
                         .n_rid = t->rid.n,
                         .n_body = body.n,
                         .use = use};
    if (t->rid.n > 0) {
        memcpy(r->data, t->rid.p, t->rid.n);
    }
    if (body.n > 0) {
        memcpy(r->data + t->rid.n, body.p, body.n);
    }
    bool is_first = s->reports == NULL;
    if (s->reports_tail == NULL) {
        s->reports_tail = &s->reports;
    }
    *s->reports_tail = r;
    s->reports_tail = &r->next;
    s->n_reports++;
    s->report_bytes += r->n_rid + r->n_body;
    if (is_first) {
        session_ref(s); /* begin_first may end the last operation on s */
        begin_first(s);
        session_unref(s);
    }
    return OK;
}

void hub_mqtt_forget(struct session *s)
{
    while (s->reports != NULL) {
        pop_first(s);
    }
}

/* --- desired properties ------------------------------------------------------------------------------------------ */

void hub_mqtt_desired(struct session *s, uint64_t version, struct span patch)
{
    AUTO(buf_done) struct buf topic = BUF_INIT(256);
    struct mlink *l = link_of(s);
    uint16_t id;
    if (!session_wants(s, HUB_SUB_TWIN_DESIRED) || version <= s->desired_told) {
        return;
    }
    s->desired_told = version;
    topic_hub_desired_write(&topic, version);
    uint8_t qos = session_qos(s, HUB_SUB_TWIN_DESIRED);
    enum err e = mlink_publish(l, buf_span(&topic), patch, qos, false, &id);
    if (e == E_QUEUE_FULL && qos > 0) {
        e = mlink_publish(l, buf_span(&topic), patch, 0, false, &id); /* as above */
    }
    if (e != OK) {
        /* No notice is dropped in silence: the device connects again and reads. */
        mlink_close(l, e, "desired properties could not be told");
    }
}
