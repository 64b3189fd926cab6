/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds a fuzz target with its corpus: the files given, or those of $srcdir/tests/fuzz/corpus/<x>/
 * for a program named fuzz_<x>. Each file is fed whole and cut at every length. An empty corpus is
 * a failure.
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX (1u << 20)
#define CUTS_MAX 2048u /* longer files are only fed whole */

static void feed(const uint8_t *p, size_t n)
{
    uint8_t *exact = malloc(n > 0 ? n : 1); /* of its own, so that one byte too far is seen */
    ASSERT(exact != NULL);
    if (n > 0) {
        memcpy(exact, p, n);
    }
    (void)!LLVMFuzzerTestOneInput(exact, n); /* always 0 */
    free(exact);
}

static int replay(const char *path)
{
    static uint8_t bytes[FILE_MAX];
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    size_t n = fread(bytes, 1, sizeof(bytes), f);
    (void)fclose(f);
    printf("%s: %zu bytes\n", path, n);
    (void)fflush(stdout); /* the file is named when the next line crashes */
    feed(bytes, n);
    for (size_t cut = 0; n <= CUTS_MAX && cut < n; cut++) {
        feed(bytes, cut);
    }
    return 0;
}

static int replay_dir(const char *dir, size_t *count)
{
    DIR *d = opendir(dir);
    if (d == NULL) {
        perror(dir);
        return 1;
    }
    int rc = 0;
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        char path[4096];
        int n = snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.' && n > 0 && (size_t)n < sizeof(path)) {
            rc |= replay(path);
            (*count)++;
        }
    }
    (void)closedir(d);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = 0;
    for (int i = 1; i < argc; i++) {
        rc |= replay(argv[i]);
    }
    if (argc > 1) {
        return rc;
    }
    const char *srcdir = getenv("srcdir");
    const char *name = strrchr(argv[0], '/');
    name = name != NULL ? name + 1 : argv[0];
    if (strncmp(name, "fuzz_", 5) != 0) {
        (void)fprintf(stderr, "%s: the name is not fuzz_<corpus>\n", name);
        return 99;
    }
    char dir[4096];
    size_t count = 0;
    (void)snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%s", srcdir != NULL ? srcdir : ".",
                   name + 5);
    rc = replay_dir(dir, &count);
    if (count == 0) {
        (void)fprintf(stderr, "%s: no file in it\n", dir);
        return 99;
    }
    return rc;
}
