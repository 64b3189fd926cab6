/* SPDX-License-Identifier: Apache-2.0 */
/* What the HTTP endpoints of the provisioning service share. */
#ifndef DPS_HTTP_H
#define DPS_HTTP_H

#include "dps/dps.h"
#include "dps/dps_sql.h"
#include "dps/enrollment.h"
#include "dps/rule.h"

/* docs/protocol/dps-device.md 1, 3: scope, id and form of the credential. */
MUST_USE enum err http_device_admit(struct http_rq *rq, struct err_info *info);
/* Of a route AUTH_DEVICE: what was found out about the device; NULL: nothing yet. */
struct verdict *http_device_verdict(struct http_rq *rq);
/* docs/protocol/dps-service-rest.md A1, A2: policy, right, api-version. */
MUST_USE enum err http_service_admit(struct http_rq *rq, struct err_info *info);
/* E_MEDIA for a body of another type than JSON. */
MUST_USE enum err http_want_json(const struct http_rq *rq, struct err_info *info);
/* If-Match of this plane. */
MUST_USE enum err http_enr_match(const struct http_rq *rq, struct enr_match *ret,
                                 struct err_info *info);
static inline enum dps_subject http_subject(enum enr_kind kind)
{
    return kind == ENR_GROUP ? ABOUT_GROUP : ABOUT_ENROLLMENT;
}

/* Of a route AUTH_DEVICE that was refused with e: kept for the administrator. */
void http_device_note(struct http_rq *rq, enum err e);

/* --- what administrators are told of one device: dps/http_refusal.c -------------------------------- */
struct group;
struct http_device_state {
    bool has_own, has_record, is_linked;
    struct enr_row own;
    struct reg_row reg;
    const struct group *
        group; /* of the record, when there is no enrollment of its own; borrowed from the snapshot */
};
MUST_USE enum err http_device_state_read(struct dps_worker *dw, struct arena *a, struct span fold,
                                         struct http_device_state *ret);
/* Members: enrollment, registration, hub. */
void http_device_state_add(struct buf *b, const struct http_device_state *st);
void http_add_enrollment(struct buf *b, const struct enr_row *e);
/* A rule's mending text with its facts (JSON members without braces) filled in. */
void http_add_mend(struct buf *b, enum rule r, struct span rid, struct span facts,
                   const char *scope);
/* A registration id, or REFUSAL_NO_ID. False: E_ARG, info says so. */
bool http_any_id(struct span rid, char fold_text[LIMIT_ID + 1], struct span *ret_fold,
                 struct err_info *info);

/* --- the administration plane: dps/http_admin.c has the routes ------------------------------------- */
/* The path parameter as a host name, folded; refuses rq itself and returns false when it is none. */
bool http_hub_name(struct http_rq *rq, struct span *ret);
void http_dependents(struct http_rq *rq);
void http_link_test(struct http_rq *rq);
void http_hub_state(struct http_rq *rq);
void http_revoke(struct http_rq *rq);
void http_revocation(struct http_rq *rq);
void http_webhook_keys(struct http_rq *rq);
void http_settings_get(struct http_rq *rq);
void http_settings_put(struct http_rq *rq);

#endif
