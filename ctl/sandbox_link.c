/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/sandbox.h"

#include <stdlib.h>

#include "base/fs.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"

#define OWNER_DPS "provisioningserviceowner"
#define OWNER_HUB "iothubowner"
#define LINK_POLICY "berth-dps" /* at the hub: the one right Provision */

static enum err service_of(const struct sandbox *sb, unsigned i, struct service **ret,
                           struct err_info *info)
{
    AUTO(buf_done) struct buf cs = BUF_INIT(4096);
    AUTO(mem_free_p) char *ca = sandbox_path(sb, "ca.pem");
    enum err e = ca == NULL
                     ? E_NOMEM
                     : sandbox_connection_string(sb, i, i == 0 ? OWNER_DPS : OWNER_HUB, &cs, info);
    if (e == OK) {
        e = service_new(buf_span(&cs), ca, sb->https_port, NULL, ret, info);
    }
    if (cs.p != NULL) {
        mem_wipe(cs.p, cs.n);
    }
    return e;
}

static enum err call(struct service *s, const char *method, const char *path,
                     const struct json *body, struct service_answer *ret, struct err_info *info)
{
    const struct service_call c = {
        .method = method, .path = path, .api_version = SERVICE_ADMIN_VERSION, .body = body};
    return service_do(s, &c, ret, info);
}

/* Is it there? A 404 is the answer no. */
static enum err exists(struct service *s, const char *path, bool *ret, struct err_info *info)
{
    struct service_answer a = {0};
    enum err e = call(s, "GET", path, NULL, &a, info);
    service_answer_done(&a);
    if (e != OK && (e != E_REMOTE || a.status != 404)) {
        return e;
    }
    *ret = e == OK;
    return OK;
}

/* --- the hub's policy for the DPS -------------------------------------------------------------------------------- */

static enum err link_key(struct service *hub, struct buf *ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *body = json_new_object();
    struct service_answer a = {0};
    bool is_there;
    enum err e = exists(hub, "/admin/policies/" LINK_POLICY, &is_there, info);
    if (e == OK && !is_there) {
        e = body == NULL ? E_NOMEM : json_set_str(body, "rights", SPAN_LIT("Provision"));
        if (e == OK) {
            e = call(hub, "PUT", "/admin/policies/" LINK_POLICY, body, &a, info);
        }
        service_answer_done(&a);
    }
    if (e == OK) {
        e = call(hub, "POST", "/admin/policies/" LINK_POLICY "/listKeys", NULL, &a, info);
    }
    if (e == OK) {
        struct span key = json_str(json_get(a.json, "primaryKey"));
        buf_addf(ret, "HostName=%s;SharedAccessKeyName=" LINK_POLICY ";SharedAccessKey=%.*s",
                 service_host(hub), SPAN_ARG(key));
        e = key.n > 0 ? buf_err(ret) : err_set(info, E_REMOTE, "hub gives no key of its policy");
    }
    service_answer_done(&a);
    return e;
}

static enum err link_hub(const struct sandbox *sb, struct service *dps, unsigned i,
                         struct service *hub, struct err_info *info)
{
    AUTO(buf_done) struct buf cs = BUF_INIT(4096);
    AUTO(json_free_p) struct json *body = json_new_object();
    char path[64];
    bool is_there;
    struct service_answer a = {0};
    (void)snprintf(path, sizeof(path), "/admin/linkedHubs/%s", sb->server[i].address);
    enum err e = exists(dps, path, &is_there, info);
    if (e != OK || is_there) {
        return e;
    }
    if ((e = link_key(hub, &cs, info)) == OK) {
        e = body == NULL ? E_NOMEM : json_set_str(body, "connectionString", buf_span(&cs));
    }
    /* The sandbox's own port goes along when it is not the standard one. */
    if (e == OK && sb->https_port != 443) {
        e = json_set(body, "port", json_new_int(sb->https_port));
    }
    if (e == OK) {
        e = call(dps, "PUT", path, body, &a, info);
    }
    service_answer_done(&a);
    if (cs.p != NULL) {
        mem_wipe(cs.p, cs.n);
    }
    return e == OK ? OK : err_wrap(info, e, "linking %s to the DPS", sb->server[i].name);
}

