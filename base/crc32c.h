/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC-32C (Castagnoli), as iSCSI has it: RFC 3720 section 12.1, test values in B.4. Finds what a disk or a
 * crash did to stored bytes; it is no protection against somebody who chooses them.
 * By the processor's instruction where there is one (x86-64 with SSE 4.2, asked at run time; ARMv8 with
 * CRC, by the compiler's target), else by a table.
 * Threads     any.
 */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from crc, which is 0 at the beginning: the CRC of two pieces is crc32c(crc32c(0, a), b). */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* The same by the table alone; for the test that compares both. */
uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n);

#endif
