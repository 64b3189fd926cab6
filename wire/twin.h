/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may stand in a twin section (tags, desired, reported): one validator for device and service
 * writes.
 *
 *   patch: twin_check(patch, TWIN_PATCH), copy of the section, twin_merge, twin_check_size(result)
 *   whole: twin_check(doc, TWIN_WHOLE), twin_check_size(doc)
 *
 * Ownership   trees stay the caller's.
 * Threads     as json.h.
 * Errors      E_ARG for every rule, info names the path and the rule. E_NOMEM from twin_merge.
 * Limits      LIMIT_TWIN_DEPTH, _KEY, _STRING, _SECTION, _TAGS.
 * Spec        docs/protocol/hub-mqtt.md 7.2; docs/protocol/hub-service-rest.md 9.2, 9.3.
 */
#ifndef WIRE_TWIN_H
#define WIRE_TWIN_H

#include "base/err.h"
#include "wire/json.h"

#define TWIN_INT_MIN (-INT64_C(4503599627370496))
#define TWIN_INT_MAX INT64_C(4503599627370495)

enum twin_form {
    TWIN_PATCH, /* null deletes */
    TWIN_WHOLE  /* no null anywhere */
};
/* Types, keys, depth, strings, integers. The members $version and $metadata of the root are passed
 * over (they are ignored); every other name with '$' is refused. */
MUST_USE enum err twin_check(const struct json *section, enum twin_form form,
                             struct err_info *info);
/* The size rule; $ members of the root are not counted. */
size_t twin_size(const struct json *section);
/* E_ARG when twin_size() is above max (LIMIT_TWIN_SECTION, LIMIT_TWIN_TAGS). */
MUST_USE enum err twin_check_size(const struct json *section, size_t max, struct err_info *info);
/* Merge patch into an object, without the $ members of the patch's root. */
MUST_USE enum err twin_merge(struct json *section, const struct json *patch);
/* Takes $version and $metadata off the root. */
void twin_strip(struct json *section);

#endif
