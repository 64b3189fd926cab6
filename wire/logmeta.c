/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/logmeta.h"

#include "base/rd.h"
#include "wire/json.h"

#define ROW_VERSION 1u
enum { HAS_MODULE = 1, HAS_MODEL = 2, STAMP_BITS = 3 };
enum { IS_SYSTEM = 1, HAS_VALUE = 2, PROP_BITS = 3 };
#define LENGTH_BYTES 4u

/* As hub/authenticate.c says them. Never reorder: the log holds their positions, from 1. */
#define METHOD(scope, type, issuer)                                                                \
    "{\"scope\":\"" scope "\",\"type\":\"" type "\",\"issuer\":\"" issuer                          \
    "\",\"acceptingIpFilterRule\":null}"
static const char *const methods[] = {
    METHOD("device", "sas", "iothub"),
    METHOD("device", "x509", "external"),
    METHOD("hub", "sas", "iothub"),
};

/* --- writing -------------------------------------------------------------------------------- */

static void add_text(struct buf *b, struct span s)
{
    size_t n = s.n;
    ASSERT(n < (size_t)1 << (7 * LENGTH_BYTES));
    while (n >= 0x80) {
        buf_add_u8(b, (uint8_t)(n | 0x80));
        n >>= 7;
    }
    buf_add_u8(b, (uint8_t)n);
    buf_add(b, s);
}

static uint8_t method_code(struct span method)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (span_is(method, methods[i])) {
            return (uint8_t)(i + 1);
        }
    }
    return 0;
}

void logmeta_begin(struct buf *b, const struct logmeta *m)
{
    uint8_t code = method_code(m->auth_method);
    buf_add_u8(b, ROW_VERSION);
    buf_add_u8(b, (uint8_t)((m->module_id.n != 0 ? HAS_MODULE : 0) |
                            (m->model_id.n != 0 ? HAS_MODEL : 0)));
    buf_add_u8(b, code);
    add_text(b, m->device_id);
    if (m->module_id.n != 0) {
        add_text(b, m->module_id);
    }
    add_text(b, m->generation_id);
    if (m->model_id.n != 0) {
        add_text(b, m->model_id);
    }
    if (code == 0) {
        add_text(b, m->auth_method);
    }
}

void logmeta_add(struct buf *b, bool is_system, struct span name, struct span value, bool has_value)
{
    buf_add_u8(b, (uint8_t)((is_system ? IS_SYSTEM : 0) | (has_value ? HAS_VALUE : 0)));
    add_text(b, name);
    if (has_value) {
        add_text(b, value);
    }
}

/* --- reading -------------------------------------------------------------------------------- */

static struct span read_text(struct rd *r)
{
    size_t n = 0;
    for (unsigned i = 0; i < LENGTH_BYTES; i++) {
        uint8_t c = rd_u8(r);
        n |= (size_t)(c & 0x7f) << (7 * i);
        if ((c & 0x80) == 0) {
            return rd_bytes(r, n);
        }
    }
    rd_require(r, false);
    return SPAN_NONE;
}

struct property {
    bool is_system, has_value;
    struct span name, value;
};

static struct property read_property(struct rd *r)
{
    uint8_t bits = rd_u8(r);
    struct property p = {.is_system = (bits & IS_SYSTEM) != 0,
                         .has_value = (bits & HAS_VALUE) != 0};
    rd_require(r, (bits & ~PROP_BITS) == 0);
    p.name = read_text(r);
    if (p.has_value) {
        p.value = read_text(r);
    }
    return p;
}

static enum err read_compact(struct span row, struct logmeta_row *ret)
{
    struct rd r = rd_init(row);
    rd_require(&r, rd_u8(&r) == ROW_VERSION);
    uint8_t bits = rd_u8(&r), code = rd_u8(&r);
    rd_require(&r, (bits & ~STAMP_BITS) == 0 && code <= ARRAY_LEN(methods));
    ret->stamps.device_id = ret->device_id = read_text(&r);
    if ((bits & HAS_MODULE) != 0) {
        ret->stamps.module_id = read_text(&r);
    }
    ret->stamps.generation_id = read_text(&r);
    if ((bits & HAS_MODEL) != 0) {
        ret->stamps.model_id = read_text(&r);
    }
    if (rd_err(&r) != OK) {
        return E_MALFORMED;
    }
    ret->stamps.auth_method = code == 0 ? read_text(&r) : span_str(methods[code - 1]);
    ret->props = span_of(r.p, r.n);
    while (rd_err(&r) == OK && r.n > 0) {
        (void)read_property(&r); /* that it is one */
    }
    return rd_end(&r) == OK ? OK : E_MALFORMED;
}

