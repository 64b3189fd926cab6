/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection strings: "HostName=..;DeviceId=..;SharedAccessKey=..".
 *
 * Ownership   spans point into the text, which holds the secret: wipe it when done.
 * Threads     any.
 * Errors      E_ARG names the part that is wrong, never its value: unknown or repeated name, blank,
 *             a combination that is no kind, several credentials.
 * Limits      LIMIT_SAS_TOKEN + 1024 bytes.
 * Spec        docs/protocol/sas.md 7. Names are compared with case.
 */
#ifndef WIRE_CONNSTR_H
#define WIRE_CONNSTR_H

#include "base/err.h"
#include "base/span.h"

enum connstr_kind {
    CONNSTR_DEVICE,    /* device_id (and module_id), one credential of its own */
    CONNSTR_SERVICE,   /* key_name and key: hub or DPS */
    CONNSTR_ON_BEHALF, /* a policy's key for one device */
};
struct connstr {
    enum connstr_kind kind;
    struct span host;
    struct span gateway_host; /* empty: none */
    struct span device_id;
    struct span module_id;
    struct span key_name;
    struct span key;       /* base64 text */
    struct span signature; /* whole token */
    bool x509;
};
MUST_USE enum err connstr_read(struct span text, struct connstr *ret, struct err_info *info);

#endif
