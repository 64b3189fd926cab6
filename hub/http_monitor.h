/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the telemetry log over HTTPS (Berth extension), as JSON lines, from a given position, following what arrives.
 *
 *   GET /messages/events?api-version=2026-11-01-berth    right ServiceConnect
 *     partition=N        one partition; absent: all
 *     from=P             earliest, latest (default), a sequence number, or an ISO 8601 time; for every partition that is read
 *     from.N=S           sequence number where partition N begins (wins over from)
 *     follow=true|false  stay and send what arrives (default), or end at the last message that was there when it was asked
 *     max=N              end after N messages
 *     device=ID          only messages of that device
 *   200 application/x-ndjson, one object a line:
 *     {"partition":0,"sequenceNumber":7,"enqueuedTimeUtc":"2026-01-31T00:49:39.4675280Z","deviceId":"dev-1",
 *      "systemProperties":{...},"properties":{...},"body":"...","bodyEncoding":"utf-8"}      bodyEncoding: utf-8 or base64
 *   An empty line every MONITOR_BEAT_MS when nothing else was sent. To resume, ask from.N = last sequenceNumber + 1.
 *
 * Memory      one slice of MONITOR_SLICE_BYTES under way per monitor; a reader that is slow waits for itself only.
 * Revoked     the policy that admitted it is asked again at every change of policies: the answer ends within a second.
 * Threads     the worker's; slices are read and written as text on a scan thread.
 */
#ifndef HUB_HTTP_MONITOR_H
#define HUB_HTTP_MONITOR_H

#include "hub/session.h"

#define MONITOR_BEAT_MS 15000u
#define MONITOR_SLICE_ROWS 256u
#define MONITOR_SLICE_BYTES (128u << 10)
#define MONITOR_MAX 64u /* at a time on one worker */

#define HUB_AUTH_MONITOR AUTH_PROGRAM
/* Berth's own api-version, and a policy with the route's right. */
MUST_USE enum err hub_monitor_admit(struct http_rq *rq, struct err_info *info);
void hub_monitor_get(struct http_rq *rq);
void monitors_rejudge(struct worker *w);
void monitors_drain(struct worker *w);

#endif
