/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which certificate a device must show before anything is sent to it, encrypted from end to end:
 *
 *   --device-cert FILE          this certificate (PEM)
 *   --device-thumbprint HEX     the one with this SHA-256 (colons do not count)
 *   --device-ca FILE            any that leads to a certificate of FILE and whose CN is --device-cn, or the device id
 *   --device-cert-from-hub      the one whose SHA-256 the hub's registry has. Weaker: it trusts the hub for who the device is, and so
 *                               protects from who can read or change what passes the hub, not from who can change its registry
 *
 * The first three come from the operator, so that the relay need not be trusted.
 */
#ifndef CTL_STREAM_TRUST_H
#define CTL_STREAM_TRUST_H

#include "ctl/ctl.h"
#include "net/tls.h"

#define STREAM_TRUST_OPTIONS                                                                       \
    {"end-to-end", NULL,                                                                           \
     "Encrypt up to the device: with --device-cert, --device-thumbprint, --device-ca or "          \
     "--device-cert-from-hub, each of which implies it."},                                         \
        {"device-cert", "FILE", "The device's certificate (PEM)."},                                \
        {"device-thumbprint", "HEX", "SHA-256 of the device's certificate."},                      \
        {"device-ca", "FILE", "CA that the device's certificate comes from (PEM)."},               \
        {"device-cn", "NAME", "Its common name, with --device-ca; DEVICE when not given."},        \
    {                                                                                              \
        "device-cert-from-hub", NULL,                                                              \
            "Believe the hub's registry about the certificate (needs RegistryRead): weaker."       \
    }

/* Of a module (not NULL) the registry's word is the module's own. *ret NULL: not asked for. s is asked only for --device-cert-from-hub. */
MUST_USE enum err stream_trust(const struct cli_args *a, struct service *s, const char *device,
                               const char *module, struct tls_ctx **ret, struct err_info *info);

#endif
