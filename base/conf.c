/* SPDX-License-Identifier: Apache-2.0 */
#include "base/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include <ini.h>

#include "base/conf_int.h"
#include "base/fs.h"
#include "base/limits.h"

/* libinih cuts a longer section name without a word; ini.c MAX_SECTION is 50. */
#define SECTION_MAX 49u

struct load {
    const struct conf_row *rows;
    size_t n;
    struct conf_value *values;
    const char *path;
    char *dir; /* of path, NULL when path has none */
    conf_section_fn each_section;
    void *arg;
    bool is_calling; /* second pass: only each_section */
    struct span rest;
    unsigned line;
    enum err err;
    struct err_info *info;
};

/* --- rows ------------------------------------------------------------------------------------ */

static bool is_pattern(const struct conf_row *row)
{
    return span_ends(span_str(row->section), SPAN_LIT(" *"));
}

static bool is_in_section(const struct conf_row *row, struct span section)
{
    struct span s = span_str(row->section);
    if (!is_pattern(row)) {
        return span_eq(s, section);
    }
    return section.n >= s.n && span_starts(section, span_sub(s, 0, s.n - 1));
}

static bool has_section(const struct load *l, struct span section)
{
    for (size_t i = 0; i < l->n; i++) {
        if (is_in_section(&l->rows[i], section)) {
            return true;
        }
    }
    return false;
}

static const struct conf_row *find_row(const struct conf_row *rows, size_t n, struct span section,
                                       struct span name)
{
    for (size_t i = 0; i < n; i++) {
        if (is_in_section(&rows[i], section) && span_is(name, rows[i].name)) {
            return &rows[i];
        }
    }
    return NULL;
}

/* --- the file -------------------------------------------------------------------------------- */

static void fail(struct load *l, enum err e)
{
    l->err = err_wrap(l->info, e, "%s:%u", l->path, l->line);
}

/* Checks what libinih would let pass: the name of a section that has no option in it. */
static void check_section(struct load *l, struct span line)
{
    struct span inside = span_from(line, 1);
    struct span section = span_cut(&inside, ']');
    if (inside.p == NULL) {
        fail(l, err_set(l->info, E_CONFIG, "section without \"]\""));
    } else if (section.n > SECTION_MAX) {
        fail(l, err_set(l->info, E_CONFIG, "section name over %u bytes", SECTION_MAX));
    } else if (!has_section(l, section)) {
        fail(l, err_set(l->info, E_CONFIG, "unknown section \"%.*s\"", SPAN_ARG(section)));
    }
}

/* Gives libinih one line, as fgets would. It is trimmed: an indented line would else be taken for
 * more of the option before. */
static char *next_line(char *dst, int size, void *stream)
{
    struct load *l = stream;
    if (l->rest.n == 0 || l->err != OK) {
        return NULL;
    }
    l->line++;
    struct span line = span_cut(&l->rest, '\n');
    if (line.n != 0 && line.p[line.n - 1] == '\r') {
        line.n--;
    }
    line = span_trim(line);
    if (l->line == 1 && span_starts(line, SPAN_LIT("\xef\xbb\xbf"))) {
        line = span_from(line, 3);
    }
    bool is_comment = line.n != 0 && (line.p[0] == '#' || line.p[0] == ';');
    if (is_comment) {
        line = SPAN_NONE;
    } else if (line.n != 0 && line.p[0] == '[') {
        check_section(l, line);
    }
    if (l->err == OK && (size < 3 || line.n > (size_t)size - 3)) {
        fail(l, err_set(l->info, E_CONFIG, "line over %d bytes", size - 3));
    }
    if (l->err != OK) {
        return NULL;
    }
    if (line.n != 0) {
        memcpy(dst, line.p, line.n);
    }
    dst[line.n] = '\n';
    dst[line.n + 1] = '\0';
    return dst;
}

