/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

#define POLYNOMIAL UINT32_C(0x82f63b78) /* 0x1edc6f41 with its bits the other way round */

static uint32_t table[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (unsigned bit = 0; bit < 8; bit++) {
            v = (v >> 1) ^ ((v & 1) != 0 ? POLYNOMIAL : 0);
        }
        table[i] = v;
    }
}

uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n)
{
    const uint8_t *at = p;

    (void)pthread_once(&table_once, make_table); /* cannot fail */
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc = (crc >> 8) ^ table[(crc ^ at[i]) & 0xff];
    }
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *p,
                                                                 size_t n)
{
    uint64_t c = ~crc;

    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v;
        (void)memcpy(&v, p, 8);
        c = _mm_crc32_u64(c, v);
    }
    for (; n > 0; n--, p++) {
        c = _mm_crc32_u8((uint32_t)c, *p);
    }
    return ~(uint32_t)c;
}

static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2") != 0;
}

#elif defined(__ARM_FEATURE_CRC32)

static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v;
        (void)memcpy(&v, p, 8);
        crc = __crc32cd(crc, v);
    }
    for (; n > 0; n--, p++) {
        crc = __crc32cb(crc, *p);
    }
    return ~crc;
}

static bool has_instruction(void)
{
    return true;
}

#else

static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
    return crc32c_by_table(crc, p, n);
}

static bool has_instruction(void)
{
    return false;
}

#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return has_instruction() ? by_instruction(crc, p, n) : crc32c_by_table(crc, p, n);
}
