/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First-in-first-out mailbox between threads: many posters, one reader.
 *
 * A message is embedded in the object that caused it, so that posting never allocates, never
 * fails and never blocks. The reader waits on mailbox_fd() (readable when mail is there).
 *
 * Ownership   the poster gives the message away; the function in it, run by the reader, takes the
 *             object over. One message may be in one mailbox at a time.
 * Threads     mailbox_post() and mailbox_post_list() any; the rest the reader only.
 * Order       two posts of one thread arrive in that order.
 */
#ifndef BASE_MAILBOX_H
#define BASE_MAILBOX_H

#include "base/err.h"

struct msg;
typedef void (*msg_fn)(struct msg *m);
struct msg {
    struct msg *next;
    msg_fn run; /* called on the reader's thread */
};

struct mailbox;
MUST_USE enum err mailbox_new(struct mailbox **ret);
/* Messages still inside are not run; the owner must have drained it, and every poster must have
 * returned from its last mailbox_post() (join the threads first). NULL is fine. */
void mailbox_free(struct mailbox *mb);
int mailbox_fd(const struct mailbox *mb);
void mailbox_post(struct mailbox *mb, struct msg *m);
/* Many at once, with one wake-up: linked by ->next from the last down to the first, the last one in `last`. They arrive
 * from first to last. */
void mailbox_post_list(struct mailbox *mb, struct msg *last, struct msg *first);
/* Runs what is there now (not what is posted meanwhile); returns how many. */
size_t mailbox_run(struct mailbox *mb);

#endif
