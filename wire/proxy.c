/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/proxy.h"

#include <arpa/inet.h>

#include "base/limits.h"
#include "base/text.h"
#include "wire/http.h"

/* --- addresses of proxies ------------------------------------------------------------------ */

static struct span without_brackets(struct span host)
{
    return host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']'
               ? span_sub(host, 1, host.n - 2)
               : host;
}

/* What stands before the last c, and behind it; without c all of it is behind. */
static struct span cut_last(struct span *rest, uint8_t c)
{
    size_t at = rest->n;
    while (at > 0 && rest->p[at - 1] != c) {
        at--;
    }
    if (at == 0) {
        return SPAN_NONE;
    }
    struct span before = span_sub(*rest, 0, at - 1);
    *rest = span_from(*rest, at);
    return before;
}

enum err proxy_url_read(struct span url, struct proxy_url *ret, struct err_info *info)
{
    const struct span scheme = SPAN_LIT("http://");
    struct proxy_url u = {.port = PROXY_PORT};
    uint64_t port;
    struct span rest = span_trim(url);
    if (span_starts_nocase(rest, scheme)) {
        rest = span_from(rest, scheme.n);
    }
    if (span_starts(span_from(rest, span_find(rest, ':')), SPAN_LIT("://"))) {
        return err_set(info, E_CONFIG, "only http:// proxies are known here");
    }
    if (span_ends(rest, SPAN_LIT("/"))) {
        rest = span_sub(rest, 0, rest.n - 1);
    }
    u.user = cut_last(&rest, '@'); /* a password may hold one, a host cannot */
    u.has_user = u.user.p != NULL;
    if (u.has_user) {
        struct span both = u.user;
        u.user = span_cut(&both, ':');
        u.password = both;
    }
    if (!http_host_ok(rest)) {
        return err_set(info, E_CONFIG, "a proxy is given as http://HOST:PORT");
    }
    struct span name = http_host_name(rest);
    struct span digits = span_from(rest, name.n);
    if (digits.n > 0) {
        if (!span_to_u64(span_from(digits, 1), &port) || port == 0) {
            return err_set(info, E_CONFIG, "a proxy has no port 0");
        }
        u.port = (uint16_t)port;
    }
    u.host = without_brackets(name);
    *ret = u;
    return OK;
}

/* --- who needs none ------------------------------------------------------------------------ */

/* Bytes of the address, 4 or 16; 0: it is none. */
static size_t literal(struct span text, uint8_t ret[16])
{
    char s[INET6_ADDRSTRLEN];
    if (!span_to_cstr(without_brackets(text), s, sizeof(s))) {
        return 0;
    }
    return inet_pton(AF_INET, s, ret) == 1 ? 4 : inet_pton(AF_INET6, s, ret) == 1 ? 16 : 0;
}

static bool net_has(struct span item, const uint8_t *address, size_t n)
{
    uint8_t net[16];
    uint64_t bits = 8 * n;
    struct span length = item;
    struct span base = span_cut(&length, '/');
    if (literal(base, net) != n || (length.p != NULL && !span_to_u64(length, &bits)) ||
        bits > 8 * n) {
        return false;
    }
    size_t whole = (size_t)bits / 8;
    uint8_t mask = (uint8_t)(0xff00u >> (bits % 8));
    return span_eq(span_of(net, whole), span_of(address, whole)) &&
           (mask == 0 || ((net[whole] ^ address[whole]) & mask) == 0);
}

static struct span without_last_dot(struct span name)
{
    return span_ends(name, SPAN_LIT(".")) ? span_sub(name, 0, name.n - 1) : name;
}

static bool name_has(struct span item, struct span host)
{
    item = without_last_dot(span_from(item, span_starts(item, SPAN_LIT(".")) ? 1 : 0));
    if (item.n == 0 || item.n > host.n) {
        return false;
    }
    size_t at = host.n - item.n;
    return span_eq_nocase(span_from(host, at), item) && (at == 0 || host.p[at - 1] == '.');
}

bool proxy_exempts(struct span list, struct span host)
{
    uint8_t address[16];
    size_t n = literal(host, address);
    host = without_last_dot(host);
    if (span_is(span_trim(list), "*")) {
        return true;
    }
    while (list.n > 0) {
        struct span rest = span_cut(&list, ',');
        while (rest.n > 0) {
            struct span item = span_trim(span_cut(&rest, ' '));
            if (n != 0 ? net_has(item, address, n) : name_has(item, host)) {
                return true;
            }
        }
    }
    return false;
}

/* --- the request --------------------------------------------------------------------------- */

enum err proxy_connect_write(struct buf *ret, struct span host, uint16_t port,
                             struct span credential, struct err_info *info)
{
    AUTO(buf_done) struct buf at = BUF_INIT(LIMIT_HOST + 16u);
    uint8_t address[16];
    bool is_ipv6 = literal(host, address) == 16;
    buf_add_str(&at, is_ipv6 ? "[" : "");
    buf_add(&at, host);
    buf_addf(&at, "%s:%u", is_ipv6 ? "]" : "", port);
    /* a name that a server told: it must not become a line of its own */
    if (buf_err(&at) != OK || !http_host_ok(buf_span(&at))) {
        return err_set(info, E_ARG, "the proxy cannot be asked for what is no name of a host");
    }
    buf_addf(ret,
             "CONNECT %.*s HTTP/1.1\r\nHost: %.*s\r\nUser-Agent: berth/" PACKAGE_VERSION "\r\n",
             SPAN_ARG(buf_span(&at)), SPAN_ARG(buf_span(&at)));
    if (credential.n > 0) {
        buf_add_str(ret, "Proxy-Authorization: Basic ");
        base64_add(ret, credential);
        buf_add_str(ret, "\r\n");
    }
    buf_add_str(ret, "\r\n");
    return buf_err(ret);
}
