/* SPDX-License-Identifier: Apache-2.0 */
/* What a request says an enrollment shall be, checked: docs/protocol/dps-service-rest.md B1, B3. */
#include "dps/enrollment.h"

#include "base/text.h"
#include "dps/issuance.h"
#include "dps/snapshot.h"
#include "dps/trust_bundle.h"
#include "dps/webhook.h"
#include "wire/twin.h"

const char *enrollment_id_member(enum enr_kind kind)
{
    return kind == ENR_GROUP ? "enrollmentGroupId" : "registrationId";
}

enum err enrollment_fold(struct arena *a, struct span id, struct span *ret, struct err_info *info)
{
    if (!id_registration_ok(id)) {
        return err_set(info, E_ID,
                       "an id has 1 to 128 letters, digits, '-', '.', '_' or ':', begins with a "
                       "letter or digit and ends with one or '-'");
    }
    char *fold = arena_str(a, id);
    if (fold == NULL) {
        return E_NOMEM;
    }
    text_lower(fold, id.n);
    *ret = span_of(fold, id.n);
    return OK;
}

static enum err keep(struct enr_input *in, struct span from, struct span *to)
{
    *to = arena_span(&in->arena, from);
    return to->p != NULL ? OK : E_NOMEM;
}

static enum err read_id(const struct json *body, struct span path_id, struct enr_input *in,
                        struct err_info *info)
{
    struct span id = SPAN_NONE;
    enum err e = json_get_str(body, enrollment_id_member(in->row.kind), JSON_F_OPT, &id, info);
    if (e != OK) {
        return e;
    }
    if (path_id.n == 0 && id.p == NULL) {
        return err_set(info, E_ARG_NULL, "%s is missing", enrollment_id_member(in->row.kind));
    }
    if (path_id.n != 0 && id.p != NULL && !span_eq_nocase(path_id, id)) {
        return err_set(info, E_ARG, "%s of the body is not that of the path",
                       enrollment_id_member(in->row.kind));
    }
    id = id.p != NULL ? id : path_id;
    if ((e = enrollment_fold(&in->arena, id, &in->row.fold, info)) != OK) {
        return e;
    }
    return keep(in, id, &in->row.name);
}

/* --- members that registrations use: into columns; all into the document that is told ---------------- */

static enum err copy_member(struct json *doc, const struct json *body, const char *name)
{
    struct json *v = json_get(body, name);
    if (v == NULL || json_is(v, JSON_T_NULL)) {
        return OK;
    }
    return json_set(doc, name, json_clone(v));
}

static enum err read_device_id(const struct json *body, struct json *doc, struct enr_input *in,
                               struct err_info *info)
{
    struct span id = SPAN_NONE;
    enum err e =
        in->row.kind == ENR_GROUP ? OK : json_get_str(body, "deviceId", JSON_F_OPT, &id, info);
    if (e != OK || id.n == 0) {
        return e;
    }
    if (!id_device_ok(id)) {
        return err_set(info, E_ARG, "deviceId is no device id");
    }
    return (e = keep(in, id, &in->row.device_id)) != OK ? e : copy_member(doc, body, "deviceId");
}

static enum err read_status(const struct json *body, struct json *doc, struct enr_input *in,
                            struct err_info *info)
{
    static const char *const words[] = {"disabled", "enabled"};
    size_t i = 1;
    enum err e =
        json_get_word(body, "provisioningStatus", JSON_F_OPT, words, ARRAY_LEN(words), &i, info);
    in->row.is_enabled = i == 1;
    return e != OK ? e : json_set_str(doc, "provisioningStatus", span_str(words[i]));
}

