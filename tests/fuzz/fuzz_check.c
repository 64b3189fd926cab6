/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The body of POST /admin/check: chain, token, endorsement key and payload of a unit that need not exist. The file itself is compiled in,
 * for its reader is its own.
 */
#include "dps/http_check.c"

#include "tests/fuzz/fuzz.h"

/* What is written of it is JSON, whatever rule refuses. */
static void answers(struct check *c)
{
    for (unsigned rule = RULE_OK + 1; rule < RULES; rule++) {
        AUTO(buf_done) struct buf b = BUF_INIT(CHECK_ANSWER_MAX);
        AUTO(json_free_p) struct json *j = NULL;
        c->v = (struct verdict){.rule = RULE_OK, .kept = UINT64_MAX};
        (void)verdict_refuse(&c->v, (enum rule)rule, "of '%.*s'", SPAN_ARG(c->rid));
        buf_add_str(&b, "{\"x\":1");
        add_checks(&b, c, "0ne0");
        buf_add_u8(&b, '}');
        ASSERT(buf_err(&b) == OK && json_read_object(buf_span(&b), SIZE_MAX, &j, NULL) == OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    if (json_read_object(span_of(data, size), LIMIT_DPS_BODY, &body, NULL) != OK) {
        return 0;
    }
    struct check *c = NEW(struct check);
    ASSERT(c != NULL);
    c->arena = (struct arena)ARENA_INIT(CHECK_ARENA);
    if (read_check(c, body, &info) == OK) {
        ASSERT(id_registration_ok(c->rid) && c->fold.n == c->rid.n);
        for (size_t i = 0; i < c->fold.n; i++) {
            ASSERT(c->fold.p[i] < 'A' || c->fold.p[i] > 'Z');
        }
        ASSERT(c->n_certs <= ARRAY_LEN(c->cert));
        ASSERT(c->cred.peer.n_chain == (c->n_certs == 0 ? 0 : c->n_certs - 1));
        fuzz_touch(c->cred.peer.leaf_der);
        for (size_t i = 0; i < c->cred.peer.n_chain; i++) {
            fuzz_touch(c->cred.peer.chain_der[i]);
        }
        fuzz_touch(c->show.ek);
        fuzz_touch(c->payload);
        answers(c);
    } else {
        ASSERT(info.why[0] != 0 || c->arena.used > 0);
    }
    check_free(c);
    return 0;
}
