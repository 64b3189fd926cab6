/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: issuebench DIR SECONDS
 *
 * Certificates issued by one core: request parsed and its signature checked, profile applied, signed with P-256, and the line in the
 * log of issued certificates committed (fdatasync) before the next one may take its place in the window. The work of step ISSUE without
 * the network. Prints one JSON object: certificates, CPU and wall seconds, and P-256 signatures a second of the same core alone.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include <openssl/ec.h>
#include <openssl/evp.h>

#include "base/crypto_lib.h"
#include "base/text.h"
#include "certs/signer.h"
#include "dps/dps.h"
#include "dps/issuance_sql.h"

#define WINDOW 256u

struct line {
    struct store_op op;
    struct cert *cert;
    char serial[48];
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t room = PTHREAD_COND_INITIALIZER;
static unsigned under_way, failed;

static double cpu_s(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void must(enum err e, const char *what)
{
    if (e != OK) {
        fprintf(stderr, "issuebench: %s: %s\n", what, err_text(e));
        exit(1);
    }
}

static enum err log_tx(struct store_tx *tx, struct store_op *op)
{
    const struct line *l = CONTAINER_OF(op, struct line, op);
    const struct issued_row row = {
        .serial = span_str(l->serial),
        .subject = SPAN_LIT("CN=unit-1"),
        .ca = SPAN_LIT("devices"),
        .not_before_us = cert_not_before_us(l->cert),
        .not_after_us = cert_not_after_us(l->cert),
        .sha256 = span_of(cert_sha256(l->cert), CERT_SHA256),
        .fold = SPAN_LIT("unit-1"),
        .op_id = SPAN_LIT("5.0123456789abcdef.00000000-0000-0000-0000-000000000000"),
        .at_us = tx->now_us,
    };
    return sql_issued_add(tx->db, &row);
}

static void logged(struct msg *m)
{
    struct line *l = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct line, op);
    (void)pthread_mutex_lock(&lock);
    under_way--;
    failed += l->op.result != OK ? 1 : 0;
    (void)pthread_cond_signal(&room);
    (void)pthread_mutex_unlock(&lock);
    cert_free(l->cert);
    free(l);
}

static void wait_for(unsigned most)
{
    (void)pthread_mutex_lock(&lock);
    while (under_way > most) {
        (void)pthread_cond_wait(&room, &lock);
    }
    (void)pthread_mutex_unlock(&lock);
}

static void issue(struct store *st, const struct signer_key *key, const struct cert *ca,
                  struct span request, struct crypto_lib *lib)
{
    AUTO(csr_free_p) struct csr *csr = NULL;
    AUTO(buf_done) struct buf serial = BUF_INIT(64);
    struct line *l = NEW(struct line);
    struct span cn;
    int64_t now = clock_wall_us(clock_system());
    const struct cert_request rq = {.profile = PROFILE_DEVICE,
                                    .cn = SPAN_LIT("unit-1"),
                                    .not_before_us = now,
                                    .not_after_us = now + 86400000000LL};
    must(l != NULL ? OK : E_NOMEM, "memory");
    must(csr_from_der_in(lib, request, &csr, NULL), "request");
    must(csr_cn(csr, &cn, NULL), "CN");
    must(signer_issue_now(key, ca, csr, NULL, &rq, &l->cert, NULL), "signing");
    cert_add_serial_hex(l->cert, &serial);
    (void)span_to_cstr(buf_span(&serial), l->serial, sizeof(l->serial));
    l->op.tx = log_tx;
    l->op.msg.run = logged;
    l->op.bytes = sizeof(*l);
    wait_for(WINDOW - 1);
    (void)pthread_mutex_lock(&lock);
    under_way++;
    (void)pthread_mutex_unlock(&lock);
    must(store_submit(st, &l->op), "log");
}

/* Signatures alone, as `openssl speed ecdsap256` counts them. */
static double signatures_per_s(double seconds)
{
    static const uint8_t digest[32] = {1};
    uint8_t sig[256];
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(pkey, NULL);
    double begun = cpu_s();
    size_t n = 0;
    must(c != NULL && EVP_PKEY_sign_init(c) == 1 ? OK : E_CRYPTO, "key");
    while (cpu_s() - begun < seconds) {
        for (unsigned i = 0; i < 100; i++, n++) {
            size_t size = sizeof(sig);
            must(EVP_PKEY_sign(c, sig, &size, digest, sizeof(digest)) == 1 ? OK : E_CRYPTO, "sign");
        }
    }
    double rate = (double)n / (cpu_s() - begun);
    EVP_PKEY_CTX_free(c);
    EVP_PKEY_free(pkey);
    return rate;
}

int main(int argc, char **argv)
{
    static const struct store_module *const modules[] = {&dps_module};
    char path[512];
    struct store *st = NULL;
    struct signer_key *key = NULL, *device = NULL;
    struct cert *ca = NULL;
    struct crypto_lib *lib = NULL;
    struct buf csr = BUF_INIT(LIMIT_CERT_DER);
    double seconds = argc == 3 ? strtod(argv[2], NULL) : 0;
    if (seconds <= 0) {
        fprintf(stderr, "usage: issuebench DIR SECONDS\n");
        return 2;
    }
    (void)snprintf(path, sizeof(path), "%s/issuebench.db", argv[1]);
    const struct store_config cfg = {.path = path,
                                     .modules = modules,
                                     .n_modules = 1,
                                     .clock = clock_system(),
                                     .scan_threads = 1};
    int64_t now = clock_wall_us(clock_system());
    const struct cert_request root = {.profile = PROFILE_ROOT_CA,
                                      .cn = SPAN_LIT("devices"),
                                      .not_before_us = now - 1000000,
                                      .not_after_us = now + 10 * 86400000000LL};
    must(store_open(&cfg, &st, NULL), "database");
    must(signer_key_generate(KEY_P256, &key), "key");
    must(signer_key_generate(KEY_P256, &device), "key");
    must(signer_issue_now(key, NULL, NULL, NULL, &root, &ca, NULL), "CA");
    must(crypto_lib_new(&lib, NULL), "library context");
    must(signer_make_csr(device, SPAN_LIT("unit-1"), &csr, NULL), "request");
    double alone = signatures_per_s(seconds / 4), cpu = cpu_s();
    uint64_t begun = clock_mono_ms(clock_system()), n = 0;
    while ((double)(clock_mono_ms(clock_system()) - begun) < seconds * 1000) {
        issue(st, key, ca, buf_span(&csr), lib);
        n++;
    }
    wait_for(0);
    double wall = (double)(clock_mono_ms(clock_system()) - begun) / 1000;
    cpu = cpu_s() - cpu;
    printf(
        "{\"issued\":%llu,\"failed\":%u,\"cpu_s\":%.3f,\"wall_s\":%.3f,\"issued_per_cpu_s\":%.0f,"
        "\"signatures_per_s\":%.0f}\n",
        (unsigned long long)n, failed, cpu, wall, (double)n / cpu, alone);
    store_drain(st);
    store_close(st);
    signer_key_free(key);
    signer_key_free(device);
    cert_free(ca);
    crypto_lib_unref(lib);
    buf_done(&csr);
    return failed == 0 ? 0 : 1;
}
