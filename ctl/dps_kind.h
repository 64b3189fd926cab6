/* SPDX-License-Identifier: Apache-2.0 */
/* Individual enrollments and groups: all in which their paths and bodies differ. */
#ifndef CTL_DPS_KIND_H
#define CTL_DPS_KIND_H

struct dps_kind {
    const char *path;      /* "/enrollments" */
    const char *member;    /* of a bulk request, and the source of a query */
    const char *id_member; /* "registrationId" */
};
static const struct dps_kind individuals = {"/enrollments", "enrollments", "registrationId"};
static const struct dps_kind groups = {"/enrollmentGroups", "enrollmentGroups",
                                       "enrollmentGroupId"};

#endif
