/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiler attributes and the few macros every file may use. No state, no threads.
 *
 *   MUST_USE        result may not be dropped; to drop it on purpose: (void)!f() with a reason
 *   AUTO(fn)        local is ended by fn(&local) at scope exit
 *   TAKE(p)         moves a pointer out of an AUTO local, leaving NULL
 *   ASSERT(x)       a bug if false; stays in release builds
 *   CAST_MAGIC      checked cast of a void * that went through a library
 */
#ifndef BASE_CDEFS_H
#define BASE_CDEFS_H

#include <stddef.h>
#include <stdint.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define AUTO(fn) __attribute__((cleanup(fn), unused))
#define NORETURN __attribute__((noreturn))
#define UNUSED __attribute__((unused))

#define TAKE(p)                                                                                    \
    __extension__({                                                                                \
        __typeof__(p) take_ = (p);                                                                 \
        (p) = NULL;                                                                                \
        take_;                                                                                     \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

NORETURN void assert_failed(const char *expr, const char *file, int line);
#define ASSERT(x) ((x) ? (void)0 : assert_failed(#x, __FILE__, __LINE__))

/* Objects that travel through void * begin with `uint32_t magic`. */
#define CAST_MAGIC(type, vp, want)                                                                 \
    __extension__({                                                                                \
        type *cast_ = (vp);                                                                        \
        ASSERT(cast_ != NULL && cast_->magic == (want));                                           \
        cast_;                                                                                     \
    })

/* Defines name_p(T **) for AUTO() from name_free(T *). */
#define AUTO_FREE_FN(type, name)                                                                   \
    static inline UNUSED void name##_p(type **p)                                                   \
    {                                                                                              \
        name(*p);                                                                                  \
        *p = NULL;                                                                                 \
    }

/* AUTO(mem_free_p) char *s: plain heap memory. */
void mem_free_p(void *pp);
/* malloc that zeroes; NULL when memory is short. */
void *mem_new(size_t n);
#define NEW(type) ((type *)mem_new(sizeof(type)))

#endif
