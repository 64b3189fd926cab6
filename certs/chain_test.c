/* SPDX-License-Identifier: Apache-2.0 */
/* The chain zoo (threats C2, N7; docs/protocol/dps-device.md 6): one row, one fault, the failing link named. */
#include "certs/chain.h"

#include <pthread.h>
#include <string.h>

#include <openssl/x509.h>

#include "base/crypto_lib.h"
#include "certs/chain_cache.h"
#include "certs/chain_int.h"
#include "certs/verdicts.h"
#include "certs/zoo.h"
#include "tests/unit.h"

struct scene {
    struct zoo zoo;
    const struct zoo_id *leaf;
    const struct zoo_id *presented[12];
    const struct zoo_id *trusted[4];
    const struct zoo_id *helping[4];
    struct span raw_link; /* instead of presented[0] */
    int64_t now_us;
};
#define Z (&s->zoo)
#define CA_OK "critical,CA:TRUE"
#define CA_USE "critical,keyCertSign,cRLSign"
#define MAKE(...) zoo_make(Z, &(struct zoo_spec){__VA_ARGS__})

/* root, intermediate, leaf in place; the row then changes one thing */
static void base(struct scene *s)
{
    s->trusted[0] = zoo_root(Z, "Root");
    s->presented[0] = zoo_ca(Z, "Int", s->trusted[0]);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void good(struct scene *s)
{
    base(s);
}

static void good_rsa(struct scene *s)
{
    s->trusted[0] = MAKE(.cn = "Root", .key = ZOO_RSA2048, .constraints = CA_OK, .usage = CA_USE,
                         .ski = "hash");
    s->leaf = zoo_leaf(Z, "dev-1", s->trusted[0]);
}

static void root_presented_too(struct scene *s)
{
    base(s);
    s->presented[1] = s->trusted[0];
}

static void strangers_presented_too(struct scene *s)
{
    base(s);
    s->presented[1] = zoo_root(Z, "Stranger");
    s->presented[2] = zoo_ca(Z, "Stranger 2", s->presented[1]);
}

static void partial(struct scene *s)
{
    base(s);
    s->trusted[0] = s->presented[0];
    s->presented[0] = NULL;
}

/* The anchor is the intermediate; a group may name the root, so the path tells of it. */
static void root_above_anchor(struct scene *s)
{
    base(s);
    s->trusted[1] = s->presented[0];
    s->presented[0] = NULL;
}

static void untrusted_root_above_anchor(struct scene *s)
{
    base(s);
    s->helping[0] = s->trusted[0];
    s->trusted[0] = s->presented[0];
    s->presented[0] = NULL;
}

static void expired_root_above_anchor(struct scene *s)
{
    s->trusted[1] = MAKE(.cn = "Root", .constraints = CA_OK, .usage = CA_USE, .ski = "hash",
                         .from_days = -9, .to_days = -2);
    s->trusted[0] = zoo_ca(Z, "Int", s->trusted[1]);
    s->leaf = zoo_leaf(Z, "dev-1", s->trusted[0]);
}

static void false_root_above_anchor(struct scene *s)
{
    const struct zoo_id *root = zoo_root(Z, "Root");
    s->trusted[0] = zoo_ca(Z, "Int", root);
    s->trusted[1] = MAKE(.name_of = root, .constraints = CA_OK, .usage = CA_USE);
    s->leaf = zoo_leaf(Z, "dev-1", s->trusted[0]);
}

static void through_helper(struct scene *s)
{
    base(s);
    s->helping[0] = s->presented[0];
    s->presented[0] = NULL;
}

static void helper_is_no_anchor(struct scene *s)
{
    through_helper(s);
    s->trusted[0] = NULL;
}

static void no_key_ids(struct scene *s)
{
    s->trusted[0] = MAKE(.cn = "Root", .constraints = CA_OK, .usage = CA_USE);
    s->presented[0] =
        MAKE(.cn = "Int", .issuer = s->trusted[0], .constraints = CA_OK, .usage = CA_USE);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0]);
}

static void no_key_usage(struct scene *s)
{
    s->trusted[0] = MAKE(.cn = "Root", .constraints = "CA:TRUE", .ski = "hash");
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0], .constraints = "CA:TRUE",
                           .ski = "hash", .aki = "keyid");
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .aki = "keyid");
}

static void v1_leaf(struct scene *s)
{
    base(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .v1 = true);
}

/* Two trusted CAs of one name, as after a change of keys: the signature picks. */
static void namesakes(struct scene *s)
{
    s->trusted[0] = MAKE(.cn = "Root", .constraints = CA_OK, .usage = CA_USE);
    s->trusted[1] = MAKE(.cn = "Root", .constraints = CA_OK, .usage = CA_USE);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->trusted[0]);
}

static void namesakes_other_one(struct scene *s)
{
    namesakes(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->trusted[1]);
}

static void namesakes_neither(struct scene *s)
{
    namesakes(s);
    const struct zoo_id *third = MAKE(.cn = "Root", .constraints = CA_OK, .usage = CA_USE);
    s->leaf = MAKE(.cn = "dev-1", .issuer = third);
}

