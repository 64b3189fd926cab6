/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the records of a part of a segment file one after the other. Private to store/.
 *
 * Ownership   segscan_init borrows the descriptor; segscan_done frees the buffer, segscan_trim gives back what a
 *             large record made of it.
 * Threads     one at a time.
 * Errors      E_CORRUPT: where the scan stands (off) is no record, or its data are damaged, or it goes on
 *             behind the end; E_IO, E_NOMEM. After an error the scan stands where it stood.
 * Limits      SEG_DATA_MAX bytes of buffer, and never more than the part has.
 */
#ifndef STORE_SEGSCAN_H
#define STORE_SEGSCAN_H

#include "store/fileio.h"
#include "store/segfile.h"

struct segscan {
    const struct fileio *io;
    int fd;
    unsigned partitions;
    uint64_t salt;
    uint64_t off; /* of the record that comes next */
    uint64_t end; /* of the part */
    uint8_t *buf; /* bytes of the file from buf_off on */
    size_t cap, buf_n;
    uint64_t buf_off;
};
void segscan_init(struct segscan *s, const struct fileio *io, int fd, unsigned partitions,
                  uint64_t salt);
void segscan_done(struct segscan *s);
/* Forgets what was read, for the file has grown or is another; off and end are the caller's to set. */
void segscan_set(struct segscan *s, uint64_t off, uint64_t end);
void segscan_trim(struct segscan *s);
/* The head of the next record; it stays the next one. Call while off < end. */
MUST_USE enum err segscan_head(struct segscan *s, struct seg_rec *ret);
/* Its data, borrowed until the next call, checked. */
MUST_USE enum err segscan_data(struct segscan *s, const struct seg_rec *r, struct span *ret);
/* On to the one behind it. */
static inline void segscan_next(struct segscan *s, const struct seg_rec *r)
{
    s->off += SEG_REC_BYTES + (uint64_t)r->data_n;
}
/* n bytes at off, which are inside the part. */
MUST_USE enum err segscan_bytes(struct segscan *s, uint64_t off, size_t n, const uint8_t **ret);

#endif
