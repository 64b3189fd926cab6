/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file: read, dumped, read again; the same bytes as an override of the command line. */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/conf.h"

struct all {
    char *text, *path, *list;
    uint64_t number;
    bool flag;
};
#define C(m) offsetof(struct all, m)
/* clang-format off */
static const struct conf_row rows[] = {
    { "one", "text",   CONF_STR,  C(text),   0, 40,   "x",  "A text." },
    { "one", "path",   CONF_PATH, C(path),   0, 0,    NULL, "A path." },
    { "one", "list",   CONF_LIST, C(list),   0, 0,    NULL, "A list." },
    { "two", "number", CONF_U64,  C(number), 1, 4096, "7",  "A number." },
    { "two", "flag",   CONF_BOOL, C(flag),   0, 0,    "no", "A choice." },
    { "peer *", "url", CONF_STR,  0,         0, 0,    NULL, "One of many." },
};
/* clang-format on */

static char file[] = "/tmp/berth-fuzz-conf-XXXXXX";

static void remove_file(void)
{
    (void)unlink(file);
}

static void put(struct span s)
{
    static int fd = -1;
    if (fd < 0) {
        fd = mkstemp(file);
        ASSERT(fd >= 0);
        (void)atexit(remove_file);
    }
    ASSERT(ftruncate(fd, 0) == 0 && pwrite(fd, s.p, s.n, 0) == (ssize_t)s.n);
}

static enum err each(void *arg, const char *section, const char *name, const char *value,
                     struct err_info *info)
{
    (void)arg;
    (void)info;
    ASSERT(strncmp(section, "peer ", 5) == 0 && strcmp(name, "url") == 0 && value != NULL);
    return OK;
}

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* A dump holds what was read; libinih's lines are bounded, so that a long value may not come back. */
static void again(const struct all *v)
{
    char *text = NULL;
    size_t n = 0;
    struct all w = {0};
    struct err_info info = {0};
    FILE *f = open_memstream(&text, &n);
    ASSERT(f != NULL);
    conf_dump(rows, ARRAY_LEN(rows), v, f);
    (void)fclose(f);
    bool is_short =
        (v->path == NULL || strlen(v->path) < 100) && (v->list == NULL || strlen(v->list) < 100);
    put(span_of(text, n));
    if (is_short) {
        ASSERT(conf_load(rows, ARRAY_LEN(rows), file, &w, NULL, NULL, &info) == OK);
        ASSERT(same(v->text, w.text) && same(v->path, w.path) && same(v->list, w.list));
        ASSERT(v->number == w.number && v->flag == w.flag);
        conf_done(rows, ARRAY_LEN(rows), &w);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct all v = {0};
    struct err_info info = {0};
    put(span_of(data, n));
    if (conf_load(rows, ARRAY_LEN(rows), file, &v, each, NULL, &info) == OK) {
        ASSERT(v.number >= 1 && v.number <= 4096);
        ASSERT(v.text == NULL || strlen(v.text) <= 40);
        again(&v);
    } else {
        ASSERT(info.why[0] != '\0'); /* says where */
    }
    char *assign = span_dup(span_sub(span_of(data, n), 0, MIN(n, (size_t)512)));
    ASSERT(assign != NULL);
    (void)!conf_set(rows, ARRAY_LEN(rows), &v, assign, &info); /* any answer is fine */
    free(assign);
    conf_done(rows, ARRAY_LEN(rows), &v);
    return 0;
}
