/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka wants four headers before its own; unit tests include this instead. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/span.h"

#define assert_ok(expr) assert_string_equal(err_name(expr), err_name(OK))
#define assert_err(expr, want) assert_string_equal(err_name(expr), err_name(want))
#define assert_span(got, want)                                                                     \
    do {                                                                                           \
        struct span g_ = (got), w_ = (want);                                                       \
        assert_int_equal(g_.n, w_.n);                                                              \
        if (w_.n != 0) {                                                                           \
            assert_memory_equal(g_.p, w_.p, w_.n);                                                 \
        }                                                                                          \
    } while (0)

#endif
