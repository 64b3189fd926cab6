/* SPDX-License-Identifier: Apache-2.0 */
#include "client/identity.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/text.h"
#include "certs/cert.h"
#include "tests/unit.h"

#define KEY_TEXT "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define KEY_BYTES "0123456789abcdef0123456789abcdef"

static char dir[] = "/tmp/berth-identity-XXXXXX";
static char target[128];

static const char *in_dir(const char *name)
{
    static char path[4][256];
    static unsigned at;
    char *p = path[at++ % 4];
    (void)snprintf(p, 256, "%s/%s", dir, name);
    return p;
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char sub[512];
        (void)snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlink(sub) != 0) {
            remove_tree(sub);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    (void)rmdir(path);
}

static int begin(void **state)
{
    (void)state;
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(target, sizeof(target), "%s/unit", dir);
    return 0;
}

static int end(void **state)
{
    (void)state;
    remove_tree(dir);
    return 0;
}

static unsigned entries(const char *path)
{
    unsigned n = 0;
    DIR *d = opendir(path);
    for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return n;
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static struct burn symmetric(void)
{
    return (struct burn){
        .serial = "SN-1",
        .registration_id = "sn-1",
        .id_scope = "0ne1",
        .dps_host = "dps.example",
        .kind = ATTEST_SYMMETRIC_KEY,
        .key_base64 = SPAN_LIT(KEY_TEXT "\n"),
        .ca_pem = SPAN_LIT("ca\n"),
    };
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    (void)unlink(path);
    assert_ok(fs_write_atomic(path, span_str(text), mode, NULL));
}

/* --- burning --------------------------------------------------------------------------------------- */

static void test_symmetric(void **state)
{
    (void)state;
    struct burn b = symmetric();
    struct identity id;
    b.mqtts_port = 18883;
    assert_ok(identity_burn(target, &b, NULL));
    assert_int_equal(entries(dir), 1);
    assert_int_equal(mode_of(target), 0700);
    assert_int_equal(mode_of(in_dir("unit/factory")), 0700);
    assert_int_equal(mode_of(in_dir("unit/factory/key")), 0600);
    assert_int_equal(entries(in_dir("unit/factory")), 3);
    assert_ok(identity_load(target, &id, NULL));
    assert_string_equal(id.serial, "SN-1");
    assert_string_equal(id.registration_id, "sn-1");
    assert_string_equal(id.id_scope, "0ne1");
    assert_string_equal(id.dps_host, "dps.example");
    assert_int_equal(id.kind, ATTEST_SYMMETRIC_KEY);
    assert_int_equal(id.mqtts_port, 18883);
    assert_int_equal(id.https_port, 443);
    assert_span(secret_span(&id.key), SPAN_LIT(KEY_BYTES));
    assert_string_equal(id.ca_file, in_dir("unit/factory/ca.pem"));
    assert_null(id.key_file);
    identity_done(&id);
    assert_int_equal(id.key.n, 0);
    identity_done(&id); /* twice is fine */
}

static void test_x509(void **state)
{
    (void)state;
    struct burn b = symmetric();
    struct identity id;
    struct signer_key *key = NULL, *again = NULL;
    assert_ok(signer_key_generate(KEY_P256, &key));
    b.kind = ATTEST_X509;
    b.private_key = key;
    b.cert_chain_pem = SPAN_LIT("chain\n");
    assert_ok(identity_burn(target, &b, NULL));
    assert_int_equal(mode_of(in_dir("unit/factory/device.key")), 0600);
    assert_int_equal(entries(in_dir("unit/factory")), 4);
    assert_ok(identity_load(target, &id, NULL));
    assert_int_equal(id.kind, ATTEST_X509);
    assert_int_equal(id.key.n, 0);
    assert_string_equal(id.cert_chain_file, in_dir("unit/factory/device.pem"));
    assert_ok(signer_key_load(id.key_file, &again, NULL));
    identity_done(&id);
    signer_key_free(key);
    signer_key_free(again);
}

/* No file has a key; the id may be left to the TPM, of this kind alone. */
static void test_tpm(void **state)
{
    (void)state;
    struct burn b = symmetric();
    struct identity id;
    b.kind = ATTEST_TPM;
    assert_ok(identity_burn(target, &b, NULL));
    assert_int_equal(entries(in_dir("unit/factory")), 2);
    assert_ok(identity_load(target, &id, NULL));
    assert_int_equal(id.kind, ATTEST_TPM);
    assert_string_equal(id.registration_id, "sn-1");
    assert_int_equal(id.key.n, 0);
    assert_null(id.key_file);
    assert_null(id.tpm);
    identity_done(&id);
    write_file(in_dir("unit/factory/identity.json"),
               "{\"version\":1,\"serial\":\"S\",\"idScope\":\"0ne1\",\"dpsHost\":\"h\","
               "\"attestation\":\"tpm\"}",
               0644);
    assert_ok(identity_load(target, &id, NULL));
    assert_null(id.registration_id);
    identity_done(&id);
    write_file(in_dir("unit/factory/identity.json"),
               "{\"version\":1,\"serial\":\"S\",\"idScope\":\"0ne1\",\"dpsHost\":\"h\","
               "\"attestation\":\"x509\"}",
               0644);
    assert_err(identity_load(target, &id, NULL), E_CORRUPT);
}

static void test_never_over(void **state)
{
    (void)state;
    struct burn b = symmetric();
    struct err_info info = {0};
    struct identity id;
    assert_ok(identity_burn(target, &b, NULL));
    b.serial = "SN-2";
    assert_err(identity_burn(target, &b, &info), E_EXISTS);
    assert_non_null(strstr(info.why, "never burned over"));
    assert_ok(identity_load(target, &id, NULL));
    assert_string_equal(id.serial, "SN-1");
    identity_done(&id);
    assert_int_equal(entries(dir), 1);
}

static void test_over_others(void **state)
{
    (void)state;
    struct burn b = symmetric();
    /* An empty folder, a file, a link to nowhere: all are something. */
    assert_int_equal(mkdir(target, 0700), 0);
    assert_err(identity_burn(target, &b, NULL), E_EXISTS);
    assert_int_equal(rmdir(target), 0);
    write_file(target, "x", 0600);
    assert_err(identity_burn(target, &b, NULL), E_EXISTS);
    assert_int_equal(unlink(target), 0);
    assert_int_equal(symlink("nowhere", target), 0);
    assert_err(identity_burn(target, &b, NULL), E_EXISTS);
    assert_int_equal(entries(dir), 1);
}

static void test_no_parent(void **state)
{
    (void)state;
    struct burn b = symmetric();
    assert_err(identity_burn(in_dir("none/unit"), &b, NULL), E_NOT_FOUND);
    assert_int_equal(entries(dir), 0);
}

/* A refused part leaves nothing behind: here a serial too long for any file. */
static void test_nothing_left(void **state)
{
    (void)state;
    struct burn b = symmetric();
    static char big[(1u << 20) + 70000];
    memset(big, 'a', sizeof(big) - 1);
    b.serial = big;
    assert_true(identity_burn(target, &b, NULL) != OK);
    assert_int_equal(entries(dir), 0);
}

/* What a killed burn left goes when a burn of the same target ends; other names stay. */
static void test_partial(void **state)
{
    (void)state;
    struct burn b = symmetric();
    assert_int_equal(mkdir(in_dir("unit.partial-1"), 0700), 0);
    assert_int_equal(mkdir(in_dir("unit.partial-1/factory"), 0700), 0);
    write_file(in_dir("unit.partial-1/factory/key"), KEY_TEXT, 0600);
    write_file(in_dir("unit.partial-1/factory/key.tmp-0011"), KEY_TEXT, 0600);
    assert_int_equal(mkdir(in_dir("unit.partial-2"), 0700), 0);
    assert_int_equal(mkdir(in_dir("unit2.partial-1"), 0700), 0);
    assert_int_equal(mkdir(in_dir("other"), 0700), 0);
    char slashes[160];
    (void)snprintf(slashes, sizeof(slashes), "%s//", target);
    assert_ok(identity_burn(slashes, &b, NULL));
    assert_int_equal(entries(dir), 3);
    assert_false(fs_exists(in_dir("unit.partial-1")));
    assert_true(fs_exists(in_dir("unit2.partial-1")));
}

/* Two burns at once: one wins, the other is told, the winner's is whole. */
static void test_race(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        int won = 0;
        pid_t pid[2];
        (void)snprintf(target, sizeof(target), "%s/unit%d", dir, round);
        for (int i = 0; i < 2; i++) {
            pid[i] = fork();
            assert_true(pid[i] >= 0);
            if (pid[i] == 0) {
                struct burn b = symmetric();
                b.serial = i == 0 ? "SN-A" : "SN-B";
                enum err e = identity_burn(target, &b, NULL);
                _exit(e == OK ? 0 : e == E_EXISTS ? 3 : 1);
            }
        }
        for (int i = 0; i < 2; i++) {
            int status;
            assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
            assert_true(WIFEXITED(status));
            assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3);
            won += WEXITSTATUS(status) == 0;
        }
        struct identity id;
        assert_int_equal(won, 1);
        assert_ok(identity_load(target, &id, NULL));
        identity_done(&id);
    }
    assert_int_equal(entries(dir), 20);
}

