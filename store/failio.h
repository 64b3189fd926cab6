/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file calls of the log for tests: the system's, but some fail as told.
 *
 *   failio_arm(FAILIO_SYNC, EIO, 3, 1): the third fdatasync from now fails, once
 *
 * Threads     any; one plan for the process.
 */
#ifndef STORE_FAILIO_H
#define STORE_FAILIO_H

#include "store/fileio.h"

enum {
    FAILIO_WRITE = 1, /* nothing is written */
    FAILIO_TORN = 2,  /* half of it is written; the call says how much, the one after it fails */
    FAILIO_SYNC = 4,  /* what was written stays in the page cache */
    FAILIO_LOST =
        8, /* fdatasync, and what was written since the last one is gone from the page cache too */
    FAILIO_TRUNCATE = 16,
    FAILIO_OPEN = 32, /* of files that are made */
    FAILIO_ALLOCATE = 64,
    FAILIO_RENAME = 128,
    FAILIO_SYNC_DIR = 256,
    FAILIO_READ = 512,
};
const struct fileio *failio(void);
/* Fails with this errno the calls in `which` from the nth on (1: the next), `times` of them. */
void failio_arm(int which, int errnum, int nth, int times);
/* All is well again; returns how many calls failed. */
int failio_disarm(void);

#endif
