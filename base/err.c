/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    enum err_class class;
    const char *text;
} errors[ERR_COUNT] = {
    [OK] = {"OK", ERR_T_OK, "success"},
#define ERR(name, class, text) [name] = {#name, class, text},
#include "base/err.def"
#undef ERR
};

/* A number that is no error is a bug of the caller; these run while failures are reported, so they
 * answer instead of ending the process. */
static enum err known(enum err e)
{
    return (unsigned)e < ERR_COUNT ? e : E_BUG;
}

const char *err_name(enum err e)
{
    return errors[known(e)].name;
}

const char *err_text(enum err e)
{
    return errors[known(e)].text;
}

enum err_class err_class(enum err e)
{
    return errors[known(e)].class;
}

/* One line of text: what a peer put into it cannot start another line or move a cursor. */
static void mask_controls(char *s)
{
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == 0x7f) {
            *s = '?';
        }
    }
}

static void PRINTF_LIKE(3, 0) format(char *dst, size_t n, const char *fmt, va_list ap)
{
    if (vsnprintf(dst, n, fmt, ap) < 0) {
        dst[0] = '\0';
    }
    mask_controls(dst);
}

enum err err_set(struct err_info *info, enum err e, const char *fmt, ...)
{
    if (info != NULL) {
        char why[sizeof(info->why)]; /* the arguments may point into info */
        va_list ap;
        va_start(ap, fmt);
        format(why, sizeof(why), fmt, ap);
        va_end(ap);
        info->err = e;
        memcpy(info->why, why, sizeof(why));
    }
    return e;
}

/* "text: tail" into info, cut at its end. */
static void join(struct err_info *info, const char *text, const char *tail)
{
    char why[sizeof(info->why)];
    size_t n = strnlen(text, sizeof(why) - 1);
    memcpy(why, text, n);
    for (const char *p = ": "; *p != '\0' && n < sizeof(why) - 1; p++) {
        why[n++] = *p;
    }
    size_t left = strnlen(tail, sizeof(why) - 1 - n);
    memcpy(why + n, tail, left);
    why[n + left] = '\0';
    memcpy(info->why, why, sizeof(why));
}

enum err err_wrap(struct err_info *info, enum err e, const char *fmt, ...)
{
    if (info != NULL) {
        char text[sizeof(info->why)];
        va_list ap;
        va_start(ap, fmt);
        format(text, sizeof(text), fmt, ap);
        va_end(ap);
        join(info, text, err_why(info, e));
        info->err = e;
    }
    return e;
}

enum err err_set_errno(struct err_info *info, int errnum, const char *fmt, ...)
{
    enum err e = err_from_errno(errnum);
    if (info != NULL) {
        char text[sizeof(info->why)];
        char reason[128];
        va_list ap;
        va_start(ap, fmt);
        format(text, sizeof(text), fmt, ap);
        va_end(ap);
        join(info, text, strerror_r(errnum, reason, sizeof(reason)));
        info->err = e;
    }
    return e;
}

const char *err_why(const struct err_info *info, enum err e)
{
    return info != NULL && info->why[0] != '\0' ? info->why : err_text(e);
}

/* clang-format off */
static const struct {
    int num;
    enum err err;
} errnos[] = {
    { ENOSPC,        E_DISK_FULL },
    { EDQUOT,        E_DISK_FULL },
    { EFBIG,         E_TOO_LARGE },
    { EACCES,        E_PERM },
    { EPERM,         E_PERM },
    { EROFS,         E_PERM },
    { ELOOP,         E_PERM },      /* a symbolic link where none may be */
    { EADDRINUSE,    E_IN_USE },
    { EBUSY,         E_IN_USE },
    { ETXTBSY,       E_IN_USE },
    { ENOENT,        E_NOT_FOUND },
    { ENOTDIR,       E_NOT_FOUND },
    { EEXIST,        E_EXISTS },
    { ENOMEM,        E_NOMEM },
    { EAGAIN,        E_AGAIN },
    { EINTR,         E_AGAIN },
    { ETIMEDOUT,     E_TIMEOUT },
    { EPIPE,         E_CLOSED },
    { ECONNRESET,    E_CLOSED },
    { ECONNABORTED,  E_CLOSED },
    { ENOTCONN,      E_CLOSED },
    { ECONNREFUSED,  E_NET },
    { EHOSTUNREACH,  E_NET },
    { ENETUNREACH,   E_NET },
    { ENETDOWN,      E_NET },
    { EHOSTDOWN,     E_NET },
    { EADDRNOTAVAIL, E_NET },
    { EIO,           E_IO },
};
/* clang-format on */

enum err err_from_errno(int errnum)
{
    for (size_t i = 0; i < ARRAY_LEN(errnos); i++) {
        if (errnos[i].num == errnum) {
            return errnos[i].err;
        }
    }
    return E_SYS;
}