/* --- refusals of loading ------------------------------------------------------------------------------ */

static void expect_load(const char *name, enum err want, const char *why)
{
    struct err_info info = {0};
    struct identity id;
    memset(&id, 0x5a, sizeof(id));
    const struct identity untouched = id;
    enum err e = identity_load(target, &id, &info);
    if (e != want || strstr(info.why, why) == NULL) {
        fail_msg("%s: %s: %s", name, err_name(e), info.why);
    }
    assert_memory_equal(&id, &untouched, sizeof(id));
    assert_true(identity_load(target, &id, NULL) == want);
}

#define DESCRIPTION(version, serial, rest)                                                         \
    "{\"version\":" version ",\"serial\":" serial                                                  \
    ",\"registrationId\":\"r\",\"idScope\":\"s\",\"dpsHost\":\"h\"" rest "}"
#define SYM ",\"attestation\":\"symmetricKey\""

static void test_descriptions(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct {
        const char *name, *text;
        enum err want;
        const char *why;
    } rows[] = {
        { "as it should be",   DESCRIPTION("1", "\"S\"", SYM),                             OK, "" },
        { "no JSON",           "{",                                                        E_CORRUPT, "identity.json" },
        { "an array",          "[]",                                                       E_CORRUPT, "identity.json" },
        { "no version",        "{\"serial\":\"S\"}",                                       E_CORRUPT, "version" },
        { "another version",   DESCRIPTION("2", "\"S\"", SYM),                             E_CORRUPT, "version" },
        { "empty serial",      DESCRIPTION("1", "\"\"", SYM),                              E_CORRUPT, "serial" },
        { "serial a number",   DESCRIPTION("1", "1", SYM),                                 E_CORRUPT, "serial" },
        { "no attestation",    DESCRIPTION("1", "\"S\"", ""),                              E_CORRUPT, "attestation" },
        { "unknown kind",      DESCRIPTION("1", "\"S\"", ",\"attestation\":\"ek\""),       E_CORRUPT, "attestation" },
        { "tpm",               DESCRIPTION("1", "\"S\"", ",\"attestation\":\"tpm\""),      OK, "" },
        { "port 0",            DESCRIPTION("1", "\"S\"", SYM ",\"mqttsPort\":0"),          E_CORRUPT, "mqttsPort" },
        { "port 65536",        DESCRIPTION("1", "\"S\"", SYM ",\"httpsPort\":65536"),      E_CORRUPT, "httpsPort" },
        { "port a text",       DESCRIPTION("1", "\"S\"", SYM ",\"httpsPort\":\"443\""),    E_CORRUPT, "httpsPort" },
        { "x509 without keys", DESCRIPTION("1", "\"S\"", ",\"attestation\":\"x509\""),     E_CORRUPT, "device.key" },
    };
    /* clang-format on */
    struct burn b = symmetric();
    assert_ok(identity_burn(target, &b, NULL));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        write_file(in_dir("unit/factory/identity.json"), rows[i].text, 0644);
        if (rows[i].want == OK) {
            struct identity id;
            assert_ok(identity_load(target, &id, NULL));
            identity_done(&id);
        } else {
            expect_load(rows[i].name, rows[i].want, rows[i].why);
        }
    }
}

