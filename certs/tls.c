/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/tls.h"

#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "certs/cert_int.h"
#include "certs/keyring.h"

struct cert_peer_store {
    size_t n;      /* bytes */
    uint8_t der[]; /* leaf first, one behind the other */
};

void cert_peer_store_free(struct cert_peer_store *s)
{
    free(s);
}

/* Leaf first, whichever side we are: a server's OpenSSL does not count the leaf in the chain. */
static enum err presented(SSL *ssl, X509 *all[LIMIT_CHAIN_CERTS + 1], size_t *ret_n,
                          struct err_info *info)
{
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
    size_t n = (size_t)MAX(sk_X509_num(chain), 0);
    size_t skip = SSL_is_server(ssl) || n == 0 ? 0 : 1;
    if (n - skip > LIMIT_CHAIN_CERTS) {
        return err_set(info, E_CERT, "%zu certificates behind the leaf; %u allowed", n - skip,
                       LIMIT_CHAIN_CERTS);
    }
    all[0] = SSL_get0_peer_certificate(ssl);
    for (size_t i = skip; i < n; i++) {
        all[1 + i - skip] = sk_X509_value(chain, (int)i);
    }
    *ret_n = 1 + n - skip;
    return OK;
}

static enum err sizes(X509 *const *all, size_t n, size_t *ret_each, size_t *ret_total,
                      struct err_info *info)
{
    *ret_total = 0;
    for (size_t i = 0; i < n; i++) {
        int size = i2d_X509(all[i], NULL);
        if (size <= 0 || size > (int)LIMIT_CERT_DER) {
            return err_set(info, E_CERT, "link %zu: certificate of %d bytes, 1 to %u allowed", i,
                           size, LIMIT_CERT_DER);
        }
        ret_each[i] = (size_t)size;
        *ret_total += (size_t)size;
    }
    return OK;
}

enum err cert_peer_from_ssl(void *ssl, struct cert_peer_store **ret_store, struct cert_peer *ret,
                            struct err_info *info)
{
    X509 *all[LIMIT_CHAIN_CERTS + 1];
    size_t each[LIMIT_CHAIN_CERTS + 1];
    size_t n = 0, total = 0;
    enum err e;
    if (SSL_get0_peer_certificate(ssl) == NULL) {
        *ret_store = NULL;
        *ret = (struct cert_peer){.n_chain = 0};
        return OK;
    }
    if ((e = presented(ssl, all, &n, info)) != OK ||
        (e = sizes(all, n, each, &total, info)) != OK) {
        ERR_clear_error();
        return e;
    }
    struct cert_peer_store *s = mem_new(sizeof(*s) + total);
    if (s == NULL) {
        return err_set(info, E_NOMEM, "peer certificate: out of memory");
    }
    struct cert_peer peer = {.n_chain = n - 1};
    unsigned char *at = s->der;
    for (size_t i = 0; i < n; i++) {
        struct span der = span_of(at, each[i]);
        (void)i2d_X509(all[i], &at); /* size known: cannot fail */
        *(i == 0 ? &peer.leaf_der : &peer.chain_der[i - 1]) = der;
    }
    s->n = total;
    ASSERT(at == s->der + s->n);
    sha256(peer.leaf_der, peer.leaf_sha256);
    *ret_store = s;
    *ret = peer;
    return OK;
}
