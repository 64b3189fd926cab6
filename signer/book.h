/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The signer's own book: what was made and signed, one JSON line each, chained by SHA-256 as an audit trail is (`berth audit verify`),
 * on disk before the caller hears of it. It lies where the caller cannot write, and it is what the day's quota is counted from.
 *
 *   DIR/book-YYYYMMDD.jsonl   {"seq":1,"time":"...","who":"<ca>","from":"uid 997","act":"issue unit-1 SERIAL SHA256","result":"OK",
 *                              "prev":"<hash of the line before, of the file before for a first line>","hash":"..."}
 *
 * A day is one of UTC; when the clock goes back, the newest file's day goes on. A last line that was cut off by a crash is dropped: nobody
 * was told of it.
 *
 * Ownership   book_close ends. One process at a time: the folder is locked.
 * Threads     book_add any, several at once: they share a sync.
 * Errors      E_CORRUPT a line that does not follow the one before it; E_LIMIT the day's quota; E_DISK_FULL, E_IO; E_IN_USE.
 */
#ifndef SIGNER_BOOK_H
#define SIGNER_BOOK_H

#include "base/clock.h"
#include "base/err.h"
#include "base/span.h"

enum book_act { BOOK_MAKE, BOOK_ISSUE, BOOK_ACTS };
struct book_line {
    enum book_act act;
    struct span ca;
    unsigned uid;
    struct span what; /* name, serial, thumbprint */
};
struct book;
MUST_USE enum err book_open(const char *dir, const struct clock *clock,
                            const uint64_t a_day[BOOK_ACTS], struct book **ret,
                            struct err_info *info);
void book_close(struct book *b);
AUTO_FREE_FN(struct book, book_close)
/* Is there room in the day's quota? Asked before the work; a few at once may all hear yes. */
MUST_USE enum err book_room(struct book *b, enum book_act act, struct err_info *info);
/* On disk when it returns OK. */
MUST_USE enum err book_add(struct book *b, const struct book_line *line, struct err_info *info);

#endif