static void test_damage(void **state)
{
    (void)state;
    struct burn b = symmetric();
    expect_load("nothing", E_NOT_FOUND, "no identity in");
    assert_ok(identity_burn(target, &b, NULL));
    const char *key = in_dir("unit/factory/key");
    char key_path[256];
    (void)snprintf(key_path, sizeof(key_path), "%s", key);
    assert_int_equal(chmod(key_path, 0640), 0);
    expect_load("key of the group", E_PERM, "0600");
    assert_int_equal(chmod(key_path, 0604), 0);
    expect_load("key of all", E_PERM, "0600");
    static const char *const bad[] = {"", "!!!!", "QUJ", "QUJD",
                                      KEY_TEXT KEY_TEXT KEY_TEXT KEY_TEXT};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        write_file(key_path, bad[i], 0600);
        expect_load("no base64", E_CORRUPT, "base64");
    }
    assert_int_equal(unlink(key_path), 0);
    expect_load("no key", E_CORRUPT, "missing");
    write_file(in_dir("elsewhere"), KEY_TEXT, 0600);
    assert_int_equal(symlink(in_dir("elsewhere"), key_path), 0);
    expect_load("key is a link", E_PERM, "0600");
    assert_int_equal(unlink(in_dir("unit/factory/ca.pem")), 0);
    expect_load("no CA", E_CORRUPT, "ca.pem");
    assert_int_equal(unlink(in_dir("unit/factory/identity.json")), 0);
    expect_load("partial folder", E_NOT_FOUND, "no identity in");
}

