/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/oom/oom.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#endif

static unsigned long left; /* calls until the one that fails; 0: none will */
static bool has_failed;
static long live;

void oom_arm(unsigned long n)
{
    left = n;
    has_failed = false;
}

bool oom_disarm(void)
{
    left = 0;
    return has_failed;
}

long oom_live(void)
{
    return live;
}

#if defined(HAS_SANITIZER) || !defined(__GLIBC__)
bool oom_is_here(void)
{
    return false;
}
#else
/* What glibc's own functions are called beside their public names. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t k, size_t n);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

bool oom_is_here(void)
{
    return true;
}

static bool fails(void)
{
    if (left == 0 || --left != 0) {
        return false;
    }
    has_failed = true;
    errno = ENOMEM;
    return true;
}

static void *counted(void *p)
{
    live += p != NULL;
    return p;
}

void *malloc(size_t n)
{
    return fails() ? NULL : counted(__libc_malloc(n));
}

void *calloc(size_t k, size_t n)
{
    return fails() ? NULL : counted(__libc_calloc(k, n));
}

void *realloc(void *p, size_t n)
{
    if (fails()) {
        return NULL;
    }
    return p == NULL ? counted(__libc_realloc(p, n)) : __libc_realloc(p, n);
}

void free(void *p)
{
    if (p != NULL) {
        live--;
        memset(p, 0xdd, malloc_usable_size(p));
        __asm__ volatile(""
                         :
                         : "r"(p)
                         : "memory"); /* the compiler knows that freed memory is not read */
        __libc_free(p);
    }
}
#endif
