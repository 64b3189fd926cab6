/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/connstr.h"

#include "base/limits.h"
#include "base/text.h"

enum part { P_HOST, P_GATEWAY, P_DEVICE, P_MODULE, P_KEY_NAME, P_KEY, P_SIGNATURE, P_X509, PARTS };
#define BIT(p) (1u << (p))

/* clang-format off */
static const char *const part_names[PARTS] = {
    [P_HOST]      = "HostName",
    [P_GATEWAY]   = "GatewayHostName",
    [P_DEVICE]    = "DeviceId",
    [P_MODULE]    = "ModuleId",
    [P_KEY_NAME]  = "SharedAccessKeyName",
    [P_KEY]       = "SharedAccessKey",
    [P_SIGNATURE] = "SharedAccessSignature",
    [P_X509]      = "x509",
};

/* What must be there, and what may; the first row that fits is the kind. */
static const struct {
    enum connstr_kind kind;
    unsigned need;
    unsigned may;
} kinds[] = {
    { CONNSTR_DEVICE,    BIT(P_HOST) | BIT(P_DEVICE) | BIT(P_KEY),                    BIT(P_MODULE) | BIT(P_GATEWAY) },
    { CONNSTR_DEVICE,    BIT(P_HOST) | BIT(P_DEVICE) | BIT(P_SIGNATURE),              BIT(P_MODULE) | BIT(P_GATEWAY) },
    { CONNSTR_DEVICE,    BIT(P_HOST) | BIT(P_DEVICE) | BIT(P_X509),                   BIT(P_MODULE) | BIT(P_GATEWAY) },
    { CONNSTR_SERVICE,   BIT(P_HOST) | BIT(P_KEY_NAME) | BIT(P_KEY),                  0 },
    { CONNSTR_ON_BEHALF, BIT(P_HOST) | BIT(P_DEVICE) | BIT(P_KEY_NAME) | BIT(P_KEY),  BIT(P_MODULE) | BIT(P_GATEWAY) },
};
/* clang-format on */

static enum err part_read(struct span text, struct span parts[PARTS], struct err_info *info)
{
    size_t eq = span_find(text, '=');
    struct span name = span_sub(text, 0, eq);
    for (size_t i = 0; i < PARTS; i++) {
        if (!span_is(name, part_names[i])) {
            continue;
        }
        if (eq + 1 >= text.n) {
            return err_set(info, E_ARG, "connection string: %s has no value", part_names[i]);
        }
        if (parts[i].p != NULL) {
            return err_set(info, E_ARG, "connection string: %s twice", part_names[i]);
        }
        parts[i] = span_from(text, eq + 1);
        return OK;
    }
    /* not its text: a key cut in the wrong place would end in a log */
    return err_set(info, E_ARG, "connection string: a part with an unknown name");
}

static enum err blanks_check(struct span text, struct err_info *info)
{
    size_t spaces = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < 0x20 || text.p[i] >= 0x7f) {
            return err_set(info, E_ARG, "connection string: not printable ASCII");
        }
        spaces += text.p[i] == ' ';
    }
    /* a token has one, behind its scheme */
    bool has_token = span_find(text, ' ') < text.n &&
                     span_ends(span_sub(text, 0, span_find(text, ' ')),
                               SPAN_LIT("SharedAccessSignature=SharedAccessSignature"));
    if (spaces > (has_token ? 1u : 0u)) {
        return err_set(info, E_ARG, "connection string: white space");
    }
    return OK;
}

static enum err fill(const struct span p[PARTS], enum connstr_kind kind, struct connstr *ret,
                     struct err_info *info)
{
    if (p[P_X509].p != NULL && !span_is(p[P_X509], "true")) {
        return err_set(info, E_ARG, "connection string: x509 is not \"true\"");
    }
    if ((p[P_DEVICE].p != NULL && !id_device_ok(p[P_DEVICE])) ||
        (p[P_MODULE].p != NULL && !id_device_ok(p[P_MODULE]))) {
        return err_set(info, E_ARG, "connection string: DeviceId or ModuleId is no identifier");
    }
    if (p[P_HOST].n > LIMIT_HOST || p[P_GATEWAY].n > LIMIT_HOST ||
        p[P_KEY_NAME].n > LIMIT_ADMIN_NAME) {
        return err_set(info, E_ARG, "connection string: a name is too long");
    }
    *ret = (struct connstr){.kind = kind,
                            .host = p[P_HOST],
                            .gateway_host = p[P_GATEWAY],
                            .device_id = p[P_DEVICE],
                            .module_id = p[P_MODULE],
                            .key_name = p[P_KEY_NAME],
                            .key = p[P_KEY],
                            .signature = p[P_SIGNATURE],
                            .x509 = p[P_X509].p != NULL};
    return OK;
}

enum err connstr_read(struct span text, struct connstr *ret, struct err_info *info)
{
    if (text.n > LIMIT_SAS_TOKEN + 1024) {
        return err_set(info, E_TOO_LARGE, "connection string: too long");
    }
    enum err e = blanks_check(text, info);
    if (e != OK) {
        return e;
    }
    struct span parts[PARTS] = {{NULL, 0}};
    while (text.n > 0) {
        e = part_read(span_cut(&text, ';'), parts, info);
        if (e != OK) {
            return e;
        }
    }
    unsigned have = 0;
    for (unsigned i = 0; i < PARTS; i++) {
        have |= parts[i].p != NULL ? BIT(i) : 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if ((have & kinds[i].need) == kinds[i].need &&
            (have & ~(kinds[i].need | kinds[i].may)) == 0) {
            return fill(parts, kinds[i].kind, ret, info);
        }
    }
    return err_set(info, E_ARG, "connection string: its parts make no device, module or service");
}
