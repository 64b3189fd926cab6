/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cdefs.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void assert_failed(const char *expr, const char *file, int line)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "%s:%d: assertion failed: %s\n", file, line, expr);
    if (n > 0) {
        size_t len = MIN((size_t)n, sizeof(text) - 1);
        /* Nothing can be done about a failure here: the process ends on the next line. */
        (void)!write(STDERR_FILENO, text, len);
    }
    abort();
}

void mem_free_p(void *pp)
{
    void **p = pp;
    free(*p);
    *p = NULL;
}

void *mem_new(size_t n)
{
    return calloc(1, n != 0 ? n : 1);
}
