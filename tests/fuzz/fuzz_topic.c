/* SPDX-License-Identifier: Apache-2.0 */
/* Topics of hub and DPS, and user names: "username LF client id". */
#include "tests/fuzz/fuzz.h"

#include "wire/topic.h"

static void hub_publish(struct span in)
{
    struct hub_publish_topic t;
    if (topic_hub_publish_read(in, &t, NULL) == OK) {
        fuzz_touch(t.device_id);
        fuzz_touch(t.module_id);
        fuzz_touch(t.bag);
        fuzz_touch(t.rid);
        ASSERT(t.kind < HUB_PUBLISHES);
        ASSERT(t.kind != HUB_PUB_TWIN_GET || t.rid.n > 0);
        ASSERT((t.kind == HUB_PUB_TELEMETRY) == (t.device_id.n > 0));
    }
}

static void hub_filter(struct span in)
{
    struct hub_filter_topic t;
    if (topic_hub_filter_read(in, &t) == OK && t.method.n == 0) {
        struct buf b = BUF_INIT(1 << 20);
        bool is_plus = t.kind == HUB_SUB_C2D && t.device_id.n == 0;
        topic_hub_filter_write(&b, t.kind, is_plus ? SPAN_LIT("+") : t.device_id, t.module_id);
        ASSERT(span_eq(buf_span(&b), in));
        buf_done(&b);
    }
}

static void down(struct span in)
{
    struct hub_down_topic t;
    struct dps_publish_topic p;
    struct dps_down_topic d;
    if (topic_hub_down_read(in, &t, NULL) == OK) {
        fuzz_touch(t.device_id);
        fuzz_touch(t.name);
        fuzz_touch(t.bag);
        fuzz_touch(t.query);
        fuzz_touch(t.rid);
    }
    if (topic_dps_publish_read(in, &p, NULL) == OK) {
        ASSERT(p.rid.n > 0);
        fuzz_touch(p.rid);
        fuzz_touch(p.operation_id);
    }
    if (topic_dps_down_read(in, &d, NULL) == OK) {
        ASSERT(d.status >= 100 && d.status <= 999);
        fuzz_touch(d.rid);
    }
}

static void usernames(struct span in)
{
    struct arena a = ARENA_INIT(1 << 20);
    struct span client_id = in;
    struct span username = span_cut(&client_id, '\n');
    struct hub_username h;
    struct dps_username d;
    struct err_info info;
    if (topic_hub_username_read(username, client_id, &a, &h, &info) == OK) {
        ASSERT(h.host.n > 0 && h.device_id.n > 0);
        ASSERT(h.device_id.n + h.module_id.n + (h.module_id.n > 0) == client_id.n);
        ASSERT(h.api_version.p == NULL || topic_api_version_ok(h.api_version));
        fuzz_touch(h.model_id);
        fuzz_touch(h.client_type);
        struct buf b = BUF_INIT(1 << 20);
        struct hub_username again;
        topic_hub_username_write(&b, h.host, client_id, SPAN_LIT("2021-04-12"), h.client_type,
                                 h.model_id);
        ASSERT(topic_hub_username_read(buf_span(&b), client_id, &a, &again, NULL) == OK);
        ASSERT(span_eq(again.model_id, h.model_id) && span_eq(again.client_type, h.client_type));
        buf_done(&b);
    }
    if (topic_dps_username_read(username, client_id, &a, &d, &info) == OK) {
        ASSERT(span_eq_nocase(d.registration_id, client_id));
        fuzz_touch(d.api_version);
        fuzz_touch(d.client_version);
    }
    arena_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of(data, n);
    hub_publish(in);
    hub_filter(in);
    down(in);
    usernames(in);
    return 0;
}