/* Null stands for absent at each level above the sections, which keep the twin's own rules. */
static enum err read_section(const struct json *twin, const char *path, size_t max,
                             struct json **ret, struct err_info *info)
{
    struct json *section = NULL;
    enum err e = json_get_object(twin, path, JSON_F_OPT, &section, info);
    if (e != OK || section == NULL) {
        return e;
    }
    if ((e = twin_check(section, TWIN_WHOLE, info)) != OK ||
        (e = twin_check_size(section, max, info)) != OK) {
        return err_wrap(info, e, "initialTwin.%s", path);
    }
    AUTO(json_free_p) struct json *copy = json_clone(section);
    if (copy == NULL) {
        return E_NOMEM;
    }
    twin_strip(copy);
    *ret = TAKE(copy);
    return OK;
}

enum err enrollment_read_twin(const struct json *body, struct arena *a, struct span *ret,
                              struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(2 * LIMIT_DPS_BODY);
    AUTO(json_free_p) struct json *made = json_new_object(), *tags = NULL, *desired = NULL;
    struct json *twin = NULL;
    enum err e = json_get_object(body, "initialTwin", JSON_F_OPT, &twin, info);
    if (e != OK || twin == NULL) {
        return e;
    }
    if ((e = read_section(twin, "tags", LIMIT_TWIN_TAGS, &tags, info)) != OK ||
        (e = read_section(twin, "properties.desired", LIMIT_TWIN_SECTION, &desired, info)) != OK) {
        return e;
    }
    if (made == NULL || (tags != NULL && (e = json_set(made, "tags", TAKE(tags))) != OK)) {
        return E_NOMEM;
    }
    if (desired != NULL) {
        AUTO(json_free_p) struct json *properties = json_new_object();
        if (properties == NULL || json_set(properties, "desired", TAKE(desired)) != OK ||
            json_set(made, "properties", TAKE(properties)) != OK) {
            return E_NOMEM;
        }
    }
    json_write(&text, made);
    if ((e = buf_err(&text)) != OK) {
        return e;
    }
    *ret = arena_span(a, buf_span(&text));
    return ret->p != NULL ? OK : E_NOMEM;
}

static enum err read_twin(const struct json *body, struct json *doc, struct enr_input *in,
                          struct err_info *info)
{
    struct json *made = NULL;
    enum err e = enrollment_read_twin(body, &in->arena, &in->row.initial_twin, info);
    if (e != OK || in->row.initial_twin.n == 0) {
        return e;
    }
    e = json_read(in->row.initial_twin, 2 * LIMIT_DPS_BODY, &made, info);
    return e != OK ? e : json_set(doc, "initialTwin", made);
}

static enum err read_reprovision(const struct json *body, struct json *doc, struct enr_input *in,
                                 struct err_info *info)
{
    struct json *p = NULL;
    bool update = true, migrate = true;
    enum err e = json_get_object(body, "reprovisionPolicy", JSON_F_OPT, &p, info);
    if (e != OK || p == NULL) {
        return e;
    }
    if ((e = json_get_bool(p, "updateHubAssignment", JSON_F_OPT, &update, info)) != OK ||
        (e = json_get_bool(p, "migrateDeviceData", JSON_F_OPT, &migrate, info)) != OK) {
        return e;
    }
    in->row.reprovision =
        REPRO_GIVEN | (update ? REPRO_UPDATE_HUB : 0u) | (migrate ? REPRO_MIGRATE : 0u);
    AUTO(json_free_p) struct json *made = json_new_object();
    if (made == NULL || json_set(made, "updateHubAssignment", json_new_bool(update)) != OK ||
        json_set(made, "migrateDeviceData", json_new_bool(migrate)) != OK) {
        return E_NOMEM;
    }
    return json_set(doc, "reprovisionPolicy", TAKE(made));
}

static enum err read_capabilities(const struct json *body, struct json *doc, struct enr_input *in,
                                  struct err_info *info)
{
    struct json *c = NULL;
    enum err e = json_get_object(body, "capabilities", JSON_F_OPT, &c, info);
    if (e != OK || c == NULL ||
        (e = json_get_bool(c, "iotEdge", JSON_F_OPT, &in->row.is_edge, info)) != OK) {
        return e;
    }
    AUTO(json_free_p) struct json *made = json_new_object();
    if (made == NULL || json_set(made, "iotEdge", json_new_bool(in->row.is_edge)) != OK) {
        return E_NOMEM;
    }
    return json_set(doc, "capabilities", TAKE(made));
}

