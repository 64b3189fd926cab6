/* SPDX-License-Identifier: Apache-2.0 */
#include "net/egress_addr.h"

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "base/cdefs.h"

enum kind { PUBLIC, PRIVATE, NEVER };

/* The longest prefix is not looked for: the first row that fits decides. */
struct net4 {
    uint32_t net;
    unsigned bits;
    enum kind kind;
};
#define V4(a, b, c, d)                                                                             \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))
/* clang-format off */
static const struct net4 nets4[] = {
    { V4(0, 0, 0, 0),       8,  NEVER },   /* this host */
    { V4(10, 0, 0, 0),      8,  PRIVATE },
    { V4(100, 64, 0, 0),    10, PRIVATE }, /* shared, RFC 6598 */
    { V4(127, 0, 0, 0),     8,  PRIVATE },
    { V4(169, 254, 0, 0),   16, PRIVATE }, /* link-local, metadata services */
    { V4(172, 16, 0, 0),    12, PRIVATE },
    { V4(192, 0, 0, 0),     24, PRIVATE },
    { V4(192, 0, 2, 0),     24, PRIVATE }, /* documentation */
    { V4(192, 88, 99, 0),   24, PRIVATE }, /* 6to4 relays */
    { V4(192, 168, 0, 0),   16, PRIVATE },
    { V4(198, 18, 0, 0),    15, PRIVATE }, /* benchmarks */
    { V4(198, 51, 100, 0),  24, PRIVATE },
    { V4(203, 0, 113, 0),   24, PRIVATE },
    { V4(224, 0, 0, 0),     4,  NEVER },   /* multicast */
    { V4(240, 0, 0, 0),     4,  NEVER },   /* reserved, broadcast */
};

/* at: where an IPv4 address stands inside that is judged in its place; 0: none. */
static const struct net6 {
    uint8_t net[16];
    unsigned bits;
    enum kind kind;
    unsigned at;
} nets6[] = {
    { { 0 },                                   128, NEVER,   0 },  /* :: */
    { { [15] = 1 },                            128, PRIVATE, 0 },  /* ::1 */
    { { [10] = 0xff, [11] = 0xff },            96,  PUBLIC,  12 }, /* ::ffff:a.b.c.d */
    { { 0 },                                   96,  PUBLIC,  12 }, /* ::a.b.c.d */
    { { [8] = 0xff, [9] = 0xff },              96,  PUBLIC,  12 }, /* ::ffff:0:a.b.c.d */
    { { 0, 0x64, 0xff, 0x9b },                 96,  PUBLIC,  12 }, /* NAT64 */
    { { 0, 0x64, 0xff, 0x9b, 0, 1 },           48,  PRIVATE, 0 },  /* local NAT64, RFC 8215 */
    { { 1 },                                   64,  NEVER,   0 },  /* discard, 100::/64 */
    { { 0x20, 0x01, 0, 0 },                    32,  PRIVATE, 0 },  /* Teredo */
    { { 0x20, 0x01, 0, 2 },                    48,  PRIVATE, 0 },  /* benchmarks */
    { { 0x20, 0x01, 0x0d, 0xb8 },              32,  PRIVATE, 0 },  /* documentation */
    { { 0x20, 0x02 },                          16,  PUBLIC,  2 },  /* 6to4 */
    { { 0xfc },                                7,   PRIVATE, 0 },  /* unique local */
    { { 0xfe, 0x80 },                          10,  PRIVATE, 0 },  /* link-local */
    { { 0xfe, 0xc0 },                          10,  PRIVATE, 0 },  /* site local */
    { { 0xff },                                8,   NEVER,   0 },  /* multicast */
};
/* clang-format on */

static enum kind kind4(const uint8_t b[4])
{
    uint32_t a = V4(b[0], b[1], b[2], b[3]);
    for (size_t i = 0; i < ARRAY_LEN(nets4); i++) {
        uint32_t mask = UINT32_MAX << (32 - nets4[i].bits);
        if ((a & mask) == nets4[i].net) {
            return nets4[i].kind;
        }
    }
    return PUBLIC;
}

static bool fits6(const struct net6 *n, const uint8_t b[16])
{
    size_t whole = n->bits / 8;
    unsigned rest = n->bits % 8;
    uint8_t mask = (uint8_t)(0xff00u >> rest);
    return memcmp(n->net, b, whole) == 0 && (rest == 0 || (b[whole] & mask) == n->net[whole]);
}

static enum kind kind6(const uint8_t b[16])
{
    for (size_t i = 0; i < ARRAY_LEN(nets6); i++) {
        if (fits6(&nets6[i], b)) {
            return nets6[i].at != 0 ? kind4(b + nets6[i].at) : nets6[i].kind;
        }
    }
    return PUBLIC;
}

bool egress_addr_allowed(const struct sockaddr *sa, bool allow_private)
{
    enum kind k = NEVER;
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        uint8_t b[4];
        memcpy(&in, sa, sizeof(in));
        memcpy(b, &in.sin_addr, sizeof(b));
        k = kind4(b);
    } else if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof(in6));
        k = kind6(in6.sin6_addr.s6_addr);
    }
    return k == PUBLIC || (k == PRIVATE && allow_private);
}
