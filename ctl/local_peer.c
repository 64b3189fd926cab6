/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/local_peer.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"

#define TABLE_MAX (32u << 20)

/*
 * "  sl  local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...": words 1, 2, 7 and 9 of each line. sscanf looks for
 * the end of the whole text before it begins, so it is shown one line, and only one that has both addresses.
 */
bool local_peer_in_table(const char *table, const char *local, const char *remote,
                         unsigned long *ret_uid)
{
    char both[168];
    int n = snprintf(both, sizeof(both), " %s %s ", local, remote);
    if (n < 0 || (size_t)n >= sizeof(both)) {
        return false;
    }
    for (const char *at = table; (at = strstr(at, both)) != NULL; at += n) {
        char line[256];
        unsigned long uid, inode;
        (void)!span_to_cstr(span_of(at, strnlen(at, sizeof(line) - 1)), line, sizeof(line));
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, " %*s %*s %*x %*s %*s %*x %lu %*d %lu", &uid, &inode) == 2 && inode != 0) {
            *ret_uid = uid;
            return true;
        }
    }
    return false;
}

static bool read_table(const char *path, struct buf *b)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return false;
    }
    for (;;) {
        uint8_t *p = buf_reserve(b, 65536);
        size_t n = p != NULL ? fread(p, 1, 65536, f) : 0;
        if (n == 0) {
            break;
        }
        b->n += n;
    }
    (void)fclose(f);
    buf_add_u8(b, 0);
    return buf_err(b) == OK;
}

static bool find_uid(const char *path, const char *local, const char *remote, unsigned long *ret)
{
    AUTO(buf_done) struct buf b = BUF_INIT(TABLE_MAX);
    return read_table(path, &b) && local_peer_in_table((const char *)b.p, local, remote, ret);
}

/* As the kernel prints it: 32-bit words in the byte order of the host. */
static void address_text(const struct sockaddr *a, char dst[80])
{
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *in4 = (const void *)a;
        (void)snprintf(dst, 80, "%08X:%04X", (unsigned)in4->sin_addr.s_addr, ntohs(in4->sin_port));
        return;
    }
    const struct sockaddr_in6 *in6 = (const void *)a;
    uint32_t w[4];
    memcpy(w, &in6->sin6_addr, sizeof(w));
    (void)snprintf(dst, 80, "%08X%08X%08X%08X:%04X", w[0], w[1], w[2], w[3], ntohs(in6->sin6_port));
}

bool local_peer_is_own(struct conn *c)
{
    socklen_t n;
    const struct sockaddr *a = conn_peer_addr(c, &n);
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } own = {.any = {.sa_family = a->sa_family}};
    char local[80], remote[80];
    unsigned long uid;
    bool is_v4 = a->sa_family == AF_INET;
    void *dst = is_v4 ? (void *)&own.in4.sin_addr : (void *)&own.in6.sin6_addr;
    if ((!is_v4 && a->sa_family != AF_INET6) ||
        inet_pton(a->sa_family, conn_local_text(c), dst) != 1) {
        return false;
    }
    own.in4.sin_port = htons(conn_local_port(c)); /* in the same place for both */
    address_text(a, local);
    address_text(&own.any, remote);
    bool found = find_uid(is_v4 ? "/proc/net/tcp" : "/proc/net/tcp6", local, remote, &uid);
    return found && (uid == geteuid() || uid == 0);
}
