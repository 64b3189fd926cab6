/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/hublink.h"

#include <stdlib.h>

#include "base/text.h"
#include "dps/tpm_attestation.h"
#include "wire/json.h"
#include "wire/sas.h"

#define TOKEN_MAX (LIMIT_SAS_TOKEN + 64u)

struct seal_place hublink_key_place(struct span fold)
{
    return (struct seal_place){"hub", "key", fold};
}

static enum err make_token(const struct keyring *k, const struct hub_row *h, int64_t until_s,
                           struct buf *b)
{
    AUTO(secret_done) struct secret key = {.n = 0};
    AUTO(buf_done) struct buf sr = BUF_INIT(LIMIT_SAS_TOKEN);
    AUTO(buf_done) struct buf text = BUF_INIT(SAS_TO_SIGN_MAX);
    uint8_t sig[SAS_SIG_SIZE];
    enum err e = keyring_unseal(k, hublink_key_place(h->fold), h->key, &key);
    if (e != OK) {
        return e;
    }
    sas_sr_write(&sr, &h->host, 1);
    sas_to_sign_write(&text, buf_span(&sr), (uint64_t)until_s);
    if ((e = buf_err(&sr)) != OK || (e = buf_err(&text)) != OK) {
        return e;
    }
    mac_sha256(secret_span(&key), buf_span(&text), sig);
    buf_add_str(b, "Authorization: ");
    sas_write(b, buf_span(&sr), sig, (uint64_t)until_s, h->policy);
    return buf_err(b);
}

enum err hublink_token(const struct keyring *k, struct linked_hub *h, int64_t now_s,
                       const char **ret)
{
    if (h->token == NULL || now_s >= h->token_until_s - HUBLINK_RENEW_S ||
        now_s < h->token_until_s - HUBLINK_TOKEN_S) {
        AUTO(buf_done) struct buf b = BUF_INIT(TOKEN_MAX);
        enum err e = make_token(k, &h->row, now_s + HUBLINK_TOKEN_S, &b);
        char *text = e == OK ? buf_take_str(&b) : NULL;
        if (text == NULL) {
            return e != OK ? e : E_NOMEM;
        }
        if (h->token != NULL) {
            mem_wipe(h->token, strlen(h->token));
            free(h->token);
        }
        h->token = text;
        h->token_until_s = now_s + HUBLINK_TOKEN_S;
    }
    *ret = h->token;
    return OK;
}

void hublink_add_url(struct buf *b, const struct hub_row *h, const char *path)
{
    bool is_v6 = span_find(h->host, ':') != h->host.n;
    buf_addf(b, is_v6 ? "https://[%.*s]" : "https://%.*s", SPAN_ARG(h->host));
    if (h->port != 443) {
        buf_addf(b, ":%u", h->port);
    }
    buf_add_str(b, path);
}

/* The pair that the device has: its enrollment's own, or what it derives from each of the group's (sas.md 6). */
static enum err add_keys(const struct keyring *k, const struct enr_row *enr, struct span key_id,
                         struct buf *b)
{
    static const char *const names[2] = {"primaryKey", "secondaryKey"};
    enum err e = OK;
    buf_add_str(b, "{\"type\":\"sas\",\"symmetricKey\":{");
    for (unsigned i = 0; e == OK && i < 2; i++) {
        AUTO(secret_done) struct secret key = {.n = 0};
        struct enr_place st;
        struct seal_place at = enr_key_place(&st, enr->kind, enr->fold, i);
        e = enr->kind == ENR_GROUP ? keyring_derive(k, at, enr->key[i], key_id, &key)
                                   : keyring_unseal(k, at, enr->key[i], &key);
        buf_addf(b, "%s\"%s\":\"", i != 0 ? "," : "", names[i]);
        base64_add(b, secret_span(&key));
        buf_add_u8(b, '"');
    }
    buf_add_str(b, "}}");
    return e;
}