/* A list may be given on several lines; anything else only once. */
static enum err add_given(const struct load *l, const struct conf_row *row, struct span text)
{
    struct conf_value *v = &l->values[row - l->rows];
    if (!v->is_given) {
        return conf_parse(row, text, l->dir, v, l->info);
    }
    if (row->type != CONF_LIST || v->text == NULL) {
        return err_set(l->info, E_CONFIG, "\"%s\" is given twice", row->name);
    }
    AUTO(buf_done) struct buf both = BUF_INIT(LIMIT_CONF_FILE);
    buf_addf(&both, "%s,", v->text);
    buf_add(&both, text);
    if (buf_err(&both) != OK) {
        return err_set(l->info, buf_err(&both), "%s", err_text(buf_err(&both)));
    }
    return conf_parse(row, buf_span(&both), l->dir, v, l->info);
}

/* An option of a section that the program keeps itself: checked in the first pass, handed over in
 * the second, so that nothing is handed over from a file that is not good. */
static enum err take_foreign(const struct load *l, const struct conf_row *row, const char *section,
                             const char *text)
{
    if (!l->is_calling) {
        AUTO(conf_value_done) struct conf_value v = {0};
        return conf_parse(row, span_str(text), l->dir, &v, l->info);
    }
    return l->each_section != NULL ? l->each_section(l->arg, section, row->name, text, l->info)
                                   : OK;
}

static int on_option(void *user, const char *section, const char *name, const char *text)
{
    struct load *l = user;
    if (l->err != OK) {
        return 1;
    }
    const struct conf_row *row = find_row(l->rows, l->n, span_str(section), span_str(name));
    enum err e = OK;
    if (row == NULL) {
        e = err_set(l->info, E_CONFIG, "unknown option \"%s\" in section \"%s\"", name, section);
    } else if (is_pattern(row)) {
        e = take_foreign(l, row, section, text);
    } else if (!l->is_calling) {
        e = add_given(l, row, span_str(text));
    }
    if (e != OK) {
        fail(l, e);
    }
    return 1;
}

static enum err run_pass(struct load *l, struct span content, bool is_calling)
{
    l->rest = content;
    l->line = 0;
    l->is_calling = is_calling;
    int fault = ini_parse_stream(next_line, l, on_option, l);
    if (l->err == OK && fault > 0) {
        l->line = (unsigned)fault;
        fail(l, err_set(l->info, E_CONFIG, "neither [section] nor name = value"));
    } else if (l->err == OK && fault < 0) {
        l->err = conf_no_memory(l->info);
    }
    return l->err;
}

/* Symbolic links are fine here: /etc is the administrator's. */
static enum err read_file(const char *path, struct buf *ret, struct err_info *info)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return err_set_errno(info, errno, "could not open \"%s\"", path);
    }
    enum err e = fs_read_fd(fd, path, ret, info);
    (void)close(fd); /* it was only read */
    if (e == E_TOO_LARGE) {
        return err_wrap(info, E_CONFIG, "configuration");
    }
    if (e == OK && !span_is_utf8(buf_span(ret))) {
        return err_set(info, E_CONFIG, "\"%s\" is not UTF-8 text", path);
    }
    return e;
}

static enum err load_file(struct load *l)
{
    AUTO(buf_done) struct buf content = BUF_INIT(LIMIT_CONF_FILE);
    enum err e = read_file(l->path, &content, l->info);
    if (e != OK) {
        return e;
    }
    const char *slash = strrchr(l->path, '/');
    if (slash != NULL) {
        /* with its slash, so that the root keeps one */
        l->dir = span_dup(span_of(l->path, (size_t)(slash - l->path) + 1));
        if (l->dir == NULL) {
            return conf_no_memory(l->info);
        }
    }
    if ((e = run_pass(l, buf_span(&content), false)) != OK) {
        return e;
    }
    return run_pass(l, buf_span(&content), true);
}

static enum err load_defaults(struct load *l)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct conf_row *row = &l->rows[i];
        if (is_pattern(row) || row->dflt == NULL || l->values[i].is_given) {
            continue;
        }
        enum err e = conf_parse(row, span_str(row->dflt), l->dir, &l->values[i], l->info);
        ASSERT(e == OK || e == E_NOMEM); /* a default that the table itself refuses */
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static void load_done(struct load *l)
{
    for (size_t i = 0; l->values != NULL && i < l->n; i++) {
        conf_value_done(&l->values[i]);
    }
    free(l->values);
    free(l->dir);
}

