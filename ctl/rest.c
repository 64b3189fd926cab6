/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that are one REST call each: a row says which. Those that build something are in dps_cmd.c. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/text.h"
#include "ctl/ctl.h"

enum { MATCH = 1, PAGED = 2, BODY = 4, EMPTY_BODY = 8, HUB_OPT = 16 };

struct rest {
    struct cli_command cmd; /* first: found again by its address */
    enum ctl_plane plane;
    const char *method;
    const char *path; /* "%" is replaced by the next word, percent-encoded */
    const char *version;
    unsigned flags;
    const char *done; /* said when the answer has no body */
};

/* clang-format off */
#define O_MATCH { "if-match", "ETAG", "Only if it is still this version (default: whatever it is)." }
#define O_PUT   { "if-match", "ETAG", "Replace what is there, if it is still this version; '*': whatever it is." }
#define O_BODY  { "body", "FILE", "JSON document to send." }
#define O_PAGE  { "page", "N", "Rows asked for at a time." }
static const struct cli_option opt_plain[] = { CTL_CONNECT_OPTIONS };
static const struct cli_option opt_match[] = { CTL_CONNECT_OPTIONS, O_MATCH };
static const struct cli_option opt_sends[] = { CTL_CONNECT_OPTIONS, O_BODY, O_PUT };
static const struct cli_option opt_pages[] = { CTL_CONNECT_OPTIONS, O_PAGE };
static const struct cli_option opt_hub_plain[] = { CTL_CONNECT_OPTIONS, CTL_HUB_OPTION };
static const struct cli_option opt_hub_match[] = { CTL_CONNECT_OPTIONS, O_MATCH, CTL_HUB_OPTION };
static const struct cli_option opt_hub_sends[] = { CTL_CONNECT_OPTIONS, O_BODY, O_PUT, CTL_HUB_OPTION };
/* Only what means something to a command is an option of it. */
#define OF_FLAGS(f, x)                                                                    \
    ((f) & HUB_OPT ? (f) & BODY ? x(opt_hub_sends) : (f) & MATCH ? x(opt_hub_match) : x(opt_hub_plain) \
     : (f) & BODY  ? x(opt_sends)                                                              \
     : (f) & PAGED ? x(opt_pages)                                                              \
     : (f) & MATCH ? x(opt_match)                                                              \
                   : x(opt_plain))
#define ITSELF(x) (x)
/* clang-format on */

static enum err make_path(const struct rest *r, const struct cli_args *a, struct buf *b)
{
    size_t word = 0;
    for (const char *p = r->path; *p != '\0'; p++) {
        if (*p == '%') {
            ASSERT(word < a->n_words);
            service_path_add(b, span_str(a->words[word++]));
        } else {
            buf_add_u8(b, (uint8_t)*p);
        }
    }
    buf_add_u8(b, '\0');
    return buf_err(b);
}

int ctl_print_pages(struct service *s, struct service_call *c, const struct cli_args *a)
{
    uint64_t page = 100;
    char token[512] = "";
    int status;
    size_t n = 0;
    if (!cli_number(a, "page", 1, 1000, &page)) {
        return cli_failf(EXIT_USAGE, "--page wants 1 to 1000");
    }
    c->page_size = (unsigned)page;
    do {
        struct service_answer ans = {0};
        c->continuation = token;
        if ((status = ctl_ask(s, c, &ans)) == EXIT_DONE) {
            for (size_t i = 0; i < json_count(ans.json); i++, n++) {
                ctl_print_json(stdout, json_at(ans.json, i));
            }
            (void)span_to_cstr(span_str(ans.continuation), token, sizeof(token));
        }
        service_answer_done(&ans);
    } while (status == EXIT_DONE && token[0] != '\0' && !cli_interrupted);
    if (status == EXIT_DONE && !a->is_json) {
        fprintf(stderr, "%zu found\n", n);
    }
    return status;
}

