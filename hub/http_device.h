/* SPDX-License-Identifier: Apache-2.0 */
/* The device's HTTPS plane: telemetry, one or many; what of it this version does not offer answers clearly. docs/protocol/hub-https.md. */
#ifndef HUB_HTTP_DEVICE_H
#define HUB_HTTP_DEVICE_H

#include "hub/hub.h"

extern const struct http_route hub_device_routes[];
extern const size_t n_hub_device_routes;
/* AUTH_DEVICE: api-version and the credential of the device, or module, in the path. */
MUST_USE enum err hub_device_admit(struct http_rq *rq, struct err_info *info);

#endif