enum err conf_load(const struct conf_row *rows, size_t n, const char *path, void *into,
                   conf_section_fn each_section, void *arg, struct err_info *info)
{
    AUTO(load_done)
    struct load l = {
        .rows = rows,
        .n = n,
        .path = path,
        .each_section = each_section,
        .arg = arg,
        .info = info,
    };
    enum err e;
    l.values = mem_new(n * sizeof(*l.values));
    if (l.values == NULL) {
        return conf_no_memory(info);
    }
    if (path != NULL && (e = load_file(&l)) != OK) {
        return e;
    }
    if ((e = load_defaults(&l)) != OK) {
        return e;
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_pattern(&rows[i])) {
            conf_apply(&rows[i], &l.values[i], into);
        }
    }
    return OK;
}

/* --- one by one ------------------------------------------------------------------------------ */

static bool is_named(const struct conf_row *row, struct span full)
{
    struct span section = span_str(row->section);
    return full.n > section.n && full.p[section.n] == '.' && span_starts(full, section) &&
           span_is(span_from(full, section.n + 1), row->name);
}

enum err conf_set(const struct conf_row *rows, size_t n, void *into, const char *assign,
                  struct err_info *info)
{
    struct span rest = span_str(assign);
    struct span full = span_trim(span_cut(&rest, '='));
    if (rest.p == NULL) {
        return err_set(info, E_CONFIG, "\"%s\" is not section.name=value", assign);
    }
    for (size_t i = 0; i < n; i++) {
        if (is_pattern(&rows[i]) || !is_named(&rows[i], full)) {
            continue;
        }
        AUTO(conf_value_done) struct conf_value v = {0};
        enum err e = conf_parse(&rows[i], rest, NULL, &v, info);
        if (e == OK) {
            conf_apply(&rows[i], &v, into);
        }
        return e;
    }
    return err_set(info, E_CONFIG, "unknown option \"%.*s\"", SPAN_ARG(full));
}

void conf_done(const struct conf_row *rows, size_t n, void *into)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_pattern(&rows[i])) {
            struct conf_value none = {0};
            conf_apply(&rows[i], &none, into);
        }
    }
}

static void dump_value(const struct conf_row *row, const void *from, FILE *out)
{
    const void *at = (const char *)from + row->offset;
    const char *text;
    switch (row->type) {
    case CONF_STR:
    case CONF_PATH:
    case CONF_LIST:
        text = *(const char *const *)at;
        /* A default stands behind a name that is not there: an empty one says "none". */
        fprintf(out, "%s%s =%s%s\n", text == NULL && row->dflt == NULL ? "#" : "", row->name,
                text != NULL ? " " : "", text != NULL ? text : "");
        break;
    case CONF_U64:
        fprintf(out, "%s = %" PRIu64 "\n", row->name, *(const uint64_t *)at);
        break;
    case CONF_BOOL:
        fprintf(out, "%s = %s\n", row->name, *(const bool *)at ? "yes" : "no");
        break;
    }
}

void conf_dump(const struct conf_row *rows, size_t n, const void *from, FILE *out)
{
    const char *section = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct conf_row *row = &rows[i];
        const char *mark = is_pattern(row) ? "#" : "";
        if (section == NULL || strcmp(section, row->section) != 0) {
            fprintf(out, "%s%s[%s]\n", section != NULL ? "\n" : "", mark, row->section);
            section = row->section;
        }
        fprintf(out, "# %s", row->help);
        if (row->dflt != NULL) {
            fprintf(out, " Default: %s", row->dflt);
        }
        fputc('\n', out);
        if (is_pattern(row)) {
            fprintf(out, "#%s =\n", row->name);
        } else {
            dump_value(row, from, out);
        }
    }
}
