/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one device may send: so many messages a second, and so many messages and bytes a UTC day (threat D6). Telemetry over MQTT and
 * HTTPS, wills, and patches of reported properties count alike: a batch of n messages as n, bytes by the size rule (hub-mqtt.md 5.4), of
 * a patch those of its body. All connections of a device, on whatever worker, draw on the same allowance; a module has one of its own.
 *
 * Rate        a bucket that holds one second's worth. Who has anything left may take more than is left and pays later, so that a batch
 *             passes whole, and the rate holds over time.
 * Day         of the calendar that a jump of the wall clock does not move (server_calendar_s). What was taken and then not stored is
 *             given back. Exact while the process lives.
 * Restart     what was counted goes to the registry LIMIT_HUB_NOTE_S seconds after it was, and at once for each sixteenth of a bound and
 *             when a bound is met; a stop in order writes all. So kill -9 forgets the last seconds of a device, at most a sixteenth of
 *             its day and what that write had not finished, never the day.
 * Errors      E_THROTTLED now, not later; E_QUOTA not before the next day; E_BUSY more devices than LIMIT_HUB_METERED have sent within
 *             seconds. Told in the log, with the device's name: hub.rate once a minute, hub.quota once a day.
 * Threads     any worker; a lock for each of ALLOWANCE_SHARDS parts, held for one look.
 * Spec        docs/protocol/limits.md 2, rows 16 and 19; hub-mqtt.md 11.
 */
#ifndef HUB_ALLOWANCE_H
#define HUB_ALLOWANCE_H

#include "hub/hub.h"

#define ALLOWANCE_SHARDS 16u

struct allowance_conf { /* 0: no bound */
    uint64_t messages_per_s, messages_per_day, bytes_per_day;
};
struct allowance;
MUST_USE enum err allowance_new(struct server *s, const struct allowance_conf *c,
                                struct allowance **ret);
void allowance_free(struct allowance *a);
void allowance_reload(struct allowance *a, const struct allowance_conf *c);

/* What was taken, kept by the caller to give it back; day 0: nothing was counted. */
struct allowance_use {
    int64_t identity;
    int64_t day;
    uint64_t n, bytes;
};
/* Takes n messages with that many bytes, or nothing. A will asks for no rate: it comes once, when the link is gone. */
MUST_USE enum err allowance_take(struct worker *w, int64_t identity, struct span device_id,
                                 uint64_t n, uint64_t bytes, bool is_will,
                                 struct allowance_use *ret, struct err_info *info);
void allowance_give_back(struct worker *w, const struct allowance_use *u);
/* After E_THROTTLED: in how many milliseconds there is something again; at least 1. */
uint32_t allowance_wait_ms(struct worker *w, int64_t identity);
/* What is counted goes to the writer now. */
void allowance_flush(struct hub *h);

#endif
