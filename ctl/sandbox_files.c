/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/sandbox.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"
#include "base/secret.h"
#include "certs/signer.h"

#define CA_DAYS 3650
#define SERVER_DAYS 825
#define DAY_US (INT64_C(86400) * 1000000)

char *sandbox_path(const struct sandbox *sb, const char *name)
{
    return fs_join(sb->dir, name);
}

/* --- the folder and its marker --------------------------------------------------------------------------- */

static bool is_empty_dir(const char *dir)
{
    DIR *d = opendir(dir);
    bool is_empty = true;
    if (d == NULL) {
        return false;
    }
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            is_empty = false;
        }
    }
    (void)closedir(d);
    return is_empty;
}

static enum err add_servers(struct sandbox *sb, unsigned hubs, struct err_info *info)
{
    struct in_addr base;
    if (inet_pton(AF_INET, sb->address, &base) != 1 || (ntohl(base.s_addr) >> 24) != 127) {
        return err_set(info, E_ARG,
                       "'%s' is no loopback address (127.x.y.z): a sandbox listens nowhere else",
                       sb->address);
    }
    sb->n = hubs + 1;
    for (unsigned i = 0; i < sb->n; i++) {
        struct sandbox_server *s = &sb->server[i];
        struct in_addr at = {htonl(ntohl(base.s_addr) + i)};
        (void)snprintf(s->name, sizeof(s->name), i == 0 ? "dps" : "hub%u", i);
        (void)inet_ntop(AF_INET, &at, s->address, sizeof(s->address));
        s->dir = sandbox_path(sb, s->name);
        s->ready_fd = -1;
        if (s->dir == NULL) {
            return E_NOMEM;
        }
    }
    return OK;
}

static enum err read_settings(struct sandbox *sb, unsigned *ret_hubs, struct err_info *info)
{
    AUTO(mem_free_p) char *path = sandbox_path(sb, "sandbox.json");
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(json_free_p) struct json *j = NULL;
    struct span address;
    int64_t hubs, https, mqtts;
    enum err e = path == NULL ? E_NOMEM : fs_read(path, &text, info);
    if (e != OK || (e = json_read_object(buf_span(&text), LIMIT_FILE_SMALL, &j, info)) != OK ||
        (e = json_get_str(j, "address", JSON_F_NEED, &address, info)) != OK ||
        (e = json_get_int(j, "hubs", JSON_F_NEED, 1, SANDBOX_HUBS_MAX, &hubs, info)) != OK ||
        (e = json_get_int(j, "httpsPort", JSON_F_NEED, 1, 65535, &https, info)) != OK ||
        (e = json_get_int(j, "mqttsPort", JSON_F_NEED, 1, 65535, &mqtts, info)) != OK) {
        return e;
    }
    if (!span_to_cstr(address, sb->address, sizeof(sb->address))) {
        return err_set(info, E_CORRUPT, "sandbox.json has no usable address");
    }
    *ret_hubs = (unsigned)hubs;
    sb->https_port = (uint16_t)https;
    sb->mqtts_port = (uint16_t)mqtts;
    return OK;
}

static enum err write_settings(const struct sandbox *sb, unsigned hubs, struct err_info *info)
{
    AUTO(mem_free_p) char *path = sandbox_path(sb, "sandbox.json");
    AUTO(buf_done) struct buf text = BUF_INIT(4096);
    buf_addf(&text,
             "{\"berth\":\"sandbox\",\"version\":1,\"address\":\"%s\",\"hubs\":%u,\"httpsPort\":%u,"
             "\"mqttsPort\":%u}\n",
             sb->address, hubs, sb->https_port, sb->mqtts_port);
    return path == NULL ? E_NOMEM : fs_write_atomic(path, buf_span(&text), 0600, info);
}

