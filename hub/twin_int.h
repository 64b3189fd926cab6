/* SPDX-License-Identifier: Apache-2.0 */
/* Insides of twins, shared by twin.c, twin_write.c, twin_doc.c and provision.c. */
#ifndef HUB_TWIN_INT_H
#define HUB_TWIN_INT_H

#include "hub/twin.h"
#include "hub/work.h"
#include "wire/json.h"

/* --- twin_doc.c: pure functions on sections ------------------------------------------------- */
struct twin_stamp {
    int64_t at_us;
    uint64_t version; /* 0: none, as in reported */
};
/* As created. Texts in the arena. */
MUST_USE enum err twin_section_fresh(struct arena *a, int64_t created_us, struct twin_section *ret);
/* What `from` becomes by a checked patch (version + 1). E_ARG: over the size rule. Texts in the arena. */
MUST_USE enum err twin_section_merge(struct arena *a, const struct twin_section *from,
                                     const struct json *patch, struct twin_stamp at,
                                     struct twin_section *ret, struct err_info *info);
/* What it becomes by a checked whole (NULL: {}). */
MUST_USE enum err twin_section_replace(struct arena *a, const struct json *whole, uint64_t version,
                                       struct twin_stamp at, struct twin_section *ret,
                                       struct err_info *info);
MUST_USE enum err twin_tags_merge(struct arena *a, struct span from, const struct json *patch,
                                  struct span *ret, struct err_info *info);
MUST_USE enum err twin_tags_replace(struct arena *a, const struct json *whole, struct span *ret,
                                    struct err_info *info);
/* Appends {members...,"$metadata":{...},"$version":n}. */
MUST_USE enum err twin_section_add(struct buf *b, const struct twin_section *s);
/* Appends object text with "$version" as its last member. */
void twin_add_versioned(struct buf *b, struct span object, uint64_t version);
/* A patch that deletes every member of the object text. Caller frees. */
MUST_USE enum err twin_clearing_patch(struct span object, struct json **ret);

/* --- reading on any connection ---------------------------------------------------------------- */
MUST_USE enum err twin_read(struct db *db, struct arena *a, int64_t identity, int64_t created_us,
                            struct twin *ret);

/* --- desired changes ---------------------------------------------------------------------------- */
/* Made while preparing, owned by the work until the writer tells it. */
struct desired_notice;
/* object: text of patch or content. */
MUST_USE enum err desired_notice_new(struct hub *h, struct span object, uint64_t version,
                                     struct desired_notice **ret);
/* Only what was not told. NULL is fine. */
void desired_notice_free(struct desired_notice *n);
/* On the writer, inside the transaction that changes desired; from the commit on it is told and ends itself: *n becomes NULL then. */
void desired_notice_tx(struct store_tx *tx, struct desired_notice **n, int64_t identity);

#endif
