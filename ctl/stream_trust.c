/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/stream_trust.h"

#include "base/limits.h"
#include "base/text.h"
#include "certs/cert.h"
#include "client/mux.h"

static const char asks_how[] =
    "--end-to-end needs to know the device's certificate: --device-cert FILE, --device-thumbprint "
    "HEX, --device-ca FILE, or --device-cert-from-hub, which is weaker";

/* 64 hex digits, colons between them or not. */
static bool read_sha256(struct span text, uint8_t ret[CERT_SHA256])
{
    char digits[2 * CERT_SHA256];
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == ':' && n % 2 == 0 && n > 0) {
            continue;
        }
        if (n == sizeof(digits)) {
            return false;
        }
        digits[n++] = (char)text.p[i];
    }
    struct buf b = {.p = ret, .cap = CERT_SHA256, .max = CERT_SHA256};
    return n == sizeof(digits) && hex_decode(span_of((const uint8_t *)digits, n), &b) == OK;
}

static enum err pin_file(struct tls_pins *p, const char *path, struct err_info *info)
{
    AUTO(buf_done) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(cert_free_p) struct cert *c = NULL;
    enum err e = ctl_read_file(path, &pem, info);
    if (e != OK || (e = cert_from_text(buf_span(&pem), &c, info)) != OK) {
        return err_wrap(info, e, "--device-cert \"%s\"", path);
    }
    memcpy(p->sha256[p->n++], cert_sha256(c), CERT_SHA256);
    return OK;
}

static enum err pin_registered(struct tls_pins *p, struct service *s, const char *device,
                               const char *module, struct err_info *info)
{
    static const char *const members[] = {"primaryThumbprint", "secondaryThumbprint"};
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct service_answer ans = {0};
    buf_add_str(&path, "/devices/");
    service_path_add(&path, span_str(device));
    if (module != NULL) {
        buf_add_str(&path, "/modules/");
        service_path_add(&path, span_str(module));
    }
    buf_add_u8(&path, '\0');
    enum err e = buf_err(&path);
    if (e != OK) {
        return e;
    }
    const struct service_call call = {
        .method = "GET", .path = (const char *)path.p, .api_version = SERVICE_HUB_VERSION};
    if ((e = service_do(s, &call, &ans, info)) != OK) {
        return err_wrap(info, e, "--device-cert-from-hub");
    }
    const struct json *x = json_get(json_get(ans.json, "authentication"), "x509Thumbprint");
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        p->n += read_sha256(json_str(json_get(x, members[i])), p->sha256[p->n]) ? 1 : 0;
    }
    service_answer_done(&ans);
    return p->n > 0 ? OK
                    : err_set(info, E_REMOTE,
                              "the hub's registry has no SHA-256 thumbprint of this device; "
                              "--device-ca is for devices whose certificates are issued");
}

enum err stream_trust(const struct cli_args *a, struct service *s, const char *device,
                      const char *module, struct tls_ctx **ret, struct err_info *info)
{
    struct tls_pins p = {.n = 0};
    const char *cert = cli_get(a, "device-cert"), *print = cli_get(a, "device-thumbprint"),
               *ca = cli_get(a, "device-ca"), *cn = cli_get(a, "device-cn");
    bool asks_hub = cli_has(a, "device-cert-from-hub");
    enum err e = OK;
    if (cn != NULL && ca == NULL) {
        return err_set(info, E_ARG, "--device-cn is for --device-ca");
    }
    if (cert == NULL && print == NULL && ca == NULL && !asks_hub) {
        *ret = NULL;
        return cli_has(a, "end-to-end") ? err_set(info, E_ARG, "%s", asks_how) : OK;
    }
    if (cert != NULL) {
        e = pin_file(&p, cert, info);
    }
    if (e == OK && print != NULL && !read_sha256(span_str(print), p.sha256[p.n++])) {
        e = err_set(info, E_ARG, "--device-thumbprint: SHA-256 as 64 hex digits");
    }
    if (e == OK && asks_hub) {
        e = pin_registered(&p, s, device, module, info);
    }
    p.ca_file = ca;
    p.cn = ca == NULL ? NULL : cn != NULL ? cn : device;
    return e != OK ? e : tls_end_client_new(&p, MUX_PROTOCOL_SEALED, ret, info);
}