static void test_x509_damage(void **state)
{
    (void)state;
    struct burn b = symmetric();
    struct signer_key *key = NULL;
    assert_ok(signer_key_generate(KEY_P256, &key));
    b.kind = ATTEST_X509;
    b.private_key = key;
    b.cert_chain_pem = SPAN_LIT("chain\n");
    assert_ok(identity_burn(target, &b, NULL));
    assert_int_equal(chmod(in_dir("unit/factory/device.key"), 0644), 0);
    expect_load("key open", E_PERM, "device.key");
    assert_int_equal(chmod(in_dir("unit/factory/device.key"), 0400), 0);
    assert_int_equal(unlink(in_dir("unit/factory/device.pem")), 0);
    expect_load("no certificate", E_CORRUPT, "device.pem");
    signer_key_free(key);
}

/* --- assignment ------------------------------------------------------------------------------------------ */

static void test_assignment(void **state)
{
    (void)state;
    struct assignment a = {NULL, NULL, 0}, got;
    a.hub = span_dup(SPAN_LIT("hub1.example"));
    a.device_id = span_dup(SPAN_LIT("d\"1"));
    a.assigned_us = 1234567;
    assert_err(assignment_load(dir, &got, NULL), E_NOT_FOUND);
    for (int i = 0; i < 2; i++) { /* new, then over the old one */
        assert_ok(assignment_save(dir, &a, NULL));
        assert_int_equal(mode_of(in_dir("assignment.json")), 0600);
        assert_ok(assignment_load(dir, &got, NULL));
        assert_string_equal(got.hub, a.hub);
        assert_string_equal(got.device_id, a.device_id);
        assert_int_equal(got.assigned_us, a.assigned_us);
        assignment_done(&got);
        free(a.hub);
        a.hub = span_dup(SPAN_LIT("hub2.example"));
    }
    assert_int_equal(entries(dir), 1);
    assignment_done(&a);
    assert_null(a.hub);
}

static void test_assignment_damage(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "[]",
        "{",
        "{\"assignedHub\":\"h\"}",
        "{\"deviceId\":\"d\"}",
        "{\"assignedHub\":1,\"deviceId\":\"d\"}",
        "{\"assignedHub\":\"h\",\"deviceId\":\"d\",\"assignedUs\":\"x\"}",
        "{\"assignedHub\":\"\",\"deviceId\":\"d\"}",
        "{\"assignedHub\":\"h\",\"deviceId\":\"\"}",
    };
    struct assignment a = {(char *)&a, NULL, 7};
    const struct assignment untouched = a;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err_info info = {0};
        write_file(in_dir("assignment.json"), rows[i], 0600);
        assert_err(assignment_load(dir, &a, &info), E_CORRUPT);
        assert_non_null(strstr(info.why, "assignment.json"));
        assert_memory_equal(&a, &untouched, sizeof(a));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_symmetric, begin, end),
        cmocka_unit_test_setup_teardown(test_x509, begin, end),
        cmocka_unit_test_setup_teardown(test_tpm, begin, end),
        cmocka_unit_test_setup_teardown(test_never_over, begin, end),
        cmocka_unit_test_setup_teardown(test_over_others, begin, end),
        cmocka_unit_test_setup_teardown(test_no_parent, begin, end),
        cmocka_unit_test_setup_teardown(test_nothing_left, begin, end),
        cmocka_unit_test_setup_teardown(test_partial, begin, end),
        cmocka_unit_test_setup_teardown(test_race, begin, end),
        cmocka_unit_test_setup_teardown(test_descriptions, begin, end),
        cmocka_unit_test_setup_teardown(test_damage, begin, end),
        cmocka_unit_test_setup_teardown(test_x509_damage, begin, end),
        cmocka_unit_test_setup_teardown(test_assignment, begin, end),
        cmocka_unit_test_setup_teardown(test_assignment_damage, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
