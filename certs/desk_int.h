/* SPDX-License-Identifier: Apache-2.0 */
/* What the two desks share: docs in certs/desk.h. */
#ifndef CERTS_DESK_INT_H
#define CERTS_DESK_INT_H

#include "base/limits.h"
#include "certs/desk.h"

#define DESK_SOURCE_MAX (SEAL_BLOB_MAX + SEAL_OVERHEAD)

struct desk {
    enum err (*make)(struct desk *d, const struct desk_make *rq, struct desk_made *ret,
                     struct err_info *info);
    enum err (*issue)(struct desk *d, const struct desk_issue *rq, struct cert **ret,
                      struct err_info *info);
    void (*end)(struct desk *d);
};
#define DESK_MADE_INIT                                                                             \
    {                                                                                              \
        BUF_INIT(DESK_SOURCE_MAX), BUF_INIT(LIMIT_CERT_DER), BUF_INIT(LIMIT_CERT_DER)              \
    }

#endif
