/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration files (INI by libinih) read through one table per program: a row per option gives
 * section, name, type, bounds, default and help, from which come parsing, `--check-config`,
 * `--dump-config` and the man page's list.
 *
 * Errors      E_CONFIG with file and line: unknown section or name, bad value, out of bounds,
 *             over LIMIT_CONF_FILE bytes. Nothing is applied unless the whole file is good.
 * Ownership   strings written into the caller's struct are heap; conf_done() frees them.
 * Values      an empty text, path or list is none (NULL). An option is given once; a list may be
 *             given on several lines, which add up. For texts min..max bound the bytes. max 0: no
 *             bound. conf_set() takes a relative path as it is.
 * Limits      LIMIT_CONF_FILE; a line as long as libinih was built for (about 200 bytes).
 * Threads     main, at start and at reload.
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include <stdio.h>

#include "base/err.h"
#include "base/span.h"

enum conf_type {
    CONF_STR,  /* char *, heap */
    CONF_PATH, /* char *, heap; must be absolute or relative to the file's folder */
    CONF_U64,  /* uint64_t within min..max; suffixes k, M, G (1024) allowed */
    CONF_BOOL, /* bool: yes/no/true/false/on/off */
    CONF_LIST, /* char *, heap: comma separated, blanks trimmed; split with span_cut */
};

struct conf_row {
    const char *section;
    const char *name;
    enum conf_type type;
    size_t offset; /* into the program's struct */
    uint64_t min, max;
    const char *dflt; /* NULL: none, the value stays NULL or 0 */
    const char *help; /* one sentence */
};

/* Defaults first, then the file (path NULL: defaults only). A section named "x *" in the table
 * stands for sections "x anything" and is not stored here: its options are checked against their
 * rows and, once the whole file is good, go to each_section when given (what that stored before it
 * failed is for the caller to drop). into is zeroed or was loaded before; its old texts are freed. */
typedef enum err (*conf_section_fn)(void *arg, const char *section, const char *name,
                                    const char *value, struct err_info *info);
MUST_USE enum err conf_load(const struct conf_row *rows, size_t n, const char *path, void *into,
                            conf_section_fn each_section, void *arg, struct err_info *info);
/* One override, as from the command line: "section.name=value". */
MUST_USE enum err conf_set(const struct conf_row *rows, size_t n, void *into, const char *assign,
                           struct err_info *info);
void conf_done(const struct conf_row *rows, size_t n, void *into);
/* Writes a commented file with the present values. */
void conf_dump(const struct conf_row *rows, size_t n, const void *from, FILE *out);

#endif
