/* SPDX-License-Identifier: Apache-2.0 */
#include "client/identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"
#include "wire/json.h"

#define PARTIAL ".partial-"

static const char *const kind_names[] = {
    [ATTEST_SYMMETRIC_KEY] = "symmetricKey", [ATTEST_X509] = "x509", [ATTEST_TPM] = "tpm"};

static char *path3(const char *a, const char *b, const char *c)
{
    AUTO(mem_free_p) char *ab = fs_join(a, b);
    return ab != NULL ? fs_join(ab, c) : NULL;
}

/* --- loading ----------------------------------------------------------------------------------------- */

static enum err need_str(const struct json *j, const char *name, char **ret, struct err_info *info)
{
    struct span s;
    enum err e = json_get_str(j, name, JSON_F_NEED, &s, info);
    if (e != OK || s.n == 0) {
        return err_set(info, E_CORRUPT, "identity.json has no %s", name);
    }
    *ret = span_dup(s);
    return *ret != NULL ? OK : E_NOMEM;
}

static enum err read_description(const char *dir, struct identity *id, struct err_info *info)
{
    AUTO(mem_free_p) char *path = path3(dir, "factory", "identity.json");
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(json_free_p) struct json *j = NULL;
    struct err_info inner = {0};
    if (path == NULL) {
        return E_NOMEM;
    }
    enum err e = fs_read(path, &text, info);
    if (e != OK) {
        return e == E_NOT_FOUND ? err_set(info, E_NOT_FOUND, "no identity in '%s'", dir) : e;
    }
    if ((e = json_read_object(buf_span(&text), LIMIT_FILE_SMALL, &j, &inner)) != OK) {
        return err_set(info, e == E_NOMEM ? e : E_CORRUPT, "%s: %s", path, inner.why);
    }
    size_t kind = 0;
    int64_t mqtts = 8883, https = 443, version = 0;
    if ((e = json_get_int(j, "version", JSON_F_NEED, 1, 1, &version, info)) != OK ||
        (e = need_str(j, "serial", &id->serial, info)) != OK ||
        (e = need_str(j, "idScope", &id->id_scope, info)) != OK ||
        (e = need_str(j, "dpsHost", &id->dps_host, info)) != OK ||
        (e = json_get_word(j, "attestation", JSON_F_NEED, kind_names, ARRAY_LEN(kind_names), &kind,
                           info)) != OK ||
        ((kind != ATTEST_TPM || json_get(j, "registrationId") != NULL) &&
         (e = need_str(j, "registrationId", &id->registration_id, info)) != OK) ||
        (e = json_get_int(j, "mqttsPort", JSON_F_OPT, 1, 65535, &mqtts, info)) != OK ||
        (e = json_get_int(j, "httpsPort", JSON_F_OPT, 1, 65535, &https, info)) != OK) {
        return e == E_NOMEM ? e
                            : err_set(info, E_CORRUPT, "%s is not complete: %s", path,
                                      info != NULL ? info->why : "");
    }
    id->kind = (enum attestation_kind)kind;
    id->mqtts_port = (uint16_t)mqtts;
    id->https_port = (uint16_t)https;
    return OK;
}

/* Secrets that others may read are no secrets. */
static enum err check_private(const char *path, struct err_info *info)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        return err_set(info, E_CORRUPT, "'%s' is missing", path);
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0) {
        return err_set(info, E_PERM, "'%s' must be a file that only its owner may read (mode 0600)",
                       path);
    }
    return OK;
}

static enum err read_key(const char *dir, struct identity *id, struct err_info *info)
{
    AUTO(mem_free_p) char *path = path3(dir, "factory", "key");
    AUTO(buf_done) struct buf text = BUF_INIT(512);
    if (path == NULL) {
        return E_NOMEM;
    }
    enum err e = check_private(path, info);
    if (e != OK || (e = fs_read(path, &text, info)) != OK) {
        return e;
    }
    struct span s = buf_span(&text);
    while (s.n > 0 && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r')) {
        s.n--;
    }
    e = secret_from_base64(&id->key, s);
    mem_wipe(text.p, text.n);
    return e == OK && id->key.n >= LIMIT_KEY_MIN
               ? OK
               : err_set(info, E_CORRUPT, "'%s' is no base64 key", path);
}

enum err identity_load(const char *dir, struct identity *ret, struct err_info *info)
{
    struct identity id = {0};
    enum err e = read_description(dir, &id, info);
    if (e == OK) {
        id.ca_file = path3(dir, "factory", "ca.pem");
        e = id.ca_file == NULL      ? E_NOMEM
            : fs_exists(id.ca_file) ? OK
                                    : err_set(info, E_CORRUPT, "'%s' is missing", id.ca_file);
    }
    if (e == OK && id.kind == ATTEST_SYMMETRIC_KEY) {
        e = read_key(dir, &id, info);
    } else if (e == OK && id.kind == ATTEST_X509) {
        id.cert_chain_file = path3(dir, "factory", "device.pem");
        id.key_file = path3(dir, "factory", "device.key");
        e = id.cert_chain_file == NULL || id.key_file == NULL ? E_NOMEM
                                                              : check_private(id.key_file, info);
        if (e == OK && !fs_exists(id.cert_chain_file)) {
            e = err_set(info, E_CORRUPT, "'%s' is missing", id.cert_chain_file);
        }
    }
    if (e != OK) {
        identity_done(&id);
        return e;
    }
    *ret = id;
    mem_wipe(&id.key, sizeof(id.key));
    return OK;
}

