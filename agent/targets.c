/* SPDX-License-Identifier: Apache-2.0 */
/* What can be reached, as the configuration lists it: agent/streams.h. */
#include "agent/streams.h"

#include <arpa/inet.h>

static bool is_literal(const char *address)
{
    struct in6_addr any;
    return inet_pton(AF_INET, address, &any) == 1 || inet_pton(AF_INET6, address, &any) == 1;
}

const struct agent_target *agent_target_find(const struct agent_targets *t, struct span name)
{
    for (size_t i = 0; i < t->n; i++) {
        if (span_is(name, t->at[i].name)) {
            return &t->at[i];
        }
    }
    return NULL;
}

/* The options of one section come one by one, in any order. */
static enum err target_of(struct agent_targets *t, struct span name, struct agent_target **ret,
                          struct err_info *info)
{
    struct agent_target a = {.port = 0};
    const struct agent_target *is = agent_target_find(t, name);
    if (is != NULL) {
        *ret = &t->at[is - t->at];
        return OK;
    }
    if (name.n == 0 || !span_to_cstr(name, a.name, sizeof(a.name))) {
        return err_set(info, E_CONFIG, "the name of a stream has 1 to 64 bytes");
    }
    if (t->n == AGENT_TARGETS) {
        return err_set(info, E_CONFIG, "more than %u streams", AGENT_TARGETS);
    }
    t->at[t->n] = a;
    *ret = &t->at[t->n++];
    return OK;
}

/* "127.0.0.1:22", "[::1]:80" */
static bool read_address(struct span text, struct agent_target *a)
{
    struct span host = text, rest;
    uint64_t port = 0;
    if (text.n > 0 && text.p[0] == '[') {
        host = span_sub(text, 1, span_find(text, ']') - 1);
        rest = span_from(text, MIN(host.n + 2, text.n));
    } else {
        host = span_sub(text, 0, span_find(text, ':'));
        rest = span_from(text, host.n);
    }
    if (!span_to_cstr(host, a->address, sizeof(a->address)) || !is_literal(a->address) ||
        rest.n < 2 || rest.p[0] != ':' || !span_to_u64(span_from(rest, 1), &port) || port == 0 ||
        port > 65535) {
        return false;
    }
    a->port = (uint16_t)port;
    return true;
}

enum err agent_target_add(struct agent_targets *t, struct span name, struct span target,
                          struct err_info *info)
{
    struct agent_target read = {.port = 0}, *a;
    bool is_good = read_address(target, &read);
    enum err e = is_good ? target_of(t, name, &a, info)
                         : err_set(info, E_CONFIG,
                                   "[stream %.*s] target: ADDRESS:PORT with a literal address",
                                   SPAN_ARG(name));
    if (e != OK) {
        return e;
    }
    if (a->port != 0) {
        return err_set(info, E_CONFIG, "[stream %s] is there twice", a->name);
    }
    memcpy(a->address, read.address, sizeof(a->address));
    a->port = read.port;
    return OK;
}

enum err agent_target_seal(struct agent_targets *t, struct span name, struct span value,
                           struct err_info *info)
{
    struct agent_target *a;
    bool must = span_is(value, "required");
    if (!must && !span_is(value, "offered")) {
        return err_set(info, E_CONFIG, "[stream %.*s] end-to-end: offered or required",
                       SPAN_ARG(name));
    }
    enum err e = target_of(t, name, &a, info);
    if (e == OK) {
        a->must_be_sealed = must;
    }
    return e;
}

enum err agent_targets_check(const struct agent_targets *t, bool has_certificate,
                             struct err_info *info)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->at[i].port == 0) {
            return err_set(info, E_CONFIG, "[stream %s] has no target", t->at[i].name);
        }
        if (t->at[i].must_be_sealed && !has_certificate) {
            return err_set(info, E_CONFIG,
                           "[stream %s] end-to-end = required: this identity has no certificate",
                           t->at[i].name);
        }
    }
    return OK;
}
