/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/limits.h"
#include "base/secret.h"
#include "client/env.h"
#include "client/proxy_env.h"

enum err ctl_read_file(const char *path, struct buf *ret, struct err_info *info)
{
    enum err e = fs_read(path, ret, info);
    return e == E_NOT_FOUND ? err_set(info, e, "there is no file '%s'", path) : e;
}

/* Room is taken anew and the old wiped, so that no copy of a key stays behind. */
static bool make_room(struct buf *b)
{
    struct buf more = BUF_INIT(b->max);
    if (b->n >= b->max || buf_reserve(&more, MIN(b->max, MAX(2 * b->n, (size_t)65536))) == NULL) {
        buf_done(&more);
        return false;
    }
    buf_add(&more, buf_span(b));
    if (b->p != NULL) {
        mem_wipe(b->p, b->n);
    }
    buf_done(b);
    *b = more;
    return true;
}

enum err ctl_read_file_or_stdin(const char *path, struct buf *ret, struct err_info *info)
{
    ssize_t n = 1;
    if (strcmp(path, "-") != 0) {
        return ctl_read_file(path, ret, info);
    }
    while (n > 0) {
        if (ret->n == ret->cap && !make_room(ret)) {
            return err_set(info, E_TOO_LARGE, "standard input has more than %zu bytes", ret->max);
        }
        n = read(STDIN_FILENO, ret->p + ret->n, ret->cap - ret->n);
        if (n < 0 && errno == EINTR) {
            n = 1;
        } else if (n > 0) {
            ret->n += (size_t)n;
        }
    }
    return n == 0 ? OK : err_set(info, err_from_errno(errno), "standard input cannot be read");
}

static enum err read_env(const struct cli_args *a, struct json **ret, struct err_info *info)
{
    const char *path = cli_get(a, "env");
    return path != NULL ? env_load(path, ret, info)
                        : err_set(info, E_ARG,
                                  "say where: --env FILE (from berth sandbox up) or "
                                  "--connection-string-file FILE");
}

enum err ctl_env_hubs(const struct cli_args *a, size_t *ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *env = NULL;
    enum err e = read_env(a, &env, info);
    if (e == OK) {
        *ret = json_count(json_get(env, "hubs"));
    }
    return e;
}

enum err ctl_proxy(const struct proxy **ret, struct err_info *info)
{
    static struct proxy proxy; /* until the process ends */
    static bool is_read;
    enum err e = is_read ? OK : proxy_from_env(&proxy, NULL, info);
    is_read = e == OK;
    *ret = &proxy;
    return e;
}

static enum err from_env(const struct cli_args *a, enum ctl_plane plane, unsigned hub,
                         struct service **ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *env = NULL;
    enum err e = read_env(a, &env, info);
    if (e != OK) {
        return e;
    }
    const struct json *at = plane == CTL_DPS ? env : json_at(json_get(env, "hubs"), hub);
    struct span cs = json_str(
        json_get(at, plane == CTL_DPS ? "dpsServiceConnectionString" : "serviceConnectionString"));
    if (cs.n == 0) {
        return err_set(info, E_NOT_FOUND, "%s names no such %s", cli_get(a, "env"),
                       plane == CTL_DPS ? "DPS" : "hub");
    }
    AUTO(mem_free_p) char *ca = env_ca_file(env, cli_get(a, "env"));
    const char *own_ca = cli_get(a, "ca-file");
    const struct proxy *proxy;
    if (ca == NULL) {
        return E_NOMEM;
    }
    e = ctl_proxy(&proxy, info);
    return e != OK ? e
                   : service_new(cs, own_ca != NULL ? own_ca : ca, env_port(env, "httpsPort"),
                                 proxy, ret, info);
}

enum err ctl_connect(const struct cli_args *a, enum ctl_plane plane, unsigned hub,
                     struct service **ret, struct err_info *info)
{
    const char *file = cli_get(a, "connection-string-file");
    uint64_t port = 443;
    if (file == NULL && cli_get(a, "env") == NULL) {
        file = getenv("BERTH_CONNECTION_STRING_FILE");
    }
    if (file == NULL) {
        return from_env(a, plane, hub, ret, info);
    }
    if (!cli_number(a, "https-port", 1, 65535, &port)) {
        return err_set(info, E_ARG, "--https-port is no port");
    }
    AUTO(buf_done) struct buf text = BUF_INIT(8192);
    const struct proxy *proxy;
    enum err e = ctl_proxy(&proxy, info);
    if (e == OK) {
        e = ctl_read_file(file, &text, info);
    }
    if (e == OK) {
        struct span cs = buf_span(&text);
        while (cs.n > 0 && (cs.p[cs.n - 1] == '\n' || cs.p[cs.n - 1] == '\r')) {
            cs.n--;
        }
        e = service_new(cs, cli_get(a, "ca-file"), (uint16_t)port, proxy, ret, info);
    }
    if (text.p != NULL) {
        mem_wipe(text.p, text.n);
    }
    return e;
}

enum err ctl_ca_file(const struct cli_args *a, char **ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *env = NULL;
    const char *own = cli_get(a, "ca-file");
    *ret = NULL;
    if (own == NULL && cli_get(a, "env") == NULL) {
        return OK;
    }
    enum err e = own == NULL ? read_env(a, &env, info) : OK;
    if (e == OK) {
        *ret = own != NULL ? span_dup(span_str(own)) : env_ca_file(env, cli_get(a, "env"));
        e = *ret == NULL ? E_NOMEM : OK;
    }
    return e;
}

static void print_number(FILE *out, const uint8_t *p, size_t n)
{
    static const uint8_t lead[] = {0, 0, 0x1f, 0x0f, 0x07};
    unsigned c = p[0] & lead[n];
    for (size_t i = 1; i < n; i++) {
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c >= 0x10000) {
        fprintf(out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                0xdc00 + ((c - 0x10000) & 0x3ff));
    } else {
        fprintf(out, "\\u%04x", c);
    }
}

/* JSON that a terminal may see: what could steer it or turn it around becomes \uXXXX, which is the same JSON (threat N13). */
static void print_escaped(FILE *out, struct span s)
{
    while (s.n > 0) {
        size_t n = span_utf8_len(s);
        if (n == 0) {
            n = 1; /* json_write never lets it come to this */
        } else if (n >= 2 && cli_is_mark(s.p)) {
            print_number(out, s.p, n);
        } else {
            fwrite(s.p, 1, n, out);
        }
        s = span_from(s, n);
    }
}

void ctl_print_json(FILE *out, const struct json *j)
{
    AUTO(buf_done) struct buf b = BUF_INIT(256u << 20);
    json_write(&b, j);
    print_escaped(out, buf_span(&b));
    fputc('\n', out);
}

int ctl_ask(struct service *s, const struct service_call *c, struct service_answer *ret)
{
    struct err_info info = {0};
    enum err e = service_do(s, c, ret, &info);
    return e == OK ? EXIT_DONE : cli_fail(e, &info);
}

int ctl_call(struct service *s, const struct service_call *c, const struct cli_args *a,
             const char *done)
{
    struct service_answer ans = {0};
    int status = ctl_ask(s, c, &ans);
    if (status == EXIT_DONE && ans.json != NULL) {
        ctl_print_json(stdout, ans.json);
    } else if (status == EXIT_DONE) {
        printf("%s\n", a->is_json ? "{}" : done);
    }
    service_answer_done(&ans);
    return status;
}
