/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "hub/streams_int.h"
#include "server/audit.h"

/* Opening and closing change nothing on disk, so each line is an operation of its own. */
struct audit_op {
    struct store_op op;
    char who[LIMIT_ADMIN_NAME + 1];
    char act[STREAM_ACT];
    char result[160];
};

static enum err run_tx(struct store_tx *tx, struct store_op *op)
{
    struct audit_op *a = CONTAINER_OF(op, struct audit_op, op);
    const struct audit_entry entry = {span_str(a->who), SPAN_LIT("gateway"), span_str(a->act),
                                      span_str(a->result)};
    return audit_tx_add(tx, &entry);
}

/* On the writer. */
static void run_home(struct msg *m)
{
    struct audit_op *a = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct audit_op, op);
    if (a->op.result != OK) {
        LOG_ERROR("hub.stream.audit_failed", L_STR("who", a->who), L_STR("act", a->act),
                  L_ERR(a->op.result));
    }
    free(a);
}

void stream_audit(struct worker *w, const char *who, const char *act, const char *result)
{
    struct audit_op *a = NEW(struct audit_op);
    enum err e = E_NOMEM;
    if (a != NULL) {
        (void)snprintf(a->who, sizeof(a->who), "%s", who);
        (void)snprintf(a->act, sizeof(a->act), "%s", act);
        (void)snprintf(a->result, sizeof(a->result), "%s", result);
        a->op.tx = run_tx;
        a->op.msg.run = run_home;
        a->op.bytes = sizeof(*a);
        e = store_submit(server_store(worker_server(w)), &a->op);
    }
    if (e != OK) {
        LOG_ERROR("hub.stream.audit_failed", L_STR("who", who), L_STR("act", act), L_ERR(e));
        free(a);
    }
}