/* --- allocation ------------------------------------------------------------------------------------------ */

static enum err read_custom(const struct json *body, struct json *doc, struct enr_input *in,
                            struct err_info *info)
{
    struct json *c = NULL;
    struct span url = SPAN_NONE, version = SPAN_NONE;
    struct webhook_url parts;
    enum err e = json_get_object(body, "customAllocationDefinition", JSON_F_OPT, &c, info);
    if (e != OK) {
        return e;
    }
    if (c == NULL) {
        return in->row.alloc != ALLOC_CUSTOM
                   ? OK
                   : err_set(info, E_ARG, "customAllocationDefinition is required with custom");
    }
    if ((e = json_get_str(c, "webhookUrl", JSON_F_OPT, &url, info)) != OK ||
        (e = json_get_str(c, "apiVersion", JSON_F_OPT, &version, info)) != OK) {
        return e;
    }
    /* http only as far as the settings allow it: enrollment_tx_put(). */
    if (!webhook_url_read(url, &parts) || version.n == 0) {
        return err_set(info, E_ARG,
                       "customAllocationDefinition: webhookUrl is an https address without "
                       "credentials, apiVersion is given");
    }
    in->has_http_webhook = parts.is_http;
    return copy_member(doc, body, "customAllocationDefinition");
}

static enum err add_hub_name(struct buf *b, struct span host, struct err_info *info)
{
    if (host.n == 0 || host.n > LIMIT_HOST || span_find(host, ',') != host.n) {
        return err_set(info, E_ARG, "iotHubs: not a host name");
    }
    if (b->n != 0) {
        buf_add_u8(b, ',');
    }
    buf_add(b, host);
    return OK;
}

static enum err read_hubs(const struct json *body, struct json *doc, struct enr_input *in,
                          struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_DPS_LINKED_HUBS * (LIMIT_HOST + 1));
    struct json *hubs = NULL;
    struct span host = SPAN_NONE;
    enum err e;
    if ((e = json_get_array(body, "iotHubs", JSON_F_OPT, &hubs, info)) != OK ||
        (e = json_get_str(body, "iotHubHostName", JSON_F_OPT, &host, info)) != OK) {
        return e;
    }
    size_t n = json_count(hubs);
    if (n != 0 && in->row.alloc == ALLOC_NONE) {
        return err_set(info, E_ARG,
                       "Enrollment allocationPolicy must be specified when iotHubs are specified.");
    }
    if (n > LIMIT_DPS_LINKED_HUBS) {
        return err_set(info, E_ARG, "iotHubs: at most %u", LIMIT_DPS_LINKED_HUBS);
    }
    for (size_t i = 0; e == OK && i < n; i++) {
        e = add_hub_name(&b, json_str(json_at(hubs, i)), info);
    }
    if (e == OK && host.n != 0) {
        AUTO(buf_done) struct buf one = BUF_INIT(LIMIT_HOST);
        if ((e = add_hub_name(&one, host, info)) == OK &&
            (e = keep(in, host, &in->row.hub_host)) == OK) {
            e = copy_member(doc, body, "iotHubHostName");
        }
    }
    if (e != OK || n == 0) {
        return e;
    }
    if ((e = buf_err(&b)) != OK || (e = keep(in, buf_span(&b), &in->row.hubs)) != OK) {
        return e;
    }
    return copy_member(doc, body, "iotHubs");
}