void identity_done(struct identity *id)
{
    char **all[] = {&id->serial,  &id->registration_id, &id->id_scope, &id->dps_host,
                    &id->ca_file, &id->cert_chain_file, &id->key_file};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        free(*all[i]);
        *all[i] = NULL;
    }
    secret_done(&id->key);
}

/* --- burning ----------------------------------------------------------------------------------------- */

static enum err describe(const struct burn *b, struct buf *ret)
{
    AUTO(json_free_p) struct json *j = json_new_object();
    enum err e;
    if (j == NULL) {
        return E_NOMEM;
    }
    if ((e = json_set(j, "version", json_new_int(1))) != OK ||
        (e = json_set_str(j, "serial", span_str(b->serial))) != OK ||
        (b->registration_id != NULL &&
         (e = json_set_str(j, "registrationId", span_str(b->registration_id))) != OK) ||
        (e = json_set_str(j, "idScope", span_str(b->id_scope))) != OK ||
        (e = json_set_str(j, "dpsHost", span_str(b->dps_host))) != OK ||
        (e = json_set_str(j, "attestation", span_str(kind_names[b->kind]))) != OK ||
        (e = json_set(j, "mqttsPort", json_new_int(b->mqtts_port != 0 ? b->mqtts_port : 8883))) !=
            OK ||
        (e = json_set(j, "httpsPort", json_new_int(b->https_port != 0 ? b->https_port : 443))) !=
            OK) {
        return e;
    }
    json_write(ret, j);
    buf_add_u8(ret, '\n');
    return buf_err(ret);
}

static enum err write_in(const char *dir, const char *name, struct span content, mode_t mode,
                         struct err_info *info)
{
    AUTO(mem_free_p) char *path = fs_join(dir, name);
    return path == NULL ? E_NOMEM : fs_create_atomic(path, content, mode, info);
}

static enum err fill(const char *factory, const struct burn *b, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    enum err e = describe(b, &text);
    if (e != OK || (e = write_in(factory, "ca.pem", b->ca_pem, 0644, info)) != OK) {
        return e;
    }
    if (b->kind == ATTEST_SYMMETRIC_KEY) {
        e = write_in(factory, "key", b->key_base64, 0600, info);
    } else if (b->kind == ATTEST_X509) {
        AUTO(mem_free_p) char *path = fs_join(factory, "device.key");
        e = path == NULL ? E_NOMEM : signer_key_save(b->private_key, path, info);
        if (e == OK) {
            e = write_in(factory, "device.pem", b->cert_chain_pem, 0644, info);
        }
    }
    /* Last, so that a folder with a description is a whole one. */
    return e != OK ? e : write_in(factory, "identity.json", buf_span(&text), 0644, info);
}

/* -1: it is no folder, or not ours. In a folder like /tmp anybody can make one of that name, or a link to somebody's files. */
static int open_own_dir(int at, const char *name)
{
    struct stat st;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && (fstat(fd, &st) != 0 || st.st_uid != geteuid())) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* A folder of ours that never became an identity. */
static void sweep(const char *partial)
{
    int fd = open_own_dir(AT_FDCWD, partial);
    int inner = fd >= 0 ? open_own_dir(fd, "factory") : -1;
    DIR *d = inner >= 0 ? fdopendir(inner) : NULL;
    for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        (void)unlinkat(inner, e->d_name, 0); /* "." and ".." refuse */
    }
    if (d != NULL) {
        (void)closedir(d); /* and inner with it */
        (void)unlinkat(fd, "factory", AT_REMOVEDIR);
    } else if (inner >= 0) {
        (void)close(inner);
    }
    if (fd >= 0) {
        (void)close(fd);
        (void)rmdir(partial);
    }
}

/* Without the slashes at its end. */
static struct span plain(const char *dir)
{
    struct span s = span_str(dir);
    while (s.n > 1 && s.p[s.n - 1] == '/') {
        s.n--;
    }
    return s;
}

/* How much of the path stands before its last name, slash included. */
static size_t parent_len(struct span path)
{
    size_t n = path.n;
    while (n > 0 && path.p[n - 1] != '/') {
        n--;
    }
    return n;
}

static char *parent_of(const char *dir)
{
    struct span s = plain(dir);
    size_t n = parent_len(s);
    return n == 0 ? span_dup(SPAN_LIT(".")) : span_dup(span_sub(s, 0, n == 1 ? 1 : n - 1));
}

