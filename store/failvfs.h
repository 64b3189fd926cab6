/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SQLite VFS for tests: the system's, but some calls fail as told.
 *
 *   failvfs_arm(FAIL_SYNC, SQLITE_IOERR_FSYNC, 3, 1): the third sync from now fails, once
 *
 * Threads     any; one plan for the process.
 */
#ifndef STORE_FAILVFS_H
#define STORE_FAILVFS_H

#include <stdbool.h>

#define FAILVFS_NAME "berth-fail"

enum {
    FAIL_WRITE = 1, /* nothing is written */
    FAIL_TORN = 2,  /* half of it is written */
    FAIL_SYNC = 4,  /* what was written stays in the page cache */
    FAIL_TRUNCATE = 8,
    FAIL_OPEN = 16,
    FAIL_DB_ONLY = 64, /* with others: only of databases, that is, while checkpointing */
    FAIL_LATE = 32,    /* all of it is written, and then it is said to have failed */
};

/* Registers it; once for the process. */
void failvfs_setup(void);
/* Fails with code the calls in `which` from the nth on (1: the next), `times` of them. */
void failvfs_arm(int which, int code, int nth, int times);
/* All is well again; returns how many calls failed. */
int failvfs_disarm(void);

#endif
