/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/streams.h"

#include "hub/streams_int.h"

static void go_home(struct stream_ask *a, enum ask_result result)
{
    list_del(&a->link);
    a->result = result;
    a->msg.run = a->come_home;
    stream_post(a->hub, a->home, &a->msg);
}

/* On the link's worker: lies with the session from here on, if the device hears it. */
static void arrive(struct msg *m)
{
    struct stream_ask *a = CONTAINER_OF(m, struct stream_ask, msg);
    struct worker *w = server_worker(a->hub->server, handle_worker(a->to));
    struct session *s = handle_get(worker_loop(w), a->to);
    if (s == NULL || s->ad.identity != a->identity || !s->is_ready || s->is_leaving ||
        s->endpoint == NULL) {
        go_home(a, ASK_LOST);
    } else if (!session_listens(s) || s->ops->stream(s, &a->offer) != OK) {
        go_home(a, ASK_DEAF);
    } else {
        list_add_tail(&s->asks, &a->link);
    }
}

void stream_ask_send(struct stream_ask *a)
{
    a->msg.run = arrive;
    a->result = ASK_NONE;
    stream_post(a->hub, handle_worker(a->to), &a->msg);
}

void stream_ask_cancel(struct stream_ask *a)
{
    if (list_linked(&a->link)) {
        go_home(a, ASK_CANCELLED);
    } /* else it is on its way already */
}

void streams_unlisten(struct session *s)
{
    LIST_EACH_SAFE (n, tmp, &s->asks) {
        go_home(LIST_OF(n, struct stream_ask, link), ASK_LOST);
    }
}

static bool was_offered(struct span offer, struct span proto)
{
    while (offer.n > 0) {
        if (span_eq(span_trim(span_cut(&offer, ',')), proto)) {
            return true;
        }
    }
    return false;
}

void streams_answer(struct session *s, uint32_t rid, bool is_accepted, struct span proto)
{
    LIST_EACH_SAFE (n, tmp, &s->asks) {
        struct stream_ask *a = LIST_OF(n, struct stream_ask, link);
        if (a->offer.rid == rid) {
            a->ad = s->ad;
            a->ad.generation_id = a->ad.model_id = SPAN_NONE; /* the session's own text */
            a->proto[0] = '\0';
            /* What it takes must have been offered; in a rejection it is what it lacks, or demands. */
            if (proto.n > 0 && (is_accepted ? was_offered(span_str(a->offer.proto), proto)
                                            : stream_proto_ok(proto))) {
                (void)!span_to_cstr(proto, a->proto, sizeof(a->proto));
            }
            go_home(a, is_accepted ? ASK_ACCEPTED : ASK_REJECTED);
            return;
        }
    }
}
