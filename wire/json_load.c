/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdlib.h>

#include "base/cdefs.h"
#include "base/list.h"
#include "wire/json_jansson.h"

/*
 * jansson 2.14 loses count when memory ends inside its lexer: it writes behind a buffer, and where it does notice, says that the
 * text is at fault. So it never sees an allocation fail while it reads: what it holds is on a list here, and freed for it. Each block
 * carries its list node in front, so that taking one off costs the same however many there are.
 */
struct block {
    _Alignas(max_align_t) struct list link; /* not linked: no load is under way */
    _Alignas(max_align_t) char bytes[];
};

static _Thread_local struct load {
    bool is_on; /* jansson is reading */
    jmp_buf out;
    struct list blocks;
} load; /* no automatic variable: those are not safe across longjmp */

static void *block_new(size_t n)
{
    struct block *b = n <= SIZE_MAX - sizeof(*b) ? malloc(sizeof(*b) + n) : NULL;
    if (b == NULL) {
        if (load.is_on) {
            longjmp(load.out, 1);
        }
        return NULL;
    }
    b->link = (struct list){NULL, NULL};
    if (load.is_on) {
        list_add_tail(&load.blocks, &b->link);
    }
    return b->bytes;
}

static void block_free(void *p)
{
    if (p != NULL) {
        struct block *b = CONTAINER_OF(p, struct block, bytes);
        list_del(&b->link);
        free(b);
    }
}

/* Before any thread: jansson keeps the two functions in plain variables. */
__attribute__((constructor)) static void take_over(void)
{
    json_set_alloc_funcs(block_new, block_free);
}

json_t *json_load_safe(struct span text, json_error_t *ret_why, bool *ret_no_memory)
{
    struct list *n;
    ASSERT(!load.is_on);
    list_init(&load.blocks);
    if (setjmp(load.out) != 0) {
        load.is_on = false;
        while ((n = list_pop(&load.blocks)) != NULL) {
            free(LIST_OF(n, struct block, link));
        }
        *ret_no_memory = true;
        return NULL;
    }
    load.is_on = true;
    json_t *j = json_loadb(text.n > 0 ? (const char *)text.p : "", text.n,
                           JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, ret_why);
    load.is_on = false;
    while (list_pop(&load.blocks) != NULL) {
        /* what is left belongs to the tree from now on */
    }
    *ret_no_memory = false;
    return j;
}
