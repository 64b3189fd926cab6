/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/geoip.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <maxminddb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/limits.h"
#include "base/secret.h"

#define COPY_STEP (1u << 20)

struct geoip {
    MMDB_s db;
    _Atomic unsigned refs;
    char type[64];
};

/* --- the copy ---------------------------------------------------------------------------------------- */

static enum err refuse(struct err_info *info, const char *name, const char *why)
{
    return err_set(info, E_CONFIG, "geoip: \"%s\": %s", name, why);
}

static bool write_all(int fd, const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w <= 0) {
            return false;
        }
        p += w;
        n -= (size_t)w;
    }
    return true;
}

static int new_copy(void)
{
    return memfd_create("geoip", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* Up to its end as it is then; -1: errno. *ret_too_large. */
static bool copy_file(int from, int to, bool *ret_too_large)
{
    AUTO(mem_free_p) uint8_t *step = mem_new(COPY_STEP);
    size_t total = 0;
    ssize_t n = -1;
    *ret_too_large = false;
    while (step != NULL && (n = read(from, step, COPY_STEP)) > 0) {
        total += (size_t)n;
        *ret_too_large = total > LIMIT_GEOIP_FILE;
        if (*ret_too_large || !write_all(to, step, (size_t)n)) {
            return false;
        }
    }
    return step != NULL && n == 0;
}

/* --- opening ------------------------------------------------------------------------------------------- */

static bool is_sound_record(const MMDB_s *db, uint8_t type, uint64_t record)
{
    return type == MMDB_RECORD_TYPE_EMPTY || type == MMDB_RECORD_TYPE_DATA ||
           (type == MMDB_RECORD_TYPE_SEARCH_NODE && record < db->metadata.node_count);
}

/* Every node leads to a node, to data, or to nothing. */
static bool is_sound_tree(const MMDB_s *db)
{
    for (uint32_t i = 0; i < db->metadata.node_count; i++) {
        MMDB_search_node_s node;
        if (MMDB_read_node(db, i, &node) != MMDB_SUCCESS ||
            !is_sound_record(db, node.left_record_type, node.left_record) ||
            !is_sound_record(db, node.right_record_type, node.right_record)) {
            return false;
        }
    }
    return true;
}

/* fd holds the copy, and stays the caller's. */
static enum err open_copy(int fd, const char *name, struct geoip **ret, struct err_info *info)
{
    char path[64];
    struct geoip *g = NEW(struct geoip);
    if (g == NULL) {
        return E_NOMEM;
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int rc = fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0
                 ? MMDB_open(path, MMDB_MODE_MMAP, &g->db)
                 : MMDB_IO_ERROR;
    if (rc != MMDB_SUCCESS) {
        free(g);
        return refuse(info, name, MMDB_strerror(rc));
    }
    if (!is_sound_tree(&g->db)) {
        MMDB_close(&g->db);
        free(g);
        return refuse(info, name, "a node of its tree leads nowhere");
    }
    atomic_init(&g->refs, 1);
    (void)snprintf(g->type, sizeof(g->type), "%s",
                   g->db.metadata.database_type != NULL ? g->db.metadata.database_type : "");
    *ret = g;
    return OK;
}

enum err geoip_read(struct span file, const char *name, struct geoip **ret, struct err_info *info)
{
    int fd = new_copy();
    if (fd < 0 || !write_all(fd, file.p, file.n)) {
        enum err e = refuse(info, name, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return e;
    }
    enum err e = open_copy(fd, name, ret, info);
    close(fd); /* the mapping stays */
    return e;
}

static enum err copy_and_open(int from, int to, const char *path, struct geoip **ret,
                              struct err_info *info)
{
    struct stat st;
    bool is_too_large;
    if (to < 0 || fstat(from, &st) != 0) {
        return refuse(info, path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return refuse(info, path, "is not a file");
    }
    if (!copy_file(from, to, &is_too_large)) {
        return refuse(info, path, is_too_large ? "is too large" : strerror(errno));
    }
    return open_copy(to, path, ret, info);
}

enum err geoip_open(const char *path, struct geoip **ret, struct err_info *info)
{
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (from < 0) {
        return refuse(info, path, strerror(errno));
    }
    int to = new_copy();
    enum err e = copy_and_open(from, to, path, ret, info);
    close(from);
    if (to >= 0) {
        close(to);
    }
    return e;
}

struct geoip *geoip_ref(struct geoip *g)
{
    if (g != NULL) {
        atomic_fetch_add(&g->refs, 1);
    }
    return g;
}

void geoip_unref(struct geoip *g)
{
    if (g != NULL && atomic_fetch_sub(&g->refs, 1) == 1) {
        MMDB_close(&g->db);
        free(g);
    }
}

const char *geoip_type(const struct geoip *g)
{
    return g->type;
}

int64_t geoip_built_s(const struct geoip *g)
{
    return (int64_t)g->db.metadata.build_epoch;
}

/* --- the one in use ---------------------------------------------------------------------------------------- */

struct geoip_slot {
    pthread_mutex_t mutex;
    struct geoip *now;
};

enum err geoip_slot_new(struct geoip_slot **ret)
{
    struct geoip_slot *s = NEW(struct geoip_slot);
    if (s == NULL || pthread_mutex_init(&s->mutex, NULL) != 0) {
        free(s);
        return E_NOMEM;
    }
    *ret = s;
    return OK;
}

void geoip_slot_free(struct geoip_slot *s)
{
    if (s != NULL) {
        geoip_unref(s->now);
        (void)pthread_mutex_destroy(&s->mutex);
        free(s);
    }
}

struct geoip *geoip_slot_get(struct geoip_slot *s)
{
    (void)pthread_mutex_lock(&s->mutex);
    struct geoip *g = geoip_ref(s->now);
    (void)pthread_mutex_unlock(&s->mutex);
    return g;
}

void geoip_slot_set(struct geoip_slot *s, struct geoip *g)
{
    (void)pthread_mutex_lock(&s->mutex);
    struct geoip *old = s->now;
    s->now = g;
    (void)pthread_mutex_unlock(&s->mutex);
    geoip_unref(old);
}

/* --- looking up -------------------------------------------------------------------------------------------- */

/* Two capital letters, or nothing. */
static void get_code(MMDB_entry_s *entry, const char *const *path, char dst[3])
{
    MMDB_entry_data_s v;
    if (MMDB_aget_value(entry, &v, path) != MMDB_SUCCESS || !v.has_data ||
        v.type != MMDB_DATA_TYPE_UTF8_STRING || v.data_size != 2) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (v.utf8_string[i] < 'A' || v.utf8_string[i] > 'Z') {
            return;
        }
    }
    memcpy(dst, v.utf8_string, 2);
}

static bool read_sockaddr(struct span text, struct sockaddr_storage *ret)
{
    char s[INET6_ADDRSTRLEN];
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
    memset(ret, 0, sizeof(*ret));
    if (!span_to_cstr(text, s, sizeof(s))) {
        return false;
    }
    if (inet_pton(AF_INET, s, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        return true;
    }
    v6->sin6_family = AF_INET6;
    if (inet_pton(AF_INET6, s, &v6->sin6_addr) != 1) {
        return false;
    }
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
        struct in_addr mapped;
        memcpy(&mapped, v6->sin6_addr.s6_addr + 12, sizeof(mapped));
        memset(ret, 0, sizeof(*ret));
        v4->sin_family = AF_INET;
        v4->sin_addr = mapped;
    }
    return true;
}

void geoip_find(const struct geoip *g, struct span address, struct geoip_place *ret)
{
    static const char *const country[] = {"country", "iso_code", NULL};
    static const char *const registered[] = {"registered_country", "iso_code", NULL};
    static const char *const continent[] = {"continent", "code", NULL};
    struct sockaddr_storage at;
    int rc = 0;
    *ret = (struct geoip_place){.country = ""};
    if (g == NULL || !read_sockaddr(address, &at)) {
        return;
    }
    MMDB_lookup_result_s r = MMDB_lookup_sockaddr(&g->db, (const struct sockaddr *)&at, &rc);
    if (rc != MMDB_SUCCESS || !r.found_entry) {
        return;
    }
    get_code(&r.entry, country, ret->country);
    if (ret->country[0] == '\0') {
        get_code(&r.entry, registered, ret->country);
    }
    get_code(&r.entry, continent, ret->continent);
}
