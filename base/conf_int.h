/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One value of the configuration, between its text and the program's struct. Only for conf*.c.
 *
 * Ownership   conf_value_done() frees the text; conf_apply() moves it into the struct.
 * Threads     as conf.h.
 */
#ifndef BASE_CONF_INT_H
#define BASE_CONF_INT_H

#include "base/conf.h"

/* One option before it is applied. */
struct conf_value {
    char *text; /* CONF_STR, CONF_PATH, CONF_LIST; NULL: none */
    uint64_t number;
    bool flag;
    bool is_given; /* by the file, not by the default */
};

void conf_value_done(struct conf_value *v);
/* Replaces *ret. Blanks around s do not count; dir (NULL: none) is where a relative path begins and
 * ends with a slash. */
MUST_USE enum err conf_parse(const struct conf_row *row, struct span s, const char *dir,
                             struct conf_value *ret, struct err_info *info);
/* Frees what is in the struct and moves v there. */
void conf_apply(const struct conf_row *row, struct conf_value *v, void *into);
/* E_NOMEM with its text. */
enum err conf_no_memory(struct err_info *info);

#endif
