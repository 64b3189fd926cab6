/* SPDX-License-Identifier: Apache-2.0 */
#include "client/proxy_env.h"

#include <stdlib.h>

static const char *first_of(const char *const names[2], const char **ret_name)
{
    for (size_t i = 0; i < 2; i++) {
        const char *v = getenv(names[i]);
        if (v != NULL && v[0] != '\0') {
            *ret_name = names[i];
            return v;
        }
    }
    return NULL;
}

const char *proxy_env_exempt(void)
{
    static const char *const names[2] = {"no_proxy", "NO_PROXY"};
    const char *name;
    return first_of(names, &name);
}

enum err proxy_from_env(struct proxy *ret, const char *exempt, struct err_info *info)
{
    static const char *const names[2] = {"https_proxy", "HTTPS_PROXY"};
    const char *name;
    const char *url = first_of(names, &name);
    if (url == NULL) {
        proxy_done(ret);
        return OK;
    }
    enum err e = proxy_set(ret, span_str(url), exempt != NULL ? exempt : proxy_env_exempt(), info);
    return e == OK ? OK : err_wrap(info, e, "%s", name);
}