static enum err take_options(struct sandbox *sb, const struct cli_args *a, unsigned *ret_hubs,
                             struct err_info *info)
{
    uint64_t hubs = 2, https = 443, mqtts = 8883;
    const char *address = cli_get(a, "address");
    if (!cli_number(a, "hubs", 1, SANDBOX_HUBS_MAX, &hubs) ||
        !cli_number(a, "https-port", 1, 65535, &https) ||
        !cli_number(a, "mqtts-port", 1, 65535, &mqtts)) {
        return err_set(info, E_ARG, "--hubs, --https-port or --mqtts-port is out of range");
    }
    if (!span_to_cstr(span_str(address != NULL ? address : "127.0.0.1"), sb->address,
                      sizeof(sb->address))) {
        return err_set(info, E_ARG, "--address is no IPv4 address");
    }
    *ret_hubs = (unsigned)hubs;
    sb->https_port = (uint16_t)https;
    sb->mqtts_port = (uint16_t)mqtts;
    return OK;
}

/* What the folder was made with stays; asking for something else is an error, not a surprise. */
static enum err check_same(const struct sandbox *sb, unsigned hubs, const struct cli_args *a,
                           struct err_info *info)
{
    struct sandbox asked = {0};
    unsigned asked_hubs;
    enum err e = take_options(&asked, a, &asked_hubs, info);
    if (e != OK) {
        return e;
    }
    if ((cli_has(a, "hubs") && asked_hubs != hubs) ||
        (cli_has(a, "address") && strcmp(asked.address, sb->address) != 0) ||
        (cli_has(a, "https-port") && asked.https_port != sb->https_port) ||
        (cli_has(a, "mqtts-port") && asked.mqtts_port != sb->mqtts_port)) {
        return err_set(info, E_CONFLICT,
                       "'%s' was made with %u hubs at %s, ports %u and %u; use another folder, or "
                       "take it down with --purge",
                       sb->dir, hubs, sb->address, sb->https_port, sb->mqtts_port);
    }
    return OK;
}

static enum err make_folder(struct sandbox *sb, const struct cli_args *a, unsigned *ret_hubs,
                            struct err_info *info)
{
    enum err e = take_options(sb, a, ret_hubs, info);
    if (e == OK) {
        e = write_settings(sb, *ret_hubs, info);
    }
    if (e == OK) {
        AUTO(mem_free_p) char *log = sandbox_path(sb, "log");
        e = log == NULL ? E_NOMEM : fs_private_dir(log, info);
    }
    return e;
}

enum err sandbox_open(struct sandbox *sb, const char *dir, bool may_create,
                      const struct cli_args *a, struct err_info *info)
{
    struct stat st;
    unsigned hubs = 0;
    enum err e;
    *sb = (struct sandbox){.lock_fd = -1};
    bool exists = stat(dir, &st) == 0;
    if (!exists && !may_create) {
        return err_set(info, E_NOT_FOUND, "there is no sandbox in '%s'", dir);
    }
    if (!exists && (e = fs_private_dir(dir, info)) != OK) {
        return e;
    }
    sb->dir = realpath(dir, NULL);
    AUTO(mem_free_p) char *marker = sb->dir != NULL ? sandbox_path(sb, "sandbox.json") : NULL;
    if (marker == NULL) {
        return err_set_errno(info, errno, "'%s'", dir);
    }
    bool is_ours = fs_exists(marker);
    if (!is_ours && (!may_create || !is_empty_dir(sb->dir))) {
        return err_set(info, E_STATE,
                       "'%s' was not made by `berth sandbox up`; nothing in it was touched",
                       sb->dir);
    }
    if ((e = fs_private_dir(sb->dir, info)) != OK ||
        (e = fs_lock_dir(sb->dir, &sb->lock_fd, info)) != OK) {
        return e == E_IN_USE
                   ? err_set(info, E_IN_USE, "another `berth sandbox` command is at work on '%s'",
                             sb->dir)
                   : e;
    }
    if (is_ours) {
        if ((e = read_settings(sb, &hubs, info)) != OK ||
            (may_create && (e = check_same(sb, hubs, a, info)) != OK)) {
            return e;
        }
    } else if ((e = make_folder(sb, a, &hubs, info)) != OK) {
        return e;
    }
    return add_servers(sb, hubs, info);
}

