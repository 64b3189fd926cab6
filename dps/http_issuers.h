/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of /admin/certificateAuthorities share. Threads: the worker's, but for issuer_op_work. */
#ifndef DPS_HTTP_ISSUERS_H
#define DPS_HTTP_ISSUERS_H

#include "dps/http.h"
#include "dps/issuer.h"

#define CA_JSON_MAX (256u << 10)
extern const char *const issuer_kind_words[DESK_KINDS];
/* The resource as JSON. */
MUST_USE enum err http_issuer_add(struct buf *b, const struct issuer_row *row);
/* The path parameter, and folded in the arena; refuses rq itself and returns false when it is none. */
bool http_issuer_name(struct http_rq *rq, struct arena *a, struct span *ret_name,
                      struct span *ret_fold);
void http_issuer_put(struct http_rq *rq);
void http_issuer_delete(struct http_rq *rq);

#endif