/* --- trusted CAs: --trust NAME=FILE ------------------------------------------------------------------------------------ */

static enum err trust_one(struct service *s, struct span name, const char *file,
                          struct err_info *info)
{
    AUTO(buf_done) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(buf_done) struct buf path = BUF_INIT(512);
    AUTO(json_free_p) struct json *body = json_new_object();
    struct json *props = json_new_object();
    struct service_answer a = {0};
    bool is_there;
    enum err e = body == NULL || props == NULL ? E_NOMEM : json_set(body, "properties", props);
    if (e != OK || (e = ctl_read_file(file, &pem, info)) != OK ||
        (e = json_set_str(props, "certificate", buf_span(&pem))) != OK ||
        (e = json_set(props, "isVerified", json_new_bool(true))) != OK) {
        return e;
    }
    buf_add_str(&path, "/admin/certificates/");
    percent_add(&path, name);
    buf_add_u8(&path, '\0');
    if ((e = exists(s, (const char *)path.p, &is_there, info)) != OK) {
        return e;
    }
    const struct service_call c = {.method = "PUT",
                                   .path = (const char *)path.p,
                                   .api_version = SERVICE_ADMIN_VERSION,
                                   .body = body,
                                   .if_match = is_there ? "*" : NULL};
    e = service_do(s, &c, &a, info);
    service_answer_done(&a);
    return e == OK ? OK : err_wrap(info, e, "--trust %.*s", SPAN_ARG(name));
}

