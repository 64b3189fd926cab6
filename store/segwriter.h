/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appends commits to a segment file. Private to store/.
 *
 *   CLOSED --seg_writer_start--> OPEN --begin, add...--> STAGED --flush--> WRITTEN --sync--> OPEN
 *   STAGED, WRITTEN --seg_writer_undo--> OPEN, all of it is gone
 *
 * A sync that fails leaves it in doubt what is on disk, and the page cache may say that it is there although it
 * is not: then nothing more may be appended to the file (logwriter.h begins another).
 * Room is allocated ahead, so that the file does not grow with each commit and a sync writes data only.
 *
 * Ownership   the caller's storage; owns the descriptor and its buffer.
 * Threads     one at a time.
 * Errors      as of the system calls: E_DISK_FULL, E_IO. A write that fails is a definite failure: the
 *             last record of the commit is not whole then.
 */
#ifndef STORE_SEGWRITER_H
#define STORE_SEGWRITER_H

#include "store/segment.h"

struct seg_writer {
    const struct fileio *io;
    int fd; /* -1: closed */
    uint64_t salt;
    uint64_t end;   /* of what is committed */
    uint64_t at;    /* of what is staged */
    uint64_t room;  /* the file is so long: zeros from the end on */
    uint64_t ahead; /* how much is allocated at once */
    uint16_t flags; /* of the next record */
    uint8_t *buf;   /* what is staged and not yet written; kept when closed */
    size_t buf_n;
    uint64_t buf_at;
};
/* segment_bytes: how long segments are to be. */
MUST_USE enum err seg_writer_init(struct seg_writer *w, const struct fileio *io,
                                  uint64_t segment_bytes);
void seg_writer_done(struct seg_writer *w);
/* Takes the descriptor of a file that ends at `end`. */
void seg_writer_start(struct seg_writer *w, int fd, uint64_t salt, uint64_t end);
void seg_writer_close(struct seg_writer *w);

/* n rows of `bytes` in all will be added. */
void seg_writer_begin(struct seg_writer *w, size_t n, size_t bytes);
/* is_last: of the commit. meta and body together at most SEG_DATA_MAX (E_TOO_LARGE). */
MUST_USE enum err seg_writer_add(struct seg_writer *w, unsigned partition, struct seg_base at,
                                 struct span meta, struct span body, bool is_last);
MUST_USE enum err seg_writer_flush(struct seg_writer *w);
/* errno says more. */
MUST_USE enum err seg_writer_sync(struct seg_writer *w);
MUST_USE enum err seg_writer_undo(struct seg_writer *w);

/* Ends the file with a seal (data as seg_index_write makes them) and gives back the room behind it. Best effort: a
 * segment without a seal is read through instead. */
void seg_writer_seal(struct seg_writer *w, struct span data);

#endif