static void leaf_expired(struct scene *s)
{
    base(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .from_days = -9, .to_days = -1);
}

static void leaf_not_yet(struct scene *s)
{
    base(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .from_days = 1, .to_days = 9);
}

static void int_expired(struct scene *s)
{
    base(s);
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0], .constraints = CA_OK,
                           .usage = CA_USE, .from_days = -9, .to_days = -1);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void int_not_yet(struct scene *s)
{
    base(s);
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0], .constraints = CA_OK,
                           .usage = CA_USE, .from_days = 1, .to_days = 9);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void root_expired(struct scene *s)
{
    s->trusted[0] = MAKE(.cn = "Root", .constraints = CA_OK, .usage = CA_USE, .ski = "hash",
                         .from_days = -9, .to_days = -1);
    s->presented[0] = zoo_ca(Z, "Int", s->trusted[0]);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void last_second(struct scene *s)
{
    base(s);
    s->now_us = ZOO_NOW_US + 365 * ZOO_DAY_US;
}

static void pathlen(struct scene *s)
{
    s->trusted[0] = zoo_root(Z, "Root");
    s->presented[1] = MAKE(.cn = "Int A", .issuer = s->trusted[0],
                           .constraints = "critical,CA:TRUE,pathlen:0", .usage = CA_USE);
    s->presented[0] = zoo_ca(Z, "Int B", s->presented[1]);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void no_ca_flag(struct scene *s)
{
    base(s);
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0]);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void leaf_that_signs(struct scene *s)
{
    base(s);
    s->presented[1] = s->presented[0];
    s->presented[0] = s->leaf;
    s->leaf = zoo_leaf(Z, "dev-2", s->presented[0]);
}

static void leaf_with_cert_sign(struct scene *s)
{
    base(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .constraints = "critical,CA:FALSE",
                   .usage = "digitalSignature,keyCertSign");
}

static void ca_without_cert_sign(struct scene *s)
{
    base(s);
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0], .constraints = CA_OK,
                           .usage = "critical,cRLSign", .ski = "hash");
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void v1_intermediate(struct scene *s)
{
    base(s);
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0], .v1 = true);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0]);
}

static void server_leaf(struct scene *s)
{
    base(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .purpose = "serverAuth");
}

static void server_ca(struct scene *s)
{
    base(s);
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0], .constraints = CA_OK,
                           .usage = CA_USE, .purpose = "serverAuth");
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void wrong_key_usage(struct scene *s)
{
    base(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .usage = "keyEncipherment");
}

static void sha1_leaf(struct scene *s)
{
    base(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .digest = "SHA1");
}

static void md5_leaf(struct scene *s)
{
    good_rsa(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->trusted[0], .digest = "MD5");
}

static void sha1_int(struct scene *s)
{
    base(s);
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0], .digest = "SHA1",
                           .constraints = CA_OK, .usage = CA_USE);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void leaf_key(struct scene *s, enum zoo_key key)
{
    base(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .key = key);
}

static void rsa1024(struct scene *s)
{
    leaf_key(s, ZOO_RSA1024);
}

static void rsa4104(struct scene *s)
{
    leaf_key(s, ZOO_RSA4104);
}

static void rsa16384(struct scene *s)
{
    leaf_key(s, ZOO_RSA16384);
}

static void rsa_wide_e(struct scene *s)
{
    leaf_key(s, ZOO_RSA_WIDE_E);
}

static void explicit_curve(struct scene *s)
{
    leaf_key(s, ZOO_P256_EXPLICIT);
}

static void other_curve(struct scene *s)
{
    leaf_key(s, ZOO_SECP256K1);
}

static void ed25519(struct scene *s)
{
    leaf_key(s, ZOO_ED25519);
}

static void rsa1024_int(struct scene *s)
{
    base(s);
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0], .key = ZOO_RSA1024,
                           .constraints = CA_OK, .usage = CA_USE);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

