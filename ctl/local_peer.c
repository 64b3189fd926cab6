/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/local_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"

#define TABLE_MAX (32u << 20)

/* "  sl  local_address rem_address st tx:rx tr:when retrnsmt uid ...": words 1 and 7 of each line. */
bool local_peer_in_table(const char *table, const char *local, unsigned long *ret_uid)
{
    for (const char *line = table; line != NULL && *line != '\0';) {
        char address[80];
        unsigned long uid;
        if (sscanf(line, " %*u: %79s %*s %*x %*s %*s %*x %lu", address, &uid) == 2 &&
            strcmp(address, local) == 0) {
            *ret_uid = uid;
            return true;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
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

static bool find_uid(const char *path, const char *local, unsigned long *ret)
{
    AUTO(buf_done) struct buf b = BUF_INIT(TABLE_MAX);
    return read_table(path, &b) && local_peer_in_table((const char *)b.p, local, ret);
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
    char local[80];
    unsigned long uid;
    if (a->sa_family != AF_INET && a->sa_family != AF_INET6) {
        return false;
    }
    address_text(a, local);
    bool found =
        find_uid(a->sa_family == AF_INET ? "/proc/net/tcp" : "/proc/net/tcp6", local, &uid);
    return found && (uid == geteuid() || uid == 0);
}