/* Text behind `mark` in JSON of our own: inside a string a quote never stands without a backslash, so a mark that begins with one is
 * found only where the hub wrote it. */
static struct span after_mark(struct span s, struct span mark)
{
    const uint8_t *p = s.n > 0 ? memmem(s.p, s.n, mark.p, mark.n) : NULL;
    return p == NULL ? SPAN_NONE : span_from(s, (size_t)(p - s.p) + mark.n);
}

static enum err read_json(struct span row, struct logmeta_row *ret)
{
    const struct span head = SPAN_LIT("{\"sys\":{"), middle = SPAN_LIT("},\"app\":{");
    struct span app = after_mark(row, middle);
    struct span rest = after_mark(row, SPAN_LIT("\"iothub-connection-device-id\":\""));
    if (app.p == NULL || rest.p == NULL || app.n < 2 || !span_starts(row, head) ||
        (size_t)(app.p - row.p) < head.n + middle.n) {
        return E_MALFORMED;
    }
    ret->is_json = true;
    ret->device_id = span_cut(&rest, '"');
    ret->sys = span_sub(row, head.n, (size_t)(app.p - row.p) - middle.n - head.n);
    ret->app = span_sub(app, 0, app.n - 2);
    return ret->sys.n > 0 ? OK : E_MALFORMED;
}

enum err logmeta_read(struct span row, struct logmeta_row *ret)
{
    struct logmeta_row r = {.is_json = false};
    enum err e = row.n > 0 && row.p[0] == '{' ? read_json(row, &r) : read_compact(row, &r);
    if (e == OK) {
        *ret = r;
    }
    return e;
}

/* --- as JSON -------------------------------------------------------------------------------- */

static void add_member(struct buf *b, bool *is_first, struct span name, struct span value,
                       bool has_value)
{
    if (!*is_first) {
        buf_add_u8(b, ',');
    }
    *is_first = false;
    json_write_str(b, name);
    buf_add_u8(b, ':');
    if (has_value) {
        json_write_str(b, value);
    } else {
        buf_add(b, SPAN_LIT("null"));
    }
}

static void add_properties(struct buf *b, bool *is_first, struct span props, bool is_system)
{
    struct rd r = rd_init(props);
    while (r.n > 0) {
        struct property p = read_property(&r);
        if (p.is_system == is_system) {
            add_member(b, is_first, p.name, p.value, p.has_value);
        }
    }
}

/* What the hub says itself stands behind what the device said, and no device key can become one of these: application names go into a
 * list of their own (threat D3). */
void logmeta_add_system(struct buf *b, const struct logmeta_row *r)
{
    const struct logmeta *m = &r->stamps;
    bool is_first = true;
    if (r->is_json) {
        buf_add(b, r->sys);
        return;
    }
    add_properties(b, &is_first, r->props, true);
    add_member(b, &is_first, SPAN_LIT("iothub-connection-device-id"), m->device_id, true);
    if (m->module_id.n > 0) {
        add_member(b, &is_first, SPAN_LIT("iothub-connection-module-id"), m->module_id, true);
    }
    add_member(b, &is_first, SPAN_LIT("iothub-connection-auth-generation-id"), m->generation_id,
               true);
    add_member(b, &is_first, SPAN_LIT("iothub-connection-auth-method"), m->auth_method, true);
    add_member(b, &is_first, SPAN_LIT("iothub-message-source"), SPAN_LIT("Telemetry"), true);
    if (m->model_id.n > 0) {
        add_member(b, &is_first, SPAN_LIT("dt-dataschema"), m->model_id, true);
    }
}

void logmeta_add_properties(struct buf *b, const struct logmeta_row *r)
{
    bool is_first = true;
    if (r->is_json) {
        buf_add(b, r->app);
        return;
    }
    add_properties(b, &is_first, r->props, false);
}
