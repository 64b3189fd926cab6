/* SPDX-License-Identifier: Apache-2.0 */
#include "client/env.h"

#include "base/fs.h"
#include "base/limits.h"
#include "base/secret.h"

enum err env_load(const char *file, struct json **ret, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    enum err e = fs_read(file, &text, info);
    if (e == E_NOT_FOUND) {
        return err_set(info, e, "there is no file '%s'", file);
    }
    if (e == OK) {
        e = json_read_object(buf_span(&text), LIMIT_FILE_SMALL, ret, info);
    }
    if (text.p != NULL) {
        mem_wipe(text.p, text.n);
    }
    return e == OK ? OK : err_wrap(info, e, "%s", file);
}

char *env_ca_file(const struct json *env, const char *file)
{
    AUTO(buf_done) struct buf b = BUF_INIT(8192);
    struct span dir = span_str(file), name = json_str(json_get(env, "caFile"));
    while (dir.n > 0 && dir.p[dir.n - 1] != '/') {
        dir.n--;
    }
    if (name.n == 0 || name.p[0] != '/') {
        buf_add(&b, dir);
    }
    buf_add(&b, name);
    return buf_take_str(&b);
}

uint16_t env_port(const struct json *env, const char *name)
{
    int64_t port = json_int(json_get(env, name));
    return port > 0 && port <= UINT16_MAX ? (uint16_t)port : 0;
}
