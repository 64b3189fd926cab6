/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service plane over HTTPS: devices, modules (hub/http_modules.c) and twins; what else that plane has is known by name and answered "not offered by this
 * version" (404000) to a caller with the right for it. No rules here: parse, one call into the domain, encode.
 *
 * Use         main appends the routes to its own; the program's admit hook calls hub_service_admit for AUTH_SERVICE and HUB_AUTH_OWN.
 * Threads     the worker's.
 * Spec        docs/protocol/hub-service-rest.md 1, 2, 3, 5, 9.
 */
#ifndef HUB_HTTP_SERVICE_H
#define HUB_HTTP_SERVICE_H

#include "hub/hub.h"

/* As AUTH_SERVICE, and the device in the path may do it too, with its own credential: a token without a policy's name, or its
 * certificate without a token (hub-service-rest.md 2.3). */
#define HUB_AUTH_OWN (AUTH_PROGRAM + 2)
extern const struct http_route hub_service_routes[], hub_module_routes[];
extern const size_t n_hub_service_routes, n_hub_module_routes;
/* api-version (E_VERSION), then token and right (E_UNAUTHORIZED). */
MUST_USE enum err hub_service_admit(struct http_rq *rq, struct err_info *info);

#endif
