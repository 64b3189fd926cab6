/* SPDX-License-Identifier: Apache-2.0 */
#include "enroll-tool/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/text.h"
#include "certs/keyring.h"
#include "wire/json.h"

#define LEDGER_MAX (UINT64_C(1) << 30)
#define LINE_LIMIT 4096u
#define HASH_TEXT 65u

struct unit { /* one serial */
    struct map_node by_serial, by_rid;
    enum ledger_state state;
    char *serial, *rid, *target;
};

struct quota_use { /* units that were begun under one quota */
    struct map_node in;
    uint64_t units;
    char *id;
};

struct ledger {
    int lock_fd, fd;
    char *path;
    struct map quotas;
    char *bound_name, *bound_office; /* NULL: not bound */
    int64_t last_us;
    struct map by_serial, by_rid;
    uint64_t n;
    char last_hash[HASH_TEXT];
};

static const char *const event_names[] = {[LEDGER_UNKNOWN] = "",
                                          [LEDGER_RESERVED] = "reserved",
                                          [LEDGER_DONE] = "done",
                                          [LEDGER_BOUND] = "bound"};

/* --- in memory ------------------------------------------------------------------------------------------ */

static struct unit *find_unit(const struct ledger *l, struct span serial)
{
    struct map_node *n = map_get(&l->by_serial, serial);
    return n != NULL ? CONTAINER_OF(n, struct unit, by_serial) : NULL;
}

static void unit_free(struct unit *u)
{
    free(u->serial);
    free(u->rid);
    free(u->target);
    free(u);
}

static struct quota_use *find_quota(const struct ledger *l, struct span id)
{
    struct map_node *n = map_get(&l->quotas, id);
    return n != NULL ? CONTAINER_OF(n, struct quota_use, in) : NULL;
}

static enum err count_unit(struct ledger *l, struct span id)
{
    struct quota_use *q = find_quota(l, id);
    if (q == NULL) {
        if ((q = NEW(struct quota_use)) == NULL || (q->id = span_dup(id)) == NULL) {
            free(q);
            return E_NOMEM;
        }
        q->in.key = span_str(q->id);
        enum err e = map_add(&l->quotas, &q->in);
        if (e != OK) {
            free(q->id);
            free(q);
            return e;
        }
    }
    q->units++;
    return OK;
}

static enum err remember_bound(struct ledger *l, const struct ledger_entry *e)
{
    if (l->bound_name == NULL) {
        l->bound_office = span_dup(e->attestation);
        l->bound_name = l->bound_office != NULL ? span_dup(e->target) : NULL;
    }
    return l->bound_name != NULL ? OK : E_NOMEM;
}

static enum err remember(struct ledger *l, const struct ledger_entry *e)
{
    if (e->event == LEDGER_BOUND) {
        return remember_bound(l, e);
    }
    struct unit *u = find_unit(l, e->serial);
    if (u == NULL && e->quota.n > 0) {
        enum err counted = count_unit(l, e->quota);
        if (counted != OK) {
            return counted;
        }
    }
    if (u != NULL) {
        u->state = MAX(u->state, e->event);
        return OK;
    }
    u = NEW(struct unit);
    if (u == NULL) {
        return E_NOMEM;
    }
    u->serial = span_dup(e->serial);
    u->rid = span_dup(e->registration_id);
    u->target = span_dup(e->target);
    u->state = e->event;
    if (u->serial == NULL || u->rid == NULL || u->target == NULL) {
        unit_free(u);
        return E_NOMEM;
    }
    u->by_serial.key = span_str(u->serial);
    u->by_rid.key = span_str(u->rid);
    enum err err = map_add(&l->by_serial, &u->by_serial);
    if (err != OK) {
        unit_free(u);
        return err;
    }
    if (map_get(&l->by_rid, u->by_rid.key) == NULL) {
        return map_add(&l->by_rid, &u->by_rid);
    }
    return OK;
}

/* --- lines --------------------------------------------------------------------------------------------------- */

static void add_field(struct buf *b, const char *before, const char *value)
{
    buf_add_str(b, before);
    json_write_str(b, span_str(value));
}

static void hash_text(struct span s, char dst[HASH_TEXT])
{
    uint8_t h[32];
    sha256(s, h);
    hex_to_cstr(span_of(h, sizeof(h)), false, dst);
}

