/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/issuance.h"

#include "base/text.h"

#define MINUTE_US (60LL * 1000000)
#define MINUTES_MAX (3650LL * 1440)
#define DEFAULT_DAYS 90
#define POLICY_MAX (16u << 10)

static const char path[] = ISSUANCE_MEMBER;

/* --- the policy ---------------------------------------------------------------------------------- */

static enum err check_members(const struct json *policy, struct err_info *info)
{
    static const char *const known[] = {
        "certificateAuthorityName", "validityDays", "validityMinutes",      "keyTypes",
        "extendedKeyUsage",         "organization", "registrationIdPattern"};
    struct json_cursor c = {NULL, false};
    struct span name;
    struct json *value;
    while (json_next(policy, &c, &name, &value)) {
        size_t i = 0;
        while (i < ARRAY_LEN(known) && !span_is(name, known[i])) {
            i++;
        }
        if (i == ARRAY_LEN(known)) {
            return err_set(info, E_ARG, "%s: unknown member \"%.*s\"", path,
                           SPAN_ARG(span_sub(name, 0, 64)));
        }
    }
    return OK;
}

static enum err read_life(const struct json *policy, struct issue_profile *p, struct err_info *info)
{
    int64_t days = 0, minutes = 0;
    enum err e;
    if ((e = json_get_int(policy, "validityDays", JSON_F_OPT, 1, MINUTES_MAX / 1440, &days,
                          info)) != OK ||
        (e = json_get_int(policy, "validityMinutes", JSON_F_OPT, 1, MINUTES_MAX, &minutes, info)) !=
            OK) {
        return err_wrap(info, e, "%s", path);
    }
    if (days != 0 && minutes != 0) {
        return err_set(info, E_ARG, "%s: validityDays and validityMinutes exclude each other",
                       path);
    }
    days = days == 0 && minutes == 0 ? DEFAULT_DAYS : days;
    p->life_us = (minutes + days * 1440) * MINUTE_US;
    return OK;
}

/* The words of a list, as bits; absent: 0. */
static enum err read_words(const struct json *policy, const char *name, const char *const *words,
                           size_t n_words, unsigned *ret, struct err_info *info)
{
    struct json *list = NULL;
    enum err e = json_get_array(policy, name, JSON_F_OPT, &list, info);
    unsigned bits = 0;
    if (e != OK) {
        return err_wrap(info, e, "%s", path);
    }
    for (size_t i = 0; i < json_count(list); i++) {
        struct span word = json_str(json_at(list, i));
        size_t w = 0;
        while (w < n_words && !span_is(word, words[w])) {
            w++;
        }
        if (w == n_words) {
            return err_set(info, E_ARG, "%s.%s: \"%.*s\" is not offered", path, name,
                           SPAN_ARG(span_sub(word, 0, 64)));
        }
        bits |= 1u << w;
    }
    if (list != NULL && bits == 0) {
        return err_set(info, E_ARG, "%s.%s is empty", path, name);
    }
    *ret = bits;
    return OK;
}

static enum err read_purposes(const struct json *policy, struct issue_profile *p,
                              struct err_info *info)
{
    static const char *const words[] = {"clientAuth", "serverAuth"};
    unsigned bits = 0;
    enum err e = read_words(policy, "extendedKeyUsage", words, ARRAY_LEN(words), &bits, info);
    if (e == OK && bits != 0 && (bits & 1u) == 0) {
        return err_set(info, E_ARG, "%s.extendedKeyUsage: clientAuth is always part of it", path);
    }
    p->also_server = (bits & 2u) != 0;
    return e;
}

static enum err keep_text(const struct json *policy, const char *name, size_t max, struct arena *a,
                          struct span *ret, struct err_info *info)
{
    struct span text = SPAN_NONE;
    enum err e = json_get_str(policy, name, JSON_F_OPT, &text, info);
    if (e != OK) {
        return err_wrap(info, e, "%s", path);
    }
    if (text.n > max || span_has_nul(text)) {
        return err_set(info, E_ARG, "%s.%s has at most %zu bytes", path, name, max);
    }
    *ret = arena_span(a, text);
    return ret->p != NULL ? OK : E_NOMEM;
}

