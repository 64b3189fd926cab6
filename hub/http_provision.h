/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What berth-dps asks of a hub (Berth extension). A hub accepts it from a policy that holds the right Provision (bit 32), or both
 * RegistryWrite and ServiceConnect. Every request carries api-version=2026-11-01-berth. Keys are never in an answer.
 *
 * Owner mark   "<idScope>/individual/<enrollment id>" or "<idScope>/group/<enrollment id>": who made the device. It is written with
 *              the device, in one transaction. A device made by an administrator has none.
 * Operation    operationId (1..128 bytes of A-Z a-z 0-9 and -._:) names one intent. The device keeps the last one with its result:
 *              a repeated request with it changes nothing and gets the same answer, so it may be repeated after any failure.
 * Sequence     optional, in a body or a query: a request whose number is smaller than one that the device has seen changes nothing and
 *              is refused with 412001. So what was sent long ago and comes late never undoes what was decided since.
 *              The hub remembers it of devices that are not there, too (hub/fence.h): for each id and idScope the newest that it was told, for
 *              a day after the device was deleted or was asked for in vain.
 * Frozen       disabled because the device moves to another hub. It ends by "thawed", by a PUT (the device belongs here after all), or
 *              when an administrator writes the status by hand; "thawed" enables no device that someone else disabled.
 *
 *   PUT /provision/devices/{deviceId}?api-version=2026-11-01-berth
 *     {"operationId": "...", "owner": "...",
 *      "mayAdopt": false,                                     default false: take over a device with another mark or none
 *      "authentication": {...},                               as in PUT /devices/{id} (hub-service-rest.md 5.3); required
 *      "capabilities": {"iotEdge": false},                    default false
 *      "initialTwin": {"tags": {}, "properties": {"desired": {}, "reported": {}}},   default: empty; each part may be absent
 *      "resetTwin": false,                                    default false
 *      "status": "enabled"}                                   for a device that is created; default enabled
 *     200 {"deviceId", "generationId", "etag", "created": true, "status": "enabled", "frozen": false}
 *       no such device                    created with status, twin (initialTwin) and mark
 *       same mark                         authentication and capabilities are replaced (a replaced credential ends its sessions; an
 *                                         equal one ends nothing); status, generationId and twin stay; created is false. A frozen
 *                                         device is enabled again
 *       no mark, or another of the same
 *       idScope, and mayAdopt             as same mark, and the mark becomes owner
 *       other mark or none, else          409001 DeviceAlreadyExists
 *       resetTwin and the device existed  tags, desired and reported become those of initialTwin; versions go on counting, a connected
 *                                         device is told
 *   POST /provision/devices
 *     {"devices": [{"deviceId": "...", and the body of its PUT}, ...]}      1 to LIMIT_PROVISION_MANY
 *     200 {"results": [{"status": 200, "created": true} | {"status": 409, "error": {"errorCode": 409001, "message": "..."}}, ...]}
 *       in the order of the request; each as if it had come as a PUT, at the same time as the others: one refused hinders no other, and
 *       none is told before all are decided. Repeating the whole repeats those that were done
 *   GET /provision/devices/{deviceId}[?owner=...]
 *     200 {"deviceId", "generationId", "etag", "status", "frozen", "owner",
 *          "twin": {"tags": {}, "properties": {"desired": {}, "reported": {}}}}
 *       without metadata and versions: it can be sent as initialTwin to another hub. tags is absent when never written.
 *   PATCH /provision/devices/{deviceId}
 *     {"operationId": "...", "owner": "...", "mayAdopt": false, "status": "enabled" | "disabled" | "frozen" | "thawed"}
 *     200 {"deviceId", "generationId", "etag", "created": false, "status", "frozen"}. Disabling ends the device's sessions and freezes
 *     its twin.
 *   DELETE /provision/devices/{deviceId}?owner=...[&sequence=...]
 *     204. Repeated: 404, which is as good. Its sequence counts either way.
 *
 * Errors       400001 api-version · 400004 400005 400006 the body · 401002 no right · 404001 no such device (GET, PATCH, DELETE)
 *              409001 the device has another mark or none · 412001 a later operation was there
 *              (of a device that is not there: PUT) · 503 not done or outcome unknown: repeat with the same operationId
 * Limits       LIMIT_PROVISION_BODY, LIMIT_PROVISION_MANY, LIMIT_OWNER, LIMIT_OPERATION_ID; twins as wire/twin.h.
 */
#ifndef HUB_HTTP_PROVISION_H
#define HUB_HTTP_PROVISION_H

#include "hub/hub.h"

/* http_route.auth of these routes: the program's admit hook calls hub_provision_admit for it. */
#define HUB_AUTH_PROVISION (AUTH_PROGRAM + 1)
extern const struct http_route hub_provision_routes[];
extern const size_t n_hub_provision_routes;
void hub_provision_many(struct http_rq *rq); /* hub/http_provision_many.c */
MUST_USE enum err hub_provision_admit(struct http_rq *rq, struct err_info *info);

#endif