/* The pair made for that TPM: the first is what the device was sent, the other nobody has. */
static enum err add_tpm_keys(const struct keyring *k, const struct reg_row *reg,
                             const struct reg_more *more, struct buf *b)
{
    AUTO(secret_done) struct secret pair = {.n = 0};
    enum err e = more == NULL ? E_CORRUPT
                              : keyring_unseal(k, tpm_key_place(reg->fold), more->tpm_key, &pair);
    if (e != OK || pair.n != TPM_PAIR) {
        return e != OK ? e : E_CORRUPT;
    }
    buf_add_str(b, "{\"type\":\"sas\",\"symmetricKey\":{\"primaryKey\":\"");
    base64_add(b, span_of(pair.b, TPM_KEY_SIZE));
    buf_add_str(b, "\",\"secondaryKey\":\"");
    base64_add(b, span_of(pair.b + TPM_KEY_SIZE, TPM_KEY_SIZE));
    buf_add_str(b, "\"}}");
    return OK;
}

static void add_thumbs(struct span thumb, struct span second, struct buf *b)
{
    buf_add_str(b, "{\"type\":\"selfSigned\",\"x509Thumbprint\":{\"primaryThumbprint\":\"");
    hex_add(b, thumb, true);
    buf_add_str(b, "\",\"secondaryThumbprint\":");
    if (second.n != 0) {
        buf_add_u8(b, '"');
        hex_add(b, second, true);
        buf_add_str(b, "\"}}");
    } else {
        buf_add_str(b, "null}}");
    }
}

void hublink_add_owner(struct buf *b, const char *id_scope, const struct enr_row *enr,
                       bool is_query)
{
    const char *slash = is_query ? "%2F" : "/";
    buf_addf(b, "%s%s%s%s", id_scope, slash, enr->kind == ENR_GROUP ? "group" : "individual",
             slash);
    if (is_query) {
        percent_add(b, enr->fold);
    } else {
        buf_add(b, enr->fold); /* letters, digits, -._: alone */
    }
}

/* Of the webhook's answer, of the hub that the device leaves, of the enrollment. */
static struct span initial_twin(const struct enr_row *enr, const struct reg_more *more)
{
    return more != NULL && more->initial_twin.n != 0 ? more->initial_twin
           : more != NULL && more->twin.n != 0       ? more->twin
                                                     : enr->initial_twin;
}

enum err hublink_add_body(const struct keyring *k, const char *id_scope, const struct enr_row *enr,
                          const struct reg_row *reg, const struct reg_more *more,
                          struct span former, struct buf *b)
{
    enum err e = OK;
    bool is_group = enr->kind == ENR_GROUP;
    struct span twin = initial_twin(enr, more);
    buf_addf(b, "{\"operationId\":\"%.*s\",\"sequence\":%lld,\"owner\":\"", SPAN_ARG(reg->op_id),
             (long long)reg->updated_us);
    hublink_add_owner(b, id_scope, enr, false);
    buf_addf(b, "\",\"mayAdopt\":%s,\"authentication\":", is_group ? "false" : "true");
    if ((reg->op_flags & REG_F_ISSUED) != 0) {
        add_thumbs(reg->op_cred, former, b);
    } else if (reg->att == ATT_SYMMETRIC) {
        e = add_keys(k, enr, reg->op_cred, b);
    } else if (reg->att == ATT_TPM || reg->att == ATT_TPM_CA) {
        e = add_tpm_keys(k, reg, more, b);
    } else {
        add_thumbs(reg->op_cred, SPAN_NONE, b);
    }
    buf_addf(b, ",\"capabilities\":{\"iotEdge\":%s}", enr->is_edge ? "true" : "false");
    if (twin.n != 0) {
        buf_add_str(b, ",\"initialTwin\":");
        buf_add(b, twin);
    }
    if ((reg->op_flags & REG_F_SUSPENDED) != 0) {
        buf_add_str(b, ",\"status\":\"disabled\"");
    }
    buf_addf(b, ",\"resetTwin\":%s}", reg->op_reset ? "true" : "false");
    return e != OK ? e : buf_err(b);
}