/* Same subject and key identifier as the real root, another key. */
static void rogue(struct scene *s)
{
    base(s);
    s->presented[0] = MAKE(.name_of = s->trusted[0], .constraints = CA_OK, .usage = CA_USE);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void rogue_unpresented(struct scene *s)
{
    rogue(s);
    s->presented[0] = NULL;
}

static void rogue_intermediate(struct scene *s)
{
    base(s);
    const struct zoo_id *real = s->presented[0];
    s->presented[0] = MAKE(.name_of = real, .issuer = s->trusted[0], .constraints = CA_OK,
                           .usage = CA_USE, .damage_signature = true);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
}

static void damaged_leaf(struct scene *s)
{
    base(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .damage_signature = true);
}

static void missing_intermediate(struct scene *s)
{
    base(s);
    s->presented[0] = NULL;
}

static void unknown_root(struct scene *s)
{
    base(s);
    s->presented[1] = s->trusted[0];
    s->trusted[0] = zoo_root(Z, "Other root");
}

static void no_anchor_at_all(struct scene *s)
{
    base(s);
    s->trusted[0] = NULL;
}

static void self_signed_leaf(struct scene *s)
{
    base(s);
    s->leaf = MAKE(.cn = "dev-1", .purpose = "clientAuth");
}

/* A signed by B, B signed by A. */
static void loop(struct scene *s)
{
    const struct zoo_id *a = zoo_root(Z, "A");
    const struct zoo_id *b = zoo_root(Z, "B");
    s->trusted[0] = zoo_root(Z, "Root");
    s->presented[0] = MAKE(.cn = "A", .issuer = b, .same_key = a, .constraints = CA_OK,
                           .usage = CA_USE, .ski = "hash");
    s->presented[1] = MAKE(.cn = "B", .issuer = a, .same_key = b, .constraints = CA_OK,
                           .usage = CA_USE, .ski = "hash");
    s->leaf = zoo_leaf(Z, "dev-1", a);
}

static void loop_with_anchor(struct scene *s)
{
    loop(s);
    s->trusted[0] = s->presented[1];
}

static void loop_of_anchors(struct scene *s)
{
    loop(s);
    s->trusted[0] = s->presented[0];
    s->trusted[1] = s->presented[1];
    s->presented[0] = s->presented[1] = NULL;
}

static void name_constraints(struct scene *s)
{
    base(s);
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0], .constraints = CA_OK,
                           .usage = CA_USE, .names = "critical,permitted;DNS:ok.example");
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .alt = "DNS:bad.example");
}

static void name_constraints_met(struct scene *s)
{
    name_constraints(s);
    s->leaf = MAKE(.cn = "dev-1", .issuer = s->presented[0], .alt = "DNS:x.ok.example");
}

static void leaf_is_anchor(struct scene *s)
{
    base(s);
    s->leaf = s->trusted[0];
}

static void leaf_is_lower_anchor(struct scene *s)
{
    base(s);
    s->trusted[1] = s->leaf = s->presented[0];
}

static void eight_intermediates(struct scene *s)
{
    const struct zoo_id *up = s->trusted[0] = zoo_root(Z, "Root");
    for (size_t i = LIMIT_CHAIN_CERTS; i-- > 0;) {
        up = s->presented[i] = zoo_ca(Z, "Int", up);
    }
    s->leaf = zoo_leaf(Z, "dev-1", up);
}

static void nine_intermediates(struct scene *s)
{
    eight_intermediates(s);
    s->helping[0] = zoo_ca(Z, "Ninth", s->presented[0]);
    s->leaf = zoo_leaf(Z, "dev-1", s->helping[0]);
}

static void nine_presented(struct scene *s)
{
    eight_intermediates(s);
    s->presented[LIMIT_CHAIN_CERTS] = s->trusted[0];
}

static void garbage_presented(struct scene *s)
{
    base(s);
    s->raw_link = SPAN_LIT("\x30\x03\x02\x01\x00");
}