static int run_rest(struct cli_args *a)
{
    const struct rest *r = CONTAINER_OF(a->cmd, const struct rest, cmd);
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(json_free_p) struct json *body = NULL;
    AUTO(buf_done) struct buf path = BUF_INIT(4096);
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    struct err_info info = {0};
    uint64_t hub = 1;
    enum err e = OK;
    if (!cli_number(a, "hub", 1, 50, &hub)) {
        return cli_failf(EXIT_USAGE, "--hub wants the number of a hub, from 1");
    }
    if ((r->flags & BODY) != 0) {
        const char *file = cli_get(a, "body");
        if (file == NULL) {
            return cli_failf(EXIT_USAGE, "%s wants --body FILE", a->cmd->name);
        }
        if ((e = ctl_read_file(file, &text, &info)) == OK) {
            e = json_read(buf_span(&text), LIMIT_FILE_SMALL, &body, &info);
        }
    } else if ((r->flags & EMPTY_BODY) != 0) {
        body = json_new_object();
    }
    if (e != OK || (e = make_path(r, a, &path)) != OK ||
        (e = ctl_connect(a, r->plane, (unsigned)hub - 1, &s, &info)) != OK) {
        return cli_fail(e, &info);
    }
    const char *match = cli_get(a, "if-match");
    struct service_call c = {
        .method = r->method,
        .path = (const char *)path.p,
        .api_version = r->version,
        .body = body,
        .if_match = match != NULL             ? match
                    : (r->flags & MATCH) != 0 ? "*"
                                              : NULL,
    };
    return (r->flags & PAGED) != 0 ? ctl_print_pages(s, &c, a) : ctl_call(s, &c, a, r->done);
}

#define DPS SERVICE_DPS_VERSION
#define HUB SERVICE_HUB_VERSION
#define ADM SERVICE_ADMIN_VERSION
#define REST(name, usage, help, words, plane, method, path, version, flags, done)                  \
    {{name, usage, help, OF_FLAGS(flags, ITSELF), OF_FLAGS(flags, ARRAY_LEN), words, words,        \
      run_rest},                                                                                   \
     plane,                                                                                        \
     method,                                                                                       \
     path,                                                                                         \
     version,                                                                                      \
     flags,                                                                                        \
     done},