void identity_sweep(const char *dir)
{
    AUTO(mem_free_p) char *parent = parent_of(dir);
    AUTO(buf_done) struct buf prefix = BUF_INIT(4096);
    struct span s = plain(dir);
    DIR *d = parent != NULL ? opendir(parent) : NULL;
    buf_add(&prefix, span_from(s, parent_len(s)));
    buf_add_str(&prefix, PARTIAL);
    for (const struct dirent *e; d != NULL && buf_err(&prefix) == OK && (e = readdir(d)) != NULL;) {
        if (span_starts(span_str(e->d_name), buf_span(&prefix))) {
            AUTO(mem_free_p) char *partial = fs_join(parent, e->d_name);
            if (partial != NULL) {
                sweep(partial);
            }
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
}

static char *partial_name(const char *dir)
{
    AUTO(buf_done) struct buf name = BUF_INIT(4096);
    char tag[GUID_SIZE];
    guid_new(tag);
    buf_add(&name, plain(dir));
    buf_addf(&name, PARTIAL "%s", tag);
    return buf_take_str(&name);
}

enum err identity_burn(const char *dir, const struct burn *b, struct err_info *info)
{
    AUTO(mem_free_p) char *parent = parent_of(dir), *partial = partial_name(dir);
    AUTO(mem_free_p) char *factory = partial != NULL ? fs_join(partial, "factory") : NULL;
    if (parent == NULL || factory == NULL) {
        return E_NOMEM;
    }
    if (fs_exists(dir)) {
        return err_set(info, E_EXISTS, "'%s' exists already; an identity is never burned over",
                       dir);
    }
    enum err e = fs_check_parent(dir, info);
    if (e != OK) {
        return e;
    }
    e = mkdir(partial, 0700) == 0 && mkdir(factory, 0700) == 0
            ? OK
            : err_set_errno(info, errno, "cannot make '%s'", partial);
    if (e == OK && (e = fill(factory, b, info)) == OK && (e = fs_sync_dir(factory, info)) == OK &&
        (e = fs_sync_dir(partial, info)) == OK &&
        renameat2(AT_FDCWD, partial, AT_FDCWD, dir, RENAME_NOREPLACE) != 0) {
        e = errno == EEXIST ? err_set(info, E_EXISTS, "'%s' exists already", dir)
                            : err_set_errno(info, errno, "cannot rename to '%s'", dir);
    }
    if (e != OK) {
        sweep(partial);
        /* Another burn may have won meanwhile, and swept ours. */
        return e != E_EXISTS && fs_exists(dir) ? err_set(info, E_EXISTS, "'%s' exists already", dir)
                                               : e;
    }
    identity_sweep(dir);
    return fs_sync_dir(parent, info);
}

/* --- assignment --------------------------------------------------------------------------------------- */

enum err assignment_load(const char *state_dir, struct assignment *ret, struct err_info *info)
{
    AUTO(mem_free_p) char *path = fs_join(state_dir, "assignment.json");
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(json_free_p) struct json *j = NULL;
    struct span hub, device;
    int64_t at = 0;
    if (path == NULL) {
        return E_NOMEM;
    }
    enum err e = fs_read(path, &text, info);
    if (e != OK) {
        return e;
    }
    if ((e = json_read_object(buf_span(&text), LIMIT_FILE_SMALL, &j, info)) == E_NOMEM) {
        return e;
    }
    if (e != OK || json_get_str(j, "assignedHub", JSON_F_NEED, &hub, info) != OK ||
        json_get_str(j, "deviceId", JSON_F_NEED, &device, info) != OK ||
        json_get_int(j, "assignedUs", JSON_F_OPT, 0, INT64_MAX, &at, info) != OK || hub.n == 0 ||
        device.n == 0) {
        return err_wrap(info, E_CORRUPT, "%s", path);
    }
    struct assignment a = {span_dup(hub), span_dup(device), at};
    if (a.hub == NULL || a.device_id == NULL) {
        assignment_done(&a);
        return E_NOMEM;
    }
    *ret = a;
    return OK;
}

enum err assignment_save(const char *state_dir, const struct assignment *a, struct err_info *info)
{
    AUTO(mem_free_p) char *path = fs_join(state_dir, "assignment.json");
    AUTO(json_free_p) struct json *j = json_new_object();
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    enum err e;
    if (path == NULL || j == NULL) {
        return E_NOMEM;
    }
    if ((e = json_set_str(j, "assignedHub", span_str(a->hub))) != OK ||
        (e = json_set_str(j, "deviceId", span_str(a->device_id))) != OK ||
        (e = json_set(j, "assignedUs", json_new_int(a->assigned_us))) != OK) {
        return e;
    }
    json_write(&text, j);
    buf_add_u8(&text, '\n');
    return buf_err(&text) != OK ? buf_err(&text)
                                : fs_write_atomic(path, buf_span(&text), 0600, info);
}

void assignment_done(struct assignment *a)
{
    free(a->hub);
    free(a->device_id);
    *a = (struct assignment){0};
}
