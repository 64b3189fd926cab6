/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every fuzz target is: one function over bytes, that also checks what must hold for good
 * input (written and read again is the same; in pieces is the same as at once). Built with
 * --enable-fuzzing the engine is libFuzzer; else replay_main.c feeds the files of
 * tests/fuzz/corpus/<name>/ under `make check`.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Reads each byte, so that a sanitizer sees a span that points outside of its memory. */
static inline void fuzz_touch(struct span s)
{
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < s.n; i++) {
        sum = (uint8_t)(sum + s.p[i]);
    }
}

#endif
