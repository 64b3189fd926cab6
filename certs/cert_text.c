/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and requests as text: PEM, base64 of PEM, base64 of DER. */
#include "certs/cert_int.h"

#include <stdio.h>

#include "base/rd.h"
#include "base/text.h"

#define LABEL_MAX 64u
/* Text around one block: base64 of base64, line ends, remarks of openssl(1), further certificates. */
#define TEXT_MAX (LIMIT_FILE_SMALL)

static const char *const cert_labels[] = {"CERTIFICATE", "X509 CERTIFICATE", NULL};

static size_t find(struct span hay, struct span needle)
{
    const uint8_t *at = hay.n != 0 ? memmem(hay.p, hay.n, needle.p, needle.n) : NULL;
    return at != NULL ? (size_t)(at - hay.p) : SIZE_MAX;
}

/* base64 with blanks and line ends anywhere. */
static enum err decode_loose(struct span text, struct buf *ret)
{
    AUTO(buf_done) struct buf tight = BUF_INIT(text.n);
    for (size_t i = 0; i < text.n; i++) {
        if (memchr(" \t\r\n", text.p[i], 4) == NULL) {
            buf_add_u8(&tight, text.p[i]);
        }
    }
    buf_reset(ret);
    enum err e = buf_err(&tight);
    if (e == OK) {
        e = base64_decode(buf_span(&tight), ret);
    }
    return e != OK ? e : buf_err(ret);
}

/* The body between the lines of the first block with this label; *rest moves behind it. */
static bool pem_block(struct span *rest, const char *label, struct span *ret)
{
    char begin[LABEL_MAX], end[LABEL_MAX];
    (void)snprintf(begin, sizeof(begin), "-----BEGIN %s-----", label);
    (void)snprintf(end, sizeof(end), "-----END %s-----", label);
    size_t from = find(*rest, span_str(begin));
    if (from == SIZE_MAX) {
        return false;
    }
    struct span body = span_from(*rest, from + strlen(begin));
    size_t n = find(body, span_str(end));
    if (n == SIZE_MAX) {
        return false;
    }
    *ret = span_sub(body, 0, n);
    *rest = span_from(body, n + strlen(end));
    return true;
}

static bool has_pem(struct span text)
{
    return find(text, SPAN_LIT("-----BEGIN ")) != SIZE_MAX;
}

static enum err from_pem(struct span text, const char *const *labels, struct buf *ret,
                         struct err_info *info)
{
    struct span body;
    for (; *labels != NULL; labels++) {
        struct span rest = text;
        if (!pem_block(&rest, *labels, &body)) {
            continue;
        }
        enum err e = decode_loose(body, ret);
        return e == OK ? OK : err_set(info, e, "PEM: the base64 inside is damaged or too long");
    }
    return err_set(info, E_MALFORMED, "PEM without the block that is wanted here");
}

enum err der_from_text(struct span text, const char *const *labels, struct buf *ret,
                       struct err_info *info)
{
    text = span_trim(text);
    if (text.n == 0 || text.n > TEXT_MAX) {
        return err_set(info, text.n == 0 ? E_MALFORMED : E_TOO_LARGE, "text of %zu bytes", text.n);
    }
    if (has_pem(text)) {
        return from_pem(text, labels, ret, info);
    }
    AUTO(buf_done) struct buf inner = BUF_INIT(text.n);
    enum err e = decode_loose(text, &inner);
    if (e != OK) {
        return err_set(info, e, "neither PEM nor base64");
    }
    if (has_pem(buf_span(&inner))) {
        return from_pem(buf_span(&inner), labels, ret, info);
    }
    buf_reset(ret);
    buf_add(ret, buf_span(&inner));
    e = buf_err(ret);
    return e == OK ? OK : err_set(info, e, "larger than %zu bytes", ret->max);
}

enum err cert_from_text(struct span text, struct cert **ret, struct err_info *info)
{
    AUTO(buf_done) struct buf der = BUF_INIT(LIMIT_CERT_DER);
    enum err e = der_from_text(text, cert_labels, &der, info);
    return e != OK ? err_wrap(info, e, "certificate") : cert_from_der(buf_span(&der), ret, info);
}

enum err cert_list_from_pem(struct span text, struct cert **ret, size_t max, size_t *ret_n,
                            struct err_info *info)
{
    AUTO(buf_done) struct buf der = BUF_INIT(LIMIT_CERT_DER);
    struct span body;
    size_t n = 0;
    enum err e = text.n > TEXT_MAX ? err_set(info, E_TOO_LARGE, "text of %zu bytes", text.n) : OK;
    while (e == OK && pem_block(&text, cert_labels[0], &body)) {
        if (n == max) {
            e = err_set(info, E_LIMIT, "more than %zu certificates", max);
        } else if ((e = decode_loose(body, &der)) != OK) {
            e = err_set(info, e, "certificate %zu: the base64 inside is damaged or too long", n);
        } else if ((e = cert_from_der(buf_span(&der), &ret[n], info)) == OK) {
            n++;
        }
    }
    if (e == OK && n == 0) {
        e = err_set(info, E_MALFORMED, "no PEM certificate");
    }
    if (e != OK) {
        while (n > 0) {
            cert_free(ret[--n]);
            ret[n] = NULL;
        }
        return e;
    }
    *ret_n = n;
    return OK;
}

struct span cert_cut_der(struct span *ders)
{
    struct rd r = rd_init(*ders);
    size_t n = 0, head = 2;
    rd_require(&r, rd_u8(&r) == 0x30); /* SEQUENCE */
    n = rd_u8(&r);
    if (n == 0x81) {
        n = rd_u8(&r);
        head = 3;
    } else if (n == 0x82) {
        n = rd_be16(&r);
        head = 4;
    } else {
        rd_require(&r, n < 0x80);
    }
    (void)rd_bytes(&r, n);
    if (rd_err(&r) != OK) {
        *ders = SPAN_NONE;
        return SPAN_NONE;
    }
    struct span one = span_sub(*ders, 0, head + n);
    *ders = rd_rest(&r);
    return one;
}

enum err cert_list_from_der(struct span ders, struct cert **ret, size_t max, size_t *ret_n,
                            struct err_info *info)
{
    size_t n = 0;
    enum err e = OK;
    while (e == OK && ders.n != 0) {
        struct span one = cert_cut_der(&ders);
        if (n == max) {
            e = err_set(info, E_LIMIT, "more than %zu certificates", max);
        } else if ((e = cert_from_der(one, &ret[n], info)) == OK) {
            n++;
        }
    }
    if (e != OK) {
        while (n > 0) {
            cert_free(ret[--n]);
            ret[n] = NULL;
        }
        return e;
    }
    *ret_n = n;
    return OK;
}

void cert_der_add_pem(struct span der, struct buf *b)
{
    pem_add(b, cert_labels[0], der);
}

void pem_add(struct buf *b, const char *label, struct span der)
{
    AUTO(buf_done) struct buf text = BUF_INIT(2 * LIMIT_CERT_DER);
    base64_add(&text, der);
    struct span rest = buf_span(&text);
    buf_addf(b, "-----BEGIN %s-----\n", label);
    while (rest.n != 0) {
        buf_add(b, span_sub(rest, 0, 64));
        buf_add_u8(b, '\n');
        rest = span_from(rest, 64);
    }
    buf_addf(b, "-----END %s-----\n", label);
    if (buf_err(&text) != OK && b->err == OK) {
        b->err = buf_err(&text);
    }
}

void cert_add_pem(const struct cert *c, struct buf *b)
{
    pem_add(b, cert_labels[0], cert_der(c));
}
