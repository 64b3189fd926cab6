/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/webhook_sign.h"

#include <stdio.h>

#include "base/limits.h"
#include "base/text.h"
#include "certs/keyring.h"

#define BODY_MAX (512u << 10)
#define STAMP_SIZE 24u

enum err webhook_sign_key(const struct secret *root, struct span host, unsigned version,
                          struct secret *ret)
{
    char text[LIMIT_HOST + 1], head[32];
    uint8_t mac[MAC_SIZE];
    AUTO(buf_done) struct buf b = BUF_INIT(sizeof(text) + sizeof(head));
    if (!span_to_cstr(host, text, sizeof(text))) {
        return E_ARG;
    }
    text_lower(text, host.n);
    (void)snprintf(head, sizeof(head), "webhook %u ", version);
    buf_add_str(&b, head);
    buf_add_str(&b, text);
    if (buf_err(&b) != OK) {
        return buf_err(&b);
    }
    mac_sha256(secret_span(root), buf_span(&b), mac);
    enum err e = secret_set(ret, span_of(mac, sizeof(mac)));
    mem_wipe(mac, sizeof(mac));
    return e;
}

enum err webhook_sign_add(struct buf *b, const struct secret *root, struct span host,
                          unsigned version, int64_t now_s, struct span body)
{
    AUTO(secret_done) struct secret key = {.n = 0};
    AUTO(buf_done) struct buf text = BUF_INIT(BODY_MAX + STAMP_SIZE);
    uint8_t mac[MAC_SIZE];
    enum err e = webhook_sign_key(root, host, version, &key);
    if (e != OK) {
        return e;
    }
    buf_addf(&text, "%lld.", (long long)now_s);
    buf_add(&text, body);
    if (buf_err(&text) != OK) {
        return buf_err(&text);
    }
    mac_sha256(secret_span(&key), buf_span(&text), mac);
    buf_addf(b, "Berth-Signature: t=%lld,k=%u,v1=", (long long)now_s, version);
    base64_add(b, span_of(mac, sizeof(mac)));
    return buf_err(b);
}
