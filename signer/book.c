/* SPDX-License-Identifier: Apache-2.0 */
#include "signer/book.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "certs/keyring.h"
#include "wire/json.h"

#define HASH_HEX 64u
#define LINE_LIMIT 1024u
#define FILE_LIMIT (UINT64_C(1) << 30)
#define NAME_SIZE sizeof("book-YYYYMMDD.jsonl")

static const char *const acts[BOOK_ACTS] = {[BOOK_MAKE] = "make", [BOOK_ISSUE] = "issue"};

struct book {
    const struct clock *clock;
    char *dir;
    int lock_fd, fd;
    pthread_mutex_t lock;      /* of all below but `synced` */
    pthread_mutex_t sync_lock; /* of synced; taken before lock */
    char name[NAME_SIZE];      /* of the open file; empty: none yet */
    uint64_t size;
    int64_t seq, synced; /* lines written, lines on disk */
    char hash[HASH_HEX + 1];
    uint64_t done[BOOK_ACTS], a_day[BOOK_ACTS]; /* of the open file's day; a_day 0: no bound */
    bool is_broken; /* what is on disk is not known: nothing more is signed */
};

/* --- one line ----------------------------------------------------------------------------------------- */

static void add_member(struct buf *b, const char *name, struct span value)
{
    buf_addf(b, ",\"%s\":", name);
    json_write_str(b, value);
}

static enum err line_text(const struct book *b, const struct book_line *l, struct buf *ret,
                          char hash[HASH_HEX + 1])
{
    AUTO(buf_done) struct buf act = BUF_INIT(LINE_LIMIT);
    uint8_t digest[MAC_SIZE];
    char time[TIME_ISO_SIZE], from[32];
    time_iso7(clock_wall_us(b->clock), time);
    (void)snprintf(from, sizeof(from), "uid %u", l->uid);
    buf_addf(&act, "%s %.*s", acts[l->act], SPAN_ARG(l->what));
    buf_addf(ret, "{\"seq\":%lld,\"time\":\"%s\"", (long long)b->seq + 1, time);
    add_member(ret, "who", l->ca);
    add_member(ret, "from", span_str(from));
    add_member(ret, "act", buf_span(&act));
    buf_addf(ret, ",\"result\":\"OK\",\"prev\":\"%s\"}", b->hash);
    if (buf_err(&act) != OK || buf_err(ret) != OK) {
        return E_TOO_LARGE;
    }
    sha256(buf_span(ret), digest);
    hex_to_cstr(span_of(digest, sizeof(digest)), false, hash);
    ret->n--; /* the hash goes before the closing brace */
    buf_addf(ret, ",\"hash\":\"%s\"}\n", hash);
    return buf_err(ret);
}

/* --- reading what is there ---------------------------------------------------------------------------- */

static enum err line_read(struct book *b, struct span line, struct err_info *info)
{
    AUTO(json_free_p) struct json *j = NULL;
    uint8_t digest[MAC_SIZE];
    char hash[HASH_HEX + 1];
    int64_t seq = 0;
    struct span prev = SPAN_NONE, told = SPAN_NONE, act = SPAN_NONE;
    AUTO(buf_done) struct buf bare = BUF_INIT(LINE_LIMIT);
    if (json_read_object(line, LINE_LIMIT, &j, info) != OK ||
        json_get_int(j, "seq", JSON_F_NEED, 1, INT64_MAX, &seq, info) != OK ||
        json_get_str(j, "prev", JSON_F_NEED, &prev, info) != OK ||
        json_get_str(j, "act", JSON_F_NEED, &act, info) != OK ||
        json_get_str(j, "hash", JSON_F_NEED, &told, info) != OK ||
        line.n < HASH_HEX + sizeof(",\"hash\":\"\"}")) {
        return err_wrap(info, E_CORRUPT, "line %lld", (long long)b->seq + 1);
    }
    buf_add(&bare, span_sub(line, 0, line.n - HASH_HEX - (sizeof(",\"hash\":\"\"}") - 1)));
    buf_add_u8(&bare, '}');
    sha256(buf_span(&bare), digest);
    hex_to_cstr(span_of(digest, sizeof(digest)), false, hash);
    bool is_first = b->seq == 0;
    if (!span_is(told, hash) || (!is_first && (seq != b->seq + 1 || !span_is(prev, b->hash)))) {
        return err_set(info, E_CORRUPT, "line %lld does not follow the one before it",
                       (long long)seq);
    }
    b->seq = seq;
    memcpy(b->hash, hash, sizeof(hash));
    for (size_t i = 0; i < BOOK_ACTS; i++) {
        struct span word = span_str(acts[i]);
        b->done[i] += span_starts(act, word) && act.p[word.n] == ' ' ? 1 : 0;
    }
    return OK;
}