/* clang-format off */
static const struct rest rows[] = {
REST("dps enrollment put", "ID --body FILE [--if-match ETAG]", "Create an individual enrollment, or with --if-match replace it.", 1,
     CTL_DPS, "PUT", "/enrollments/%", DPS, BODY, "stored")
REST("dps enrollment show", "ID", "Show an individual enrollment and its registration.", 1,
     CTL_DPS, "GET", "/enrollments/%", DPS, 0, "")
REST("dps enrollment delete", "ID [--if-match ETAG]", "Delete an individual enrollment.", 1,
     CTL_DPS, "DELETE", "/enrollments/%", DPS, MATCH, "deleted")
REST("dps group put", "ID --body FILE [--if-match ETAG]", "Create an enrollment group, or with --if-match replace it.", 1,
     CTL_DPS, "PUT", "/enrollmentGroups/%", DPS, BODY, "stored")
REST("dps group show", "ID", "Show an enrollment group.", 1,
     CTL_DPS, "GET", "/enrollmentGroups/%", DPS, 0, "")
REST("dps group delete", "ID [--if-match ETAG]", "Delete an enrollment group.", 1,
     CTL_DPS, "DELETE", "/enrollmentGroups/%", DPS, MATCH, "deleted")
REST("dps registration show", "ID", "Show where a device was assigned.", 1,
     CTL_DPS, "GET", "/registrations/%", DPS, 0, "")
REST("dps registration list", "GROUP [--page N]", "List the registrations of a group.", 1,
     CTL_DPS, "POST", "/registrations/%/query", DPS, PAGED | EMPTY_BODY, "")
REST("dps registration delete", "ID", "Forget an assignment; the next registration is a first one.", 1,
     CTL_DPS, "DELETE", "/registrations/%", DPS, MATCH, "deleted")
REST("dps refusals", "", "List refused devices, by id and rule.", 0, CTL_DPS, "GET", "/admin/refusals", ADM, 0, "")
REST("dps ca list", "", "List the CA certificates of the DPS.", 0, CTL_DPS, "GET", "/admin/certificates", ADM, 0, "")
REST("dps ca show", "NAME", "Show one CA certificate.", 1, CTL_DPS, "GET", "/admin/certificates/%", ADM, 0, "")
REST("dps ca code", "NAME", "Make a verification code for the proof of possession.", 1,
     CTL_DPS, "POST", "/admin/certificates/%/generateVerificationCode", ADM, MATCH, "")
REST("dps ca delete", "NAME", "Delete a CA certificate.", 1, CTL_DPS, "DELETE", "/admin/certificates/%", ADM, MATCH, "deleted")
REST("dps issuer list", "", "List the CAs that issue certificates for devices.", 0,
     CTL_DPS, "GET", "/admin/certificateAuthorities", ADM, 0, "")
REST("dps issuer show", "NAME", "Show one issuing CA.", 1, CTL_DPS, "GET", "/admin/certificateAuthorities/%", ADM, 0, "")
REST("dps issuer delete", "NAME", "Delete an issuing CA, and its key when the DPS keeps it.", 1,
     CTL_DPS, "DELETE", "/admin/certificateAuthorities/%", ADM, MATCH, "deleted")
REST("dps hub list", "", "List the hubs linked to the DPS.", 0, CTL_DPS, "GET", "/admin/linkedHubs", ADM, 0, "")
REST("dps hub show", "HOST", "Show one linked hub; its key is masked.", 1, CTL_DPS, "GET", "/admin/linkedHubs/%", ADM, 0, "")
REST("dps hub link", "HOST --body FILE", "Link a hub: {\"connectionString\": \"...\", \"allocationWeight\": 1}.", 1,
     CTL_DPS, "PUT", "/admin/linkedHubs/%", ADM, BODY, "linked")
REST("dps hub unlink", "HOST", "Unlink a hub.", 1, CTL_DPS, "DELETE", "/admin/linkedHubs/%", ADM, MATCH, "unlinked")
REST("dps hub drain", "HOST", "Let a hub take no more devices; its own leave when they register again.", 1,
     CTL_DPS, "POST", "/admin/linkedHubs/%/drain", ADM, MATCH, "draining")
REST("dps hub activate", "HOST", "End the draining of a hub.", 1, CTL_DPS, "POST", "/admin/linkedHubs/%/activate", ADM, MATCH, "active")
REST("dps hub state", "HOST", "Show how a linked hub does: reachable, drained, weight, its devices, what waits for it.", 1, CTL_DPS, "GET",
     "/admin/linkedHubs/%/state", ADM, 0, "")
REST("dps hub test", "HOST", "Try the link to a hub.", 1, CTL_DPS, "POST", "/admin/linkedHubs/%/test", ADM, 0, "")
REST("dps policy list", "", "List the shared access policies of the DPS.", 0, CTL_DPS, "GET", "/admin/policies", ADM, 0, "")
REST("dps policy show", "NAME", "Show one policy without its keys.", 1, CTL_DPS, "GET", "/admin/policies/%", ADM, 0, "")
REST("dps policy put", "NAME --body FILE [--if-match ETAG]", "Create a policy, or with --if-match replace it: {\"rights\": \"...\"}.", 1,
     CTL_DPS, "PUT", "/admin/policies/%", ADM, BODY, "stored")
REST("dps policy keys", "NAME", "Show the keys of a policy.", 1, CTL_DPS, "POST", "/admin/policies/%/listKeys", ADM, 0, "")
REST("dps policy rotate", "NAME --body FILE", "Make new keys: {\"policyKey\": \"primaryKey\"}, secondaryKey, both or swap.", 1,
     CTL_DPS, "POST", "/admin/policies/%/regenerateKey", ADM, BODY | MATCH, "")
REST("dps policy delete", "NAME [--if-match ETAG]", "Delete a policy; what its keys admitted ends.", 1,
     CTL_DPS, "DELETE", "/admin/policies/%", ADM, MATCH, "deleted")
REST("dps settings show", "", "Show the settings of the DPS.", 0, CTL_DPS, "GET", "/admin/settings", ADM, 0, "")
REST("dps settings set", "--body FILE [--if-match ETAG]", "Change settings of the DPS: {\"allocationPolicy\": \"Hashed\"}.", 0,
     CTL_DPS, "PUT", "/admin/settings", ADM, BODY, "")
REST("dps webhook keys", "HOST", "Show the keys by which a webhook checks our signatures, this one and the next.", 1,
     CTL_DPS, "POST", "/admin/webhooks/%/listKeys", ADM, 0, "")
REST("dps clock show", "", "Show what the DPS thinks of its clock.", 0, CTL_DPS, "GET", "/admin/clock", ADM, 0, "")
REST("dps clock accept", "", "Say that the clock of the DPS is right after a jump.", 0, CTL_DPS, "POST", "/admin/clock/accept", ADM, 0, "accepted")
REST("hub device show", "ID [--hub N]", "Show a device identity, keys included.", 1, CTL_HUB, "GET", "/devices/%", HUB, HUB_OPT, "")
REST("hub device list", "[--hub N]", "List the first 1000 devices.", 0, CTL_HUB, "GET", "/devices?top=1000", HUB, HUB_OPT, "")
REST("hub device put", "ID --body FILE [--hub N]", "Create a device, or with --if-match replace it.", 1,
     CTL_HUB, "PUT", "/devices/%", HUB, BODY | HUB_OPT, "stored")
REST("hub device delete", "ID [--hub N]", "Delete a device; its link ends at once.", 1,
     CTL_HUB, "DELETE", "/devices/%", HUB, MATCH | HUB_OPT, "deleted")
REST("hub twin show", "ID [--hub N]", "Show a twin.", 1, CTL_HUB, "GET", "/twins/%", HUB, HUB_OPT, "")
REST("hub twin update", "ID --body FILE [--hub N]", "Merge tags and desired properties into a twin.", 1,
     CTL_HUB, "PATCH", "/twins/%", HUB, BODY | MATCH | HUB_OPT, "")
REST("hub ca list", "[--hub N]", "List the CA certificates of a hub.", 0, CTL_HUB, "GET", "/admin/certificates", ADM, HUB_OPT, "")
REST("hub ca delete", "NAME [--hub N]", "Delete a CA certificate; the links that it admitted end.", 1,
     CTL_HUB, "DELETE", "/admin/certificates/%", ADM, MATCH | HUB_OPT, "deleted")
REST("hub policy list", "[--hub N]", "List the shared access policies of a hub.", 0, CTL_HUB, "GET", "/admin/policies", ADM, HUB_OPT, "")
REST("hub policy show", "NAME [--hub N]", "Show one policy of a hub without its keys.", 1,
     CTL_HUB, "GET", "/admin/policies/%", ADM, HUB_OPT, "")
REST("hub policy put", "NAME --body FILE [--if-match ETAG] [--hub N]", "Create a policy, or with --if-match replace it: {\"rights\": \"...\"}.", 1,
     CTL_HUB, "PUT", "/admin/policies/%", ADM, BODY | HUB_OPT, "stored")
REST("hub policy keys", "NAME [--hub N]", "Show the keys of a policy.", 1, CTL_HUB, "POST", "/admin/policies/%/listKeys", ADM, HUB_OPT, "")
REST("hub policy rotate", "NAME --body FILE [--hub N]", "Make new keys: {\"policyKey\": \"primaryKey\"}, secondaryKey, both or swap.", 1,
     CTL_HUB, "POST", "/admin/policies/%/regenerateKey", ADM, BODY | MATCH | HUB_OPT, "")
REST("hub policy delete", "NAME [--if-match ETAG] [--hub N]", "Delete a policy; the links that its keys admitted end.", 1,
     CTL_HUB, "DELETE", "/admin/policies/%", ADM, MATCH | HUB_OPT, "deleted")
};
/* clang-format on */

const struct cli_command *ctl_rest_command(size_t i)
{
    return i < ARRAY_LEN(rows) ? &rows[i].cmd : NULL;
}
