/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/sas.h"

#include "base/secret.h"
#include "base/text.h"
#include "wire/decode.h"

#define SCHEME "SharedAccessSignature"
#define SIG_TEXT 44u /* base64 of 32 bytes */

static bool is_white(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static enum err bad(struct err_info *info, const char *why)
{
    return err_set(info, E_TOKEN, "token: %s", why);
}

/* --- fields ------------------------------------------------------------------------------- */
enum field { F_SR, F_SIG, F_SE, F_SKN, FIELDS };
static const char *const field_names[FIELDS] = {"sr", "sig", "se", "skn"};

/* The two words: the scheme, one run of white space, the fields. */
static enum err split_words(struct span text, struct span *ret_fields, struct err_info *info)
{
    while (text.n > 0 && is_white(text.p[text.n - 1])) {
        text.n--;
    }
    struct span scheme = SPAN_LIT(SCHEME);
    if (!span_starts(text, scheme)) {
        return bad(info, "does not begin with " SCHEME);
    }
    struct span fields = span_from(text, scheme.n);
    if (fields.n == 0 || !is_white(fields.p[0])) {
        return bad(info, "no white space behind " SCHEME);
    }
    while (fields.n > 0 && is_white(fields.p[0])) {
        fields = span_from(fields, 1);
    }
    for (size_t i = 0; i < fields.n; i++) {
        if (fields.p[i] < 0x21 || fields.p[i] == 0x7f) {
            return bad(info, "white space or control character in the fields");
        }
    }
    *ret_fields = fields;
    return OK;
}

static enum err split_fields(struct span text, struct span ret[FIELDS], struct err_info *info)
{
    while (text.p != NULL) {
        struct span field = span_cut(&text, '&');
        size_t eq = span_find(field, '=');
        struct span name = span_sub(field, 0, eq);
        for (size_t i = 0; i < FIELDS; i++) {
            if (!span_is_nocase(name, field_names[i])) {
                continue;
            }
            if (eq == field.n) {
                return bad(info, "field without =");
            }
            if (ret[i].p != NULL) {
                return err_set(info, E_TOKEN, "token: %s twice", field_names[i]);
            }
            ret[i] = span_from(field, eq + 1);
        }
    }
    for (size_t i = 0; i < F_SKN; i++) {
        if (ret[i].n == 0) {
            return err_set(info, E_TOKEN, "token: no %s", field_names[i]);
        }
    }
    return OK;
}

static enum err sig_read(struct span text, uint8_t ret[SAS_SIG_SIZE], struct err_info *info)
{
    uint8_t decoded[SIG_TEXT * 3]; /* every character may be an escape */
    size_t n = SAS_SIG_SIZE;
    bool clean = false;
    if (text.n > sizeof(decoded)) {
        return bad(info, "sig is too long");
    }
    struct span base64 = span_of(decoded, decode_percent_to(text, decoded, &clean));
    if (!clean || base64_decode_to(base64, ret, &n) != OK || n != SAS_SIG_SIZE) {
        return bad(info, "sig is not the base64 of 32 bytes");
    }
    return OK;
}

static enum err se_read(struct span text, int64_t *ret, struct err_info *info)
{
    uint64_t v = 0;
    if (text.n > LIMIT_SAS_SE_DIGITS || !span_to_u64(text, &v)) {
        return bad(info, "se is not 1 to 19 digits");
    }
    *ret = v > INT64_MAX ? INT64_MAX : (int64_t)v;
    return OK;
}

static enum err skn_read(struct span text, struct sas_token *t, struct err_info *info)
{
    uint8_t decoded[LIMIT_ADMIN_NAME * 3];
    bool clean = false;
    t->has_skn = text.p != NULL;
    if (text.n > sizeof(decoded)) {
        return bad(info, "skn is too long");
    }
    size_t n = decode_percent_to(text, decoded, &clean);
    if (!clean || n > LIMIT_ADMIN_NAME || !span_is_utf8(span_of(decoded, n))) {
        return bad(info, "skn is too long or not well encoded");
    }
    if (n > 0) {
        memcpy(t->skn, decoded, n);
    }
    t->skn[n] = '\0';
    t->skn_n = (uint8_t)n;
    return OK;
}

enum err sas_parse(struct span text, struct sas_token *ret, struct err_info *info)
{
    if (text.n > LIMIT_SAS_TOKEN) {
        return err_set(info, E_TOO_LARGE, "token: more than %u bytes", LIMIT_SAS_TOKEN);
    }
    struct span fields = SPAN_NONE;
    struct span f[FIELDS] = {{NULL, 0}};
    struct sas_token t = {0};
    enum err e;
    if ((e = split_words(text, &fields, info)) != OK || (e = split_fields(fields, f, info)) != OK ||
        (e = sig_read(f[F_SIG], t.sig, info)) != OK ||
        (e = se_read(f[F_SE], &t.expires_s, info)) != OK ||
        (e = skn_read(f[F_SKN], &t, info)) != OK) {
        mem_wipe(t.sig, sizeof(t.sig));
        return e;
    }
    t.sr = f[F_SR];
    t.se = f[F_SE];
    *ret = t;
    return OK;
}

bool sas_is_expired(const struct sas_token *t, int64_t now_s, int64_t skew_s)
{
    if (t->expires_s > INT64_MAX - MAX(skew_s, 0)) {
        return false;
    }
    return now_s > t->expires_s + skew_s;
}

/* --- scope -------------------------------------------------------------------------------- */
struct target {
    const struct span *hosts;
    size_t n_hosts;
    const struct span *path;
    size_t n_path;
    unsigned flags;
};

static bool host_fits(const struct target *t, struct span segment)
{
    for (size_t i = 0; i < t->n_hosts; i++) {
        if (t->hosts[i].n > 0 && span_eq_nocase(segment, t->hosts[i])) {
            return true;
        }
    }
    return false;
}

/* Segments of sr must be a prefix of host and path. */
static bool prefix_fits(const struct target *t, struct span sr)
{
    while (sr.n > 0 && sr.p[sr.n - 1] == '/') {
        sr.n--;
    }
    if (t->n_hosts > 0 && !host_fits(t, span_cut(&sr, '/'))) {
        return false;
    }
    for (size_t i = 0; sr.p != NULL; i++) {
        struct span segment = span_cut(&sr, '/');
        if (i < t->n_path) {
            if (!span_eq_nocase(segment, t->path[i])) {
                return false;
            }
            continue;
        }
        /* 4.1, old tools: "{host}/devices/{id}/api-version=2016-11-14" */
        return i == t->n_path && sr.p == NULL && (t->flags & SAS_API_VERSION_TAIL) != 0 &&
               span_starts_nocase(segment, SPAN_LIT("api-version="));
    }
    return true;
}

bool sas_scope_covers(const struct sas_token *tok, const struct span *hosts, size_t n_hosts,
                      const struct span *path, size_t n_path, unsigned flags)
{
    const struct target t = {hosts, n_hosts, path, n_path, flags};
    if (prefix_fits(&t, tok->sr)) {
        return true; /* raw, as the C client writes it: an id may hold '%' (section 11) */
    }
    uint8_t decoded[LIMIT_SAS_TOKEN];
    if (tok->sr.n > sizeof(decoded)) {
        return false;
    }
    bool clean = true;
    return prefix_fits(&t, span_of(decoded, decode_percent_to(tok->sr, decoded, &clean)));
}

bool sas_is_event_hub(const struct sas_token *t)
{
    uint8_t decoded[15]; /* "sb://", every character an escape */
    bool clean = true;
    struct span head = span_sub(t->sr, 0, sizeof(decoded));
    return span_starts_nocase(span_of(decoded, decode_percent_to(head, decoded, &clean)),
                              SPAN_LIT("sb://"));
}

void sas_to_sign(const struct sas_token *t, struct buf *b)
{
    buf_add(b, t->sr);
    buf_add_u8(b, '\n');
    buf_add(b, t->se);
}

/* --- for clients -------------------------------------------------------------------------- */
void sas_sr_write(struct buf *b, const struct span *segments, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i > 0) {
            buf_add_str(b, "%2F");
        }
        percent_add(b, segments[i]);
    }
}

void sas_to_sign_write(struct buf *b, struct span sr_encoded, uint64_t se)
{
    buf_add(b, sr_encoded);
    buf_addf(b, "\n%llu", (unsigned long long)se);
}

void sas_write(struct buf *b, struct span sr_encoded, const uint8_t sig[SAS_SIG_SIZE], uint64_t se,
               struct span skn)
{
    struct buf base64 = BUF_INIT(SIG_TEXT);
    base64_add(&base64, span_of(sig, SAS_SIG_SIZE));
    if (buf_err(&base64) != OK && b->err == OK) {
        b->err = buf_err(&base64);
    }
    buf_add_str(b, SCHEME " sr=");
    buf_add(b, sr_encoded);
    buf_add_str(b, "&sig=");
    percent_add(b, buf_span(&base64));
    buf_addf(b, "&se=%llu", (unsigned long long)se);
    if (skn.n > 0) {
        buf_add_str(b, "&skn=");
        percent_add(b, skn);
    }
    buf_done(&base64);
}
