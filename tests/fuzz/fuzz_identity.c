/* SPDX-License-Identifier: Apache-2.0 */
/* identity.json and assignment.json as a unit finds them on its own disk. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "client/identity.h"

static char dir[] = "/tmp/berth-fuzz-identity-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void put(const char *name, struct span s)
{
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0 && write(fd, s.p, s.n) == (ssize_t)s.n && close(fd) == 0);
}

static void remove_all(void)
{
    static const char *const names[] = {
        "factory/identity.json", "factory/key", "factory/ca.pem",  "factory/device.key",
        "factory/device.pem",    "factory",     "assignment.json", "."};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)remove(i + 1 < ARRAY_LEN(names) ? in_dir(names[i]) : dir);
    }
}

static void begin(void)
{
    static bool is_ready;
    if (!is_ready) {
        is_ready = true;
        ASSERT(mkdtemp(dir) != NULL && mkdir(in_dir("factory"), 0700) == 0);
        (void)atexit(remove_all);
        put("factory/key", SPAN_LIT("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"));
        put("factory/ca.pem", SPAN_LIT("ca"));
        put("factory/device.pem", SPAN_LIT("pem"));
        put("factory/device.key", SPAN_LIT("key"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct identity id;
    struct assignment a;
    struct err_info info = {0};
    begin();
    put("factory/identity.json", span_of(data, n));
    put("assignment.json", span_of(data, n));
    enum err e = identity_load(dir, &id, &info);
    if (e == OK) {
        ASSERT(id.serial[0] != '\0' && id.registration_id[0] != '\0' && id.id_scope[0] != '\0' &&
               id.dps_host[0] != '\0');
        ASSERT(id.mqtts_port != 0 && id.https_port != 0 && id.ca_file != NULL);
        ASSERT((id.kind == ATTEST_SYMMETRIC_KEY) == (id.key.n == 32));
        identity_done(&id);
    } else {
        ASSERT(info.why[0] != '\0');
    }
    if (assignment_load(dir, &a, &info) == OK) {
        ASSERT(a.hub[0] != '\0' && a.device_id[0] != '\0' && a.assigned_us >= 0);
        assignment_done(&a);
    }
    return 0;
}
