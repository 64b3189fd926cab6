/* SPDX-License-Identifier: Apache-2.0 */
/* What the unit says of itself: real figures of the system it runs on. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "agent/agent.h"
#include "base/buf.h"
#include "base/clock.h"
#include "wire/json.h"

char *agent_measure(uint64_t n)
{
    struct buf b = BUF_INIT(1024);
    struct sysinfo si;
    buf_addf(&b, "{\"n\":%llu", (unsigned long long)n);
    if (sysinfo(&si) == 0) {
        buf_addf(&b, ",\"uptime\":%ld,\"load1\":%.2f,\"memoryFreeKb\":%llu", si.uptime,
                 (double)si.loads[0] / 65536.0,
                 (unsigned long long)si.freeram * si.mem_unit / 1024);
    }
    buf_add_u8(&b, '}');
    char *s = buf_take_str(&b);
    buf_done(&b);
    return s;
}

char *agent_describe(const struct agent *a)
{
    struct buf b = BUF_INIT(4096);
    struct utsname u;
    buf_addf(&b, "{\"agent\":{\"version\":\"%s\",\"boots\":%llu,\"telemetryInterval\":%llu",
             PACKAGE_VERSION, (unsigned long long)a->boot, (unsigned long long)a->interval_s);
    if (uname(&u) == 0) {
        buf_add_str(&b, ",\"system\":");
        json_write_str(&b, span_str(u.sysname));
        buf_add_str(&b, ",\"release\":");
        json_write_str(&b, span_str(u.release));
        buf_add_str(&b, ",\"machine\":");
        json_write_str(&b, span_str(u.machine));
    }
    buf_add_str(&b, "}}");
    char *s = buf_take_str(&b);
    buf_done(&b);
    return s;
}

/* Decorrelated jitter: a fleet that lost its hub at one instant does not come back at one instant. */
uint64_t agent_next_wait(uint64_t last_ms)
{
    uint64_t top = MIN(MAX(last_ms, (uint64_t)AGENT_WAIT_BASE_MS) * 3, (uint64_t)AGENT_WAIT_MAX_MS);
    return AGENT_WAIT_BASE_MS + random_below(top - AGENT_WAIT_BASE_MS + 1);
}
