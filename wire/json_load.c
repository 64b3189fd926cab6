/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdlib.h>

#include "base/cdefs.h"
#include "wire/json_jansson.h"

/*
 * jansson 2.14 loses count when memory ends inside its lexer: it writes behind a buffer, and where it does notice, says that the
 * text is at fault. So it never sees an allocation fail while it reads: what it holds is noted here, and freed for it.
 */
static _Thread_local struct load {
    bool is_on; /* jansson is reading */
    jmp_buf out;
    void **block;
    size_t n, cap;
} load; /* no automatic variable: those are not safe across longjmp */

static void make_room(void)
{
    if (load.n == load.cap) {
        size_t cap = load.cap != 0 ? load.cap * 2 : 64;
        void **more = realloc(load.block, cap * sizeof(*more));
        if (more == NULL) {
            longjmp(load.out, 1);
        }
        load.block = more;
        load.cap = cap;
    }
}

static void *block_new(size_t n)
{
    if (!load.is_on) {
        return malloc(n);
    }
    make_room();
    void *p = malloc(n);
    if (p == NULL) {
        longjmp(load.out, 1);
    }
    load.block[load.n++] = p;
    return p;
}

static void block_free(void *p)
{
    /* Mostly one of the last. */
    for (size_t i = load.is_on ? load.n : 0; i > 0; i--) {
        if (load.block[i - 1] == p) {
            load.block[i - 1] = load.block[--load.n];
            break;
        }
    }
    free(p);
}

static void end(void)
{
    free(load.block);
    load.block = NULL;
    load.n = load.cap = 0;
    load.is_on = false;
}

/* Before any thread: jansson keeps the two functions in plain variables. */
__attribute__((constructor)) static void take_over(void)
{
    json_set_alloc_funcs(block_new, block_free);
}

json_t *json_load_safe(struct span text, json_error_t *ret_why, bool *ret_no_memory)
{
    ASSERT(!load.is_on);
    if (setjmp(load.out) != 0) {
        for (size_t i = 0; i < load.n; i++) {
            free(load.block[i]);
        }
        end();
        *ret_no_memory = true;
        return NULL;
    }
    load.is_on = true;
    json_t *j = json_loadb(text.n > 0 ? (const char *)text.p : "", text.n,
                           JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, ret_why);
    end();
    *ret_no_memory = false;
    return j;
}
