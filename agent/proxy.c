/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy that the agent goes through: its configuration's, else the environment's. */
#include "agent/agent.h"
#include "certs/private_file.h"
#include "client/proxy_env.h"

static enum err read_credential(const char *path, struct proxy *p, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(SECRET_MAX + 2u);
    enum err e = private_file_read(path, &text, info);
    struct span s = buf_span(&text);
    while (s.n > 0 && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r')) {
        s.n--;
    }
    if (e == OK && span_find(s, ':') == s.n) {
        e = err_set(info, E_CONFIG, "\"%s\" is not one line USER:PASSWORD", path);
    }
    if (e == OK) {
        e = proxy_set_credential(p, s, info);
    }
    if (text.p != NULL) {
        mem_wipe(text.p, text.n);
    }
    return e;
}

static enum err from_conf(const struct agent_conf *conf, struct proxy *ret, struct err_info *info)
{
    if (span_is(span_str(conf->proxy), "none")) {
        return OK;
    }
    enum err e = proxy_set(ret, span_str(conf->proxy),
                           conf->no_proxy != NULL ? conf->no_proxy : proxy_env_exempt(), info);
    if (e == OK && ret->credential.n > 0) {
        e = err_set(info, E_CONFIG,
                    "the user and the password belong into the file that proxy-credential names");
    }
    return e == OK ? OK : err_wrap(info, e, "proxy");
}

enum err agent_proxy_read(const struct agent_conf *conf, struct proxy *ret, struct err_info *info)
{
    enum err e = conf->proxy != NULL ? from_conf(conf, ret, info)
                                     : proxy_from_env(ret, conf->no_proxy, info);
    if (e == OK && ret->host[0] != '\0' && conf->proxy_credential != NULL) {
        e = read_credential(conf->proxy_credential, ret, info);
    }
    return e;
}
