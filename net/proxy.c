/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy.h"

#include <stdlib.h>

#include "base/text.h"
#include "wire/proxy.h"

void proxy_done(struct proxy *p)
{
    secret_done(&p->credential);
    free(p->exempt);
    *p = (struct proxy){.port = 0};
}

enum err proxy_set_credential(struct proxy *p, struct span credential, struct err_info *info)
{
    if (span_has_nul(credential)) {
        return err_set(info, E_CONFIG, "the proxy's password holds a zero byte");
    }
    return secret_set(&p->credential, credential) == OK
               ? OK
               : err_set(info, E_TOO_LARGE, "the proxy's user and password have more than %u bytes",
                         SECRET_MAX);
}

static enum err take_credential(struct proxy *p, const struct proxy_url *u, struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(4096);
    /* room for all at once, so that no copy stays behind */
    if (buf_reserve(&b, u->user.n + u->password.n + 1) == NULL) {
        return err_set(info, E_TOO_LARGE, "the proxy's user and password are too long");
    }
    enum err e = percent_decode(u->user, &b);
    buf_add_u8(&b, ':');
    if (e == OK) {
        e = percent_decode(u->password, &b);
    }
    e = e != OK ? err_set(info, E_CONFIG, "the proxy's user or password has a bad escape (%%)")
                : proxy_set_credential(p, buf_span(&b), info);
    mem_wipe(b.p, b.n);
    return e;
}

enum err proxy_set(struct proxy *p, struct span url, const char *exempt, struct err_info *info)
{
    struct proxy_url u;
    proxy_done(p);
    enum err e = proxy_url_read(url, &u, info);
    if (e == OK && u.has_user) {
        e = take_credential(p, &u, info);
    }
    if (e == OK && exempt != NULL && (p->exempt = span_dup(span_str(exempt))) == NULL) {
        e = E_NOMEM;
    }
    if (e != OK) {
        proxy_done(p);
        return e;
    }
    p->port = u.port;
    ASSERT(span_to_cstr(u.host, p->host, sizeof(p->host))); /* bounded by proxy_url_read */
    return OK;
}

enum err proxy_copy(struct proxy *to, const struct proxy *from)
{
    proxy_done(to);
    if (from->exempt != NULL && (to->exempt = span_dup(span_str(from->exempt))) == NULL) {
        return E_NOMEM;
    }
    memcpy(to->host, from->host, sizeof(to->host));
    to->port = from->port;
    return secret_set(&to->credential, secret_span(&from->credential));
}

const struct proxy *proxy_for(const struct proxy *p, const char *host)
{
    return p == NULL || p->host[0] == '\0' || proxy_exempts(span_str(p->exempt), span_str(host))
               ? NULL
               : p;
}