enum err issuance_read(const struct json *policy, struct arena *a, struct issue_profile *ret,
                       struct err_info *info)
{
    struct issue_profile p = {.life_us = 0};
    enum err e;
    if (!json_is(policy, JSON_T_OBJECT)) {
        return err_set(info, E_ARG, "%s is no object", path);
    }
    if ((e = check_members(policy, info)) != OK ||
        (e = keep_text(policy, "certificateAuthorityName", LIMIT_ADMIN_NAME, a, &p.ca, info)) !=
            OK) {
        return e;
    }
    if (!id_admin_name_ok(p.ca)) {
        return err_set(info, p.ca.n == 0 ? E_ARG_NULL : E_ARG,
                       "%s.certificateAuthorityName is missing or no name", path);
    }
    if ((e = read_life(policy, &p, info)) != OK ||
        (e = read_words(policy, "keyTypes", key_type_words, KEY_TYPES, &p.key_types, info)) != OK ||
        (e = read_purposes(policy, &p, info)) != OK ||
        (e = keep_text(policy, "organization", LIMIT_X509_RID, a, &p.organization, info)) != OK ||
        (e = keep_text(policy, "registrationIdPattern", LIMIT_ID, a, &p.id_pattern, info)) != OK) {
        return e;
    }
    if (p.key_types == 0) {
        p.key_types = (1u << KEY_TYPES) - 1;
    }
    *ret = p;
    return OK;
}

enum err issuance_read_text(struct span policy, struct arena *a, struct issue_profile *ret,
                            struct err_info *info)
{
    AUTO(json_free_p) struct json *j = NULL;
    enum err e = json_read_object(policy, POLICY_MAX, &j, info);
    return e != OK ? e : issuance_read(j, a, ret, info);
}

/* --- the request ----------------------------------------------------------------------------------- */

bool issuance_matches(struct span pattern, struct span id)
{
    size_t p = 0, i = 0, star = SIZE_MAX, retry = 0;
    while (i < id.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            retry = i;
        } else if (p < pattern.n && pattern.p[p] == id.p[i]) {
            p++;
            i++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            i = ++retry; /* the star takes one more */
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*') {
        p++;
    }
    return p == pattern.n;
}

enum err issuance_check(const struct issue_profile *p, const struct csr *csr, struct span rid,
                        struct err_info *info)
{
    struct span cn;
    enum err e = csr_cn(csr, &cn, info);
    if (e != OK) {
        return err_wrap(info, e, "request");
    }
    if (!span_eq_nocase(cn, rid)) {
        return err_set(info, E_CERT, "request: its CN is not the registration id");
    }
    enum key_type type = csr_key_type(csr);
    if (type == KEY_TYPES || (p->key_types & (1u << type)) == 0) {
        return err_set(info, E_CERT, "request: a key of this kind is not issued for (%s)",
                       type == KEY_TYPES ? "none of those known" : key_type_words[type]);
    }
    if (p->id_pattern.n != 0 && !issuance_matches(p->id_pattern, rid)) {
        return err_set(info, E_CERT, "the registration id does not fit the enrollment's pattern");
    }
    return OK;
}

enum err issuance_sign(const struct issue_profile *p, struct issuer *ca, const struct csr *csr,
                       struct span csr_der, struct span rid, int64_t now_us, struct cert **ret,
                       struct err_info *info)
{
    int64_t ends = cert_not_after_us(issuer_cert(ca)), begins = cert_not_before_us(issuer_cert(ca));
    const struct cert_request rq = {
        .profile = PROFILE_DEVICE,
        .cn = rid,
        .organization = p->organization,
        .also_server = p->also_server,
        .not_before_us = MAX(now_us - ISSUE_BACKDATE_US, begins),
        .not_after_us = MIN(now_us + p->life_us, ends),
    };
    if (ends <= now_us || begins > now_us) {
        return err_set(info, E_EXPIRED, "the certificate of \"%.*s\" is outside its dates",
                       SPAN_ARG(issuer_name(ca)));
    }
    return issuer_sign(ca, csr, csr_der, &rq, ret, info);
}
