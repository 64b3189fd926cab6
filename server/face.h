/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the error faces of the programs share (dps/face.c, hub/face.c): each is a total switch over enum err without default, so that a
 * new error does not compile until both have decided what their peers hear.
 */
#ifndef SERVER_FACE_H
#define SERVER_FACE_H

/* Our own affair: logged, and the peer hears of an internal error. */
/* clang-format off */
#define FACE_CASES_INTERNAL                                                                        \
    case OK: case E_SYS: case E_IO: case E_DB: case E_CORRUPT: case E_CRYPTO: case E_NET:          \
    case E_TLS: case E_REMOTE: case E_CONFIG: case E_PERM: case E_IN_USE: case E_BUG: case ERR_COUNT
/* clang-format on */

#endif