static enum err read_allocation(const struct json *body, struct json *doc, struct enr_input *in,
                                struct err_info *info)
{
    size_t i = ALLOC_NONE;
    struct span word = SPAN_NONE;
    enum err e = json_get_str(body, "allocationPolicy", JSON_F_OPT, &word, info);
    if (e == OK && word.p != NULL) {
        e = json_get_word(body, "allocationPolicy", JSON_F_OPT, alloc_words + 1,
                          ARRAY_LEN(alloc_words) - 1, &i, info);
        i++;
    }
    if (e != OK) {
        return e;
    }
    in->row.alloc = (enum enr_alloc)i;
    if ((e = copy_member(doc, body, "allocationPolicy")) != OK ||
        (e = read_hubs(body, doc, in, info)) != OK) {
        return e;
    }
    return read_custom(body, doc, in, info);
}

static enum err read_information(const struct json *body, struct json *doc, struct enr_input *in,
                                 struct err_info *info)
{
    struct json *o = NULL;
    enum err e = in->row.kind == ENR_GROUP
                     ? OK
                     : json_get_object(body, "optionalDeviceInformation", JSON_F_OPT, &o, info);
    return e != OK || o == NULL ? e : copy_member(doc, body, "optionalDeviceInformation");
}

static enum err read_issuance(const struct json *body, struct json *doc, struct enr_input *in,
                              struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_DPS_BODY);
    struct issue_profile profile;
    const struct json *p = json_get(body, ISSUANCE_MEMBER);
    enum err e;
    if (p == NULL || json_is(p, JSON_T_NULL)) {
        return OK;
    }
    if ((e = issuance_read(p, &in->arena, &profile, info)) != OK) {
        return e;
    }
    json_write(&text, p);
    if ((e = buf_err(&text)) != OK || (e = keep(in, buf_span(&text), &in->row.issuance)) != OK) {
        return e;
    }
    return copy_member(doc, body, ISSUANCE_MEMBER);
}

static enum err read_trust_bundle(const struct json *body, struct json *doc, struct enr_input *in,
                                  struct err_info *info)
{
    struct span id = SPAN_NONE;
    enum err e = json_get_str(body, TRUST_BUNDLE_MEMBER, JSON_F_OPT, &id, info);
    if (e != OK || id.n == 0) {
        return e;
    }
    if ((e = enrollment_fold(&in->arena, id, &in->row.trust_bundle, info)) != OK) {
        return e == E_ID ? err_set(info, E_ARG, TRUST_BUNDLE_MEMBER " is no id") : e;
    }
    return copy_member(doc, body, TRUST_BUNDLE_MEMBER);
}

enum err enrollment_read(const struct json *body, enum enr_kind kind, struct span path_id,
                         struct enr_input *ret, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(2 * LIMIT_DPS_BODY);
    AUTO(json_free_p) struct json *doc = json_new_object();
    struct enr_input in = {.arena = ARENA_INIT(ENR_ARENA), .row = {.kind = kind}};
    enum err e = doc != NULL ? OK : E_NOMEM;
    if (e == OK && (e = read_id(body, path_id, &in, info)) == OK &&
        (e = enrollment_read_attestation(body, &in, info)) == OK &&
        (e = read_device_id(body, doc, &in, info)) == OK &&
        (e = read_twin(body, doc, &in, info)) == OK &&
        (e = read_status(body, doc, &in, info)) == OK &&
        (e = read_reprovision(body, doc, &in, info)) == OK &&
        (e = read_allocation(body, doc, &in, info)) == OK &&
        (e = read_capabilities(body, doc, &in, info)) == OK &&
        (e = read_information(body, doc, &in, info)) == OK &&
        (e = read_issuance(body, doc, &in, info)) == OK &&
        (e = read_trust_bundle(body, doc, &in, info)) == OK) {
        json_write(&text, doc);
        if ((e = buf_err(&text)) == OK) {
            e = keep(&in, buf_span(&text), &in.row.doc);
        }
    }
    if (e != OK) {
        enrollment_input_done(&in);
        return e;
    }
    *ret = in; /* keys move with it; the copy on this stack is wiped */
    mem_wipe(in.key, sizeof(in.key));
    return OK;
}

void enrollment_input_done(struct enr_input *in)
{
    secret_done(&in->key[0]);
    secret_done(&in->key[1]);
    arena_done(&in->arena);
}
