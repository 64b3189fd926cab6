/* SPDX-License-Identifier: Apache-2.0 */
#include "client/credential.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

#define CHAIN_FILE_MAX (256u << 10)

static char *slot_path(const char *dir, char slot, const char *file)
{
    const char name[] = {slot, '\0'};
    AUTO(mem_free_p) char *folder = fs_join(dir, name);
    return folder == NULL ? NULL : file[0] == '\0' ? TAKE(folder) : fs_join(folder, file);
}

/* 0: none. */
static enum err current_slot(const char *dir, char *ret, struct err_info *info)
{
    AUTO(mem_free_p) char *link = fs_join(dir, "current");
    char to[3];
    if (link == NULL) {
        return E_NOMEM;
    }
    ssize_t n = readlink(link, to, sizeof(to));
    *ret = 0;
    if (n < 0 && errno == ENOENT) {
        return OK;
    }
    if (n != 1 || (to[0] != 'a' && to[0] != 'b')) {
        return err_set(info, E_CORRUPT, "'%s' leads to neither a nor b", link);
    }
    *ret = to[0];
    return OK;
}

static char other(char slot)
{
    return slot == 'a' ? 'b' : 'a';
}

/* --- reading -------------------------------------------------------------------------------------- */

/* Key and leaf belong together. */
static enum err check(struct credential *c, struct err_info *info)
{
    AUTO(buf_done) struct buf pem = BUF_INIT(CHAIN_FILE_MAX);
    AUTO(signer_key_free_p) struct signer_key *key = NULL;
    AUTO(cert_free_p) struct cert *leaf = NULL;
    enum err e;
    if ((e = signer_key_load(c->key_file, &key, info)) != OK ||
        (e = fs_read(c->cert_chain_file, &pem, info)) != OK ||
        (e = cert_from_text(buf_span(&pem), &leaf, info)) != OK) {
        return e;
    }
    c->not_after_us = cert_not_after_us(leaf);
    return signer_key_fits(key, leaf)
               ? OK
               : err_set(info, E_CERT, "'%s' is not for the key beside it", c->cert_chain_file);
}

static enum err open_slot(const char *dir, char slot, struct credential *ret, struct err_info *info)
{
    struct credential c = {.slot = slot,
                           .cert_chain_file = slot_path(dir, slot, "device.pem"),
                           .key_file = slot_path(dir, slot, "device.key")};
    struct stat st;
    enum err e = c.cert_chain_file != NULL && c.key_file != NULL ? check(&c, info) : E_NOMEM;
    if (e == OK && stat(c.cert_chain_file, &st) != 0) {
        e = err_set_errno(info, errno, "'%s'", c.cert_chain_file);
    }
    if (e != OK) {
        credential_done(&c);
        return e;
    }
    c.issued_us = (int64_t)st.st_mtim.tv_sec * 1000000;
    *ret = c;
    return OK;
}

enum err credential_load(const char *dir, struct credential *ret, struct err_info *info)
{
    char slot = 0;
    enum err e = current_slot(dir, &slot, info);
    if (e != OK || slot == 0) {
        return e != OK ? e : E_NOT_FOUND;
    }
    e = open_slot(dir, slot, ret, info);
    return e == OK || e == E_NOMEM || e == E_PERM ? e : E_CORRUPT;
}

void credential_done(struct credential *c)
{
    free(c->cert_chain_file);
    free(c->key_file);
    *c = (struct credential){.slot = 0};
}

/* --- writing -------------------------------------------------------------------------------------- */

static enum err remove_file(const char *path, struct err_info *info)
{
    return unlink(path) == 0 || errno == ENOENT
               ? OK
               : err_set_errno(info, errno, "could not remove '%s'", path);
}

enum err credential_begin(const char *dir, const char *cn, struct buf *ret_csr,
                          struct err_info *info)
{
    AUTO(signer_key_free_p) struct signer_key *key = NULL;
    char now = 0;
    enum err e = current_slot(dir, &now, info);
    if (e != OK && e != E_CORRUPT) {
        return e;
    }
    AUTO(mem_free_p) char *folder = slot_path(dir, other(now), "");
    AUTO(mem_free_p) char *pem = slot_path(dir, other(now), "device.pem");
    AUTO(mem_free_p) char *file = slot_path(dir, other(now), "device.key");
    if (folder == NULL || pem == NULL || file == NULL) {
        return E_NOMEM;
    }
    if ((e = fs_private_dir(folder, info)) != OK || (e = remove_file(pem, info)) != OK ||
        (e = remove_file(file, info)) != OK || (e = fs_sync_dir(folder, info)) != OK ||
        (e = signer_key_generate(KEY_P256, &key)) != OK ||
        (e = signer_key_save(key, file, info)) != OK) {
        return e;
    }
    return signer_make_csr(key, span_str(cn), ret_csr, info);
}

enum err credential_store(const char *dir, struct span chain_pem, struct credential *ret,
                          struct err_info *info)
{
    char now = 0;
    enum err e = current_slot(dir, &now, info);
    if (e != OK && e != E_CORRUPT) {
        return e;
    }
    AUTO(mem_free_p) char *pem = slot_path(dir, other(now), "device.pem");
    if (pem == NULL) {
        return E_NOMEM;
    }
    e = fs_write_atomic(pem, chain_pem, 0600, info);
    return e != OK ? e : open_slot(dir, other(now), ret, info);
}

enum err credential_keep(const char *dir, const struct credential *c, struct err_info *info)
{
    const char to[] = {c->slot, '\0'};
    AUTO(mem_free_p) char *link = fs_join(dir, "current");
    AUTO(mem_free_p) char *temp = fs_join(dir, ".current-new");
    if (link == NULL || temp == NULL) {
        return E_NOMEM;
    }
    enum err e = remove_file(temp, info);
    if (e == OK && (symlink(to, temp) != 0 || rename(temp, link) != 0)) {
        e = err_set_errno(info, errno, "could not turn '%s'", link);
    }
    return e != OK ? e : fs_sync_dir(dir, info);
}
