/* SPDX-License-Identifier: Apache-2.0 */
/* GET /admin/certificates/{name}/dependents: docs/protocol/dps-service-rest.md C2 (Berth extension). */
#include <stdlib.h>

#include "base/text.h"
#include "dps/dependents.h"
#include "dps/http.h"
#include "server/admin.h"

#define ANSWER_MAX (2u << 20)
#define DEADLINE_MS 10000u

struct ask {
    struct store_scan scan;
    struct dps_worker *dw;
    handle rq;
    char name[LIMIT_ADMIN_NAME + 1];
    char after[LIMIT_ID + 1];
    struct dependents_page page;
    struct buf out;
};

static void ask_free(struct ask *k)
{
    buf_done(&k->out);
    free(k);
}

static enum err run(struct db *db, struct store_scan *scan)
{
    struct ask *k = CONTAINER_OF(scan, struct ask, scan);
    return dependents_read(db, span_str(k->name), &k->page, &k->out);
}

static void home(struct msg *m)
{
    struct ask *k = CONTAINER_OF(CONTAINER_OF(m, struct store_scan, msg), struct ask, scan);
    struct http_rq *rq = http_rq_of(worker_loop(k->dw->w), k->rq);
    enum err e = k->scan.result;
    k->dw->n_pending--;
    if (rq != NULL && e != OK) {
        admin_refuse(rq, e == E_TIMEOUT ? E_BUSY : e, NULL);
    } else if (rq != NULL) {
        admin_answer_json(rq, 200, 0, NULL, buf_span(&k->out));
    }
    ask_free(k);
}

/* "12.dev-1": the enrollment and the id behind which the page begins. */
static bool read_after(struct http_rq *rq, struct ask *k)
{
    bool found;
    uint64_t enrollment;
    struct span rest = http_rq_query(rq, "after", &found);
    if (!found) {
        return true;
    }
    struct span number = span_cut(&rest, '.');
    k->page.after_fold = span_str(k->after);
    if (!span_to_u64(number, &enrollment) || enrollment > INT64_MAX ||
        !span_to_cstr(rest, k->after, sizeof(k->after))) {
        return false;
    }
    k->page.after_fold = span_str(k->after);
    k->page.after_enrollment = (int64_t)enrollment;
    return true;
}

void http_dependents(struct http_rq *rq)
{
    struct err_info info = {0};
    struct span name;
    struct admin_page page;
    if (!admin_name(rq, 0, &name) || !admin_page_read(rq, &page)) {
        return;
    }
    struct ask *k = NEW(struct ask);
    enum err e = k != NULL ? OK : E_NOMEM;
    if (e == OK) {
        k->dw = dps_worker_of(worker_of_rq(rq));
        k->rq = http_rq_handle(rq);
        k->out = (struct buf)BUF_INIT(ANSWER_MAX);
        k->page = (struct dependents_page){.top = MIN(page.top, LIMIT_DEPENDENTS_PAGE)};
        (void)span_to_cstr(name, k->name, sizeof(k->name)); /* admin_name bounds it */
        k->scan = (struct store_scan){.home = loop_mailbox(worker_loop(k->dw->w)), .run = run};
        k->scan.msg.run = home;
        k->scan.deadline_ms = clock_mono_ms(server_clock(k->dw->dps->server)) + DEADLINE_MS;
        e = !read_after(rq, k) ? err_set(&info, E_ARG, "after is not of this list")
                               : store_scan(server_store(k->dw->dps->server), &k->scan);
    }
    if (e == OK) {
        k->dw->n_pending++;
        return;
    }
    admin_refuse(rq, e, &info);
    if (k != NULL) {
        ask_free(k);
    }
}
