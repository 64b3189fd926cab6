/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked ring. A node that was never added or was deleted has next == NULL. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>

#include "base/cdefs.h"

struct list {
    struct list *next;
    struct list *prev;
};
static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}
static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}
static inline bool list_linked(const struct list *n)
{
    return n->next != NULL;
}
static inline void list_add_tail(struct list *head, struct list *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}
static inline void list_del(struct list *n)
{
    if (n->next != NULL) {
        n->prev->next = n->next;
        n->next->prev = n->prev;
        n->next = n->prev = NULL;
    }
}
/* First node taken off, or NULL. */
static inline struct list *list_pop(struct list *head)
{
    struct list *n = head->next;
    if (n == head) {
        return NULL;
    }
    list_del(n);
    return n;
}
#define LIST_OF(n, type, member) CONTAINER_OF(n, type, member)
#define LIST_EACH(n, head) for (struct list *n = (head)->next; n != (head); n = n->next)
#define LIST_EACH_SAFE(n, tmp, head)                                                               \
    for (struct list *n = (head)->next, *tmp = n->next; n != (head); n = tmp, tmp = n->next)

#endif