/* clang-format off */
static const struct row {
    const char *name;
    void (*build)(struct scene *s);
    enum chain_verdict want;
    const char *why; /* begins info */
    size_t path_n;
} rows[] = {
    { "root, intermediate, leaf",      good,                     CHAIN_OK,            NULL, 3 },
    { "RSA",                           good_rsa,                 CHAIN_OK,            NULL, 2 },
    { "root presented too",            root_presented_too,       CHAIN_OK,            NULL, 3 },
    { "strangers presented too",       strangers_presented_too,  CHAIN_OK,            NULL, 3 },
    { "trusted intermediate",          partial,                  CHAIN_OK,            NULL, 2 },
    { "root above the anchor",         root_above_anchor,        CHAIN_OK,            NULL, 3 },
    { "untrusted root above it",       untrusted_root_above_anchor, CHAIN_OK,         NULL, 3 },
    { "expired root above the anchor", expired_root_above_anchor, CHAIN_OK,           NULL, 2 },
    { "false root above the anchor",   false_root_above_anchor,  CHAIN_OK,            NULL, 2 },
    { "helping intermediate",          through_helper,           CHAIN_OK,            NULL, 3 },
    { "helper is no anchor",           helper_is_no_anchor,      CHAIN_NO_ANCHOR,     "link 1 'CN=Int': its issuer is not known", 0 },
    { "no key identifiers",            no_key_ids,               CHAIN_OK,            NULL, 3 },
    { "no keyUsage",                   no_key_usage,             CHAIN_OK,            NULL, 3 },
    { "version 1 leaf",                v1_leaf,                  CHAIN_OK,            NULL, 3 },
    { "namesakes, first",              namesakes,                CHAIN_OK,            NULL, 2 },
    { "namesakes, second",             namesakes_other_one,      CHAIN_OK,            NULL, 2 },
    { "namesakes, neither",            namesakes_neither,        CHAIN_NO_ANCHOR,     "link 0 'CN=dev-1': its issuer is not known", 0 },
    { "leaf expired",                  leaf_expired,             CHAIN_EXPIRED,       "link 0 'CN=dev-1': expired", 0 },
    { "leaf not yet valid",            leaf_not_yet,             CHAIN_NOT_YET_VALID, "link 0 'CN=dev-1': not yet valid", 0 },
    { "intermediate expired",          int_expired,              CHAIN_EXPIRED,       "link 1 'CN=Int': expired", 0 },
    { "intermediate not yet valid",    int_not_yet,              CHAIN_NOT_YET_VALID, "link 1 'CN=Int': not yet valid", 0 },
    { "anchor expired",                root_expired,             CHAIN_EXPIRED,       "link 2 'CN=Root': expired", 0 },
    { "the second it ends",            last_second,              CHAIN_EXPIRED,       "link ", 0 },
    { "pathlen",                       pathlen,                  CHAIN_PATHLEN,       "link 2 'CN=Int A': pathlen exceeded", 0 },
    { "no CA flag",                    no_ca_flag,               CHAIN_NOT_CA,        "link 1 'CN=Int': signs, but is no CA", 0 },
    { "leaf that signs",               leaf_that_signs,          CHAIN_NOT_CA,        "link 1 'CN=dev-1': signs, but is no CA", 0 },
    { "leaf with keyCertSign",         leaf_with_cert_sign,      CHAIN_NOT_CA,        "link 0 'CN=dev-1': keyCertSign, but no CA", 0 },
    { "CA without keyCertSign",        ca_without_cert_sign,     CHAIN_NOT_CA,        "link 1 'CN=Int': signs, but", 0 },
    { "version 1 intermediate",        v1_intermediate,          CHAIN_NOT_CA,        "link 1 'CN=Int': signs, but is no CA", 0 },
    { "EKU serverAuth only",           server_leaf,              CHAIN_EKU,           "link 0 'CN=dev-1': extended key usage without clientAuth", 0 },
    { "CA with EKU serverAuth only",   server_ca,                CHAIN_EKU,           "link 1 'CN=Int': extended key usage without clientAuth", 0 },
    { "keyUsage of the leaf",          wrong_key_usage,          CHAIN_OTHER,         "link 0 'CN=dev-1': keyUsage does not admit", 0 },
    { "SHA-1 leaf",                    sha1_leaf,                CHAIN_WEAK,          "link 0 'CN=dev-1': signed with SHA1", 0 },
    { "MD5 leaf",                      md5_leaf,                 CHAIN_WEAK,          "link 0 'CN=dev-1': signed with MD5", 0 },
    { "SHA-1 intermediate",            sha1_int,                 CHAIN_WEAK,          "link 1 'CN=Int': signed with SHA1", 0 },
    { "RSA-1024",                      rsa1024,                  CHAIN_WEAK,          "link 0 'CN=dev-1': RSA key of 1024 bits", 0 },
    { "RSA-4104",                      rsa4104,                  CHAIN_WEAK,          "link 0 'CN=dev-1': RSA key of 4104 bits", 0 },
    { "RSA-16384",                     rsa16384,                 CHAIN_WEAK,          "link 0 'CN=dev-1': RSA key of 16384 bits", 0 },
    { "RSA exponent",                  rsa_wide_e,               CHAIN_WEAK,          "link 0 'CN=dev-1': RSA exponent", 0 },
    { "explicit curve",                explicit_curve,           CHAIN_WEAK,          "link 0 'CN=dev-1': elliptic curve with explicit", 0 },
    { "other curve",                   other_curve,              CHAIN_WEAK,          "link 0 'CN=dev-1': elliptic curve \"secp256k1\"", 0 },
    { "Ed25519",                       ed25519,                  CHAIN_WEAK,          "link 0 'CN=dev-1': public key is neither", 0 },
    { "RSA-1024 intermediate",         rsa1024_int,              CHAIN_WEAK,          "link 1 'CN=Int': RSA key of 1024 bits", 0 },
    { "rogue with name and key id",    rogue,                    CHAIN_BAD_SIGNATURE, "link 0 'CN=dev-1': signature does not verify", 0 },
    { "the same, rogue not presented", rogue_unpresented,        CHAIN_BAD_SIGNATURE, "link 0 'CN=dev-1': signature does not verify", 0 },
    { "rogue intermediate",            rogue_intermediate,       CHAIN_BAD_SIGNATURE, "link 1 'CN=Int': signature does not verify", 0 },
    { "damaged leaf",                  damaged_leaf,             CHAIN_BAD_SIGNATURE, "link 0 'CN=dev-1': signature does not verify", 0 },
    { "missing intermediate",          missing_intermediate,     CHAIN_NO_ANCHOR,     "link 0 'CN=dev-1': its issuer is not known", 0 },
    { "unknown root",                  unknown_root,             CHAIN_NO_ANCHOR,     "link 2 'CN=Root': self-signed and not trusted", 0 },
    { "no anchors",                    no_anchor_at_all,         CHAIN_NO_ANCHOR,     "link 1 'CN=Int': its issuer is not known", 0 },
    { "self-signed leaf",              self_signed_leaf,         CHAIN_NO_ANCHOR,     "link 0 'CN=dev-1': self-signed and not trusted", 0 },
    { "cross-signed loop",             loop,                     CHAIN_NO_ANCHOR,     "link 2 'CN=B': its issuer is not known", 0 },
    { "loop with an anchor",           loop_with_anchor,         CHAIN_OK,            NULL, 3 },
    { "loop of anchors",               loop_of_anchors,          CHAIN_OK,            NULL, 3 },
    { "name constraints",              name_constraints,         CHAIN_NAME,          "link 0 'CN=dev-1': outside the names", 0 },
    { "name constraints met",          name_constraints_met,     CHAIN_OK,            NULL, 3 },
    { "leaf is the root",              leaf_is_anchor,           CHAIN_OTHER,         "link 0 'CN=Root': is a trusted CA itself", 0 },
    { "leaf is a lower anchor",        leaf_is_lower_anchor,     CHAIN_OTHER,         "link 0 'CN=Int': is a trusted CA itself", 0 },
    { "eight intermediates",           eight_intermediates,      CHAIN_OK,            NULL, 10 },
    { "nine intermediates",            nine_intermediates,       CHAIN_NO_ANCHOR,     "link 9 'CN=Int': ", 0 },
    { "nine presented",                nine_presented,           CHAIN_MALFORMED,     "9 certificates behind the leaf", 0 },
    { "garbage presented",             garbage_presented,        CHAIN_MALFORMED,     "link 1: certificate", 0 },
};
/* clang-format on */