/* The hash covers the line up to its own member. */
static enum err check_line(struct ledger *l, struct span line, struct ledger_entry *ret,
                           struct json **ret_json, struct err_info *info)
{
    char want[HASH_TEXT];
    static const char mark[] = ",\"hash\":\"";
    int64_t n = 0;
    size_t event = 0;
    struct span prev, hash;
    uint64_t at = l->n + 1;
    const size_t tail = sizeof(mark) - 1 + 64 + 2;
    enum err e = json_read_object(line, LINE_LIMIT, ret_json, info);
    if (e == E_NOMEM) {
        return e;
    }
    if (e != OK || line.n < tail ||
        (e = json_get_str(*ret_json, "serial", JSON_F_NEED, &ret->serial, info)) != OK ||
        (e = json_get_str(*ret_json, "registrationId", JSON_F_NEED, &ret->registration_id, info)) !=
            OK ||
        (e = json_get_str(*ret_json, "target", JSON_F_NEED, &ret->target, info)) != OK ||
        (e = json_get_str(*ret_json, "attestation", JSON_F_NEED, &ret->attestation, info)) != OK ||
        (e = json_get_str(*ret_json, "at", JSON_F_NEED, &ret->at, info)) != OK ||
        (e = json_get_int(*ret_json, "n", JSON_F_NEED, 1, INT64_MAX, &n, info)) != OK ||
        (e = json_get_word(*ret_json, "event", JSON_F_NEED, event_names, ARRAY_LEN(event_names),
                           &event, info)) != OK ||
        (e = json_get_str(*ret_json, "quota", JSON_F_OPT, &ret->quota, info)) != OK ||
        (e = json_get_str(*ret_json, "prev", JSON_F_NEED, &prev, info)) != OK ||
        (e = json_get_str(*ret_json, "hash", JSON_F_NEED, &hash, info)) != OK) {
        return err_set(info, E_CORRUPT, "ledger line %llu is not well-formed",
                       (unsigned long long)at);
    }
    hash_text(span_sub(line, 0, line.n - tail), want);
    if ((uint64_t)n != at || !span_is(prev, l->last_hash) || !span_is(hash, want)) {
        return err_set(info, E_CORRUPT,
                       "ledger line %llu was changed, or a line before it is missing",
                       (unsigned long long)at);
    }
    if (time_parse_iso(ret->at, &l->last_us) != OK) {
        return err_set(info, E_CORRUPT, "ledger line %llu has no time", (unsigned long long)at);
    }
    ret->n = (uint64_t)n;
    ret->event = (enum ledger_state)event;
    (void)span_to_cstr(hash, l->last_hash, sizeof(l->last_hash));
    l->n = at;
    return OK;
}

static enum err read_all(struct ledger *l, ledger_fn fn, void *arg, size_t *ret_good,
                         struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LEDGER_MAX);
    enum err e = fs_read(l->path, &text, info);
    struct span rest = buf_span(&text);
    size_t good = 0;
    while (e == OK && rest.n > 0) {
        size_t n = span_find(rest, '\n');
        struct ledger_entry entry = {0};
        AUTO(json_free_p) struct json *j = NULL;
        if (n == rest.n) {
            break; /* cut off by a crash before its sync: nothing was burned on it */
        }
        e = check_line(l, span_sub(rest, 0, n), &entry, &j, info);
        if (e == OK && fn != NULL) {
            fn(arg, &entry);
        } else if (e == OK) {
            e = remember(l, &entry);
        }
        good += n + 1;
        rest = span_from(rest, n + 1);
    }
    *ret_good = good;
    return e;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

