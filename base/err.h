/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One enum of errors for all of Berth, and the note that says why.
 *
 * A function that can fail returns MUST_USE enum err; its outputs stay untouched on failure.
 * Libraries do not log: they fill `struct err_info` (the last argument, NULL is fine) and the
 * program logs once, naming the device. The class decides who hears of it:
 *   PEER   goes back to the caller, in the face's own code
 *   LOCAL  is logged; the peer hears only "server error"
 *   RETRY  call again
 *   BUG    ours; logged loudest
 *
 * Ownership   err_info is the caller's, plain memory, no end function.
 * Threads     any.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/cdefs.h"

enum err_class { ERR_T_OK, ERR_T_PEER, ERR_T_RETRY, ERR_T_LOCAL, ERR_T_BUG };

enum err {
    OK = 0,
#define ERR(name, class, text) name,
#include "base/err.def"
#undef ERR
    ERR_COUNT
};

/* Why something failed, for one log line: no secrets, no line ends. */
struct err_info {
    enum err err;
    char why[320];
};

/* "E_ETAG" */
const char *err_name(enum err e);
/* "entity changed since it was read" */
const char *err_text(enum err e);
enum err_class err_class(enum err e);

/* Fills info (when given) and returns e, so that a failure is one line. Control characters in the
 * result become '?'. A later err_set overwrites: the nearest cause is written first and wrapped by
 * err_wrap. */
enum err err_set(struct err_info *info, enum err e, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "text: " before what is there already; returns e. */
enum err err_wrap(struct err_info *info, enum err e, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* err_from_errno(errnum), with "text: what the system says of it" as the reason. */
enum err err_set_errno(struct err_info *info, int errnum, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* info->why if set, else err_text(e). */
const char *err_why(const struct err_info *info, enum err e);
/* errno to err: ENOSPC, EDQUOT -> E_DISK_FULL; EACCES, EPERM -> E_PERM; EADDRINUSE -> E_IN_USE; ... */
enum err err_from_errno(int errnum);

#endif
