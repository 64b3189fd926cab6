/* SPDX-License-Identifier: Apache-2.0 */
/* Distinguished names: the one CN that may be an identity, and a line for people. */
#include "certs/cert_int.h"

#include <openssl/err.h>

/* C1: the types whose bytes are what they look like. T61, BMP and Universal strings are not. */
static bool type_is_plain(int type)
{
    return type == V_ASN1_PRINTABLESTRING || type == V_ASN1_UTF8STRING || type == V_ASN1_IA5STRING;
}

static bool text_is_plain(struct span s, int type)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < 0x20 || s.p[i] == 0x7f || (s.p[i] > 0x7f && type != V_ASN1_UTF8STRING)) {
            return false;
        }
    }
    return span_is_utf8(s);
}

enum err name_cn(const X509_NAME *name, struct span *ret, struct err_info *info)
{
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    if (at < 0) {
        return err_set(info, E_CERT, "subject has no CN");
    }
    if (X509_NAME_get_index_by_NID(name, NID_commonName, at) >= 0) {
        return err_set(info, E_CERT, "subject has several CNs");
    }
    const ASN1_STRING *v = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
    int type = ASN1_STRING_type(v);
    struct span s = span_of(ASN1_STRING_get0_data(v), (size_t)MAX(ASN1_STRING_length(v), 0));
    if (!type_is_plain(type)) {
        return err_set(info, E_CERT, "CN has ASN.1 string type %d; UTF8, printable or IA5 allowed",
                       type);
    }
    if (s.n == 0 || s.n > LIMIT_X509_RID) {
        return err_set(info, E_CERT, "CN of %zu bytes; 1 to %u allowed", s.n, LIMIT_X509_RID);
    }
    if (!text_is_plain(s, type)) {
        return err_set(info, E_CERT, "CN holds a zero, a control character or bad UTF-8");
    }
    *ret = s;
    return OK;
}

void name_add(const X509_NAME *name, struct buf *b)
{
    /* As RFC 4514, with blanks after the commas and text left in UTF-8. */
    static const unsigned long flags =
        ((ASN1_STRFLGS_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) | XN_FLAG_SEP_CPLUS_SPC |
         XN_FLAG_DN_REV | XN_FLAG_FN_SN | XN_FLAG_DUMP_UNKNOWN_FIELDS);
    AUTO(bio_free_p) BIO *bio = BIO_new(BIO_s_mem());
    char *p;
    if (bio == NULL || X509_NAME_print_ex(bio, name, 0, flags) < 0) {
        ERR_clear_error();
        buf_add_str(b, "(a name that cannot be shown)");
        return;
    }
    long n = BIO_get_mem_data(bio, &p);
    struct span s = span_of(p, (size_t)MAX(n, 0L));
    buf_add(b, span_is_utf8(s) ? s : SPAN_LIT("(a name that cannot be shown)"));
}

void name_to_cstr(const X509_NAME *name, char *dst, size_t n)
{
    AUTO(buf_done) struct buf b = BUF_INIT(8 * LIMIT_CERT_DER);
    name_add(name, &b);
    struct span s = span_sub(buf_span(&b), 0, n - 1);
    while (s.n != 0 && !span_is_utf8(s)) { /* the cut may have split a character */
        s.n--;
    }
    if (s.n != 0) {
        memcpy(dst, s.p, s.n);
    }
    dst[s.n] = '\0';
}
