/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Percent-decoding into memory that is there already: for the codecs of this folder, which decode
 * many small texts into one arena. (base/text.h decodes into a buf.)
 */
#ifndef WIRE_DECODE_H
#define WIRE_DECODE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

/* dst has room for text.n bytes. "%XX" becomes a byte, all else stays; *ret_clean false: some '%'
 * had no two hex digits and was kept. Returns the length written. */
size_t decode_percent_to(struct span text, uint8_t *dst, bool *ret_clean);
/* Copy in the arena; p is never NULL on success. strict: E_MALFORMED on a bad escape. E_UTF8 when
 * the result is not UTF-8 or holds U+0000. */
MUST_USE enum err decode_percent(struct span text, bool strict, struct arena *a, struct span *ret);

#endif
