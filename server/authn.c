/* SPDX-License-Identifier: Apache-2.0 */
#include "server/authn.h"

#include "base/log.h"
#include "server/server_int.h"
#include "wire/http.h"

/* The reason stays in info with its own kind; the caller hears one error for all. */
static enum err refuse(struct err_info *info, enum err kind)
{
    if (info != NULL) {
        if (info->why[0] == '\0') {
            (void)err_set(info, kind, "%s", err_text(kind));
        }
        info->err = kind;
    }
    return E_UNAUTHORIZED;
}

static bool covers(const struct server *s, const struct sas_token *tok, const struct span *path,
                   size_t n, bool has_host, unsigned flags)
{
    struct span hosts[SERVER_MAX_NAMES];
    if (!has_host) {
        return sas_scope_covers(tok, NULL, 0, path, n, flags);
    }
    for (size_t i = 0; i < s->n_names; i++) {
        hosts[i] = span_str(s->names[i]);
    }
    return sas_scope_covers(tok, hosts, s->n_names, path, n, flags);
}

static enum err judge(struct worker *w, struct span text, const struct span *path, size_t n,
                      bool has_host, bool may_be_device, struct sas_token *ret,
                      struct err_info *info)
{
    struct sas_token tok;
    int64_t skew = (int64_t)server_base_conf(w->s)->token_skew_s;
    if (sas_parse(text, &tok, info) != OK) {
        return refuse(info, E_TOKEN);
    }
    if (sas_is_expired(&tok, server_token_now_s(w->s), skew)) {
        (void)err_set(info, E_EXPIRED, "token expired at %lld", (long long)tok.expires_s);
        return refuse(info, E_EXPIRED);
    }
    /* The documented old form with an api-version tail is a device's, never a policy's. */
    unsigned flags = may_be_device && tok.skn_n == 0 ? SAS_API_VERSION_TAIL : SAS_SCOPE_PLAIN;
    if (!covers(w->s, &tok, path, n, has_host, flags)) {
        (void)err_set(info, E_SCOPE, "token names \"%.*s\"", SPAN_ARG(span_sub(tok.sr, 0, 200)));
        return refuse(info, E_SCOPE);
    }
    *ret = tok;
    return OK;
}

enum err authn_device_token(struct worker *w, struct span token, const struct span *target,
                            size_t n_target, bool target0_is_host, struct sas_token *ret,
                            struct err_info *info)
{
    size_t skip = target0_is_host ? 1 : 0;
    ASSERT(n_target > skip);
    return judge(w, token, target + skip, n_target - skip, target0_is_host, true, ret, info);
}

enum err authn_token_keys(struct worker *w, const struct sas_token *tok,
                          struct seal_place at_primary, struct span sealed_primary,
                          struct seal_place at_secondary, struct span sealed_secondary,
                          unsigned *ret_which, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(SAS_TO_SIGN_MAX);
    struct span sig = span_of(tok->sig, sizeof(tok->sig));
    sas_to_sign(tok, &text);
    if (buf_err(&text) != OK) {
        return buf_err(&text);
    }
    /* Both are always computed: the time tells neither which key fits nor whether one does. */
    bool first =
        keyring_mac_matches(w->s->keyring, at_primary, sealed_primary, buf_span(&text), sig);
    bool second =
        keyring_mac_matches(w->s->keyring, at_secondary, sealed_secondary, buf_span(&text), sig);
    if (!first && !second) {
        (void)err_set(info, E_SIGNATURE, "signature fits neither key");
        return refuse(info, E_SIGNATURE);
    }
    *ret_which = first ? 0 : 1;
    return OK;
}

/* --- service plane ------------------------------------------------------------------------------ */

static enum err lacks_right(struct http_rq *rq, const struct sas_token *tok, struct err_info *info)
{
    (void)err_set(info, E_OWNED, "Authorization rule '%s' does not allow access for '%.*s'",
                  tok->skn, SPAN_ARG(span_sub(http_rq_raw_path(rq), 0, 160)));
    return refuse(info, E_OWNED);
}

enum err authn_service_token(struct worker *w, struct http_rq *rq, struct sas_token *ret,
                             struct err_info *info)
{
    struct span header = http_rq_header(rq, "Authorization");
    struct sas_token tok;
    struct http_path path;
    enum err e;
    if (header.p == NULL) {
        (void)err_set(info, E_ARG_NULL, "Authorization header missing");
        return refuse(info, E_ARG_NULL);
    }
    if ((e = http_path_read(http_rq_raw_path(rq), http_rq_arena(rq), &path)) != OK ||
        (e = judge(w, header, path.segment, path.n, true, false, &tok, info)) != OK) {
        return e;
    }
    if (tok.skn_n == 0) {
        (void)err_set(info, E_TOKEN, "token names no policy");
        return refuse(info, E_TOKEN);
    }
    *ret = tok;
    return OK;
}

enum err authn_service(struct worker *w, struct http_rq *rq, uint32_t right, struct caller *ret,
                       struct err_info *info)
{
    struct sas_token tok;
    struct policy_use use;
    enum err e = authn_service_token(w, rq, &tok, info);
    if (e != OK || (e = policy_check(w, &tok, &use, info)) != OK) {
        return e;
    }
    if (right != 0 && (use.rights & right) == 0) {
        return lacks_right(rq, &tok, info);
    }
    struct span name = arena_span(http_rq_arena(rq), sas_skn(&tok));
    if (name.p == NULL) {
        return E_NOMEM;
    }
    *ret = (struct caller){use, name};
    return OK;
}