void sandbox_done(struct sandbox *sb)
{
    for (unsigned i = 0; i < sb->n; i++) {
        free(sb->server[i].dir);
        free(sb->server[i].metrics);
    }
    if (sb->lock_fd >= 0) {
        (void)close(sb->lock_fd);
    }
    free(sb->dir);
    free(sb->bin_dps);
    free(sb->bin_hub);
}

/* --- certificates ---------------------------------------------------------------------------------------------- */

static enum err save_cert(const char *path, const struct cert *c, const struct cert *issuer,
                          struct err_info *info)
{
    AUTO(buf_done) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    cert_add_pem(c, &pem);
    if (issuer != NULL) {
        cert_add_pem(issuer, &pem);
    }
    return buf_err(&pem) != OK ? buf_err(&pem) : fs_write_atomic(path, buf_span(&pem), 0644, info);
}

static enum err new_key(const char *path, struct signer_key **ret, struct err_info *info)
{
    (void)unlink(path); /* of an interrupted try: its certificate was never written */
    enum err e = signer_key_generate(KEY_P256, ret);
    return e != OK ? e : signer_key_save(*ret, path, info);
}

static enum err make_server_cert(const struct sandbox *sb, const struct signer_key *ca_key,
                                 const struct cert *ca, int64_t now, struct err_info *info)
{
    AUTO(mem_free_p) char *key_path = sandbox_path(sb, "server.key");
    AUTO(mem_free_p) char *cert_path = sandbox_path(sb, "server.pem");
    AUTO(signer_key_free_p) struct signer_key *key = NULL;
    AUTO(cert_free_p) struct cert *c = NULL;
    const char *hosts[SANDBOX_SERVERS + 1];
    size_t n = 0;
    for (unsigned i = 0; i < sb->n; i++) {
        hosts[n++] = sb->server[i].address;
    }
    hosts[n++] = "localhost";
    const struct cert_request rq = {
        .profile = PROFILE_SERVER,
        .cn = span_str(sb->address),
        .organization = SPAN_LIT("Berth sandbox"),
        .hosts = hosts,
        .n_hosts = n,
        .not_before_us = now - DAY_US,
        .not_after_us = now + SERVER_DAYS * DAY_US,
    };
    enum err e = key_path == NULL || cert_path == NULL ? E_NOMEM : new_key(key_path, &key, info);
    if (e == OK) {
        e = signer_issue_now(ca_key, ca, NULL, key, &rq, &c, info);
    }
    return e != OK ? e : save_cert(cert_path, c, ca, info);
}

/* ca.pem is written last: when it is there, all four are. */
enum err sandbox_make_pki(const struct sandbox *sb, struct err_info *info)
{
    AUTO(mem_free_p) char *ca_path = sandbox_path(sb, "ca.pem");
    AUTO(mem_free_p) char *key_path = sandbox_path(sb, "ca.key");
    AUTO(signer_key_free_p) struct signer_key *key = NULL;
    AUTO(cert_free_p) struct cert *ca = NULL;
    int64_t now = clock_wall_us(clock_system());
    const struct cert_request rq = {
        .profile = PROFILE_ROOT_CA,
        .cn = SPAN_LIT("Berth sandbox CA"),
        .organization = SPAN_LIT("Berth sandbox"),
        .not_before_us = now - DAY_US,
        .not_after_us = now + CA_DAYS * DAY_US,
    };
    if (ca_path == NULL || key_path == NULL) {
        return E_NOMEM;
    }
    if (fs_exists(ca_path)) {
        return OK;
    }
    enum err e = new_key(key_path, &key, info);
    if (e != OK || (e = signer_issue_now(key, NULL, NULL, key, &rq, &ca, info)) != OK ||
        (e = make_server_cert(sb, key, ca, now, info)) != OK) {
        return e;
    }
    return save_cert(ca_path, ca, NULL, info);
}

/* --- configuration ------------------------------------------------------------------------------------------------ */

