/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters and gauges in Prometheus text form on a separate loopback listener, with /healthz (process lives and its stores accept work)
 * and /readyz (listening, not draining). Counters are per worker, padded, summed when read.
 * Names       berth_<program>_<what>_total and the like, from one table per program; listed in docs/operations.md.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "server/server.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };
struct metric_def {
    const char *name;   /* "berth_hub_telemetry_messages_total" */
    const char *labels; /* "protocol=\"mqtt\"" or NULL */
    enum metric_type type;
    const char *help;
};
/* Registered once by the program's init; ids are indexes. */
void metrics_define(struct server *s, const struct metric_def *defs, size_t n);
void metric_add(struct worker *w, unsigned id, int64_t n); /* the worker's own thread */
/* Values that are read when asked (store queue, connected devices). Main loop thread; any-thread-safe function. */
typedef void (*metrics_extra_fn)(struct server *s, struct buf *text);
void metrics_extra(struct server *s, metrics_extra_fn fn);
void metrics_addf(struct buf *text, const char *name, enum metric_type type, const char *help,
                  const char *labels, uint64_t value);

#endif
