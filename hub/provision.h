/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that a provisioning service makes and keeps: rules of hub/http_provision.h, protocol-free.
 *
 * x_begin checks and prepares on the worker, the writer decides and stores in one transaction (identity, keys, twin, owner mark,
 * operation), done runs on the worker's loop, never inside begin; a failed begin does not call done.
 * Errors      E_OWNED: not this owner's. E_NOT_FOUND. Those of registry and twin writes.
 */
#ifndef HUB_PROVISION_H
#define HUB_PROVISION_H

#include "hub/registry.h"
#include "hub/twin.h"

struct provision_result {
    struct span id, generation_id;
    uint64_t etag;
    bool was_created;
    bool is_enabled, is_frozen;
};
/* r: NULL unless OK. */
typedef void (*provision_done_fn)(void *user, uint64_t tag, enum err result,
                                  const struct provision_result *r, const struct err_info *info);

/* body: the PUT's; taken over also on failure. */
MUST_USE enum err provision_put_begin(struct worker *w, struct span id, struct json *body,
                                      provision_done_fn done, void *user, uint64_t tag,
                                      struct err_info *info);
MUST_USE enum err provision_patch_begin(struct worker *w, struct span id, struct json *body,
                                        provision_done_fn done, void *user, uint64_t tag,
                                        struct err_info *info);
/* sequence 0: none. */
MUST_USE enum err provision_delete_begin(struct worker *w, struct span id, struct span owner,
                                         int64_t sequence, provision_done_fn done, void *user,
                                         uint64_t tag, struct err_info *info);
/* The GET's document. owner empty: any mark, but one there must be. */
MUST_USE enum err provision_read(struct worker *w, struct span id, struct span owner,
                                 struct buf *ret, struct err_info *info);

#endif