static size_t certs_of(const struct zoo_id *const *ids, size_t max, struct cert **ret)
{
    size_t n = 0;
    while (n < max && ids[n] != NULL) {
        ret[n] = ids[n]->cert;
        n++;
    }
    return n;
}

static struct chain_anchors *anchors_of(const struct scene *s)
{
    struct cert *trusted[4], *helping[4];
    struct chain_anchors *a = NULL;
    size_t n = certs_of(s->trusted, 4, trusted);
    size_t m = certs_of(s->helping, 4, helping);
    assert_ok(chain_anchors_new(trusted, n, helping, m, &a));
    return a;
}

static void peer_of(const struct scene *s, struct cert_peer *ret)
{
    struct cert *presented[12];
    size_t n = certs_of(s->presented, 12, presented);
    *ret = (struct cert_peer){.leaf_der = cert_der(s->leaf->cert), .n_chain = n};
    memcpy(ret->leaf_sha256, cert_sha256(s->leaf->cert), CERT_SHA256);
    for (size_t i = 0; i < MIN(n, (size_t)LIMIT_CHAIN_CERTS); i++) {
        ret->chain_der[i] = cert_der(presented[i]);
    }
    if (s->raw_link.n != 0) {
        ret->chain_der[0] = s->raw_link;
    }
}

static void check_path(const struct scene *s, const struct row *row, const struct chain_path *path)
{
    if (row->path_n != 0) {
        assert_int_equal(path->n, row->path_n);
    }
    assert_true(path->n >= 2 && path->n <= LIMIT_CHAIN_CERTS + 2);
    assert_memory_equal(path->sha256[0], cert_sha256(s->leaf->cert), CERT_SHA256);
    assert_true(path->not_before_us < s->now_us && path->not_after_us > s->now_us);
    bool anchored = false;
    for (size_t i = 0; i < 4 && s->trusted[i] != NULL; i++) {
        anchored = anchored || chain_path_has_issuer(path, cert_sha256(s->trusted[i]->cert));
    }
    assert_true(anchored);
    assert_true(path->anchor >= 1 && path->anchor < path->n);
    for (size_t i = 0; i < 4 && s->trusted[i] != NULL; i++) {
        /* The anchor is trusted, nothing below it is. */
        for (size_t k = 1; k < path->anchor; k++) {
            assert_memory_not_equal(path->sha256[k], cert_sha256(s->trusted[i]->cert), CERT_SHA256);
        }
    }
    bool is_trusted = false;
    for (size_t i = 0; i < 4 && s->trusted[i] != NULL; i++) {
        is_trusted = is_trusted || memcmp(path->sha256[path->anchor],
                                          cert_sha256(s->trusted[i]->cert), CERT_SHA256) == 0;
    }
    assert_true(is_trusted);
}

static void run_row(const struct row *row)
{
    struct scene s = {.now_us = ZOO_NOW_US};
    struct err_info info = {0};
    struct cert_peer peer;
    struct chain_path path;
    memset(&path, 0x5a, sizeof(path));
    const struct chain_path untouched = path;
    row->build(&s);
    peer_of(&s, &peer);
    struct chain_anchors *a = anchors_of(&s);
    enum chain_verdict v = chain_verify(a, &peer, s.now_us, &path, &info);
    if (v != row->want ||
        (row->why != NULL && strncmp(info.why, row->why, strlen(row->why)) != 0)) {
        print_error("row \"%s\": %s: %s\n", row->name, chain_verdict_name(v), info.why);
        fail();
    }
    if (v == CHAIN_OK) {
        check_path(&s, row, &path);
    } else {
        assert_memory_equal(&path, &untouched, sizeof(path));
    }
    assert_int_equal(chain_verify(a, &peer, s.now_us, &path, NULL), row->want);
    chain_anchors_free(a);
    zoo_free(&s.zoo);
}