enum err sandbox_write_conf(const struct sandbox *sb, unsigned i, struct err_info *info)
{
    const struct sandbox_server *s = &sb->server[i];
    AUTO(mem_free_p) char *path = fs_join(s->dir, "berth.conf");
    AUTO(buf_done) struct buf text = BUF_INIT(8192);
    enum err e = fs_private_dir(s->dir, info);
    if (e != OK || path == NULL) {
        return e != OK ? e : E_NOMEM;
    }
    buf_addf(&text,
             "# made by berth sandbox up; changes are kept\n[server]\ndata-dir = data\nnames = "
             "%s%s\nlisten = %s\n"
             "https-port = %u\nmqtts-port = %u\ndrain-seconds = 1\n[tls]\ncert = "
             "../server.pem\nkey = ../server.key\n"
             "[egress]\nca = ../ca.pem\n[metrics]\nlisten = 127.0.0.1:0\n",
             s->address, i == 0 ? ", localhost" : "", s->address, sb->https_port, sb->mqtts_port);
    if (i > 0) {
        buf_add_str(&text, "[streams]\nenabled = yes\n");
    }
    if (fs_exists(path)) {
        return OK;
    }
    return buf_err(&text) != OK ? buf_err(&text)
                                : fs_write_atomic(path, buf_span(&text), 0600, info);
}

/* Beside berth, in ../sbin, or in the build tree. */
enum err sandbox_find_programs(struct sandbox *sb, const char *bin_dir, struct err_info *info)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0) {
        return err_set_errno(info, errno, "cannot find where berth is");
    }
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    *slash = '\0';
    static const struct {
        const char *dps, *hub;
    } beside[] = {{"berth-dps", "berth-hub"},
                  {"../sbin/berth-dps", "../sbin/berth-hub"},
                  {"../dps/berth-dps", "../hub/berth-hub"}};
    for (size_t i = 0; i < ARRAY_LEN(beside); i++) {
        AUTO(mem_free_p) char *dps = fs_join(bin_dir != NULL ? bin_dir : self, beside[i].dps);
        AUTO(mem_free_p) char *hub = fs_join(bin_dir != NULL ? bin_dir : self, beside[i].hub);
        if (dps != NULL && hub != NULL && access(dps, X_OK) == 0 && access(hub, X_OK) == 0) {
            sb->bin_dps = TAKE(dps);
            sb->bin_hub = TAKE(hub);
            return OK;
        }
    }
    return err_set(
        info, E_NOT_FOUND,
        "berth-dps and berth-hub are neither beside berth ('%s') nor in ../sbin; say --bin-dir DIR",
        self);
}

/* --- what --init made ------------------------------------------------------------------------------------------------ */

enum err sandbox_init_json(const struct sandbox *sb, unsigned i, struct json **ret,
                           struct err_info *info)
{
    AUTO(mem_free_p) char *path = fs_join(sb->server[i].dir, "data/init.json");
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    enum err e = path == NULL ? E_NOMEM : fs_read(path, &text, info);
    if (e == OK) {
        e = json_read_object(buf_span(&text), LIMIT_FILE_SMALL, ret, info);
    }
    if (text.p != NULL) {
        mem_wipe(text.p, text.n);
    }
    return e;
}

enum err sandbox_connection_string(const struct sandbox *sb, unsigned i, const char *policy,
                                   struct buf *ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *j = NULL;
    enum err e = sandbox_init_json(sb, i, &j, info);
    const struct json *list = e == OK ? json_get(j, "policies") : NULL;
    for (size_t k = 0; e == OK && k < json_count(list); k++) {
        const struct json *p = json_at(list, k);
        if (span_is(json_str(json_get(p, "name")), policy)) {
            struct span key = json_str(json_get(p, "primaryKey"));
            buf_addf(ret, "HostName=%s;SharedAccessKeyName=%s;SharedAccessKey=%.*s",
                     sb->server[i].address, policy, SPAN_ARG(key));
            return buf_err(ret);
        }
    }
    return e != OK ? e
                   : err_set(info, E_NOT_FOUND, "%s has no policy '%s' in its init.json",
                             sb->server[i].name, policy);
}
