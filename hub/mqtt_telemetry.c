/* SPDX-License-Identifier: Apache-2.0 */
/* Telemetry that comes over MQTT: from PUBLISH to its PUBACK, and how a link is slowed down. */
#include "base/limits.h"
#include "base/log.h"
#include "hub/allowance.h"
#include "hub/metrics.h"
#include "hub/mqtt.h"

static struct mlink *link_of(const struct session *s)
{
    return s->endpoint;
}

/* A link that pours faster than the disk takes is not read for a while: the queue is everybody's (hub-mqtt.md 11). */
static void count_append(struct session *s, int sign, size_t bytes)
{
    s->n_appends += sign > 0 ? 1 : (size_t)-1;
    s->append_bytes += sign > 0 ? bytes : (size_t)0 - bytes;
    bool hold =
        s->is_held
            ? s->n_appends > LIMIT_MQTT_RING / 2 || s->append_bytes > LIMIT_HUB_LINK_BYTES / 2
            : s->n_appends >= LIMIT_MQTT_RING || s->append_bytes >= LIMIT_HUB_LINK_BYTES;
    if (hold != s->is_held && s->endpoint != NULL) {
        s->is_held = hold;
        mlink_pause(link_of(s), s->is_held || s->is_shaped);
    }
}

static void end_shape(struct timer *t)
{
    struct session *s = CONTAINER_OF(t, struct session, shape);
    s->is_shaped = false;
    mlink_pause(link_of(s), s->is_held);
}

/* The log's queue is full: the message waits in the link, unread by us, and is tried again; who has waited LIMIT_HUB_SHAPE_S is
 * closed (hub-mqtt.md 11: shape first). */
static enum err shape(struct session *s, enum err e)
{
    uint64_t now = loop_now_ms(worker_loop(s->w));
    if (s->shaped_ms == 0) {
        s->shaped_ms = now;
        metric_add(s->w, HUB_M_MSG_SHAPED, 1);
    }
    if (now - s->shaped_ms >= LIMIT_HUB_SHAPE_S * 1000u) {
        return e;
    }
    s->is_shaped = true;
    mlink_pause(link_of(s), true);
    timer_set(worker_loop(s->w), &s->shape, LIMIT_HUB_SHAPE_STEP_MS, end_shape);
    return E_AGAIN;
}

/* It sends faster than it may: the message waits in the link until the device's allowance has one for it. */
static enum err slow_down(struct session *s)
{
    s->is_shaped = true;
    mlink_pause(link_of(s), true);
    timer_set(worker_loop(s->w), &s->shape, allowance_wait_ms(s->w, s->ad.identity), end_shape);
    return E_AGAIN;
}

static void telemetry_done(void *user, uint64_t tag, enum err result)
{
    struct session *s = user;
    struct mlink *l = link_of(s);
    mlink_slot slot = (mlink_slot)tag;
    count_append(s, -1, tag >> 32);
    if (result == OK) {
        metric_add(s->w, HUB_M_MSG_MQTT, 1);
    } else {
        metric_add(s->w, HUB_M_MSG_NOT_STORED, 1);
    }
    if (l != NULL && result == OK) {
        mlink_ack(l, slot);
    } else if (l != NULL && result != OK) {
        /* Never acknowledged; the device sends it again. */
        LOG_WARN("hub.telemetry_not_stored", L_SPAN("device", s->name), L_ERR(result));
        mlink_close(l, result, "telemetry could not be stored");
    }
    session_unref(s);
}

/* Last seen: good to a second, and no more than a compare for most messages. */
static void note_activity(struct session *s)
{
    uint64_t now = loop_now_ms(worker_loop(s->w));
    if (now >= s->noted_ms + 1000u) {
        s->noted_ms = now;
        registry_note_activity(s->w, s->ad.identity, loop_wall_us(worker_loop(s->w)), -1);
    }
}

enum err hub_mqtt_telemetry(struct session *s, const struct hub_publish_topic *t,
                            const struct mqtt_publish *p, mlink_slot slot, struct err_info *info)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(PUBLISH_ARENA);
    struct prop *props = NULL;
    size_t n_props = 0, dropped = 0;
    enum err e = props_bag_read(t->bag, &a, &props, &n_props, &dropped, info);
    if (e != OK) {
        return e;
    }
    struct telemetry_source src = session_source(s);
    struct telemetry_message m = {
        .props = props, .n_props = n_props, .body = p->payload, .retain = p->retain};
    session_ref(s);
    size_t bytes = p->topic.n + p->payload.n;
    e = telemetry_begin(s->w, &src, &m, telemetry_done, s, slot | (uint64_t)bytes << 32, info);
    if (e == OK) {
        s->shaped_ms = 0;
        note_activity(s);
        count_append(s, 1, bytes);
        return OK;
    }
    session_unref(s); /* the link holds one more */
    if (e == E_BUSY) {
        e = shape(s, e);
    } else if (e == E_THROTTLED) {
        e = slow_down(s);
    }
    if (e != E_AGAIN) {
        metric_add(s->w, HUB_M_MSG_NOT_STORED, 1);
    }
    return e;
}
