/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/text.h"

void secret_done(struct secret *s)
{
    mem_wipe(s->b, sizeof(s->b));
    s->n = 0;
}

enum err secret_set(struct secret *s, struct span from)
{
    if (from.n > sizeof(s->b)) {
        return E_TOO_LARGE;
    }
    if (from.n != 0) {
        memmove(s->b, from.p, from.n); /* from may lie in s */
    }
    mem_wipe(s->b + from.n, sizeof(s->b) - from.n);
    s->n = from.n;
    return OK;
}

enum err secret_random(struct secret *s, size_t n)
{
    if (n > sizeof(s->b)) {
        return E_TOO_LARGE;
    }
    secret_done(s);
    random_bytes(s->b, n);
    s->n = n;
    return OK;
}

enum err secret_from_base64(struct secret *s, struct span text)
{
    AUTO(secret_done) struct secret got = {{0}, 0};
    size_t n = sizeof(got.b);
    if (base64_decode_to(text, got.b, &n) != OK) {
        return E_MALFORMED;
    }
    got.n = n;
    return secret_set(s, secret_span(&got));
}

void mem_wipe(void *p, size_t n)
{
    if (n != 0) {
        OPENSSL_cleanse(p, n);
    }
}

bool mem_equal_ct(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || CRYPTO_memcmp(a.p, b.p, a.n) == 0);
}

enum err secret_forbid_dumps(struct err_info *info)
{
    struct rlimit none = {0, 0};
    /* Not dumpable also closes /proc/self/mem and ptrace to other processes of the same user. */
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return err_set_errno(info, errno, "could not switch core dumps off");
    }
    return OK;
}