static enum err file_read(struct book *b, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(FILE_LIMIT);
    enum err e = fs_read_fd(b->fd, b->name, &text, info);
    struct span rest = buf_span(&text);
    while (e == OK) {
        size_t n = span_find(rest, '\n');
        if (n == rest.n) {
            break; /* the end, or a line cut off */
        }
        e = line_read(b, span_sub(rest, 0, n), info);
        rest = span_from(rest, n + 1);
        b->size += n + 1;
    }
    if (e == OK && rest.n != 0 && ftruncate(b->fd, (off_t)b->size) != 0) {
        e = err_set_errno(info, errno, "%s", b->name);
    }
    b->synced = b->seq;
    return e == OK ? OK : err_wrap(info, e, "%s/%s", b->dir, b->name);
}

static bool is_book(const char *name)
{
    return strlen(name) == NAME_SIZE - 1 && strncmp(name, "book-", 5) == 0 &&
           strspn(name + 5, "0123456789") == 8 && strcmp(name + 13, ".jsonl") == 0;
}

static enum err find_newest(struct book *b, struct err_info *info)
{
    DIR *d = opendir(b->dir);
    struct dirent *n;
    if (d == NULL) {
        return err_set_errno(info, errno, "%s", b->dir);
    }
    while ((n = readdir(d)) != NULL) {
        if (is_book(n->d_name) && strcmp(n->d_name, b->name) > 0) {
            memcpy(b->name, n->d_name, NAME_SIZE);
        }
    }
    (void)closedir(d);
    return OK;
}

static enum err file_open(struct book *b, int flags, struct err_info *info)
{
    AUTO(mem_free_p) char *path = fs_join(b->dir, b->name);
    if (path == NULL) {
        return E_NOMEM;
    }
    b->fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    return b->fd >= 0 ? OK : err_set_errno(info, errno, "%s", path);
}

/* --- writing ------------------------------------------------------------------------------------------- */

static void day_name(const struct book *b, char ret[NAME_SIZE])
{
    char time[TIME_ISO_SIZE];
    time_iso7(clock_wall_us(b->clock), time); /* YYYY-MM-DD... */
    (void)snprintf(ret, NAME_SIZE, "book-%.4s%.2s%.2s.jsonl", time, time + 5, time + 8);
}

/* A new day begins a new file, durable in its folder before a line is. */
static enum err turn(struct book *b, struct err_info *info)
{
    char today[NAME_SIZE];
    day_name(b, today);
    if (strcmp(today, b->name) <= 0) {
        return OK;
    }
    int old = b->fd;
    if (old >= 0 && fdatasync(old) != 0) {
        return err_set_errno(info, errno, "%s", b->name);
    }
    char before[NAME_SIZE];
    memcpy(before, b->name, NAME_SIZE);
    memcpy(b->name, today, NAME_SIZE);
    enum err e = file_open(b, O_CREAT | O_EXCL, info);
    if (e != OK || (e = fs_sync_dir(b->dir, info)) != OK) {
        if (b->fd >= 0 && b->fd != old) {
            (void)close(b->fd);
        }
        memcpy(b->name, before, NAME_SIZE);
        b->fd = old;
        return e;
    }
    if (old >= 0) {
        (void)close(old);
    }
    b->size = 0;
    memset(b->done, 0, sizeof(b->done));
    return OK;
}

static enum err quota(const struct book *b, enum book_act act, struct err_info *info)
{
    return b->a_day[act] != 0 && b->done[act] >= b->a_day[act]
               ? err_set(info, E_LIMIT, "the quota of %llu a day is used up",
                         (unsigned long long)b->a_day[act])
               : OK;
}