static enum err trust_all(struct service *s, const struct cli_args *a, struct err_info *info)
{
    for (size_t i = 0; i < a->n_set; i++) {
        if (strcmp(a->set[i].name, "trust") != 0) {
            continue;
        }
        struct span file = span_str(a->set[i].value);
        struct span name = span_cut(&file, '=');
        if (!id_admin_name_ok(name) || file.n == 0) {
            return err_set(info, E_ARG, "--trust wants NAME=CA.pem, not '%s'", a->set[i].value);
        }
        enum err e = trust_one(s, name, (const char *)file.p, info);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

enum err sandbox_link(const struct sandbox *sb, const struct cli_args *a, struct err_info *info)
{
    AUTO(service_free_p) struct service *dps = NULL;
    enum err e = service_of(sb, 0, &dps, info);
    if (e == OK) {
        e = trust_all(dps, a, info);
    }
    for (unsigned i = 1; e == OK && i < sb->n; i++) {
        AUTO(service_free_p) struct service *hub = NULL;
        if ((e = service_of(sb, i, &hub, info)) == OK &&
            (e = link_hub(sb, dps, i, hub, info)) == OK) {
            e = trust_all(hub, a, info);
        }
    }
    return e;
}

/* --- env.json ------------------------------------------------------------------------------------------------------------- */

static enum err metrics_url(struct sandbox *sb, unsigned i, struct err_info *info)
{
    AUTO(mem_free_p) char *path = fs_join(sb->server[i].dir, "data/status.json");
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(json_free_p) struct json *j = NULL;
    enum err e = path == NULL ? E_NOMEM : fs_read(path, &text, info);
    if (e == OK) {
        e = json_read_object(buf_span(&text), LIMIT_FILE_SMALL, &j, info);
    }
    if (e == OK) {
        free(sb->server[i].metrics);
        sb->server[i].metrics = span_dup(json_str(json_get(j, "metrics")));
        e = sb->server[i].metrics == NULL ? E_NOMEM : OK;
    }
    return e;
}

static enum err hub_json(const struct sandbox *sb, unsigned i, struct json **ret,
                         struct err_info *info)
{
    AUTO(json_free_p) struct json *h = json_new_object();
    AUTO(buf_done) struct buf cs = BUF_INIT(4096);
    AUTO(buf_done) struct buf eh = BUF_INIT(4096);
    enum err e = h == NULL ? E_NOMEM : sandbox_connection_string(sb, i, OWNER_HUB, &cs, info);
    if (e != OK) {
        return e;
    }
    struct span rest = buf_span(&cs);
    (void)span_cut(&rest, ';');
    buf_addf(&eh, "Endpoint=sb://%s/;%.*s;EntityPath=%s", sb->server[i].address, SPAN_ARG(rest),
             sb->server[i].name);
    if ((e = buf_err(&eh)) != OK ||
        (e = json_set_str(h, "host", span_str(sb->server[i].address))) != OK ||
        (e = json_set_str(h, "serviceConnectionString", buf_span(&cs))) != OK ||
        (e = json_set_str(h, "eventHubConnectionString", buf_span(&eh))) != OK) {
        return e;
    }
    *ret = TAKE(h);
    return OK;
}

static enum err fill_env(struct sandbox *sb, struct json *env, struct err_info *info)
{
    AUTO(json_free_p) struct json *names = NULL;
    AUTO(buf_done) struct buf cs = BUF_INIT(4096);
    struct json *hubs = json_new_array(), *pids = json_new_object(), *metrics = json_new_object();
    struct json *hub_pids = json_new_array(), *hub_metrics = json_new_array();
    enum err e = sandbox_init_json(sb, 0, &names, info);
    if (e == OK) {
        e = sandbox_connection_string(sb, 0, OWNER_DPS, &cs, info);
    }
    enum err all[] = {
        json_set_str(env, "dpsHost", span_str(sb->server[0].address)),
        json_set_str(env, "idScope", json_str(json_get(names, "idScope"))),
        json_set_str(env, "dpsServiceConnectionString", buf_span(&cs)),
        json_set(env, "hubs", hubs),
        json_set(env, "streams", json_new_bool(true)),
        json_set_str(env, "caFile", SPAN_LIT("ca.pem")),
        json_set(env, "httpsPort", json_new_int(sb->https_port)),
        json_set(env, "mqttsPort", json_new_int(sb->mqtts_port)),
        json_set(env, "pids", pids),
        json_set(env, "metrics", metrics),
        json_set(pids, "dps", json_new_int(sb->server[0].pid)),
        json_set(pids, "hubs", hub_pids),
        json_set_str(metrics, "dps", span_str(sb->server[0].metrics)),
        json_set(metrics, "hubs", hub_metrics),
    };
    for (size_t i = 0; e == OK && i < ARRAY_LEN(all); i++) {
        e = all[i];
    }
    for (unsigned i = 1; e == OK && i < sb->n; i++) {
        struct json *h = NULL;
        if ((e = hub_json(sb, i, &h, info)) == OK && (e = json_add(hubs, h)) == OK &&
            (e = json_add(hub_pids, json_new_int(sb->server[i].pid))) == OK) {
            e = json_add(hub_metrics, json_new_str(span_str(sb->server[i].metrics)));
        }
    }
    return e;
}

enum err sandbox_write_env(struct sandbox *sb, struct json **ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *env = json_new_object();
    AUTO(mem_free_p) char *path = sandbox_path(sb, "env.json");
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    enum err e = env == NULL || path == NULL ? E_NOMEM : OK;
    for (unsigned i = 0; e == OK && i < sb->n; i++) {
        e = metrics_url(sb, i, info);
    }
    if (e == OK) {
        e = fill_env(sb, env, info);
    }
    if (e != OK) {
        return e;
    }
    json_write(&text, env);
    buf_add_u8(&text, '\n');
    e = buf_err(&text) != OK ? buf_err(&text) : fs_write_atomic(path, buf_span(&text), 0600, info);
    if (e == OK) {
        *ret = TAKE(env);
    }
    return e;
}
