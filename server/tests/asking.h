/* SPDX-License-Identifier: Apache-2.0 */
/* One running instance for a whole test program, and short ways to ask its administration plane. */
#ifndef SERVER_TESTS_ASKING_H
#define SERVER_TESTS_ASKING_H

#include "server/tests/fixture.h"

#define V "api-version=2026-11-01-berth"

extern struct fix fx;
extern char owner[512];    /* token of the administrator */
extern struct answer last; /* of the latest request */

int asking_setup(void **state);
int asking_teardown(void **state);
void ask(const struct ask *q);
/* code 0: any. */
void expect(const char *what, long status, unsigned code);
/* As the owner: path below /admin/, with or without a query. */
void admin(const char *method, const char *path, const char *if_match, const char *body,
           long status, unsigned code);
bool body_has(const char *text);
void member(const char *path, char *dst, size_t n);
/* Until path answers text: what another worker does after a commit. */
void wait_body(const char *path, const char *text);

#endif