static void test_zoo(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        run_row(&rows[i]);
    }
}

static void test_no_leaf(void **state)
{
    (void)state;
    struct scene s = {.now_us = ZOO_NOW_US};
    struct cert_peer peer = {.n_chain = 0};
    struct chain_path path;
    base(&s);
    struct chain_anchors *a = anchors_of(&s);
    assert_int_equal(chain_verify(a, &peer, s.now_us, &path, NULL), CHAIN_MALFORMED);
    peer.leaf_der = SPAN_LIT("not a certificate");
    assert_int_equal(chain_verify(a, &peer, s.now_us, &path, NULL), CHAIN_MALFORMED);
    chain_anchors_free(a);
    zoo_free(&s.zoo);
}

static void test_earliest_end(void **state)
{
    (void)state;
    struct scene scene = {.now_us = ZOO_NOW_US}, *s = &scene;
    struct cert_peer peer;
    struct chain_path path;
    base(s);
    s->presented[0] = MAKE(.cn = "Int", .issuer = s->trusted[0], .constraints = CA_OK,
                           .usage = CA_USE, .from_days = -1, .to_days = 5);
    s->leaf = zoo_leaf(Z, "dev-1", s->presented[0]);
    peer_of(s, &peer);
    struct chain_anchors *a = anchors_of(s);
    assert_int_equal(chain_verify(a, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_int_equal(path.not_after_us, ZOO_NOW_US + 5 * ZOO_DAY_US);
    assert_int_equal(path.not_before_us, ZOO_NOW_US - ZOO_DAY_US);
    assert_false(chain_path_has_issuer(&path, cert_sha256(s->leaf->cert)));
    chain_anchors_free(a);
    zoo_free(Z);
}

static void test_too_many_anchors(void **state)
{
    (void)state;
    struct zoo z = {.n = 0};
    struct cert *many[LIMIT_CA_CERTS + 1];
    struct chain_anchors *a = NULL;
    const struct zoo_id *root = zoo_root(&z, "Root");
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        many[i] = root->cert;
    }
    assert_err(chain_anchors_new(many, ARRAY_LEN(many), NULL, 0, &a), E_LIMIT);
    assert_err(chain_anchors_new(NULL, 0, many, ARRAY_LEN(many), &a), E_LIMIT);
    assert_null(a);
    assert_ok(chain_anchors_new(many, LIMIT_CA_CERTS, NULL, 0, &a));
    chain_anchors_free(a);
    zoo_free(&z);
}

static void test_verdict_names(void **state)
{
    (void)state;
    for (int v = CHAIN_OK; v <= CHAIN_OTHER; v++) {
        assert_non_null(chain_verdict_name((enum chain_verdict)v));
    }
    assert_string_equal(chain_verdict_name((enum chain_verdict)0), "invalid");
    assert_string_equal(chain_verdict_name((enum chain_verdict)(CHAIN_OTHER + 1)), "invalid");
}

/* --- the cache -------------------------------------------------------------------------------- */

static void assert_stats(const struct chain_cache *c, uint64_t hits, uint64_t misses,
                         uint64_t parsed)
{
    struct chain_cache_stats st;
    chain_cache_stats(c, &st);
    assert_int_equal(st.hits, hits);
    assert_int_equal(st.misses, misses);
    assert_int_equal(st.parsed, parsed);
}

static void test_cache(void **state)
{
    (void)state;
    struct scene scene = {.now_us = ZOO_NOW_US}, *s = &scene;
    struct cert_peer peer;
    struct chain_path path;
    struct chain_cache *c = NULL;
    base(s);
    const struct zoo_id *second = zoo_leaf(Z, "dev-2", s->presented[0]);
    struct chain_anchors *a = anchors_of(s);
    assert_ok(chain_cache_new(NULL, NULL, &c));
    peer_of(s, &peer);
    assert_int_equal(chain_cache_verify(c, a, 1, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_stats(c, 0, 1, 2);
    assert_int_equal(chain_cache_verify(c, a, 1, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_int_equal(path.n, 3);
    assert_stats(c, 1, 1, 2);
    s->leaf = second; /* shares the intermediate, which is not parsed again */
    peer_of(s, &peer);
    assert_int_equal(chain_cache_verify(c, a, 1, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_stats(c, 1, 2, 3);
    /* the same leaf without its intermediate is another question */
    peer.n_chain = 0;
    assert_int_equal(chain_cache_verify(c, a, 1, &peer, s->now_us, &path, NULL), CHAIN_NO_ANCHOR);
    /* a new epoch, or dates that ended, ask again */
    peer.n_chain = 1;
    assert_int_equal(chain_cache_verify(c, a, 2, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_stats(c, 1, 4, 5);
    int64_t late = s->now_us + 366 * ZOO_DAY_US;
    assert_int_equal(chain_cache_verify(c, a, 2, &peer, late, &path, NULL), CHAIN_EXPIRED);
    assert_int_equal(chain_cache_verify(c, a, 2, &peer, late, &path, NULL), CHAIN_EXPIRED);
    assert_int_equal(chain_cache_verify(c, a, 2, &peer, s->now_us, &path, NULL), CHAIN_OK);
    int64_t early = s->now_us - 2 * ZOO_DAY_US;
    assert_int_equal(chain_cache_verify(c, a, 2, &peer, early, &path, NULL), CHAIN_NOT_YET_VALID);
    chain_cache_free(c);
    chain_anchors_free(a);
    zoo_free(Z);
}

/* A good verdict under one set of anchors says nothing under another. */
static void test_cache_other_anchors(void **state)
{
    (void)state;
    struct scene scene = {.now_us = ZOO_NOW_US}, *s = &scene;
    struct cert_peer peer;
    struct chain_path path;
    struct chain_cache *c = NULL;
    base(s);
    peer_of(s, &peer);
    struct chain_anchors *mine = anchors_of(s);
    s->helping[0] = s->trusted[0];
    s->trusted[0] = NULL;
    struct chain_anchors *theirs = anchors_of(s);
    assert_ok(chain_cache_new(NULL, NULL, &c));
    assert_int_equal(chain_cache_verify(c, mine, 1, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_int_equal(chain_cache_verify(c, theirs, 1, &peer, s->now_us, &path, NULL),
                     CHAIN_NO_ANCHOR);
    chain_cache_free(c);
    chain_anchors_free(mine);
    chain_anchors_free(theirs);
    zoo_free(Z);
}

/* Failing peers leave nothing, good ones up to the limits; what was used last stays. */
static void test_cache_bounds(void **state)
{
    (void)state;
    enum { N = 6, MAX_VERDICTS = 4, MAX_CERTS = 3 };
    struct scene scene = {.now_us = ZOO_NOW_US}, *s = &scene;
    const struct zoo_id *ca[N], *leaf[N];
    struct chain_cache *c = NULL;
    struct chain_cache_stats st;
    struct chain_path path;
    struct cert_peer peer;
    s->trusted[0] = zoo_root(Z, "Root");
    struct chain_anchors *a = anchors_of(s);
    assert_ok(chain_cache_new_max(MAX_VERDICTS, MAX_CERTS, &c));
    s->presented[0] =
        MAKE(.cn = "Int", .issuer = s->trusted[0], .constraints = CA_OK, .usage = CA_USE);
    s->leaf = MAKE(.cn = "dev", .issuer = s->presented[0], .purpose = "serverAuth");
    peer_of(s, &peer);
    assert_int_equal(chain_cache_verify(c, a, 1, &peer, s->now_us, &path, NULL), CHAIN_EKU);
    chain_cache_stats(c, &st);
    assert_true(st.n_certs == 0 && st.n_verdicts == 0);
    for (size_t i = 0; i < N; i++) {
        s->presented[0] = ca[i] = zoo_ca(Z, "Int", s->trusted[0]);
        s->leaf = leaf[i] = zoo_leaf(Z, "dev", ca[i]);
        peer_of(s, &peer);
        assert_int_equal(chain_cache_verify(c, a, 1, &peer, s->now_us, &path, NULL), CHAIN_OK);
        chain_cache_stats(c, &st);
        assert_int_equal(st.n_verdicts, MIN(i + 1, (size_t)MAX_VERDICTS));
        assert_int_equal(st.n_certs, MIN(i + 1, (size_t)MAX_CERTS));
    }
    uint64_t hits = st.hits;
    for (size_t i = N; i-- > 0;) { /* newest first: what is asked again must not push them out */
        s->presented[0] = ca[i];
        s->leaf = leaf[i];
        peer_of(s, &peer);
        assert_int_equal(chain_cache_verify(c, a, 1, &peer, s->now_us, &path, NULL), CHAIN_OK);
    }
    chain_cache_stats(c, &st);
    assert_int_equal(st.hits - hits, MAX_VERDICTS);
    chain_cache_free(c);
    assert_ok(chain_cache_new(NULL, NULL, &c));
    chain_cache_free(c);
    chain_anchors_free(a);
    zoo_free(Z);
}

/* --- verdicts that several workers share -------------------------------------------------------- */

/* What one worker found good, another need not judge; but who has not yet seen a change of trust gets nothing and leaves nothing. */
static void test_shared_verdicts(void **state)
{
    (void)state;
    struct scene scene = {.now_us = ZOO_NOW_US}, *s = &scene;
    struct cert_peer peer;
    struct chain_path path;
    struct chain_cache *mine = NULL, *theirs = NULL;
    struct verdicts *v = NULL;
    base(s);
    peer_of(s, &peer);
    struct chain_anchors *a = anchors_of(s);
    assert_ok(verdicts_new(LIMIT_CHAIN_CACHE, &v));
    assert_ok(chain_cache_new(v, NULL, &mine));
    assert_ok(chain_cache_new(v, NULL, &theirs));
    assert_int_equal(chain_cache_verify(mine, a, 1, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_int_equal(chain_cache_verify(theirs, a, 1, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_stats(theirs, 1, 0, 0);
    assert_int_equal(path.n, 3);
    /* mine sees the change first; theirs judges alone until it does */
    assert_int_equal(chain_cache_verify(mine, a, 2, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_stats(mine, 0, 2, 3);
    assert_int_equal(chain_cache_verify(theirs, a, 1, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_int_equal(chain_cache_verify(theirs, a, 1, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_stats(theirs, 1, 2, 3);
    assert_int_equal(verdicts_count(v), 1);
    assert_int_equal(chain_cache_verify(theirs, a, 2, &peer, s->now_us, &path, NULL), CHAIN_OK);
    assert_stats(theirs, 2, 2, 3);
    /* a late verdict of an older epoch does not come in by itself either */
    static const uint8_t key[CERT_SHA256] = {7};
    verdicts_put(v, key, 3, &path);
    verdicts_put(v, key, 2, &path);
    assert_false(verdicts_get(v, key, 2, s->now_us, &path));
    assert_true(verdicts_get(v, key, 3, s->now_us, &path));
    assert_false(verdicts_get(v, key, 4, s->now_us, &path));
    assert_false(verdicts_get(v, key, 3, s->now_us, &path));
    chain_cache_free(mine);
    chain_cache_free(theirs);
    verdicts_free(v);
    chain_anchors_free(a);
    zoo_free(Z);
}

struct sharer {
    struct verdicts *v;
    unsigned seed;
    unsigned hits;
};

static void *share(void *arg)
{
    struct sharer *me = arg;
    struct chain_path path = {.n = 2, .not_after_us = INT64_MAX}, got;
    for (unsigned i = 0; i < 20000; i++) {
        unsigned n = (i * 7 + me->seed) % 400;
        const uint8_t key[CERT_SHA256] = {(uint8_t)n, (uint8_t)(n >> 8)};
        uint64_t epoch = 1 + i / 5000;
        path.anchor = n;
        path.not_before_us = (int64_t)epoch;
        if (verdicts_get(me->v, key, epoch, 1000, &got)) {
            assert_int_equal(got.anchor, n);
            assert_int_equal(got.not_before_us, epoch); /* of no other epoch */
            me->hits++;
        } else {
            verdicts_put(me->v, key, epoch, &path);
        }
    }
    return NULL;
}

static void test_verdicts_by_threads(void **state)
{
    (void)state;
    struct verdicts *v = NULL;
    pthread_t t[4];
    struct sharer who[4];
    assert_ok(verdicts_new(256, &v)); /* fewer than are asked for: some are pushed out */
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        who[i] = (struct sharer){v, i * 100, 0};
        assert_int_equal(pthread_create(&t[i], NULL, share, &who[i]), 0);
    }
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        assert_int_equal(pthread_join(t[i], NULL), 0);
    }
    assert_true(verdicts_count(v) <= 256);
    verdicts_free(v);
}

/* The handshake's leaf is not parsed again, and judged alike: good, and with another's key below the same chain. */
static void test_leaf_of_a_handshake(void **state)
{
    (void)state;
    struct scene scene = {.now_us = ZOO_NOW_US}, *s = &scene;
    struct cert_peer peer;
    struct chain_path path;
    struct chain_cache *c = NULL;
    struct crypto_lib *lib = NULL;
    base(s);
    const struct zoo_id *forged = zoo_leaf(Z, "dev-1", zoo_ca(Z, "Int", zoo_root(Z, "Root")));
    struct chain_anchors *a = anchors_of(s);
    assert_ok(crypto_lib_new(&lib, NULL));
    assert_ok(chain_cache_new(NULL, lib, &c));
    for (int good = 1; good >= 0; good--) {
        s->leaf = good ? s->leaf : forged;
        peer_of(s, &peer);
        const unsigned char *at = peer.leaf_der.p;
        X509 *x = X509_new_ex(crypto_lib_lean(lib), NULL);
        assert_non_null(d2i_X509(&x, &at, (long)peer.leaf_der.n));
        peer.leaf = x;
        peer.leaf_lib = lib;
        enum chain_verdict v =
            chain_cache_verify(c, a, good ? 1 : 3, &peer, s->now_us, &path, NULL);
        assert_true(good ? v == CHAIN_OK : v != CHAIN_OK);
        assert_stats(c, 0, good ? 1 : 3, good ? 1 : 2); /* the intermediate, once */
        peer.leaf_lib = NULL;                           /* it moved: parsed here */
        assert_int_equal(chain_cache_verify(c, a, 2, &peer, s->now_us, &path, NULL), v);
        assert_stats(c, 0, good ? 2 : 4, good ? 2 : 3);
        X509_free(x);
    }
    chain_cache_free(c);
    crypto_lib_unref(lib);
    chain_anchors_free(a);
    zoo_free(Z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zoo),
        cmocka_unit_test(test_no_leaf),
        cmocka_unit_test(test_earliest_end),
        cmocka_unit_test(test_too_many_anchors),
        cmocka_unit_test(test_verdict_names),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_other_anchors),
        cmocka_unit_test(test_cache_bounds),
        cmocka_unit_test(test_shared_verdicts),
        cmocka_unit_test(test_verdicts_by_threads),
        cmocka_unit_test(test_leaf_of_a_handshake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
