/* SPDX-License-Identifier: Apache-2.0 */
/* What waits to be on the hub's disk. */
#include "agent/agent.h"

#include <stdlib.h>

#include "base/log.h"

static struct agent_message *at(struct agent *a, size_t i)
{
    return &a->queue[(a->first + i) % AGENT_QUEUE];
}

static void pop(struct agent *a)
{
    free(at(a, 0)->body);
    *at(a, 0) = (struct agent_message){0};
    a->first = (a->first + 1) % AGENT_QUEUE;
    a->count--;
}

bool agent_queue_push(struct agent *a, char *body)
{
    if (body == NULL) {
        return false;
    }
    if (a->count == AGENT_QUEUE) {
        a->dropped++;
        LOG_WARN("agent.telemetry_dropped", L_U64("n", at(a, 0)->n), L_U64("dropped", a->dropped));
        pop(a);
    }
    *at(a, a->count++) =
        (struct agent_message){.n = a->next_n++, .size = span_str(body).n, .body = body};
    return true;
}

void agent_queue_flush(struct agent *a, agent_send_fn send, void *arg)
{
    for (size_t i = 0; a->is_up && i < a->count; i++) {
        struct agent_message *m = at(a, i);
        if (!m->is_sent) {
            if (send(arg, span_of(m->body, m->size), m->n) != OK) {
                return; /* full or ending: the next tick, or the next link */
            }
            m->is_sent = true;
        }
    }
}

void agent_queue_stored(struct agent *a, uint64_t n)
{
    while (a->count > 0 && at(a, 0)->n <= n) {
        pop(a);
    }
}

void agent_queue_again(struct agent *a)
{
    for (size_t i = 0; i < a->count; i++) {
        at(a, i)->is_sent = false;
    }
}

void agent_queue_done(struct agent *a)
{
    while (a->count > 0) {
        pop(a);
    }
}
