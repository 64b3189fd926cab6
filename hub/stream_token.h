/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of a device stream's two ends: the token that opens one, the gateway's path. Pure: key and time are arguments.
 *
 * Token       base64url of version(1) | role(1) | sid(16) | expiry(8, unix seconds, big endian) | HMAC-SHA256(32): 78 characters out
 *             of A-Z a-z 0-9 - _. The MAC is compared in constant time; what it covers is believed only then.
 * Path        /bridges/ih/{hub}/d/{deviceId}[/m/{moduleId}]/sid/{32 hex}/r/{device|service}
 * Errors      E_UNAUTHORIZED for every token that does not open, the reason in info; E_NO_ROUTE for every other path.
 * Threads     any.    Spec   docs/protocol/device-streams.md 5, 6, 7.
 */
#ifndef HUB_STREAM_TOKEN_H
#define HUB_STREAM_TOKEN_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/secret.h"

#define STREAM_SID 16u
#define STREAM_TOKEN_BYTES 58u
#define STREAM_TOKEN_SIZE 79u /* 78 characters and a zero */

enum stream_role { STREAM_R_DEVICE = 1, STREAM_R_SERVICE = 2 };
struct stream_token {
    enum stream_role role;
    uint8_t sid[STREAM_SID];
    int64_t expires_s;
};
/* Opens what t says; a secret: never logged. */
void stream_token_write(const struct secret *key, const struct stream_token *t,
                        char dst[STREAM_TOKEN_SIZE]);
/* authorization: the header as sent, "Bearer TOKEN" (scheme without case); p NULL when absent. */
MUST_USE enum err stream_token_read(const struct secret *key, struct span authorization,
                                    int64_t now_s, struct stream_token *ret, struct err_info *info);

struct stream_path {
    struct span hub, device_id,
        module_id; /* decoded, in the arena; module_id empty: the device's own */
    uint8_t sid[STREAM_SID];
    enum stream_role role;
};
MUST_USE enum err stream_path_read(struct span raw, struct arena *a, struct stream_path *ret);
void stream_path_write(struct buf *b, const struct stream_path *p);

/* $iothub/streams/POST/{name}/?$rid=&$url=&$auth= : what the SDKs' splitters demand (3.1). */
/* proto empty: without $proto, a Berth extension (unknown properties are ignored by the SDKs). */
void stream_topic_write(struct buf *b, struct span name, uint32_t rid, struct span url,
                        struct span auth, struct span proto);
/* 1..64 bytes of UTF-8 without control characters, '/', '+', '#'. */
bool stream_name_ok(struct span name);
/* "30", "2.5", " 7 ": milliseconds. False: no such number, or above max_s. */
bool stream_seconds_read(struct span text, uint64_t max_s, uint64_t *ret_ms);

#endif
