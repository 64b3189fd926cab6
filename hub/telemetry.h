/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device-to-cloud messages: checked, stamped, appended durably to the log. Acknowledged means on disk.
 *
 *   telemetry_begin(worker, who, message, done) ... log writer ... done(...) on the worker
 *
 * meta of a log row holds stamps and properties as wire/logmeta.h writes them.
 * partition = SipHash(device id) with a fixed key mod partitions, so that one device's messages keep their order.
 * Limits      hub-mqtt.md 5.4 size rule (E_TOO_LARGE), LIMIT_PROPS.
 * Errors      E_BUSY, E_DISK_FULL, E_UNKNOWN, E_DRAINING: never acknowledged. E_THROTTLED, E_QUOTA: hub/allowance.h.
 */
#ifndef HUB_TELEMETRY_H
#define HUB_TELEMETRY_H

#include "hub/registry.h"
#include "wire/props.h"

struct telemetry_source {
    int64_t identity;
    struct span device_id;
    struct span module_id; /* empty: device */
    struct span generation_id;
    struct span model_id;
    const char *auth_method_json;
};
struct telemetry_op;
/* result OK: on disk. user is the caller's. Called on the worker's loop, never inside telemetry_begin. */
typedef void (*telemetry_done_fn)(void *user, uint64_t tag, enum err result);
struct telemetry_message {
    const struct prop *props; /* wire/props.h, in order as the device gave them */
    size_t n_props;
    struct span body;
    bool retain; /* MQTT RETAIN=1: application property mqtt-retain */
    bool is_will;
};
/* Everything is copied before it returns. An error here means done is not called. */
MUST_USE enum err telemetry_begin(struct worker *w, const struct telemetry_source *src,
                                  const struct telemetry_message *m, telemetry_done_fn done,
                                  void *user, uint64_t tag, struct err_info *info);
/* All or nothing. */
MUST_USE enum err telemetry_begin_batch(struct worker *w, const struct telemetry_source *src,
                                        const struct telemetry_message *m, size_t n,
                                        telemetry_done_fn done, void *user, uint64_t tag,
                                        struct err_info *info);

#endif
