/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of the hub; the table of names is in hub/main.c, in this order. */
#ifndef HUB_METRICS_H
#define HUB_METRICS_H

#include "server/metrics.h"

enum hub_metric {
    HUB_M_CONNECTS,
    HUB_M_REFUSED,
    HUB_M_TAKEOVERS,
    HUB_M_TAKEOVERS_DELAYED,
    HUB_M_TAKEOVER_WARS,
    HUB_M_TWO_PLACES,
    HUB_M_REVOKED,
    HUB_M_EXPIRED,
    HUB_M_MSG_MQTT,
    HUB_M_MSG_HTTPS,
    HUB_M_MSG_NOT_STORED,
    HUB_M_MSG_SHAPED,
    HUB_M_RATE,
    HUB_M_QUOTA,
    HUB_M_TWIN_GETS,
    HUB_M_TWIN_PATCHES,
    HUB_M_MONITOR_ROWS,
    HUB_M_STREAM_BEGUN,
    HUB_M_STREAM_REJECTED,
    HUB_M_STREAM_FAILED,
    HUB_M_STREAM_OPENED,
    HUB_M_STREAM_REVOKED,
    HUB_M_STREAM_BYTES_DEVICE,
    HUB_M_STREAM_BYTES_SERVICE,
    HUB_METRICS
};

#endif
