/* SPDX-License-Identifier: Apache-2.0 */
/* struct json is a jansson value under another name; for wire/json*.c only. */
#ifndef WIRE_JSON_JANSSON_H
#define WIRE_JSON_JANSSON_H

#include <jansson.h>

#include "wire/json.h"

/* jansson takes no const. */
static inline json_t *jj(const struct json *j)
{
    return (json_t *)(uintptr_t)j;
}

static inline struct json *out(json_t *j)
{
    return (struct json *)(void *)j;
}

/* json_loadb as json_read wants it, but for memory: NULL with *ret_no_memory is that, and nothing is left behind. */
json_t *json_load_safe(struct span text, json_error_t *ret_why, bool *ret_no_memory);

#endif