enum err ledger_open(const char *station_dir, struct ledger **ret, struct err_info *info)
{
    AUTO(ledger_close_p) struct ledger *l = NEW(struct ledger);
    size_t good = 0;
    if (l == NULL) {
        return E_NOMEM;
    }
    l->lock_fd = l->fd = -1;
    map_init(&l->by_serial);
    map_init(&l->by_rid);
    map_init(&l->quotas);
    memset(l->last_hash, '0', HASH_TEXT - 1);
    l->path = fs_join(station_dir, "ledger.jsonl");
    enum err e = l->path == NULL ? E_NOMEM : fs_check_parent(station_dir, info);
    if (e == OK) {
        e = fs_private_dir(station_dir, info);
    }
    if (e != OK) {
        return e;
    }
    if ((e = fs_lock_dir(station_dir, &l->lock_fd, info)) != OK) {
        return e == E_IN_USE
                   ? err_set(info, e, "another enroll-tool is at work on station '%s'", station_dir)
                   : e;
    }
    l->fd = open(l->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (l->fd < 0) {
        return err_set_errno(info, errno, "cannot open '%s'", l->path);
    }
    if ((e = fs_sync_dir(station_dir, info)) != OK ||
        (e = read_all(l, NULL, NULL, &good, info)) != OK) {
        return e;
    }
    if (ftruncate(l->fd, (off_t)good) != 0) {
        return err_set_errno(info, errno, "cannot repair '%s'", l->path);
    }
    *ret = TAKE(l);
    return OK;
}

void ledger_close(struct ledger *l)
{
    if (l == NULL) {
        return;
    }
    struct map_cursor c = {0};
    for (struct map_node *n; (n = map_next(&l->by_serial, &c)) != NULL;) {
        map_del(&l->by_serial, n);
        unit_free(CONTAINER_OF(n, struct unit, by_serial));
    }
    c = (struct map_cursor){0};
    for (struct map_node *n; (n = map_next(&l->quotas, &c)) != NULL;) {
        struct quota_use *q = CONTAINER_OF(n, struct quota_use, in);
        map_del(&l->quotas, n);
        free(q->id);
        free(q);
    }
    map_done(&l->quotas);
    free(l->bound_name);
    free(l->bound_office);
    map_done(&l->by_serial);
    map_done(&l->by_rid);
    if (l->fd >= 0) {
        (void)close(l->fd);
    }
    if (l->lock_fd >= 0) {
        (void)close(l->lock_fd);
    }
    free(l->path);
    free(l);
}

enum ledger_state ledger_find(const struct ledger *l, const char *serial, const char **ret_target)
{
    const struct unit *u = find_unit(l, span_str(serial));
    if (u == NULL) {
        return LEDGER_UNKNOWN;
    }
    *ret_target = u->target;
    return u->state;
}

const char *ledger_find_registration(const struct ledger *l, const char *registration_id)
{
    struct map_node *n = map_get(&l->by_rid, span_str(registration_id));
    return n != NULL ? CONTAINER_OF(n, struct unit, by_rid)->serial : NULL;
}

static enum err add_line(struct ledger *l, const char *serial, const char *registration_id,
                         enum ledger_state event, const char *target, const char *attestation,
                         const char *quota, struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LINE_LIMIT);
    char when[TIME_ISO_SIZE], hash[HASH_TEXT];
    int64_t now_us = clock_wall_us(clock_system());
    time_iso7(now_us, when);
    buf_addf(&b, "{\"n\":%llu", (unsigned long long)(l->n + 1));
    add_field(&b, ",\"at\":", when);
    add_field(&b, ",\"serial\":", serial);
    add_field(&b, ",\"registrationId\":", registration_id);
    add_field(&b, ",\"event\":", event_names[event]);
    add_field(&b, ",\"target\":", target);
    add_field(&b, ",\"attestation\":", attestation);
    if (quota != NULL) {
        add_field(&b, ",\"quota\":", quota);
    }
    add_field(&b, ",\"prev\":", l->last_hash);
    hash_text(buf_span(&b), hash);
    buf_addf(&b, ",\"hash\":\"%s\"}\n", hash);
    if (buf_err(&b) != OK) {
        return buf_err(&b) == E_NOMEM
                   ? E_NOMEM
                   : err_set(info, E_TOO_LARGE, "serial or target is too long for the ledger");
    }
    if (write(l->fd, b.p, b.n) != (ssize_t)b.n || fsync(l->fd) != 0) {
        return err_set_errno(info, errno, "cannot write '%s'", l->path);
    }
    const struct ledger_entry e = {.serial = span_str(serial),
                                   .registration_id = span_str(registration_id),
                                   .target = span_str(target),
                                   .attestation = span_str(attestation),
                                   .quota = quota != NULL ? span_str(quota) : SPAN_NONE,
                                   .event = event};
    l->n++;
    l->last_us = now_us;
    (void)span_to_cstr(span_str(hash), l->last_hash, sizeof(l->last_hash));
    return remember(l, &e);
}

enum err ledger_add(struct ledger *l, const char *serial, const char *registration_id,
                    enum ledger_state event, const char *target, const char *attestation,
                    struct err_info *info)
{
    return add_line(l, serial, registration_id, event, target, attestation, NULL, info);
}

enum err ledger_reserve(struct ledger *l, const char *serial, const char *registration_id,
                        const char *target, const char *attestation, const char *quota,
                        struct err_info *info)
{
    return add_line(l, serial, registration_id, LEDGER_RESERVED, target, attestation, quota, info);
}

enum err ledger_bind(struct ledger *l, const char *name, const char *office, struct err_info *info)
{
    if (l->bound_name != NULL) {
        return err_set(info, E_EXISTS, "the station is bound already, as '%s'", l->bound_name);
    }
    return add_line(l, "", "", LEDGER_BOUND, name, office, NULL, info);
}

bool ledger_bound(const struct ledger *l, const char **ret_name, const char **ret_office)
{
    *ret_name = l->bound_name;
    *ret_office = l->bound_office;
    return l->bound_name != NULL;
}

uint64_t ledger_quota_used(const struct ledger *l, const char *quota)
{
    const struct quota_use *q = find_quota(l, span_str(quota));
    return q != NULL ? q->units : 0;
}

int64_t ledger_last_us(const struct ledger *l)
{
    return l->last_us;
}

enum err ledger_each(struct ledger *l, ledger_fn fn, void *arg, struct err_info *info)
{
    size_t good;
    l->n = 0;
    memset(l->last_hash, '0', HASH_TEXT - 1);
    return read_all(l, fn, arg, &good, info);
}
