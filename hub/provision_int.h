/* SPDX-License-Identifier: Apache-2.0 */
/* Insides of provisioning, shared by provision.c and provision_put.c. */
#ifndef HUB_PROVISION_INT_H
#define HUB_PROVISION_INT_H

#include "hub/hub_sql.h"
#include "hub/provision.h"
#include "hub/work.h"

struct ticket {
    provision_done_fn done;
    void *user;
    uint64_t tag;
    struct provision_result result;
};
struct intent {
    struct span id, operation, owner;
    bool may_adopt;
    int64_t sequence; /* 0: none */
};

void provision_tell(struct ticket *t, enum err e, const struct err_info *info);
/* The three refusals, worded. */
enum err provision_no_memory(struct err_info *info);
enum err provision_not_ours(struct err_info *info, struct span id);
enum err provision_not_there(struct err_info *info, struct span id);
/* "<idScope>/individual|group/<enrollment id>" */
bool provision_is_owner(struct span s);
/* operationId and owner of a body; id is the path's. */
MUST_USE enum err provision_read_intent(const struct json *body, struct span id, struct intent *ret,
                                        struct err_info *info);
void provision_set_result(struct ticket *t, const struct device *d, const struct device_op *op);
/* Owner mark and adoption: the rule of the PUT. E_OWNED. */
MUST_USE enum err provision_may_take(struct work *k, const struct device *row,
                                     const struct intent *in);
/* Was this operation the last one on the device? Then its answer stands. E_ETAG: a later one was (sequence). */
MUST_USE enum err provision_tx_repeat(struct store_tx *tx, struct work *k, const struct device *row,
                                      const struct intent *in, struct ticket *t, bool *ret);
MUST_USE enum err provision_tx_keep(struct store_tx *tx, const struct device *row,
                                    const struct intent *in, struct ticket *t);
/* Disabled by a provisioning service while the device moves, and by nobody since. */
bool provision_is_frozen(const struct device *row);
void provision_thaw(struct store_tx *tx, struct device *row);

#endif
