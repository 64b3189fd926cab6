/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Twins: tags and desired properties written by services, reported ones by the device.
 *
 *   read       twin_get -> twin_to_json (service) or twin_properties_json (device)
 *   write      x_begin: parsed, checked, merged on the worker against the version it read; the writer compares and stores; done runs
 *              on the worker's loop, never inside begin. Changed meanwhile: prepared again, unseen, in the end on the writer itself, so
 *              that every write gets through.
 *   tell       after commit, in commit order, the writer posts a desired change to the worker that has the device's link; the hook
 *              of the session side encodes it there. Nothing is kept for a device that is away: it reads when it comes back.
 *
 * Versions    etag and version move on tags and desired; version and the section's own on reported. Service writes are compared by
 *             etag, device writes by the reported version, so the two never get in each other's way.
 * Stamps      section.meta mirrors the section: "$" of an object and the value of a leaf are "<us>" or "<us>.<version>". It becomes
 *             $metadata when a service asks.
 * Absent row  a twin never written is not stored: version 2, etag 1, both sections {} at version 1, stamped with the creation.
 * Limits      wire/twin.h; LIMIT_TWIN_BODY, LIMIT_TWIN_TEXT, LIMIT_TWIN_META.
 * Spec        docs/protocol/hub-service-rest.md 4.1, 9; docs/protocol/hub-mqtt.md 7.
 */
#ifndef HUB_TWIN_H
#define HUB_TWIN_H

#include "hub/registry.h"

struct twin_section {
    struct span json; /* object text without $ members */
    struct span meta;
    uint64_t version;
};
struct twin {
    int64_t identity;
    uint64_t etag;
    uint64_t version;
    struct span tags; /* p NULL: never written */
    struct twin_section desired, reported;
};

/* The stored row, or the twin as created. */
MUST_USE enum err twin_get(struct worker *w, struct arena *a, int64_t identity, int64_t created_us,
                           struct twin *ret);
/* The whole document of 9; with_model: api-version 2020-05-31-preview and later. */
MUST_USE enum err twin_to_json(struct worker *w, const struct device *d, const struct twin *t,
                               bool with_model, struct buf *ret);
#define TWIN_ETAG_SIZE 13u
void twin_etag_text(uint64_t etag, char dst[TWIN_ETAG_SIZE]);

/* --- the device's side ------------------------------------------------------------------------ */
/* {"desired":{..,"$version":4},"reported":{..,"$version":1}}: hub-mqtt.md 7.1. E_NOT_FOUND: the identity is gone. */
MUST_USE enum err twin_properties_json(struct worker *w, int64_t identity, struct buf *ret);
/* version: the reported section's new $version. info: why not. Both valid for the call. */
typedef void (*twin_done_fn)(void *user, uint64_t tag, enum err result, uint64_t version,
                             const struct err_info *info);
/* Merges body into reported. base (when has_base): the $version it must still have, else E_ETAG. Refused at once, done is not called:
 * E_JSON, E_UTF8, E_LIMIT, E_ARG, E_TOO_LARGE, E_BUSY... By done: E_ARG (size after the merge), E_ETAG, E_NOT_FOUND and E_DISABLED (the
 * identity is gone or disabled). Pass either to hub_mqtt_error. The body is not needed after the call. Reports of one link are stored
 * in the order of their begins as long as each is begun after the former is done; two under way at once may be stored in any order. */
MUST_USE enum err twin_report_begin(struct worker *w, int64_t identity, struct span body,
                                    bool has_base, uint64_t base, twin_done_fn done, void *user,
                                    uint64_t tag, struct err_info *info);
/* announced: the model id of this connect, decoded (empty: none; cut off after 256 bytes); stored when it is another than what the
 * row says (admitted.model_id). Nobody waits for it. */
void twin_note_model(struct worker *w, int64_t identity, struct span stored, struct span announced);
/* Set once, before the workers start. */
void twin_set_desired_hook(struct hub *h, hub_desired_fn fn);

/* --- the service's side ------------------------------------------------------------------------- */
/* d and t: as the transaction left them (NULL unless OK). */
typedef void (*twin_write_done_fn)(void *user, uint64_t tag, enum err result,
                                   const struct device *d, const struct twin *t,
                                   const struct err_info *info);
/* Of a device (module_id empty) or a module. PATCH merges, PUT (is_replace) replaces tags and desired. E_ARG, E_JSON... at once;
 * E_NOT_FOUND, E_ETAG by done. */
MUST_USE enum err twin_write_begin(struct worker *w, struct span id, struct span module_id,
                                   struct span body, bool is_replace, const struct match *match,
                                   twin_write_done_fn done, void *user, uint64_t tag,
                                   struct err_info *info);

#endif