static enum err append(struct book *b, const struct book_line *line, int64_t *ret_seq,
                       struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LINE_LIMIT);
    char hash[HASH_HEX + 1];
    enum err e = b->is_broken ? err_set(info, E_IO, "the book could not be written before") : OK;
    if (e != OK || (e = turn(b, info)) != OK || (e = quota(b, line->act, info)) != OK ||
        (e = line_text(b, line, &text, hash)) != OK) {
        return e;
    }
    ssize_t n = write(b->fd, text.p, text.n);
    if (n != (ssize_t)text.n) {
        e = err_set_errno(info, n < 0 ? errno : ENOSPC, "%s", b->name);
        b->is_broken = ftruncate(b->fd, (off_t)b->size) != 0;
        return e;
    }
    b->size += text.n;
    b->seq++;
    b->done[line->act]++;
    memcpy(b->hash, hash, sizeof(hash));
    *ret_seq = b->seq;
    return OK;
}

/* Who comes while another syncs waits for him, and mostly finds that his own line went along. */
static enum err sync_to(struct book *b, int64_t seq, struct err_info *info)
{
    enum err e = OK;
    (void)pthread_mutex_lock(&b->sync_lock);
    if (b->synced < seq) {
        (void)pthread_mutex_lock(&b->lock);
        int64_t upto = b->seq;
        bool is_broken = b->is_broken;
        (void)pthread_mutex_unlock(&b->lock);
        if (is_broken || fdatasync(b->fd) != 0) {
            e = err_set_errno(info, is_broken ? EIO : errno, "%s", b->name);
            (void)pthread_mutex_lock(&b->lock);
            b->is_broken = true;
            (void)pthread_mutex_unlock(&b->lock);
        } else {
            b->synced = upto;
        }
    }
    (void)pthread_mutex_unlock(&b->sync_lock);
    return e;
}

enum err book_add(struct book *b, const struct book_line *line, struct err_info *info)
{
    int64_t seq = 0;
    (void)pthread_mutex_lock(&b->sync_lock); /* the file is not turned under a sync */
    (void)pthread_mutex_lock(&b->lock);
    enum err e = append(b, line, &seq, info);
    (void)pthread_mutex_unlock(&b->lock);
    (void)pthread_mutex_unlock(&b->sync_lock);
    return e == OK ? sync_to(b, seq, info) : e;
}

enum err book_room(struct book *b, enum book_act act, struct err_info *info)
{
    (void)pthread_mutex_lock(&b->sync_lock);
    (void)pthread_mutex_lock(&b->lock);
    enum err e = turn(b, info);
    if (e == OK) {
        e = quota(b, act, info);
    }
    (void)pthread_mutex_unlock(&b->lock);
    (void)pthread_mutex_unlock(&b->sync_lock);
    return e;
}

/* --- life ----------------------------------------------------------------------------------------------- */

void book_close(struct book *b)
{
    if (b == NULL) {
        return;
    }
    if (b->fd >= 0) {
        (void)close(b->fd);
    }
    if (b->lock_fd >= 0) {
        (void)close(b->lock_fd);
    }
    (void)pthread_mutex_destroy(&b->lock);
    (void)pthread_mutex_destroy(&b->sync_lock);
    free(b->dir);
    free(b);
}

enum err book_open(const char *dir, const struct clock *clock, const uint64_t a_day[BOOK_ACTS],
                   struct book **ret, struct err_info *info)
{
    AUTO(book_close_p) struct book *b = NEW(struct book);
    if (b == NULL) {
        return E_NOMEM;
    }
    b->lock_fd = b->fd = -1;
    b->clock = clock;
    memcpy(b->a_day, a_day, sizeof(b->a_day));
    memset(b->hash, '0', HASH_HEX);
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)pthread_mutex_init(&b->sync_lock, NULL);
    if ((b->dir = span_dup(span_str(dir))) == NULL) {
        return E_NOMEM;
    }
    enum err e = fs_lock_dir(dir, &b->lock_fd, info);
    if (e == OK && (e = find_newest(b, info)) == OK && b->name[0] != '\0' &&
        (e = file_open(b, 0, info)) == OK) {
        e = file_read(b, info);
    }
    if (e == OK) {
        *ret = TAKE(b);
    }
    return e;
}
